"""Many messages that wait for a receipt: memory, restart, a receipt for any of them, timers on time.

    python -m benchmarks.waiting [--count 200000] [--receipts 1000] [--json]

Messages to a silent mock recipient are sent in batches and wait for 72 hours. Then receipts are posted for random
ones of them, the node is killed with -9 and started again, receipts are posted again, cascades run into their
time-outs, and the node is stopped and started once more. Each figure is printed with its target. Exits 1 when
something is lost or not as it should be; a target that is missed is only printed, machines differ.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import http.client
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice, repeat
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from benchmarks._node import BenchNode, node
from benchmarks.load import percentile

SECRET = "receipts"
CARRIERS = "".join(
    f'[[carrier]]\nname = "mock-{channel}"\nkind = "mock"\nchannel = "{channel}"\nsecret = "{SECRET}"\n\n'
    for channel in ("sms", "push")
)
SILENT: dict[str, Any] = {"channel": "sms", "to": "+4520120004", "content": {"text": "Your code is 123456"}}
DELIVERED = SILENT | {"to": "+4520120001"}
WARM_UP = 2_000  # messages delivered before memory is looked at
BATCH = 1_000
TIMERS_AFTER_S = (11.0, 15.0)  # the time-outs of cascades lie in between: long enough to be parked
SETTLED_WITHIN_S = 300.0


@dataclass
class Figures:
    """What was measured, and whether it is what was wanted."""

    lines: list[tuple[str, float, str, float]] = field(default_factory=list)  # name, value, unit, target
    wrong: list[str] = field(default_factory=list)
    quiet: bool = False

    def add(self, name: str, value: float, unit: str, target: float) -> None:
        """Note a figure and print it with its target."""
        self.lines.append((name, value, unit, target))
        met = "ok" if value <= target else "MISSED"
        if not self.quiet:
            print(f"{name:<46} {value:>9.2f} {unit:<4} (target {target:g})  {met}", flush=True)

    def say(self, text: str) -> None:
        """Print what is no figure."""
        if not self.quiet:
            print(text, flush=True)

    def check(self, holds: bool, what: str) -> None:
        """Note what is wrong."""
        if not holds:
            self.wrong.append(what)
            print(f"WRONG: {what}", file=sys.stderr, flush=True)


def fill(target: BenchNode, key: str, messages: Iterator[dict[str, Any]], figures: Figures) -> list[str]:
    """Send messages in batches; returns their ids."""
    ids: list[str] = []
    while batch := list(islice(messages, BATCH)):
        answer = target.ask("POST", "/v1/messages/batch", {"messages": batch}, key)
        for result in answer["results"]:
            if result["status"] == 202:
                ids.append(result["message"]["id"])
            else:
                figures.check(False, f"a message was refused: {result['problem']}")
    return ids


def counts(target: BenchNode, key: str) -> dict[str, int]:
    """How many messages have which status; while that takes longer than a request may, the answer is 503."""
    for _ in range(10):
        try:
            found: dict[str, int] = target.ask("GET", "/v1/messages/counts", key=key)
        except HTTPError as exc:
            if exc.code != 503:
                raise
            time.sleep(int(exc.headers["Retry-After"]))
        else:
            return found
    raise SystemExit("the messages are not counted after ten questions")


def actors(target: BenchNode, tenant: str) -> int:
    """How many messages an actor holds."""
    family: dict[str, Any] = target.ask("GET", f"/v1/actors/tenant%2F{tenant}")
    return int(family["children_total"])


def wait_parked(target: BenchNode, tenant: str) -> float:
    """Wait until nothing is held by an actor any more; returns the seconds that took."""
    began = time.monotonic()
    while actors(target, tenant) and time.monotonic() - began < SETTLED_WITHIN_S:
        time.sleep(0.5)
    return time.monotonic() - began


def lookup(target: BenchNode, key: str, ids: list[str]) -> list[dict[str, Any]]:
    """Load messages."""
    found: list[dict[str, Any]] = []
    for n in range(0, len(ids), 1000):
        found += target.ask("POST", "/v1/messages/lookup", {"ids": ids[n : n + 1000]}, key)["data"]
    return found


def post_receipts(target: BenchNode, messages: list[dict[str, Any]], figures: Figures) -> list[float]:
    """Report each message as delivered, one after the other; returns the seconds each report took."""
    connection = http.client.HTTPConnection(target.host, target.port, timeout=30)
    seconds = []
    for message in messages:
        (carrier_message_id,) = message["attempts"][0]["carrier_message_ids"]
        body = json.dumps(
            {"carrier": "mock-sms", "carrier_message_id": carrier_message_id, "status": "delivered"}
        ).encode()
        signature = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-Hermes-Signature": signature}
        began = time.perf_counter()
        connection.request("POST", "/v1/webhooks/dlr", body, headers)
        answer = connection.getresponse()
        said = answer.read()
        seconds.append(time.perf_counter() - began)
        figures.check(answer.status == 200, f"receipt: {answer.status} {said[:200]!r}")
    connection.close()
    return seconds


def receipts(target: BenchNode, key: str, ids: list[str], count: int, figures: Figures, when: str) -> list[str]:
    """Post receipts for random messages that wait; returns those of which nothing was posted."""
    chosen = set(random.sample(ids, min(count, len(ids))))
    seconds = post_receipts(target, lookup(target, key, list(chosen)), figures)
    figures.say(f"  receipts {when}: p50 {percentile(seconds, 0.5) * 1000:.1f} ms, max {max(seconds) * 1000:.1f} ms")
    figures.add(f"receipt for a random one, {when}, p99", percentile(seconds, 0.99) * 1000, "ms", 50)
    states = {message["status"] for message in lookup(target, key, list(chosen))}
    figures.check(states == {"delivered"}, f"after their receipts messages are {states}")
    return [one for one in ids if one not in chosen]


def timers(target: BenchNode, key: str, count: int, figures: Figures) -> None:
    """Let cascades run into the time-out of their first step, and see how late the second one began."""

    def falling() -> Iterator[dict[str, Any]]:
        for _ in range(count):
            yield {
                "to": {"phone": "+4520120004", "push": "tok-delivered"},
                "cascade": [{"channel": "sms", "timeout_s": round(random.uniform(*TIMERS_AFTER_S), 3)}, "push"],
                "content": {"text": "hi"},
            }

    ids = fill(target, key, falling(), figures)
    time.sleep(TIMERS_AFTER_S[1])  # to look up all of them costs the node more than their timers
    end = time.monotonic() + 60
    while time.monotonic() < end:
        messages = lookup(target, key, ids)
        if all(message["status"] == "delivered" for message in messages):
            break
        time.sleep(1)
    late = []
    for message in messages:
        figures.check(message["delivered_by"] == 1, f"a cascade that timed out is {message['status']}")
        if message["delivered_by"] == 1:
            first, second = message["attempts"]
            waited = datetime.fromisoformat(second["queued_at"]) - datetime.fromisoformat(first["queued_at"])
            late.append(waited.total_seconds() - message["cascade"][0]["timeout_s"])
    figures.check(bool(late) and min(late) >= 0, "a timer went off too early")
    figures.add("timer after its time, max", max(late, default=0.0) * 1000, "ms", 1000)


@contextmanager
def started(data: Path, figures: Figures, what: str, target_s: float) -> Iterator[BenchNode]:
    """Start a node on this data folder and note how long that took."""
    began = time.monotonic()
    with node(CARRIERS, data_dir=data) as target:
        figures.add(f"{what} until it is ready", time.monotonic() - began, "s", target_s)
        yield target


def run(data: Path, count: int, receipts_posted: int, figures: Figures) -> None:
    """Take all the figures with a fresh data folder."""
    falls = max(count // 100, 10)
    with started(data, figures, "first start (initdb)", 60) as target:
        tenant, key = target.tenant()
        fill(target, key, repeat(DELIVERED, WARM_UP), figures)
        wait_parked(target, tenant)
        before = target.rss_mb()
        began = time.monotonic()
        waiting = fill(target, key, repeat(SILENT, count), figures)
        took = time.monotonic() - began
        figures.check(len(waiting) == count, f"{len(waiting)} of {count} were accepted")
        figures.say(f"  {len(waiting)} accepted in {took:.0f} s, {len(waiting) / took:.0f}/s")
        figures.say(f"  memory right after {target.rss_mb():.0f} MiB, before {before:.0f} MiB")
        figures.say(f"  all parked {wait_parked(target, tenant):.0f} s later")
        figures.add(f"memory for {count} waiting", target.rss_mb() - before, "MiB", 150)
        waiting = receipts(target, key, waiting, receipts_posted, figures, "parked")
        target.process.kill()
        target.process.wait()
    with started(data, figures, "restart after kill -9", 5) as target:
        figures.say(f"  memory {target.rss_mb():.0f} MiB")
        waiting = receipts(target, key, waiting, receipts_posted, figures, "after a restart")
        timers(target, key, falls, figures)
        figures.add("memory after all that", target.rss_mb() - before, "MiB", 150)
    with started(data, figures, "restart after SIGTERM", 5) as target:
        found = counts(target, key)
        delivered = WARM_UP + count - len(waiting) + falls
        figures.check(found["in_progress"] == len(waiting), f"{found} instead of {len(waiting)} in progress")
        figures.check(found["delivered"] == delivered, f"{found} instead of {delivered} delivered")
        figures.check(actors(target, tenant) == 0, "what only waits has an actor")


def main() -> int:
    """Parse, run, print; exit 1 when something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200_000, help="messages that wait")
    parser.add_argument("--receipts", type=int, default=1_000, help="receipts posted before and after the restart")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    figures = Figures(quiet=args.json)
    with tempfile.TemporaryDirectory(prefix="hermes-waiting-") as folder:
        run(Path(folder, "data"), args.count, args.receipts, figures)
    if args.json:
        named = {
            name: {"value": round(value, 3), "unit": unit, "target": target}
            for name, value, unit, target in figures.lines
        }
        print(json.dumps({"wrong": figures.wrong, "figures": named}))
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
