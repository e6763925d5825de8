"""A stranger becomes a customer: sign-up, the sandbox, production, each by one call.

POST /v1/signup                 -> pending (or sandbox, when sign-up is open), with a test key
PUT /v1/tenants/{id} stage      -> sandbox: the operator lets it in
POST /v1/tenants/{id}/promote   -> by the tenant: asks (or gets it, when promotion is open);
by the operator: grants; by the tenant again: collects its first live key
"""

from __future__ import annotations

from collections import deque
from typing import Final

import msgspec

from gateway.decode import decode_json
from gateway.edge import Call, Edge, Reply, author, writing
from gateway.problems import Problem, invalid, not_found
from gateway.shapes import KeyCreated, Promotion, SignupBody, SignupView, Stage
from gateway.tenants import find_tenant, name_of_tenant
from hermes.domain.address import is_email
from hermes.journal.base import ApiKey
from hermes.journal.directory import Author

HOUR_S: Final = 3600.0

_signup_body = msgspec.json.Decoder(SignupBody)


class Signup:
    """The handlers of /v1/signup and /v1/tenants/{id}/promote."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._directory = edge.directory
        self._settings = edge.settings.signup
        self._limit = edge.settings.server.max_body_bytes
        self._taken: deque[float] = deque()  # monotonic times of the last hour's sign-ups

    async def sign_up(self, call: Call) -> Reply:
        """Become a tenant in the sandbox; the key is shown this once."""
        settings = self._settings
        if settings.mode == "off":
            raise not_found("path")
        asked = decode_json(_signup_body, await call.json_body(self._limit))
        name = name_of_tenant(asked.name)
        if not is_email(asked.email):
            raise invalid("email", "is no e-mail address")
        self._take_turn()
        by = Author("signup", call.request_id)
        stage: Stage = "pending" if settings.mode == "approval" else "sandbox"
        tenant = await writing(
            self._directory.create_tenant(
                name,
                status="suspended" if stage == "pending" else "active",
                stage=stage,
                email=asked.email,
                by=by,
            )
        )
        key, text = await writing(self._directory.create_key(tenant.id, "test", by=by))
        return call.reply(201, SignupView(tenant.id, tenant.name, stage, shown(key, text)))

    async def promote(self, call: Call) -> Reply:
        """Ask for production, grant it (the operator), or collect the first live key."""
        tenant = find_tenant(call)
        await call.no_body(self._limit)
        by = author(call)
        if tenant.stage == "production":
            return call.reply(200, Promotion(tenant.id, "production", None))
        if call.caller.operator:
            granted = self._directory.update_tenant(tenant.id, stage="promoted", status="active", by=by)
            await writing(granted)
            return call.reply(200, Promotion(tenant.id, "promoted", None))
        if tenant.stage != "promoted" and self._settings.promotion != "open":
            if tenant.stage != "requested":
                await writing(self._directory.update_tenant(tenant.id, stage="requested", by=by))
            return call.reply(202, Promotion(tenant.id, "requested", None))
        made = await writing(self._directory.first_live_key(tenant.id, by=by))
        if made is None:  # another call collected it a moment ago
            return call.reply(200, Promotion(tenant.id, "production", None))
        return call.reply(201, Promotion(tenant.id, "production", shown(*made)))

    def _take_turn(self) -> None:
        """Count a sign-up.

        Raises:
            Problem: overloaded.
        """
        now = self._edge.clock.monotonic()
        taken = self._taken
        while taken and taken[0] <= now - HOUR_S:
            taken.popleft()
        if len(taken) >= self._settings.per_hour:
            wait_s = taken[0] + HOUR_S - now
            raise Problem("overloaded", "Too many have signed up in this hour.", retry_after_s=wait_s)
        taken.append(now)


def shown(key: ApiKey, text: str) -> KeyCreated:
    """Show a new key, this once."""
    return KeyCreated(key.id, text, "live" if key.mode == "live" else "test", list(key.scopes))
