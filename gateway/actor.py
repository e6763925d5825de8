"""The gateway in the tree: the last to open and the first to close."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from hermes.runtime import Actor


class Server(Protocol):
    """What the actor opens and closes (`gateway.app.HttpServer`)."""

    async def start(self) -> None:
        """Listen."""

    async def stop(self, drain_s: float) -> None:
        """Accept nothing more, let running requests finish, close."""


class GatewayActor(Actor):
    """`gateway`: holds the HTTP server's life; requests do not pass through its mailbox.

    Args:
        make: makes the server, anew at each restart.
        opened: awaited once it listens.
    """

    kind = "Gateway"

    def __init__(self, make: Callable[[], Server], opened: Callable[[Server], Awaitable[None]]) -> None:
        self._make = make
        self._opened = opened
        self._server: Server | None = None

    async def init(self) -> None:
        """Listen."""
        server = self._make()
        await server.start()
        self._server = server
        await self._opened(server)

    async def terminate(self, reason: Any) -> None:
        """Close."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(1.0)
