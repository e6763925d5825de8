"""What holds for every test."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from hermes import logs

settings.register_profile("hermes", deadline=None)  # how fast this machine is today decides no test
settings.load_profile("hermes")

# Each test starts a node, a browser, a database or the whole cast; together they take minutes.
SLOW_FOLDERS = tuple(Path(__file__).parent / name for name in ("actors", "browser", "gateway", "journal", "node"))


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The log as boot sets it up, in JSON at level info; the test runner's afterwards."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    out = io.StringIO()
    logs.configure("json", "info", out)
    yield out
    logs.allow(())
    logs.follow(lambda: ({}, None))
    root.setLevel(level)
    root.handlers[:] = handlers
    structlog.reset_defaults()


# Files of a minute or two each, and few tests: begun last, they would keep one process busy while the others are done.
LONGEST = Path(__file__).parent / "node"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave whole folders out of `make quick`, and begin with the longest files."""
    items.sort(key=lambda item: not item.path.is_relative_to(LONGEST))
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in SLOW_FOLDERS):
            item.add_marker(pytest.mark.slow)
