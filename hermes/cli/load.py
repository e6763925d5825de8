"""`hermes bench`: a bounded load against a running node, to see what this machine does with it.

Messages are due at a fixed rate whether or not earlier ones were answered (an open loop), so a node that stalls is
not asked less. At the end every accepted id is looked up and must be final. Unless a key is given, a tenant is made
for it and removed again, with a test key: nothing leaves the sandbox.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
from rich.console import Console
from rich.progress import Progress

from hermes.cli import client, show

MOST_MESSAGES: Final = 100_000
FINAL_WITHIN_S: Final = 60.0  # after the last was sent
LOOK_UP_AT_ONCE: Final = 1000


@dataclass(slots=True)
class Result:
    """What came of the messages sent so far."""

    answered_s: list[float] = field(default_factory=list)  # from when it was due to its answer
    ids: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)


def run(
    environ: Mapping[str, str],
    data_dir: Path | None,
    key: str | None,
    request: Mapping[str, Any],
    rate: float,
    seconds: float,
    *,
    as_json: bool,
) -> None:
    """Send, wait, report.

    Raises:
        Failed: an accepted message is lost, or not final in time.
    """
    place = client.find(environ, data_dir)
    count = int(rate * seconds)
    if not 1 <= count <= MOST_MESSAGES:
        raise client.Failed(f"rate times seconds must be 1 to {MOST_MESSAGES:,} messages, not {count:,}")
    operator = client.Client(place.url, place.key)
    tenant = ""
    if key is None:
        tenant = operator.request("POST", "/v1/tenants", {"name": "hermes bench"})["id"]
        key = operator.request("POST", client.path_of("tenants", tenant, "keys"), {"mode": "test"})["key"]
    try:
        report = _measure(place.url, str(key), request, rate, count)
    finally:
        if tenant:
            operator.request("DELETE", client.path_of("tenants", tenant))
    if as_json:
        client.print_json(report)
    else:
        _print(report)
    if report["lost"] or report["not_final"]:
        raise client.Failed(f"{report['lost']} accepted messages are lost, {report['not_final']} are not final")


def _measure(url: str, key: str, request: Mapping[str, Any], rate: float, count: int) -> dict[str, Any]:
    err = Console(stderr=True)
    with Progress(console=err, disable=not err.is_terminal, transient=True) as progress:
        sending = progress.add_task("Sending", total=count)
        began = time.perf_counter()
        result = asyncio.run(_send(url, key, request, rate, count, lambda: progress.advance(sending)))
        took = time.perf_counter() - began
        ending = progress.add_task("Waiting for the end of each", total=len(result.ids))
        found = _reconcile(client.Client(url, key), result.ids, lambda n: progress.update(ending, completed=n))
    return {
        "asked_per_s": rate,
        "sent": count,
        "accepted": len(result.ids),
        "accepted_per_s": round(len(result.ids) / took, 1),
        "refused": dict(result.refused),
        "answer_ms": _percentiles(result.answered_s),
        "end_to_end_ms": _percentiles(found["seconds"]),
        "final": dict(found["statuses"]),
        "lost": found["lost"],
        "not_final": found["not_final"],
    }


async def _send(url: str, key: str, request: Mapping[str, Any], rate: float, count: int, done: Any) -> Result:
    """Send `count` messages, each at its own moment, and wait for every answer."""
    result = Result()
    body = json.dumps(request).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout) as session:

        async def one(due: float) -> None:
            try:
                async with session.post(url + "/v1/messages", data=body) as answer:
                    document = await answer.json(content_type=None)
                    if answer.status == 202:
                        result.ids.append(document["id"])
                    else:
                        result.refused[str(document.get("code", answer.status))] += 1
            except (aiohttp.ClientError, TimeoutError, ValueError) as exc:
                result.refused[type(exc).__name__] += 1
            result.answered_s.append(time.perf_counter() - due)
            done()

        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for n in range(count):
                due = start + n / rate
                wait = due - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
                group.create_task(one(due))
    return result


def _reconcile(tenant: client.Client, ids: list[str], done: Any) -> dict[str, Any]:
    """Look every id up until all are final, or time is over."""
    end = time.monotonic() + FINAL_WITHIN_S
    statuses: Counter[str] = Counter()
    seconds: list[float] = []
    lost = 0
    left = ids
    while left:
        still: list[str] = []
        for first in range(0, len(left), LOOK_UP_AT_ONCE):
            part = left[first : first + LOOK_UP_AT_ONCE]
            answer = tenant.request("POST", "/v1/messages/lookup", {"ids": part})
            found = {message["id"]: message for message in answer["data"]}
            for message_id in part:
                message = found.get(message_id)
                if message is None:
                    lost += 1
                elif message["final_at"] is None:
                    still.append(message_id)
                else:
                    statuses[message["status"]] += 1
                    took = datetime.fromisoformat(message["final_at"]) - datetime.fromisoformat(message["created_at"])
                    seconds.append(took.total_seconds())
        left = still
        done(len(ids) - len(left))
        if not left or time.monotonic() > end:
            break
        time.sleep(0.2)
    return {"statuses": statuses, "seconds": seconds, "lost": lost, "not_final": len(left)}


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    if not ordered:
        return {}
    last = len(ordered) - 1
    shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    return {name: round(ordered[min(last, int(share * len(ordered)))] * 1000, 1) for name, share in shares.items()}


def _print(report: Mapping[str, Any]) -> None:
    def spread(values: Mapping[str, float]) -> str:
        return "  ".join(f"{name} {show.duration(ms / 1000)}" for name, ms in values.items())

    show.console().print(
        show.facts(
            (
                ("sent", f"{report['sent']:,} at {report['asked_per_s']:g}/s"),
                ("accepted", f"{report['accepted']:,} ({report['accepted_per_s']:,}/s)"),
                ("refused", ", ".join(f"{code} {n:,}" for code, n in report["refused"].items()) or "none"),
                ("answered after", spread(report["answer_ms"])),
                ("final after", spread(report["end_to_end_ms"])),
                ("ended as", ", ".join(f"{status} {n:,}" for status, n in report["final"].items())),
                ("lost", report["lost"]),
                ("not final", report["not_final"]),
            )
        )
    )
    sys.stdout.flush()
