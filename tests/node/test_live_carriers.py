"""Carriers added while a node runs, over its real database: they survive kill -9, their secrets stay sealed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.carriers.http.servers import free_port
from tests.node.harness import Node, NodeFailed, mock, running

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


@pytest.mark.slow
async def test_a_node_starts_with_live_carriers_alone_and_not_without_any(tmp_path: Path, data: Path) -> None:
    async with running(tmp_path, mock("email"), data=data) as node:
        tenant = await node.tenant()
        assert (await node.ask("POST", "/v1/carriers", NEW)).status == 201
        assert await node.terminate() == 0
        node.configure("")
        await node.start()
        sent = await node.send(tenant.key, {"channel": "sms", "to": "+4520120001", "content": {"text": "hi"}})
        assert (await node.final(sent["id"]))["status"] == "delivered"
        assert (await node.ask("GET", "/readyz")).body == {"status": "ok"}

        assert (await node.ask("DELETE", "/v1/carriers/live")).status in (200, 204)
        said = (await node.ask("GET", "/readyz")).body
        assert said["status"] == "ok" and said["note"].startswith("no carriers left")
        assert await node.terminate() == 0
        with pytest.raises(NodeFailed, match="the node ended with 2") as refused:
            await node.start()
        assert "carrier: no carrier is set" in str(refused.value) and "`hermes demo`" in str(refused.value)


async def check_without_its_key(node: Node, key_file: Path) -> None:
    key_file.unlink()
    await node.start()
    (_, live) = (await node.get("/v1/carriers"))["data"]
    assert (live["name"], live["state"]) == ("live", "down")
    assert "key file" in live["reason"]
    assert (await node.ask("DELETE", "/v1/carriers/live")).status == 204
    assert [c["name"] for c in (await node.get("/v1/carriers"))["data"]] == ["mock-email"]


def canaries(port: int) -> list[dict[str, object]]:
    """A carrier of every kind with a canary in each of its secrets, and nobody at its other end."""
    url = f"http://127.0.0.1:{port}"
    account = {"private_key": "canary-fcm-key", "client_email": "h@demo.test", "token_uri": url}
    sms: list[dict[str, object]] = [
        {"kind": "twilio", "account_sid": "AC" + "0" * 32, "auth_token": "canary-twilio", "from": "+4510101010"},
        {"kind": "vonage", "api_key": "k", "api_secret": "canary-vonage", "signature_secret": "canary-vonage-sign"},
        {"kind": "messente", "username": "u", "password": "canary-messente", "inbound_secret": "canary-messente-in"},
        {"kind": "smpp", "host": "127.0.0.1", "port": port, "system_id": "u", "password": "canary-p"},
    ]
    others: list[dict[str, object]] = [
        {"kind": "smtp", "channel": "email", "host": "127.0.0.1", "port": port, "tls": "none", "username": "u",
         "password": "canary-smtp", "from": "a@example.com", "webhook_secret": "canary-kumo"},
        {"kind": "ses", "channel": "email", "region": "eu-west-1", "access_key_id": "AKID", "from": "a@example.com",
         "secret_access_key": "canary-ses", "session_token": "canary-session"},
        {"kind": "fcm", "channel": "push", "project_id": "demo", "service_account": json.dumps(account)},
        {"kind": "whatsapp", "channel": "whatsapp", "phone_number_id": "1", "access_token": "canary-wa",
         "app_secret": "canary-wa-app", "verify_token": "canary-wa-verify"},
    ]  # fmt: skip
    found = []
    for one in [*({"channel": "sms", **o} for o in sms), *others]:
        if one["kind"] not in ("smpp", "smtp"):
            one = {**one, "base_url": url}
        found.append({"name": f"c-{one['kind']}", "timeout_s": 5, **one})
    return found


@pytest.mark.slow
async def test_no_secret_of_any_kind_shows_in_log_answers_events_tree_metrics_or_database(
    tmp_path: Path, data: Path
) -> None:
    async with running(tmp_path, mock("email"), data=data) as node:
        tenant = await node.tenant()
        for body in canaries(free_port()):
            answer = await node.ask("POST", "/v1/carriers", body)
            if body["kind"] == "fcm":  # its key is none: refused, and not repeated
                assert (answer.status, answer.body["errors"][0]["field"]) == (422, "service_account"), answer.body
                assert "canary" not in repr(answer.body)
                continue
            assert answer.status == 201, answer.body
            assert "canary" not in repr(answer.body)
        wrong = await node.ask("PUT", "/v1/carriers/c-twilio", {"auth_token": "canary-\0"})
        assert wrong.status == 422 and "canary" not in repr(wrong.body)
        to = {"phone": "+4520123456", "email": "a@example.com", "whatsapp": "+4520123456"}
        steps = [{"channel": c, "timeout_s": 3} for c in ("sms", "whatsapp", "email")]
        sent = await node.send(tenant.key, {"to": to, "cascade": steps, "content": {"text": "hi", "subject": "hi"}})
        final = await node.final(sent["id"])
        assert len({a["carrier"] for a in final["attempts"]}) > 3, "they were asked"
        shown = [final]
        for path in ("/v1/carriers", "/v1/actors", "/v1/overview", "/v1/log", "/metrics", "/v1/routes", "/v1/audit"):
            shown.append((await node.ask("GET", path)).body)
        assert "canary" not in repr(shown)
        assert "canary" not in node.log
        assert await node.terminate() == 0
        assert holds(node.data_dir, b"canary") == []
