"""Drives a session by hand: keeps its time, its timer and its connection, and sorts what it asks for."""

from __future__ import annotations

from carriers.smpp import pdu as p
from carriers.smpp.framer import Framer
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


class Driver:
    """What an actor would do, without a socket."""

    def __init__(self, *, random=lambda: 0.5, **settings):
        self.session = Session(SessionSettings("hermes", "secret", **settings), random)
        self.now = 1_000.0
        self.timer: float | None = None
        self.sent: list[p.Pdu] = []
        self.answers: list[Answered] = []
        self.receipts: list[ReceiptArrived] = []
        self.inbound: list[InboundArrived] = []
        self.closes: list[Close] = []
        self.reconnects: list[Reconnect] = []
        self.states: list[StateChanged] = []

    def do(self, out: list[Output]) -> list[Output]:
        for o in out:
            match o:
                case Send():
                    self.sent += [p.decode(frame) for frame in Framer().feed(o.data)]
                case Answered():
                    self.answers.append(o)
                case ReceiptArrived():
                    self.receipts.append(o)
                case InboundArrived():
                    self.inbound.append(o)
                case Close():
                    self.closes.append(o)
                case Reconnect():
                    self.reconnects.append(o)
                case StateChanged():
                    self.states.append(o)
                case ArmTimer():
                    self.timer = o.at
        return out

    def start(self):
        self.do(self.session.start(self.now))
        return self

    def connect(self):
        self.do(self.session.connected(self.now))
        return self

    def bound(self):
        """Start, connect and bind."""
        if self.session.state == "new":
            self.start()
        self.connect()
        bind = self.sent[-1]
        self.get(p.response_to(bind))
        assert self.session.state == "bound"
        self.sent.clear()
        self.states.clear()
        self.reconnects.clear()
        return self

    def get(self, *pdus: p.Pdu):
        return self.do(self.session.received(b"".join(x.encode() for x in pdus), self.now))

    def raw(self, data: bytes):
        return self.do(self.session.received(data, self.now))

    def submit(self, handle, text=b"hi"):
        return self.do(
            self.session.submit(handle, p.SubmitSm(destination_addr="4520123456", short_message=text), self.now)
        )

    def acknowledge(self, delivery, *status):
        return self.do(self.session.acknowledge(delivery, self.now, *status))

    def wait(self, seconds: float):
        """Let time pass; the timer fires when it is due."""
        end = self.now + seconds
        while self.timer is not None and self.timer <= end:
            self.now = max(self.now, self.timer)
            self.timer = None
            self.do(self.session.timer_fired(self.now))
        self.now = end

    def lose(self, reason="reset"):
        return self.do(self.session.connection_lost(self.now, reason))

    def kinds(self):
        """Names of what was sent since last asked."""
        names = [p.NAMES[x.command_id] for x in self.sent]
        self.sent.clear()
        return names

    def outcomes(self):
        return [(a.handle, a.outcome, a.late) for a in self.answers]


def resp(sequence_number, message_id="42", status=0):
    return p.SubmitSmResp(status, sequence_number, (), message_id if not status else "")


def receipt(sequence_number, message_id="42"):
    text = f"id:{message_id} sub:001 dlvrd:001 submit date:2601011200 done date:2601011201 stat:DELIVRD err:000 text:"
    return p.DeliverSm(0, sequence_number, (), esm_class=4, short_message=text.encode())
