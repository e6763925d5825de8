"""Kannel (Debian's package) and Hermes on the same work: HTTP in, one bind to `hermes smsc`, receipt, callback.

    apt-get install kannel
    python -m benchmarks.kannel [--messages 5000] [--rate 4000]

load    messages offered faster than either takes them; CPU of the gateway's processes, database included
kill    kill -9 of the gateway under 500 messages a second, started again: what it had accepted and never sent, and
        what was delivered and never told

Kannel runs twice: with its store in memory, and in a file. Its receipts are kept in memory, as its default is. Both
gateways have a window of 50. Everything is on loopback and shares the machine. Skips Kannel, with the reason, where
it is not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks._node import BenchNode, node, used_s
from benchmarks.load import Load
from benchmarks.smpp import TEXT, Centre, centre, toml

WINDOW = 50
KILL_RATE, KILL_AFTER_S, SENT_FOR_S = 500, 2.0, 4.0
SETTLE_S = 30.0  # without any news, after a restart
NUMBER = re.compile(rb"45201\d{5}")


class Customer(asyncio.Protocol):
    """Takes callbacks, POST or GET; knows which numbers it was told of."""

    told: set[bytes] = set()  # noqa: RUF012 (shared by all connections)
    taken = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while True:
            head, found, rest = self.buffer.partition(b"\r\n\r\n")
            if not found:
                return
            length = re.search(rb"content-length: *(\d+)", head.lower())
            size = int(length[1]) if length else 0
            if len(rest) < size:
                return
            number = NUMBER.search(head.split(b"\r\n", 1)[0]) or NUMBER.search(rest[:size])
            if number:
                Customer.told.add(number[0])
            Customer.taken += 1
            self.buffer = rest[size:]
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@dataclass
class Gateway:
    """One of the two.

    Attributes:
        request: a whole HTTP request that submits to a number, given the callback's port.
        cpu_s: of all its processes.
        restart: kill -9, and start it again; returns once it takes messages.
    """

    name: str
    host: str
    port: int
    request: Callable[[str, int], bytes]
    cpu_s: Callable[[], float]
    restart: Callable[[], None]


class Kannel:
    """A bearerbox and a smsbox with a configuration of their own."""

    def __init__(self, folder: Path, smsc_port: int, store: Path | None) -> None:
        self.admin, smsbox, self.port = free_ports(3)
        self._folder = folder
        kept = "" if store is None else f"store-type = file\nstore-location = {store}\n"
        self._conf = folder / "kannel.conf"
        self._conf.write_text(
            f"""group = core
admin-port = {self.admin}
admin-interface = 127.0.0.1
smsbox-port = {smsbox}
smsbox-interface = 127.0.0.1
admin-password = secret
status-password = secret
log-file = {folder}/bearerbox.log
log-level = 4
box-allow-ip = 127.0.0.1
dlr-storage = internal
{kept}
group = smsc
smsc = smpp
smsc-id = direct
host = 127.0.0.1
port = {smsc_port}
smsc-username = hermes
smsc-password = secret
system-type = ""
transceiver-mode = true
max-pending-submits = {WINDOW}

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {self.port}
sendsms-interface = 127.0.0.1
log-file = {folder}/smsbox.log
log-level = 4

