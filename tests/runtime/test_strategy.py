"""The pure decisions of a supervisor, as tables and over any family."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.runtime.strategy import (
    Act,
    Action,
    Backoff,
    ChildState,
    Decision,
    Phase,
    Restart,
    Strategy,
    Verdict,
    decide,
    must_restart,
    next_actions,
)

ONE, ALL, REST = Strategy.ONE_FOR_ONE, Strategy.ALL_FOR_ONE, Strategy.REST_FOR_ONE
PERMANENT, TRANSIENT, TEMPORARY = Restart.PERMANENT, Restart.TRANSIENT, Restart.TEMPORARY


def family(*phases, restart=PERMANENT):
    return [ChildState(restart, phase=phase) for phase in phases]


@pytest.mark.parametrize(
    ("restart", "abnormal", "restarted"),
    [
        (PERMANENT, True, True),
        (PERMANENT, False, True),
        (TRANSIENT, True, True),
        (TRANSIENT, False, False),
        (TEMPORARY, True, False),
        (TEMPORARY, False, False),
    ],
)
def test_restart_type_decides_which_ends_are_restarted(restart, abnormal, restarted):
    assert must_restart(restart, abnormal) is restarted


@pytest.mark.parametrize(
    ("strategy", "index", "recycled"),
    [(ONE, 1, ()), (ALL, 1, (0, 2)), (ALL, 0, (1, 2)), (REST, 1, (2,)), (REST, 0, (1, 2)), (REST, 2, ())],
)
def test_strategy_decides_who_is_restarted_along(strategy, index, recycled):
    up = family(Phase.UP, Phase.UP, Phase.UP)
    assert decide(strategy, up, index, True) == Decision(Verdict.RESTART, True, recycled)


@pytest.mark.parametrize(
    ("restart", "significant", "abnormal", "verdict"),
    [
        (TRANSIENT, False, False, Verdict.REST),
        (TEMPORARY, False, True, Verdict.REMOVE),
        (TRANSIENT, True, False, Verdict.FINISH),
        (TEMPORARY, True, True, Verdict.FINISH),
        (TRANSIENT, True, True, Verdict.RESTART),  # significant only when it is not restarted
    ],
)
def test_verdict_on_an_end_by_itself(restart, significant, abnormal, verdict):
    child = ChildState(restart, significant, Phase.UP)
    assert decide(ONE, [child], 0, abnormal).verdict is verdict


def test_sibling_that_dies_by_itself_during_a_cycle_is_not_counted_again():
    children = family(Phase.UP, Phase.DOWN, Phase.STOPPING)
    children[0].recycle = children[2].recycle = True
    assert decide(ALL, children, 0, True) == Decision(Verdict.RESTART, counts=False)


def test_earlier_sibling_that_dies_while_later_ones_stop_widens_the_cycle():
    # rest_for_one in Ergo forgets it.
    children = family(Phase.UP, Phase.DOWN, Phase.STOPPING)
    children[2].recycle = True
    decision = decide(REST, children, 0, True)
    assert decision.counts
    children[0].phase = Phase.DOWN
    for index in decision.recycle:
        children[index].recycle = True
    assert next_actions(REST, children) == ()  # one is stopping: nothing starts
    children[2].phase = Phase.DOWN
    assert next_actions(REST, children) == (Action(Act.START, 0),)


def test_temporary_child_that_falls_to_a_cycle_is_removed():
    children = [ChildState(PERMANENT, phase=Phase.DOWN), ChildState(TEMPORARY, phase=Phase.STOPPING)]
    assert decide(ALL, children, 1, False).verdict is Verdict.REMOVE


@pytest.mark.parametrize(
    ("strategy", "phases", "actions"),
    [
        (ONE, (Phase.DOWN, Phase.UP, Phase.DOWN), ((Act.START, 0), (Act.START, 2))),
        (ALL, (Phase.DOWN, Phase.DOWN), ((Act.START, 0),)),
        (ALL, (Phase.STARTING, Phase.DOWN), ()),
        (REST, (Phase.BACK_OFF, Phase.DOWN), ()),
        (ONE, (Phase.BACK_OFF, Phase.DOWN), ((Act.START, 1),)),
        (ALL, (Phase.UP, Phase.UP), ()),
    ],
)
def test_starts_are_in_order_and_ordered_strategies_wait(strategy, phases, actions):
    assert next_actions(strategy, family(*phases)) == tuple(Action(act, index) for act, index in actions)


def test_cycle_stops_last_first_one_at_a_time_before_anything_starts():
    children = family(Phase.UP, Phase.DOWN, Phase.UP, Phase.UP)
    for index in (0, 2, 3):
        children[index].recycle = True
    stopped: list[Any] = []
    while (actions := next_actions(ALL, children)) and actions[0].act is Act.STOP:
        assert len(actions) == 1
        children[actions[0].index].phase = Phase.STOPPING
        assert next_actions(ALL, children) == ()
        children[actions[0].index].phase = Phase.DOWN
        stopped.append(actions[0].index)
    assert stopped == [3, 2, 0]
    assert actions == (Action(Act.START, 0),)


def test_unwanted_children_are_stopped_and_never_started():
    children = family(Phase.UP, Phase.DOWN)
    children[0].wanted = children[1].wanted = False
    assert next_actions(ALL, children) == (Action(Act.STOP, 0),)


CHILDREN = st.lists(st.tuples(st.sampled_from(Restart), st.booleans(), st.booleans()), min_size=1, max_size=6)


@given(
    strategy=st.sampled_from([ONE, ALL, REST]),
    specs=CHILDREN,
    deaths=st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=6),
)
def test_any_order_of_deaths_ends_with_every_wanted_child_up(strategy, specs, deaths):
    """Interleave deaths with single steps of the loop; then it must come to rest with all as wanted."""
    children = [ChildState(restart, phase=Phase.UP) for restart, _, _ in specs]

    def die(index, abnormal):
        child = children[index]
        decision = decide(strategy, children, index, abnormal)
        child.phase = Phase.DOWN
        for sibling in decision.recycle:
            children[sibling].recycle = True
        if decision.verdict in (Verdict.REST, Verdict.REMOVE):
            child.wanted = child.recycle = False

    def step():
        actions = next_actions(strategy, children)
        if actions:
            child = children[actions[0].index]
            if actions[0].act is Act.STOP:
                assert child.phase is Phase.UP
                child.phase = Phase.STOPPING
            else:
                assert child.phase is Phase.DOWN and child.wanted
                if strategy is not ONE:
                    assert not any(other.recycle and other.phase is Phase.STOPPING for other in children)
                child.phase = Phase.UP
                child.recycle = False
            return True
        return False

    for index, abnormal in deaths:
        index %= len(children)
        if children[index].phase in (Phase.UP, Phase.STOPPING):
            die(index, abnormal)
        step()
    for _ in range(200):
        stopping = [i for i, child in enumerate(children) if child.phase is Phase.STOPPING]
        if stopping:
            die(stopping[-1], False)
        elif not step():
            break
    else:
        raise AssertionError("the loop does not come to rest")
    assert all((child.phase is Phase.UP) == child.wanted for child in children)
    assert not any(child.recycle for child in children if child.wanted)


def test_backoff_grows_to_its_maximum_and_no_further():
    backoff = Backoff(initial_s=1, factor=2, max_s=10, jitter=0)
    assert [backoff.delay_s(n) for n in (1, 2, 3, 4, 5, 5000)] == [1, 2, 4, 8, 10, 10]


@given(failures=st.integers(1, 50), unit=st.floats(0, 1), jitter=st.floats(0, 1))
def test_backoff_stays_within_jitter_and_maximum(failures, unit, jitter):
    plain = Backoff(0.5, 2, 30, jitter=0).delay_s(failures)
    delay = Backoff(0.5, 2, 30, jitter=jitter).delay_s(failures, unit)
    assert delay <= 30
    assert min(30, plain * (1 - jitter)) - 1e-9 <= delay <= plain * (1 + jitter) + 1e-9


@pytest.mark.parametrize("wrong", [{"initial_s": -1}, {"factor": 0.5}, {"max_s": 0.01}, {"jitter": 2}])
def test_meaningless_backoff_is_refused(wrong):
    with pytest.raises(ValueError, match="back-off"):
        Backoff(**wrong)
