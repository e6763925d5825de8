"""moto's server: an Amazon SES nobody here wrote, in a process of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp

from carriers.http.aws import AwsSigner
from tests.carriers.http import servers


@dataclass
class Moto:
    """A running moto."""

    url: str
    session: aiohttp.ClientSession

    async def verify(self, address: str) -> None:
        """Let mail be sent from an address."""
        url, body = f"{self.url}/v2/email/identities", b'{"EmailIdentity": "%s"}' % address.encode()
        keys = {"aws_access_key_id": "AKID", "aws_secret_access_key": "x", "aws_session_token": None}
        headers = await AwsSigner("ses", "eu-west-1", keys).sign("POST", url, body, datetime.now(UTC))
        async with self.session.post(url, data=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()

    async def messages(self) -> list[dict[str, Any]]:
        """List what was sent."""
        async with self.session.get(f"{self.url}/moto-api/data.json") as answer:
            found: list[dict[str, Any]] = (await answer.json(content_type=None))["ses"]["Message"]
            return found


@asynccontextmanager
async def moto() -> AsyncIterator[Moto]:
    """Run moto's server."""
    port = servers.free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "moto.server",
        "-H",
        "127.0.0.1",
        "-p",
        str(port),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session:
            while True:  # until it answers; pytest's time-out ends a moto that never does
                try:
                    async with session.get(f"{url}/moto-api/data.json") as answer:
                        assert answer.status == 200
                        break
                except aiohttp.ClientConnectorError:
                    assert process.returncode is None, "moto ended"
                await asyncio.sleep(0.05)
            yield Moto(url, session)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
