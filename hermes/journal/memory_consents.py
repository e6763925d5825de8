"""Consent records in memory: the same as `postgres_consents.py`, for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from hermes.domain.consent import Consent
from hermes.journal.base import Change
from hermes.journal.memory_store import Store


class MemoryConsents:
    """See `hermes.journal.base.Journal`; `MemoryJournal` is one."""

    _store: Store
    _reach: Callable[[], None]
    _changed: Callable[[str, Change | None], None]

    async def put_consent(self, consent: Consent, change: Change | None = None) -> None:
        self._reach()
        self._store.consents[consent.id] = replace(consent)
        self._changed(consent.tenant, change)

    async def consent(self, tenant: str, id: str) -> Consent | None:
        self._reach()
        found = self._store.consents.get(id)
        return replace(found) if found is not None and found.tenant == tenant else None

    async def consents(self, tenant: str, recipient: str | None, before_id: str | None, limit: int) -> list[Consent]:
        self._reach()
        found = [c for _, c in sorted(self._store.consents.items(), reverse=True) if c.tenant == tenant]
        mine = [c for c in found if recipient in (None, c.recipient) and (before_id is None or c.id < before_id)]
        return [replace(c) for c in mine[:limit]]

    async def withdraw_consents(self, like: Consent, at: datetime, change: Change | None = None) -> list[Consent]:
        of = self._of(like.tenant, like.recipient)
        for consent in of:
            same = (consent.channel, consent.category) == (like.channel, like.category)
            if same and consent.withdrawn_at is None:
                consent.withdrawn_at = consent.changed_at = at
        self._changed(like.tenant, change)
        return [replace(c) for c in of]

    async def erase_consents(self, tenant: str, recipient: str, at: datetime) -> list[Consent]:
        of = self._of(tenant, recipient)
        for consent in of:
            consent.withdrawn_at = consent.withdrawn_at or at
            consent.address, consent.ip, consent.changed_at = None, None, at
        self._changed(tenant, None)
        return [replace(c) for c in of]

    async def consents_changed(self, since: datetime, after_id: str, limit: int) -> list[Consent]:
        self._reach()
        found = sorted(self._store.consents.values(), key=lambda c: (c.changed_at, c.id))
        return [replace(c) for c in found if (c.changed_at, c.id) > (since, after_id)][:limit]

    def _of(self, tenant: str, recipient: str) -> list[Consent]:
        self._reach()
        return [c for c in self._store.consents.values() if (c.tenant, c.recipient) == (tenant, recipient)]
