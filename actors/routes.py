"""What the router is told: carriers, and routes between them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from hermes.domain.message import Message
from hermes.domain.rates import Destination, RateDeck
from hermes.domain.state import ADDRESS_FIELD

STRATEGIES: Final = ("fixed", "weighted", "least_cost", "quality")


@dataclass(slots=True, frozen=True)
class CarrierEntry:
    """What the router knows of a carrier.

    Attributes:
        tenant: the only tenant it serves; None: all.
        weight: share of the messages of a weighted route, relative to the others.
        cost: per segment (or message), where the deck names no price.
        deck: its prices by destination.
    """

    name: str
    channel: str
    on_ambiguous: str | None = None
    tenant: str | None = None
    weight: float = 1.0
    cost: float = 0.0
    deck: RateDeck | None = None

    def price(self, to: Destination, at: datetime) -> float:
        """Give the price of one segment (or message) at a moment."""
        price = self.deck.price(to, at) if self.deck is not None else None
        return self.cost if price is None else price


@dataclass(slots=True, frozen=True)
class Match:
    """What a message must be for a route to apply; an empty set matches everything.

    Attributes:
        prefix: beginnings of the phone number, with `+`.
        mcc: mobile country codes of the number's country.
        mnc: its network, where a rate deck tells it (`RateDeck.networks`); else no mnc matches.
        from_hour, to_hour: UTC hours of the day, from inclusive, to exclusive; may run over midnight.
    """

    tenant: frozenset[str] = frozenset()
    prefix: tuple[str, ...] = ()
    mcc: frozenset[str] = frozenset()
    mnc: frozenset[str] = frozenset()
    sender: frozenset[str] = frozenset()
    category: frozenset[str] = frozenset()
    from_hour: int | None = None
    to_hour: int | None = None

    @property
    def by_network(self) -> bool:
        """True when it must be known where the number leads."""
        return bool(self.mcc or self.mnc)

    def why_not(self, message: Message, channel: str, now: datetime, to: Destination | None = None) -> str | None:
        """Say what does not match; None when all does."""
        if self.tenant and message.tenant not in self.tenant:
            return "tenant"
        if self.prefix and not message.to.get(ADDRESS_FIELD[channel], "").startswith(self.prefix):
            return "prefix"
        if self.mcc and (to is None or self.mcc.isdisjoint(to.mcc)):
            return "mcc"
        if self.mnc and (to is None or to.mnc not in self.mnc):
            return "mnc"
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
    """One `[[route]]`. `sticky`: a weighted route that draws by recipient, so that each keeps its carrier."""

    channel: str
    carriers: tuple[str, ...]
    match: Match = Match()
    strategy: str = "fixed"
    on_ambiguous: str | None = None
    sticky: bool = False
