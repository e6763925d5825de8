"""The session under whatever a carrier, a network and a node may do: its invariants hold in any order of events."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from carriers.smpp import constants as c
from carriers.smpp import pdu as p
from carriers.smpp.framer import Framer
from carriers.smpp.session import (
    Answered,
    ArmTimer,
    Close,
    InboundArrived,
    ReceiptArrived,
    Reconnect,
    Send,
    Session,
    SessionSettings,
    StateChanged,
)

WINDOW = 4
LEAVES = {c.UNBIND, c.UNBIND_RESP, c.GENERIC_NACK}  # they may end a connection for good reason
STATUSES = st.sampled_from([0, 0, 0, c.ESME_RTHROTTLED, c.ESME_RSYSERR, c.ESME_RINVDSTADR, 0x411])


class SessionMachine(RuleBasedStateMachine):
    """Keeps its own account of what is open, asked and answered, and compares."""

    @initialize(bind=st.sampled_from(["transceiver"] * 4 + ["transmitter", "receiver"]))
    def begin(self, bind):
        self.session = Session(
            SessionSettings(
                "hermes", "secret", bind, window_size=WINDOW, expiries_to_dead=3, max_unacknowledged=3, hosts=2
            ),
            lambda: 0.5,
        )
        self.now = 5_000.0
        self.timer = None
        self.open = False  # a socket
        self.connecting = False  # a Reconnect is being carried out
        self.bind = None  # the bind that waits
        self.is_bound = False
        self.closed = False
        self.next_handle = 0
        self.waiting = {}  # sequence number -> handle, of this connection
        self.first = {}  # handle -> its one answer that is not late
        self.late = {}
        self.asked = set()
        self.pending = {}  # delivery -> (response id, sequence number) of this connection
        self.theirs = 0
        self.do(self.session.start(self.now))
        self.bind_well()

    def do(self, out):
        for o in out:
            assert not (self.closed and isinstance(o, (Send, Reconnect, ReceiptArrived, InboundArrived)))
            match o:
                case Send():
                    assert self.open
                    for frame in Framer().feed(o.data):
                        self.went(p.decode(frame))
                case Answered():
                    if o.late:
                        assert self.first[o.handle] == "in_doubt"
                        assert o.handle not in self.late
                        self.late[o.handle] = o.outcome
                    else:
                        assert o.handle in self.asked
                        assert o.handle not in self.first
                        self.first[o.handle] = o.outcome
                    for n in [n for n, handle in self.waiting.items() if handle == o.handle]:
                        del self.waiting[n]
                case ReceiptArrived() | InboundArrived():
                    assert o.delivery not in self.pending
                    self.pending[o.delivery] = (c.DELIVER_SM_RESP, o.pdu.sequence_number)
                case Close():
                    self.gone()
                case Reconnect():
                    assert not self.open
                    assert not self.connecting
                    assert 0 <= o.after_s <= 70
                    assert o.host in (0, 1)
                    self.connecting = True
                case StateChanged():
                    assert o.state == self.session.state or o is not out[-1]
                    if o.state == "bound":
                        assert self.open
                        assert not self.is_bound
                        self.is_bound, self.bind = True, None
                    if o.state == "closed":
                        self.closed = True
                        self.connecting = False
                case ArmTimer():
                    self.timer = o.at

    def gone(self):
        self.open = self.is_bound = False
        self.bind = None
        self.waiting.clear()
        self.pending.clear()

    def went(self, pdu):
        assert 1 <= pdu.sequence_number <= 0x7FFFFFFF or pdu.command_id & c.RESPONSE
        if pdu.command_id & c.RESPONSE:
            return
        if pdu.command_id in (c.BIND_TRANSCEIVER, c.BIND_TRANSMITTER, c.BIND_RECEIVER):
            assert self.bind is None
            assert not self.is_bound
            assert pdu.sequence_number == 1
            self.bind = pdu
            return
        assert self.is_bound  # nothing but the bind before its answer
        assert pdu.sequence_number not in self.waiting
        if pdu.command_id == c.SUBMIT_SM:
            assert self.session.state == "bound"
            self.waiting[pdu.sequence_number] = self.submitting

    def get(self, *pdus):
        self.do(self.session.received(b"".join(x.encode() for x in pdus), self.now))

    @precondition(lambda self: self.connecting and not self.closed)
    @rule()
    def bind_well(self):
        self.connecting, self.open = False, True
        self.do(self.session.connected(self.now))
        assert self.bind is not None
        self.get(p.PDUS[self.bind.response_id](0, self.bind.sequence_number))
        assert self.is_bound

    @precondition(lambda self: self.connecting and not self.closed)
    @rule(well=st.booleans())
    def carry_out_reconnect(self, well):
        self.connecting = False
        if well:
            self.open = True
            self.do(self.session.connected(self.now))
        else:
            self.do(self.session.connect_failed(self.now, "refused"))

    @precondition(lambda self: self.bind is not None)
    @rule(status=st.sampled_from([0, 0, 0, c.ESME_RALYBND, c.ESME_RINVPASWD, c.ESME_RSYSERR]))
    def answer_bind(self, status):
        assert self.bind is not None
        self.get(p.PDUS[self.bind.response_id](status, self.bind.sequence_number))

    @rule(times=st.integers(1, 6))
    def submit(self, times):
        for _ in range(times):
            self.next_handle += 1
            self.submitting = self.next_handle
            self.asked.add(self.next_handle)
            room = self.session.room
            self.do(self.session.submit(self.next_handle, p.SubmitSm(destination_addr="45"), self.now))
            assert (self.first.get(self.next_handle) == "not_sent") == (room == 0)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), status=STATUSES, times=st.integers(1, 2))
    def answer(self, data, status, times):
        n = data.draw(st.sampled_from(sorted(self.waiting)))
        handle = self.waiting[n]
        self.get(*[p.SubmitSmResp(status, n, (), "42" if not status else "")] * times)
        assert self.first[handle] == {0: "accepted", c.ESME_RTHROTTLED: "throttled"}.get(status, "refused")

    @precondition(lambda self: self.open)
    @rule(n=st.integers(0, 30), status=STATUSES)
    def answer_some_number(self, n, status):
        self.get(p.SubmitSmResp(status, n))

    @precondition(lambda self: self.open)
    @rule(
        n=st.integers(1, 30),
        status=st.sampled_from([c.ESME_RINVCMDID, c.ESME_RINVCMDID, 0, c.ESME_RTHROTTLED, c.ESME_RINVCMDLEN]),
    )
    def nack(self, n, status):
        self.get(p.GenericNack(status, n))

    @precondition(lambda self: self.open)
    @rule(esm_class=st.sampled_from([0, 4, 8, 0x20]), text=st.sampled_from([b"id:1 stat:DELIVRD", b"STOP", b""]))
    def deliver(self, esm_class, text):
        self.theirs += 1
        self.get(p.DeliverSm(0, self.theirs, esm_class=esm_class, short_message=text))

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def acknowledge(self, data):
        delivery = data.draw(st.sampled_from(sorted(self.pending)))
        _, number = self.pending.pop(delivery)
        out = self.session.acknowledge(delivery, self.now)
        first = out[0]
        assert isinstance(first, Send)
        assert p.decode(first.data) == p.DeliverSmResp(0, number)
        self.do(out)
        assert self.session.acknowledge(delivery, self.now) == []

    @rule(delivery=st.integers(0, 50))
    def acknowledge_stale(self, delivery):
        if delivery not in self.pending:
            assert self.session.acknowledge(delivery, self.now) == []

    @precondition(lambda self: self.open)
    @rule(kind=st.sampled_from([p.EnquireLink, p.EnquireLinkResp, p.UnbindResp, p.AlertNotification, p.SubmitSm]))
    def other_pdu(self, kind):
        self.theirs += 1
        self.get(kind(0, self.theirs))

    @precondition(lambda self: self.open)
    @rule(body=st.binary(max_size=20), command_id=st.sampled_from(sorted({*p.PDUS, 0x777, 0x80000777} - LEAVES)))
    def malformed(self, body, command_id):
        was = self.session.state
        head = b"".join(x.to_bytes(4, "big") for x in (16 + len(body), command_id, 0, 29))
        self.do(self.session.received(head + body, self.now))
        if was in ("bound", "leaving"):
            assert self.session.state == was

    @precondition(lambda self: self.open)
    @rule(what=st.sampled_from(["lose", "break the stream", "the carrier unbinds"]), sure=st.integers(0, 3))
    def disaster(self, what, sure):
        if sure:  # one in four: otherwise no connection would live to see anything else
            return
        if what == "lose":
            self.gone()
            self.do(self.session.connection_lost(self.now, "reset"))
        elif what == "break the stream":
            self.do(self.session.received(b"\0\0\0\5oops", self.now))
            assert self.session.state in ("down", "closed")
        else:
            self.get(p.Unbind(0, 900))

    @rule(yes=st.booleans())
    def writable(self, yes):
        self.do(self.session.writable(self.now, yes))

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.1, 1.0, 1.0, 2.1, 5.0, 16.0, 21.0]))
    def time_passes(self, seconds):
        end = self.now + seconds
        for _ in range(200):
            if self.timer is None or self.timer > end:
                break
            self.now, self.timer = max(self.now, self.timer), None
            self.do(self.session.timer_fired(self.now))
        else:
            raise AssertionError("the timer fires without end")
        self.now = end

    @precondition(lambda self: self.next_handle > 25)
    @rule()
    def stop(self):
        self.do(self.session.unbind(self.now))

    @invariant()
    def window_holds(self):
        assert 0 <= self.session.in_flight <= WINDOW
        assert self.session.in_flight == len(self.waiting)
        assert self.session.room <= WINDOW - self.session.in_flight

    @invariant()
    def deliveries_are_bounded_and_known(self):
        assert self.session.unacknowledged == len(self.pending) <= 3

    @invariant()
    def each_request_waits_or_is_answered_once(self):
        assert self.asked == set(self.first) | set(self.waiting.values())
        assert not set(self.first) & set(self.waiting.values())

    @invariant()
    def there_is_always_a_way_on(self):
        if self.closed:
            assert not self.open
        else:
            assert self.open != self.connecting
        if self.open:
            assert self.timer is not None  # no state waits for ever


SessionMachine.TestCase.settings = settings(max_examples=200, stateful_step_count=80, deadline=None)
TestSession = SessionMachine.TestCase
