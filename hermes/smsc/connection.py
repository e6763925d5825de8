"""One connection to the simulated centre: frames in, answers out. What a message means is `server`'s."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from carriers.smpp import constants as c
from carriers.smpp.framer import Framer
from carriers.smpp.pdu import (
    MAX_SEQUENCE_NUMBER,
    BindReceiver,
    BindTransceiver,
    BindTransmitter,
    CancelSm,
    DataSm,
    DeliverSm,
    EnquireLink,
    GenericNack,
    Pdu,
    PduError,
    QuerySm,
    SubmitSm,
    Unbind,
    decode,
    encode_answer,
    response_to,
)
from hermes.smsc.deliveries import Account, Delivery

if TYPE_CHECKING:
    from hermes.smsc.server import Smsc

UNBIND_TIMEOUT: Final = 5.0  # seconds for the ESME to answer our unbind before we close
_MODES: Final = {
    c.BIND_RECEIVER: "receiver",
    c.BIND_TRANSMITTER: "transmitter",
    c.BIND_TRANSCEIVER: "transceiver",
}
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s: the connection is reset


class Connection(asyncio.Protocol):
    """A connection, bound or not.

    Attributes:
        n: number of its bind, from 1 in the order they were made; 0 before.
        mode: "receiver", "transmitter" or "transceiver" once bound, else empty.
        account: whose bind it is; None while it is not bound.
        submits: how many came on it.
        frozen: half-open: nothing is read, nothing is written, the socket stays.
    """

    def __init__(self, smsc: Smsc) -> None:
        self._smsc = smsc
        self._transport: asyncio.Transport | None = None
        self._framer = Framer()
        self._out: list[bytes] = []
        self._held: list[bytes] = []  # frames that came before it was frozen
        self._unanswered: dict[int, Delivery] = {}
        self._sequence = 0
        self._writable = True
        self._asked_at = 0.0  # when we asked for a sign of life; 0: we did not
        self.peer = ""
        self.n = 0
        self.mode = ""
        self.account: Account | None = None
        self.submits = 0
        self.frozen = False
        self.closing = False
        self.unbinding = False
        self.opened_at = 0.0
        self.heard_at = 0.0

    # --- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if peer else ""
        self.opened_at = self.heard_at = self._smsc.now()
        self._smsc.opened(self, peer[0] if peer else "")

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self._smsc.closed(self)
        account, unanswered = self.account, list(self._unanswered.values())
        self._unanswered.clear()
        if account is not None:
            account.again(unanswered)

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._smsc.now()
        self._asked_at = 0.0
        self._handle(self._framer.feed(data))
        self._smsc.happened()

    def _handle(self, frames: list[bytes]) -> None:
        for at, frame in enumerate(frames):
            if self.closing:
                return
            if self.frozen:
                self._held += frames[at:]
                return
            self._handle_frame(frame)
        if self._framer.broken is not None and not self.closing and not self.frozen:
            self._smsc.counts["malformed"] += 1
            self.send(encode_answer(c.GENERIC_NACK, c.ESME_RINVCMDLEN, 0))
            self.close()

    def pause_writing(self) -> None:
        self._writable = False
        if self._transport is not None and not self.frozen:
            self._transport.pause_reading()  # who does not read our answers may not ask for more

    def resume_writing(self) -> None:
        self._writable = True
        if self._transport is not None and not self.frozen:
            self._transport.resume_reading()
        if self.account is not None:
            self.account.pump()

    # --- writing

    def send(self, octets: bytes) -> None:
        """Write, together with everything else of this turn of the event loop."""
        if self.closing:
            return
        if not self._out:
            self._smsc.loop.call_soon(self._flush)
        self._out.append(octets)

    def _flush(self) -> None:
        if self._out and self._transport is not None and not self.frozen and not self._transport.is_closing():
            self._transport.write(b"".join(self._out) if len(self._out) > 1 else self._out[0])
            self._out.clear()

    def answer(self, request: Pdu, status: int = c.ESME_ROK) -> None:
        """Answer a request with nothing but a status."""
        self.send(encode_answer(request.response_id, status, request.sequence_number))

    def request(self, pdu: Pdu) -> int:
        """Send a request of ours; gives its sequence_number."""
        self._sequence = self._sequence % MAX_SEQUENCE_NUMBER + 1
        pdu.sequence_number = self._sequence
        self.send(pdu.encode())
        return self._sequence

    def can_deliver(self) -> bool:
        """Tell whether a deliver_sm may be sent here now."""
        return (
            self.mode in ("receiver", "transceiver")
            and not (self.frozen or self.closing or self.unbinding)
            and self._writable
            and len(self._unanswered) < self._smsc.settings.deliver_window
        )

    def deliver(self, delivery: Delivery) -> None:
        """Send a deliver_sm and await its answer."""
        delivery.tries += 1
        delivery.sent_at = self._smsc.now()
        self._smsc.deliveries[delivery.kind]["sent"] += 1
        self._unanswered[self.request(delivery.pdu)] = delivery

    # --- ending it

    def close(self) -> None:
        """Write what there is to write, then close."""
        self._flush()
        self.closing = True
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """End the connection by a TCP reset; what was not written is gone."""
        self.closing = True
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._transport.abort()

    def unbind(self) -> None:
        """Ask the ESME to unbind; close once it has answered, or did not in 5 s."""
        if self.unbinding or self.closing:
            return
        self.unbinding = True
        self.request(Unbind())
        self._smsc.agenda.after(UNBIND_TIMEOUT, self.close)

    def freeze(self) -> None:
        """Become half-open."""
        self._flush()
        self.frozen = True
        if self._transport is not None and not self.closing:
            self._transport.pause_reading()

    def thaw(self) -> None:
        """Go on where it stood."""
        if not self.frozen:
            return
        self.frozen = False
        self.heard_at = self._smsc.now()
        if self._transport is not None and self._writable and not self.closing:
            self._transport.resume_reading()
        held, self._held = self._held, []
        self._handle(held)
        self._flush()
        if self.account is not None:
            self.account.pump()

    # --- time

    def tick(self, now: float) -> None:
        """Do what is due: time-outs, enquire_link, deliver_sm that nobody answered."""
        settings = self._smsc.settings
        if self.frozen or self.closing:
            return
        if not self.mode:
            if settings.bind_timeout_s and now - self.opened_at >= settings.bind_timeout_s:
                self.close()
            return
        if settings.inactivity_s and now - self.heard_at >= settings.inactivity_s:
            self._smsc.counts["inactive"] += 1
            self.close()
            return
        if settings.enquire_link_s:
            if not self._asked_at and now - self.heard_at >= settings.enquire_link_s:
                self._asked_at = now
                self.request(EnquireLink())
            elif self._asked_at and now - self._asked_at >= settings.enquire_link_s:
                self._smsc.counts["dead"] += 1
                self.close()
                return
        late = [seq for seq, d in self._unanswered.items() if now - d.sent_at >= settings.deliver_timeout_s]
        if late and self.account is not None:
            for seq in late:
                self._smsc.deliveries[self._unanswered[seq].kind]["again"] += 1
            self.account.again([self._unanswered.pop(seq) for seq in late])

    # --- what came

    def _handle_frame(self, frame: bytes) -> None:
        smsc = self._smsc
        try:
            pdu = decode(frame)
        except PduError as exc:
            self._handle_unreadable(exc)
            return
        handle = _HANDLERS.get(pdu.command_id)
        if handle is not None:
            handle(self, pdu)
        elif pdu.command_id in (c.DELIVER_SM_RESP, c.DATA_SM_RESP, c.GENERIC_NACK):
            self._settle(pdu.sequence_number, pdu.command_status)
        elif pdu.command_id == c.UNBIND_RESP:
            if self.unbinding:
                self.close()
        elif not pdu.command_id & c.RESPONSE:
            smsc.counts["unsupported"] += 1
            self.send(encode_answer(c.GENERIC_NACK, c.ESME_RINVCMDID, pdu.sequence_number))

    def _handle_unreadable(self, exc: PduError) -> None:
        self._smsc.counts["malformed"] += 1
        if exc.command_id & c.RESPONSE:
            self._settle(exc.sequence_number, exc.received_status)
            return
        response_id = exc.command_id | c.RESPONSE if exc.command_id in _HANDLERS else c.GENERIC_NACK
        self.send(encode_answer(response_id, exc.command_status, exc.sequence_number))

    def _settle(self, sequence_number: int, status: int) -> None:
        delivery = self._unanswered.pop(sequence_number, None)
        if delivery is None or self.account is None:
            self._smsc.counts["unknown_answers"] += 1
            return
        self.account.settle(delivery, status)
        self.account.pump()

    def _bind(self, pdu: BindReceiver | BindTransmitter | BindTransceiver) -> None:
        if self.mode:
            self.answer(pdu, c.ESME_RALYBND)
            return
        delay_s = self._smsc.settings.bind_delay_s
        if delay_s:
            self._smsc.agenda.after(delay_s, self._answer_bind, pdu)
        else:
            self._answer_bind(pdu)

    def _answer_bind(self, pdu: BindReceiver | BindTransmitter | BindTransceiver) -> None:
        if self.closing or self.mode:
            return
        smsc = self._smsc
        status = smsc.judge_bind(pdu)
        response: Any = response_to(pdu, status)
        if status:
            self.send(response.encode())
            self.close()
            return
        response.system_id = smsc.settings.smsc_id
        response.tlvs = ((c.SC_INTERFACE_VERSION, bytes((c.VERSION_34,))),)
        self.send(response.encode())
        self.mode = _MODES[pdu.command_id]
        self.account = smsc.bound(self, pdu.system_id)
        self.account.pump()

    def _submit(self, pdu: SubmitSm | DataSm) -> None:
        if self.account is None or self.mode == "receiver" or self.unbinding:
            self.answer(pdu, c.ESME_RINVBNDSTS)
            return
        self.submits += 1
        self._smsc.intake.take(self, self.account, pdu)

    def _query(self, pdu: QuerySm) -> None:
        if self.account is None or self.mode == "receiver":
            self.answer(pdu, c.ESME_RINVBNDSTS)
        else:
            self.send(self._smsc.intake.query(self.account, pdu).encode())

    def _cancel(self, pdu: CancelSm) -> None:
        if self.account is None or self.mode == "receiver":
            self.answer(pdu, c.ESME_RINVBNDSTS)
        else:
            self.answer(pdu, self._smsc.intake.cancel(self.account, pdu))

    def _refuse_replace(self, pdu: Pdu) -> None:
        self.answer(pdu, c.ESME_RREPLACEFAIL if self.account is not None else c.ESME_RINVBNDSTS)

    def _refuse_deliver(self, pdu: DeliverSm) -> None:
        self.answer(pdu, c.ESME_RINVCMDID)  # a centre sends it, and takes none

    def _unbind(self, pdu: Unbind) -> None:
        self.answer(pdu, c.ESME_ROK if self.mode else c.ESME_RINVBNDSTS)
        if self.mode:
            self.close()

    def _enquire(self, pdu: EnquireLink) -> None:
        self.answer(pdu)

    def nack(self, sequence_number: int, status: int) -> None:
        """Answer with a generic_nack."""
        self.send(GenericNack(status, sequence_number).encode())


_HANDLERS: Final[dict[int, Callable[[Connection, Any], None]]] = {
    c.BIND_RECEIVER: Connection._bind,
    c.BIND_TRANSMITTER: Connection._bind,
    c.BIND_TRANSCEIVER: Connection._bind,
    c.SUBMIT_SM: Connection._submit,
    c.DATA_SM: Connection._submit,
    c.QUERY_SM: Connection._query,
    c.CANCEL_SM: Connection._cancel,
    c.REPLACE_SM: Connection._refuse_replace,
    c.DELIVER_SM: Connection._refuse_deliver,
    c.UNBIND: Connection._unbind,
    c.ENQUIRE_LINK: Connection._enquire,
}
