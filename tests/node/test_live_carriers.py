"""Carriers added while a node runs, over its real database: they survive kill -9, their secrets stay sealed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.node.harness import Node, mock, running

CANARY = "canary-1f6b9c"
NEW = {
    "name": "live",
    "kind": "mock",
    "channel": "sms",
    "receipt_delay_ms": 20,
    "secret": CANARY,
}


def holds(folder: Path, text: bytes) -> list[str]:
    """Name the files below a folder that hold a text, compressed WAL and all: nothing there is compressed."""
    return [str(path) for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]


@pytest.mark.slow
async def test_a_live_carrier_survives_kill_9_and_its_secret_is_nowhere(tmp_path: Path, data: Path) -> None:
    async with running(tmp_path, mock("email"), data=data) as node:
        tenant = await node.tenant()
        assert (await node.ask("POST", "/v1/carriers", NEW)).status == 201
        assert (await node.ask("PUT", "/v1/carriers/live", {"cost": 0.25})).status == 200
        key_file = node.data_dir / "secrets.key"
        assert os.stat(key_file).st_mode & 0o777 == 0o600
        node.kill()
        await node.start()
        sent = await node.send(tenant.key, {"channel": "sms", "to": "+4520120001", "content": {"text": "hi"}})
        final = await node.final(sent["id"])
        assert (final["status"], final["attempts"][0]["carrier"], final["cost"]) == ("delivered", "live", 0.25)
        shown = [await node.get(path) for path in ("/v1/carriers", "/v1/actors", f"/v1/messages/{sent['id']}")]
        assert CANARY not in repr(shown) + node.log
        assert await node.terminate() == 0
        assert holds(node.data_dir, CANARY.encode()) == []
        assert holds(node.data_dir, b'"channel":"sms"') != []  # the search finds what is there
        await check_without_its_key(node, key_file)


async def check_without_its_key(node: Node, key_file: Path) -> None:
    key_file.unlink()
    await node.start()
    (_, live) = (await node.get("/v1/carriers"))["data"]
    assert (live["name"], live["state"]) == ("live", "down")
    assert "key file" in live["reason"]
    assert (await node.ask("DELETE", "/v1/carriers/live")).status == 204
    assert [c["name"] for c in (await node.get("/v1/carriers"))["data"]] == ["mock-email"]
