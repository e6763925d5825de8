"""How a child is to be started and kept, and the orders a supervisor takes by `call`."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from hermes.runtime.actor import Actor
from hermes.runtime.ref import Control, Ref
from hermes.runtime.strategy import Backoff, Phase, Restart


class _Brutal(enum.Enum):
    BRUTAL = "brutal"


BRUTAL: Final = _Brutal.BRUTAL
"""As `shutdown_s`: kill the child at once, without `terminate`."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start and keep one child.

    Attributes:
        name: unique among its siblings; also the registered name, but for simple_one_for_one.
        factory: called with `args` (and, for simple_one_for_one, the arguments of `start_child` after them).
        restart: permanent, transient or temporary.
        significant: its end, when it is not restarted, ends the supervisor too. Never for a permanent child.
        shutdown_s: seconds it may take to end before it is killed; BRUTAL kills at once.
        backoff: wait before a restart; None restarts at once.
        mailbox_limit: instead of the class's own.
        register_as: registered name, where it should not be `name`.
    """

    name: str
    factory: Callable[..., Actor]
    args: tuple[Any, ...] = ()
    restart: Restart = Restart.PERMANENT
    significant: bool = False
    shutdown_s: float | _Brutal = 5.0
    backoff: Backoff | None = None
    mailbox_limit: int | None = None
    register_as: str | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.significant and self.restart is Restart.PERMANENT:
            raise ValueError(f"child {self.name!r}: a permanent child cannot be significant, it is always restarted")


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One child as its supervisor sees it."""

    name: str
    ref: Ref | None
    phase: Phase
    restart: Restart
    restarts: int
    disabled: bool
    last_reason: str | None


@dataclass(frozen=True, slots=True)
class StartChild(Control):
    """Call a simple_one_for_one supervisor: start a child with these arguments. Answer: its ref."""

    args: tuple[Any, ...] = ()
    name: str | None = None


@dataclass(frozen=True, slots=True)
class AddChild(Control):
    """Call a supervisor: add a spec as the last one and start it. Answer: its ref."""

    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class RemoveChild(Control):
    """Call a supervisor: stop the child and forget its spec. Answered when it is gone."""

    name: str


@dataclass(frozen=True, slots=True)
class DisableChild(Control):
    """Call a supervisor: stop the child and leave it down. Answered when it is down."""

    name: str


@dataclass(frozen=True, slots=True)
class EnableChild(Control):
    """Call a supervisor: start a child that is down. Answer: its ref."""

    name: str


@dataclass(frozen=True, slots=True)
class RestartChild(Control):
    """Call a supervisor: stop the child and start it again. Answer: its new ref."""

    name: str


@dataclass(frozen=True, slots=True)
class ListChildren(Control):
    """Call a supervisor. Answer: `list[ChildInfo]` in start order."""
