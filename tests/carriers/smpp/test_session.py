"""The session, behaviour by behaviour; numbers in names: docs/smpp.md. Its invariants: test_session_model.py."""

from __future__ import annotations

import pytest

from carriers.smpp import constants as c
from carriers.smpp import pdu as p
from tests.carriers.smpp.driver import Driver, receipt, resp


def test_1_numbers_start_at_1_on_each_bind_and_count_up():
    d = Driver().start().connect()
    assert d.sent[-1].sequence_number == 1
    d.get(p.BindTransceiverResp(0, 1))
    d.submit("a")
    d.submit("b")
    assert [x.sequence_number for x in d.sent[-2:]] == [2, 3]
    d.lose()
    d.connect()
    assert d.sent[-1].sequence_number == 1


def test_2_a_slot_is_freed_exactly_once_and_the_window_holds():
    d = Driver(window_size=2).bound()
    for handle in "abc":
        d.submit(handle)
    assert d.outcomes() == [("c", "not_sent", False)]
    assert d.session.room == 0
    d.get(resp(2), resp(2), resp(2))
    assert d.session.room == 1
    assert d.session.counters["unknown_answers"] == 2
    d.get(p.GenericNack(c.ESME_RINVCMDID, 2))
    assert d.session.room == 1


def test_4_5_no_answer_in_time_is_doubt_and_a_late_answer_still_tells_its_id():
    d = Driver(response_timeout_s=15, enquire_link_s=25).bound()
    d.submit("a")
    d.wait(14.9)
    assert d.answers == []
    d.wait(0.2)
    assert d.outcomes() == [("a", "in_doubt", False)]
    assert d.session.in_flight == 0
    d.get(resp(2, "late-id"))
    assert d.answers[-1].late
    assert (d.answers[-1].handle, d.answers[-1].carrier_message_id) == ("a", "late-id")
    d.get(resp(2, "late-id"))
    assert len(d.answers) == 2


def test_5_a_late_answer_is_forgotten_after_minutes():
    d = Driver(late_s=100, enquire_link_s=20).bound()
    d.submit("a")
    d.wait(16)
    for n in range(20):
        d.wait(10)
        d.get(p.EnquireLink(0, n))
    d.get(resp(2))
    assert len(d.answers) == 1


def test_4_time_outs_in_a_row_end_the_connection_and_an_answer_between_breaks_the_row():
    d = Driver(window_size=10, expiries_to_dead=3, enquire_link_s=60).bound()
    d.submit("a")
    d.submit("b")
    d.wait(15.1)
    assert d.session.state == "bound"
    d.submit("c")
    d.get(resp(4))
    d.submit("d")
    d.submit("e")
    d.wait(15.1)
    assert d.session.state == "bound"
    d.submit("f")
    d.wait(15.1)
    assert d.session.state == "down"
    assert "without an answer" in d.session.reason


def test_6_answers_to_what_was_never_asked_are_counted_and_ignored():
    d = Driver().bound()
    d.submit("a")
    d.get(resp(99), resp(0), p.UnbindResp(0, 5), p.EnquireLinkResp(0, 77), p.BindTransceiverResp(0, 1))
    d.get(p.QuerySmResp(0, 2))  # the number of a submit_sm
    assert d.answers == []
    assert d.session.counters["unknown_answers"] == 6
    assert d.session.in_flight == 1


@pytest.mark.parametrize(
    ("status", "outcome"), [(c.ESME_RINVCMDID, "refused"), (c.ESME_RTHROTTLED, "throttled"), (0, "refused")]
)
def test_7_generic_nack_fails_its_request(status, outcome):
    d = Driver().bound()
    d.submit("a")
    d.get(p.GenericNack(status, 2))
    assert d.outcomes() == [("a", outcome, False)]
    assert d.answers[0].command_status != 0
    assert d.session.state == "bound"


