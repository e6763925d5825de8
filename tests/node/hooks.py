"""A customer's end of webhooks: an HTTP server in the test's own process that keeps what it is told."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import web

from tests.node.harness import free_port

ALLOW = "allow_private_callbacks = true"  # in [server]: the customer lives on this machine


class Told(NamedTuple):
    """One call of a webhook."""

    id: str
    type: str
    message_id: str
    headers: Mapping[str, str]
    raw: bytes


@dataclass
class Customer:
    """Takes webhooks at `url`; answers `status`."""

    port: int = field(default_factory=free_port)
    told: list[Told] = field(default_factory=list)
    by_message: dict[str, list[Told]] = field(default_factory=dict)
    status: int = 200

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def _take(self, request: web.Request) -> web.Response:
        raw = await request.read()
        body: dict[str, Any] = json.loads(raw)
        told = Told(request.headers["webhook-id"], body["type"], body["data"].get("id", ""), dict(request.headers), raw)
        self.told.append(told)
        self.by_message.setdefault(told.message_id, []).append(told)
        return web.Response(status=self.status)

    def of(self, message_id: str) -> list[Told]:
        return self.by_message.get(message_id, [])

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/hook", self._take)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True).start()
            yield
        finally:
            await runner.cleanup()
