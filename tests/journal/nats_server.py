"""A real NATS server for tests."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from hermes.testing.servers import free_port

PROGRAM = shutil.which("nats-server")
needs_nats = pytest.mark.skipif(PROGRAM is None, reason="no nats-server on this machine")
PASSWORD = "swordfish-4711"


class NatsServer:
    """One that a test may stop and start again. `url` has the password it asks for."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"nats://hermes:{PASSWORD}@127.0.0.1:{self.port}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        assert PROGRAM is not None
        quiet = asyncio.subprocess.DEVNULL
        arguments = ("-a", "127.0.0.1", "-p", str(self.port), "--user", "hermes", "--pass", PASSWORD)
        self._process = await asyncio.create_subprocess_exec(PROGRAM, *arguments, stdout=quiet, stderr=quiet)

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None
