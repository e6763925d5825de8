"""/v1/tenants: customers, their keys, secrets, webhook endpoints and dead letters.

The operator sees and does all of it; a tenant key with tenant:manage sees its own secret, endpoints and
dead letters.
"""

from __future__ import annotations

import ipaddress
from typing import Any, cast

import msgspec

from gateway.decode import decode_json, decode_query
from gateway.edge import Call, Edge, Reply, author, reading, writing
from gateway.hosts import Hosts
from gateway.layers.settings import wrong_layers
from gateway.paging import asked_page, cut
from gateway.problems import invalid, invalid_fields, not_found
from gateway.shapes import (
    ChangePage,
    ChangeView,
    DeadLetter,
    DeadLetterPage,
    EndpointBody,
    EndpointCreated,
    EndpointPage,
    EndpointView,
    KeyBody,
    KeyCreated,
    KeyPage,
    KeyRotated,
    KeyView,
    PageQuery,
    Replayed,
    RotateBody,
    SecretView,
    TenantBody,
    TenantChange,
    TenantPage,
    TenantSettings,
    TenantView,
)
from gateway.submission import check_callback_url
from hermes.domain.address import is_email, phone_number
from hermes.domain.events import DEFAULT_WEBHOOK_TYPES
from hermes.domain.lines import has_control
from hermes.domain.message import UTC, rfc3339
from hermes.domain.webhooks import ReplayDue
from hermes.journal.base import ApiKey, Tenant
from hermes.tenancy import named

DEFAULT_OVERLAP_S = 0.0  # of a rotated key: the old one ends at once
DEFAULT_SECRET_OVERLAP_S = 86_400.0  # of a rotated secret: both sign for a day

_tenant_body = msgspec.json.Decoder(TenantBody)
_tenant_change = msgspec.json.Decoder(TenantChange)
_key_body = msgspec.json.Decoder(KeyBody)
_rotate_body = msgspec.json.Decoder(RotateBody)
_endpoint_body = msgspec.json.Decoder(EndpointBody)


