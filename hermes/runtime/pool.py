"""N workers behind one name, one piece of work each at a time.

The pool's own main lane is the line for work: while every worker is busy the pool leaves it alone, so its
limit (`mailbox_limit` of the spec or spawn) is the backlog, and a sender is told FULL when it is used up
(Ergo drops). A worker that dies is replaced at once, and what it had in hand is reported, never run again:
whether a half-done piece may be repeated only its owner knows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from hermes.runtime.actor import Actor
from hermes.runtime.childspec import ChildSpec
from hermes.runtime.intensity import Intensity
from hermes.runtime.mailbox import NO_REPLY, Reply, SendResult, SystemItem
from hermes.runtime.reasons import Reason, RuntimeFault, reason_text
from hermes.runtime.ref import Ref
from hermes.runtime.strategy import Restart, Strategy
from hermes.runtime.supervisor import Supervisor


class WorkLost(RuntimeFault):
    """The worker ended with the piece of work in hand; how far it got is not known."""

    def __init__(self, work: object, reason: Reason) -> None:
        super().__init__(f"the worker ended with work in hand: {reason_text(reason)}")
        self.work = work
        self.reason = reason


class _Job:
    __slots__ = ("reply", "work")

    def __init__(self, work: Any, reply: Reply | None) -> None:
        self.work = work
        self.reply = reply


class _Done(SystemItem):
    """From a worker to its pool."""

    __slots__ = ("value", "worker")

    def __init__(self, worker: Ref, value: Any) -> None:
        self.worker = worker
        self.value = value


class PoolWorker(Actor):
    """Does one piece of work at a time. Override `work`."""

    __slots__ = ()

    kind: ClassVar[str] = "PoolWorker"

    def work(self, item: Any) -> Any:
        """Do one piece; plain or async. The value goes to whoever called; raising ends the worker."""
        raise TypeError(f"{self.kind} has no work()")

    def handle(self, message: Any) -> Awaitable[None] | None:
        """Take a job from the pool."""
        value = self.work(message.work)
        if hasattr(type(value), "__await__"):
            return self._later(value)
        self._done(value)
        return None

    async def _later(self, pending: Awaitable[Any]) -> None:
        self._done(await pending)

    def _done(self, value: Any) -> None:
        pool = self.ref.parent
        if pool is not None:
            pool.send_system(_Done(self.ref, value))


class Pool(Supervisor):
    """Workers of one kind. Send it work, or call it with work and get the value.

    Args:
        factory: makes a `PoolWorker`, called with `args`; its `init` must be plain.
        size: how many; 1 or more.
        args: for the factory.
        intensity: of replacing workers, before the pool itself gives up.
        lost: called as `lost(work, reason)` with each piece that was sent (not called) and that a worker's
            end took.
    """

    __slots__ = ("_pool_busy", "_pool_done_total", "_pool_free", "_pool_on_lost", "_pool_size")

    kind: ClassVar[str] = "Pool"

    def __init__(
        self,
        factory: Callable[..., PoolWorker],
        size: int,
        args: tuple[Any, ...] = (),
        intensity: Intensity = Intensity(10, 5.0),  # noqa: B008 (frozen)
        lost: Callable[[Any, Reason], object] | None = None,
    ) -> None:
        if size < 1:
            raise ValueError("a pool needs a size of 1 or more")
        # Temporary: the pool replaces workers itself, so a new one is never taken for the old one.
        spec = ChildSpec("worker", factory, args, restart=Restart.TEMPORARY)
        super().__init__(Strategy.SIMPLE_ONE_FOR_ONE, (spec,), intensity)
        self._pool_size = size
        self._pool_free: deque[Ref] = deque()
        self._pool_busy: dict[Ref, _Job] = {}
        self._pool_on_lost = lost
        self._pool_done_total = 0

    def init(self) -> None:
        """Start the workers."""
        for _ in range(self._pool_size):
            self._pool_free.append(self.start_child())

    def handle(self, message: Any) -> None:
        """Give work to a free worker."""
        self._give(_Job(message, None))

    def handle_call(self, request: Any, reply: Reply) -> Any:
        """Give work to a free worker; its value is the answer, `WorkLost` if the worker ends over it."""
        self._give(_Job(request, reply))
        return NO_REPLY

    def work_lost(self, work: Any, reason: Reason) -> None:
        """Hear of a piece that a worker's end took and that nobody waits for; override, or pass `lost`."""
        if self._pool_on_lost is not None:
            self._pool_on_lost(work, reason)

    def child_ended(self, ref: Ref, reason: Reason) -> None:
        """Report what the worker had in hand, and replace it."""
        job = self._pool_busy.pop(ref, None)
        if job is None:
            if ref in self._pool_free:
                self._pool_free.remove(ref)
        elif job.reply is not None:
            job.reply.error(WorkLost(job.work, reason))
        else:
            self.work_lost(job.work, reason)
        supervision = self._supervision
        if not supervision.closed and supervision.count_restart(repr(ref), reason):
            supervision.note(repr(ref), "restart", reason)
            self._pool_free.append(self.start_child())
            self.release_mailbox()

    def inspect(self) -> dict[str, Any]:
        """Return the pool's counts."""
        return {"workers": self._pool_size, "busy": len(self._pool_busy), "done": self._pool_done_total}

    def _kernel_system(self, item: object) -> Awaitable[None] | None:
        if type(item) is not _Done:
            return super()._kernel_system(item)
        job = self._pool_busy.pop(item.worker, None)
        if job is not None:
            self._pool_done_total += 1
            if job.reply is not None:
                job.reply.ok(item.value)
            self._pool_free.append(item.worker)
            self.release_mailbox()
        return None

    def _give(self, job: _Job) -> None:
        while self._pool_free:
            worker = self._pool_free.popleft()
            if worker.send(job) is SendResult.DELIVERED:
                self._pool_busy[worker] = job
                break
            # It is ending: `child_ended` follows and brings a new one.
        else:
            # Every free worker was just ending. Nobody has the job: it goes first when one is there again.
            self.ref._put_back(job.work, job.reply)
        if not self._pool_free:
            self.hold_mailbox()
