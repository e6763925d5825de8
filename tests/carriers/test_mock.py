import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from carriers.base import SendError, SendResult
from carriers.mock import LATE, MAX_SEGMENTS, TICK, MockCarrier, MockSettings
from hermes.testing import ManualClock
from hermes.testing.carriers import RememberingSink, check_keeps_secrets, submission


class Rig:
    def __init__(self, channel="sms", **settings):
        self.clock = ManualClock()
        self.sink = RememberingSink()
        self.carrier = MockCarrier("mocky", channel, MockSettings(**settings), clock=self.clock)
        self.carrier.sink = self.sink

    def send(self, to="+4520123456", **changes):
        result = self.carrier.send(submission(to=to, channel=self.carrier.channel, **changes))
        assert isinstance(result, SendResult)
        return result.carrier_message_ids

    def refusal(self, to, **changes):
        with pytest.raises(SendError) as refused:
            self.send(to, **changes)
        return refused.value

    def reported(self):
        return [(r.carrier_message_id, r.status) for r in self.sink.receipts]


def addresses(name, number):
    """All the ways to write one magic recipient, as (channel, address)."""
    return [
        ("sms", f"+452012{number}"),
        ("whatsapp", f"+452012{number}"),
        ("email", f"{name}@example.com"),
        ("email", f"{name}-17@example.com"),
        ("push", f"tok-{name}"),
        ("push", f"tok-{name}-a-b"),
    ]


@pytest.mark.parametrize(("channel", "to"), [*addresses("delivered", "0001"), ("email", "a@b.test"), ("push", "t")])
def test_delivered_is_taken_and_reported_after_the_delay(channel, to):
    rig = Rig(channel)
    (message_id,) = rig.send(to)
    rig.clock.advance(0.199)
    assert rig.reported() == []
    rig.clock.advance(0.001)
    assert rig.reported() == [(message_id, "delivered")]
    assert rig.sink.receipts[0].carrier == "mocky"
    assert rig.sink.receipts[0].at == rig.clock.now()


@pytest.mark.parametrize(("channel", "to"), addresses("rejected", "0002"))
def test_rejected_is_refused_at_once_as_invalid_destination(channel, to):
    error = Rig(channel).refusal(to)
    assert (error.error_class, error.retryable, error.ambiguous) == ("invalid_destination", False, False)


@pytest.mark.parametrize(("channel", "to"), addresses("undelivered", "0003"))
def test_undelivered_is_taken_then_reported_undelivered_with_a_soft_class(channel, to):
    rig = Rig(channel)
    (message_id,) = rig.send(to)
    rig.clock.advance(0.2)
    assert rig.reported() == [(message_id, "undelivered")]
    assert rig.sink.receipts[0].error_class == "unreachable_handset"
    assert rig.sink.receipts[0].error_code


@pytest.mark.parametrize(("channel", "to"), addresses("silent", "0004"))
def test_silent_is_taken_and_never_reported_nor_awaited(channel, to):
    rig = Rig(channel)
    rig.send(to)
    rig.clock.advance(1000)
    assert rig.reported() == []
    assert rig.carrier.awaits_receipt_at(submission(channel=channel, to=to), rig.clock.now()) is None


@pytest.mark.parametrize(("channel", "to"), addresses("throttled", "0005"))
def test_throttled_refuses_attempts_1_and_2_of_a_step_and_takes_the_third(channel, to):
    rig = Rig(channel)
    for step in (0, 3):
        for attempt in (1, 2):
            error = rig.refusal(to, step=step, attempt=attempt)
            assert (error.error_class, error.retryable, error.retry_after_s) == ("throttled", True, 0.1)
        (message_id,) = rig.send(to, step=step, attempt=3)
        rig.clock.advance(0.2)
        assert rig.reported().pop() == (message_id, "delivered")


