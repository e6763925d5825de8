"""One bind as a state machine: what happens goes in, what to do comes out. It does no I/O and knows no clock.

    new -> down -> binding -> bound -> (leaving) -> down ...
                                    -> draining -> unbinding -> closed

The caller owns the socket and one timer. It calls a method for everything that happens, with the time as a
float of seconds from a monotonic clock, and carries out the outputs in order. It may throw a session away
at any time.

Invariants, held by tests/carriers/smpp/test_session_model.py:
- requests that wait for an answer never exceed `window_size`;
- each `submit` is answered exactly once by an `Answered` that is not `late`; a late one follows only
  `in_doubt`;
- between two connections there is an unbroken chain: every way out of a connection ends in `Reconnect` or
  closed;
- one bind at most is under way or in place; before bind_resp nothing but the bind (and answers) goes out;
- a delivery is acknowledged at most once, on the connection it came by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal

from carriers.smpp import constants as c
from carriers.smpp.framer import Framer
from carriers.smpp.inbound import InboundPart, read_part
from carriers.smpp.pdu import (
    NAMES,
    PDUS,
    BindReceiver,
    BindTransceiver,
    BindTransmitter,
    DataSm,
    DeliverSm,
    EnquireLink,
    Pdu,
    PduError,
    QuerySmResp,
    Unbind,
    decode,
    encode_answer,
)
from carriers.smpp.receipts import SmscReceipt, kind_of, read_receipt
from carriers.smpp.reconnect import STEADY_S, Cause, cause_of, reconnect_delay
from carriers.smpp.window import Request, Window

State = Literal["new", "down", "binding", "bound", "leaving", "draining", "unbinding", "closed"]
Outcome = Literal["accepted", "refused", "throttled", "in_doubt", "not_sent"]

LEAVING_S: Final = 2.0  # between the carrier's unbind and our closing (behaviour 24)
# Seconds. A timer set for a + b must find that b has passed: (a + b) - b may be less than a.
_HAIR: Final = 1e-6
PRESSURE: Final = frozenset({c.ESME_RTHROTTLED, c.ESME_RMSGQFUL})

_BINDS: Final[dict[str, type[BindTransceiver | BindTransmitter | BindReceiver]]] = {
    "transceiver": BindTransceiver,
    "transmitter": BindTransmitter,
    "receiver": BindReceiver,
}
_BIND_RESPONSES: Final = frozenset({c.BIND_TRANSCEIVER_RESP, c.BIND_TRANSMITTER_RESP, c.BIND_RECEIVER_RESP})
_ANSWERS: Final = frozenset(
    {
        c.SUBMIT_SM_RESP,
        c.DATA_SM_RESP,
        c.QUERY_SM_RESP,
        c.CANCEL_SM_RESP,
        c.REPLACE_SM_RESP,
    }
)
_READING: Final = frozenset({"binding", "bound", "leaving", "draining", "unbinding"})
_DELIVERING: Final = frozenset({"bound", "leaving", "draining", "unbinding"})


@dataclass(slots=True, frozen=True)
class SessionSettings:
    """What a bind needs to know. Times in seconds.

    Attributes:
        hosts: how many there are; `Reconnect.host` counts through them.
        window_size: requests without an answer; about throughput x round trip x 2 (behaviour 3).
        expiries_to_dead: time-outs of requests in a row, without any answer between, that end the connection.
        late_s: how long a request is remembered after its time-out.
        max_unacknowledged: deliveries handed out and not yet acknowledged; more are answered ESME_RMSGQFUL.
        pressure: statuses that are no verdict on the message.
    """

    system_id: str
    password: str = field(repr=False)
    bind: str = "transceiver"
    system_type: str = ""
    addr_ton: int = 0
    addr_npi: int = 0
    address_range: str = ""
    hosts: int = 1
    window_size: int = 10
    enquire_link_s: float = 20.0
    enquire_timeout_s: float = 8.0
    response_timeout_s: float = 15.0
    bind_timeout_s: float = 8.0
    reconnect_max_s: float = 30.0
    drain_s: float = 10.0
    unbind_timeout_s: float = 2.0
    expiries_to_dead: int = 5
    late_s: float = 300.0
    max_unacknowledged: int = 1_000
    receipts_without_esm_class: bool = False
    default_alphabet: str = "gsm7"
    pressure: frozenset[int] = PRESSURE


# What every message makes is not frozen: freezing costs a microsecond each. Nobody changes them.


@dataclass(slots=True)
class Send:
    """Write these octets; they are whole PDUs."""

    data: bytes


@dataclass(slots=True)
class Answered:
    """What became of a request.

    Attributes:
        outcome: accepted; refused (for certain); throttled (refused, no verdict on the message); in_doubt
            (it went and no answer came: taken or not); not_sent (for certain, nothing went).
        command_status: the carrier's; 0 when in_doubt or not_sent.
        carrier_message_id: of submit_sm_resp and data_sm_resp; empty when there is none.
        sent_at: when it went; 0.0 when it did not.
        response: of query_sm.
        late: after it was in_doubt already.
        detail: for people.
    """

    handle: object
    outcome: Outcome
    command_status: int = 0
    carrier_message_id: str = ""
    sent_at: float = 0.0
    response: QuerySmResp | None = None
    late: bool = False
    detail: str = ""


@dataclass(slots=True)
class ReceiptArrived:
    """Store it, then `acknowledge(delivery)`."""

    delivery: int
    receipt: SmscReceipt
    pdu: DeliverSm | DataSm


@dataclass(slots=True)
class InboundArrived:
    """A message from a handset, or a part of one: store it, then `acknowledge(delivery)`."""

    delivery: int
    part: InboundPart
    pdu: DeliverSm | DataSm


@dataclass(slots=True, frozen=True)
class ArmTimer:
    """Call `timer_fired` at this time. Replaces the timer armed before, and outlives connections."""

    at: float


@dataclass(slots=True, frozen=True)
class Close:
    """Close the socket once what was sent before is written; its loss need not be told."""

    reason: str


@dataclass(slots=True, frozen=True)
class Reconnect:
    """Connect to this host after so many seconds, then say `connected` or `connect_failed`."""

    after_s: float
    host: int
    reason: str


@dataclass(slots=True, frozen=True)
class StateChanged:
    """For the tree, the router and the log.

    Attributes:
        alarm: an operator should know: our account, our address, our password.
        command_status: of a refused bind, else 0.
    """

    state: State
    reason: str
    alarm: bool = False
    command_status: int = 0


Output = Send | Answered | ReceiptArrived | InboundArrived | ArmTimer | Close | Reconnect | StateChanged


class Session:
    """One bind through all its connections."""

    __slots__ = (
        "_armed_at",
        "_attempts",
        "_bind_due",
        "_bound_at",
        "_cause",
        "_deliveries",
        "_due",
        "_enquire_due",
        "_enquire_number",
        "_expiries",
        "_framer",
        "_host",
        "_last_delivery",
        "_last_read",
        "_unwell_since",
        "_window",
        "_writable",
        "counters",
        "random",
        "reason",
        "refuse_deliveries",
        "sc_interface_version",
        "settings",
        "since",
        "state",
        "tap",
    )

    def __init__(self, settings: SessionSettings, random: Callable[[], float]) -> None:
        """Start new.

        Args:
            settings: the bind's.
            random: gives 0 <= x < 1, for jitter.
        """
        self.settings = settings
        self.state: State = "new"
        self.reason = ""
        self.since = 0.0
        self.counters: Counter[str] = Counter()
        self.refuse_deliveries = False  # True: answer deliveries ESME_RMSGQFUL at once (behaviour 26)
        self.sc_interface_version: int | None = None  # of bind_resp; None: a centre of version 3.3
        # Called with "in" or "out" and each PDU; what cannot be read is its PduError.
        self.tap: Callable[[str, Pdu | PduError], None] | None = None
        self.random = random
        self._window = Window(settings.window_size, settings.late_s)
        self._framer: Framer | None = None
        self._deliveries: dict[int, tuple[int, int]] = {}  # delivery -> response id, sequence number
        self._last_delivery = 0
        self._writable = True
        self._armed_at = inf
        self._bind_due = inf
        self._due = inf  # of leaving, draining, unbinding
        self._enquire_due = inf  # of the answer to ours
        self._enquire_number = 0
        self._last_read = 0.0
        self._expiries = 0
        self._bound_at = inf
        self._unwell_since: float | None = None
        self._cause: Cause | None = None
        self._attempts = 0
        self._host = 0

    # What the dispatcher asks before it gives work.

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        return len(self._window)

    def awaits_late(self, now: float) -> bool:
        """Tell whether an answer may still come for a request that is in doubt: it would name its id."""
        return self._window.remembers(now)

    @property
    def unacknowledged(self) -> int:
        """Deliveries handed out and not acknowledged."""
        return len(self._deliveries)

    @property
    def room(self) -> int:
        """How many requests may be submitted now; 0 unless bound to send and the socket takes octets."""
        if self.state != "bound" or not self._writable or self.settings.bind == "receiver":
            return 0
        return self._window.free

    # What happens.

    def start(self, now: float) -> list[Output]:
        """Begin: the first output is a `Reconnect` at once. Does nothing the second time."""
        if self.state != "new":
            return []
        out: list[Output] = []
        self._unwell_since = now
        self._change("down", "starting", now, out)
        out.append(Reconnect(0.0, self._host, "starting"))
        return out

    def connected(self, now: float) -> list[Output]:
        """Say that the socket is open (and TLS agreed): the bind goes out."""
        if self.state != "down":
            return [Close(f"not wanted while {self.state}")]
        out: list[Output] = []
        s = self.settings
        self._window = Window(s.window_size, s.late_s)
        self._framer = Framer()
        self._writable = True
        self._expiries = 0
        self._last_read = now
        self._enquire_due = self._due = inf
        self._enquire_number = 0
        self.sc_interface_version = None
        bind = _BINDS[s.bind](
            sequence_number=self._window.number(),
            system_id=s.system_id,
            password=s.password,
            system_type=s.system_type,
            addr_ton=s.addr_ton,
            addr_npi=s.addr_npi,
            address_range=s.address_range,
        )
        self._bind_due = now + s.bind_timeout_s
        self._change("binding", "connected", now, out)
        self._send(bind, out)
        self._arm(self._bind_due, out)
        return out

    def connect_failed(self, now: float, reason: str) -> list[Output]:
        """Say that no socket could be opened."""
        if self.state != "down":
            return []
        out: list[Output] = []
        self._retry("lost", reason, now, out)
        return out

    def connection_lost(self, now: float, reason: str) -> list[Output]:
        """Say that the socket closed by itself. What waited is in doubt."""
        out: list[Output] = []
        if self.state == "binding":
            why = f"closed before bind_resp ({reason}): our address or port may not be allowed"
            self._end("closed_before_bind", why, now, out, close=False, alarm=True)
        elif self.state in _DELIVERING:
            self._end("unbound" if self.state == "leaving" else "lost", reason, now, out, close=False)
        return out

    def writable(self, now: float, yes: bool) -> list[Output]:
        """Say that the socket's buffer passed its high or its low mark (behaviour 48)."""
        self._writable = yes
        return []

    def submit(self, handle: object, pdu: Pdu, now: float) -> list[Output]:
        """Send a request: submit_sm, data_sm, query_sm, cancel_sm or replace_sm.

        Args:
            handle: given back with the answer.
            pdu: its sequence_number is set here.
            now: seconds.

        Returns:
            `Send`, or at once the `Answered` of what cannot go: not_sent without room, refused when it
            cannot be written (with the status the carrier would have given).
        """
        if self.room <= 0:
            return [Answered(handle, "not_sent", detail=self._why_no_room())]
        number = self._window.number()
        pdu.sequence_number = number
        try:
            data = pdu.encode()
        except PduError as exc:
            self.counters["unwritable"] += 1
            return [Answered(handle, "refused", exc.command_status, detail=str(exc))]
        self._window.add(number, Request(handle, pdu.response_id, now))
        if self.tap is not None:
            self.tap("out", pdu)
        due = now + self.settings.response_timeout_s
        if due < self._armed_at:
            self._armed_at = due
            return [Send(data), ArmTimer(due)]
        return [Send(data)]

    def _why_no_room(self) -> str:
        if self.state != "bound":
            return f"{self.state}: {self.reason}"
        if self.settings.bind == "receiver":
            return "a receiver sends nothing"
        return "window full" if self._writable else "socket full"

    def acknowledge(self, delivery: int, now: float, status: int = c.ESME_ROK) -> list[Output]:
        """Answer a delivery, once; nothing when its connection is gone: the carrier sends it again."""
        pending = self._deliveries.pop(delivery, None)
        if pending is None:
            return []
        out: list[Output] = [self._answer(pending[0], status, pending[1])]
        self._drained(now, out)
        return out

    def refuse_unacknowledged(self, now: float) -> list[Output]:
        """Nobody will acknowledge any more: have the carrier keep what came and what comes, and offer it again (26)."""
        self.refuse_deliveries = True
        out: list[Output] = []
        for delivery in list(self._deliveries):
            out += self.acknowledge(delivery, now, c.ESME_RMSGQFUL)
        return out

    def received(self, data: bytes, now: float) -> list[Output]:
        """Take octets from the socket."""
        framer = self._framer
        out: list[Output] = []
        if framer is None:
            return out
        for frame in framer.feed(data):
            self._last_read = now
            if self._enquire_due != inf:
                self._enquire_due = inf  # whatever it says, it is there
            try:
                pdu = decode(frame)
            except PduError as exc:
                self._unreadable(exc, now, out)
            else:
                if self.tap is not None:
                    self.tap("in", pdu)
                self._take(pdu, now, out)
            if self._framer is not framer:
                return out
        if framer.broken is not None:
            self.counters["broken_streams"] += 1
            self._end("lost", f"broken stream: {framer.broken}", now, out)
        return out

    def unbind(self, now: float) -> list[Output]:
        """Stop for good: take nothing more, wait for answers, log out, close (behaviour 25)."""
        out: list[Output] = []
        if self.state == "bound":
            self._change("draining", "stopping", now, out)
            self._due = now + self.settings.drain_s
            self._arm(self._due, out)
            self._drained(now, out)
        elif self.state in ("leaving", "binding"):
            self._end("lost", "stopping", now, out, stop=True)
        elif self.state in ("new", "down"):
            self._change("closed", "stopping", now, out)
        return out

    def timer_fired(self, now: float) -> list[Output]:
        """Do what is due, and arm the timer for what comes next."""
        out: list[Output] = []
        self._armed_at = inf
        if self.state == "binding":
            if now >= self._bind_due:
                self._end("lost", "no bind_resp in time", now, out)
        elif self.state in _DELIVERING:
            self._expire(now, out)
            if self.state in ("bound", "draining"):
                self._enquire(now, out)
            if self.state in ("leaving", "draining", "unbinding") and now >= self._due:
                self._overdue(now, out)
        self._arm(self._next_due(), out)
        return out

    # PDUs.

    def _take(self, pdu: Pdu, now: float, out: list[Output]) -> None:
        command_id = pdu.command_id
        if command_id in _ANSWERS:
            self._answered(pdu, now, out)
        elif isinstance(pdu, (DeliverSm, DataSm)):
            self._delivered(pdu, out)
        elif command_id == c.ENQUIRE_LINK:
            out.append(self._answer(c.ENQUIRE_LINK_RESP, c.ESME_ROK, pdu.sequence_number))
        elif command_id == c.ENQUIRE_LINK_RESP:
            if pdu.sequence_number == self._enquire_number:
                self._enquire_number = 0
            else:
                self.counters["unknown_answers"] += 1
        elif command_id in _BIND_RESPONSES:
            self._bind_answered(pdu, now, out)
        elif command_id == c.GENERIC_NACK:
            self._nacked(pdu, now, out)
        elif command_id == c.UNBIND:
            self._asked_to_leave(pdu, now, out)
        elif command_id == c.UNBIND_RESP:
            if self.state == "unbinding":
                self._end("lost", "unbound", now, out, stop=True)
            else:
                self.counters["unknown_answers"] += 1
        elif command_id in (c.ALERT_NOTIFICATION, c.OUTBIND):
            self.counters[NAMES[command_id]] += 1  # nothing answers them (4.12.1, 4.1.7)
        else:
            # A request only a centre takes: as unknown to us as any other.
            self.counters["unknown_commands"] += 1
            out.append(self._answer(c.GENERIC_NACK, c.ESME_RINVCMDID, pdu.sequence_number))

    def _unreadable(self, exc: PduError, now: float, out: list[Output]) -> None:
        """Answer what cannot be read, keep the link (behaviours 9 and 10)."""
        if self.tap is not None:
            self.tap("in", exc)
        if exc.broken:
            self.counters["broken_streams"] += 1
            self._end("lost", f"broken stream: {exc}", now, out)
            return
        kind = PDUS.get(exc.command_id)
        self.counters["unknown_commands" if kind is None else "unreadable"] += 1
        if kind is not None and exc.command_id & c.RESPONSE:
            # Its header tells the verdict all the same; only an id is lost.
            self._take(kind(exc.received_status, exc.sequence_number), now, out)
        elif exc.command_id & c.RESPONSE or exc.command_id in (c.ALERT_NOTIFICATION, c.OUTBIND):
            return  # an answer is never answered
        elif exc.command_id in (c.DELIVER_SM, c.DATA_SM):
            out.append(self._answer(exc.command_id | c.RESPONSE, exc.command_status, exc.sequence_number))
        else:
            out.append(self._answer(c.GENERIC_NACK, exc.command_status, exc.sequence_number))

    def _answered(self, pdu: Pdu, now: float, out: list[Output]) -> None:
        status = pdu.command_status
        request = self._window.pop(pdu.sequence_number, pdu.command_id)
        late = False
        if request is None:
            request = self._window.pop_late(pdu.sequence_number, pdu.command_id, now)
            if request is None:
                self.counters["unknown_answers"] += 1
                return
            self.counters["late_answers"] += 1
            late = True
        self._expiries = 0
        outcome: Outcome = "accepted"
        if status != c.ESME_ROK:
            outcome = "throttled" if status in self.settings.pressure else "refused"
        out.append(
            Answered(
                request.handle,
                outcome,
                status,
                getattr(pdu, "message_id", ""),
                request.sent_at,
                pdu if isinstance(pdu, QuerySmResp) else None,
                late,
            )
        )
        if not late:
            self._drained(now, out)

    def _nacked(self, pdu: Pdu, now: float, out: list[Output]) -> None:
        status = pdu.command_status
        if self.state == "binding":
            self._bind_refused(status or c.ESME_RUNKNOWNERR, now, out)
            return
        self.counters["nacks"] += 1
        request = self._window.pop(pdu.sequence_number)
        late = False
        if request is None:
            request = self._window.pop_late(pdu.sequence_number, None, now)
            late = request is not None
        if request is not None:
            outcome: Outcome = "throttled" if status in self.settings.pressure else "refused"
            status = status or c.ESME_RUNKNOWNERR  # a refusal that says "no error" is still one
            out.append(Answered(request.handle, outcome, status, "", request.sent_at, late=late, detail="generic_nack"))
        if pdu.sequence_number == 0 or pdu.command_status == c.ESME_RINVCMDLEN:
            self._end("lost", f"generic_nack {c.status_name(pdu.command_status)}: the stream is broken", now, out)
        else:
            self._drained(now, out)

    def _delivered(self, pdu: DeliverSm | DataSm, out: list[Output]) -> None:
        response_id, number = pdu.response_id, pdu.sequence_number
        if self.state not in _DELIVERING:
            out.append(self._answer(response_id, c.ESME_RINVBNDSTS, number))
            return
        if self.refuse_deliveries or len(self._deliveries) >= self.settings.max_unacknowledged:
            self.counters["deliveries_refused"] += 1
            out.append(self._answer(response_id, c.ESME_RMSGQFUL, number))
            return
        kind = kind_of(pdu, self.settings.receipts_without_esm_class)
        if kind == "acknowledgement":
            self.counters["acknowledgements"] += 1
            out.append(self._answer(response_id, c.ESME_ROK, number))
            return
        self._last_delivery += 1
        delivery = self._last_delivery
        self._deliveries[delivery] = (response_id, number)
        if kind == "inbound":
            self.counters["inbound"] += 1
            out.append(InboundArrived(delivery, read_part(pdu, self.settings.default_alphabet), pdu))
        else:
            self.counters["receipts"] += 1
            receipt = read_receipt(pdu, intermediate=kind == "intermediate")
            out.append(ReceiptArrived(delivery, receipt, pdu))

    # Binding and leaving.

    def _bind_answered(self, pdu: Pdu, now: float, out: list[Output]) -> None:
        if self.state != "binding" or pdu.command_id != _BINDS[self.settings.bind].response_id:
            self.counters["unknown_answers"] += 1
            return
        if pdu.command_status != c.ESME_ROK:
            self._bind_refused(pdu.command_status, now, out)
            return
        version = pdu.tlv(c.SC_INTERFACE_VERSION)
        self.sc_interface_version = version[0] if version else None
        self._bind_due = inf
        self._bound_at = now
        self._change("bound", "bound", now, out)
        self._arm(now + self.settings.enquire_link_s, out)

    def _bind_refused(self, status: int, now: float, out: list[Output]) -> None:
        cause = cause_of(status)
        self.counters["binds_refused"] += 1
        reason = f"bind refused: {c.status_name(status)}"
        self._end(cause, reason, now, out, alarm=cause == "refused", status=status)

    def _asked_to_leave(self, pdu: Pdu, now: float, out: list[Output]) -> None:
        out.append(self._answer(c.UNBIND_RESP, c.ESME_ROK, pdu.sequence_number))
        if self.state == "binding":
            self._end("busy", "unbind instead of bind_resp", now, out)
        elif self.state == "bound":
            self._change("leaving", "the carrier asked us to unbind", now, out)
            self._due = now + LEAVING_S
            self._arm(self._due, out)
        elif self.state == "draining":
            # It leaves, we leave: its answers may still come for as long as it would have had.
            self._change("unbinding", "the carrier asked us to unbind", now, out)
            self._due = now + self.settings.unbind_timeout_s
            self._arm(self._due, out)

    def _drained(self, now: float, out: list[Output]) -> None:
        if self.state == "draining" and not len(self._window) and not self._deliveries:
            self._log_out("nothing waits any more", now, out)

    def _log_out(self, reason: str, now: float, out: list[Output]) -> None:
        self._send(Unbind(sequence_number=self._window.number()), out)
        self._change("unbinding", reason, now, out)
        self._due = now + self.settings.unbind_timeout_s
        self._arm(self._due, out)

    def _overdue(self, now: float, out: list[Output]) -> None:
        if self.state == "leaving":
            self._end("unbound", "the carrier asked us to unbind", now, out)
        elif self.state == "draining":
            self._log_out(f"{len(self._window)} answers did not come in time", now, out)
        else:
            self._end("lost", "no unbind_resp in time", now, out, stop=True)

    def _end(
        self,
        cause: Cause,
        reason: str,
        now: float,
        out: list[Output],
        *,
        close: bool = True,
        stop: bool = False,
        alarm: bool = False,
        status: int = 0,
    ) -> None:
        """Leave a connection, for whatever reason: the one way out."""
        stop = stop or self.state in ("draining", "unbinding")
        if self.state != "binding" and now - self._bound_at >= STEADY_S:
            self._unwell_since = None
        self._framer = None
        self._bind_due = self._due = self._enquire_due = self._bound_at = inf
        self._deliveries.clear()
        for request in self._window.drain():
            out.append(Answered(request.handle, "in_doubt", sent_at=request.sent_at, detail=reason))
        if close:
            out.append(Close(reason))
        if stop:
            self._change("closed", reason, now, out, alarm, status)
        else:
            self._change("down", reason, now, out, alarm, status)
            self._retry(cause, reason, now, out)

    def _retry(self, cause: Cause, reason: str, now: float, out: list[Output]) -> None:
        if self._unwell_since is None:
            self._unwell_since = now
            self._attempts = 0
        elif cause != self._cause:
            # The first refusal after a loss starts that schedule; the fast tries after it go on where they
            # were.
            self._attempts = 1 if cause == "lost" else 0
        else:
            self._attempts += 1
        if self._attempts or self._cause not in (None, cause):
            self._host = (self._host + 1) % self.settings.hosts
        self._cause = cause
        self.reason = reason
        delay = reconnect_delay(
            cause, self._attempts, now - self._unwell_since, self.settings.reconnect_max_s, self.random()
        )
        out.append(Reconnect(delay, self._host, reason))

    # Timers.

    def _expire(self, now: float, out: list[Output]) -> None:
        expired = self._window.expire(now - self.settings.response_timeout_s + _HAIR, now)
        if not expired:
            return
        self.counters["expired"] += len(expired)
        self._expiries += len(expired)
        for request in expired:
            out.append(Answered(request.handle, "in_doubt", sent_at=request.sent_at, detail="no answer in time"))
        if self._expiries >= self.settings.expiries_to_dead and self.state == "bound":
            self._dead(f"{self._expiries} requests in a row without an answer", now, out)
        else:
            self._drained(now, out)

    def _enquire(self, now: float, out: list[Output]) -> None:
        if self._enquire_due <= now:
            self._dead("no answer to enquire_link", now, out)
        elif self._enquire_due == inf and now - self._last_read >= self.settings.enquire_link_s - _HAIR:
            self._enquire_number = self._window.number()
            self._send(EnquireLink(sequence_number=self._enquire_number), out)
            self._enquire_due = now + self.settings.enquire_timeout_s

    def _dead(self, reason: str, now: float, out: list[Output]) -> None:
        # A last unbind, should it hear us after all: otherwise our next bind finds the old one in its place
        # (19).
        self.counters["dead_links"] += 1
        self._send(Unbind(sequence_number=self._window.number()), out)
        self._end("lost", reason, now, out)

    def _next_due(self) -> float:
        if self.state == "binding":
            return self._bind_due
        if self.state not in _DELIVERING:
            return inf
        due = self._due
        oldest = self._window.oldest()
        if oldest is not None:
            due = min(due, oldest + self.settings.response_timeout_s)
        if self.state in ("bound", "draining"):
            idle = self._last_read + self.settings.enquire_link_s
            due = min(due, idle if self._enquire_due == inf else self._enquire_due)
        return due

    def _arm(self, at: float, out: list[Output]) -> None:
        if at < self._armed_at:
            self._armed_at = at
            out.append(ArmTimer(at))

    # Small things.

    def _change(
        self,
        state: State,
        reason: str,
        now: float,
        out: list[Output],
        alarm: bool = False,
        status: int = 0,
    ) -> None:
        self.state, self.reason, self.since = state, reason, now
        out.append(StateChanged(state, reason, alarm, status))

    def _send(self, pdu: Pdu, out: list[Output]) -> None:
        if self.tap is not None:
            self.tap("out", pdu)
        out.append(Send(pdu.encode()))

    def _answer(self, response_id: int, status: int, sequence_number: int) -> Send:
        if self.tap is not None:
            self.tap("out", PDUS[response_id](status, sequence_number))
        return Send(encode_answer(response_id, status, sequence_number))
