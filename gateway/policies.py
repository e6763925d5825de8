"""/v1/tenants/{id}/policies: cascades that a tenant stored, to be named by its messages."""

from __future__ import annotations

import msgspec

from gateway.decode import decode_json
from gateway.edge import Call, Edge, Reply, author, writing
from gateway.problems import invalid, not_found
from gateway.shapes import PolicyBody, PolicyChange, PolicyFields, PolicyPage, PolicyView
from gateway.submission import policy_fields
from gateway.tenants import done, find_tenant
from hermes.domain.message import rfc3339
from hermes.journal.base import Policy

MOST_POLICIES = 1_000  # of one tenant

_policy_body = msgspec.json.Decoder(PolicyBody)
_policy_change = msgspec.json.Decoder(PolicyChange)


class Policies:
    """The handlers of /v1/tenants/{id}/policies."""

    def __init__(self, edge: Edge) -> None:
        self._directory = edge.directory
        self._limit = edge.settings.server.max_body_bytes

    async def create(self, call: Call) -> Reply:
        """Store a policy."""
        tenant = find_tenant(call)
        asked = decode_json(_policy_body, await call.json_body(self._limit))
        if self._directory.policy(tenant.id, asked.name) is not None:
            raise invalid("name", "is taken: PUT replaces a policy")
        if len(self._directory.policies(tenant.id)) >= MOST_POLICIES:
            raise invalid("name", f"a tenant has at most {MOST_POLICIES} policies")
        policy = await writing(
            self._directory.put_policy(tenant.id, asked.name, _stored(asked), by=author(call)),
        )
        return call.reply(201, _view(policy), headers=f"Location: /v1/tenants/{tenant.id}/policies/{policy.name}\r\n")

    async def list(self, call: Call) -> Reply:
        """List a tenant's policies, by name."""
        return call.reply(200, PolicyPage([_view(p) for p in self._directory.policies(find_tenant(call).id)], None))

    async def get(self, call: Call) -> Reply:
        """Show a policy."""
        return call.reply(200, _view(self._policy(call)))

    async def change(self, call: Call) -> Reply:
        """Replace a policy; messages that were accepted with it stay as they are."""
        former = self._policy(call)
        asked = decode_json(_policy_change, await call.json_body(self._limit))
        if asked.name is not None and asked.name != former.name:
            raise invalid("name", "is not the name of the path, and cannot be changed")
        change = self._directory.put_policy(former.tenant, former.name, _stored(asked), by=author(call))
        return call.reply(200, _view(await writing(change)))

    async def delete(self, call: Call) -> Reply:
        """Remove a policy; messages that were accepted with it stay as they are."""
        tenant = find_tenant(call)
        if not await writing(self._directory.delete_policy(tenant.id, call.params["policy"], by=author(call))):
            raise not_found("policy")
        return done(call)

    def _policy(self, call: Call) -> Policy:
        policy = self._directory.policy(find_tenant(call).id, call.params["policy"])
        if policy is None:
            raise not_found("policy")
        return policy


def _stored(asked: PolicyFields) -> dict[str, object]:
    """Write a policy as it is stored: JSON values, without its name."""
    fields: dict[str, object] = msgspec.to_builtins(asked)
    return {name: fields[name] for name in PolicyFields.__struct_fields__}


def _view(policy: Policy) -> PolicyView:
    stored = policy_fields(policy.body)
    return PolicyView(
        policy.name,
        stored.cascade,
        stored.category,
        stored.expires_in_s,
        stored.on_ambiguous,
        rfc3339(policy.created_at),
        rfc3339(policy.updated_at),
    )
