"""SMPP against `hermes smsc`: what a bind and the whole path cost, and what failures lose. Figures: docs/smpp.md.

    python -m benchmarks.smpp [bind] [path] [early] [resets] [back] [limit] [--tls-files CERT KEY CA]

bind    one bind alone: a message given to the dispatcher until its receipt counts as stored; this process's CPU
path    HTTP in, a real node with its database, one bind, receipt, the customer's callback; CPU of node and database
early   a fifth of the receipts before the answer that names their message
resets  the connection reset every 700 of 2,000 messages, window 20, for both policies
back    how soon a carrier that was 3 s away is bound again
limit   1,000 messages at once at a carrier that takes 200 a second

The centre, the node, its database and the generator share the machine. CPU per message counts, not wall time. Exit 1
when a message is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from actors.context import CarrierPlan, Context
from actors.messages import Job, ReceiptMail
from actors.routing import RoutingTable
from actors.smpp import carrier_spec
from benchmarks._node import BenchNode, node
from benchmarks.load import Load, percentile, reconcile
from carriers.base import Submission
from carriers.registry import make_carrier
from hermes.domain.message import Content
from hermes.journal.memory import MemoryJournal
from hermes.metrics import Metrics
from hermes.runtime import Actor, Strategy, Supervisor, System, SystemClock

TEXT = "Your code is 123456. It is valid for five minutes."


class Centre:
    """A `hermes smsc` in a process of its own."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.port: int = facts["port"]
        self._url: str = facts["control_url"]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Call its control."""
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")


@contextmanager
def centre(**settings: Any) -> Iterator[Centre]:
    """Run one until the block ends."""
    options = {"magic": "false", "receipt_delay_s": 0.05, "keep": 200_000, **settings}
    command = [sys.executable, "-m", "hermes.cli", "smsc", "--json", "--port", "0", "--control-port", "0"]
    for name, value in options.items():
        command += ["--set", f"{name}={value}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield Centre(json.loads(child.stdout.readline()))
        finally:
            child.terminate()


def carrier(port: int, **settings: Any) -> dict[str, Any]:
    """The settings of a carrier bound to it."""
    account = {"system_id": "hermes", "password": "secret", "from": "Hermes"}
    return {"host": "127.0.0.1", "port": port, **account, **settings}


def toml(port: int, **settings: Any) -> str:
    """The same, as a `[[carrier]]`."""
    values = {"name": "direct", "kind": "smpp", "channel": "sms", **carrier(port, **settings)}
    return "[[carrier]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())


# --- one bind alone


class _Cascade(Actor):
    """Stands for every cascade: counts the verdicts."""

    mailbox_limit = 10_000_000

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()

    def handle(self, message: Any) -> None:
        self.answers[type(message).__name__] += 1


class _Receipts(Actor):
    """Stands for `dlr`: stores nothing, says it did."""

    mailbox_limit = 10_000_000

    def __init__(self, wanted: int, done: asyncio.Event) -> None:
        self._left = wanted
        self._done = done

    def handle(self, message: Any) -> None:
        assert type(message) is ReceiptMail and message.stored is not None
        message.stored(True)
        self._left -= 1
        if not self._left:
            self._done.set()


async def _bind_round(port: int, count: int, window: int, tls: dict[str, Any]) -> tuple[float, float]:
    """CPU seconds of this process per 1,000 messages, and messages a second."""
    clock = SystemClock()
    system = System(clock=clock)
    settings = carrier(port, window_size=window, **tls)
    made = make_carrier("smpp", "direct", "sms", settings, clock=clock, cost=0.0)
    plan = CarrierPlan(made, queue_limit=2 * count)  # the last tenth is kept for tenants that hold little
    nothing: Any = None
    routes = RoutingTable([plan.entry()])
    journal = MemoryJournal(clock)  # for the carrier's lease; nothing is written
    await journal.start()
    held = {"direct"}
    context = Context(
        *(system, clock, journal, nothing, nothing, Metrics(), {"direct": plan}, routes, nothing), held=held, alone=True
    )
    done = asyncio.Event()
    cascade = system.spawn(_Cascade)
    system.spawn(_Receipts, count, done, name="dlr")
    root = await system.spawn_async(
        lambda: Supervisor(Strategy.ONE_FOR_ONE, [carrier_spec(context, plan)]), name="root"
    )
    dispatcher = system.whereis(plan.actor)
    assert dispatcher is not None
    while system.info(plan.actor).detail["binds"][0]["state"] != "bound":  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    content = Content(text=TEXT)
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    before, began = time.process_time(), time.perf_counter()
    for n in range(count):
        to = f"+45201{n:05d}"
        submission = Submission(
            f"msg_{n}", "ten_1", 0, 1, "sms", to, None, content, "otp", expires_at, f"msg_{n}.0", 1, "gsm7"
        )
        dispatcher.send(Job(submission, cascade, False))
        if n % 500 == 0:
            await asyncio.sleep(0)
    await asyncio.wait_for(done.wait(), 120)
    used, took = time.process_time() - before, time.perf_counter() - began
    await system.shutdown()
    assert root is not None
    return used / count * 1000, count / took


def bind(tls: dict[str, Any], centre_tls: dict[str, Any]) -> bool:
    """One bind, submit to receipt."""
    with centre(**centre_tls) as smsc:
        rounds = [asyncio.run(_bind_round(smsc.port, 20_000, 20, tls)) for _ in range(3)]
    cost, rate = min(rounds)
    aim = 0.12 if tls else 0.10
    print(f"bind{' with TLS' if tls else ''}: {cost:.3f} CPU-s per 1,000 (aim {aim}), {rate:,.0f} messages a second")
    return True


# --- the whole path


class _Customer(asyncio.Protocol):
    """Takes callbacks; answers 204."""

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
            lower = head.lower()
            at = lower.find(b"content-length:")
            length = int(lower[at + 15 :].split(b"\r\n", 1)[0])
            if len(rest) < length:
                return
            self.buffer = rest[length:]
            type(self).taken += 1
            self.transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")


async def _path_load(target: BenchNode, key: str, rate: float, count: int) -> tuple[Load, float]:
    loop = asyncio.get_running_loop()
    _Customer.taken = 0
    server = await loop.create_server(_Customer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    body = {
        "channel": "sms",
        "to": "+4520120001",
        "content": {"text": TEXT},
        "callback_url": f"http://127.0.0.1:{port}/hook",
    }
    load = Load(target, key, rate, count, json.dumps(body).encode())
    began = time.perf_counter()
    await load.run()
    while _Customer.taken < len(load.ids) and time.perf_counter() - began < 120:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    took = time.perf_counter() - began
    server.close()
    return load, took


def path() -> bool:
    """HTTP -> SMPP -> receipt -> callback, durable."""
    well = True
    with centre() as smsc, node(toml(smsc.port, window_size=50), extra="allow_private_callbacks = true") as target:
        _, key = target.tenant()
        asyncio.run(_path_load(target, key, 300, 600))  # warm-up
        for rate, count in ((500.0, 5_000), (1_000.0, 10_000), (4_000.0, 20_000)):
            python, postgres = target.cpu_python_s(), target.cpu_postgres_s()
            load, took = asyncio.run(_path_load(target, key, rate, count))
            python, postgres = target.cpu_python_s() - python, target.cpu_postgres_s() - postgres
            found = reconcile(target, key, load.ids)
            lost = found["statuses"] != {"delivered": len(load.ids)} or _Customer.taken < len(load.ids)
            well &= not lost
            print(
                f"path at {rate:,.0f}/s: {(python + postgres) / count * 1000:.3f} CPU-s per 1,000 with the database "
                f"(aim 0.50; Python {python / count * 1000:.3f}), {len(load.ids) / took:,.0f} messages a second told "
                f"to the customer (aim 2,000 at saturation), accept p99 "
                f"{percentile(load.latencies, 0.99) * 1000:.0f} ms, "
                f"{dict(found['statuses'])}, {_Customer.taken} callbacks, refused {load.refused or 'none'}"
            )
    return well


# --- failures


def _send_all(target: BenchNode, key: str, count: int, rate: float = 2_000.0) -> list[str]:
    """Submit messages to different numbers, in batches."""
    ids: list[str] = []
    for start in range(0, count, 500):
        batch = [
            {"channel": "sms", "to": f"+45201{n:05d}", "content": {"text": TEXT}}
            for n in range(start, min(start + 500, count))
        ]
        answer = target.ask("POST", "/v1/messages/batch", {"messages": batch}, key)
        ids += [each["message"]["id"] for each in answer["results"]]
    return ids


def _taken(smsc: Centre) -> int:
    return int(smsc.ask("GET", "/stats")["messages"])


def early() -> bool:
    """A fifth of the receipts come before their answer."""
    with centre(early_receipt_rate=0.2, seed=1) as smsc, node(toml(smsc.port)) as target:
        _, key = target.tenant()
        ids = _send_all(target, key, 2_000)
        found = reconcile(target, key, ids)
    lost = len(ids) - found["statuses"].get("delivered", 0)
    print(f"early: {lost} of {len(ids)} lost (aim 0)")
    return not lost


def resets() -> bool:
    """The connection is reset every 700 messages."""
    well = True
    for policy in ("resend", "never"):
        with centre(drop_every=700) as smsc, node(toml(smsc.port, window_size=20, on_ambiguous=policy)) as target:
            _, key = target.tenant()
            ids = _send_all(target, key, 2_000)
            found = reconcile(target, key, ids, 90.0 if policy == "resend" else 60.0)
            taken = _taken(smsc)
        doubtful = found["statuses"].get("NOT FINAL", 0)
        twice = max(0, taken - len(ids))
        aim = 60 if policy == "resend" else 0
        print(f"resets under {policy}: {found['statuses']}, {taken} taken, {twice} too many (aim {aim})")
        well &= twice <= aim and taken + doubtful >= len(ids)
    return well


def back() -> bool:
    """How soon it is bound again."""
    waits: list[float] = []
    with centre() as smsc, node(toml(smsc.port)) as target:
        target.tenant()
        for _ in range(5):
            while _bind_state(target) != "bound":
                time.sleep(0.02)
            smsc.ask("POST", "/go-away")
            time.sleep(3.0)
            smsc.ask("POST", "/come-back")
            began = time.perf_counter()
            while not any(each["bound"] for each in smsc.ask("GET", "/stats")["binds"]):
                time.sleep(0.01)
            waits.append(time.perf_counter() - began)
            time.sleep(6.0)  # longer than a bind must stand to count as well again
    print(f"back: bound {max(waits):.2f} s after the carrier was back, at most (aim 1)")
    return True


def _bind_state(target: BenchNode) -> str:
    return str(target.ask("GET", "/v1/carriers")["data"][0]["binds"][0]["state"])


def limit() -> bool:
    """1,000 messages at once at 200 a second, the limit known and unknown."""
    for known in (True, False):
        with centre(tps=200) as smsc, node(toml(smsc.port, **({"throughput_per_s": 200} if known else {}))) as target:
            _, key = target.tenant()
            began = time.perf_counter()
            ids = _send_all(target, key, 1_000)
            found = reconcile(target, key, ids)
            took = time.perf_counter() - began
            statuses = smsc.ask("GET", "/stats")["submit_statuses"]
        throttled = statuses.get("ESME_RTHROTTLED", 0)
        aims = "aims 1 %, 90 %" if known else "aims 10 %, 70 % after 5 s"
        print(
            f"limit {'known' if known else 'unknown'}: {throttled / 10:.1f} % throttled, {1_000 / took / 2:.0f} % of "
            f"the limit used ({aims}), {found['statuses']}"
        )
    return True


def main() -> int:
    """Run what is asked for; all of it by default."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=[], help="bind, path, early, resets, back, limit")
    parser.add_argument(
        "--tls-files", nargs=3, metavar=("CERT", "KEY", "CA"), help="for localhost; bind runs with TLS, too"
    )
    args = parser.parse_args()
    well = True
    for name in args.what or ["bind", "path", "early", "resets", "back", "limit"]:
        if name == "bind":
            well &= bind({}, {})
            if args.tls_files:
                cert, key, ca = args.tls_files
                ours = {"tls": True, "ca_file": ca, "server_name": "localhost"}
                well &= bind(ours, {"tls_cert": cert, "tls_key": key})
        else:
            well &= {"path": path, "early": early, "resets": resets, "back": back, "limit": limit}[name]()
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
