"""The simulated centre over HTTP: what came, and orders to it. JSON both ways; docs/smsc.md lists the paths.

It has no key: it listens where the centre does, by default on this machine only. Orders must say that they are
JSON, which a web page of another origin cannot.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import Struct

from carriers.smpp import constants as c
from hermes.errors import HermesError, SettingsError
from hermes.smsc.outcomes import MAGIC
from hermes.smsc.server import NotBound, Smsc
from hermes.smsc.settings import Drop
from hermes.smsc.texts import Concatenation, Message, Submit

MAX_BODY: Final = 1 << 20  # octets
MAX_LISTED: Final = 1_000


class _Order(Struct, forbid_unknown_fields=True):
    """An order without details."""


class _ToBind(Struct, forbid_unknown_fields=True):
    bind: int | None = None


class _Drop(Struct, forbid_unknown_fields=True):
    how: Drop = "reset"
    bind: int | None = None


class _GoAway(Struct, forbid_unknown_fields=True):
    how: Drop = "reset"
    for_s: float | None = None


class _Inbound(Struct, forbid_unknown_fields=True):
    source: str
    destination: str
    text: str
    system_id: str | None = None
    data_coding: int | None = None
    concatenation: Concatenation = "udh8"
    reference: int | None = None
    source_ton: int | None = None
    dest_ton: int = c.TON_UNKNOWN
    order: list[int] | None = None


class _Alert(Struct, forbid_unknown_fields=True):
    source: str
    esme_address: str = ""
    bind: int | None = None


class _Outbind(Struct, forbid_unknown_fields=True):
    host: str
    port: int
    password: str = ""


class _Malformed(Struct, forbid_unknown_fields=True):
    name: str = ""
    hex: str = ""
    bind: int | None = None


class Control:
    """The HTTP server beside a centre."""

    def __init__(self, smsc: Smsc) -> None:
        self._smsc = smsc
        self._returns: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        """Listen; `port` 0 takes a free one.

        Raises:
            OSError: the address cannot be had.
        """
        app = web.Application(client_max_size=MAX_BODY)
        app.add_routes(
            [
                web.get("/stats", self._stats),
                web.get("/messages", self._messages),
                web.get("/submits", self._submits),
                web.get("/magic", self._magic),
                web.get("/settings", self._settings),
                web.patch("/settings", _order(dict[str, Any], self._configure)),
                web.post("/inbound", _order(_Inbound, self._inbound)),
                web.post("/alert", _order(_Alert, self._alert)),
                web.post("/outbind", _order(_Outbind, self._outbind)),
                web.post("/malformed", _order(_Malformed, self._malformed)),
                web.post("/unbind", _order(_ToBind, self._unbind)),
                web.post("/drop", _order(_Drop, self._drop)),
                web.post("/freeze", _order(_ToBind, self._freeze)),
                web.post("/thaw", _order(_ToBind, self._thaw)),
                web.post("/go-away", _order(_GoAway, self._go_away)),
                web.post("/come-back", _order(_Order, self._come_back)),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Answer nothing more."""
        for task in self._returns:
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    # --- looking

    async def _stats(self, request: web.Request) -> web.Response:
        return _json(self._smsc.stats())

    async def _messages(self, request: web.Request) -> web.Response:
        limit, wanted = _listing(request)
        found = (
            message_document(message)
            for message in reversed(self._smsc.messages)
            if (not wanted or message.destination.endswith(wanted))
        )
        return _json({"messages": list(islice(found, limit))})

    async def _submits(self, request: web.Request) -> web.Response:
        limit, wanted = _listing(request)
        bind = request.query.get("bind", "")
        found = (
            _submit(submit)
            for submit in reversed(self._smsc.submits)
            if (not wanted or submit.pdu.destination_addr.endswith(wanted)) and (not bind or str(submit.bind) == bind)
        )
        return _json({"submits": list(islice(found, limit))})

    async def _magic(self, request: web.Request) -> web.Response:
        return _json({digits: magic.says for digits, magic in MAGIC.items()})

    async def _settings(self, request: web.Request) -> web.Response:
        shown = msgspec.to_builtins(self._smsc.settings)
        return _json({**shown, "accounts": dict.fromkeys(shown["accounts"], "***")})

    # --- orders

    async def _configure(self, changes: dict[str, Any]) -> Mapping[str, Any]:
        self._smsc.configure(**changes)
        return {}

    async def _inbound(self, order: _Inbound) -> Mapping[str, Any]:
        values = msgspec.structs.asdict(order)
        answers = self._smsc.inject_mo(values.pop("source"), values.pop("destination"), values.pop("text"), **values)
        del answers  # each part is acknowledged in its own time: see /stats
        return {}

    async def _alert(self, order: _Alert) -> Mapping[str, Any]:
        return {"connections": self._smsc.alert(order.source, order.esme_address, bind=order.bind)}

    async def _outbind(self, order: _Outbind) -> Mapping[str, Any]:
        try:
            await self._smsc.outbind(order.host, order.port, order.password)
        except (OSError, OverflowError) as exc:
            raise NotBound(f"nobody listens at {order.host} port {order.port}") from exc
        return {}

    async def _malformed(self, order: _Malformed) -> Mapping[str, Any]:
        octets: bytes | str = bytes.fromhex(order.hex) if order.hex else order.name
        return {"connections": self._smsc.inject_octets(octets, bind=order.bind)}

    async def _unbind(self, order: _ToBind) -> Mapping[str, Any]:
        return {"connections": self._smsc.unbind(bind=order.bind)}

    async def _drop(self, order: _Drop) -> Mapping[str, Any]:
        return {"connections": self._smsc.drop(order.how, bind=order.bind)}

    async def _freeze(self, order: _ToBind) -> Mapping[str, Any]:
        return {"connections": self._smsc.freeze(bind=order.bind)}

    async def _thaw(self, order: _ToBind) -> Mapping[str, Any]:
        return {"connections": self._smsc.thaw(bind=order.bind)}

    async def _go_away(self, order: _GoAway) -> Mapping[str, Any]:
        await self._smsc.go_away(order.how)
        if order.for_s is not None:
            task = asyncio.create_task(self._return_after(order.for_s))
            self._returns.add(task)
            task.add_done_callback(self._returns.discard)
        return {}

    async def _return_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._smsc.come_back()

    async def _come_back(self, order: _Order) -> Mapping[str, Any]:
        await self._smsc.come_back()
        return {}


