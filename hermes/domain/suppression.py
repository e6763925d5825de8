"""Who must not be written to: do-not-contact entries, and the question whether one stands in the way.

An entry is for one tenant or for all (the operator's), for one channel or for all. Entries of a tenant leave out the
categories that the tenant exempts (one-time codes, unless told otherwise); the operator's hold for every category.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

# Why Hermes itself makes an entry; the API takes any text.
OPTED_OUT: Final = "opted_out"  # the recipient said STOP, or its like
INVALID_DESTINATION: Final = "invalid_destination"  # the carrier says that the address does not exist
COMPLAINT: Final = "complaint"  # the recipient reported a message as unwanted
BOUNCED: Final = "bounced"  # refused for good after it had counted as delivered

EXEMPT: Final = frozenset({"otp"})  # categories, where a tenant says nothing


@dataclass(slots=True, frozen=True)
class Suppression:
    """One entry.

    Attributes:
        id: `sup_` and 26 characters that sort by time.
        tenant: None: for all tenants.
        channel: None: for all channels that reach this address.
        address: as `address.same_recipient` writes it.
        reason: for people, and to tell what a recipient's START may lift.
    """

    id: str
    tenant: str | None
    channel: str | None
    address: str = field(repr=False)
    reason: str
    created_at: datetime


class SuppressionIndex:
    """Every entry's recipient, in memory: about 100 octets an entry; a question costs 0.4 us, whatever their number."""

    __slots__ = ("_by_scope", "_count")

    def __init__(self, entries: Iterable[Suppression] = ()) -> None:
        self._by_scope: dict[tuple[str | None, str | None], set[str]] = {}
        self._count = 0
        for entry in entries:
            self.add(entry)

    def __len__(self) -> int:
        return self._count

    def add(self, entry: Suppression) -> None:
        """Take an entry in; once more is harmless."""
        addresses = self._by_scope.setdefault((entry.tenant, entry.channel), set())
        if entry.address not in addresses:
            addresses.add(entry.address)
            self._count += 1

    def discard(self, entry: Suppression) -> None:
        """Forget an entry; once more is harmless."""
        addresses = self._by_scope.get((entry.tenant, entry.channel))
        if addresses is not None and entry.address in addresses:
            addresses.remove(entry.address)
            self._count -= 1
            if not addresses:
                del self._by_scope[entry.tenant, entry.channel]

    def blocks(self, tenant: str, channel: str, address: str, category: str, exempt: Collection[str] = EXEMPT) -> bool:
        """Tell whether this recipient must not be written to on this channel.

        The address is as the message has it (phone numbers in E.164). For the categories in `exempt` the tenant's own
        entries do not count.
        """
        scopes = self._by_scope
        if not scopes:
            return False
        if channel == "email":
            address = address.casefold()
        every = scopes.get((None, None))
        if every is not None and address in every:
            return True
        every = scopes.get((None, channel))
        if every is not None and address in every:
            return True
        if category in exempt:
            return False
        own = scopes.get((tenant, channel))
        if own is not None and address in own:
            return True
        own = scopes.get((tenant, None))
        return own is not None and address in own
