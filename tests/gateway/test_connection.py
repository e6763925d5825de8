"""One connection: many requests, slow and broken ones, callers that leave, and a server that stops. On both loops."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import hashlib
import inspect
import json
import logging
import socket
import struct
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import EmptyStreamReader, StreamReader
from aiohttp.web import RequestHandler

from gateway import edge, server
from gateway.connection import Reply, Request, Server, Wakeup
from hermes.domain.commands import Admitted
from hermes.runtime import Actor
from tests.gateway.api import SMS, Api

Start = Callable[..., Awaitable[Api]]
BODY = json.dumps(SMS).encode()
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
WITHIN_S = 5.0
# The hook that is to be used instead would take every test of the folder along.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture:DeprecationWarning")


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> Any:
    """Python's own loop, and the node's."""
    return request.param()


class Line:
    """A caller's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def write(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: status, headers by lower-case name, body."""
        async with asyncio.timeout(WITHIN_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split()[1]), headers, body

    async def status(self) -> int:
        """Read one answer; its status."""
        return (await self.answer())[0]

    async def ended(self) -> bytes:
        """Wait until the other end closes; what came before."""
        async with asyncio.timeout(WITHIN_S):
            return await self.reader.read()


@asynccontextmanager
async def connected(api: Api) -> AsyncIterator[Line]:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()


def head(api: Api, *headers: str, length: int | None = None) -> bytes:
    lines = ["POST /v1/messages HTTP/1.1", "Host: x", f"Authorization: Bearer {api.live}", *headers]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def post(api: Api, body: bytes = BODY, *headers: str) -> bytes:
    return head(api, *headers, length=len(body)) + body


class Held(Actor):
    """A tenant that answers when told."""

    waiting: asyncio.Event
    go: asyncio.Event
    answered: asyncio.Event

    async def handle_call(self, request: Any, reply: Any) -> Any:
        self.waiting.set()
        await self.go.wait()
        self.answered.set()
        return Admitted("accepted")


@pytest.fixture
def held(api: Api, monkeypatch: pytest.MonkeyPatch) -> type[Held]:
    """The tenant of `api`, which answers when told."""
    Held.waiting, Held.go, Held.answered = asyncio.Event(), asyncio.Event(), asyncio.Event()
    ref = api.node.system.spawn(Held, name="held")
    monkeypatch.setattr(api.node.system, "whereis", lambda name: ref)
    return Held


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not true():  # noqa: ASYNC110 - what is waited for happens in callbacks of the loop
            await asyncio.sleep(0)


async def test_pipelined_requests_are_answered_in_order_however_many(api: Api) -> None:
    async with connected(api) as line:
        line.write(b"".join(post(api, BODY, f"X-Request-Id: n{n}") + LIVEZ for n in range(50)))
        for n in range(50):
            status, headers, _ = await line.answer()
            assert (status, headers["x-request-id"]) == (202, f"n{n}")
            assert await line.status() == 200


async def test_pipelined_requests_leave_other_connections_their_turn(api: Api) -> None:
    async with connected(api) as greedy, connected(api) as modest:
        greedy.write(LIVEZ)
        modest.write(LIVEZ)
        assert (await greedy.status(), await modest.status()) == (200, 200)
        greedy.write(LIVEZ * 1000)
        await greedy.answer()  # the server has read them
        modest.write(LIVEZ)
        asked = asyncio.create_task(modest.status())
        left = 999
        while not asked.done():
            await greedy.answer()
            left -= 1
        assert left > 0
        for _ in range(left):
            await greedy.answer()


async def test_a_request_may_arrive_octet_by_octet(api: Api) -> None:
    async with connected(api) as line:
        for octet in post(api):
            line.write(bytes((octet,)))
            await asyncio.sleep(0)
        assert await line.status() == 202


async def test_a_chunked_body_is_read_whole(api: Api) -> None:
    async with connected(api) as line:
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:20], BODY[20:]))
        line.write(head(api, "Transfer-Encoding: chunked") + chunks + b"0\r\n\r\n")
        assert await line.status() == 202
        line.write(head(api, "Transfer-Encoding: chunked") + chunks[:30])
        line.write(chunks[30:] + b"0\r\n\r\n" + LIVEZ)
        assert (await line.status(), await line.status()) == (202, 200)


async def test_an_idle_connection_is_closed_and_a_used_one_lives_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.1)
    api = await start()
    async with connected(api) as line, connected(api) as silent:
        line.write(LIVEZ)
        assert await line.status() == 200
        assert await line.ended() == b""
        assert await silent.ended() == b""
        await eventually(lambda: api.server.connections == 0)


