"""Tenants, their keys and webhook endpoints: read from the journal at start, kept in memory, written through.

Every change is stored, with its row of the audit log, before it is seen; workers that share the database are told
and read the tenant again. Reads never wait.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from hermes.domain.message import rfc3339, ulid
from hermes.domain.signing import signing_secret
from hermes.journal.base import (
    ApiKey,
    Change,
    Conflict,
    Endpoint,
    Journal,
    JournalError,
    Policy,
    Template,
    Tenant,
    TenantRows,
)
from hermes.journal.rows import from_json, to_json
from hermes.runtime.clock import Clock
from hermes.tenancy import Rules, merged, rules

SCOPES = ("messages:write", "messages:read", "tenant:manage")
REFRESH_RETRY_S: Final = 1.0  # when the journal could not be read after a change elsewhere


def new_webhook_secret() -> str:
    """Make a Standard Webhooks secret: `whsec_` and 24 random bytes, base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()


@dataclass(slots=True, frozen=True)
class Author:
    """Who makes a change, for the audit log.

    Attributes:
        name: "operator", a key's id, "signup", or "hermes".
        request_id: of the HTTP request that asked for it.
    """

    name: str
    request_id: str | None = None


HERMES: Final = Author("hermes")


@dataclass(slots=True)
class _Entry:
    """A tenant and what is its own. `tenant.status` is "deleted" while its open messages still end."""

    tenant: Tenant
    keys: dict[str, ApiKey] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    policies: dict[str, Policy] = field(default_factory=dict)
    templates: dict[str, Template] = field(default_factory=dict)  # newest versions, without their bodies