@pytest.mark.parametrize("nack", [p.GenericNack(c.ESME_RINVCMDLEN, 3), p.GenericNack(c.ESME_RINVCMDID, 0)])
def test_7_generic_nack_of_a_broken_stream_reconnects(nack):
    d = Driver().bound()
    d.submit("a")
    d.submit("b")
    d.get(nack)
    assert d.session.state == "down"
    assert len(d.answers) == 2
    assert len(d.closes) == len(d.reconnects) == 1


@pytest.mark.parametrize("length", [15, 65_537, 0xFFFFFFFF])
def test_8_a_bad_length_closes_at_once(length):
    d = Driver().bound()
    d.submit("a")
    d.raw(p.EnquireLink(0, 9).encode() + length.to_bytes(4, "big"))
    assert d.kinds() == ["submit_sm", "enquire_link_resp"]
    assert d.outcomes() == [("a", "in_doubt", False)]
    assert d.session.state == "down"
    assert d.raw(p.EnquireLink(0, 9).encode()) == []


def raw(command_id, body, sequence_number, status=0):
    return (
        (16 + len(body)).to_bytes(4, "big")
        + command_id.to_bytes(4, "big")
        + status.to_bytes(4, "big")
        + sequence_number.to_bytes(4, "big")
        + body
    )


def test_9_an_unknown_command_is_nacked_and_the_link_stays():
    d = Driver().bound()
    d.raw(raw(0x00000777, b"x", 123))
    assert d.sent == [p.GenericNack(c.ESME_RINVCMDID, 123)]
    d.raw(raw(0x80000777, b"x", 124))  # an answer is never answered
    assert len(d.sent) == 1
    d.get(p.SubmitSm(0, 125))  # a request for centres only
    assert d.sent[-1] == p.GenericNack(c.ESME_RINVCMDID, 125)
    assert d.session.state == "bound"
    assert d.session.counters["unknown_commands"] == 3


def test_10_an_unreadable_delivery_is_answered_with_its_error_and_the_link_stays():
    d = Driver().bound()
    d.raw(raw(c.DELIVER_SM, b"\0\1\1\0\1\1\0\0\0\0\0\0\0\0\0\0\5abc", 50))
    d.raw(raw(c.DATA_SM, b"", 51))
    d.raw(raw(c.ENQUIRE_LINK, b"junk!", 52))
    d.raw(raw(c.ALERT_NOTIFICATION, b"", 53))
    assert d.sent == [
        p.DeliverSmResp(c.ESME_RINVMSGLEN, 50),
        p.DataSmResp(c.ESME_RINVSERTYP, 51),
        p.GenericNack(c.ESME_RINVOPTPARSTREAM, 52),
    ]
    assert d.session.state == "bound"
    assert d.session.counters["unreadable"] == 4


@pytest.mark.parametrize(("status", "outcome"), [(0, "accepted"), (0x58, "throttled"), (0x0B, "refused")])
def test_10_an_unreadable_answer_still_gives_its_verdict(status, outcome):
    d = Driver().bound()
    d.submit("a")
    d.raw(raw(c.SUBMIT_SM_RESP, b"no-nul", 2, status))
    assert (d.answers[0].outcome, d.answers[0].command_status) == (outcome, status)
    assert d.answers[0].carrier_message_id == ""


def test_11_a_vendor_status_is_a_refusal():
    d = Driver(pressure=frozenset({0x58, 0x14, 0x422})).bound()
    d.submit("a")
    d.submit("b")
    d.get(resp(2, status=0x411), resp(3, status=0x422))
    assert [(a.outcome, a.command_status) for a in d.answers] == [("refused", 0x411), ("throttled", 0x422)]


def test_12_octets_come_one_by_one():
    d = Driver().bound()
    d.submit("a")
    for octet in resp(2, "one-by-one").encode():
        d.raw(bytes((octet,)))
    assert d.answers[0].carrier_message_id == "one-by-one"


@pytest.mark.parametrize("status", [c.ESME_RTHROTTLED, c.ESME_RMSGQFUL])
def test_13_throttled_is_no_verdict_on_the_message(status):
    d = Driver().bound()
    d.submit("a")
    sent_at = d.now
    d.wait(0.5)
    d.get(resp(2, status=status))
    assert d.outcomes() == [("a", "throttled", False)]
    assert d.answers[0].sent_at == sent_at
    assert d.session.room == d.session.settings.window_size


