"""Tenants, their keys and webhook endpoints: read from the journal at start, kept in memory, written through.

Every change is stored before it is seen. Reads never wait.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from hermes.domain.message import ulid
from hermes.journal.base import ApiKey, Endpoint, Journal, Tenant
from hermes.runtime.clock import Clock

SCOPES = ("messages:write", "messages:read", "tenant:manage")


def new_webhook_secret() -> str:
    """Make a Standard Webhooks secret: `whsec_` and 24 random bytes, base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


class Directory:
    """Who may call, and where they want to be told.

    Invariant: what a method has returned is stored; what is in memory is stored.
    """

    def __init__(self, journal: Journal, clock: Clock, hash_secret: bytes) -> None:
        self._journal = journal
        self._clock = clock
        self._hash_secret = hash_secret
        self._tenants: dict[str, Tenant] = {}
        self._keys: dict[bytes, ApiKey] = {}  # by keyed hash
        self._keys_by_id: dict[str, ApiKey] = {}
        self._endpoints: dict[str, dict[str, Endpoint]] = {}  # tenant -> id -> endpoint
        self.on_tenant: Callable[[str], None] = lambda tenant_id: None  # told of each new tenant, before its creator

    async def load(self) -> None:
        """Read everything; call once after the journal started."""
        self._tenants = {t.id: t for t in await self._journal.tenants()}
        for key in await self._journal.keys():
            self._remember_key(key)
        for endpoint in await self._journal.endpoints():
            self._endpoints.setdefault(endpoint.tenant, {})[endpoint.id] = endpoint

    # --- tenants
    def tenant(self, tenant_id: str) -> Tenant | None:
        """Find a tenant that was not deleted."""
        return self._tenants.get(tenant_id)

    def tenants(self) -> list[Tenant]:
        """All tenants, oldest first."""
        return sorted(self._tenants.values(), key=lambda t: (t.created_at, t.id))

    async def create_tenant(self, name: str) -> Tenant:
        """Make an active tenant with a fresh secret for its callback_url webhooks."""
        now = self._clock.now()
        tenant = Tenant("ten_" + ulid(), name, "active", now, new_webhook_secret())
        await self._journal.put_tenant(tenant)
        self._tenants[tenant.id] = tenant
        self.on_tenant(tenant.id)
        return tenant

    async def update_tenant(self, tenant_id: str, *, name: str | None = None, status: str | None = None) -> Tenant:
        """Replace what is named.

        Raises:
            KeyError: no such tenant.
        """
        tenant = self._tenants[tenant_id]
        changed = replace(tenant, name=name or tenant.name, status=status or tenant.status)
        await self._journal.put_tenant(changed)
        self._tenants[tenant_id] = changed
        return changed

    async def delete_tenant(self, tenant_id: str) -> None:
        """End a tenant and all its keys at once; its open messages still end.

        Raises:
            KeyError: no such tenant.
        """
        tenant = self._tenants[tenant_id]
        await self._journal.put_tenant(replace(tenant, status="deleted"))
        for key in self.keys(tenant_id):
            await self.revoke_key(key.id)
        del self._tenants[tenant_id]

    async def rotate_secret(self, tenant_id: str, overlap_s: float = 86_400.0) -> Tenant:
        """Make a new callback secret; the old one signs beside it for `overlap_s` seconds.

        Raises:
            KeyError: no such tenant.
        """
        tenant = self._tenants[tenant_id]
        changed = replace(
            tenant,
            secret=new_webhook_secret(),
            previous_secret=tenant.secret,
            previous_secret_until=self._clock.now() + timedelta(seconds=overlap_s),
        )
        await self._journal.put_tenant(changed)
        self._tenants[tenant_id] = changed
        return changed

    # --- keys
    def hash_key(self, key: str) -> bytes:
        """Hash a key as it is stored: BLAKE2b keyed with this installation's secret; half the cost of HMAC-SHA256."""
        return hashlib.blake2b(key.encode(), key=self._hash_secret, digest_size=32).digest()

    def find_key(self, key: str) -> ApiKey | None:
        """Find a key by what the caller showed. None: unknown or expired."""
        found = self._keys.get(self.hash_key(key))
        if found is not None and found.expires_at is not None and found.expires_at <= self._clock.now():
            return None
        return found

    def keys(self, tenant_id: str) -> list[ApiKey]:
        """A tenant's keys, oldest first, expired ones left out."""
        now = self._clock.now()
        return sorted(
            (
                k
                for k in self._keys_by_id.values()
                if k.tenant == tenant_id and (k.expires_at is None or k.expires_at > now)
            ),
            key=lambda k: (k.created_at, k.id),
        )

    async def create_key(
        self,
        tenant_id: str,
        mode: str,
        scopes: Iterable[str] = (),
        *,
        expires_at: datetime | None = None,
        allow_from: Iterable[str] = (),
    ) -> tuple[ApiKey, str]:
        """Make a key; the second value is the key itself, shown this once. No scope named means all."""
        text = f"hk_{mode}_{secrets.token_urlsafe(32)}"
        key = ApiKey(
            id="key_" + ulid(),
            tenant=tenant_id,
            key_hash=self.hash_key(text),
            prefix=text[: len(f"hk_{mode}_") + 4],
            mode=mode,
            scopes=tuple(scopes) or SCOPES,
            created_at=self._clock.now(),
            expires_at=expires_at,
            allow_from=tuple(allow_from),
        )
        await self._journal.put_key(key)
        self._remember_key(key)
        return key, text

    async def rotate_key(self, tenant_id: str, key_id: str, overlap_s: float) -> tuple[ApiKey, str]:
        """Make a successor with the same rights; the old key ends after `overlap_s` seconds.

        Raises:
            KeyError: the tenant has no such key.
        """
        old = self._keys_by_id[key_id]
        if old.tenant != tenant_id:
            raise KeyError(key_id)
        new, text = await self.create_key(
            tenant_id, old.mode, old.scopes, expires_at=old.expires_at, allow_from=old.allow_from
        )
        if overlap_s <= 0:
            await self.revoke_key(key_id)
        else:
            end = self._clock.now() + timedelta(seconds=overlap_s)
            ending = replace(old, expires_at=min(end, old.expires_at) if old.expires_at else end)
            await self._journal.put_key(ending)
            self._remember_key(ending)
        return new, text

    async def revoke_key(self, key_id: str) -> bool:
        """End a key at once. False: no such key."""
        key = self._keys_by_id.get(key_id)
        if key is None:
            return False
        await self._journal.delete_key(key_id)
        self._keys_by_id.pop(key_id, None)
        self._keys.pop(key.key_hash, None)
        return True

    def _remember_key(self, key: ApiKey) -> None:
        self._keys[key.key_hash] = key
        self._keys_by_id[key.id] = key

    # --- webhook endpoints
    def endpoints(self, tenant_id: str) -> list[Endpoint]:
        """A tenant's endpoints, oldest first, disabled ones included."""
        found = self._endpoints.get(tenant_id)
        return sorted(found.values(), key=lambda e: (e.created_at, e.id)) if found else []

    def endpoint(self, tenant_id: str, endpoint_id: str) -> Endpoint | None:
        """Find one of a tenant's endpoints."""
        found = self._endpoints.get(tenant_id)
        return found.get(endpoint_id) if found else None

    async def create_endpoint(self, tenant_id: str, url: str, events: Iterable[str]) -> Endpoint:
        """Add an endpoint with a fresh secret."""
        endpoint = Endpoint("whk_" + ulid(), tenant_id, url, tuple(events), new_webhook_secret(), self._clock.now())
        await self._journal.put_endpoint(endpoint)
        self._endpoints.setdefault(tenant_id, {})[endpoint.id] = endpoint
        return endpoint

    async def disable_endpoint(self, tenant_id: str, endpoint_id: str) -> None:
        """Send nothing more to an endpoint (it answered 410)."""
        endpoint = self.endpoint(tenant_id, endpoint_id)
        if endpoint is not None and endpoint.disabled_at is None:
            changed = replace(endpoint, disabled_at=self._clock.now())
            await self._journal.put_endpoint(changed)
            self._endpoints[tenant_id][endpoint_id] = changed

    async def delete_endpoint(self, tenant_id: str, endpoint_id: str) -> bool:
        """Remove an endpoint. False: the tenant has no such endpoint."""
        if self.endpoint(tenant_id, endpoint_id) is None:
            return False
        await self._journal.delete_endpoint(endpoint_id)
        del self._endpoints[tenant_id][endpoint_id]
        return True
