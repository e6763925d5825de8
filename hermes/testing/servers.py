"""Providers on loopback: one that answers as told, and ones that misbehave in every way a real one has."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

Answer = tuple[int, dict[str, str], bytes]  # status, headers, body
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Asked:
    """A request as the provider saw it; `path` is with the query, header names are lower-cased."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Provider:
    """Answers every request with `answer`, or the next of `answers`, and remembers what it was asked."""

    url: str = ""
    answer: Answer = (200, {"content-type": "application/json"}, b"{}")
    answers: list[Answer] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append(Asked(request.method, request.raw_path, headers, await request.read()))
        status, answer_headers, body = self.answers.pop(0) if self.answers else self.answer
        return web.Response(status=status, headers=answer_headers, body=body)


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """Run a provider that answers as told."""
    it = Provider()
    runner = web.ServerRunner(web.Server(it.handle, access_log=None), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    it.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield it
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(talk: Talk) -> AsyncIterator[str]:
    """Run a TCP server that talks as told; yields its http:// URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await talk(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the carrier hung up, or the test is over
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(one, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await server.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Read one request whole; its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return await reader.readexactly(length)


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request and never answer."""
    await read_request(reader)
    await asyncio.Event().wait()


async def reset_after_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request, then reset the connection."""
    await read_request(reader)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def close_after_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request, then close without a word."""
    await read_request(reader)


async def talk_garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take the request and answer what is not HTTP."""
    await read_request(reader)
    writer.write(b"\x16\x03\x01 SSH-2.0 nonsense\r\n\r\n")
    await writer.drain()


async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Promise a longer answer than is sent."""
    await read_request(reader)
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"messa')
    await writer.drain()


# After each of these nobody knows whether the message was taken.
DOUBTFUL: Final[dict[str, Talk]] = {
    "hangs": hang,
    "resets after the request": reset_after_request,
    "closes after the request": close_after_request,
    "talks garbage": talk_garbage,
    "breaks off its answer": break_off,
}


def free_port() -> int:
    """Find a port nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
