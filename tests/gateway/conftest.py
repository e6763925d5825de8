"""The gateway of a small node, started for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.gateway.api import Api, start_api, stop_api


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[Api]]]:
    """Starts nodes with settings of the test's choice, and ends them."""
    started: list[Api] = []

    async def make(*args: Any, **settings: Any) -> Api:
        started.append(await start_api(*args, **settings))
        return started[-1]

    yield make
    for api in started:
        await stop_api(api)


@pytest.fixture
async def api(start: Callable[..., Awaitable[Api]]) -> Api:
    """A node with a mock carrier for each channel."""
    return await start()