@pytest.mark.parametrize(("channel", "to"), addresses("late", "0006"))
def test_late_is_reported_three_seconds_after_submit(channel, to):
    rig = Rig(channel)
    (message_id,) = rig.send(to)
    rig.clock.advance(2.999)
    assert rig.reported() == []
    rig.clock.advance(0.001)
    assert rig.reported() == [(message_id, "delivered")]


@pytest.mark.parametrize(("channel", "to"), addresses("error", "0007"))
def test_error_answers_500_on_every_attempt(channel, to):
    for attempt in (1, 2, 3, 4):
        error = Rig(channel).refusal(to, attempt=attempt)
        assert (error.error_class, error.code, error.retryable) == ("retryable_transient", "500", True)


@pytest.mark.parametrize(("channel", "to"), addresses("optout", "0008"))
def test_optout_is_refused_as_blocked(channel, to):
    error = Rig(channel).refusal(to)
    assert (error.error_class, error.retryable) == ("blocked_or_opted_out", False)


@pytest.mark.parametrize(
    ("channel", "to"),
    [
        ("email", "rejectedx@example.com"),
        ("email", "x-rejected@example.com"),
        ("email", "a@rejected"),
        ("push", "rejected"),
        ("push", "tok-rejectedx"),
        ("push", "tok-0002"),
        ("sms", "+4500020000"),
        ("fax", "+4520120002"),
    ],
)
def test_address_that_only_looks_magic_is_ordinary(channel, to):
    rig = Rig(channel)
    rig.send(to)
    rig.clock.advance(0.2)
    assert rig.sink.statuses() == ["delivered"]


def test_magic_can_be_switched_off():
    rig = Rig(magic=False)
    rig.send("+4520120002")
    rig.clock.advance(0.2)
    assert rig.sink.statuses() == ["delivered"]


def test_magic_decides_whatever_the_rates_say():
    rig = Rig(success_rate=0, receipt_success_rate=0)
    rig.send("+4520120001")
    rig.clock.advance(0.2)
    assert rig.sink.statuses() == ["delivered"]
    assert rig.refusal("+4520123456").error_class == "retryable_transient"


def test_long_sms_has_an_id_and_a_receipt_for_each_segment():
    rig = Rig()
    ids = rig.send(segments=3)
    assert len(set(ids)) == 3
    rig.clock.advance(0.2)
    assert rig.reported() == [(message_id, "delivered") for message_id in ids]


def test_segments_are_capped_and_count_for_sms_only():
    assert len(Rig().send(segments=100_000)) == MAX_SEGMENTS
    assert len(Rig("email").send("a@b.test", segments=3)) == 1


def test_ids_are_unique_over_restarts_and_short():
    ids = [id_ for _ in range(3) for rig in [Rig()] for _ in range(3000) for id_ in rig.send()]
    assert len(set(ids)) == 9000
    assert max(map(len, ids)) <= 18
    assert all(id_.startswith("mock-") for id_ in ids)


def test_rates_are_kept_over_many_messages():
    rig = Rig(success_rate=0.8, receipt_success_rate=0.75, duplicate_receipt_rate=0.5)
    taken = 0
    for n in range(2000):
        try:
            rig.send(message_id=f"msg_{n}")
            taken += 1
        except SendError as error:
            assert (error.error_class, error.retryable) == ("retryable_transient", True)
    rig.clock.advance(1)
    assert 0.77 < taken / 2000 < 0.83
    times = Counter(rig.reported())
    delivered = sum(status == "delivered" for _, status in times)
    assert len(times) == taken
    assert 0.71 < delivered / taken < 0.79
    assert 0.45 < sum(n == 2 for n in times.values()) / taken < 0.55


def test_receipts_may_come_before_the_submit_answer():
    rig = Rig(early_receipt_rate=1)
    (message_id,) = rig.send()
    assert rig.reported() == [(message_id, "delivered")]
    rig.clock.advance(10)
    assert len(rig.reported()) == 1


