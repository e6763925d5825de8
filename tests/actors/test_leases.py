"""Who holds which carrier, and what the messages that go to its holder look like on the way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from actors.handover import ANSWER, Desk, answered, in_doubt, key_of, read_answer, read_submission, written
from actors.leases import free_of, to_claim
from actors.messages import ChooseAgain, GoAhead, Job, NotTaken, NotWanted
from carriers.base import Submission
from hermes.domain import cascade as rules
from hermes.domain.commands import Submit
from hermes.domain.message import Content
from hermes.journal.base import CarrierLease, Handover
from hermes.runtime import Actor, RemoveChild
from tests.actors.cast import message, mock, start_cast

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ABC = ("a", "b", "c")


@pytest.mark.parametrize(
    ("free", "held", "workers", "left", "claimed"),
    [
        (ABC, 0, 1, (), ["a", "b", "c"]),  # alone: all
        (ABC, 0, 2, (), ["a", "b"]),  # half, rounded up
        (("c",), 2, 2, (), []),  # it has its share
        (("c",), 2, 2, ("c",), ["c"]),  # ... and nobody else wanted it
        (("c",), 0, 2, (), ["c"]),
        (ABC, 0, 3, (), ["a"]),
        (ABC, 0, 5, (), ["a"]),
        (("a",), 2, 1, (), ["a"]),  # the other one died
        ((), 0, 2, (), []),
    ],
)
def test_a_worker_takes_its_share_of_what_is_free(
    free: tuple[str, ...], held: int, workers: int, left: tuple[str, ...], claimed: list[str]
) -> None:
    assert to_claim(free, held, 3, workers, left) == claimed


def test_free_is_what_nobody_holds_or_a_dead_worker() -> None:
    leases = [CarrierLease("a", "w1"), CarrierLease("b", "w2", free=True), CarrierLease("x", "w1")]
    assert free_of(ABC, leases) == ["b", "c"]


def _job() -> Job:
    content = Content(text="Grüße € 🙂", sms={"text": "kort"}, data={"n": 1})
    submission = Submission(
        "msg_1", "ten_1", 1, 2, "sms", "+4520120001", None, content, "otp", NOW, "msg_1.1", 1, "gsm7", None
    )
    return Job(submission, None, True, once=True)  # type: ignore[arg-type]


def test_a_job_is_the_same_on_the_other_side() -> None:
    job = _job()
    handover = written("direct", job)
    assert (handover.message_id, handover.step, handover.attempt) == key_of(job.submission)
    assert (handover.once, handover.expires_at) == (True, NOW)
    assert read_submission(handover) == job.submission


@pytest.mark.parametrize(
    "answer",
    [
        rules.Submitted(0, 1, "direct", ("id-1", "id-2"), 2, 0.25),
        rules.Submitted(0, 1, "direct"),
        rules.Refused(0, 1, "direct", "throttled", "0x58", "too fast", True, 2.5),
        rules.InDoubt(0, 1, "direct", "retryable_transient", None, "reset by the carrier"),
    ],
)
def test_an_outcome_is_the_same_on_the_other_side(answer: rules.Submitted | rules.Refused | rules.InDoubt) -> None:
    errand = answered("msg_1", answer)
    assert (errand.message_id, errand.kind) == ("msg_1", ANSWER)
    assert read_answer(errand) == answer


def _taken() -> tuple[Desk, Job, Handover]:
    desk = Desk("direct")
    written_ = written("direct", _job())
    handover = Handover("direct", "submit", "msg_1", 1, 2, True, NOW, written_.body, worker="w2", id=7)
    return desk, desk.job(handover), handover


def test_what_the_dispatcher_says_of_a_job_ends_its_row_once() -> None:
    desk, job, _ = _taken()
    assert (job.by, job.write_ahead, job.once) == ("w2", False, True)
    job.cascade.send(rules.InDoubt(1, 2, "direct", "retryable_transient", None, "no answer"))
    job.cascade.send(rules.Submitted(1, 2, "direct", ("late",)))
    told = [(read_answer(errand), row) for errand, row in desk.answers if errand is not None]
    assert [(type(answer), row) for answer, row in told] == [(rules.InDoubt, 7), (rules.Submitted, None)]
    assert not desk.taken and not desk.back


@pytest.mark.parametrize("word", [NotTaken, ChooseAgain])
def test_what_did_not_leave_is_put_back_and_leaves_the_queue(word: type[NotTaken] | type[ChooseAgain]) -> None:
    desk, job, _ = _taken()
    job.cascade.send_system(word(job))
    job.cascade.send_system(word(job))
    assert (desk.back, desk.answers, desk.taken, job.withdrawn) == ([7], [], {}, True)


def test_what_must_not_be_sent_any_more_is_refused_to_its_cascade() -> None:
    desk, job, _ = _taken()
    job.cascade.send_system(NotWanted(job))
    ((errand, row),) = desk.answers
    assert errand is not None and row == 7
    answer = read_answer(errand)
    assert isinstance(answer, rules.Refused) and (answer.error_class, answer.code) == (rules.BLOCKED, "do_not_contact")


def test_what_a_holder_had_in_its_hands_when_it_ended_is_in_doubt() -> None:
    _, _, handover = _taken()
    answer = read_answer(in_doubt(handover))
    assert isinstance(answer, rules.InDoubt)
    assert (answer.step, answer.attempt, answer.carrier) == (1, 2, "direct")


class _ReturnsOnce(Actor):
    """A carrier's actor that gives the first job back although it was written ahead."""

    def __init__(self, heard: list[str]) -> None:
        self._heard = heard

    def handle(self, message: Any) -> None:
        job = message.job if type(message) is GoAhead else message
        self._heard.append(type(message).__name__)
        if type(message) is Job:
            job.cascade.send(rules.Sending(0, 1, "mock-sms"))
        elif type(message) is GoAhead and self._heard.count("GoAhead") == 1:
            job.cascade.send_system(NotTaken(job))


async def test_what_was_written_ahead_and_did_not_leave_is_let_go_when_it_is_asked_for_again() -> None:
    node = await start_cast([mock("mock-sms", "sms")])
    providers = node.system.whereis("providers")
    assert providers is not None
    await providers.call(RemoveChild("provider/mock-sms"))
    heard: list[str] = []
    node.system.spawn(lambda: _ReturnsOnce(heard), name="provider/mock-sms")
    made = message(node.tenant, on_ambiguous="never")
    await node.system.call(f"tenant/{node.tenant}", Submit(made))
    await node.until(lambda: heard == ["Job", "GoAhead", "Job", "GoAhead"], 10.0)
    await node.stop()
