"""One bind: the socket, the session that says what to do with it, and the timer the session asks for.

What happens on the socket goes into the session (`carriers/smpp/session.py`, no I/O), and its outputs are carried out
here, in order. Lost sockets are no crashes: the session says when to connect again. A bug is one: the supervisor then
starts a new connection, and what was unanswered is in doubt.

The dispatcher and the binds of a carrier share a `Line` and call each other directly, in one event loop: a message
crosses no mailbox between its queue and the socket.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Callable
from functools import partial
from logging import DEBUG, getLogger
from typing import Any, Final, Protocol, cast

from actors.background import Background
from actors.context import Context
from actors.messages import ReceiptMail
from actors.shipment import Shipment
from actors.smpp_inbound import InboundParts
from carriers.smpp import constants as c
from carriers.smpp.pdu import CancelSm, Pdu, PduError
from carriers.smpp.rate import Pacer, TokenBucket, account_bucket
from carriers.smpp.receipts import read_date
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
    StateChanged,
)
from carriers.smpp_carrier import SmppCarrier, about
from hermes.domain.message import rfc3339
from hermes.logs import get_logger
from hermes.runtime import SHUTDOWN, Actor, SendResult
from hermes.runtime.clock import TimerHandle

log = get_logger("hermes.smpp")
logger = getLogger("hermes.smpp.pdu")  # asked for every PDU: structlog's would cost a microsecond to say no

KEEPALIVE_S: Final = 60  # of TCP, a second line behind enquire_link (behaviour 49)
WRITE_BUFFER: Final = 256 * 1024  # octets waiting for the socket, beyond which nothing is submitted (behaviour 48)
CLOSE_S: Final = 2.0  # for what is written to leave, before a socket is cut off
_SHOWN: Final = {
    "new": "connecting",
    "down": "connecting",
    "binding": "connecting",
    "bound": "bound",
    "leaving": "unbinding",
    "draining": "unbinding",
    "unbinding": "unbinding",
    "closed": "unbinding",
}


class Dispatcher(Protocol):
    """What a bind tells the carrier's dispatcher."""

    def answered(self, connection: ConnectionActor, answer: Answered) -> None:
        """A part was answered, or never will be."""

    def room(self) -> None:
        """There may be room on a bind."""

    def binds_changed(self) -> None:
        """A bind came up or went down."""


class Line:
    """What the dispatcher and the binds of one carrier share; it outlives each of them.

    Attributes:
        binds: those alive, in the order of their numbers.
        held: answers that came while the dispatcher was being restarted.
    """

    def __init__(self, context: Context, carrier: SmppCarrier, throughput_per_s: float) -> None:
        self.carrier = carrier
        self.inbound = InboundParts(context, carrier)
        self.account: TokenBucket | None = account_bucket(throughput_per_s) if throughput_per_s else None
        self.binds: list[ConnectionActor] = []
        self.dispatcher: Dispatcher | None = None
        self.held: list[tuple[ConnectionActor, Answered]] = []


class _Connect:
    """To itself: it is time to try this host."""

    __slots__ = ("host",)

    def __init__(self, host: int) -> None:
        self.host = host