def test_16_what_cannot_go_is_certainly_not_sent():
    d = Driver()
    d.submit("new")
    d.start()
    d.submit("down")
    d.connect()
    d.submit("binding")
    assert d.outcomes() == [("new", "not_sent", False), ("down", "not_sent", False), ("binding", "not_sent", False)]
    assert [p.NAMES[x.command_id] for x in d.sent] == ["bind_transceiver"]


def test_16_what_cannot_be_written_is_refused_with_the_carriers_status():
    d = Driver().bound()
    d.do(d.session.submit("a", p.SubmitSm(destination_addr="4" * 21), d.now))
    assert (d.answers[0].outcome, d.answers[0].command_status) == ("refused", c.ESME_RINVDSTADR)
    assert d.session.in_flight == 0


def test_17_in_flight_at_a_loss_is_in_doubt():
    d = Driver().bound()
    for handle in "abc":
        d.submit(handle)
    d.get(resp(3))
    d.lose()
    assert d.outcomes() == [("b", "accepted", False), ("a", "in_doubt", False), ("c", "in_doubt", False)]
    d.connect()
    d.get(resp(2))  # of the connection before: not ours any more
    assert len(d.answers) == 3


def test_18_a_lost_live_carrier_is_tried_at_once_then_every_0_8_s():
    d = Driver().bound()
    d.wait(19)
    d.lose()
    assert d.reconnects[-1].after_s == 0
    spent = 0.0
    for _ in range(20):
        d.do(d.session.connect_failed(d.now, "refused"))
        assert 0.4 <= d.reconnects[-1].after_s <= 0.8
        spent += d.reconnects[-1].after_s
        d.wait(d.reconnects[-1].after_s)


def test_18_a_carrier_that_drops_every_bind_gets_no_storm():
    d = Driver().bound()
    d.wait(10)
    delays = []
    for _ in range(50):
        d.lose()
        delays.append(d.reconnects[-1].after_s)
        d.wait(delays[-1])
        d.bound()
    assert delays[0] == 0
    assert all(delay >= 0.4 for delay in delays[1:])


def test_18_hosts_are_tried_in_turn():
    d = Driver(hosts=3).bound()
    d.wait(10)
    d.lose()
    hosts = [d.reconnects[-1].host]
    for _ in range(4):
        d.do(d.session.connect_failed(d.now, "refused"))
        hosts.append(d.reconnects[-1].host)
    assert hosts == [0, 1, 2, 0, 1]


@pytest.mark.parametrize("status", [c.ESME_RINVPASWD, c.ESME_RINVSYSID, c.ESME_RBINDFAIL, c.ESME_RINVSYSTYP, 0x450])
def test_18_a_wrong_password_waits_5_30_60_seconds_and_raises_an_alarm(status):
    d = Driver().start()
    delays = []
    for _ in range(4):
        d.connect()
        d.get(p.BindTransceiverResp(status, 1))
        delays.append(d.reconnects[-1].after_s)
        assert d.states[-1].alarm
        assert d.states[-1].command_status == status
        d.wait(delays[-1])
    assert [round(x) for x in delays] == [5, 32, 63, 63]
    assert c.status_name(status) in d.session.reason


def test_19_already_bound_is_tried_within_3_s_and_is_no_alarm():
    d = Driver().start()
    for _ in range(5):
        d.connect()
        d.get(p.BindTransceiverResp(c.ESME_RALYBND, 1))
        assert 0 < d.reconnects[-1].after_s <= 3
        assert not d.states[-1].alarm


def test_19_a_dead_link_is_told_to_unbind_before_it_is_closed():
    d = Driver(enquire_link_s=20, enquire_timeout_s=8).bound()
    d.wait(29)
    assert d.kinds() == ["enquire_link", "unbind"]
    assert len(d.closes) == 1