async def test_a_request_that_takes_long_outlives_the_time_of_idle_connections(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.05)
    api = await start()
    Held.waiting, Held.go, Held.answered = asyncio.Event(), asyncio.Event(), asyncio.Event()
    ref = api.node.system.spawn(Held, name="held")
    monkeypatch.setattr(api.node.system, "whereis", lambda name: ref)
    async with connected(api) as line, connected(api) as idle:
        line.write(post(api))
        await Held.waiting.wait()
        assert await idle.ended() == b""  # its time is over, and so is the other's
        Held.go.set()
        assert await line.status() == 202


async def test_a_body_that_takes_too_long_is_408_and_closes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "BODY_WITHIN_S", 0.05)
    async with connected(api) as line:
        line.write(head(api, length=len(BODY)) + BODY[:10])
        status, headers, body = await line.answer()
        assert (status, headers["connection"], json.loads(body)["code"]) == (408, "close", "request_timeout")


async def test_a_body_that_breaks_off_harms_nobody(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    async with connected(api) as line:
        line.write(head(api, length=len(BODY)) + BODY[:10])
        await line.writer.drain()
    async with connected(api) as line:
        line.write(head(api, "Transfer-Encoding: chunked") + b"5\r\n{}")
        await line.writer.drain()
    await eventually(lambda: api.server.connections == 0)
    assert (await api.call("GET", "/livez", key=None)).status == 200
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_body_that_turns_out_no_chunks_is_400(api: Api) -> None:
    async with connected(api) as line:
        line.write(head(api, "Transfer-Encoding: chunked"))
        line.write(b"zz\r\nnonsense\r\n")
        assert await line.status() == 400


async def test_a_refused_body_is_read_to_its_end_and_the_connection_serves_on(api: Api) -> None:
    large = b"x" * (api.edge.settings.server.max_body_bytes + 1)
    async with connected(api) as line:
        line.write(head(api, length=len(large)))
        assert await line.status() == 413
        line.write(large[:1000])
        line.write(large[1000:] + LIVEZ)
        assert await line.status() == 200


async def test_an_upgrade_is_declined_and_the_connection_serves_on(api: Api) -> None:
    asking = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    async with connected(api) as line:
        line.write(asking + LIVEZ)
        assert (await line.status(), await line.status()) == (200, 200)
        line.write(asking)
        assert await line.status() == 200
        line.write(LIVEZ)
        assert await line.status() == 200
        line.write(asking + b"nonsense\r\n\r\n")
        assert (await line.status(), await line.status()) == (200, 400)
        assert await line.ended() == b""


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # a TLS hello
        b"the secret text\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nAuthorization: Basic the secret text\0\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nX: the secret text %s\r\n\r\n" % (b"x" * 9000),
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}the secret text\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nthe secret text\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_a_plain_400_and_closes_and_the_log_holds_nothing_of_it(
    api: Api, caplog: pytest.LogCaptureFixture, octets: bytes, level: int
) -> None:
    async with connected(api) as line:
        line.write(LIVEZ)
        assert await line.status() == 200
        caplog.set_level(level, "aiohttp.server")  # a test before this one may have set that of aiohttp
        line.write(octets)
        status, headers, _ = await line.answer()
        assert (status, headers["content-type"]) == (400, "text/plain; charset=utf-8")
        assert await line.ended() == b""
    told = [record for record in caplog.records if record.name == "aiohttp.server"]
    assert [record.exc_info for record in told] == [None] * (level == logging.DEBUG)
    assert "secret" not in caplog.text


@pytest.mark.parametrize("octets", [LIVEZ, b"GET /livez HTTP/1.0\r\n\r\n", LIVEZ * 3])
async def test_a_caller_that_closes_its_own_side_is_answered(api: Api, octets: bytes) -> None:
    async with connected(api) as line:
        line.write(octets)
        line.writer.write_eof()
        answers = await line.ended()
        assert answers.count(b"HTTP/1.1 200 OK\r\n") == octets.count(b"GET")
    await eventually(lambda: api.server.connections == 0)


async def test_a_caller_that_closes_its_own_side_is_told_what_becomes_of_its_message(
    api: Api, held: type[Held]
) -> None:
    async with connected(api) as line:
        line.write(post(api))
        await held.waiting.wait()
        line.writer.write_eof()
        await asyncio.sleep(0)
        held.go.set()
        assert await line.status() == 202
        assert await line.ended() == b""


