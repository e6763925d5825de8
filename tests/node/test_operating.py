"""What an operator does with a node from the command line, on a real one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

from tests.node.harness import Node, environment


async def command(node: Node, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run one command as the node's operator."""
    env = environment(HERMES_URL=node.url, HERMES_OPERATOR_KEY=node.operator_key, PYTHONPATH=os.getcwd())
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "hermes.cli", *argv],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_bench_needs_nothing_loses_nothing_and_leaves_no_tenant(node: Node) -> None:
    result = await command(node, "bench", "--rate", "50", "--seconds", "2", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["sent"], report["accepted"], report["refused"]) == (100, 100, {})
    assert report["final"] == {"delivered": 100} and report["lost"] == report["not_final"] == 0
    assert report["answer_ms"]["p50"] <= report["answer_ms"]["max"]
    assert (await node.get("/v1/tenants"))["data"] == []


async def test_bench_says_which_messages_were_refused(node: Node) -> None:
    tenant = await node.tenant()
    await node.ask("PUT", f"/v1/tenants/{tenant.id}", {"status": "suspended"})
    result = await command(node, "bench", "--rate", "10", "--seconds", "1", "--key", tenant.key, "--json")
    assert json.loads(result.stdout)["refused"] == {"tenant_suspended": 10}


async def test_top_shows_a_running_node(node: Node) -> None:
    tenant = await node.tenant("acme")
    for _ in range(3):
        await node.send(tenant.key, {"channel": "sms", "to": "+4520120001", "content": {"text": "hi"}})
    result = await command(node, "top", "--once")
    assert result.returncode == 0, result.stderr
    assert "ready" in result.stdout and "mock-sms" in result.stdout and "acme" in result.stdout
