"""The class every actor extends.

An actor is plain state plus handlers. The kernel calls one handler at a time; between messages nothing of it
runs and it costs its object, its ref and nothing else. What it talks to it knows by `Ref` or by name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from hermes.runtime.mailbox import Down, Exit, Reply
from hermes.runtime.reasons import NORMAL, Reason
from hermes.runtime.timers import Timer

if TYPE_CHECKING:
    from hermes.runtime.ref import Ref
    from hermes.runtime.system import System

DEFAULT_MAILBOX_LIMIT = 1000  # messages in the main lane
DEFAULT_SHUTDOWN_S = 5.0  # seconds a child of a plain actor may take to end before it is killed


class Actor:
    """State with a mailbox. Subclass it and override what you need.

    Built by its factory, then `ref` is set and `init` runs. `ref` is therefore not there in `__init__`.
    A handler that raises ends the actor with that error; its supervisor decides what happens next.

    Attributes:
        kind: what the actor is called in the tree; the class name unless set.
        mailbox_limit: messages the main lane holds before `send` answers FULL; 1 or more.
        trap_exits: a linked actor's end comes to `handle_exit` instead of ending this one.
        ref: the actor's own handle.
    """

    __slots__ = ("ref",)

    kind: ClassVar[str] = "Actor"
    mailbox_limit: ClassVar[int] = DEFAULT_MAILBOX_LIMIT
    trap_exits: ClassVar[bool] = False

    # True iff the class overrides the method: the kernel then need not call what does nothing.
    _has_init: ClassVar[bool] = False
    _has_terminate: ClassVar[bool] = False
    _has_unserved: ClassVar[bool] = False
    # True iff the ends of children come to the urgent lane (supervisors).
    _supervises: ClassVar[bool] = False

    ref: Ref

    def __init_subclass__(cls, **options: Any) -> None:
        """Remember which hooks the class overrides."""
        super().__init_subclass__(**options)
        if "kind" not in cls.__dict__:
            cls.kind = cls.__name__
        cls._has_init = cls.init is not Actor.init
        cls._has_terminate = cls.terminate is not Actor.terminate
        cls._has_unserved = cls.unserved is not Actor.unserved

    # -- to override

    def init(self) -> Awaitable[None] | None:
        """Prepare; plain or async. Runs in the spawner: if it raises, the actor never existed."""

    def handle(self, message: Any) -> Awaitable[None] | None:
        """Take one message. An `async def` gets a task, and nothing else is served until it is done."""
        raise TypeError(f"{self.kind} has no handle(), but was sent a {type(message).__name__}")

    def handle_call(self, request: Any, reply: Reply) -> Any:
        """Answer one request with the value returned (an awaitable is awaited), or return `NO_REPLY`.

        With `NO_REPLY` the answer follows through `reply.ok(value)` or `reply.error(exc)`. Raising ends the
        actor and raises the same error in the caller.
        """
        raise TypeError(f"{self.kind} has no handle_call(), but was asked a {type(request).__name__}")

    def handle_down(self, down: Down) -> Awaitable[None] | None:
        """Hear of the end of a monitored actor, once per monitor."""

    def handle_exit(self, exit: Exit) -> Awaitable[None] | None:
        """Hear of the end of a linked actor; only with `trap_exits`."""

    def terminate(self, reason: Reason) -> Awaitable[None] | None:
        """Clean up; plain or async, within the system's `terminate_limit_s`. Not called after a kill.

        Children are gone already; the name is still held, and links and monitors hear of the end afterwards.
        """

    def unserved(self, message: Any) -> None:
        """Hear of a message that waited in the main lane when the actor ended: give it back to whoever needs to know.

        Before `terminate`, in order, and after a kill or a failed `init` too; must be quick. Calls are not among them:
        their callers get `NotAlive`.
        """

    def inspect(self) -> dict[str, Any]:
        """Return what an operator should see, ready for JSON. Called at any moment, also amid a handler."""
        return {}

    def log_facts(self) -> dict[str, str]:
        """Return what belongs on every log line written while this actor is at work; quick, must not raise."""
        return {}

    # -- to use

    @property
    def system(self) -> System:
        """The system the actor lives in."""
        return self.ref._system

    @property
    def trace_id(self) -> str | None:
        """The trace id of the message being handled, if it came with one."""
        rare = self.ref._rare
        return rare.trace if rare is not None else None

    def spawn(
        self,
        factory: Callable[..., Actor],
        *args: Any,
        name: str | None = None,
        mailbox_limit: int | None = None,
    ) -> Ref:
        """Start a child with a plain `init`. It ends with this actor; its own end does not touch this one.

        Raises:
            AsyncInit: its `init` must be awaited; use `spawn_async`.
            NameTaken: the name is in use.
            Exception: whatever its `init` raised.
        """
        return self.ref._system.spawn(factory, *args, name=name, parent=self.ref, mailbox_limit=mailbox_limit)

    def spawn_link(
        self,
        factory: Callable[..., Actor],
        *args: Any,
        name: str | None = None,
        mailbox_limit: int | None = None,
    ) -> Ref:
        """Start a child like `spawn`, linked: its end also ends this actor (or comes to `handle_exit`)."""
        return self.ref._system.spawn(
            factory, *args, name=name, parent=self.ref, link=True, mailbox_limit=mailbox_limit
        )

    async def spawn_async(
        self,
        factory: Callable[..., Actor],
        *args: Any,
        name: str | None = None,
        link: bool = False,
        mailbox_limit: int | None = None,
    ) -> Ref:
        """Start a child and await its `init`."""
        return await self.ref._system.spawn_async(
            factory, *args, name=name, parent=self.ref, link=link, mailbox_limit=mailbox_limit
        )

    def link(self, ref: Ref) -> None:
        """Tie two ends together: whichever ends first, the other gets an exit signal, now if it is gone."""
        self.ref._link(ref)

    def unlink(self, ref: Ref) -> None:
        """Undo `link`; an exit signal already under way still arrives."""
        self.ref._unlink(ref)

    def monitor(self, ref: Ref) -> int:
        """Ask for one `Down` when the other ends (at once if it is gone); return the monitor's id."""
        return self.ref._monitor(ref)

    def demonitor(self, monitor: int) -> None:
        """Take a monitor back; a `Down` already queued is taken back too."""
        self.ref._demonitor(monitor)

    def stop(self, reason: Reason = NORMAL) -> None:
        """End after the current handler. What is still in the mailbox is not handled."""
        self.ref._stop_self(reason)

    def send_after(self, delay_s: float, message: object, coarse: bool = True) -> Timer:
        """Send oneself a message later, in the system lane; the actor's end cancels it.

        Args:
            delay_s: seconds, 0 or more.
            message: comes to `handle`.
            coarse: use the timer wheel (never early, at most 100 ms late); else the clock itself.
        """
        return self.ref._send_after(delay_s, message, coarse)

    def hold_mailbox(self) -> None:
        """Leave the main lane alone after the current handler; it fills up, and then senders are told FULL.

        The other lanes are served as ever. For an actor that cannot take more until something comes back.
        """
        self.ref._hold()

    def release_mailbox(self) -> None:
        """Take up the main lane again."""
        self.ref._release()

    # -- for the kernel's own subclasses

    def _kernel_urgent(self, item: object) -> Awaitable[None] | None:
        """Take a kernel item from the urgent lane."""
        return None

    def _kernel_system(self, item: object) -> Awaitable[None] | None:
        """Take a kernel item from the system lane."""
        return self.handle_down(item) if type(item) is Down else None

    def _kernel_control(self, request: object, reply: Reply) -> None:
        """Answer an order meant for a supervisor."""
        reply.error(TypeError(f"{self.ref} is a {self.kind}, not a supervisor"))

    def _kernel_before_end(self) -> None:
        """Drop whatever would start something new; the children are stopped next."""

    def _kernel_shutdown_s(self, child: Ref) -> float | None:
        """Return how long the child may take to end; None kills it at once."""
        return DEFAULT_SHUTDOWN_S

    def _kernel_together(self) -> bool:
        """Tell whether children may all be stopped at once (no order among them)."""
        return False

    def _kernel_forgets(self, child: Ref) -> bool:
        return False

    def _kernel_starting(self, child: Ref) -> bool:
        """Tell whether the supervisor has to hear that this child's init failed."""
        return False

    def _kernel_detail(self) -> dict[str, Any]:
        return self.inspect()

    def _kernel_absent(self) -> Sequence[dict[str, Any]]:
        """Describe children that are not running, as entries of the tree (supervisors)."""
        return ()
