"""Consent records on PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hermes.domain.consent import Consent
from hermes.journal.base import Change
from hermes.journal.link import Link
from hermes.journal.queries import QUERIES
from hermes.journal.rows import storable


class PostgresConsents:
    """See `hermes.journal.base.Journal`; `PostgresJournal` is one."""

    _link: Link

    async def _changed(self, query: str, tenant: str, change: Change | None, *arguments: Any) -> bool:
        raise NotImplementedError  # PostgresDirectory's

    async def put_consent(self, consent: Consent, change: Change | None = None) -> None:
        await self._changed(
            "put_consent",
            consent.tenant,
            change,
            consent.id,
            consent.tenant,
            consent.channel,
            consent.category,
            consent.recipient,
            consent.address,
            consent.source,
            consent.ip,
            consent.text_version,
            consent.given_at,
            consent.created_at,
            consent.changed_at,
            consent.withdrawn_at,
        )

    async def consent(self, tenant: str, id: str) -> Consent | None:
        rows = await self._link.fetch(QUERIES["consent"], tenant, id) if storable(id) is not None else []
        return Consent(**rows[0]) if rows else None

    async def consents(self, tenant: str, recipient: str | None, before_id: str | None, limit: int) -> list[Consent]:
        if before_id is not None and storable(before_id) is None:
            return []
        rows = await self._link.fetch(QUERIES["consents"], tenant, recipient, before_id, limit)
        return [Consent(**row) for row in rows]

    async def withdraw_consents(self, like: Consent, at: datetime, change: Change | None = None) -> list[Consent]:
        scope = (like.tenant, like.recipient, like.channel, like.category)
        await self._changed("withdraw_consents", like.tenant, change, *scope, at)
        rows = await self._link.fetch(QUERIES["consents_of"], like.tenant, like.recipient)
        return [Consent(**row) for row in rows]

    async def erase_consents(self, tenant: str, recipient: str, at: datetime) -> list[Consent]:
        await self._changed("erase_consents", tenant, None, tenant, recipient, at)
        return [Consent(**row) for row in await self._link.fetch(QUERIES["consents_of"], tenant, recipient)]

    async def consents_changed(self, since: datetime, after_id: str, limit: int) -> list[Consent]:
        rows = await self._link.fetch(QUERIES["consents_changed"], since, after_id, limit)
        return [Consent(**row) for row in rows]
