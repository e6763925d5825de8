"""The benchmarks start, measure and find nothing lost: on the smallest scale, and not how fast anything is."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path

import pytest

from tests.node.harness import REPOSITORY, environment

EVERY = sorted(path.stem for path in Path(REPOSITORY, "benchmarks").glob("*.py"))
# Each takes seconds. Left out: what decides by a share of time (flood, limits, smpp), what needs another's server
# (kannel, peers) or valgrind (instructions), load, which report measures with, and waiting: it has a test of its own.
SMALLEST = {
    "gateway": ("--requests", "50", "--connections", "2"),
    "growth": ("--rows", "1000", "--rate", "50", "--seconds", "1", "--rounds", "1"),
    "guests": ("--scale", "0.001"),
    "journal": ("--rates", "50", "--seconds", "0.2"),
    "layers": ("--messages", "50"),
    "news": ("--count", "20"),
    "operating": ("--carriers", "2", "--tenants", "2", "--open", "5", "--workers", "2"),
    "providers": ("--sends", "20", "--in-flight", "2"),
    "report": ("--rates", "50,100", "--seconds", "0.5"),
    "runtime": ("--scale", "0.001"),
    "sketch": ("--rate", "50", "--seconds", "0.5", "--rounds", "1"),
    "smpp_codec": ("--messages", "50"),
    "smsc": ("--messages", "50", "--window", "5", "--rounds", "1"),
    "soak": ("--minutes", "0.1", "--kill-every", "2", "--clients", "2"),
}


@pytest.mark.parametrize("name", EVERY)
def test_a_benchmark_imports_what_there_is(name: str) -> None:
    importlib.import_module(f"benchmarks.{name}")


@pytest.mark.parametrize("name", SMALLEST)
async def test_a_benchmark_runs_to_its_end(name: str, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"benchmarks.{name}", *SMALLEST[name]),
        cwd=tmp_path,
        env={**environment(), "PYTHONPATH": str(REPOSITORY)},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    if name == "report":
        written = {path.name for path in Path(tmp_path, "report").iterdir()}
        assert written == {"report.md", "cpu.svg", "latency.svg"}