def _order(
    shape: type[Any], carry_out: Callable[[Any], Awaitable[Mapping[str, Any]]]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Make a handler that reads an order, carries it out, and says what was wrong with it."""

    async def handle(request: web.Request) -> web.Response:
        if request.content_type != "application/json":
            return _json({"error": "Content-Type must be application/json"}, 415)
        try:
            return _json(await carry_out(msgspec.json.decode(await request.read() or b"{}", type=shape)))
        except NotBound as exc:
            return _json({"error": str(exc)}, 409)
        except (SettingsError, msgspec.DecodeError, ValueError, LookupError, TypeError) as exc:
            return _json({"error": str(exc) or type(exc).__name__}, 400)
        except HermesError as exc:  # a PduError: the order cannot be written as a PDU
            return _json({"error": str(exc)}, 400)

    return handle


def _listing(request: web.Request) -> tuple[int, str]:
    """Read what a list is asked for: at most how many, and the end of the destination."""
    limit = request.query.get("limit", "100")
    return min(int(limit), MAX_LISTED) if limit.isdecimal() else 100, request.query.get("destination", "")


def message_document(message: Message) -> dict[str, Any]:
    """Tell a message as JSON has it."""
    first = message.submits[0]
    return {
        "source": message.source,
        "destination": message.destination,
        "text": message.text,
        "parts": len(message.submits),
        "complete": message.complete,
        "message_ids": message.message_ids,
        "states": [submit.state for submit in message.submits],
        "system_id": first.system_id,
        "bind": first.bind,
        "data_coding": first.pdu.data_coding,
        "submitted_at": first.submitted_at.isoformat(),
    }


def _submit(submit: Submit) -> dict[str, Any]:
    pdu = submit.pdu
    return {
        "n": submit.n,
        "bind": submit.bind,
        "system_id": submit.system_id,
        "source": pdu.source_addr,
        "destination": pdu.destination_addr,
        "text": submit.text,
        "esm_class": pdu.esm_class,
        "data_coding": pdu.data_coding,
        "registered_delivery": pdu.registered_delivery,
        "parameters": {f"0x{tag:04X}": value.hex() for tag, value in pdu.tlvs},
        "status": c.status_name(submit.status),
        "message_id": submit.message_id,
        "state": submit.state,
        "submitted_at": submit.submitted_at.isoformat(),
        "done_at": submit.done_at.isoformat() if submit.done_at is not None else None,
    }


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