class Tenants:
    """The handlers of /v1/tenants."""

    def __init__(self, edge: Edge, hosts: Hosts) -> None:
        self._edge = edge
        self._directory = edge.directory
        self._hosts = hosts
        self._limit = edge.settings.server.max_body_bytes

    # --- tenants
    async def create(self, call: Call) -> Reply:
        """Make a tenant."""
        asked = decode_json(_tenant_body, await call.json_body(self._limit))
        fields = {"name": name_of_tenant(asked.name), **_fields(asked)}
        settings = self._settings(asked, None)
        tenant = await writing(self._directory.create_tenant(settings=settings, by=author(call), **fields))
        return call.reply(201, self._view(tenant), headers=f"Location: /v1/tenants/{tenant.id}\r\n")

    async def list(self, call: Call) -> Reply:
        """List all tenants, oldest first."""
        return call.reply(200, TenantPage([self._view(tenant) for tenant in self._directory.tenants()], None))

    async def get(self, call: Call) -> Reply:
        """Show a tenant."""
        return call.reply(200, self._view(find_tenant(call)))

    async def change(self, call: Call) -> Reply:
        """Replace what the body names."""
        tenant = find_tenant(call)
        asked = decode_json(_tenant_change, await call.json_body(self._limit))
        if asked.id is not None and asked.id != tenant.id:
            raise invalid("id", "is not the id of the path, and cannot be changed")
        fields = _fields(asked)
        if asked.name is not None:
            fields["name"] = name_of_tenant(asked.name)
        if tenant.stage == "pending" and fields.get("stage", "pending") != "pending":
            fields.setdefault("status", "active")
        settings = self._settings(asked, tenant.id)
        if fields or settings:
            change = self._directory.update_tenant(tenant.id, settings=settings, by=author(call), **fields)
            tenant = await writing(change)
        return call.reply(200, self._view(tenant))

    async def delete(self, call: Call) -> Reply:
        """End a tenant: its keys end at once, its open messages still end."""
        tenant = find_tenant(call)
        await writing(self._directory.delete_tenant(tenant.id, by=author(call)))
        return done(call)

    # --- keys
    async def create_key(self, call: Call) -> Reply:
        """Make a key, and show it this once."""
        tenant = find_tenant(call)
        asked = decode_json(_key_body, await call.json_body(self._limit))
        expires_at = asked.expires_at
        if asked.mode == "live" and tenant.stage in ("pending", "sandbox", "requested"):
            raise invalid("mode", f"the tenant's stage is {tenant.stage}: promote it first")
        if expires_at is not None:
            try:
                expires_at = expires_at.astimezone(UTC)
            except OverflowError:
                raise invalid("expires_at", "is out of range") from None
            if expires_at <= self._edge.clock.now():
                raise invalid("expires_at", "has passed")
        key, text = await writing(
            self._directory.create_key(
                tenant.id,
                asked.mode,
                tuple(dict.fromkeys(asked.scopes or ())),
                expires_at=expires_at,
                allow_from=[_block(n, block) for n, block in enumerate(asked.allow_from or ())],
                by=author(call),
            )
        )
        return call.reply(201, KeyCreated(key.id, text, asked.mode, list(key.scopes)))

    async def list_keys(self, call: Call) -> Reply:
        """List a tenant's keys, without the keys."""
        tenant = find_tenant(call)
        last_used = await reading(self._directory.last_used(tenant.id))
        keys = [
            KeyView(
                key.id,
                key.prefix,
                key.mode,
                list(key.scopes),
                list(key.allow_from),
                rfc3339(key.created_at),
                rfc3339(key.expires_at) if key.expires_at is not None else None,
                rfc3339(last_used[key.id]) if key.id in last_used else None,
            )
            for key in self._directory.keys(tenant.id)
        ]
        return call.reply(200, KeyPage(keys, None))

    async def rotate_key(self, call: Call) -> Reply:
        """Make a key's successor with the same rights, and show it this once."""
        tenant = find_tenant(call)
        overlap_s = await self._overlap(call, DEFAULT_OVERLAP_S)
        rotation = self._directory.rotate_key(tenant.id, find_key(call, tenant).id, overlap_s, by=author(call))
        key, text = await writing(rotation)
        return call.reply(201, KeyRotated(key.id, text))

    async def delete_key(self, call: Call) -> Reply:
        """End a key at once."""
        tenant = find_tenant(call)
        await writing(self._directory.revoke_key(tenant.id, find_key(call, tenant).id, by=author(call)))
        return done(call)

    # --- the audit log
    async def list_changes(self, call: Call) -> Reply:
        """List what was changed of a tenant, newest first, and by whom."""
        return await self._changes(call, find_tenant(call).id)

    async def list_all_changes(self, call: Call) -> Reply:
        """List what was changed of all tenants, deleted ones included, newest first, and by whom."""
        return await self._changes(call, None)

    async def _changes(self, call: Call, tenant_id: str | None) -> Reply:
        asked = decode_query(PageQuery, call.request.query.items())
        cursor = asked.cursor
        if cursor is not None and not (cursor.isascii() and cursor.isdecimal() and len(cursor) < 19):
            raise invalid("cursor", "is no cursor of this list")
        before_id = None if cursor is None else int(cursor)
        found = await reading(self._edge.journal.changes(tenant_id, before_id, asked.limit + 1))
        page = found[: asked.limit]
        shown = [
            ChangeView(
                str(change.id),
                rfc3339(change.at),
                change.actor,
                change.request_id,
                change.tenant,
                change.action,
                change.target,
                change.before,
                change.after,
            )
            for change in page
        ]
        return call.reply(200, ChangePage(shown, shown[-1].id if len(found) > asked.limit else None))

    # --- what signs webhooks to a callback_url
    async def get_secret(self, call: Call) -> Reply:
        """Show the secret that signs webhooks to a callback_url."""
        return call.reply(200, SecretView(find_tenant(call).secret))

    async def rotate_secret(self, call: Call) -> Reply:
        """Make a new secret; the old one signs beside it for a day, or as long as `overlap_s` says."""
        tenant = find_tenant(call)
        overlap_s = await self._overlap(call, DEFAULT_SECRET_OVERLAP_S)
        changed = await writing(self._directory.rotate_secret(tenant.id, overlap_s, by=author(call)))
        return call.reply(200, SecretView(changed.secret))

    # --- webhook endpoints
    async def create_endpoint(self, call: Call) -> Reply:
        """Add a webhook endpoint, and show its secret this once."""
        tenant = find_tenant(call)
        asked = decode_json(_endpoint_body, await call.json_body(self._limit))
        await self._hosts.check(check_callback_url(asked.url, "url"), "url")
        wanted: list[str] = [*asked.events] if asked.events else sorted(DEFAULT_WEBHOOK_TYPES)
        creation = self._directory.create_endpoint(tenant.id, asked.url, dict.fromkeys(wanted), by=author(call))
        endpoint = await writing(creation)
        return call.reply(201, EndpointCreated(endpoint.id, endpoint.secret))

    async def list_endpoints(self, call: Call) -> Reply:
        """List a tenant's endpoints, without their secrets."""
        tenant = find_tenant(call)
        endpoints = [
            EndpointView(
                endpoint.id,
                endpoint.url,
                list(endpoint.events),
                rfc3339(endpoint.created_at),
                rfc3339(endpoint.disabled_at) if endpoint.disabled_at is not None else None,
            )
            for endpoint in self._directory.endpoints(tenant.id)
        ]
        return call.reply(200, EndpointPage(endpoints, None))

    async def delete_endpoint(self, call: Call) -> Reply:
        """Remove an endpoint."""
        tenant = find_tenant(call)
        deletion = self._directory.delete_endpoint(tenant.id, call.params["endpoint"], by=author(call))
        if not await writing(deletion):
            raise not_found("webhook endpoint")
        return done(call)

    # --- dead letters
    async def list_dead_letters(self, call: Call) -> Reply:
        """List webhooks that were given up, newest first."""
        tenant = find_tenant(call)
        asked = asked_page(call, PageQuery)
        found = await reading(self._edge.journal.dead_letters(tenant.id, asked.cursor, asked.limit + 1))
        page, following = cut(found, asked.limit)
        letters = [
            DeadLetter(
                item.id,
                item.message_id,
                item.seq,
                item.type,
                item.target,
                item.attempts,
                item.last_error,
                rfc3339(item.created_at),
                rfc3339(item.dead_at) if item.dead_at is not None else None,
            )
            for item in page
        ]
        return call.reply(200, DeadLetterPage(letters, following))

    async def replay_dead_letter(self, call: Call) -> Reply:
        """Send a webhook that was given up again, with all its tries."""
        tenant = find_tenant(call)
        await call.no_body(self._limit)
        letter = call.params["letter"]
        now = self._edge.clock.now()
        if not letter.isprintable() or not await writing(self._edge.journal.replay_dead_letter(tenant.id, letter, now)):
            raise not_found("dead letter")
        self._edge.system.send("webhooks", ReplayDue(tenant.id))
        return call.reply(202, Replayed(letter, rfc3339(now)))

    # --- inside
    def _view(self, tenant: Tenant) -> TenantView:
        rules = self._directory.rules(tenant)
        return TenantView(
            id=tenant.id,
            name=tenant.name,
            status=cast(Any, tenant.status),
            stage=cast(Any, tenant.stage),
            email=tenant.email,
            numbers=tenant.settings.get("numbers", []),
            rate_per_s=rules.rate_per_s,
            burst=rules.burst,
            channel_rates=rules.channel_rates,
            quotas=rules.quotas,
            require_signed_requests=rules.require_signed_requests,
            layers=rules.layers,
            retention=rules.retention,
        )

    def _settings(self, asked: TenantSettings, tenant_id: str | None) -> dict[str, Any]:
        """Read the settings a body names.

        Raises:
            Problem: schema_invalid.
        """
        settings = {name: value for name, value in named(asked).items() if name in TenantSettings.__struct_fields__}
        errors = wrong_layers(asked.layers)
        if errors:
            raise invalid_fields(errors)
        if asked.numbers is not None:
            settings["numbers"] = list(dict.fromkeys(_number(n, text) for n, text in enumerate(asked.numbers)))
            taken = {
                number
                for other in self._directory.tenants()
                if other.id != tenant_id
                for number in other.settings.get("numbers", ())
            }
            for n, number in enumerate(settings["numbers"]):
                if number in taken:
                    raise invalid(f"numbers[{n}]", "is another tenant's")
        return settings

    async def _overlap(self, call: Call, default: float) -> float:
        raw = await call.optional_body(self._limit)
        asked = decode_json(_rotate_body, raw) if raw else RotateBody()
        return default if asked.overlap_s is None else asked.overlap_s


