"""Consent records: read from the journal at start, kept in memory as far as they count, written through.

Every change is stored, with its row of the audit log, before it is seen. Other workers are told with the news of the
directory and read what changed since.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from hermes.domain.address import NoAddress, same_recipient
from hermes.domain.consent import Consent, ConsentIndex
from hermes.domain.message import ulid
from hermes.journal.base import Change, Journal, JournalError
from hermes.journal.directory import Author, Directory
from hermes.runtime.clock import Clock

PAGE: Final = 10_000  # records read at once
OVERLAP: Final = timedelta(minutes=2)  # workers' clocks differ, and commits are not in the order of their times
RETRY_S: Final = 1.0
_EVER: Final = datetime.min.replace(tzinfo=UTC)


class Consents:
    """Every consent record.

    Invariant: what a method has returned is stored; what is in memory is stored.

    Args:
        on_ended: called when some count no more, whichever worker was told.
    """

    def __init__(
        self, journal: Journal, directory: Directory, clock: Clock, on_ended: Callable[[], None] = lambda: None
    ) -> None:
        self._journal = journal
        self._directory = directory
        self._clock = clock
        self._on_ended = on_ended
        self._index = ConsentIndex()
        self._read_until = _EVER
        self._stale = False
        self._reading: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Read everything, and hear of other workers' changes from now on; call once after the journal started."""
        self._journal.on_directory(self._changed_elsewhere)
        await self._read()

    async def _read(self) -> None:
        since, after = (self._read_until if self._read_until == _EVER else self._read_until - OVERLAP), ""
        while page := await self._journal.consents_changed(since, after, PAGE):
            self._take(page)
            self._read_until = max(self._read_until, *(consent.changed_at for consent in page))
            since, after = page[-1].changed_at, page[-1].id

    def _take(self, stored: Sequence[Consent]) -> None:
        ended = [consent for consent in stored if self._index.take(consent)]
        if ended:
            self._on_ended()

    def _changed_elsewhere(self, tenant_id: str | None) -> None:
        self._stale = True
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().create_task(self._refresh(), name="consents-refresh")

    async def _refresh(self) -> None:
        while self._stale:
            self._stale = False
            try:
                await self._read()
            except JournalError:
                self._stale = True
                await asyncio.sleep(RETRY_S)

    def given(self, tenant: str, channel: str, address: str, category: str) -> bool:
        """Tell whether this recipient agreed to messages of this category on this channel."""
        return self._index.given(tenant, channel, address, category)

    async def add(
        self,
        tenant: str,
        channel: str,
        category: str,
        address: str,
        source: str,
        ip: str | None,
        text_version: str | None,
        given_at: datetime | None,
        *,
        by: Author,
    ) -> Consent:
        """Store that a recipient agreed.

        Raises:
            NoAddress: it is none of this channel.
        """
        normal = same_recipient(channel, address)
        if normal is None:
            raise NoAddress(f"is no address of channel {channel}")
        now = self._clock.now()
        recipient = self._directory.hash_recipient(tenant, normal)
        proof = (source, ip, text_version, given_at or now)
        consent = Consent("con_" + ulid(), tenant, channel, category, recipient, normal, *proof, now, now)
        facts = {"consent": consent.id, "channel": channel, "category": category}
        change = Change(now, by.name, tenant, "consent.given", recipient, None, facts, by.request_id)
        await self._journal.put_consent(consent, change)
        self._index.take(consent)
        return consent

    async def withdraw(self, tenant: str, id: str, *, by: Author) -> Consent | None:
        """Let a recipient's consent for this channel and category count no more, for what is queued too.

        It counts no more however often it was given.

        Returns:
            The record of this id as it is now; None: the tenant has no such record.
        """
        found = await self._journal.consent(tenant, id)
        if found is None or found.withdrawn_at is not None:
            return found
        now = self._clock.now()
        facts = {"consent": id, "channel": found.channel, "category": found.category}
        change = Change(now, by.name, tenant, "consent.withdrawn", found.recipient, facts, None, by.request_id)
        stored = await self._journal.withdraw_consents(found, now, change)
        self._take(stored)
        return next((consent for consent in stored if consent.id == id), None)

    async def page(self, tenant: str, address: str | None, before_id: str | None, limit: int) -> list[Consent]:
        """Load a page of a tenant's records, newest first: all, or those of one recipient (as `same_recipient`)."""
        recipient = None if address is None else self._directory.hash_recipient(tenant, address)
        return await self._journal.consents(tenant, recipient, before_id, limit)

    async def get(self, tenant: str, id: str) -> Consent | None:
        """Load a record; None: the tenant has no such one."""
        return await self._journal.consent(tenant, id)

    async def erase(self, tenant: str, recipient: str) -> int:
        """Leave of a recipient's records that somebody had agreed; they count no more. Returns how many there were."""
        left = await self._journal.erase_consents(tenant, recipient, self._clock.now())
        self._take(left)
        return len(left)
