"""N workers behind one name, one piece of work each at a time.

A piece of work goes to a free worker or waits in a bounded line; when the line is full too, the sender is told
(Ergo drops it). A worker that dies is replaced at once and what it had in hand is reported, never run again:
whether a half-done piece may be repeated only its owner knows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from hermes.runtime.actor import Actor
from hermes.runtime.intensity import Intensity
from hermes.runtime.mailbox import NO_REPLY, Reply, SendResult
from hermes.runtime.reasons import SHUTDOWN, MailboxFull, Reason, RuntimeFault, is_abnormal, reason_text
from hermes.runtime.ref import Ref
from hermes.runtime.strategy import Restart, Strategy
from hermes.runtime.supervisor import ChildSpec, Supervisor


class WorkLost(RuntimeFault):
    """The worker ended with the piece of work in hand; how far it got is not known."""

    def __init__(self, work: object, reason: Reason) -> None:
        super().__init__(f"the worker ended with work in hand: {reason_text(reason)}")
        self.work = work
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Lost:
    """For `Pool.work_lost`: what a worker had in hand when it ended."""

    work: Any
    reason: Reason


class _Job:
    __slots__ = ("reply", "work")

    def __init__(self, work: Any, reply: Reply | None) -> None:
        self.work = work
        self.reply = reply


class _Done:
    """From a worker to its pool."""

    __slots__ = ("error", "value", "worker")

    def __init__(self, worker: Ref, value: Any, error: BaseException | None) -> None:
        self.worker = worker
        self.value = value
        self.error = error


class PoolWorker(Actor):
    """Does one piece of work at a time. Override `work`."""

    __slots__ = ("_pool",)

    kind: ClassVar[str] = "PoolWorker"
    _pool: Ref

    def work(self, item: Any) -> Any:
        """Do one piece; plain or async. The value goes to whoever called the pool; raising ends the worker."""
        raise TypeError(f"{self.kind} has no work()")

    def handle(self, message: Any) -> Any:
        """Take a job from the pool."""
        value = self.work(message.work)
        if hasattr(type(value), "__await__"):
            return self._finish(value)
        self._pool.send_system(_Done(self.ref, value, None))
        return None

    async def _finish(self, pending: Any) -> None:
        self._pool.send_system(_Done(self.ref, await pending, None))


class Pool(Supervisor):
    """Workers of one kind. Send it work, or call it with work and get the value.

    Args:
        factory: makes a `PoolWorker`, called with `args`.
        size: how many; 1 or more.
        args: for the factory.
        backlog: pieces that may wait for a free worker; then `offer` answers FULL and a call raises `MailboxFull`.
        intensity: of replacing workers, before the pool itself gives up.
        lost: called with each `Lost` piece nobody waits for by a call.
    """

    __slots__ = ("_backlog", "_busy", "_free", "_line", "_lost", "_size", "done", "refused")

    kind: ClassVar[str] = "Pool"

    def __init__(
        self,
        factory: Callable[..., PoolWorker],
        size: int,
        args: tuple[Any, ...] = (),
        backlog: int = 1000,
        intensity: Intensity = Intensity(10, 5.0),  # noqa: B008 (frozen)
        lost: Callable[[Lost], object] | None = None,
    ) -> None:
        if size < 1 or backlog < 0:
            raise ValueError("a pool needs a size of 1 or more and a backlog of 0 or more")
        # The pool replaces workers itself (temporary), so that a replacement is never mistaken for the old one.
        spec = ChildSpec("worker", factory, args, restart=Restart.TEMPORARY)
        super().__init__(Strategy.SIMPLE_ONE_FOR_ONE, (spec,), intensity)
        self._size = size
        self._backlog = backlog
        self._line: deque[_Job] = deque()
        self._free: deque[Ref] = deque()
        self._busy: dict[Ref, _Job] = {}
        self._lost = lost
        self.done = 0
        self.refused = 0

    def init(self) -> None:
        """Start the workers."""
        for _ in range(self._size):
            self._add_worker()

    def offer(self, work: Any, reply: Reply | None = None) -> SendResult:
        """Take a piece of work from inside the pool's own turn; FULL when no worker is free and the line is full."""
        job = _Job(work, reply)
        while self._free:
            worker = self._free.popleft()
            if self._give(worker, job):
                return SendResult.DELIVERED
        if len(self._line) >= self._backlog:
            self.refused += 1
            return SendResult.FULL
        self._line.append(job)
        return SendResult.DELIVERED

    def handle(self, message: Any) -> None:
        """Take work, or hear that some is done. Work for which there is no room is reported as lost."""
        if type(message) is _Done:
            self._finished(message)
        elif self.offer(message) is SendResult.FULL:
            self.work_lost(Lost(message, MailboxFull(f"{self.ref} is full")))

    def handle_call(self, request: Any, reply: Reply) -> Any:
        """Take work and answer with its value when it is done."""
        if self.offer(request, reply) is SendResult.FULL:
            reply.error(MailboxFull(f"{self.ref}: {self._size} workers are busy, {self._backlog} pieces wait"))
        return NO_REPLY

    def work_lost(self, lost: Lost) -> None:
        """Hear of work that was not done and nobody waits for; override or pass `lost`."""
        if self._lost is not None:
            self._lost(lost)

    def child_ended(self, ref: Ref, reason: Reason) -> None:
        """Report what the worker had in hand, and replace it."""
        job = self._busy.pop(ref, None)
        if job is not None:
            if job.reply is not None:
                job.reply.error(WorkLost(job.work, reason))
            else:
                self.work_lost(Lost(job.work, reason))
        elif ref in self._free:
            self._free.remove(ref)
        if not is_abnormal(reason):
            reason = reason if isinstance(reason, BaseException) else SHUTDOWN
        if self._count_restart(ref.name or repr(ref), reason):
            self._add_worker()
            self._feed()

    def inspect(self) -> dict[str, Any]:
        """Return the pool's counts."""
        return {
            "workers": self._size,
            "busy": len(self._busy),
            "waiting": len(self._line),
            "backlog": self._backlog,
            "done": self.done,
            "refused": self.refused,
        }

    def _add_worker(self) -> None:
        worker = self.start_child()
        actor = worker._actor
        if not isinstance(actor, PoolWorker):
            raise TypeError("a pool's factory must make PoolWorkers")
        actor._pool = self.ref
        self._free.append(worker)

    def _give(self, worker: Ref, job: _Job) -> bool:
        if worker.send(job) is not SendResult.DELIVERED:
            return False  # it is ending; `child_ended` follows and replaces it
        self._busy[worker] = job
        return True

    def _finished(self, done: _Done) -> None:
        job = self._busy.pop(done.worker, None)
        if job is None:
            return
        self.done += 1
        if job.reply is not None:
            job.reply.ok(done.value)
        self._free.append(done.worker)
        self._feed()

    def _feed(self) -> None:
        while self._line and self._free:
            job = self._line.popleft()
            if job.reply is not None and not job.reply.open:
                continue  # whoever asked has given up
            if not self._give(self._free.popleft(), job):
                self._line.appendleft(job)
