"""What the answers of a message's parts make of the whole."""

from types import SimpleNamespace
from typing import Any

import pytest

from actors.shipment import Shipment
from carriers.base import SendError, SendResult
from carriers.smpp.session import Answered


def refusal(status: int, detail: str) -> SendError:
    return SendError("content_rejected", str(status), detail)


def job(*, once: bool = False) -> Any:
    return SimpleNamespace(once=once)


def walk(parts: int, answers: list[Any], *, once: bool = False) -> tuple[Shipment, list[Any]]:
    """Submit parts as long as there are any, give each the next answer; returns the verdicts, in order."""
    shipment = Shipment(job(once=once), 1, [object()] * parts)  # type: ignore[list-item]
    verdicts: list[Any] = []
    for outcome, id_ in answers:
        n, _ = shipment.next()
        shipment.take(n, Answered(None, outcome, 0 if outcome == "accepted" else 8, id_), refusal)
        verdicts.append(shipment.verdict())
    return shipment, verdicts


ACCEPTED = [("accepted", "a"), ("accepted", "b"), ("accepted", "c")]


@pytest.mark.parametrize(
    ("parts", "answers", "wanted"),
    [
        (1, [("accepted", "a")], ("a",)),
        (3, ACCEPTED, ("a", "b", "c")),
        (1, [("accepted", "")], ()),
        (1, [("throttled", ""), ("not_sent", ""), ("accepted", "a")], ("a",)),
        (2, [("accepted", "a"), ("throttled", ""), ("accepted", "b")], ("a", "b")),
        (1, [("refused", "")], "content_rejected"),
        (3, [("accepted", "a"), ("refused", "")], "content_rejected"),
        (1, [("in_doubt", "")], "retryable_transient"),
        (3, [("accepted", "a"), ("in_doubt", "")], "retryable_transient"),
        (3, [("throttled", ""), ("in_doubt", "")], "retryable_transient"),
    ],
)
def test_the_last_answer_brings_the_one_verdict(parts: int, answers: list[Any], wanted: Any) -> None:
    shipment, verdicts = walk(parts, answers)
    *before, last = verdicts
    assert before == [None] * len(before)
    if isinstance(wanted, tuple):
        assert isinstance(last, SendResult) and last.carrier_message_ids == wanted
    else:
        assert isinstance(last, SendError) and last.error_class == wanted
        assert last.ambiguous == (wanted == "retryable_transient")
    assert shipment.verdict() is None


def test_no_part_follows_a_refused_or_doubtful_one() -> None:
    for outcome in ("refused", "in_doubt"):
        shipment, _ = walk(3, [("accepted", "a"), (outcome, "")])
        assert not shipment.waiting and not shipment.open


@pytest.mark.parametrize("then", ["accepted", "throttled", "not_sent"])
def test_what_may_not_be_sent_twice_goes_on_after_a_doubtful_part_and_stays_in_doubt(then: str) -> None:
    answers = [("in_doubt", ""), (then, "b")] + [("accepted", "b")] * (then != "accepted") + [("accepted", "c")]
    shipment, (*before, last) = walk(3, answers, once=True)
    assert before == [None] * len(before)
    assert last.ambiguous and not shipment.waiting
    shipment.take(0, Answered(None, "accepted", 0, "a", late=True), refusal)
    verdict = shipment.verdict()
    assert isinstance(verdict, SendResult) and verdict.carrier_message_ids == ("a", "b", "c")


def test_a_part_that_was_throttled_goes_before_those_after_it() -> None:
    shipment = Shipment(job(), 1, ["one", "two", "three"])  # type: ignore[list-item]
    first, _ = shipment.next()
    shipment.next()
    shipment.take(first, Answered(None, "throttled", 88), refusal)
    assert [str(shipment.next()[1]) for _ in range(2)] == ["one", "three"]


def test_late_answers_make_a_doubtful_message_accepted() -> None:
    shipment, verdicts = walk(1, [("in_doubt", "")])
    assert verdicts[0].ambiguous
    shipment.take(0, Answered(None, "accepted", 0, "late", late=True), refusal)
    verdict = shipment.verdict()
    assert isinstance(verdict, SendResult) and verdict.carrier_message_ids == ("late",)


def test_a_late_refusal_makes_a_doubtful_message_refused() -> None:
    shipment, _ = walk(1, [("in_doubt", "")])
    shipment.take(0, Answered(None, "refused", 11, late=True), refusal)
    verdict = shipment.verdict()
    assert isinstance(verdict, SendError) and not verdict.ambiguous


def test_a_message_given_up_is_in_doubt_when_a_part_was_taken_and_untouched_before() -> None:
    shipment = Shipment(job(), 1, ["one", "two"])  # type: ignore[list-item]
    assert shipment.untouched
    n, _ = shipment.next()
    assert not shipment.untouched
    shipment.take(n, Answered(None, "accepted", 0, "a"), refusal)
    shipment.give_up("lost")
    verdict = shipment.verdict()
    assert isinstance(verdict, SendError) and verdict.ambiguous and verdict.detail == "lost"


def test_what_goes_again_keeps_the_order_of_its_first_dispatch() -> None:
    shipments = [Shipment(object(), n, []) for n in (3, 1, 2)]  # type: ignore[arg-type]
    assert [s.order for s in sorted(shipments)] == [1, 2, 3]
