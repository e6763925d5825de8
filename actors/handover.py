"""What goes between a worker that has a message and the one that holds its carrier: how it is written. No I/O.

courier (courier.py) --Handover--> table --> intake (intake.py) --Job--> the carrier's dispatcher
cascade <--Wake-- errands <--Errand "answer"-- table <-- intake <-- what the dispatcher says to the job's `Guest`
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from actors.messages import CancelSubmitted, ChooseAgain, Job, NotTaken, NotWanted
from carriers.base import Submission
from hermes.domain import cascade as rules
from hermes.journal.base import Errand, Handover
from hermes.runtime import SendResult

SUBMIT: Final = "submit"
CANCEL: Final = "cancel"
ANSWER: Final = "answer"  # the kind of errand
# What is about to expire stays with its cascade, which then knows that it was not sent. That long before, a holder
# takes nothing and gives back what it has not sent; nothing is handed over, and what nobody has taken is taken back.
LAST_TAKEN_S: Final = 3.0
LAST_HANDED_S: Final = 1.5

Key = tuple[str, int, int]  # message_id, step, attempt
Answer = rules.Submitted | rules.Refused | rules.InDoubt

_encode = msgspec.json.encode
_KINDS: Final[dict[str, type[Any]]] = {
    "submitted": rules.Submitted,
    "refused": rules.Refused,
    "in_doubt": rules.InDoubt,
}
_NAMES: Final = {type_: name for name, type_ in _KINDS.items()}


class _Cancel(msgspec.Struct):
    submission: Submission
    carrier_message_ids: tuple[str, ...]


class _Answer(msgspec.Struct):
    kind: str
    answer: msgspec.Raw


def key_of(submission: Submission) -> Key:
    """Name an attempt."""
    return submission.message_id, submission.step, submission.attempt


def written(carrier: str, job: Job) -> Handover:
    """Write a job for the carrier's holder."""
    s = job.submission
    return Handover(carrier, SUBMIT, s.message_id, s.step, s.attempt, job.once, s.expires_at, _encode(s).decode())


def written_cancel(carrier: str, cancel: CancelSubmitted) -> Handover:
    """Write the wish to stop what the carrier took."""
    s = cancel.submission
    body = _encode(_Cancel(s, cancel.carrier_message_ids)).decode()
    return Handover(carrier, CANCEL, s.message_id, s.step, s.attempt, False, s.expires_at, body)


def read_submission(handover: Handover) -> Submission:
    """Read a job's submission."""
    return msgspec.json.decode(handover.body, type=Submission)


def read_cancel(handover: Handover) -> CancelSubmitted:
    """Read the wish to stop what the carrier took."""
    cancel = msgspec.json.decode(handover.body, type=_Cancel)
    return CancelSubmitted(cancel.submission, cancel.carrier_message_ids)


def answered(message_id: str, answer: Answer) -> Errand:
    """Write what became of an attempt, for the owner of its message."""
    body = _encode({"kind": _NAMES[type(answer)], "answer": answer}).decode()
    return Errand(message_id, ANSWER, body)


def read_answer(errand: Errand) -> Answer:
    """Read what became of an attempt."""
    told = msgspec.json.decode(errand.body, type=_Answer)
    answer: Answer = msgspec.json.decode(told.answer, type=_KINDS[told.kind])
    return answer


def in_doubt(handover: Handover) -> Errand:
    """Say of what a holder had in its hands when it ended that only the carrier knows (rule 9)."""
    why = "the worker that held the carrier ended"
    doubt = rules.InDoubt(handover.step, handover.attempt, handover.carrier, "retryable_transient", None, why)
    return answered(handover.message_id, doubt)


class Desk:
    """What a carrier's holder has of other workers. It outlives the actors that use it.

    Attributes:
        taken: in the dispatcher's hands, by row.
        answers: to be stored: an errand, if there is one, and the row that is done with it, if it was not yet.
        back: rows of what certainly did not leave, to be put back.
        wake: told when there is something to store.
    """

    def __init__(self, carrier: str) -> None:
        self.carrier = carrier
        self.taken: dict[int, Job] = {}
        self.answers: list[tuple[Errand | None, int | None]] = []
        self.back: list[int] = []
        self.wake: Callable[[], None] = lambda: None
        self.withdraw: Callable[[Job], None] = lambda job: None

    def job(self, handover: Handover) -> Job:
        """Make the job, whose cascade is a `Guest`."""
        guest: Any = Guest(self, handover)
        job = Job(read_submission(handover), guest, False, once=handover.once, by=handover.worker)
        self.taken[handover.id] = job
        return job

    def answer(self, handover: Handover, answer: Answer) -> None:
        """What became of it; after a doubtful answer a late one may follow."""
        done = handover.id if self.taken.pop(handover.id, None) is not None else None
        self.answers.append((answered(handover.message_id, answer), done))
        self.wake()

    def let_expire(self, before: datetime) -> None:
        """Give back what expires soon and has not left."""
        for row, job in list(self.taken.items()):
            if not job.left and job.submission.expires_at <= before:
                job.withdrawn = True
                del self.taken[row]
                self.back.append(row)
                self.withdraw(job)

    def forget(self, handover: Handover) -> None:
        """Nobody waits for its outcome."""
        self.answers.append((None, handover.id))
        self.wake()

    def give_back(self, handover: Handover) -> None:
        """It certainly did not leave."""
        job = self.taken.pop(handover.id, None)
        if job is not None:
            job.withdrawn = True
            self.back.append(handover.id)
            self.wake()


class Guest:
    """Stands for the cascade of another worker: what the dispatcher tells it is stored."""

    __slots__ = ("_desk", "_handover")

    def __init__(self, desk: Desk, handover: Handover) -> None:
        self._desk = desk
        self._handover = handover

    def send(self, message: Any) -> SendResult:
        """Take an answer, or hear that the job did not leave."""
        kind = type(message)
        desk, handover = self._desk, self._handover
        if kind in _NAMES:
            desk.answer(handover, message)
        elif kind is NotTaken:
            desk.give_back(handover)
        elif kind is ChooseAgain:
            desk.give_back(handover)
            desk.withdraw(message.job)
        elif kind is NotWanted:
            why = "the recipient must not be written to on this channel"
            at = (handover.step, handover.attempt, handover.carrier)
            desk.answer(handover, rules.Refused(*at, rules.BLOCKED, "do_not_contact", why))
        else:
            raise TypeError(f"nothing of another worker understands {kind.__name__}")
        return SendResult.DELIVERED

    send_system = send
