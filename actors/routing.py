"""Which carriers serve a step, in which order, and why: pure, a table and a question.

A route (`[[route]]`) names carriers for the messages it matches and how to order them; the first that matches decides.
Without one: the channel's carriers in the order of the settings. A carrier that is down, paused, whose breaker is open
or whose queue is full is no candidate while another is left. The `router` actor answers people (`router.py`); cascades
ask the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

from actors.destination import mcc_of
from actors.routes import CarrierEntry, Route
from hermes.domain.cascade import Candidate
from hermes.domain.health import CarrierHealth
from hermes.domain.message import Message
from hermes.domain.quality import Quality
from hermes.domain.rates import Destination
from hermes.domain.state import ADDRESS_FIELD

SANDBOX: Final = "sandbox"  # the built-in carrier of test keys, on every channel
SANDBOX_ONLY: Final = (Candidate(SANDBOX),)
WITHOUT_ROUTE: Final = "the channel's carriers in the order of the settings"


@dataclass(slots=True, frozen=True)
class Explained:
    """A carrier, whether it would be asked, and why (not). `price` is for the whole message."""

    carrier: str
    channel: str
    eligible: bool
    reason: str
    price: float | None


@dataclass(slots=True)
class Observed:
    """What is known of carriers now, by name; shared with those who learn it, and only read here.

    Attributes:
        health: a carrier without an entry is well.
        full: carriers whose queue takes no more.
        quality: what their receipts say; a carrier without an entry is neutral.
        monotonic: the clock of health and quality.
        now: for the hours of routes and the dates of prices; None: when the message was created.
    """

    health: Mapping[str, CarrierHealth]
    full: Set[str] = frozenset()
    quality: Mapping[str, Quality] | None = None
    monotonic: Callable[[], float] = lambda: 0.0
    now: Callable[[], datetime] | None = None


_NOTHING: Final = Observed({})
_NEUTRAL: Final = Quality().score(0.0)


class RoutingTable:
    """Candidates for a step. Replaced whole when carriers or routes change; never changed in place.

    Args:
        carriers: in order of preference.
        routes: in order; the first that matches decides.
    """

    def __init__(
        self, carriers: Sequence[CarrierEntry], routes: Sequence[Route] = (), observed: Observed = _NOTHING
    ) -> None:
        self.carriers = tuple(carriers)
        self.routes = tuple(routes)
        self._by_name = {c.name: c for c in carriers}
        self._observed = observed
        self._networks: dict[str, tuple[str, str]] = {}
        for c in carriers:
            if c.deck is not None:
                self._networks |= c.deck.networks()
        self._network_lengths = sorted({len(prefix) for prefix in self._networks}, reverse=True)
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
            n, entries = self._ordered(message, channel)
            policy = self.routes[n].on_ambiguous if n is not None else None
            why = {"route": n + 1, "strategy": self.routes[n].strategy} if n is not None else None
            found = [Candidate(e.name, policy or e.on_ambiguous or "resend", why) for e in entries]
        if len(found) < 2:
            return found
        now, health, full = self._observed.monotonic(), self._observed.health, self._observed.full
        fit = [
            c for c in found if (c.carrier not in health or health[c.carrier].available(now)) and c.carrier not in full
        ]
        if not fit or len(fit) == len(found):
            return found if fit else self._least_unfit(found)
        skipped = {c.carrier: self._why_unfit(c.carrier) for c in found if c not in fit}
        return [Candidate(c.carrier, c.on_ambiguous, {**(c.why or {}), "skipped": skipped}) for c in fit]

    def explain(self, message: Message, step: int) -> list[Explained]:
        """Tell of every carrier of the step's channel whether it would be asked, in order, and why."""
        channel = message.cascade[step].channel
        if message.mode == "test":
            return [Explained(SANDBOX, channel, True, "a test key's messages go to the sandbox", None)]
        n, entries = self._ordered(message, channel)
        chosen = [c.carrier for c in self.candidates(message, step)]
        told = [
            Explained(name, channel, True, self._how(n, self._by_name[name]), self.price(name, message, channel))
            for name in chosen
        ]
        for entry in self.carriers:
            if entry.name in chosen:
                continue
            if entry.channel != channel:
                reason = f"serves channel {entry.channel}"
            elif entry.tenant is not None and entry.tenant != message.tenant:
                reason = "belongs to another tenant"
            elif entry not in entries:
                reason = f"not named by route {(n or 0) + 1}, which matches"
            else:
                reason = self._why_unfit(entry.name) or "not well"
            price = self.price(entry.name, message, channel)
            told.append(Explained(entry.name, channel, False, reason, price))
        return told

    def price(self, carrier: str, message: Message, channel: str) -> float | None:
        """Give what the whole message costs by this carrier now; None when it is unknown here (the sandbox)."""
        segments = (message.segments or 1) if channel == "sms" else 1
        return self.price_to(carrier, message.to.get(ADDRESS_FIELD[channel], ""), segments, message.created_at)

    def price_to(self, carrier: str, address: str, segments: int, created_at: datetime) -> float | None:
        """Give what so many segments to an address cost by this carrier now; None when it is unknown here."""
        entry = self._by_name.get(carrier)
        if entry is None:
            return None
        if entry.deck is None:
            return round(entry.cost * segments, 6)
        return round(entry.price(self._destination(address), self._now(created_at)) * segments, 6)

    def channels(self) -> dict[str, list[str]]:
        """Carrier names by channel, in order: for the tree."""
        found: dict[str, list[str]] = {}
        for c in self.carriers:
            found.setdefault(c.channel, []).append(c.name)
        return found

    # --- inside
    def _now(self, created_at: datetime) -> datetime:
        now = self._observed.now
        return now() if now is not None else created_at

    def _destination(self, address: str) -> Destination:
        """Tell where an address leads."""
        for length in self._network_lengths:
            network = self._networks.get(address[:length])
            if network is not None:
                return Destination(address, (network[0],), network[1])
        return Destination(address, mcc_of(address))

    def _ordered(self, message: Message, channel: str) -> tuple[int | None, list[CarrierEntry]]:
        """The number of the route that matches and its carriers in its order, whatever their health."""
        now = self._now(message.created_at)
        to: Destination | None = None
        for n, route in enumerate(self.routes):
            if route.channel != channel:
                continue
            if to is None and route.match.by_network:
                to = self._destination(message.to.get(ADDRESS_FIELD[channel], ""))
            if route.match.why_not(message, channel, now, to) is None:
                named = [self._by_name[name] for name in route.carriers if name in self._by_name]
                return n, self._sorted(route, [e for e in named if _serves(e, message, channel)], message, now)
        return None, [e for e in self.carriers if _serves(e, message, channel)]

    def _sorted(self, route: Route, entries: list[CarrierEntry], message: Message, now: datetime) -> list[CarrierEntry]:
        if route.strategy == "least_cost":
            to = self._destination(message.to.get(ADDRESS_FIELD[route.channel], ""))
            return sorted(entries, key=lambda e: e.price(to, now))
        if route.strategy == "weighted":
            seed = message.message_id
            if route.sticky:
                seed = f"{message.tenant}/{message.to.get(ADDRESS_FIELD[route.channel], '')}"
            return sorted(entries, key=lambda e: _draw(e, seed))
        if route.strategy == "quality":  # in whole per cents: what differs by less is the same, and keeps its order
            return sorted(entries, key=lambda e: -round(self._score(e.name), 2))
        return entries

    def _score(self, carrier: str) -> float:
        known = self._observed.quality
        quality = known.get(carrier) if known is not None else None
        return _NEUTRAL if quality is None else quality.score(self._observed.monotonic())

    def _why_unfit(self, carrier: str) -> str | None:
        """Say why a carrier should not be asked now; None when it may be."""
        health = self._observed.health.get(carrier)
        now = self._observed.monotonic()
        if health is not None and not health.available(now):
            return f"{health.state(now)}: {health.reason(now)}"
        return "its queue is full" if carrier in self._observed.full else None

    def _least_unfit(self, found: Sequence[Candidate]) -> Sequence[Candidate]:
        """None is fit: those that are only full come first, because they will have room again."""
        full = [c for c in found if c.carrier in self._observed.full and self._available(c.carrier)]
        return [*full, *(c for c in found if c not in full)] if full else found

    def _available(self, carrier: str) -> bool:
        health = self._observed.health.get(carrier)
        return health is None or health.available(self._observed.monotonic())

    def _how(self, n: int | None, entry: CarrierEntry) -> str:
        if n is None:
            return WITHOUT_ROUTE
        route = self.routes[n]
        how = f"route {n + 1}, {route.strategy}"
        if route.strategy == "quality":
            return f"{how}, score {self._score(entry.name):.2f}"
        if route.strategy == "weighted":
            return f"{how}, weight {entry.weight:g}" + (", by recipient" if route.sticky else "")
        return how


def _serves(entry: CarrierEntry, message: Message, channel: str) -> bool:
    return entry.channel == channel and (entry.tenant is None or entry.tenant == message.tenant)


def _draw(entry: CarrierEntry, seed: str) -> float:
    """Draw a carrier's place: the smallest is first with a chance of its weight's share (exponential clocks).

    The same seed gives the same order at every try and after a restart.
    """
    if entry.weight <= 0:
        return math.inf
    digest = blake2b(f"{seed}/{entry.name}".encode(), digest_size=8).digest()
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