@pytest.mark.parametrize("rest", [b"5\r\n{}", b"", b"zz\r\n"])
async def test_a_body_that_ends_early_is_400_to_a_caller_that_still_reads(api: Api, rest: bytes) -> None:
    async with connected(api) as line:
        line.write(head(api, "Transfer-Encoding: chunked") + rest)
        line.writer.write_eof()
        assert await line.status() == 400
        assert await line.ended() == b""


async def test_a_refused_body_that_ends_early_is_not_waited_for(api: Api) -> None:
    async with connected(api) as line:
        line.write(head(api, length=1 << 30))
        assert await line.status() == 413
        line.write(b"x" * 1000)
        line.writer.write_eof()
        assert await line.ended() == b""


async def test_a_silent_connection_that_is_half_closed_is_closed(api: Api) -> None:
    async with connected(api) as silent, connected(api) as used:
        used.write(LIVEZ)
        assert await used.status() == 200
        for line in (silent, used):
            line.writer.write_eof()
            assert await line.ended() == b""
    await eventually(lambda: api.server.connections == 0)


async def test_a_request_whose_caller_leaves_is_carried_out(api: Api, held: type[Held]) -> None:
    async with connected(api) as line:
        line.write(post(api))
        await held.waiting.wait()
        reset = struct.pack("ii", 1, 0)  # a close that is no half-close (socket(7), SO_LINGER)
        line.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        line.writer.transport.abort()
        assert api.server._server is not None
        ends = api.server._server.connections
        await eventually(lambda: [end.transport for end in ends] == [None])
        held.go.set()
    await eventually(lambda: api.edge.metrics.accept_seconds.count == 1)
    assert held.answered.is_set()


async def test_callers_that_leave_are_no_matter_for_the_log(
    api: Api, held: type[Held], caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        async with connected(api) as line:
            line.write(post(api) * 3)
            await held.waiting.wait()
            line.writer.transport.abort()
    held.go.set()
    await eventually(lambda: api.server.connections == 0)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_leaving_closes_each_connection_with_its_next_answer(api: Api, held: type[Held]) -> None:
    async with connected(api) as busy, connected(api) as idle:
        idle.write(LIVEZ)
        assert await idle.status() == 200
        busy.write(post(api))
        await held.waiting.wait()
        leaving = asyncio.create_task(api.server.leave(WITHIN_S))
        await asyncio.sleep(0)
        idle.write(LIVEZ)
        status, headers, _ = await idle.answer()
        assert (status, headers["connection"]) == (200, "close")
        assert await idle.ended() == b""
        held.go.set()
        status, headers, _ = await busy.answer()
        assert (status, headers["connection"]) == (202, "close")
        await leaving
        assert api.server.connections == 0


async def test_a_stop_closes_idle_connections_at_once(api: Api) -> None:
    async with connected(api) as used, connected(api) as silent:
        used.write(LIVEZ)
        assert await used.status() == 200
        await api.server.stop(WITHIN_S)
        assert (await used.ended(), await silent.ended()) == (b"", b"")


async def test_a_stop_cancels_what_does_not_end(api: Api, held: type[Held]) -> None:
    async with connected(api) as line:
        line.write(post(api))
        await held.waiting.wait()
        await api.server.stop(0.05)
        assert await line.ended() == b""
    assert not held.answered.is_set()


async def test_a_stop_takes_nothing_more_of_a_connection_that_is_answered(api: Api, held: type[Held]) -> None:
    async with connected(api) as line:
        line.write(post(api) + post(api))
        await held.waiting.wait()
        stopping = asyncio.create_task(api.server.stop(WITHIN_S))
        await asyncio.sleep(0)
        held.go.set()
        assert await line.status() == 202
        assert await line.ended() == b""
        await stopping


async def test_who_does_not_read_gets_no_more_answers_written(api: Api) -> None:
    asked = b"GET /docs/docs.js HTTP/1.1\r\nHost: x\r\n\r\n"
    size = len((await api.call("GET", "/docs/docs.js", key=None)).raw)
    assert size < 32 << 10  # of those that are not worth waiting for, each by itself
    await api.session.close()
    assert api.server._server is not None
    many = (16 << 20) // size  # more than the kernel takes
    async with connected(api) as line:
        await eventually(lambda: api.server.connections == 1)
        (end,) = api.server._server.connections
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        line.write(asked * many)
        await eventually(lambda: end.writing_paused)
        for _ in range(500):
            await asyncio.sleep(0)
        assert end.transport is not None
        assert end.transport.get_write_buffer_size() < 256 << 10
        line.writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(many):
            assert await line.status() == 200


async def test_who_reads_nothing_for_long_is_left(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_S", 0.1)
    api = await start()
    async with connected(api) as line:
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        line.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 60)
        await eventually(lambda: api.server.connections == 1)
        await eventually(lambda: api.server.connections == 0)


async def test_a_large_answer_waits_for_a_slow_reader(api: Api) -> None:
    whole = await api.call("GET", "/openapi.json", key=None)
    async with connected(api) as line:
        line.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 40)
        for _ in range(40):
            status, _, body = await line.answer()
            assert (status, len(body)) == (200, len(whole.raw))


