"""The listening socket: start, and stop without losing a request that was read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from gateway.app import Gateway
from gateway.connection import Server
from gateway.edge import Edge
from gateway.workers.control import ControlServer

BACKLOG: Final = 1024  # connections not yet accepted
LEFT_LOOK_S: Final = 0.05
KEEP_ALIVE_S: Final = 75.0  # idle connections; longer than most load balancers wait (60 s)


class HttpServer:
    """Serves the HTTP edge on one address."""

    def __init__(
        self,
        edge: Edge,
        host: str,
        port: int,
        *,
        listener: socket.socket | None = None,
        accepting: Callable[[], Awaitable[None]] | None = None,
        control: ControlServer | None = None,
    ) -> None:
        """Prepare.

        Args:
            edge: what the gateway needs.
            host: address to listen on.
            port: 0 takes any free one; `port` tells which after `start`.
            listener: bound already, to be listened on instead; a copy is taken, and it stays open.
            accepting: awaited before the first caller is let in.
            control: serves the other workers, by the same handlers.
        """
        self._edge = edge
        self._control = control
        self.gateway = Gateway(edge)
        self.host = host
        self.port = port
        self._given = listener
        self._accepting = accepting
        self._server: Server | None = None
        self._listener: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is not ours, or taken.
        """
        server = Server(self.gateway.handle, KEEP_ALIVE_S)
        if self._control is not None:
            await self._control.start(partial(self.gateway.handle, local=True), self._edge.gone.take)
        if self._accepting is not None:
            await self._accepting()
        loop = asyncio.get_running_loop()
        if self._given is not None:
            self._listener = await loop.create_server(server, sock=self._given.dup(), backlog=BACKLOG)
        else:
            self._listener = await loop.create_server(server, self.host, self.port, backlog=BACKLOG, reuse_address=True)
        self._server = server
        sock: socket.socket = self._listener.sockets[0]
        self.port = sock.getsockname()[1]

    @property
    def connections(self) -> int:
        """Open connections, idle ones included."""
        return len(self._server.connections) if self._server is not None else 0

    async def leave(self, within_s: float) -> None:
        """Accept no more connections, and close each with its next answer. Returns once none is left.

        Args:
            within_s: seconds after which it returns all the same; those left are idle.
        """
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.gateway.closing = True
        loop = asyncio.get_running_loop()
        end = loop.time() + within_s
        while self.connections and loop.time() < end:  # noqa: ASYNC110
            await asyncio.sleep(LEFT_LOOK_S)

    async def stop(self, drain_s: float = 5.0) -> None:
        """Stop accepting, close idle connections, let running requests finish. Safe to call twice.

        Args:
            drain_s: seconds running requests may still take; after them they are cancelled.
        """
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        server, self._server = self._server, None
        if server is not None:
            server.pre_shutdown()
            await server.shutdown(drain_s)
        if self._control is not None:
            await self._control.stop()
        await self._edge.peers.close()
        self.gateway.close()