@pytest.mark.parametrize("bind", ["transceiver", "transmitter", "receiver"])
def test_20_nothing_but_the_bind_goes_out_before_its_answer(bind):
    d = Driver(bind=bind, system_type="SMS", address_range="45*").start().connect()
    d.wait(7)
    assert d.kinds() == [f"bind_{bind}"]
    d.get(p.EnquireLink(0, 3), receipt(4))
    assert [x.command_status for x in d.sent] == [0, c.ESME_RINVBNDSTS]
    d.sent.clear()
    d.wait(2)
    assert d.kinds() == []
    assert "no bind_resp in time" in d.session.reason
    assert d.reconnects[-1].after_s <= 0.8


def test_20_a_nack_for_the_bind_is_a_refusal():
    d = Driver().start().connect()
    d.get(p.GenericNack(c.ESME_RINVCMDID, 1))
    assert d.session.state == "down"
    assert d.reconnects[-1].after_s >= 5


def test_20_version_of_the_centre_is_kept():
    d = Driver().start().connect()
    d.get(p.BindTransceiverResp(0, 1, ((c.SC_INTERFACE_VERSION, b"\x34"),), "smsc"))
    assert d.session.sc_interface_version == 0x34
    assert Driver().bound().session.sc_interface_version is None


def test_21_enquire_link_when_idle_and_dead_without_an_answer():
    d = Driver(enquire_link_s=20, enquire_timeout_s=8).bound()
    d.wait(20.1)
    assert d.kinds() == ["enquire_link"]
    d.get(p.EnquireLinkResp(0, 2))
    d.wait(19)
    assert d.kinds() == []
    d.wait(1.1)
    assert d.kinds() == ["enquire_link"]
    d.wait(8)
    assert d.session.state == "down"
    assert d.session.reason == "no answer to enquire_link"
    assert d.reconnects[-1].after_s == 0


def test_21_enquire_link_also_when_only_submits_flow():
    d = Driver(enquire_link_s=20, response_timeout_s=30, window_size=50).bound()
    for n in range(25):
        d.submit(n)
        d.wait(1)
    assert "enquire_link" in d.kinds()


def test_21_no_enquire_link_while_answers_come():
    d = Driver(enquire_link_s=20).bound()
    for n in range(60):
        d.submit(n)
        d.wait(1)
        d.get(resp(n + 2))
    assert set(d.kinds()) == {"submit_sm"}


def test_22_enquire_link_is_answered_at_once_with_everything_full():
    d = Driver(window_size=1, max_unacknowledged=1).bound()
    d.submit("a")
    d.get(receipt(3))
    d.do(d.session.writable(d.now, False))
    d.sent.clear()
    d.get(p.EnquireLink(0, 4))
    assert d.sent == [p.EnquireLinkResp(0, 4)]


def test_24_unbind_from_the_carrier():
    d = Driver().bound()
    d.wait(10)
    d.submit("a")
    d.submit("b")
    d.sent.clear()
    d.get(p.Unbind(0, 9))
    assert d.sent == [p.UnbindResp(0, 9)]
    d.submit("c")
    d.get(resp(2), receipt(5))  # it still answers
    d.acknowledge(d.receipts[0].delivery)
    assert d.kinds() == ["unbind_resp", "deliver_sm_resp"]
    assert d.closes == []
    d.wait(2.1)
    assert d.outcomes() == [("c", "not_sent", False), ("a", "accepted", False), ("b", "in_doubt", False)]
    assert len(d.closes) == 1
    assert d.reconnects[-1].after_s == 1.0


def test_24_the_carrier_closes_after_its_unbind():
    d = Driver().bound()
    d.wait(10)
    d.get(p.Unbind(0, 9))
    d.lose("eof")
    assert d.closes == []
    assert d.reconnects[-1].after_s == 1.0
    d.wait(3)
    assert len(d.reconnects) == 1