async def test_a_close_does_not_wait_for_ever_for_who_does_not_read(api: Api) -> None:
    await api.session.close()
    assert api.server._server is not None
    async with connected(api) as line:
        await eventually(lambda: api.server.connections == 1)
        (end,) = api.server._server.connections
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        transport = end.transport
        assert transport is not None
        while not transport.get_write_buffer_size():
            line.write(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0)
        end._keepalive_timeout = 0.05
        end.force_close()
        assert api.server.connections == 1
        await eventually(lambda: api.server.connections == 0)


async def test_a_bug_below_the_gateway_is_500_logged_and_closes(caplog: pytest.LogCaptureFixture) -> None:
    async def broken(request: Request) -> Reply:
        raise RuntimeError("a secret")

    made = Server(broken)
    listener = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    line = Line(reader, writer)
    line.write(LIVEZ)
    status, headers, body = await line.answer()
    assert (status, headers["connection"]) == (500, "close") and b"secret" not in body
    assert await line.ended() == b""
    assert "Error handling request from 127.0.0.1" in caplog.text and "a secret" in caplog.text
    writer.close()
    listener.close()


async def test_a_wakeup_continues_its_task_at_once_in_its_own_context() -> None:
    seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen")
    idle = Wakeup(asyncio.get_running_loop())
    said: list[str] = []
    over = asyncio.get_running_loop().create_future()

    async def wait() -> None:
        seen.set("the task's")
        for _ in range(3):
            await idle
            said.append(seen.get())
        over.set_result(None)

    def wake() -> None:
        seen.set("the caller's")
        for n in range(1, 4):
            idle.wake()  # not due: nothing happens
            assert len(said) == n - 1 and not idle.done()
            idle.set_result(None)
            assert idle.done()
            idle.wake()
            assert said == ["the task's"] * n
        assert seen.get() == "the caller's"

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(wake)
    async with asyncio.timeout(WITHIN_S):
        await over
        await task


@pytest.mark.parametrize("by", ["task", "wakeup"])
async def test_who_waits_for_a_wakeup_can_be_cancelled(by: str) -> None:
    idle = Wakeup(asyncio.get_running_loop())
    assert not idle.cancel()

    async def wait() -> None:
        await idle

    for _ in range(2):
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert task.cancel() if by == "task" else idle.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert idle.done()


def test_aiohttps_inside_is_the_one_our_connection_was_written_for() -> None:
    """`gateway/connection.py` stands in for `start` and what it calls, and takes a whole body out of its reader.

    When this fails, aiohttp has changed: read its new `web_protocol.py` and `streams.py` beside our file, run the tests
    above, and write the new digest here.
    """
    read: list[Any] = [
        RequestHandler,
        BaseProtocol._drain_helper,
        BaseProtocol.pause_reading,
        BaseProtocol.resume_reading,
        StreamReader.__init__,
        StreamReader.feed_data,
        StreamReader.feed_eof,
        StreamReader.readany,
        StreamReader._read_nowait_chunk,
        EmptyStreamReader,
        aiohttp.web.Server,
    ]
    digest = hashlib.sha256("".join(inspect.getsource(one) for one in read).encode()).hexdigest()
    assert digest[:16] == "4e3eb76f41bbefa7", aiohttp.__version__


async def test_an_idle_connection_holds_nothing_of_its_last_request() -> None:
    seen: list[weakref.ref[Any]] = []

    class Body(Reply):  # can be referred to weakly
        pass

    async def handle(request: Request) -> Reply:
        reply = Body(200, b"x" * 1000, "req_1")
        seen.extend((weakref.ref(reply), weakref.ref(request.headers)))
        return reply

    listener = await asyncio.get_running_loop().create_server(Server(handle), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    line = Line(reader, writer)
    for _ in range(2):
        line.write(LIVEZ)
        assert await line.status() == 200
    gc.collect()
    assert [ref() for ref in seen] == [None] * 4
    writer.close()
    listener.close()
