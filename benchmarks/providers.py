"""What a send costs a carrier: CPU of this process only, the other side runs in another.

    python -m benchmarks.providers [--kind ses] [--sends 5000] [--in-flight 16]

`mock`: send and receipt, in process. `smtp`: whole transactions over kept-open loopback connections, a new
text each time, against a server that only says yes. HTTP kinds: adapter and client, the same way.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from typing import NamedTuple

import aiohttp
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from msgspec.structs import replace

from carriers.base import SendResult
from carriers.mime import encode_message, parse_address, parse_mailbox
from carriers.registry import make_carrier
from hermes.domain.message import Content
from hermes.runtime.clock import SystemClock
from hermes.testing.carriers import RememberingSink, submission

ROUNDS = 5  # the best one counts: what else this host does costs caches and time
SMTP = "smtp"  # what to serve when no HTTP answer is named
REPLIES = {b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}


class YesServer(asyncio.Protocol):
    """Says yes to every line, and to every message."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.buffer, self.in_data = transport, b"", False
        transport.write(b"220 yes\r\n")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = b"\r\n.\r\n" if self.in_data else b"\r\n"
        if not self.buffer.endswith(end):
            return
        verb, self.buffer = self.buffer[:4].upper(), b""
        self.transport.write(b"250 2.0.0 OK\r\n" if self.in_data else REPLIES.get(verb, b"250 OK\r\n"))
        self.in_data = verb == b"DATA" and not self.in_data


class HttpYesServer(asyncio.Protocol):
    """Answers every request with the same JSON."""

    answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        _, _, length = head.lower().partition(b"content-length:")
        if found and len(body) >= int(length.split(b"\r\n")[0] or 0):
            self.buffer = b""
            self.transport.write(self.answer)


async def serve(answer: str | None) -> None:
    if answer is not None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
        HttpYesServer.answer = (head + answer).encode()
    kind = YesServer if answer is None else HttpYesServer
    server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def cpu_us(sends: int, in_flight: int, send: Callable[[int], Awaitable[object]]) -> tuple[float, float]:
    """Measure microseconds of CPU a send, and sends a second."""
    numbers = iter(range(sends))

    async def worker() -> None:
        for n in numbers:
            await send(n)

    gc.collect()
    gc.freeze()
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return (time.process_time() - cpu) / sends * 1e6, sends / (time.perf_counter() - wall)


async def bench_mock(sends: int) -> None:
    carrier = make_carrier("mock", "mock", "sms", {}, clock=SystemClock())
    sink = RememberingSink()
    await carrier.open(sink)
    submissions = [submission(message_id=f"msg_{n}", to=f"+4520{n:05}9") for n in range(sends)]
    gc.collect()
    gc.freeze()
    start = time.process_time()
    for one in submissions:
        carrier.send(one)
    sent = time.process_time()
    for _ in range(200):
        await asyncio.sleep(0.05)
        if len(sink.receipts) == sends:
            break
    received = time.process_time()
    print(f"mock      {(sent - start) / sends * 1e6:7.1f} us a send, {(received - sent) / sends * 1e6:.1f} a receipt")


@asynccontextmanager
async def serving(*answer: str) -> AsyncIterator[int]:
    """Run a server in a process of its own; gives its port."""
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.providers", "--serve", *answer, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        yield int(await server.stdout.readline())
    finally:
        server.terminate()
        await server.wait()


class Http(NamedTuple):
    """How to measure an HTTP kind.

    Attributes:
        options: its settings, given the provider's URL.
        answer: what the provider says each time.
    """

    channel: str
    to: str
    options: Callable[[str], dict[str, object]]
    answer: str


def service_account() -> str:
    key = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return json.dumps({"private_key": key.decode(), "client_email": "hermes@demo.test", "token_uri": "http://unused"})


HTTP: dict[str, Http] = {
    "twilio": Http(
        "sms",
        "+4520123456",
        lambda url: {"account_sid": "AC0123456789abcdef0123456789abcdef", "auth_token": "x", "from": "+4510101010"},
        json.dumps(
            {"sid": "SM0123456789abcdef0123456789abcdef", "status": "queued", "price": None, "body": "Hi" * 200}
        ),
    ),
    "vonage": Http(
        "sms",
        "+4520123456",
        lambda url: {"api_key": "abcd1234", "api_secret": "x", "from": "Acme"},
        json.dumps({"messages": [{"status": "0", "message-id": "0A00000000000001", "message-price": "0.0412"}]}),
    ),
    "messente": Http(
        "sms",
        "+4520123456",
        lambda url: {"username": "x", "password": "x", "from": "Acme"},
        json.dumps({"messages": [{"message_id": "3e28ec48-d620-4191-a96e-000000000001"}], "omnimessage_id": "x"}),
    ),
    "ses": Http(
        "email",
        "jane@example.test",
        lambda url: {
            "region": "eu-west-1",
            "access_key_id": "AKID",
            "secret_access_key": "x",
            "from": "news@acme.test",
        },
        '{"MessageId": "0102018a00000001-11111111-2222-3333-4444-000000000001-000000"}',
    ),
    "fcm": Http(
        "push",
        "bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1",
        lambda url: {"project_id": "demo", "service_account": service_account(), "token_url": url + "/token"},
        '{"name": "projects/demo/messages/1", "access_token": "x", "expires_in": 3600}',
    ),
    "whatsapp": Http(
        "whatsapp",
        "+4520123456",
        lambda url: {"phone_number_id": "106540352242922", "access_token": "x"},
        '{"messaging_product": "whatsapp", "messages": [{"id": "wamid.HBgLMTY1MDM4Nzk0MzkVAgASGBQzQTRBNjU5OUFF"}]}',
    ),
}