def test_reordered_receipts_overtake_and_end_stale_but_say_the_same_of_each_message():
    rig = Rig(reorder_receipts=True)
    ids = []
    for n in range(200):
        ids += rig.send(message_id=f"msg_{n}", segments=2)
        rig.clock.advance(0.001)
    rig.clock.advance(1)
    final = [id_ for id_, status in rig.reported() if status == "delivered"]
    assert sorted(final) == sorted(ids)
    assert final != ids
    stale = [id_ for id_, status in rig.reported() if status == "submitted"]
    assert 100 < len(stale) < 300
    assert all(rig.reported().index((i, "submitted")) > rig.reported().index((i, "delivered")) for i in stale)


def test_same_try_has_the_same_fate_after_a_restart():
    settings = {"success_rate": 0.7, "receipt_success_rate": 0.5, "reorder_receipts": True}
    before, after = Rig(**settings), Rig(**settings)
    for n in range(300):
        for rig in (before, after):
            try:
                rig.send(message_id=f"msg_{n}", attempt=1 + n % 2)
            except SendError:
                continue
        rig.clock.advance(0.05)
        before.clock.advance(0.05)
    assert before.sink.statuses() == after.sink.statuses()
    assert before.carrier.inspect() == after.carrier.inspect()


def test_resumed_message_gets_its_receipt_when_it_was_due():
    rig = Rig()
    sent = submission(to="+4520120006")
    submitted_at = rig.clock.now() - timedelta(seconds=1)
    assert rig.carrier.awaits_receipt_at(sent, submitted_at) == submitted_at + timedelta(seconds=LATE)
    rig.carrier.resume(sent, ("mock-old-1",), submitted_at)
    rig.clock.advance(LATE - 1 - 0.02)
    assert rig.reported() == []
    rig.clock.advance(0.02 + TICK)
    assert rig.reported() == [("mock-old-1", "delivered")]


def test_resumed_message_whose_time_is_past_gets_its_receipt_at_once():
    rig = Rig(receipt_success_rate=0)
    rig.carrier.resume(submission(), ("a", "b"), rig.clock.now() - timedelta(days=1))
    rig.clock.advance(0)
    assert rig.reported() == [("a", "undelivered"), ("b", "undelivered")]


def test_resume_of_a_silent_message_reports_nothing():
    rig = Rig()
    rig.carrier.resume(submission(to="+4520120004"), ("a",), rig.clock.now() - timedelta(days=1))
    rig.clock.advance(1000)
    assert rig.reported() == []


def test_receipt_the_journal_cannot_store_is_offered_again_each_second_until_it_is():
    rig = Rig()
    rig.sink.stores = False
    ids = [*rig.send(), *rig.send()]
    rig.clock.advance(0.2)
    assert [id_ for id_, _ in rig.reported()] == ids
    assert rig.carrier.inspect()["receipts_held"] == 2
    rig.clock.advance(1)
    assert [id_ for id_, _ in rig.reported()] == ids * 2
    rig.sink.stores = True
    rig.clock.advance(1)
    assert [id_ for id_, _ in rig.reported()] == ids * 3
    rig.clock.advance(100)
    assert len(rig.reported()) == 6
    assert rig.carrier.inspect()["receipts_held"] == 0


def test_ten_thousand_receipts_in_a_second_take_few_timers_and_are_at_most_a_tick_late():
    rig = Rig()
    start, due, timers = rig.clock.now(), {}, 0
    for _ in range(1000):
        for _ in range(10):
            due[rig.send()[0]] = rig.clock.monotonic() + 0.2
        timers = max(timers, rig.clock.pending)
        rig.clock.advance(0.001)
    rig.clock.advance(0.2 + TICK)
    assert timers == 1
    assert len(rig.sink.receipts) == 10_000
    for receipt in rig.sink.receipts:
        assert receipt.at is not None
        late_s = (receipt.at - start).total_seconds() - due[receipt.carrier_message_id]
        assert -0.0011 <= late_s <= TICK + 1e-6