class _Socket(asyncio.Protocol):
    """One TCP connection; cut off from the actor once the session is done with it."""

    def __init__(self, connection: ConnectionActor) -> None:
        self.connection: ConnectionActor | None = connection
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class
        self.transport = transport
        if self.connection is None:
            transport.abort()
        else:
            self.connection.socket_opened(self)

    def data_received(self, data: bytes) -> None:
        if self.connection is not None:
            self.connection.octets(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.connection is not None:
            self.connection.socket_lost("closed by the carrier" if exc is None else _why(exc))

    def pause_writing(self) -> None:
        if self.connection is not None:
            self.connection.writable(False)

    def resume_writing(self) -> None:
        if self.connection is not None:
            self.connection.writable(True)


class ConnectionActor(Actor):
    """`smpp/<carrier>/connection/<n>`: keeps one bind up, and answers for it.

    Args:
        line: the carrier's.
        n: 1.. within the carrier.
        mode: transceiver, transmitter or receiver.
    """

    kind = "Connection"

    def __init__(self, context: Context, line: Line, n: int, mode: str) -> None:
        self.n = n
        self.mode = mode
        self.session = Session(line.carrier.session_settings(mode), random.random)
        self.session.tap = self._tapped
        self.pacer = Pacer(line.carrier.settings.throughput_per_bind_s, line.account)
        self.unfinished: Shipment | None = None  # some of its parts went by this bind, the others follow
        self.refused = False  # the carrier does not let us in
        self._context = context
        self._line = line
        self._since = context.clock.now()
        self._last_error: str | None = None
        self._socket: _Socket | None = None
        self._timer: TimerHandle | None = None
        self._out: list[bytes] = []  # to be written at the end of this turn of the event loop
        self._closed = asyncio.Event()

    def init(self) -> None:
        """Begin to connect."""
        self._background = Background(self.ref)
        self._line.binds.append(self)
        self._line.binds.sort(key=lambda bind: bind.n)
        self._do(self.session.start)

    def handle(self, message: Any) -> None:
        """Connect when it is time."""
        if type(message) is not _Connect:
            raise TypeError(f"a connection does not understand {type(message).__name__}")
        self._background.run(self._connect(message.host))

    # --- for the dispatcher ---------------------------------------------------------------------------------------

    def submit(self, shipment: Shipment) -> None:
        """Send the next part of a message; the caller has asked `session.room` and `pacer`."""
        n, pdu = shipment.next()
        now = self._context.clock.monotonic()
        self.pacer.take(now)
        self._context.in_flight += 1
        self._carry_out(self.session.submit((shipment, n), pdu, now))

    def cancel(self, pdu: CancelSm) -> None:
        """Send a cancel_sm, if there is room; nobody waits for its answer."""
        if self.session.room > 0:
            self._context.in_flight += 1
            self._carry_out(self.session.submit(None, pdu, self._context.clock.monotonic()))

    # --- the socket -----------------------------------------------------------------------------------------------

    async def _connect(self, host: int) -> None:
        carrier = self._line.carrier
        settings = carrier.settings
        address, port = carrier.addresses[host]
        tls: dict[str, Any] = {}
        if carrier.tls is not None:
            tls = {"ssl": carrier.tls, "server_hostname": settings.server_name or address}
        local = None if settings.source_address is None else (settings.source_address, 0)
        try:
            async with asyncio.timeout(settings.bind_timeout_s):
                loop = asyncio.get_running_loop()
                await loop.create_connection(partial(_Socket, self), address, port, local_addr=local, **tls)
        except (OSError, TimeoutError) as exc:  # TLS errors are OSErrors
            self.refused, self._last_error = False, _why(exc)
            self._do(self.session.connect_failed, self._last_error)
            if self._line.dispatcher is not None:
                self._line.dispatcher.binds_changed()

    def socket_opened(self, opened: _Socket) -> None:
        """The socket is open, and TLS agreed."""
        self._cut()
        self._socket = opened
        transport = opened.transport
        assert transport is not None
        transport.set_write_buffer_limits(high=WRITE_BUFFER)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_KEEPIDLE"):
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_S)
        self._do(self.session.connected)

    def octets(self, data: bytes) -> None:
        """Octets came."""
        try:
            self._carry_out(self.session.received(data, self._context.clock.monotonic()))
        except Exception as exc:  # a bug: the supervisor is told, and the event loop is not
            self.ref.stop(exc)
            return
        dispatcher = self._line.dispatcher
        if dispatcher is not None:
            dispatcher.room()

    def socket_lost(self, reason: str) -> None:
        """The socket closed by itself."""
        self._socket = None
        self._do(self.session.connection_lost, reason)

    def writable(self, yes: bool) -> None:
        """The socket's buffer passed a mark."""
        self._do(self.session.writable, yes)

    def _cut(self) -> None:
        """Be done with the socket: what is written leaves, nothing is heard of it any more."""
        self._flush()
        was, self._socket = self._socket, None
        if was is not None and was.transport is not None:
            was.connection = None
            was.transport.close()
            self._context.clock.call_later(CLOSE_S, was.transport.abort)

    # --- the session ----------------------------------------------------------------------------------------------

    def _do(self, event: Callable[..., list[Output]], *what: Any) -> None:
        """Tell the session what happened, and carry out what it says."""
        try:
            self._carry_out(event(self._context.clock.monotonic(), *what))
        except Exception as exc:
            self.ref.stop(exc)
            return
        dispatcher = self._line.dispatcher
        if dispatcher is not None:
            dispatcher.room()

    def _carry_out(self, outputs: list[Output]) -> None:
        for output in outputs:
            kind = type(output)
            if kind is Send:
                self._write(output.data)  # type: ignore[union-attr]
            elif kind is Answered:
                self._answered(output)  # type: ignore[arg-type]
            elif kind is ReceiptArrived:
                self._receipt(output)  # type: ignore[arg-type]
            elif kind is ArmTimer:
                self._arm(output.at)  # type: ignore[union-attr]
            elif kind is StateChanged:
                self._changed(output)  # type: ignore[arg-type]
            elif kind is Close:
                self._cut()
            elif kind is Reconnect:
                self.send_after(output.after_s, _Connect(output.host), coarse=False)  # type: ignore[union-attr]
            else:
                self._inbound(output)  # type: ignore[arg-type]

    def _tapped(self, direction: str, pdu: Pdu | PduError) -> None:
        """Show a PDU to whoever traces this carrier (its repr has no text and no whole number)."""
        if logger.isEnabledFor(DEBUG):
            facts = {"actor": self.ref.name, "carrier": self._line.carrier.name, "bind": self.n}
            facts |= {"direction": direction, "pdu": repr(pdu)}
            carrier_message_id = getattr(pdu, "message_id", None)
            if carrier_message_id:
                facts["carrier_message_id"] = carrier_message_id
            logger.debug("pdu", extra=facts)

    def log_facts(self) -> dict[str, str]:
        """Name the carrier."""
        return {"carrier": self._line.carrier.name}

    def _write(self, data: bytes) -> None:
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if not self._out:
            return
        out, self._out = self._out, []
        if self._socket is not None and self._socket.transport is not None:
            self._socket.transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        clock = self._context.clock
        self._timer = clock.call_later(max(0.0, at - clock.monotonic()), self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        self._do(self.session.timer_fired)

    def _answered(self, answer: Answered) -> None:
        if not answer.late:
            self._context.in_flight -= 1
        if answer.handle is None:
            return
        if self._line.dispatcher is None:
            self._line.held.append((self, answer))
        else:
            self._line.dispatcher.answered(self, answer)

    def _changed(self, change: StateChanged) -> None:
        state = self.session.state
        self._since = self._context.clock.now()
        if state == "bound":
            self.refused = False
            log.info("bound", carrier=self._line.carrier.name, bind=self.n, mode=self.mode)
        elif state == "down" and change.reason != "starting":
            self.refused = change.alarm
            status = change.command_status
            self._last_error = c.status_name(status) if status else change.reason
            say = log.error if change.alarm else log.warning
            say("bind is down", carrier=self._line.carrier.name, bind=self.n, mode=self.mode, reason=change.reason)
        elif state == "closed":
            self._closed.set()
        if self._line.dispatcher is not None:
            self._line.dispatcher.binds_changed()

    # --- what the carrier delivers --------------------------------------------------------------------------------

    def _receipt(self, arrived: ReceiptArrived) -> None:
        carrier = self._line.carrier
        said = arrived.receipt
        receipt = said.delivery_receipt(carrier.name, None, carrier.errors.receipt(said.error_code))
        if receipt is None:  # it changes nothing, or names no message; refused, it would come for ever (behaviour 32)
            self._acknowledge(arrived.delivery, c.ESME_ROK)
            return
        receipt.about = about(arrived.pdu.source_addr, arrived.pdu.destination_addr)  # from the handset's side
        receipt.submitted_at = read_date(said.submit_date)
        mail = ReceiptMail(
            receipt,
            partial(self._stored, arrived.delivery),
            keys=tuple(carrier.ids.candidates(*said.message_ids)),
            matched=partial(self._matched, said.message_ids),
        )
        if self._context.system.send("dlr", mail) != SendResult.DELIVERED:
            self._stored(arrived.delivery, False)

    def _matched(self, message_ids: tuple[str, ...], key: str | None) -> None:
        """Learn in which form this carrier writes its ids."""
        if key is None:
            self._line.carrier.ids.missed()
        else:
            self._line.carrier.ids.learn(key, *message_ids)

    def _stored(self, delivery: int, stored: bool) -> None:
        """Acknowledge what is stored; the rest the carrier keeps, and offers again (behaviour 26)."""
        self._acknowledge(delivery, c.ESME_ROK if stored else c.ESME_RMSGQFUL)

    def _acknowledge(self, delivery: int, status: int) -> None:
        self._carry_out(self.session.acknowledge(delivery, self._context.clock.monotonic(), status))

    def _inbound(self, arrived: InboundArrived) -> None:
        self._line.inbound.take(arrived.part, partial(self._acknowledge, arrived.delivery))

    # --- ending and showing ---------------------------------------------------------------------------------------

    async def terminate(self, reason: Any) -> None:
        """Log out when the node stops (behaviour 25); else what is unanswered is in doubt."""
        if reason is SHUTDOWN:
            now = self._context.clock.monotonic()
            if self._context.draining:  # the node stops, and who stores receipts and messages has ended before
                self._carry_out(self.session.refuse_unacknowledged(now))
            self._carry_out(self.session.unbind(now))
            await self._closed.wait()  # the session's own timers see to it
        else:
            self._carry_out(self.session.connection_lost(self._context.clock.monotonic(), "the connection failed"))
        self._cut()
        self._background.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._line.binds.remove(self)
        if self._line.dispatcher is not None:
            self._line.dispatcher.binds_changed()

    def why_down(self) -> str:
        """Say in a few words why it is not bound."""
        return self._last_error or self.session.reason

    def view(self) -> dict[str, Any]:
        """Show the bind as `/v1/carriers` does."""
        session = self.session
        state = "refused" if self.refused and session.state == "down" else _SHOWN[session.state]
        return {
            "n": self.n,
            "mode": self.mode,
            "state": state,
            "since": rfc3339(self._since),
            "in_flight": session.in_flight,
            "window_size": session.settings.window_size,
            "last_error": self._last_error,
        }

    def inspect(self) -> dict[str, Any]:
        """Show the bind, its pace and what it has counted."""
        rate = self.pacer.controller.rate(self._context.clock.monotonic())
        return {
            **self.view(),
            "reason": self.session.reason,
            "allowed_per_s": None if rate == float("inf") else round(rate, 1),
            "throttled": self.pacer.controller.throttled,
            "unacknowledged": self.session.unacknowledged,
            "counters": dict(self.session.counters),
        }


def _why(exc: BaseException) -> str:
    """Say why a connection could not be made, or was lost, without addresses."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"certificate: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError):
        return f"TLS: {exc.reason or 'failed'}"
    if isinstance(exc, TimeoutError):
        return "no connection in time"
    if isinstance(exc, ConnectionRefusedError):
        return "connection refused"
    if isinstance(exc, ConnectionResetError):
        return "reset by the carrier"
    if isinstance(exc, socket.gaierror):
        return "its host name cannot be resolved"
    return (exc.strerror if isinstance(exc, OSError) and exc.strerror else type(exc).__name__).lower()
