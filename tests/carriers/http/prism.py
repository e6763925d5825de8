"""Prism (npm): answers as a provider's own API description says, and judges what it is asked."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.carriers.http import servers

TESTS = Path(__file__).parents[2]
SPECS = TESTS / "contracts/specs"
CLI = TESTS / "npm/node_modules/@stoplight/prism-cli/dist/index.js"
NODE = shutil.which("node")

needs_prism = pytest.mark.skipif(
    NODE is None or not CLI.is_file(), reason="tests/npm/node_modules has no prism-cli (make test)"
)


@dataclass
class Prism:
    """A running Prism.

    Attributes:
        prefer: what the next requests ask for, such as `code=404`.
        violations: what was wrong with the requests, in Prism's words.
    """

    url: str
    prefer: str | None = None
    violations: list[str] = field(default_factory=list)

    def watch(self, carrier: Any) -> None:
        """Let a carrier's requests say what they prefer, and keep what Prism says of them."""
        ask = carrier.client.request

        async def request(method: str, url: str, **given: Any) -> Any:
            if self.prefer is not None:
                given["headers"] = {**(given.get("headers") or {}), "Prefer": self.prefer}
            answer = await ask(method, url, **given)
            if answer.headers.get("sl-violations"):
                self.violations.append(answer.headers["sl-violations"])
            return answer

        carrier.client.request = request


@asynccontextmanager
async def prism(spec: str, prefix: str = "") -> AsyncIterator[Prism]:
    """Run Prism over a description of tests/contracts/specs.

    Args:
        spec: its file name.
        prefix: the path of the description's server, which Prism leaves out of its routes.
    """
    if not prefix:
        async with _serve(SPECS / spec) as it:
            yield it
        return
    description = json.loads((SPECS / spec).read_text("utf-8"))
    description["paths"] = {prefix + path: item for path, item in description["paths"].items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / spec
        file.write_text(json.dumps(description), "utf-8")
        async with _serve(file) as it:
            yield it


@asynccontextmanager
async def _serve(file: Path) -> AsyncIterator[Prism]:
    port = servers.free_port()
    assert NODE is not None
    process = await asyncio.create_subprocess_exec(
        NODE, str(CLI), "mock", "-h", "127.0.0.1", "-p", str(port), str(file), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    reading: asyncio.Task[bytes] | None = None
    try:
        said = b""
        while b"Prism is listening" not in said:
            line = await process.stdout.readline()
            assert line, said.decode()
            said += line
        reading = asyncio.create_task(process.stdout.read())  # so that it never waits for us
        yield Prism(f"http://127.0.0.1:{port}")
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if reading is not None:
            await reading
