"""SMS end to end: HTTP in, a node, a direct bind to `hermes smsc` in a process of its own, a receipt, delivered."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.node.harness import SOON_S, carrier, running, until

LONG = "Din kode er 123456 {gælder 5 min} € " * 10


class Centre:
    """`hermes smsc`, by its first line and its control."""

    def __init__(self, facts: dict[str, Any], session: aiohttp.ClientSession) -> None:
        self.port: int = facts["port"]
        self._url: str = facts["control_url"]
        self._session = session

    async def get(self, path: str) -> Any:
        async with self._session.get(self._url + path) as answer:
            return await answer.json()

    async def order(self, path: str, **order: Any) -> None:
        async with self._session.post(self._url + path, json=order) as answer:
            assert answer.status == 200, await answer.text()


@asynccontextmanager
async def hermes_smsc(*argv: str) -> AsyncIterator[Centre]:
    command = [sys.executable, "-m", "hermes.cli", "smsc", "--json", "--port", "0", "--control-port", "0", *argv]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    assert process.stdout is not None
    try:
        facts = json.loads(await asyncio.wait_for(process.stdout.readline(), SOON_S))
        async with aiohttp.ClientSession() as session:
            yield Centre(facts, session)
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), SOON_S) == 0


def smpp(centre: Centre, **settings: Any) -> str:
    account = {"system_id": "hermes", "password": "secret", "from_": "Hermes"}
    named = {"name": "direct", "kind": "smpp", "channel": "sms", "host": "127.0.0.1", "port": centre.port}
    return carrier(**named, **account, **settings)


@pytest.mark.slow
async def test_each_number_of_the_centre_ends_as_its_page_says(tmp_path: Path, data: Path) -> None:
    ends = {
        "0001": "delivered",
        "0002": "failed",
        "0003": "failed",
        "0005": "delivered",  # throttled twice
        "0010": "failed",  # EXPIRED
        "0015": "delivered",  # reported twice
        "0016": "delivered",  # reported before the answer
        "0017": "delivered",  # after an unreadable PDU
        "0022": "delivered",  # the connection was reset
        "0023": "delivered",  # ... and closed
        "0111": "delivered",  # reported in message_payload
    }
    async with hermes_smsc() as centre, running(tmp_path, smpp(centre), data=data) as node:
        key = (await node.tenant()).key
        sent = {}
        for digits in ends:
            body = {"channel": "sms", "to": f"+452012{digits}", "content": {"text": f"{digits}: {LONG}"}}
            sent[digits] = (await node.send(key, body))["id"]
        found = {digits: (await node.final(id_))["status"] for digits, id_ in sent.items()}
        assert found == ends
        texts = {message["text"] for message in (await centre.get("/messages"))["messages"]}
        assert {f"{digits}: {LONG}" for digits, end in ends.items() if end == "delivered"} <= texts


@pytest.mark.slow
async def test_what_waits_while_the_centre_is_away_goes_out_when_it_is_back(tmp_path: Path, data: Path) -> None:
    async with hermes_smsc() as centre, running(tmp_path, smpp(centre), data=data) as node:
        key = (await node.tenant()).key

        async def bound() -> bool:
            return any(bind["bound"] for bind in (await centre.get("/stats"))["binds"])

        await until(bound, SOON_S, "a bind")
        await centre.order("/go-away")
        bodies = [{"channel": "sms", "to": f"+45201{n:05d}", "content": {"text": "x"}} for n in range(5_000, 5_020)]
        ids = [(await node.send(key, body))["id"] for body in bodies]
        assert (await centre.get("/stats"))["submits"] == 0
        await centre.order("/come-back")
        assert {each["status"] for each in (await node.all_final(ids, SOON_S)).values()} == {"delivered"}