def test_25_a_graceful_stop_drains_unbinds_and_closes():
    d = Driver().bound()
    d.submit("a")
    d.get(receipt(3))
    d.sent.clear()
    d.do(d.session.unbind(d.now))
    d.submit("b")
    d.get(resp(2), receipt(4))
    assert d.kinds() == []
    d.acknowledge(d.receipts[0].delivery)
    d.acknowledge(d.receipts[1].delivery)
    assert d.kinds() == ["deliver_sm_resp", "deliver_sm_resp", "unbind"]
    d.get(p.UnbindResp(0, 3))
    assert d.session.state == "closed"
    assert len(d.closes) == 1
    assert d.reconnects == []
    assert d.outcomes() == [("b", "not_sent", False), ("a", "accepted", False)]


def test_25_a_stop_does_not_wait_for_ever():
    d = Driver(drain_s=10, unbind_timeout_s=2).bound()
    d.submit("a")
    d.sent.clear()
    d.do(d.session.unbind(d.now))
    d.wait(10.1)
    assert d.kinds() == ["unbind"]
    d.wait(2.1)
    assert d.session.state == "closed"
    assert d.outcomes() == [("a", "in_doubt", False)]


@pytest.mark.parametrize("state", ["new", "down", "binding", "leaving"])
def test_25_a_stop_in_any_state_closes(state):
    d = Driver()
    if state != "new":
        d.start()
    if state == "binding":
        d.connect()
    if state == "leaving":
        d.bound().get(p.Unbind(0, 9))
    d.reconnects.clear()
    d.do(d.session.unbind(d.now))
    assert d.session.state == "closed"
    assert d.reconnects == []
    d.do(d.session.connected(d.now))
    assert d.closes


def test_26_a_delivery_is_answered_when_it_is_acknowledged_and_once():
    d = Driver().bound()
    d.get(receipt(31, "abc"))
    assert d.kinds() == []
    assert d.receipts[0].receipt.message_ids == ("abc",)
    d.acknowledge(d.receipts[0].delivery)
    assert d.sent == [p.DeliverSmResp(0, 31)]
    assert d.acknowledge(d.receipts[0].delivery) == []


def test_26_a_delivery_is_not_answered_on_another_connection():
    d = Driver().bound()
    d.get(receipt(31))
    d.lose()
    d.bound()
    assert d.acknowledge(d.receipts[0].delivery) == []
    d.get(receipt(31))
    assert len(d.acknowledge(d.receipts[1].delivery)) == 1


def test_26_under_overload_deliveries_are_refused_not_dropped():
    d = Driver(max_unacknowledged=2).bound()
    d.get(receipt(1), receipt(2), receipt(3))
    assert d.sent == [p.DeliverSmResp(c.ESME_RMSGQFUL, 3)]
    d.acknowledge(d.receipts[0].delivery)
    d.get(receipt(4))
    assert len(d.receipts) == 3
    d.session.refuse_deliveries = True
    d.get(receipt(5))
    assert d.sent[-1] == p.DeliverSmResp(c.ESME_RMSGQFUL, 5)


def test_25_what_nobody_will_acknowledge_does_not_hold_up_the_log_out():
    d = Driver().bound()
    d.get(receipt(31), receipt(32))
    d.do(d.session.refuse_unacknowledged(d.now))
    d.do(d.session.unbind(d.now))
    assert d.sent[:2] == [p.DeliverSmResp(c.ESME_RMSGQFUL, 31), p.DeliverSmResp(c.ESME_RMSGQFUL, 32)]
    assert d.session.state == "unbinding"
    d.get(receipt(33))
    assert d.sent[-1] == p.DeliverSmResp(c.ESME_RMSGQFUL, 33)


def test_26_a_receipt_that_could_not_be_stored_is_answered_with_an_error():
    d = Driver().bound()
    d.get(receipt(31))
    d.acknowledge(d.receipts[0].delivery, c.ESME_RX_T_APPN)
    assert d.sent == [p.DeliverSmResp(c.ESME_RX_T_APPN, 31)]


def test_27_a_receipt_may_come_before_its_answer():
    d = Driver().bound()
    d.submit("a")
    d.get(receipt(1, "77"), resp(2, "77"))
    assert d.receipts[0].receipt.message_ids == ("77",)
    assert d.answers[0].carrier_message_id == "77"


