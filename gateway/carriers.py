"""Carriers and routes for the operator: how each carrier is, orders to it, and why a message takes which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.decode import decode_json
from gateway.edge import Call, Edge, Reply
from gateway.problems import Problem, invalid_fields, not_found
from gateway.shapes import (
    CarrierPage,
    CarrierView,
    ExplainBody,
    Explanation,
    FieldError,
    MessageBody,
    Nothing,
    RoutePage,
)
from gateway.submission import build
from hermes.domain.commands import ControlCarrier, carrier_actor
from hermes.runtime import CallTimeout, NotAlive, RuntimeFault

_nothing = msgspec.json.Decoder(Nothing)
_explain = msgspec.json.Decoder(ExplainBody)
SANDBOX = "sandbox"  # built in, not set: not listed


class Carriers:
    """The handlers of /v1/carriers and /v1/routes."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def list(self, call: Call) -> Reply:
        """List the carriers, in the order of the settings."""
        data = [self.view(name) for name in self.names()]
        return call.reply(200, CarrierPage(data, None))

    async def get(self, call: Call) -> Reply:
        """Show one carrier."""
        return call.reply(200, self.view(self._known(call)))

    async def pause(self, call: Call) -> Reply:
        """Send nothing more by this carrier until it is resumed; what waits moves to the next one."""
        return await self._order(call, "pause")

    async def drain(self, call: Call) -> Reply:
        """Let what is under way end and send nothing more; what waits moves to the next carrier."""
        return await self._order(call, "drain")

    async def resume(self, call: Call) -> Reply:
        """Go on sending; also closes the breaker and lifts a stop after a refused login."""
        return await self._order(call, "resume")

    async def routes(self, call: Call) -> Reply:
        """List the routes, in order: the first that matches a message decides."""
        return call.reply(200, RoutePage(list(self._edge.settings.routes), None))

    async def explain(self, call: Call) -> Reply:
        """Tell, for one message, every candidate of each step in order, and why it is in or out."""
        edge = self._edge
        raw = await call.json_body(edge.settings.server.max_body_bytes)
        asked = decode_json(_explain, raw)
        tenant = edge.directory.tenant(asked.tenant)
        if tenant is None:
            raise invalid_fields([FieldError("tenant", "is no tenant")])
        fields = {name: getattr(asked, name) for name in MessageBody.__struct_fields__}
        errors: list[FieldError] = []
        body = MessageBody(**fields)
        message = build(body, tenant.id, "live", edge.clock.now(), edge.default_success, edge.directory.policy, errors)
        if errors:
            raise invalid_fields(errors)
        return call.reply(200, Explanation(edge.explain(message)))

    def names(self) -> Sequence[str]:
        """Name the carriers of the settings, in their order."""
        return [name for name in self._edge.carriers if name != SANDBOX]

    # --- inside
    def _known(self, call: Call) -> str:
        name = call.params["name"]
        if name not in self._edge.carriers or name == SANDBOX:
            raise not_found("carrier")
        return name

    def _actor(self, name: str) -> str:
        return carrier_actor(name, self._edge.carriers[name].kind)

    async def _order(self, call: Call, order: str) -> Reply:
        raw = await call.optional_body(self._edge.settings.server.max_body_bytes)
        if raw:
            decode_json(_nothing, raw)
        name = self._known(call)
        ref = self._edge.system.whereis(self._actor(name))
        if ref is None:
            raise Problem("overloaded", "The carrier's actor is being restarted.")
        try:
            await ref.call(ControlCarrier(order), timeout_s=1.5)
        except (CallTimeout, NotAlive, RuntimeFault) as exc:
            raise Problem("overloaded", "The carrier's actor does not answer now.") from exc
        return call.reply(200, self.view(name))

    def view(self, name: str) -> CarrierView:
        """Show one carrier as it is now."""
        edge = self._edge
        carrier = edge.carriers[name]
        try:
            info = edge.system.info(self._actor(name))
            detail: dict[str, Any] = info.detail
        except NotAlive:
            return CarrierView(name, carrier.kind, carrier.channel, state="down", reason="its actor is being restarted")
        shown = {field: detail[field] for field in CarrierView.__struct_fields__ if field in detail}
        return CarrierView(**{**shown, "name": name, "kind": carrier.kind, "channel": carrier.channel})