def test_many_overdue_receipts_are_reported_in_several_rounds():
    rig = Rig()
    for n in range(1200):
        rig.carrier.resume(submission(message_id=f"msg_{n}"), (str(n),), rig.clock.now() - timedelta(days=1))
    rig.clock.advance(0)
    assert len(rig.reported()) == 500
    rig.clock.advance(2 * TICK)
    assert [id_ for id_, _ in rig.reported()] == [str(n) for n in range(1200)]


async def test_closed_carrier_reports_nothing_until_it_is_opened_again_and_then_all_that_is_due():
    rig = Rig()
    rig.sink.stores = False
    unstored = rig.send()
    rig.clock.advance(0.2)
    overdue = rig.send()
    await rig.carrier.close()
    rig.clock.advance(100)
    assert [id_ for id_, _ in rig.reported()] == [*unstored]
    rig.sink.stores = True
    await rig.carrier.open(rig.sink)
    assert [id_ for id_, _ in rig.reported()] == [*unstored, *unstored, *overdue]
    rig.clock.advance(100)
    assert len(rig.reported()) == 3


async def test_receipt_not_yet_due_when_the_carrier_is_opened_again_comes_once_in_its_time():
    rig = Rig()
    sent = rig.send()
    rig.clock.advance(0.1)
    await rig.carrier.close()
    await rig.carrier.open(rig.sink)
    rig.clock.advance(0.099)
    assert rig.reported() == []
    rig.clock.advance(0.001)
    assert [id_ for id_, _ in rig.reported()] == [*sent]


async def test_receipt_refused_after_close_is_kept_for_the_next_open():
    rig = Rig()
    rig.sink.stores = None
    sent = rig.send()
    rig.clock.advance(0.2)
    await rig.carrier.close()
    rig.sink.pending.pop()(False)
    rig.clock.advance(100)
    rig.sink.stores = True
    await rig.carrier.open(rig.sink)
    assert [id_ for id_, _ in rig.reported()] == [*sent, *sent]


async def test_answer_waits_for_the_latency_and_the_receipt_counts_from_the_answer():
    rig = Rig(latency_ms=50)
    answer = rig.carrier.send(submission())
    assert not isinstance(answer, SendResult)
    task = asyncio.ensure_future(answer)
    await asyncio.sleep(0)
    rig.clock.advance(0.049)
    await asyncio.sleep(0)
    assert not task.done()
    rig.clock.advance(0.001)
    (message_id,) = (await task).carrier_message_ids
    rig.clock.advance(0.199)
    assert rig.reported() == []
    rig.clock.advance(0.001)
    assert rig.reported() == [(message_id, "delivered")]


async def test_send_cancelled_during_the_latency_takes_nothing():
    rig = Rig(latency_ms=50)
    task = asyncio.ensure_future(rig.carrier.send(submission()))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    rig.clock.advance(10)
    assert rig.reported() == []
    assert rig.carrier.inspect()["taken"] == 0


async def test_sandbox_serves_every_channel_with_one_carrier():
    clock, sink = ManualClock(), RememberingSink()
    sandbox = MockCarrier("sandbox", "sms", clock=clock)
    await sandbox.open(sink)
    for channel, to in [("sms", "+4520120003"), ("email", "undelivered@a.test"), ("push", "tok-undelivered")]:
        sandbox.send(submission(channel=channel, to=to))
    clock.advance(0.2)
    assert sink.statuses() == ["undelivered"] * 3


def test_mock_shows_no_secret_address_or_text():
    rig = Rig(secret="s3cret")
    errors = [rig.refusal(f"+452012{number}") for number in ("0002", "0005", "0007", "0008")]
    rig.send("+4520120003")
    rig.clock.advance(1)
    secrets = ["s3cret", "+452012", "Your code"]
    check_keeps_secrets(rig.carrier, secrets, *errors, *rig.sink.receipts)