group = sendsms-user
username = u
password = p
max-messages = 10
"""
        )
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start both; returns once the bind stands and messages are taken."""
        for box, port in (("bearerbox", self.admin), ("smsbox", self.port)):
            with (self._folder / f"{box}.out").open("ab") as out:
                command = [_box(box), "-v", "4", str(self._conf)]
                self._processes.append(subprocess.Popen(command, stdout=out, stderr=out, cwd=self._folder))
            _until(lambda port=port: _listens(port), f"{box} listens")  # type: ignore[misc]
        _until(lambda: b"(online" in self._status(), "Kannel is bound")

    def _status(self) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/status.txt?password=secret", timeout=5) as answer:
            said: bytes = answer.read()
            return said

    def kill(self) -> None:
        """Kill -9 both."""
        for process in self._processes:
            process.kill()
            process.wait()
        self._processes.clear()

    def restart(self) -> None:
        """Kill -9 both, and start them again."""
        self.kill()
        self.start()

    def cpu_s(self) -> float:
        """CPU seconds of both."""
        return sum(used_s(process.pid) for process in self._processes)

    def request(self, number: str, callback: int) -> bytes:
        """A sendsms."""
        query = {"username": "u", "password": "p", "from": "Hermes", "to": number, "text": TEXT, "dlr-mask": "1"}
        query["dlr-url"] = f"http://127.0.0.1:{callback}/{number}"
        return f"GET /cgi-bin/sendsms?{urllib.parse.urlencode(query)} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def _box(name: str) -> str:
    return shutil.which(name) or f"/usr/sbin/{name}"


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _until(condition: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"not within {within_s:g} s: {what}")
        time.sleep(0.05)


@contextmanager
def kannel(smsc: Centre, *, durable: bool) -> Iterator[Gateway]:
    """Run Kannel until the block ends."""
    with tempfile.TemporaryDirectory(prefix="hermes-kannel-") as folder:
        it = Kannel(Path(folder), smsc.port, Path(folder, "store") if durable else None)
        it.start()
        try:
            name = f"Kannel, store in {'a file' if durable else 'memory'}"
            yield Gateway(name, "127.0.0.1", it.port, it.request, it.cpu_s, it.restart)
        finally:
            it.kill()


@contextmanager
def hermes(smsc: Centre) -> Iterator[Gateway]:
    """Run a node until the block ends."""
    with node(toml(smsc.port, window_size=WINDOW), extra="allow_private_callbacks = true") as target:
        _, key = target.tenant()

        def request(number: str, callback: int) -> bytes:
            body = {"channel": "sms", "to": f"+{number}", "content": {"text": TEXT}}
            body["callback_url"] = f"http://127.0.0.1:{callback}/hook"
            raw = json.dumps(body).encode()
            head = (
                f"POST /v1/messages HTTP/1.1\r\nHost: {target.host}\r\nAuthorization: Bearer {key}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
            )
            return head.encode() + raw

        _until(lambda: bool(_binds(target)), "Hermes is bound")
        try:
            yield Gateway(
                *("Hermes", target.host, target.port, request),
                lambda: target.cpu_python_s() + target.cpu_postgres_s(),
                lambda: _restart(target),
            )
        finally:
            target.process.terminate()
            target.process.wait(30)


def _binds(target: BenchNode) -> list[Any]:
    (carrier,) = target.ask("GET", "/v1/carriers")["data"]
    return [bind for bind in carrier["binds"] if bind["state"] == "bound"]


def _restart(target: BenchNode) -> None:
    command = [*target.process.args]  # type: ignore[misc]
    command += ["--host", target.host, "--port", str(target.port)]
    target.process.send_signal(signal.SIGKILL)
    target.process.wait()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HERMES_")}
    target.process = subprocess.Popen(command, env=environ)
    _until(lambda: _listens(target.port) and _ready(target), "Hermes is back")


def _ready(target: BenchNode) -> bool:
    try:
        return bool(target.ask("GET", "/readyz")) and bool(_binds(target))
    except OSError:
        return False


# --- load


async def _load(gateway: Gateway, count: int, rate: float) -> tuple[int, float, float]:
    """Accepted messages, seconds until the last callback, CPU seconds."""
    loop = asyncio.get_running_loop()
    Customer.taken = 0
    server = await loop.create_server(Customer, "127.0.0.1", 0)
    target: Any = gateway
    load = Load(target, "", rate, count, b"")
    load.request = gateway.request("4520120001", server.sockets[0].getsockname()[1])
    before, began = gateway.cpu_s(), time.perf_counter()
    await load.run()
    while Customer.taken < len(load.ids) and time.perf_counter() - began < 120:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    took = time.perf_counter() - began
    used = gateway.cpu_s() - before
    server.close()
    return len(load.ids), took, used


