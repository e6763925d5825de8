"""The gateway of a small node, started for each test."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from gateway.limits.base import Limits
from gateway.limits.local import LocalLimits
from gateway.limits.shared import SharedLimits
from tests.gateway.api import Api, start_api, stop_api
from tests.gateway.redis_server import RedisServer, needs_redis, running_redis


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


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    """A Redis of the test's own."""
    async with running_redis() as server:
        yield server


@pytest.fixture(params=["local", pytest.param("redis", marks=needs_redis)])
async def limits(request: pytest.FixtureRequest) -> AsyncIterator[Limits]:
    """Both limits: counted here, and in Redis."""
    if request.param == "local":
        yield LocalLimits(time.monotonic)
        return
    async with running_redis() as server:
        made = SharedLimits(server.url, time.monotonic)
        yield made
        await made.close()
