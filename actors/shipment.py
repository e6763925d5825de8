"""One message on its way over SMPP: its parts, their answers, and what these make of the whole. No I/O.

    waiting --next()--> some parts open --take(answers)--> verdict: accepted, refused or in doubt

A part that was throttled or certainly not sent waits again; a refused one ends the sending of the others. So does a
doubtful one when the whole will be sent again; when nothing may be sent twice (policy never) the others follow, because
without them what may have been taken could never be read.
There is one verdict, when no part is open any more; after a doubtful one, late answers may still make it accepted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from actors.messages import Job
from carriers.base import SendError, SendResult
from carriers.smpp.pdu import SubmitSm
from carriers.smpp.session import Answered

Refusal = Callable[[int, str], SendError]  # command_status, detail -> what it means


class Shipment:
    """A message's parts.

    Attributes:
        order: of its first dispatch: what waits again goes in this order.
        open: parts submitted and not answered.
    """

    __slots__ = ("_doubt", "_error", "_ids", "_said", "_submits", "_todo", "job", "open", "order")

    def __init__(self, job: Job, order: int, submits: Sequence[SubmitSm]) -> None:
        self.job = job
        self.order = order
        self.open = 0
        self._said: str | None = None
        self._submits = submits
        self._ids: list[str | None] = [None] * len(submits)
        self._todo = deque(range(len(submits)))
        self._error: SendError | None = None
        self._doubt: str | None = None

    def __lt__(self, other: Shipment) -> bool:
        return self.order < other.order

    @property
    def waiting(self) -> bool:
        """True while parts are still to be submitted."""
        return bool(self._todo)

    @property
    def untouched(self) -> bool:
        """True while certainly no part of it was taken, nor is under way."""
        return not self.open and self._doubt is None and all(i is None for i in self._ids)

    def next(self) -> tuple[int, SubmitSm]:
        """Give the next part to submit, with its number."""
        n = self._todo.popleft()
        self.open += 1
        return n, self._submits[n]

    def take(self, n: int, answer: Answered, refusal: Refusal) -> None:
        """Take in what became of a part."""
        outcome = answer.outcome
        if not answer.late:
            self.open -= 1
        if outcome == "accepted":
            self._ids[n] = answer.carrier_message_id
        elif outcome == "refused":
            self._error = refusal(answer.command_status, answer.detail)
            self._todo.clear()
        elif outcome == "in_doubt":
            self._doubt = answer.detail
            if not self.job.once:
                self._todo.clear()
        elif answer.late:  # throttled after all: certainly not taken, but it was in doubt too long to go on with
            self._error = refusal(answer.command_status, answer.detail)
        elif self._error is None and (self._doubt is None or self.job.once):  # throttled, not_sent
            self._todo.appendleft(n)

    def give_up(self, why: str) -> None:
        """Send no further part; what was taken of it makes the whole doubtful."""
        self._todo.clear()
        self._doubt = why

    def verdict(self) -> SendResult | SendError | None:
        """Say what became of the message; None while it is not over, or when that was said already."""
        if self.open or self._todo:
            return None
        if self._error is not None:
            said: str = "refused"
        elif None not in self._ids:
            said = "accepted"
        else:
            said = "in_doubt"
        if self._said == said or (self._said is not None and said == "in_doubt"):
            return None
        self._said = said
        if said == "accepted":
            return SendResult(tuple(i for i in self._ids if i))
        if self._error is not None:
            return self._error
        return SendError("retryable_transient", None, self._doubt or "no answer", ambiguous=True)