def run_load(gateway: Gateway, count: int, rate: float) -> None:
    """Measure, and say it."""
    asyncio.run(_load(gateway, 500, 500.0))  # warm-up
    accepted, took, used = asyncio.run(_load(gateway, count, rate))
    print(
        f"{gateway.name}: {used / max(accepted, 1) * 1000:.3f} CPU-s per 1,000, {Customer.taken / took:,.0f} messages "
        f"a second told to the customer, {count - accepted} refused, {accepted - Customer.taken} of {accepted} not told"
    )


# --- kill -9


async def _submit(session: aiohttp.ClientSession, url: str, raw: bytes) -> bool:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, path, _ = first.split(" ")
    headers = dict(line.split(": ", 1) for line in lines)
    headers.pop("Content-Length", None)
    try:
        async with session.request(method, url + path, data=body or None, headers=headers) as answer:
            await answer.read()
            return answer.status == 202
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


async def _kill(gateway: Gateway, smsc: Centre) -> tuple[set[str], set[str]]:
    """Numbers accepted, and numbers told of."""
    Customer.told.clear()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Customer, "127.0.0.1", 0)
    callback = server.sockets[0].getsockname()[1]
    accepted: set[str] = set()
    restarting: asyncio.Future[None] | None = None
    timeout = aiohttp.ClientTimeout(60)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64), timeout=timeout) as session:

        async def one(n: int) -> None:
            number = f"45201{n:05d}"
            if await _submit(session, f"http://{gateway.host}:{gateway.port}", gateway.request(number, callback)):
                accepted.add(number)

        began, sending = loop.time(), []
        for n in range(int(KILL_RATE * SENT_FOR_S)):
            sending.append(loop.create_task(one(n)))
            if restarting is None and loop.time() - began >= KILL_AFTER_S:
                restarting = loop.run_in_executor(None, gateway.restart)
            await asyncio.sleep(max(0.0, began + n / KILL_RATE - loop.time()))
        await asyncio.gather(*sending)
    await (restarting or asyncio.sleep(0))
    known, since = -1, loop.time()
    while loop.time() - since < SETTLE_S and len(Customer.told) < len(accepted):
        await asyncio.sleep(0.2)
        if len(Customer.told) != known:
            known, since = len(Customer.told), loop.time()
    server.close()
    return accepted, {number.decode() for number in Customer.told}


def run_kill(gateway: Gateway, smsc: Centre) -> None:
    """Kill it under load, and say what is missing."""
    accepted, told = asyncio.run(_kill(gateway, smsc))
    parts = (smsc.ask("GET", f"/messages?limit=1000&destination={digit}")["messages"] for digit in range(10))
    sent = [message["destination"] for part in parts for message in part]
    mine = [number for number in sent if number in accepted]
    print(
        f"{gateway.name}, kill -9: {len(accepted)} accepted, {len(accepted - set(mine))} of them never sent, "
        f"{len(mine) - len(set(mine))} sent twice, {len(set(mine) - told)} delivered and never told"
    )


def main() -> int:
    """Run both gateways on both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=[], help="load, kill")
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=4000.0)
    args = parser.parse_args()
    ways: list[Callable[[Centre], Any]] = [hermes]
    if all(Path(_box(box)).exists() for box in ("bearerbox", "smsbox")):
        ways += [lambda smsc: kannel(smsc, durable=False), lambda smsc: kannel(smsc, durable=True)]
    else:
        print("Kannel: skipped, its bearerbox and smsbox are not installed (apt-get install kannel)")
    for what in args.what or ["load", "kill"]:
        for way in ways:
            with centre() as smsc, way(smsc) as gateway:
                if what == "load":
                    run_load(gateway, args.messages, args.rate)
                else:
                    run_kill(gateway, smsc)
    return 0


if __name__ == "__main__":
    sys.exit(main())
