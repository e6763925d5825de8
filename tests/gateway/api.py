"""A real HttpServer over the real cast, and a client that keeps what came back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from actors import gauges
from actors.context import CarrierPlan
from actors.routing import explained
from gateway.edge import Edge
from gateway.limits.accepted import Accepted
from gateway.limits.base import Limits
from gateway.limits.local import LocalLimits
from gateway.server import HttpServer
from gateway.workers.control import ControlServer
from hermes.settings import ServerSettings, Settings, SignupSettings
from tests.actors.cast import SECRET, CastNode, start_cast

OPERATOR = "operator"
SMS = {"channel": "sms", "to": "+4520123456", "content": {"text": "Hi"}}


class Answer:
    """What came back: status, headers, and the body, as JSON where it is."""

    def __init__(self, status: int, headers: Any, raw: bytes) -> None:
        self.status, self.headers, self.raw = status, headers, raw

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def code(self) -> str:
        return str(self.json["code"])

    @property
    def fields(self) -> list[str]:
        return [error["field"] for error in self.json.get("errors", ())]


class Api:
    """Calls the server; as the tenant's live key unless told otherwise."""

    def __init__(self, node: CastNode, session: aiohttp.ClientSession, server: HttpServer, edge: Edge) -> None:
        self.node, self.session, self.server, self.edge = node, session, server, edge
        self.url = f"http://127.0.0.1:{server.port}"
        self.live = self.test = ""

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "live",
        raw: bytes | None = None,
        **headers: str,
    ) -> Answer:
        """Send one request.

        Args:
            key: "live", "test", "operator", a key's own text, or None for no key.
            raw: the body's octets, when it is no JSON value.
        """
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            token = {"live": self.live, "test": self.test}.get(key, key)
            sent.setdefault("Authorization", f"Bearer {token}")
        data = raw if raw is not None else json.dumps(body).encode() if body is not None else None
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(method, self.url + path, data=data, headers=sent) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def send(self, body: Any = None, **more: Any) -> Answer:
        """POST /v1/messages; a plain SMS when no body is given."""
        return await self.call("POST", "/v1/messages", SMS if body is None else body, **more)

    async def sent(self, body: Any = None, **more: Any) -> str:
        """Send a message that is accepted; returns its id."""
        answer = await self.send(body, **more)
        assert answer.status == 202, answer.raw
        return str(answer.json["id"])

    async def new_key(self, mode: str = "live", tenant: str | None = None, **more: Any) -> str:
        """Make a key; returns its text."""
        path = f"/v1/tenants/{tenant or self.node.tenant}/keys"
        answer = await self.call("POST", path, {"mode": mode, **more}, key=OPERATOR)
        assert answer.status == 201, answer.raw
        return str(answer.json["key"])


async def start_api(
    carriers: Sequence[CarrierPlan] | None = None,
    *,
    server: dict[str, Any] | None = None,
    ready: Callable[[], bool] | None = None,
    resolve: Any = None,
    journal: Any = None,
    signup: SignupSettings | None = None,
    limits: Limits | None = None,
    **settings: Any,
) -> Api:
    """Start a node and its HTTP edge. `server` are settings of [server], `settings` fields of the context."""
    node = await start_cast(carriers, journal, **settings)
    gauges.measure(node.context)
    edge = Edge(
        settings=Settings(server=ServerSettings(port=0, **(server or {})), signup=signup or SignupSettings()),
        system=node.system,
        journal=node.journal,
        directory=node.context.directory,
        suppressions=node.context.suppressions,
        limits=limits
        or LocalLimits(node.context.clock.monotonic, Accepted(node.journal.accepted, node.context.clock.monotonic)),
        clock=node.context.clock,
        operator_key=OPERATOR,
        ready=ready or (lambda: node.journal.available),
        default_success=lambda channel, mode: "delivered",
        carriers=node.fleet.callbacks,
        fleet=node.fleet,
        metrics=node.context.metrics,
        explain=lambda message: explained(node.context.routes, message),
        new_message_id=node.context.shards.new_message_id,
        resolve=resolve,
    )
    control = ControlServer(Path(node.folder.name) / "control", node.journal.worker_id)
    http = HttpServer(edge, "127.0.0.1", 0, control=control)
    await http.start()
    await node.journal.announce(control.url)
    api = Api(node, aiohttp.ClientSession(), http, edge)
    for mode in ("live", "test"):
        _, text = await node.context.directory.create_key(node.tenant, mode)
        setattr(api, mode, text)
    return api


async def stop_api(api: Api) -> None:
    """Close the client, the edge and the node, in this order."""
    await api.session.close()
    await api.server.stop()
    await api.node.stop()


__all__ = ["OPERATOR", "SECRET", "SMS", "Answer", "Api", "start_api", "stop_api"]