def find_tenant(call: Call) -> Tenant:
    """Find the tenant of the path.

    Raises:
        Problem: not_found, also when it is not the caller's own.
    """
    tenant = call.edge.directory.tenant(call.params["id"])
    caller = call.caller
    if tenant is None or (caller.key is not None and caller.key.tenant != tenant.id):
        raise not_found("tenant")
    return tenant


def find_key(call: Call, tenant: Tenant) -> ApiKey:
    """Find the key of the path.

    Raises:
        Problem: not_found.
    """
    for key in call.edge.directory.keys(tenant.id):
        if key.id == call.params["key"]:
            return key
    raise not_found("key")


def _fields(asked: TenantBody | TenantChange) -> dict[str, str]:
    """Read what a body names of a tenant, but for its name and its settings."""
    if asked.email is not None and not is_email(asked.email):
        raise invalid("email", "is no e-mail address")
    named = {"status": asked.status, "stage": asked.stage, "email": asked.email}
    return {name: value for name, value in named.items() if value is not None}


def _number(n: int, text: str) -> str:
    """Normalise a number a tenant receives at: E.164, or a short code of 3 to 8 digits."""
    if text.isascii() and text.isdecimal() and 3 <= len(text) <= 8:
        return text
    number = phone_number(text)
    if number is None:
        raise invalid(f"numbers[{n}]", "is no phone number in E.164 form, and no short code of 3 to 8 digits")
    return number


def done(call: Call) -> Reply:
    """Answer 204: it is done, and there is nothing to show."""
    return Reply(204, b"", call.request_id)


def name_of_tenant(text: str) -> str:
    """Check the name of a tenant.

    Raises:
        Problem: schema_invalid.
    """
    if has_control(text) or not text.strip():
        raise invalid("name", "is blank, or holds a control character")
    return text


def _block(n: int, text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise invalid(f"allow_from[{n}]", "is no CIDR block, like 192.0.2.0/24") from None
