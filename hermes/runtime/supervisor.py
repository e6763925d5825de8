"""Actors that start, watch and restart other actors.

The ends of children come in the urgent lane, so a supervisor with a full mailbox still supervises; one whose
own handler is a coroutine serves them after it. The work is done by `supervision.Supervision`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, ClassVar

from hermes.runtime.actor import Actor
from hermes.runtime.childspec import ChildInfo, ChildSpec
from hermes.runtime.intensity import Intensity
from hermes.runtime.mailbox import Reply
from hermes.runtime.reasons import Reason
from hermes.runtime.ref import Ref
from hermes.runtime.strategy import Restart, Strategy
from hermes.runtime.supervision import Supervision


class Supervisor(Actor):
    """Starts its children in order, restarts them as their specs say, stops them in reverse.

    Use it as it is, with its arguments, or subclass it and pass them to `super().__init__`. A subclass may
    override `handle`, `handle_call` and `child_ended` freely: orders to supervisors (`StartChild`, ...) do
    not pass there.

    Args:
        strategy: who is restarted together.
        children: specs in start order; exactly one for simple_one_for_one.
        intensity: restarts allowed before it ends with `RestartsExceeded`.
        auto_shutdown: end normally when the last child has ended and none will be restarted.
    """

    __slots__ = ("_supervision",)

    kind: ClassVar[str] = "Supervisor"
    forgets_normal_ends: ClassVar[bool] = False  # `child_ended` does not hear of temporary children that end normally
    _supervises: ClassVar[bool] = True

    def __init__(
        self,
        strategy: Strategy = Strategy.ONE_FOR_ONE,
        children: Sequence[ChildSpec] = (),
        intensity: Intensity = Intensity(),  # noqa: B008 (frozen)
        auto_shutdown: bool = False,
    ) -> None:
        self._supervision = Supervision(self, strategy, children, intensity, auto_shutdown)

    def init(self) -> Awaitable[None] | None:
        """Start the children in order. A subclass that overrides it returns `super().init()`."""
        return self._supervision.start_from(0)

    def child_ended(self, ref: Ref, reason: Reason) -> Awaitable[None] | None:
        """Hear that a child ended and will not be restarted; its name is free and its record gone."""

    def start_child(self, *args: Any, name: str | None = None) -> Ref:
        """Start one more child of a simple_one_for_one.

        Args:
            *args: given to the factory after the spec's own; kept for restarts.
            name: its registered name.

        Raises:
            ChildDisabled: the spec is disabled.
            AsyncInit: its `init` must be awaited; use `start_child_async`.
            NameTaken: the name is in use.
            Exception: whatever its `init` raised.
        """
        spec = self._supervision.startable()
        ref = self.ref._system.spawn(
            spec.factory, *spec.args, *args, name=name, parent=self.ref, mailbox_limit=spec.mailbox_limit
        )
        if spec.restart is not Restart.TEMPORARY:
            self._supervision.enroll(spec, ref, name, args)
        return ref

    async def start_child_async(self, *args: Any, name: str | None = None) -> Ref:
        """Start one more child of a simple_one_for_one and await its `init`. Like `start_child` otherwise."""
        spec = self._supervision.startable()
        ref = await self.ref._system.spawn_async(
            spec.factory, *spec.args, *args, name=name, parent=self.ref, mailbox_limit=spec.mailbox_limit
        )
        if spec.restart is not Restart.TEMPORARY and ref.alive:
            self._supervision.enroll(spec, ref, name, args)
        return ref

    def add_child(self, spec: ChildSpec) -> Ref:
        """Add a spec as the last one and start it; its `init` must be plain (else call with `AddChild`).

        Raises:
            ValueError: a child has that name, or this is a simple_one_for_one.
            Exception: whatever its `init` raised; the spec is then not kept.
        """
        child = self._supervision.add(spec)
        try:
            ref = self.ref._system.spawn(
                spec.factory,
                *spec.args,
                name=child.name,
                parent=self.ref,
                mailbox_limit=spec.mailbox_limit,
            )
        except BaseException:
            self._supervision.forget(child)
            raise
        self._supervision._record_up(child, ref)
        return ref

    def remove_child(self, name: str) -> None:
        """Stop a child and forget its spec; it may still be ending when this returns.

        Raises:
            UnknownChild: no child has that name.
        """
        self._supervision.remove(name)

    def disable(self, name: str) -> None:
        """Stop a child and leave it down until `enable`; a delayed restart is cancelled.

        For a simple_one_for_one, with its spec's name: stop all children and refuse new ones.

        Raises:
            UnknownChild: no child has that name.
        """
        self._supervision.disable(name)

    def enable(self, name: str) -> None:
        """Let a disabled child (or one that was done) run again; it is started now, without any delay.

        Raises:
            UnknownChild: no child has that name.
        """
        self._supervision.enable(name)

    def restart_child(self, name: str) -> None:
        """Stop a child and start it again, alone and without counting against the intensity.

        Raises:
            UnknownChild: no child has that name, or it has no record (a temporary child of a
                simple_one_for_one).
            ChildDisabled: it is disabled.
        """
        self._supervision.restart(name)

    def children(self) -> list[ChildInfo]:
        """Return the children in start order, those that are down included."""
        return self._supervision.list()

    # -- for the kernel

    def _kernel_urgent(self, item: object) -> Awaitable[None] | None:
        return self._supervision.urgent(item)

    def _kernel_before_end(self) -> None:
        self._supervision.close()

    def _kernel_shutdown_s(self, child: Ref) -> float | None:
        return self._supervision.shutdown_s(child)

    def _kernel_together(self) -> bool:
        return self._supervision.simple is not None

    def _kernel_forgets(self, child: Ref) -> bool:
        return self.forgets_normal_ends and self._supervision.is_nobody(child)

    def _kernel_starting(self, child: Ref) -> bool:
        return child in self._supervision.by_ref

    def _kernel_control(self, request: object, reply: Reply) -> None:
        try:
            self._supervision.obey(request, reply)
        except Exception as exc:  # the caller is told; a bad order must not end the supervisor
            reply.error(exc)

    def _kernel_absent(self) -> Sequence[dict[str, Any]]:
        return self._supervision.absent()

    def _kernel_detail(self) -> dict[str, Any]:
        return self._supervision.detail() | self.inspect()
