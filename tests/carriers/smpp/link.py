"""A session on a real socket, as thin as can be: it carries out what the session says and stores what comes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

from carriers.smpp.segmentation import References
from carriers.smpp.session import (
    Answered,
    ArmTimer,
    Close,
    InboundArrived,
    Output,
    ReceiptArrived,
    Reconnect,
    Send,
    Session,
    SessionSettings,
    StateChanged,
)
from carriers.smpp.submit import SubmitSettings, build_submits

PATIENCE = 10.0
T = TypeVar("T")


class Link(asyncio.Protocol):
    """One bind. `answers`, `receipts`, `inbound`, `states` hold what came, in order."""

    def __init__(self, port: int, tls: ssl.SSLContext | None, settings: SessionSettings) -> None:
        self.loop = asyncio.get_running_loop()
        self.session = Session(settings, lambda: 0.5)
        self.answers: list[Answered] = []
        self.receipts: list[ReceiptArrived] = []
        self.inbound: list[InboundArrived] = []
        self.states: list[StateChanged] = []
        self.acknowledging = True
        self._port = port
        self._tls = tls
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._references = References(datetime.now(UTC).timestamp())
        self._changed = asyncio.Event()
        self.do(self.session.start(self.loop.time()))

    # --- what happens on the socket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.do(self.session.connected(self.loop.time()))

    def data_received(self, data: bytes) -> None:
        self.do(self.session.received(data, self.loop.time()))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._transport = None
            self.do(self.session.connection_lost(self.loop.time(), str(exc or "closed")))

    async def _connect(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        try:
            await self.loop.create_connection(
                lambda: self, "127.0.0.1", self._port, ssl=self._tls, server_hostname="localhost" if self._tls else None
            )
        except OSError as exc:
            self.do(self.session.connect_failed(self.loop.time(), str(exc)))

    # --- what the session says

    def do(self, out: list[Output]) -> None:
        for o in out:
            match o:
                case Send():
                    if self._transport is not None:
                        self._transport.write(o.data)
                case Close():
                    transport, self._transport = self._transport, None
                    if transport is not None:
                        transport.close()
                case Reconnect():
                    task = self.loop.create_task(self._connect(o.after_s))
                    self._connecting.add(task)
                    task.add_done_callback(self._connecting.discard)
                case ArmTimer():
                    if self._timer is not None:
                        self._timer.cancel()
                    self._timer = self.loop.call_at(o.at, self._fire)
                case Answered():
                    self.answers.append(o)
                case ReceiptArrived():
                    self.receipts.append(o)
                    self._acknowledge(o.delivery)
                case InboundArrived():
                    self.inbound.append(o)
                    self._acknowledge(o.delivery)
                case StateChanged():
                    self.states.append(o)
        self._changed.set()

    def _fire(self) -> None:
        self.do(self.session.timer_fired(self.loop.time()))

    def _acknowledge(self, delivery: int) -> None:
        if self.acknowledging:
            self.loop.call_soon(lambda: self.do(self.session.acknowledge(delivery, self.loop.time())))

    # --- what a test does

    def submit(self, text: str, to: str = "+4520999999", sender: str = "Hermes", **settings: Any) -> int:
        """Send a message; gives its number of parts. The caller sees to the window."""
        _, submits = build_submits(text, to, sender, SubmitSettings(**settings), self._references)
        for n, pdu in enumerate(submits):
            self.do(self.session.submit((text, n), pdu, self.loop.time()))
        return len(submits)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_state(self, state: str) -> None:
        await self.until(lambda: self.session.state == state)

    async def stop(self) -> None:
        """Unbind and close."""
        self.do(self.session.unbind(self.loop.time()))
        await self.until_state("closed")
        if self._timer is not None:
            self._timer.cancel()
        for task in self._connecting:
            task.cancel()


@asynccontextmanager
async def linked(port: int, tls: ssl.SSLContext | None = None, **settings: Any) -> AsyncIterator[Link]:
    link = Link(port, tls, SessionSettings(**{"system_id": "hermes", "password": "secret", **settings}))
    try:
        yield link
    finally:
        await link.stop()
