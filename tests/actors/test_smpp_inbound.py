"""Parts of messages from handsets, until it is known which were stored before."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from actors.smpp_inbound import ANSWER_WITHIN_S, ASK_AGAIN_S, HOLD_PART_S, InboundParts
from carriers.smpp.inbound import InboundPart
from hermes.domain.inbound import InboundReceived, PartKey, PartReceived, PartsWanted, StoredPart
from hermes.runtime import SendResult
from hermes.testing import ManualClock

KEY = PartKey("tele", "+4520111111", "1234", 7, 2)


class Mo:
    """Stands for `mo` and its system: keeps what it is sent."""

    def __init__(self) -> None:
        self.there = True
        self.sent: list[Any] = []

    def send(self, name: str, message: Any) -> SendResult:
        if not self.there:
            return SendResult.TERMINATED
        self.sent.append(message)
        return SendResult.DELIVERED

    def of(self, kind: type) -> list[Any]:
        return [message for message in self.sent if type(message) is kind]


class Bench:
    def __init__(self) -> None:
        self.mo, self.clock = Mo(), ManualClock()
        self.answers: list[int] = []

    def parts(self) -> InboundParts:
        context: Any = SimpleNamespace(system=self.mo, clock=self.clock)
        carrier: Any = SimpleNamespace(name="tele", channel="sms", settings=SimpleNamespace(default_alphabet="gsm7"))
        return InboundParts(context, carrier)

    def part(self, number: int, total: int = 2) -> InboundPart:
        octets = b"one " if number == 1 else b"two"
        return InboundPart("+4520111111", "1234", 0, octets, octets.decode(), 7, total, number)

    def stored(self, number: int, age_s: float = 0.0) -> StoredPart:
        at = self.clock.now() - timedelta(seconds=age_s)
        return StoredPart(KEY, number, 0, b"" if not number else self.part(number).octets, at)

    def texts(self) -> list[Any]:
        return [(message.inbound.text, message.parts) for message in self.mo.of(InboundReceived)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_mo_is_asked_until_it_answers_and_only_its_first_answer_counts(bench: Bench) -> None:
    bench.mo.there = False
    bench.parts()
    bench.mo.there = True
    bench.clock.advance(ASK_AGAIN_S)
    bench.clock.advance(ANSWER_WITHIN_S)  # it ended before it answered
    first, second = bench.mo.of(PartsWanted)
    second.given([bench.stored(1)])
    first.given([bench.stored(1), bench.stored(2)])
    bench.clock.advance(10 * ANSWER_WITHIN_S)
    assert len(bench.mo.of(PartsWanted)) == 2
    assert bench.texts() == []


def test_a_part_that_comes_early_joins_those_stored_before(bench: Bench) -> None:
    parts = bench.parts()
    parts.take(bench.part(2), bench.answers.append)
    bench.clock.advance(2 * HOLD_PART_S)
    assert not bench.answers and not bench.mo.of(PartReceived)
    bench.mo.of(PartsWanted)[-1].given([bench.stored(1)])
    assert bench.texts() == [("one two", KEY)]
    assert not bench.answers  # it is not stored yet
    bench.mo.of(InboundReceived)[0].stored(True)
    assert bench.answers == [0]


def test_early_parts_are_to_be_offered_again_while_the_journal_is_away(bench: Bench) -> None:
    parts = bench.parts()
    parts.take(bench.part(2), bench.answers.append)
    bench.mo.of(PartsWanted)[0].given(None)
    assert bench.answers == [0x14]
    bench.clock.advance(ANSWER_WITHIN_S)
    assert len(bench.mo.of(PartsWanted)) == 2


def test_a_message_of_one_part_waits_for_nobody(bench: Bench) -> None:
    bench.parts().take(bench.part(1, total=1), bench.answers.append)
    assert bench.texts() == [("one ", None)]


def test_what_was_stored_whole_is_acknowledged_and_not_told_again(bench: Bench) -> None:
    parts = bench.parts()
    bench.mo.of(PartsWanted)[0].given([bench.stored(0, age_s=10)])
    parts.take(bench.part(2), bench.answers.append)
    assert bench.answers == [0] and bench.texts() == []


def test_parts_wait_five_minutes_in_all_restarts_included(bench: Bench) -> None:
    bench.parts()
    bench.mo.of(PartsWanted)[0].given([bench.stored(2, age_s=290)])
    bench.clock.advance(8)
    assert len(bench.mo.of(PartsWanted)) == 1
    bench.clock.advance(8)
    bench.mo.of(PartsWanted)[-1].given(None)  # the journal is away
    assert bench.texts() == []
    bench.clock.advance(2)
    bench.mo.of(PartsWanted)[-1].given([bench.stored(2, age_s=308)])
    assert bench.texts() == [("two", KEY)]


@pytest.mark.parametrize(
    ("others", "texts"),
    [
        ([1], [("one two", KEY)]),  # another worker was brought it
        ([0], []),  # it has stored the message
    ],
)
def test_before_a_message_is_given_without_a_part_the_journal_is_asked_for_it(
    bench: Bench, others: list[int], texts: list[Any]
) -> None:
    parts = bench.parts()
    bench.mo.of(PartsWanted)[0].given([])
    parts.take(bench.part(2), bench.answers.append)
    bench.clock.advance(HOLD_PART_S)
    bench.mo.of(PartReceived)[0].stored(True)
    assert bench.answers == [0]
    bench.clock.advance(300)
    bench.mo.of(PartsWanted)[-1].given([bench.stored(n, age_s=60) for n in others])
    assert bench.texts() == texts
    bench.clock.advance(600)
    assert bench.texts() == texts


def test_a_message_of_hours_ago_does_not_stand_for_one_that_comes_now(bench: Bench) -> None:
    parts = bench.parts()
    parts.take(bench.part(2), bench.answers.append)
    bench.mo.of(PartsWanted)[0].given([bench.stored(0, age_s=7_200)])
    parts.take(bench.part(1), bench.answers.append)
    assert bench.texts() == [("one two", KEY)]


def test_one_that_is_closed_gives_nothing_more(bench: Bench) -> None:
    parts = bench.parts()
    bench.mo.of(PartsWanted)[0].given([bench.stored(2, age_s=290)])
    parts.close()
    bench.clock.advance(60)
    assert bench.texts() == []
    other = bench.parts()
    other.close()
    bench.clock.advance(60)
    assert len(bench.mo.of(PartsWanted)) == 2
