"""What a supervisor does about an end: pure functions over the state of its children.

The supervisor keeps one `ChildState` per child and sets goals on it (`wanted`, `recycle`); `decide` says what
an end means, `next_actions` says what to do now to get nearer to the goals. Nothing here starts, stops or
waits, and there is no "phase of the supervisor" to get stuck in: the next step always follows from the
children alone.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class Strategy(enum.Enum):
    """Who is restarted with a child that ended."""

    ONE_FOR_ONE = "one_for_one"
    ALL_FOR_ONE = "all_for_one"
    REST_FOR_ONE = "rest_for_one"
    SIMPLE_ONE_FOR_ONE = "simple_one_for_one"


class Restart(enum.Enum):
    """Which ends lead to a restart."""

    PERMANENT = "permanent"  # every end
    TRANSIENT = "transient"  # an abnormal one
    TEMPORARY = "temporary"  # none


class Phase(enum.Enum):
    """Where a child is."""

    DOWN = "down"
    BACK_OFF = "back_off"  # down, a timer will start it
    STARTING = "starting"  # its init is being awaited
    UP = "up"
    STOPPING = "stopping"


# Looking a member up in its class costs 90 ns on Python 3.11; the loop below does it a dozen times a restart.
_DOWN, _BACK_OFF, _STARTING, _UP, _STOPPING = (
    Phase.DOWN,
    Phase.BACK_OFF,
    Phase.STARTING,
    Phase.UP,
    Phase.STOPPING,
)
_ALIVE = (_STARTING, _UP, _STOPPING)
_PERMANENT, _TRANSIENT, _TEMPORARY = Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY
_ORDERED = (Strategy.ALL_FOR_ONE, Strategy.REST_FOR_ONE)


class ChildState:
    """One child as the strategy sees it.

    Attributes:
        wanted: it should be up. False for one disabled, removed, or done.
        recycle: it must be down before anything of its cycle starts; cleared when it is started.
        spared: somebody asked for it by name, so it is started again even if it is temporary.
    """

    __slots__ = ("phase", "recycle", "restart", "significant", "spared", "wanted")

    def __init__(
        self,
        restart: Restart = _PERMANENT,
        significant: bool = False,
        phase: Phase = _DOWN,
        wanted: bool = True,
        recycle: bool = False,
    ) -> None:
        self.restart = restart
        self.significant = significant
        self.phase = phase
        self.wanted = wanted
        self.recycle = recycle
        self.spared = False


class Verdict(enum.Enum):
    """What the end of a child means for it."""

    RESTART = "restart"
    EXPECTED = "stop"  # we asked for it
    REST = "rest"  # done; its spec stays
    REMOVE = "remove"  # done; its spec goes
    FINISH = "finish"  # done, and so is the supervisor


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict on one end.

    Attributes:
        counts: the restart counts against the intensity.
        recycle: indexes of siblings to be stopped and started again with it.
    """

    verdict: Verdict
    counts: bool = False
    recycle: tuple[int, ...] = ()


_ALONE = Decision(Verdict.RESTART, counts=True)


class Act(enum.Enum):
    """The two things a supervisor can do to a child."""

    START = "start"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Action:
    """Do this to the child with this index."""

    act: Act
    index: int


def must_restart(restart: Restart, abnormal: bool) -> bool:
    """Tell whether a child of this type is restarted after such an end."""
    return restart is _PERMANENT or (restart is _TRANSIENT and abnormal)


def decide(strategy: Strategy, children: Sequence[ChildState], index: int, abnormal: bool) -> Decision:
    """Judge the end, or the failed start, of one child.

    Args:
        strategy: of the supervisor.
        children: all of them in start order, as they were just before the end.
        index: who ended.
        abnormal: the reason was neither normal nor shutdown.
    """
    child = children[index]
    if not child.wanted:
        return Decision(Verdict.EXPECTED)
    if child.phase is _STOPPING:
        # A temporary child that fell to a sibling's cycle has nobody to start it again.
        gone = child.restart is _TEMPORARY and not child.spared
        return Decision(Verdict.REMOVE if gone else Verdict.EXPECTED)
    if not must_restart(child.restart, abnormal):
        if child.significant:
            return Decision(Verdict.FINISH)
        if child.restart is _TEMPORARY:
            return Decision(Verdict.REMOVE)
        if not child.recycle:
            return Decision(Verdict.REST)
    if child.recycle:
        # Part of a cycle that was counted already: it would have been stopped a moment later.
        return Decision(Verdict.RESTART)
    if strategy not in _ORDERED:
        return _ALONE
    others = range(0 if strategy is Strategy.ALL_FOR_ONE else index + 1, len(children))
    return Decision(Verdict.RESTART, True, tuple(i for i in others if i != index and _recyclable(children[i])))


def _recyclable(child: ChildState) -> bool:
    """A transient child that is done stays done; one that is down already is started with the rest."""
    return child.phase is not _DOWN and child.wanted


def next_actions(strategy: Strategy, children: Sequence[ChildState]) -> tuple[Action, ...]:
    """Say what to do now; empty when everything is as wanted or something must be waited for.

    Unwanted children are stopped. A cycle stops its children last first, one at a time, and starts nothing
    until all of them are down. Starts go in order; all_for_one and rest_for_one wait for each before the
    next.
    """
    actions: list[Action] = []
    cycling = -1
    waiting = False
    for index, child in enumerate(children):
        phase = child.phase
        if phase is _UP or phase is _STARTING:
            if not child.wanted:
                actions.append(Action(Act.STOP, index))
            elif child.recycle:
                cycling = index
        elif phase is _STOPPING and child.recycle:
            waiting = True
    if waiting:
        return tuple(actions)
    if cycling >= 0:
        actions.append(Action(Act.STOP, cycling))
        return tuple(actions)
    ordered = strategy in _ORDERED
    for index, child in enumerate(children):
        if not child.wanted:
            continue
        if child.phase is _DOWN:
            actions.append(Action(Act.START, index))
            if ordered:
                break
        elif ordered and child.phase is not _UP:
            break
    return tuple(actions)


def anyone_left(children: Sequence[ChildState]) -> bool:
    """Tell whether a child is alive or will be."""
    return any(child.phase in _ALIVE or child.phase is _BACK_OFF for child in children)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before a restart: longer after each failure, short again after a good run.

    Attributes:
        initial_s: seconds before the first restart.
        factor: each further delay is this many times the last; 1 or more.
        max_s: seconds; never longer than this, jitter included.
        jitter: 0..1, the share of the delay that is random: with 0.1 a delay lies within 10 % of its value.
        reset_after_s: seconds up after which earlier failures are forgotten.
    """

    initial_s: float = 0.1
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.1
    reset_after_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what has no meaning."""
        if self.initial_s < 0 or self.factor < 1 or self.max_s < self.initial_s or not 0 <= self.jitter <= 1:
            raise ValueError(f"back-off needs 0 <= initial_s <= max_s, factor >= 1, jitter in 0..1, got {self}")

    def delay_s(self, failures: int, unit: float = 0.5) -> float:
        """Return the seconds to wait.

        Args:
            failures: failures in a row before this restart, 1 or more.
            unit: random number in 0..1; 0.5 is the plain delay.
        """
        delay: float = self.initial_s
        for _ in range(failures - 1):  # not factor ** failures: that overflows after a thousand failures
            delay *= self.factor
            if delay >= self.max_s:
                break
        delay = min(delay, self.max_s)
        return min(self.max_s, delay * (1 + self.jitter * (2 * unit - 1)))
