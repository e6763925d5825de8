"""What the nine validation layers cost a message: CPU time of this process, in microseconds, layer by layer.

    python -m benchmarks.layers [--messages 20000] [--profile]

A tenant with all nine on: a key with addresses, blocked words, linked hosts and a cap on parts, countries, registered
senders and quiet hours, a do-not-contact list of 10,000, a rate with a burst, a channel's rate, quotas, duplicates, and
enriching. Each message has a recipient and a text of its own. The layers are asked one after the other, each for all
messages, with what the edge calls for it; without HTTP, the journal and actors.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import pstats
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from gateway.auth import Access, authenticate
from gateway.decode import decode_json
from gateway.edge import Edge
from gateway.layers import numbers
from gateway.layers.pipeline import Pipeline
from gateway.limits.accepted import Accepted
from gateway.limits.local import LocalLimits
from gateway.shapes import FieldError, MessageBody
from gateway.submission import build
from hermes.domain.message import Message
from hermes.journal.directory import Directory
from hermes.journal.memory import MemoryJournal
from hermes.journal.suppressions import Suppressions
from hermes.runtime import SystemClock

ROUNDS = 5  # the best counts: whatever else runs on the machine only ever makes it slower
AIM_US = 40.0
SUPPRESSED = 10_000
FREE = 1_000_000
SETTINGS: dict[str, Any] = {
    "rate_per_s": FREE,
    "burst": 100,
    "channel_rates": {"sms": FREE},
    "quotas": {"messages_per_day": 10**9, "segments_per_month": 10**9},
    "layers": {
        "content": {
            "max_segments": 3,
            "max_length": 1000,
            "blocked_words": ["casino", "free money", "viagra"],
            "link_hosts": ["acme.example"],
        },
        "compliance": {
            "countries": ["DK", "SE", "NO"],
            "senders": ["Acme"],
            "quiet_hours": {"from": "03:00", "to": "03:01", "categories": ["transactional"]},
        },
        "dedup": {"enabled": True, "window_s": 60},
        "enrich": {"default_country": "DK"},
    },
}


class Bench:
    """One tenant with everything on, and its messages."""

    def __init__(self, count: int) -> None:
        self.clock = SystemClock()
        self.bodies = [
            b'{"channel":"sms","to":"+4520%06d","content":{"text":"Hello %d, your parcel is on its way: '
            b'https://acme.example/%d"},"from":{"sms":"Acme"},"reference":"order-%d"}' % (n, n, n, n)
            for n in range(count)
        ]
        self.decoder = msgspec.json.Decoder(MessageBody)
        self.messages: list[Message] = []

    async def start(self) -> None:
        """Make the tenant, its key and its list."""
        journal = MemoryJournal(self.clock)
        await journal.start()
        self.directory = Directory(journal, self.clock, b"benchmark")
        await self.directory.load()
        tenant = await self.directory.create_tenant("benchmark", settings=SETTINGS)
        _, key = await self.directory.create_key(tenant.id, "live", allow_from=["127.0.0.0/8"])
        self.suppressions = Suppressions(journal, self.directory, self.clock)
        await self.suppressions.load()
        entry = self.suppressions.entry
        await self.suppressions.put([entry(tenant.id, "sms", f"+45301{n:05}", "asked us") for n in range(SUPPRESSED)])
        self.edge = cast(Edge, SimpleNamespace(directory=self.directory, operator_key="operator", clock=self.clock))
        self.request: Any = SimpleNamespace(headers={"Authorization": f"Bearer {key}"}, remote="127.0.0.1")
        self.accepted = Accepted(journal.accepted, self.clock.monotonic)
        lists = self.suppressions
        self.pipeline = Pipeline(self.directory.rules(tenant), lists.listed, lists.consents.given)
        self.caller = authenticate(self.edge, self.request, Access.SEND)

    # --- each layer, for all messages
    async def auth_and_tenant(self) -> None:
        """1 and 2."""
        for _ in self.bodies:
            authenticate(self.edge, self.request, Access.SEND)

    async def schema(self) -> None:
        """3: from octets to a message."""
        assert self.caller.tenant is not None
        tenant, pipeline, made = self.caller.tenant.id, self.pipeline, []
        for body in self.bodies:
            errors: list[FieldError] = []
            asked, now = decode_json(self.decoder, body), self.clock.now()
            made.append(
                build(
                    asked,
                    tenant,
                    "live",
                    now,
                    lambda channel, mode: "delivered",
                    self.directory.policy,
                    errors,
                    pipeline.default_country,
                )
            )
            assert not errors, errors
        self.messages = made

    async def pure(self) -> None:
        """4 content, 5 compliance, 6 do_not_contact, 9 enrich."""
        numbers._looked_up.cache_clear()  # nobody is written to twice
        for message in self.messages:
            self.pipeline.run(message)

    async def with_a_memory(self) -> None:
        """7 rate, 8 dedup."""
        limits = LocalLimits(self.clock.monotonic, self.accepted)
        for message in self.messages:
            ask = self.pipeline.limits(message)
            assert ask is not None
            taken = await limits.take(ask)
            assert taken.refused is None, taken


async def cost(run: Callable[[], Awaitable[None]], count: int) -> float:
    """CPU microseconds a message; the best of ROUNDS."""
    best = 1e9
    for _ in range(ROUNDS):
        gc.collect()
        began = time.process_time()
        await run()
        best = min(best, time.process_time() - began)
    return best / count * 1e6


async def main(count: int, profiled: bool) -> None:
    """Measure each, and print their sum."""
    bench = Bench(count)
    await bench.start()
    gc.freeze()
    total = 0.0
    for name, run in (
        ("1 auth, 2 tenant", bench.auth_and_tenant),
        ("3 schema", bench.schema),
        ("4 content, 5 compliance, 6 do_not_contact, 9 enrich", bench.pure),
        ("7 rate, 8 dedup", bench.with_a_memory),
    ):
        spent = await cost(run, count)
        total += spent
        print(f"{name:54} {spent:6.1f} us")
        if profiled:
            profile = cProfile.Profile()
            profile.enable()
            await run()
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(14)
    print(f"{'all nine':54} {total:6.1f} us (aim {AIM_US:g})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--profile", action="store_true", help="show where each layer's time goes")
    given = parser.parse_args()
    asyncio.run(main(given.messages, given.profile))
