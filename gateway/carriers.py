"""Carriers and routes for the operator: how each is, changes and orders to it, and why a message takes which."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from gateway.decode import decode_any, decode_json, has_nul
from gateway.edge import Call, Edge, Reply, writing
from gateway.problems import Problem, invalid, invalid_fields, not_found
from gateway.shapes import (
    CarrierPage,
    CarrierView,
    ExplainBody,
    Explanation,
    FieldError,
    MessageBody,
    RoutePage,
)
from gateway.submission import build
from gateway.templates import Shelf
from gateway.workers import figures
from gateway.workers.peers import ORDER_WITHIN_S, Told
from hermes.domain.commands import ControlCarrier, Listed, carrier_actor
from hermes.runtime import CallTimeout, NotAlive, RuntimeFault

_ORDERS: Final = {"paused": "pause", "draining": "drain"}

_explain = msgspec.json.Decoder(ExplainBody)


class Carriers:
    """The handlers of /v1/carriers and /v1/routes."""

    def __init__(self, edge: Edge, shelf: Shelf) -> None:
        self._edge = edge
        self._shelf = shelf

    async def list(self, call: Call) -> Reply:
        """List the carriers: those of the settings file in its order, then those added while the node runs."""
        own = [self.view(carrier) for carrier in self._edge.fleet.listed()]
        others = await call.others()
        if not others:
            return call.reply(200, CarrierPage(own, None))
        parts = [own]
        for told in await self._edge.peers.ask_all(others, "GET", "/v1/carriers"):
            page = told.read(CarrierPage)
            if page is not None:
                parts.append(page.data)
        return call.reply(200, CarrierPage(figures.carriers(parts), None))

    async def add(self, call: Call) -> Reply:
        """Add a carrier, with the keys of `[[carrier]]`; it serves at once. Secrets are kept encrypted, never shown."""
        name = await writing(self._edge.fleet.add(await self._settings(call)))
        return call.reply(201, self.view(self._named(name)), f"Location: /v1/carriers/{name}\r\n")

    async def get(self, call: Call) -> Reply:
        """Show one carrier."""
        own = self.view(self._known(call))
        told = await self._edge.peers.ask_all(await call.others(), "GET", call.request.raw_path)
        return call.reply(200, _joined(own, told))

    async def change(self, call: Call) -> Reply:
        """Replace what is named of a carrier's settings; what waits for it and what is under way goes on."""
        name = self._known(call).name
        await writing(self._edge.fleet.change(name, await self._settings(call)))
        return call.reply(200, self.view(self._named(name)))

    async def remove(self, call: Call) -> Reply:
        """Remove a carrier: what waits moves to the next one, calls under way end, late receipts are still taken."""
        await writing(self._edge.fleet.remove(self._known(call).name))
        return Reply(204, b"", call.request_id)

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
        return call.reply(200, RoutePage(self._edge.fleet.routes(), None))

    async def set_routes(self, call: Call) -> Reply:
        """Replace the live routes; they are looked at before those of the settings file."""
        raw = await call.json_body(self._edge.settings.server.max_body_bytes)
        entries = decode_any(raw)
        if isinstance(entries, dict) and set(entries) <= {"data", "next_cursor"}:
            if entries.get("next_cursor") is not None:
                raise invalid("next_cursor", "is null: routes have one page")
            entries = entries.get("data")
        if not isinstance(entries, list):
            raise invalid("data", "must be a list of routes")
        await writing(self._edge.fleet.set_routes(entries))
        return await self.routes(call)

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
        await self._shelf.fill_in(body, tenant.id, errors)
        message = build(body, tenant.id, "live", edge.clock.now(), edge.default_success, edge.directory.policy, errors)
        if errors:
            raise invalid_fields(errors)
        return call.reply(200, Explanation(edge.explain(message)))

    async def take_over_orders(self) -> None:
        """Hold the carriers that an operator holds on any other worker: this one has just come, and heard no order."""
        peers = self._edge.peers
        held: dict[str, str] = {}
        for told in await peers.ask_all(await peers.others(), "GET", "/v1/carriers"):
            page = told.read(CarrierPage)
            if page is not None:
                held |= {view.name: _ORDERS[view.state] for view in page.data if view.state in _ORDERS}
        for carrier in self._edge.fleet.listed():
            if carrier.name in held and carrier.off is None:
                with suppress(Problem):  # its actor is being restarted: it comes back as it is then
                    await self._obey(carrier, held[carrier.name])

    # --- inside
    async def _settings(self, call: Call) -> dict[str, Any]:
        raw = await call.json_body(self._edge.settings.server.max_body_bytes)
        entry = decode_any(raw)
        if not isinstance(entry, dict):
            raise invalid("body", "must be an object")
        nul = has_nul(entry)
        if nul is not None:
            raise invalid(nul, "holds a NUL character")
        return entry

    def _known(self, call: Call) -> Listed:
        return self._named(call.params["name"])

    def _named(self, name: str) -> Listed:
        for carrier in self._edge.fleet.listed():
            if carrier.name == name:
                return carrier
        raise not_found("carrier")

    async def _order(self, call: Call, order: str) -> Reply:
        await call.no_body(self._edge.settings.server.max_body_bytes)
        carrier = self._known(call)
        if carrier.off is not None:
            raise invalid("name", f"this carrier is off: {carrier.off}")
        peers, others = self._edge.peers, await call.others()
        obeying = asyncio.ensure_future(
            peers.ask_all(others, call.method, call.request.raw_path, within_s=ORDER_WITHIN_S)
        )
        try:
            await self._obey(carrier, order)
        finally:
            told = await obeying
        left = [one.worker.id for one in told if one.status not in (200, 404)]  # 404: it does not know the carrier yet
        if left:
            raise Problem("overloaded", f"The order holds on the other workers; not obeyed by: {', '.join(left)}.")
        return call.reply(200, _joined(self.view(carrier), told))

    async def _obey(self, carrier: Listed, order: str) -> None:
        ref = self._edge.system.whereis(carrier_actor(carrier.name, carrier.kind))
        if ref is None:
            raise Problem("overloaded", "The carrier's actor is being restarted.")
        try:
            await ref.call(ControlCarrier(order), timeout_s=1.5)
        except (CallTimeout, NotAlive, RuntimeFault) as exc:
            raise Problem("overloaded", "The carrier's actor does not answer now.") from exc

    def view(self, carrier: Listed) -> CarrierView:
        """Show one carrier as it is now."""
        view = CarrierView(carrier.name, carrier.kind, carrier.channel, carrier.tenant, state="down")
        if carrier.off is not None:
            view.reason = carrier.off
            return view
        try:
            detail = self._edge.system.info(carrier_actor(carrier.name, carrier.kind)).detail
        except NotAlive:
            view.reason = "its actor is being restarted"
            return view
        for field in ("state", "since", "reason", "breaker", "queue", "queue_age_s", "in_flight", "sent", "failed",
                      "rate_per_s", "binds"):  # fmt: skip
            if field in detail:
                setattr(view, field, detail[field])
        return view


def _joined(own: CarrierView, told: Sequence[Told]) -> CarrierView:
    """Show a carrier as it is on this worker and on those that answered."""
    views = [own, *(view for one in told if (view := one.read(CarrierView)) is not None)]
    return figures.carrier(views) if len(views) > 1 else own