async def bench_http(kind: str, sends: int, in_flight: int) -> None:
    http = HTTP[kind]
    async with serving(http.answer) as port:
        url = f"http://127.0.0.1:{port}"
        options = {**http.options(url), "base_url": url}
        carrier = make_carrier(kind, kind, http.channel, options, clock=SystemClock())
        await carrier.open(RememberingSink())
        base = submission(channel=http.channel, to=http.to)

        submissions = [
            replace(base, message_id=f"msg_{n:026}", content=Content(text=f"Your code is {n:06}", subject="Your code"))
            for n in range(max(sends, 200))
        ]

        async def send(n: int) -> None:
            answer = carrier.send(submissions[n])
            assert not isinstance(answer, SendResult)
            await answer

        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:

            async def bare(n: int) -> None:
                await (await session.post(url, data=b"x" * 200)).read()

            await cpu_us(200, in_flight, bare)
            await cpu_us(200, in_flight, send)
            best = worst = least = (inf, 0.0)
            for _ in range(ROUNDS):  # turn by turn, so that both meet the same host
                least = min(least, await cpu_us(sends, in_flight, bare))
                last = await cpu_us(sends, in_flight, send)
                best, worst = min(best, last), last if worst[0] == inf else max(worst, last)
        print(
            f"{kind:9} {best[0]:7.1f} us a send ({worst[0]:.1f} in the worst round; a bare POST by aiohttp "
            f"{least[0]:.1f}), {best[1]:,.0f} a second on this host"
        )
        await carrier.close()


async def bench_smtp(sends: int, in_flight: int) -> None:
    async with serving() as port:
        options = {"host": "127.0.0.1", "port": port, "tls": "none", "from": "Acme <news@acme.test>"}
        carrier = make_carrier("smtp", "smtp", "email", options, clock=SystemClock())
        await carrier.open(RememberingSink())
        base = submission(channel="email", to="jane@example.test")

        async def send(n: int, html: str | None = None) -> None:
            content = Content(text=f"Your code is {n:06}", subject="Your code", html=html)
            answer = carrier.send(replace(base, message_id=f"msg_{n:026}", content=content))
            assert not isinstance(answer, SendResult)
            await answer

        page = "<p>Your code</p>\n" * 600

        await cpu_us(200, in_flight, send)
        for label, work in (("text", send), ("and 10 KB of html", lambda n: send(n, page))):
            cpu, rate = await cpu_us(sends, in_flight, work)
            print(f"smtp      {cpu:7.1f} us a send, {rate:,.0f} a second on this host ({label})")
        await carrier.close()


async def bench_mime(sends: int) -> None:
    sender, to, date = (
        parse_mailbox("Acme <news@acme.test>"),
        parse_address("jane@example.test"),
        SystemClock().now(),
    )

    async def encode(n: int) -> None:
        encode_message(sender, to, "Your code", f"Your code is {n:06}", None, message_id="m@acme.test", date=date)

    cpu, _ = await cpu_us(sends, 1, encode)
    print(f"smtp      {cpu:7.1f} us of it to write the message")


async def main(arguments: argparse.Namespace) -> None:
    if arguments.kind in (None, "mock"):
        await bench_mock(arguments.sends)
    if arguments.kind in (None, "smtp"):
        await bench_smtp(arguments.sends, arguments.in_flight)
        await bench_mime(arguments.sends)
    for kind in HTTP:
        if arguments.kind in (None, kind):
            await bench_http(kind, arguments.sends, arguments.in_flight)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sends", type=int, default=5000)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--kind", choices=["mock", "smtp", *HTTP], help="default: all")
    parser.add_argument("--serve", nargs="?", const=SMTP, help=argparse.SUPPRESS)
    given = parser.parse_args()
    asyncio.run(main(given) if given.serve is None else serve(None if given.serve == SMTP else given.serve))
