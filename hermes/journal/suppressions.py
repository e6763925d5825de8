"""Who must not be written to: read from the journal at start, kept in memory, written through.

Every change is stored before it is seen; other workers tell theirs (`Journal.on_news`). A question never waits.
Whoever holds queued messages registers in `on_added` and looks at them again when there are new entries, or consents
that count no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from hermes.domain.address import NoAddress as NoAddress
from hermes.domain.address import same_recipient
from hermes.domain.message import ulid
from hermes.domain.suppression import OPTED_OUT, Suppression, SuppressionIndex
from hermes.journal.base import LOST, NEWS_SUPPRESSIONS, Journal, JournalAway
from hermes.journal.consents import Consents
from hermes.journal.directory import Directory
from hermes.journal.rows import suppressions_told
from hermes.runtime.clock import Clock

PAGE: Final = 10_000  # entries read at once at start
RETRY_S: Final = 0.5  # while the journal is away


def _apply(index: SuppressionIndex, sign: str, entries: Sequence[Suppression]) -> None:
    for entry in entries:
        if sign == "+":
            index.add(entry)
        else:
            index.discard(entry)


class Suppressions:
    """Every do-not-contact entry.

    Invariant: what a method has returned is stored; what is in memory is stored.
    """

    def __init__(self, journal: Journal, directory: Directory, clock: Clock) -> None:
        self._journal = journal
        self._directory = directory
        self._clock = clock
        self._index = SuppressionIndex()
        self.consents = Consents(journal, directory, clock, self._look_again)
        # What was changed while everything is read; None while it is not.
        self._told_meanwhile: list[tuple[str, Sequence[Suppression]]] | None = None
        self.on_added: list[Callable[[], None]] = []
        self._loading: asyncio.Task[None] | None = None
        journal.on_news(self._told)

    def __len__(self) -> int:
        return len(self._index)

    async def load(self) -> None:
        """Read everything; call once after the journal started."""
        await self._read()
        await self.consents.load()

    async def _read(self) -> None:
        index = SuppressionIndex()
        self._told_meanwhile = []
        after = ""
        while page := await self._journal.all_suppressions(after, PAGE):
            for entry in page:
                index.add(entry)
            after = page[-1].id
        for sign, entries in self._told_meanwhile:
            _apply(index, sign, entries)
        self._index, self._told_meanwhile = index, None

    # --- what other workers change
    def _told(self, topic: str, detail: str) -> None:
        if topic == NEWS_SUPPRESSIONS and detail:
            self._changed(detail[0], suppressions_told(detail[1:]))
        elif topic in (LOST, NEWS_SUPPRESSIONS) and self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load_again())

    def _changed(self, sign: str, entries: Sequence[Suppression]) -> None:
        """Take in what is stored now, in the order it was."""
        _apply(self._index, sign, entries)
        if self._told_meanwhile is not None:
            self._told_meanwhile.append((sign, entries))
        if sign == "+":
            self._look_again()

    def _look_again(self) -> None:
        for callback in self.on_added:
            callback()

    async def _load_again(self) -> None:
        try:
            while True:
                try:
                    await self._read()
                    break
                except JournalAway:
                    await asyncio.sleep(RETRY_S)
        finally:
            self._loading = None
        self._look_again()

    def blocks(self, tenant: str, channel: str, address: str, category: str) -> bool:
        """Tell whether this tenant may not write to this recipient on this channel, in this category.

        A list stands in the way, or a consent that the tenant requires is missing.
        """
        found = self._directory.tenant(tenant)
        if found is not None:
            compliance = self._directory.rules(found).layers.compliance
            required = compliance.enabled and category in compliance.require_consent
            if required and not self.consents.given(tenant, channel, address, category):
                return True
        return self.listed(tenant, channel, address, category)

    def listed(self, tenant: str, channel: str, address: str, category: str) -> bool:
        """Tell whether a do-not-contact list stands in the way."""
        if not len(self._index):
            return False
        found = self._directory.tenant(tenant)
        if found is None:
            return self._index.blocks(tenant, channel, address, category)
        layer = self._directory.rules(found).layers.do_not_contact
        return layer.enabled and self._index.blocks(tenant, channel, address, category, layer.exempt_categories)

    def entry(self, tenant: str | None, channel: str | None, address: str, reason: str) -> Suppression:
        """Make an entry, not stored yet.

        Raises:
            NoAddress: it is none of this channel.
        """
        normal = same_recipient(channel, address)
        if normal is None:
            raise NoAddress("is no address" if channel is None else f"is no address of channel {channel}")
        return Suppression("sup_" + ulid(), tenant, channel, normal, reason, self._clock.now())

    async def put(self, entries: Sequence[Suppression]) -> list[Suppression]:
        """Store entries, all or none, and let them count at once, for what is queued too.

        Returns:
            What is stored now: each entry itself, or the one for the same recipient that was there before.
        """
        stored = await self._journal.put_suppressions(entries)
        self._changed("+", stored)
        return stored

    async def add(self, tenant: str | None, channel: str | None, address: str, reason: str) -> Suppression:
        """Store one entry; as `put`.

        Raises:
            NoAddress: it is none of this channel.
        """
        return (await self.put([self.entry(tenant, channel, address, reason)]))[0]

    async def remove(self, tenant: str | None, id: str) -> bool:
        """Remove an entry of this tenant (None: of the operator). False: no such entry."""
        removed = await self._journal.delete_suppression(tenant, id)
        if removed is not None:
            self._changed("-", [removed])
        return removed is not None

    async def lift(self, tenant: str, channel: str, address: str) -> bool:
        """A recipient opts in again: remove this channel's entry if it was made by their opting out.

        Returns:
            Whether there was one. An entry made for another reason (a complaint, by hand) stays.
        """
        normal = same_recipient(channel, address)
        if normal is None:
            return False
        found = await self._journal.find_suppressions(tenant, normal)
        mine = [entry for entry in found if entry.channel == channel and entry.reason == OPTED_OUT]
        return any([await self.remove(tenant, entry.id) for entry in mine])

    async def page(self, tenant: str | None, before_id: str | None, limit: int) -> list[Suppression]:
        """Load a page of a tenant's entries (None: the operator's), newest first."""
        return await self._journal.suppressions(tenant, before_id, limit)
