"""One system under one manual clock for each test."""

import logging

import pytest

from hermes.runtime import System
from hermes.testing import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def system(clock):
    return System(clock)


@pytest.fixture(autouse=True)
def quiet_kernel_log():
    """Actors crash on purpose here; their tracebacks would hide the one that matters."""
    log = logging.getLogger("hermes.runtime")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    yield
    log.setLevel(before)