def test_42_a_message_from_a_handset_is_told_apart_from_a_receipt():
    d = Driver().bound()
    d.get(p.DeliverSm(0, 5, (), "", 1, 1, "4520123456", 0, 1, "1231", short_message=b"STOP"))
    assert d.receipts == []
    assert (d.inbound[0].part.sender, d.inbound[0].part.text) == ("+4520123456", "STOP")
    d.acknowledge(d.inbound[0].delivery)
    assert d.sent == [p.DeliverSmResp(0, 5)]


def test_44_alert_notification_outbind_and_data_sm():
    d = Driver().bound()
    d.get(p.AlertNotification(0, 1), p.Outbind(0, 2))
    assert d.kinds() == []
    d.get(p.DataSm(0, 3, ((c.MESSAGE_PAYLOAD, b"hello"),)))
    assert d.inbound[0].part.text == "hello"
    d.acknowledge(d.inbound[0].delivery)
    assert d.sent == [p.DataSmResp(0, 3)]


@pytest.mark.parametrize("esm_class", [0x08, 0x10, 0x18])
def test_31_a_handsets_own_acknowledgement_is_answered_and_goes_nowhere(esm_class):
    d = Driver().bound()
    d.get(p.DeliverSm(0, 3, esm_class=esm_class, short_message=b"x"))
    assert d.sent == [p.DeliverSmResp(0, 3)]
    assert d.receipts == d.inbound == []


def test_45_a_receiver_submits_nothing():
    d = Driver(bind="receiver").bound()
    assert d.session.room == 0
    d.submit("a")
    assert d.outcomes() == [("a", "not_sent", False)]


def test_47_closed_before_bind_resp_is_an_alarm_and_backs_off():
    d = Driver(reconnect_max_s=30).start()
    delays = []
    for _ in range(6):
        d.connect()
        d.lose("eof")
        delays.append(d.reconnects[-1].after_s)
        assert d.states[-1].alarm
    assert [round(x) for x in delays] == [2, 4, 8, 17, 32, 32]
    assert "not be allowed" in d.session.reason


def test_48_a_full_socket_holds_submits_back():
    d = Driver().bound()
    d.do(d.session.writable(d.now, False))
    assert d.session.room == 0
    d.submit("a")
    assert d.outcomes() == [("a", "not_sent", False)]
    d.wait(20.1)
    assert d.kinds() == ["enquire_link"]  # not starved
    d.do(d.session.writable(d.now, True))
    assert d.session.room > 0


def test_50_the_password_is_in_no_repr_and_the_tap_sees_all():
    d = Driver()
    seen = []
    d.session.tap = lambda way, pdu: seen.append((way, repr(pdu)))
    d.start().bound()
    d.submit("a", b"your code is 1234")
    d.get(resp(2))
    d.raw(raw(0x777, b"", 5))
    shown = " ".join(text for _, text in seen)
    assert "secret" not in shown + repr(d.session.settings)
    assert "1234" not in shown
    assert [way for way, _ in seen] == ["out", "in", "out", "in", "in", "out"]


def test_query_and_cancel_go_through_the_same_window():
    d = Driver(window_size=2).bound()
    d.do(d.session.submit("q", p.QuerySm(message_id="42"), d.now))
    d.do(d.session.submit("c", p.CancelSm(message_id="42"), d.now))
    assert d.session.room == 0
    d.get(p.QuerySmResp(0, 2, (), "42", "", 2, 0), p.CancelSmResp(c.ESME_RCANCELFAIL, 3))
    assert d.answers[0].response.message_state == 2
    assert d.answers[1].outcome == "refused"


def test_the_second_start_and_a_stray_connection_do_nothing():
    d = Driver().start()
    assert d.session.start(d.now) == []
    d.bound()
    d.do(d.session.connected(d.now))
    assert len(d.closes) == 1
    assert d.session.state == "bound"
    assert d.session.connect_failed(d.now, "x") == []
