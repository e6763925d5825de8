"""News over a real NATS server: to the one it is for, in one installation, and by NOTIFY while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from nats.aio.client import Client

from hermes.journal.base import NEWS_ANSWER
from hermes.journal.bus import Bus
from hermes.journal.postgres import PostgresJournal
from hermes.runtime.clock import SystemClock
from tests.journal.makers import database
from tests.journal.nats_server import NatsServer, needs_nats

pytestmark = needs_nats


@pytest.fixture
async def server() -> AsyncIterator[NatsServer]:
    made = NatsServer()
    yield made
    await made.stop()


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def hearing(texts: list[str]) -> Callable[[str], bool]:
    def heard(text: str) -> bool:
        texts.append(text)
        return True

    return heard


async def test_news_reach_the_one_they_are_for_and_no_other_installation(server):
    await server.start()
    heard: dict[str, list[str]] = {"a": [], "b": [], "other": []}
    buses = {name: Bus(server.url, "c", name) for name in heard}
    buses["other"] = Bus(server.url, "another", "b")
    for name, bus in buses.items():
        bus.start(hearing(heard[name]))
    await until(lambda: all(bus.connected for bus in buses.values()))
    assert await buses["a"].tell("b", "hello")
    assert not await buses["a"].tell("nobody", "hello")
    assert heard == {"a": [], "b": ["hello"], "other": []}
    for bus in buses.values():
        await bus.close()


async def test_answers_go_over_the_bus_and_by_the_database_while_it_is_away(server):
    async with database() as connect:
        buses = [Bus(server.url, "c", name) for name in ("one", "two")]
        first, second = (
            PostgresJournal(connect, worker_id=name, clock=SystemClock(), bus=bus)
            for name, bus in zip(("one", "two"), buses, strict=True)
        )
        await first.start()
        await second.start()
        told: list[str] = []
        second.on_news(lambda topic, detail: told.append(detail) if topic == NEWS_ANSWER else None)

        async def arrives(word: str) -> None:
            await first.tell(NEWS_ANSWER, f"{second.worker_id} {word}")
            await until(lambda: told and told[-1].endswith(word))

        await arrives("before")
        await server.start()
        await until(lambda: buses[0].connected and buses[1].connected)
        assert await first._tell_one(NEWS_ANSWER, f"{second.worker_id} direct")
        assert told[-1] == f"{second.worker_id} direct"
        stranger = Client()
        await stranger.connect(server.url)
        for payload in (b"\xff", b"", b"x", b"x suppressions +[", b"x answer"):
            await stranger.publish(f"hermes.c.news.{second.worker_id}", payload)
        await stranger.flush()
        await stranger.close()
        await server.stop()
        await arrives("away")
        await server.start()
        await until(lambda: buses[0].connected and buses[1].connected)
        assert await first._tell_one(NEWS_ANSWER, f"{second.worker_id} back")
        await first.stop()
        await second.stop()
        assert not buses[0].connected
