"""A message centre nobody here wrote, for tests: the `smpp` package of npm, started as a process."""

from __future__ import annotations

import asyncio
import json
import shutil
from asyncio.subprocess import PIPE
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.carriers.smtp_servers import Certificates

NPM = Path(__file__).parents[1] / "npm"
SYSTEM_ID = "hermes"
PASSWORD = "secret"
PATIENCE = 20.0  # seconds until a test that waits for it fails

needs_npm_smpp = pytest.mark.skipif(
    shutil.which("node") is None or not (NPM / "node_modules/smpp").is_dir(),
    reason="tests/npm/node_modules has no smpp (make test)",
)


class NpmSmsc:
    """A running centre on 127.0.0.1, `port`; account `SYSTEM_ID`, `PASSWORD`.

    It answers each submit_sm with an id in hexadecimal and, where asked, sends a receipt with text and parameters.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._seen: deque[dict[str, Any]] = deque()
        self.port = 0

    async def next(self, name: str) -> dict[str, Any]:
        """Give the next thing that happened of a name (tests/npm/smpp_server.mjs); others wait for their turn."""
        for each in self._seen:
            if name in each:
                self._seen.remove(each)
                return each
        while name not in (happened := await self._read()):
            self._seen.append(happened)
        return happened

    async def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        assert line, "the centre ended"
        happened: dict[str, Any] = json.loads(line)
        return happened

    def order(self, **orders: Any) -> None:
        """Order it: `inbound={deliver_sm's fields}`, `unbind=True`, `enquire_link=True`, `drop=True`."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(orders).encode() + b"\n")


@asynccontextmanager
async def npm_smsc(certificates: Certificates | None = None, *, receipts: bool = True) -> AsyncIterator[NpmSmsc]:
    settings: dict[str, Any] = {"system_id": SYSTEM_ID, "password": PASSWORD, "receipts": receipts}
    if certificates is not None:
        settings |= {"key": str(certificates.key), "cert": str(certificates.cert)}
    process = await asyncio.create_subprocess_exec(
        "node", str(NPM / "smpp_server.mjs"), json.dumps(settings), stdin=PIPE, stdout=PIPE, limit=2**20
    )
    server = NpmSmsc(process)
    try:
        server.port = (await server.next("port"))["port"]
        yield server
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()
