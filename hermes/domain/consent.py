"""Consent: who agreed to be written to, on which channel and for what, and the proof of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from hermes.domain.address import same_recipient


@dataclass(slots=True)
class Consent:
    """One record. It is never removed while its tenant lives: it also proves that somebody had agreed.

    Attributes:
        id: `con_` and 26 characters that sort by time.
        recipient: keyed hash of tenant and address: what is left when the recipient was erased.
        address: as `same_recipient` writes it; None once the recipient was erased.
        source: where it was given ("signup form"), in the tenant's words.
        ip: from where; None when nobody said, and once the recipient was erased.
        text_version: which wording was agreed to.
        given_at: when, as the tenant says.
        withdrawn_at: from when on it does not count.
    """

    id: str
    tenant: str
    channel: str
    category: str
    recipient: str
    address: str | None
    source: str
    ip: str | None
    text_version: str | None
    given_at: datetime
    created_at: datetime
    changed_at: datetime
    withdrawn_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Consent({self.id!r}, {self.tenant!r}, {self.channel!r}, {self.category!r}, ...)"  # no address in a log


class ConsentIndex:
    """Every consent that counts, in memory: a question costs a look into a set."""

    __slots__ = ("_by_scope",)

    def __init__(self) -> None:
        self._by_scope: dict[tuple[str, str, str], dict[str, set[str]]] = {}

    def take(self, consent: Consent) -> bool:
        """Take in a record as it is stored now; once more is harmless.

        Returns:
            Whether a consent counted until now and does not any more.
        """
        scope = (consent.tenant, consent.channel, consent.category)
        if consent.withdrawn_at is None and consent.address is not None:
            self._by_scope.setdefault(scope, {}).setdefault(consent.address, set()).add(consent.id)
            return False
        ended = False
        addresses = self._by_scope.get(scope, {})
        # Of an erased recipient only the id is known.
        for address in [consent.address] if consent.address is not None else list(addresses):
            ids = addresses.get(address)
            if ids is not None and consent.id in ids:
                ended = True
                ids.discard(consent.id)
                if not ids:
                    del addresses[address]
        return ended

    def given(self, tenant: str, channel: str, address: str, category: str) -> bool:
        """Tell whether this recipient agreed to messages of this category on this channel."""
        addresses = self._by_scope.get((tenant, channel, category))
        return addresses is not None and same_recipient(channel, address) in addresses
