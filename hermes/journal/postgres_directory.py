"""Tenants, keys, endpoints, policies and templates on PostgreSQL: what the directory reads and writes of the journal.

A change, its row of the audit log and the news for the other workers are one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final

from hermes.domain.message import ulid
from hermes.journal.base import (
    NEWS_SEEN,
    VERSIONS_KEPT,
    ApiKey,
    Change,
    Endpoint,
    Policy,
    Template,
    Tenant,
    TenantRows,
)
from hermes.journal.link import Link
from hermes.journal.queries import QUERIES
from hermes.journal.rows import from_json, storable, to_json
from hermes.runtime.clock import Clock

DIRECTORY_CHANNEL: Final = "hermes_directory"  # NOTIFY: "<worker that changed it> <tenant> <name of the change>"
SEEN_WITHIN_S: Final = 1.0  # what the other workers have to come to a change, before its caller is answered


class PostgresDirectory:
    """See `hermes.journal.base.Journal`; `PostgresJournal` is one."""

    worker_id: str
    _link: Link
    _clock: Clock
    _on_directory: list[Callable[[str | None], None]]
    _unseen: list[str]
    _awaited: dict[str, tuple[set[str], asyncio.Semaphore]]
    _living: int
    _news: Callable[[str, str], tuple[str, str, str]]
    _tell_one: Callable[[str, str], Awaitable[bool]]

    def on_directory(self, callback: Callable[[str | None], None]) -> None:
        self._on_directory.append(callback)

    def _told_of_directory(self, payload: str | None) -> None:
        worker, _, rest = (payload or "").partition(" ")
        tenant, _, name = rest.partition(" ")
        if worker != self.worker_id:
            if name:
                self._unseen.append(f"{worker} {name}")
            for callback in self._on_directory:
                callback(tenant or None)

    def take_unseen(self) -> list[str]:
        unseen, self._unseen = self._unseen, []
        return unseen

    async def seen(self, changes: Sequence[str]) -> None:
        heard = await asyncio.gather(*(self._tell_one(NEWS_SEEN, change) for change in changes))
        changes = [change for change, there in zip(changes, heard, strict=True) if not there]
        if changes:
            async with self._link.borrow() as connection, connection.transaction():
                for change in changes:
                    await connection.execute(*self._news(NEWS_SEEN, change))

    def _seen_elsewhere(self, teller: str, detail: str) -> None:
        """Another worker goes by a change; it may be told twice, over the bus and by NOTIFY."""
        worker, _, name = detail.partition(" ")
        waiting = self._awaited.get(name) if worker == self.worker_id else None
        if waiting is not None and teller not in waiting[0]:
            waiting[0].add(teller)
            waiting[1].release()

    async def _changed(self, query: str, tenant: str, change: Change | None, *arguments: Any) -> bool:
        """Carry out a change. False: no row was there to be changed, and nothing is told or noted."""
        others, name = self._living - 1, ulid()
        seen = asyncio.Semaphore(0)
        self._awaited[name] = (set(), seen)
        try:
            if not await self._store_change(query, tenant, change, arguments, name):
                return False
            # Whoever was told that it is done finds it done at every worker; one that hangs is not waited for long.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SEEN_WITHIN_S):
                    for _ in range(others):
                        await seen.acquire()
        finally:
            del self._awaited[name]
        return True

    async def _store_change(
        self, query: str, tenant: str, change: Change | None, arguments: tuple[Any, ...], name: str
    ) -> bool:
        async with self._link.borrow() as connection, connection.transaction():
            if not await connection.fetch(QUERIES[query], *arguments):
                return False
            if change is not None:
                await connection.execute(
                    QUERIES["put_change"],
                    change.at,
                    change.actor,
                    change.request_id,
                    change.tenant,
                    change.action,
                    change.target,
                    None if change.before is None else to_json(change.before),
                    None if change.after is None else to_json(change.after),
                )
            await connection.execute("SELECT pg_notify($1, $2)", DIRECTORY_CHANNEL, f"{self.worker_id} {tenant} {name}")
        return True

    # --- tenants
    async def put_tenant(self, tenant: Tenant, change: Change | None = None) -> None:
        await self._changed(
            "put_tenant",
            tenant.id,
            change,
            tenant.id,
            tenant.name,
            tenant.status,
            tenant.created_at,
            tenant.secret,
            tenant.previous_secret,
            tenant.previous_secret_until,
            to_json(tenant.settings),
            tenant.stage,
            tenant.email,
            tenant.deleted_at,
        )

    async def tenants(self) -> list[Tenant]:
        return [_tenant(row) for row in await self._link.fetch(QUERIES["tenants"])]

    # --- keys
    async def put_key(self, key: ApiKey, change: Change | None = None) -> None:
        await self._changed(
            "put_key",
            key.tenant,
            change,
            key.id,
            key.tenant,
            key.key_hash,
            key.prefix,
            key.mode,
            list(key.scopes),
            key.created_at,
            key.expires_at,
            list(key.allow_from),
            key.last_used_at,
        )

    async def keys(self) -> list[ApiKey]:
        return [_key(row) for row in await self._link.fetch(QUERIES["keys"], self._clock.now())]

    async def delete_key(self, tenant: str, key_id: str, change: Change | None = None) -> bool:
        return storable(key_id) is not None and await self._changed("delete_key", tenant, change, tenant, key_id)

    async def keys_used(self, key_ids: Sequence[str], at: datetime) -> None:
        await self._link.fetch(QUERIES["keys_used"], list(key_ids), at)

    # --- webhook endpoints
    async def put_endpoint(self, endpoint: Endpoint, change: Change | None = None) -> None:
        await self._changed(
            "put_endpoint",
            endpoint.tenant,
            change,
            endpoint.id,
            endpoint.tenant,
            endpoint.url,
            list(endpoint.events),
            endpoint.secret,
            endpoint.created_at,
            endpoint.disabled_at,
        )

    async def endpoints(self) -> list[Endpoint]:
        return [_endpoint(row) for row in await self._link.fetch(QUERIES["endpoints"])]

    async def delete_endpoint(self, tenant: str, endpoint_id: str, change: Change | None = None) -> bool:
        if storable(endpoint_id) is None:
            return False
        return await self._changed("delete_endpoint", tenant, change, tenant, endpoint_id)

    # --- policies
    async def put_policy(self, policy: Policy, change: Change | None = None) -> None:
        await self._changed(
            "put_policy",
            policy.tenant,
            change,
            policy.tenant,
            policy.name,
            policy.body,
            policy.created_at,
            policy.updated_at,
        )

    async def policies(self) -> list[Policy]:
        return [Policy(**row) for row in await self._link.fetch(QUERIES["policies"])]

    async def delete_policy(self, tenant: str, name: str, change: Change | None = None) -> bool:
        return storable(name) is not None and await self._changed("delete_policy", tenant, change, tenant, name)

    # --- templates
    async def put_template(self, template: Template, change: Change | None = None) -> None:
        await self._changed(
            "put_template",
            template.tenant,
            change,
            template.tenant,
            template.name,
            template.id,
            template.version,
            template.body,
            template.created_at,
            template.version - VERSIONS_KEPT,
        )

    async def templates(self) -> list[Template]:
        return [Template(**row) for row in await self._link.fetch(QUERIES["templates"])]

    async def template(self, tenant: str, name: str, version: int) -> Template | None:
        rows = await self._link.fetch(QUERIES["template"], tenant, name, version)
        return Template(**rows[0]) if rows else None

    async def delete_template(self, tenant: str, name: str, change: Change | None = None) -> bool:
        return storable(name) is not None and await self._changed("delete_template", tenant, change, tenant, name)

    # --- all of one tenant, and what was changed
    async def tenant_rows(self, tenant: str) -> TenantRows:
        async with self._link.borrow() as connection, connection.transaction(isolation="repeatable_read"):
            tenants = await connection.fetch(QUERIES["tenant_by_id"], tenant)
            keys = await connection.fetch(QUERIES["tenant_keys"], tenant, self._clock.now())
            endpoints = await connection.fetch(QUERIES["tenant_endpoints"], tenant)
            policies = await connection.fetch(QUERIES["tenant_policies"], tenant)
            templates = await connection.fetch(QUERIES["tenant_templates"], tenant)
        return TenantRows(
            _tenant(tenants[0]) if tenants else None,
            [_key(row) for row in keys],
            [_endpoint(row) for row in endpoints],
            [Policy(**row) for row in policies],
            [Template(**row) for row in templates],
        )

    async def changes(self, tenant: str | None, before_id: int | None, limit: int) -> list[Change]:
        name = "all_changes" if tenant is None else "changes"
        scope = () if tenant is None else (tenant,)
        rows = await self._link.fetch(QUERIES[name], *scope, before_id, limit)
        return [Change(**{**row, "before": _json(row["before"]), "after": _json(row["after"])}) for row in rows]


def _tenant(row: Any) -> Tenant:
    return Tenant(**{**row, "settings": from_json(row["settings"])})


def _key(row: Any) -> ApiKey:
    return ApiKey(**{**row, "scopes": tuple(row["scopes"]), "allow_from": tuple(row["allow_from"])})


def _endpoint(row: Any) -> Endpoint:
    return Endpoint(**{**row, "events": tuple(row["events"])})


def _json(text: str | None) -> Any:
    return None if text is None else from_json(text)
