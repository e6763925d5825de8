"""What the directory reads and writes of the journal, in memory: the same as `postgres_directory.py`, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime

from hermes.journal.base import VERSIONS_KEPT, ApiKey, Change, Conflict, Endpoint, Policy, Template, Tenant, TenantRows
from hermes.journal.memory_store import Store
from hermes.runtime.clock import Clock


class MemoryDirectory:
    """See `hermes.journal.base.Journal`; `MemoryJournal` is one."""

    worker_id: str
    _store: Store
    _clock: Clock
    _reach: Callable[[], None]

    def on_directory(self, callback: Callable[[str | None], None]) -> None:
        self._store.watchers.append((self.worker_id, callback))

    def take_unseen(self) -> list[str]:
        return []

    async def seen(self, changes: Sequence[str]) -> None:
        self._reach()

    def _changed(self, tenant: str, change: Change | None) -> None:
        """Store the change's row of the audit log, and tell the other workers on the next turn of the loop."""
        if change is not None:
            self._store.changes.append(replace(deepcopy(change), id=len(self._store.changes) + 1))
        for worker_id, callback in self._store.watchers:
            if worker_id != self.worker_id:
                asyncio.get_running_loop().call_soon(callback, tenant)

    async def put_tenant(self, tenant: Tenant, change: Change | None = None) -> None:
        self._reach()
        self._store.tenants[tenant.id] = deepcopy(tenant)
        self._changed(tenant.id, change)

    async def tenants(self) -> list[Tenant]:
        self._reach()
        return [deepcopy(t) for _, t in sorted(self._store.tenants.items()) if t.status != "deleted"]

    async def put_key(self, key: ApiKey, change: Change | None = None) -> None:
        self._reach()
        self._store.keys[key.id] = deepcopy(key)
        self._changed(key.tenant, change)

    async def keys(self) -> list[ApiKey]:
        self._reach()
        now = self._clock.now()
        keys = [key for _, key in sorted(self._store.keys.items())]
        return [deepcopy(key) for key in keys if key.expires_at is None or key.expires_at > now]

    async def delete_key(self, tenant: str, key_id: str, change: Change | None = None) -> bool:
        self._reach()
        key = self._store.keys.get(key_id)
        if key is None or key.tenant != tenant:
            return False
        del self._store.keys[key_id]
        self._changed(tenant, change)
        return True

    async def keys_used(self, key_ids: Sequence[str], at: datetime) -> None:
        self._reach()
        for key_id in key_ids:
            key = self._store.keys.get(key_id)
            if key is not None and (key.last_used_at is None or key.last_used_at < at):
                key.last_used_at = at

    async def put_endpoint(self, endpoint: Endpoint, change: Change | None = None) -> None:
        self._reach()
        self._store.endpoints[endpoint.id] = deepcopy(endpoint)
        self._changed(endpoint.tenant, change)

    async def endpoints(self) -> list[Endpoint]:
        self._reach()
        return [deepcopy(endpoint) for _, endpoint in sorted(self._store.endpoints.items())]

    async def delete_endpoint(self, tenant: str, endpoint_id: str, change: Change | None = None) -> bool:
        self._reach()
        endpoint = self._store.endpoints.get(endpoint_id)
        if endpoint is None or endpoint.tenant != tenant:
            return False
        del self._store.endpoints[endpoint_id]
        self._changed(tenant, change)
        return True

    async def put_policy(self, policy: Policy, change: Change | None = None) -> None:
        self._reach()
        self._store.policies[policy.tenant, policy.name] = policy
        self._changed(policy.tenant, change)

    async def policies(self) -> list[Policy]:
        self._reach()
        return [policy for _, policy in sorted(self._store.policies.items())]

    async def delete_policy(self, tenant: str, name: str, change: Change | None = None) -> bool:
        self._reach()
        if self._store.policies.pop((tenant, name), None) is None:
            return False
        self._changed(tenant, change)
        return True

    async def put_template(self, template: Template, change: Change | None = None) -> None:
        self._reach()
        versions = self._store.templates.setdefault((template.tenant, template.name), {})
        if template.version in versions:
            raise Conflict("this version is stored already")
        versions[template.version] = template
        for version in [v for v in versions if v <= template.version - VERSIONS_KEPT]:
            del versions[version]
        self._changed(template.tenant, change)

    async def templates(self) -> list[Template]:
        self._reach()
        return [replace(versions[max(versions)], body="") for _, versions in sorted(self._store.templates.items())]

    async def template(self, tenant: str, name: str, version: int) -> Template | None:
        self._reach()
        return self._store.templates.get((tenant, name), {}).get(version)

    async def delete_template(self, tenant: str, name: str, change: Change | None = None) -> bool:
        self._reach()
        if self._store.templates.pop((tenant, name), None) is None:
            return False
        self._changed(tenant, change)
        return True

    async def tenant_rows(self, tenant: str) -> TenantRows:
        return TenantRows(
            next((t for t in await self.tenants() if t.id == tenant), None),
            [key for key in await self.keys() if key.tenant == tenant],
            [endpoint for endpoint in await self.endpoints() if endpoint.tenant == tenant],
            [policy for policy in await self.policies() if policy.tenant == tenant],
            [template for template in await self.templates() if template.tenant == tenant],
        )

    async def changes(self, tenant: str | None, before_id: int | None, limit: int) -> list[Change]:
        self._reach()
        found = [
            deepcopy(change)
            for change in reversed(self._store.changes)
            if tenant in (None, change.tenant) and (before_id is None or change.id < before_id)
        ]
        return found[:limit]