class Directory:
    """Who may call, and where they want to be told.

    Invariant: what a method has returned is stored; what is in memory is stored.
    """

    def __init__(
        self, journal: Journal, clock: Clock, hash_secret: bytes, defaults: Mapping[str, Any] | None = None
    ) -> None:
        self._journal = journal
        self._defaults = defaults or {}
        self._rules: dict[str, tuple[Tenant, Rules]] = {}  # as read from that very tenant
        self._clock = clock
        self._hash_secret = hash_secret
        self._entries: dict[str, _Entry] = {}
        self._keys: dict[bytes, ApiKey] = {}  # by keyed hash
        self._changing = asyncio.Lock()  # what is read again must not be older than what is being written
        self._stale: set[str | None] = set()  # tenants that another worker changed; None: any
        self._refreshing: asyncio.Task[None] | None = None
        self.used_keys: set[str] = set()  # ids of keys that were used since `note_use`
        self.on_tenant: Callable[[str], None] = lambda tenant_id: None  # told of each new tenant, before its creator

    async def load(self) -> None:
        """Read everything, and hear of other workers' changes from now on; call once after the journal started."""
        self._journal.on_directory(self._changed_elsewhere)
        await self._read_all()

    # --- what other workers change
    def _changed_elsewhere(self, tenant_id: str | None) -> None:
        self._stale.add(tenant_id)
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._refresh(), name="directory-refresh")

    async def _refresh(self) -> None:
        while self._stale:
            stale, self._stale = self._stale, set()
            changes = self._journal.take_unseen()
            try:
                async with self._changing:
                    if None in stale:
                        await self._read_all()
                    else:
                        for tenant_id in stale:
                            if tenant_id is not None:
                                self._replace(tenant_id, await self._journal.tenant_rows(tenant_id))
                await self._journal.seen(changes)
            except JournalError:
                self._stale |= stale
                await asyncio.sleep(REFRESH_RETRY_S)

    async def _read_all(self) -> None:
        tenants = {t.id: TenantRows(t, [], []) for t in await self._journal.tenants()}
        gone = TenantRows(None, [], [])
        for key in await self._journal.keys():
            tenants.get(key.tenant, gone).keys.append(key)
        for endpoint in await self._journal.endpoints():
            tenants.get(endpoint.tenant, gone).endpoints.append(endpoint)
        for policy in await self._journal.policies():
            tenants.get(policy.tenant, gone).policies.append(policy)
        for template in await self._journal.templates():
            tenants.get(template.tenant, gone).templates.append(template)
        for tenant_id in [*self._entries, *tenants]:
            self._replace(tenant_id, tenants.get(tenant_id, gone))

    def _replace(self, tenant_id: str, rows: TenantRows) -> None:
        """Take in a tenant as it is stored now."""
        former = self._entries.get(tenant_id)
        if former is not None:
            for key in former.keys.values():
                self._keys.pop(key.key_hash, None)
        if rows.tenant is None:
            if former is not None:
                former.tenant = replace(former.tenant, status="deleted")
                former.keys.clear()
                former.endpoints.clear()
            return
        self._entries[tenant_id] = _Entry(
            rows.tenant,
            {key.id: key for key in rows.keys},
            {endpoint.id: endpoint for endpoint in rows.endpoints},
            {policy.name: policy for policy in rows.policies},
            {template.name: template for template in rows.templates},
        )
        for key in rows.keys:
            self._keys[key.key_hash] = key
        if former is None:
            self.on_tenant(tenant_id)

    def _change(
        self,
        by: Author,
        tenant_id: str,
        action: str,
        target: str,
        before: dict[str, Any] | None,
        after: dict[str, Any] | None,
    ) -> Change:
        """Say what differs, for the audit log."""
        if before is not None and after is not None:
            same = {name for name, value in before.items() if name in after and after[name] == value}
            before = {name: value for name, value in before.items() if name not in same}
            after = {name: value for name, value in after.items() if name not in same}
        now = self._clock.now()
        return Change(now, by.name, tenant_id, action, target, before, after, by.request_id)

    # --- tenants
    def tenant(self, tenant_id: str) -> Tenant | None:
        """Find a tenant that was not deleted."""
        entry = self._entries.get(tenant_id)
        return entry.tenant if entry is not None and entry.tenant.status != "deleted" else None

    def rules(self, tenant: Tenant) -> Rules:
        """Read a tenant's settings, with `[tenant_defaults]` where it has none. The same object until they change."""
        known = self._rules.get(tenant.id)
        if known is None or known[0] is not tenant:
            known = self._rules[tenant.id] = (tenant, rules(merged(self._defaults, tenant.settings)))
        return known[1]

    def tenants(self) -> list[Tenant]:
        """All tenants, oldest first."""
        found = (entry.tenant for entry in self._entries.values() if entry.tenant.status != "deleted")
        return sorted(found, key=lambda t: (t.created_at, t.id))

    def _entry(self, tenant_id: str) -> _Entry:
        entry = self._entries[tenant_id]
        if entry.tenant.status == "deleted":
            raise KeyError(tenant_id)
        return entry

    async def create_tenant(
        self,
        name: str,
        *,
        status: str = "active",
        stage: str = "production",
        email: str | None = None,
        settings: Mapping[str, Any] | None = None,
        by: Author = HERMES,
    ) -> Tenant:
        """Make a tenant with a fresh secret for its callback_url webhooks."""
        now = self._clock.now()
        tenant = Tenant(
            "ten_" + ulid(),
            name,
            status,
            now,
            new_webhook_secret(),
            settings=dict(settings or {}),
            stage=stage,
            email=email,
        )
        change = self._change(by, tenant.id, "tenant.created", tenant.id, None, _shown_tenant(tenant))
        async with self._changing:
            await self._journal.put_tenant(tenant, change)
            self._entries[tenant.id] = _Entry(tenant)
        self.on_tenant(tenant.id)
        return tenant

    async def _put_tenant(self, entry: _Entry, changed: Tenant, by: Author, action: str) -> Tenant:
        before, after = _shown_tenant(entry.tenant), _shown_tenant(changed)
        change = self._change(by, changed.id, action, changed.id, before, after)
        await self._journal.put_tenant(changed, change)
        entry.tenant = changed
        return changed

    async def update_tenant(
        self, tenant_id: str, *, settings: Mapping[str, Any] | None = None, by: Author = HERMES, **fields: Any
    ) -> Tenant:
        """Replace what is named: `name`, `status`, `stage`, `email`, and settings one by one.

        Raises:
            KeyError: no such tenant.
        """
        async with self._changing:
            entry = self._entry(tenant_id)
            changed = replace(entry.tenant, settings=merged(entry.tenant.settings, settings or {}), **fields)
            return await self._put_tenant(entry, changed, by, "tenant.updated")

    async def delete_tenant(self, tenant_id: str, *, by: Author = HERMES) -> None:
        """End a tenant and all its keys at once; its open messages still end.

        Raises:
            KeyError: no such tenant.
        """
        async with self._changing:
            entry = self._entry(tenant_id)
            ended = replace(entry.tenant, status="deleted", deleted_at=self._clock.now())
            await self._put_tenant(entry, ended, by, "tenant.deleted")
            for key in list(entry.keys.values()):  # first here: whatever the database says next, they have ended
                self._keys.pop(key.key_hash, None)
            entry.endpoints.clear()
            for key in list(entry.keys.values()):
                await self._delete_key(entry, key, by)

    async def rotate_secret(self, tenant_id: str, overlap_s: float = 86_400.0, *, by: Author = HERMES) -> Tenant:
        """Make a new callback secret; the old one signs beside it for `overlap_s` seconds.

        Raises:
            KeyError: no such tenant.
        """
        async with self._changing:
            entry = self._entry(tenant_id)
            changed = replace(
                entry.tenant,
                secret=new_webhook_secret(),
                previous_secret=entry.tenant.secret,
                previous_secret_until=self._clock.now() + timedelta(seconds=overlap_s),
            )
            return await self._put_tenant(entry, changed, by, "secret.rotated")

    # --- keys
    def hash_key(self, key: str) -> bytes:
        """Hash a key as it is stored: BLAKE2b keyed with this installation's secret; half the cost of HMAC-SHA256."""
        return hashlib.blake2b(key.encode(), key=self._hash_secret, digest_size=32).digest()

    def signing_secret(self, key: ApiKey) -> str:
        """Derive what requests with a key are signed with; the same as long as the key lives."""
        return signing_secret(self._hash_secret, key.key_hash)

    def hash_recipient(self, tenant_id: str, address: str) -> str:
        """Hash an address (as `same_recipient` writes it): what may be kept of whom something was about."""
        text = f"recipient {tenant_id} {address}".encode("utf-8", "replace")
        return hashlib.blake2b(text, key=self._hash_secret, digest_size=16).hexdigest()

    def find_key(self, key: str) -> ApiKey | None:
        """Find a key by what the caller showed. None: unknown or expired."""
        found = self._keys.get(self.hash_key(key))
        if found is not None and found.expires_at is not None and found.expires_at <= self._clock.now():
            return None
        return found

    def keys(self, tenant_id: str) -> list[ApiKey]:
        """A tenant's keys, oldest first, expired ones left out."""
        entry = self._entries.get(tenant_id)
        if entry is None:
            return []
        now = self._clock.now()
        found = (key for key in entry.keys.values() if key.expires_at is None or key.expires_at > now)
        return sorted(found, key=lambda k: (k.created_at, k.id))

    async def create_key(
        self,
        tenant_id: str,
        mode: str,
        scopes: Iterable[str] = (),
        *,
        expires_at: datetime | None = None,
        allow_from: Iterable[str] = (),
        by: Author = HERMES,
    ) -> tuple[ApiKey, str]:
        """Make a key; the second value is the key itself, shown this once. No scope named means all.

        Raises:
            KeyError: no such tenant.
        """
        async with self._changing:
            entry = self._entry(tenant_id)
            return await self._create_key(entry, mode, tuple(scopes) or SCOPES, expires_at, tuple(allow_from), by)

    async def first_live_key(self, tenant_id: str, *, by: Author = HERMES) -> tuple[ApiKey, str] | None:
        """Make the live key of a tenant that came through the sandbox, and put it in production. None: it is there.

        Raises:
            KeyError: no such tenant.
        """
        async with self._changing:
            entry = self._entry(tenant_id)
            if entry.tenant.stage == "production":
                return None
            made = await self._create_key(entry, "live", SCOPES, None, (), by)
            await self._put_tenant(entry, replace(entry.tenant, stage="production"), by, "tenant.updated")
            return made

    async def _create_key(
        self,
        entry: _Entry,
        mode: str,
        scopes: tuple[str, ...],
        expires_at: datetime | None,
        allow_from: tuple[str, ...],
        by: Author,
    ) -> tuple[ApiKey, str]:
        text = f"hk_{mode}_{secrets.token_urlsafe(32)}"
        key = ApiKey(
            id="key_" + ulid(),
            tenant=entry.tenant.id,
            key_hash=self.hash_key(text),
            prefix=text[: len(f"hk_{mode}_") + 4],
            mode=mode,
            scopes=scopes,
            created_at=self._clock.now(),
            expires_at=expires_at,
            allow_from=allow_from,
        )
        await self._put_key(entry, key, by, "key.created")
        return key, text

    async def _put_key(self, entry: _Entry, key: ApiKey, by: Author, action: str) -> None:
        former = entry.keys.get(key.id)
        before = None if former is None else _shown_key(former)
        await self._journal.put_key(key, self._change(by, key.tenant, action, key.id, before, _shown_key(key)))
        self._keys[key.key_hash] = key
        entry.keys[key.id] = key

    async def rotate_key(
        self, tenant_id: str, key_id: str, overlap_s: float, *, by: Author = HERMES
    ) -> tuple[ApiKey, str]:
        """Make a successor with the same rights; the old key ends after `overlap_s` seconds.

        Raises:
            KeyError: the tenant has no such key.
        """
        async with self._changing:
            entry = self._entry(tenant_id)
            old = entry.keys[key_id]
            new, text = await self._create_key(entry, old.mode, old.scopes, old.expires_at, old.allow_from, by)
            if overlap_s <= 0:
                await self._delete_key(entry, old, by)
            else:
                end = self._clock.now() + timedelta(seconds=overlap_s)
                ending = replace(old, expires_at=min(end, old.expires_at) if old.expires_at else end)
                await self._put_key(entry, ending, by, "key.updated")
            return new, text

    async def revoke_key(self, tenant_id: str, key_id: str, *, by: Author = HERMES) -> bool:
        """End a key at once, on every worker. False: the tenant has no such key."""
        async with self._changing:
            entry = self._entries.get(tenant_id)
            key = entry.keys.get(key_id) if entry is not None else None
            if entry is None or key is None:
                return False
            await self._delete_key(entry, key, by)
            return True

    async def _delete_key(self, entry: _Entry, key: ApiKey, by: Author) -> None:
        change = self._change(by, key.tenant, "key.revoked", key.id, _shown_key(key), None)
        await self._journal.delete_key(key.tenant, key.id, change)
        self._keys.pop(key.key_hash, None)
        entry.keys.pop(key.id, None)

    async def note_use(self) -> None:
        """Store which keys were used since the last call: one statement, however many requests there were."""
        used, self.used_keys = self.used_keys, set()
        if used:
            await self._journal.keys_used(sorted(used), self._clock.now())

    async def last_used(self, tenant_id: str) -> dict[str, datetime]:
        """Tell when a tenant's keys were last used, as far as it is stored, by id."""
        rows = await self._journal.tenant_rows(tenant_id)
        return {key.id: key.last_used_at for key in rows.keys if key.last_used_at is not None}

    # --- webhook endpoints
    def endpoints(self, tenant_id: str) -> list[Endpoint]:
        """A tenant's endpoints, oldest first, disabled ones included."""
        entry = self._entries.get(tenant_id)
        if entry is None or not entry.endpoints:
            return []
        return sorted(entry.endpoints.values(), key=lambda e: (e.created_at, e.id))

    def endpoint(self, tenant_id: str, endpoint_id: str) -> Endpoint | None:
        """Find one of a tenant's endpoints."""
        entry = self._entries.get(tenant_id)
        return entry.endpoints.get(endpoint_id) if entry is not None else None

    async def create_endpoint(
        self, tenant_id: str, url: str, events: Iterable[str], *, by: Author = HERMES
    ) -> Endpoint:
        """Add an endpoint with a fresh secret.

        Raises:
            KeyError: no such tenant.
        """
        endpoint = Endpoint("whk_" + ulid(), tenant_id, url, tuple(events), new_webhook_secret(), self._clock.now())
        async with self._changing:
            await self._put_endpoint(self._entry(tenant_id), endpoint, by, "endpoint.created")
        return endpoint

    async def _put_endpoint(self, entry: _Entry, endpoint: Endpoint, by: Author, action: str) -> None:
        former = entry.endpoints.get(endpoint.id)
        before = None if former is None else _shown_endpoint(former)
        change = self._change(by, endpoint.tenant, action, endpoint.id, before, _shown_endpoint(endpoint))
        await self._journal.put_endpoint(endpoint, change)
        entry.endpoints[endpoint.id] = endpoint

    async def disable_endpoint(self, tenant_id: str, endpoint_id: str) -> None:
        """Send nothing more to an endpoint (it answered 410)."""
        async with self._changing:
            entry = self._entries.get(tenant_id)
            endpoint = entry.endpoints.get(endpoint_id) if entry is not None else None
            if entry is not None and endpoint is not None and endpoint.disabled_at is None:
                disabled = replace(endpoint, disabled_at=self._clock.now())
                await self._put_endpoint(entry, disabled, HERMES, "endpoint.disabled")

    async def delete_endpoint(self, tenant_id: str, endpoint_id: str, *, by: Author = HERMES) -> bool:
        """Remove an endpoint. False: the tenant has no such endpoint."""
        async with self._changing:
            entry = self._entries.get(tenant_id)
            endpoint = entry.endpoints.get(endpoint_id) if entry is not None else None
            if entry is None or endpoint is None:
                return False
            change = self._change(by, tenant_id, "endpoint.deleted", endpoint_id, _shown_endpoint(endpoint), None)
            await self._journal.delete_endpoint(tenant_id, endpoint_id, change)
            del entry.endpoints[endpoint_id]
            return True

    # --- policies
    def policies(self, tenant_id: str) -> list[Policy]:
        """A tenant's policies, by name."""
        entry = self._entries.get(tenant_id)
        return [] if entry is None else sorted(entry.policies.values(), key=lambda policy: policy.name)

    def policy(self, tenant_id: str, name: str) -> Policy | None:
        """Find one of a tenant's policies."""
        entry = self._entries.get(tenant_id)
        return None if entry is None else entry.policies.get(name)

    async def put_policy(self, tenant_id: str, name: str, body: Mapping[str, Any], *, by: Author = HERMES) -> Policy:
        """Make a policy, or replace it.

        Raises:
            KeyError: no such tenant.
        """
        async with self._changing:
            entry = self._entry(tenant_id)
            former = entry.policies.get(name)
            now = self._clock.now()
            policy = Policy(tenant_id, name, to_json(body), now if former is None else former.created_at, now)
            before = None if former is None else from_json(former.body)
            action = "policy.created" if former is None else "policy.updated"
            await self._journal.put_policy(policy, self._change(by, tenant_id, action, name, before, dict(body)))
            entry.policies[name] = policy
            return policy

    async def delete_policy(self, tenant_id: str, name: str, *, by: Author = HERMES) -> bool:
        """Remove a policy; messages that were accepted with it keep their cascades. False: there is none."""
        async with self._changing:
            entry = self._entries.get(tenant_id)
            policy = None if entry is None else entry.policies.get(name)
            if entry is None or policy is None:
                return False
            change = self._change(by, tenant_id, "policy.deleted", name, from_json(policy.body), None)
            await self._journal.delete_policy(tenant_id, name, change)
            del entry.policies[name]
            return True

    # --- templates
    def templates(self, tenant_id: str) -> list[Template]:
        """A tenant's templates in their newest versions, without bodies, by name."""
        entry = self._entries.get(tenant_id)
        return [] if entry is None else sorted(entry.templates.values(), key=lambda template: template.name)

    def template(self, tenant_id: str, name: str) -> Template | None:
        """Find the newest version of one of a tenant's templates, without its body."""
        entry = self._entries.get(tenant_id)
        return None if entry is None else entry.templates.get(name)

    async def put_template(self, tenant_id: str, name: str, body: str, *, by: Author = HERMES) -> Template:
        """Add a version of a template: its first one, or one more.

        Raises:
            KeyError: no such tenant.
            Conflict: other workers add versions all the time.
        """
        async with self._changing:
            tries = 3
            while True:
                entry = self._entry(tenant_id)
                former = entry.templates.get(name)
                version = 1 if former is None else former.version + 1
                id_ = "tpl_" + ulid() if former is None else former.id
                template = Template(tenant_id, name, id_, version, body, self._clock.now())
                action = "template.created" if former is None else "template.updated"
                change = self._change(by, tenant_id, action, name, None, {"version": version})
                try:
                    await self._journal.put_template(template, change)
                except Conflict:  # another worker was faster
                    tries -= 1
                    if not tries:
                        raise
                    self._replace(tenant_id, await self._journal.tenant_rows(tenant_id))
                else:
                    entry.templates[name] = replace(template, body="")
                    return template

    async def delete_template(self, tenant_id: str, name: str, *, by: Author = HERMES) -> bool:
        """Remove a template with all its versions. False: there is none."""
        async with self._changing:
            entry = self._entries.get(tenant_id)
            template = None if entry is None else entry.templates.get(name)
            if entry is None or template is None:
                return False
            change = self._change(by, tenant_id, "template.deleted", name, {"version": template.version}, None)
            await self._journal.delete_template(tenant_id, name, change)
            del entry.templates[name]
            return True


# --- what the audit log shows: never a secret, nor what a URL may carry as one
def _shown_tenant(tenant: Tenant) -> dict[str, Any]:
    return {
        "name": tenant.name,
        "status": tenant.status,
        "stage": tenant.stage,
        "email": tenant.email,
        **tenant.settings,
    }


def _shown_key(key: ApiKey) -> dict[str, Any]:
    return {
        "prefix": key.prefix,
        "mode": key.mode,
        "scopes": list(key.scopes),
        "allow_from": list(key.allow_from),
        "expires_at": None if key.expires_at is None else rfc3339(key.expires_at),
    }


def _shown_endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "url": endpoint.url.partition("?")[0],
        "events": list(endpoint.events),
        "disabled_at": None if endpoint.disabled_at is None else rfc3339(endpoint.disabled_at),
    }
