"""Which carriers serve a step, in which order, and why: pure, a table and a question.

A route (`[[route]]`) names carriers for the messages it matches and how to order them; the first that matches decides.
Without one: the channel's carriers in the order of the settings. A carrier that is down, paused or whose breaker is
open is no candidate while another is left. The `router` actor answers people (`router.py`); cascades ask the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

from hermes.domain.cascade import Candidate
from hermes.domain.health import CarrierHealth
from hermes.domain.message import Message
from hermes.domain.state import ADDRESS_FIELD

SANDBOX: Final = "sandbox"  # the built-in carrier of test keys, on every channel
SANDBOX_ONLY: Final = (Candidate(SANDBOX),)
STRATEGIES: Final = ("fixed", "weighted", "least_cost")


@dataclass(slots=True, frozen=True)
class CarrierEntry:
    """What the router knows of a carrier.

    Attributes:
        tenant: the only tenant it serves; None: all.
        weight: share of the messages of a weighted route, relative to the others.
        cost: per segment (or message).
    """

    name: str
    channel: str
    on_ambiguous: str | None = None
    tenant: str | None = None
    weight: float = 1.0
    cost: float = 0.0


@dataclass(slots=True, frozen=True)
class Match:
    """What a message must be for a route to apply; an empty set matches everything.

    Attributes:
        prefix: beginnings of the phone number, with `+`.
        from_hour, to_hour: UTC hours of the day, from inclusive, to exclusive; may run over midnight.
    """

    tenant: frozenset[str] = frozenset()
    prefix: tuple[str, ...] = ()
    sender: frozenset[str] = frozenset()
    category: frozenset[str] = frozenset()
    from_hour: int | None = None
    to_hour: int | None = None

    def why_not(self, message: Message, channel: str, now: datetime) -> str | None:
        """Say what does not match; None when all does."""
        if self.tenant and message.tenant not in self.tenant:
            return "tenant"
        if self.prefix and not message.to.get(ADDRESS_FIELD[channel], "").startswith(self.prefix):
            return "prefix"
        if self.sender and message.sender.get(channel) not in self.sender:
            return "sender"
        if self.category and message.category not in self.category:
            return "category"
        if self.from_hour is not None and self.to_hour is not None:
            start, end, hour = self.from_hour, self.to_hour, now.hour
            inside = start <= hour < end if start <= end else hour >= start or hour < end
            if not inside:
                return "hour"
        return None


@dataclass(slots=True, frozen=True)
class Route:
    """One `[[route]]`."""

    channel: str
    carriers: tuple[str, ...]
    match: Match = Match()
    strategy: str = "fixed"
    on_ambiguous: str | None = None


@dataclass(slots=True, frozen=True)
class Explained:
    """A carrier, whether it would be asked, and why (not). `price` is for the whole message."""

    carrier: str
    channel: str
    eligible: bool
    reason: str
    price: float | None


class RoutingTable:
    """Candidates for a step. Replaced whole when carriers or routes change; never changed in place.

    Args:
        carriers: in order of preference.
        health: by carrier name, kept by the provider actors; a carrier without an entry is well.
        monotonic: the clock breakers are read with.
    """

    def __init__(
        self,
        carriers: Sequence[CarrierEntry],
        routes: Sequence[Route] = (),
        health: Mapping[str, CarrierHealth] | None = None,
        monotonic: Callable[[], float] = lambda: 0.0,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.carriers = tuple(carriers)
        self.routes = tuple(routes)
        self._by_name = {c.name: c for c in carriers}
        self._health = health if health is not None else {}
        self._monotonic = monotonic
        self._now = now
        # Where nothing depends on the message, the answer is ready.
        self._plain: dict[str, tuple[Candidate, ...]] = {}
        for channel in {c.channel for c in carriers}:
            mine = [c for c in carriers if c.channel == channel]
            if not any(c.tenant for c in mine) and not any(r.channel == channel for r in routes):
                self._plain[channel] = tuple(Candidate(c.name, c.on_ambiguous or "resend") for c in mine)

    def candidates(self, message: Message, step: int) -> Sequence[Candidate]:
        """Name the carriers for one step, best first; empty when none serves its channel."""
        if message.mode == "test":
            return SANDBOX_ONLY
        channel = message.cascade[step].channel
        found: Sequence[Candidate] | None = self._plain.get(channel)
        if found is None:
            route, entries = self._ordered(message, channel)
            policy = route.on_ambiguous if route is not None else None
            found = [Candidate(e.name, policy or e.on_ambiguous or "resend") for e in entries]
        if len(found) < 2:
            return found
        now = self._monotonic()
        health = self._health
        fit = [c for c in found if c.carrier not in health or health[c.carrier].available(now)]
        return found if not fit or len(fit) == len(found) else fit

    def explain(self, message: Message, step: int) -> list[Explained]:
        """Tell of every carrier of the step's channel whether it would be asked, in order, and why."""
        channel = message.cascade[step].channel
        segments = (message.segments or 1) if channel == "sms" else 1
        if message.mode == "test":
            return [Explained(SANDBOX, channel, True, "a test key's messages go to the sandbox", None)]
        route, entries = self._ordered(message, channel)
        chosen = [c.carrier for c in self.candidates(message, step)]
        now = self._monotonic()
        told: list[Explained] = []
        for name in chosen:
            entry = self._by_name[name]
            how = "the channel's carriers in the order of the settings" if route is None else f"route, {route.strategy}"
            told.append(Explained(name, channel, True, how, round(entry.cost * segments, 6)))
        for entry in self.carriers:
            if entry.name in chosen:
                continue
            price = round(entry.cost * segments, 6)
            if entry.channel != channel:
                reason = f"serves channel {entry.channel}"
            elif entry.tenant is not None and entry.tenant != message.tenant:
                reason = "belongs to another tenant"
            elif entry not in entries:
                reason = "not named by the route that matches"
            else:
                health = self._health.get(entry.name)
                reason = f"{health.state(now)}: {health.reason(now)}" if health is not None else "not well"
            told.append(Explained(entry.name, channel, False, reason, price))
        return told

    def channels(self) -> dict[str, list[str]]:
        """Carrier names by channel, in order: for the tree."""
        found: dict[str, list[str]] = {}
        for c in self.carriers:
            found.setdefault(c.channel, []).append(c.name)
        return found

    def _ordered(self, message: Message, channel: str) -> tuple[Route | None, list[CarrierEntry]]:
        """The route that matches and its carriers in its order, whatever their health."""
        now = self._now() if self._now is not None else message.created_at
        for route in self.routes:
            if route.channel == channel and route.match.why_not(message, channel, now) is None:
                named = [self._by_name[name] for name in route.carriers if name in self._by_name]
                return route, _sorted(route.strategy, [e for e in named if _serves(e, message, channel)], message)
        return None, [e for e in self.carriers if _serves(e, message, channel)]


