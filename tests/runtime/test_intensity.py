"""The restart window, as a table and against a plain count."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.runtime.intensity import Intensity, count_restart


@pytest.mark.parametrize(
    ("most", "period_s", "times", "allowed"),
    [
        (0, 5.0, [0.0], [False]),  # in Ergo 0 means 5
        (1, 5.0, [0.0, 1.0], [True, False]),
        (1, 5.0, [0.0, 5.0], [True, False]),  # exactly a period old still counts
        (1, 5.0, [0.0, 5.1], [True, True]),
        (2, 1.0, [0.0, 0.5, 1.4, 1.45], [True, True, True, False]),
        (3, 5.0, [0, 0, 0, 0], [True, True, True, False]),
    ],
)
def test_more_than_n_restarts_within_the_period_are_refused(most, period_s, times, allowed):
    window: tuple[float, ...] = ()
    verdicts: list[Any] = []
    for at in times:
        window, ok = count_restart(Intensity(most, period_s), window, at)
        verdicts.append(ok)
    assert verdicts == allowed


@given(
    most=st.integers(0, 5),
    gaps=st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]), min_size=1, max_size=30),
)
def test_verdict_equals_a_plain_count_of_recent_restarts(most, gaps):
    intensity = Intensity(most, 2.0)
    window: tuple[float, ...] = ()
    now = 0.0
    seen: list[Any] = []
    for gap in gaps:
        now += gap
        seen.append(now)
        window, ok = count_restart(intensity, window, now)
        recent = [at for at in seen if at >= now - 2.0]
        assert ok == (len(recent) <= most)
        assert list(window) == recent  # and nothing older is kept


@pytest.mark.parametrize(("most", "period_s"), [(-1, 1.0), (1, 0.0)])
def test_meaningless_intensity_is_refused(most, period_s):
    with pytest.raises(ValueError, match="intensity"):
        Intensity(most, period_s)