def _serves(entry: CarrierEntry, message: Message, channel: str) -> bool:
    return entry.channel == channel and (entry.tenant is None or entry.tenant == message.tenant)


def _sorted(strategy: str, entries: list[CarrierEntry], message: Message) -> list[CarrierEntry]:
    if strategy == "least_cost":
        return sorted(entries, key=lambda e: e.cost)
    if strategy == "weighted":
        return sorted(entries, key=lambda e: _draw(e, message))
    return entries


def _draw(entry: CarrierEntry, message: Message) -> float:
    """Draw a carrier's place: the smallest is first with a chance of its weight's share (exponential clocks).

    Drawn from the message, so that the same message gets the same order at every try and after a restart.
    """
    if entry.weight <= 0:
        return math.inf
    digest = blake2b(f"{message.message_id}/{entry.name}".encode(), digest_size=8).digest()
    uniform = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
    return -math.log(uniform) / entry.weight


def explained(table: RoutingTable, message: Message) -> list[dict[str, Any]]:
    """Explain every step, as `/v1/routes/explain` answers: the steps' candidates one after the other."""
    told: list[dict[str, Any]] = []
    for step in range(len(message.cascade)):
        told.extend(
            {"carrier": e.carrier, "channel": e.channel, "eligible": e.eligible, "reason": e.reason, "price": e.price}
            for e in table.explain(message, step)
        )
    return told
