"""Bad input over a real node: refusals that name what is wrong, never a 5xx, and nothing secret in the logs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.node.harness import SOON_S, Answer, Node, carrier, mock, running, until
from tests.node.hooks import ALLOW, Customer
from tests.node.test_mail import mailbox

SMS: dict[str, Any] = {"channel": "sms", "to": "+4520120001", "content": {"text": "hi"}}
PUSH: dict[str, Any] = {"channel": "push", "to": "tok-delivered", "content": {"title": "hi"}}


def raw_bodies() -> Iterator[tuple[str, bytes, int]]:
    """Bodies that are no JSON, or too much of it: what they are, the bytes, the status."""
    yield "empty", b"", 400
    yield "cut off", b'{"channel": "sms", "to": ', 400
    yield "not JSON", b"channel=sms&to=1", 400
    yield "two documents", b"{}{}", 400
    yield "comment", b'{"channel": "sms" /* x */}', 400
    yield "NaN", b'{"channel": "sms", "to": "+4520120001", "content": {"text": "x"}, "expires_in_s": NaN}', 400
    yield "not UTF-8", b'{"channel": "\xff\xfe"}', 400
    yield "UTF-16", '{"channel": "sms"}'.encode("utf-16"), 400
    yield "NUL", b'{"channel": "sms\x00"}', 400
    yield "deep list", b"[" * 100_000, 400
    yield "deep object", b'{"a":' * 30_000 + b"1" + b"}" * 30_000, 400
    yield "deep data", b'{"channel":"push","to":"t","content":{"data":' + b'{"a":' * 100 + b"1" + b"}" * 102, 422
    yield "huge", b'{"channel": "sms", "to": "' + b"1" * 300_000 + b'"}', 413
    yield "list", b"[]", 422
    yield "null", b"null", 422
    yield "number", b"1e999", 422
    yield "text", b'"sms"', 422


def fields() -> Iterator[tuple[str, dict[str, Any]]]:
    """Bodies with one wrong field, by its name; tests/gateway has them all."""
    yield "expires_in_s", SMS | {"expires_in_s": 10**400}
    yield "expires_in_s", SMS | {"expires_in_s": "soon"}
    yield "send_at", SMS | {"send_at": "2026-13-45T00:00:00Z"}
    yield "to", SMS | {"to": "+45" + "1" * 5000}
    yield "to", SMS | {"to": "nobody"}
    yield "colour", SMS | {"colour": "blue"}
    yield "content.text", SMS | {"content": {"text": "a\0b"}}
    yield "content.text", SMS | {"content": {"text": "x" * 40_000}}
    yield (
        "cascade[0].timeout_s",
        {"to": {"phone": "+4520120001"}, "cascade": [{"channel": "sms", "timeout_s": -1}], "content": {"text": "x"}},
    )
    yield "to.email", {"to": {"phone": "+4520120001"}, "cascade": ["sms", "email"], "content": {"text": "x"}}
    yield "callback_url", SMS | {"callback_url": "http://127.0.0.1/x"}
    yield "callback_url", SMS | {"callback_url": "file:///etc/passwd"}
    yield "metadata.k", SMS | {"metadata": {"k": ["deep"]}}
    yield "reference", SMS | {"reference": "a\nb"}


STRANGE = (
    "\ud800",  # half a surrogate pair
    "\U0001f600" * 50,
    "\u202eright to left",
    "'; DROP TABLE message; --",
    "\x1f\x1e\x1d",  # control characters, the journal's own separator among them
    "%s {0} ${x} \\N \\x00",
    "\u2028\ufeff\uffff",
)


def strange() -> Iterator[dict[str, Any]]:
    """Bodies that nobody expects; whether they are taken or refused, they must not break anything."""
    for text in STRANGE:
        yield SMS | {"content": {"text": text}}
        yield SMS | {"reference": text[:128], "metadata": {text: text}}
        yield PUSH | {"content": {"title": text, "data": {text: [text, {text: text}]}}}
        yield {"channel": "email", "to": "a@example.com", "content": {"subject": text, "html": text}}
        yield PUSH | {"to": "tok-" + text}
        yield SMS | {"from": {"sms": text}}
    for number in (10**400, -(10**30), 1e308, -0.0, 2**63, 0.1 + 0.2):
        yield PUSH | {"content": {"title": "x", "data": {"n": number}}}
        yield SMS | {"expires_in_s": number}
    yield PUSH | {"content": {"title": "x" * 100_000, "data": {str(n): "x" for n in range(5000)}}}


def check_problem(answer: Answer, what: str) -> None:
    assert 400 <= answer.status < 500, (what, answer)
    assert answer.headers["Content-Type"] == "application/problem+json", (what, answer)
    assert answer.body["status"] == answer.status
    assert answer.body["code"]
    assert answer.body["request_id"] == answer.headers["X-Request-Id"]


async def test_broken_bodies_are_refused_by_name_and_the_node_stays_up(node: Node) -> None:
    tenant = await node.tenant()
    key, pid = tenant.key, node.pid
    for what, raw, status in raw_bodies():
        answer = await node.ask("POST", "/v1/messages", raw, key=key)
        check_problem(answer, what)
        assert answer.status == status, (what, answer)
        for path in ("/v1/messages/batch", "/v1/messages/lookup"):
            check_problem(await node.ask("POST", path, raw, key=key), f"{path} {what}")
        verdict = await node.ask("POST", "/v1/messages/validate", raw, key=key)
        assert verdict.status == 200 or 400 <= verdict.status < 500, (what, verdict)
        for path in ("/v1/webhooks/dlr", "/v1/tenants", f"/v1/tenants/{tenant.id}/keys"):
            check_problem(await node.ask("POST", path, raw or b"x"), f"{path} {what}")
        assert (await node.ask("POST", "/v1/webhooks/mock-sms", raw)).status in range(400, 500)
    for field, body in fields():
        answer = await node.ask("POST", "/v1/messages", body, key=key)
        check_problem(answer, field)
        assert answer.status == 422, answer
        assert [error["field"] for error in answer.body["errors"]] == [field]
    items = [body for _, body in fields()]
    answer = await node.ask("POST", "/v1/messages/batch", {"messages": [*items, SMS]}, key=key)
    assert [result["status"] for result in answer.body["results"]] == [422] * len(items) + [202]
    for method, path, status in (
        ("GET", "/v1/messages/%00", 404),
        ("GET", "/v1/messages/msg_%FF%FE", 404),
        ("GET", "/v1/messages?limit=0", 422),
        ("GET", "/v1/messages?limit=99999999999999999999", 422),
        ("GET", "/v1/messages?cursor=%00", 422),
        ("GET", "/v1/messages?created_after=yesterday", 422),
        ("GET", "/v1/../../etc/passwd", 404),
        ("PATCH", "/v1/messages", 405),
    ):
        answer = await node.ask(method, path, key=key)
        check_problem(answer, path)
        assert answer.status == status, (path, answer)
    answer = await node.ask("POST", "/v1/messages", SMS, key=key, headers={"Content-Type": "text/plain"})
    assert (answer.status, answer.body["code"]) == (415, "unsupported_media_type")
    answer = await node.ask("POST", "/v1/messages", SMS, key=key, headers={"Idempotency-Key": "x" * 256})
    assert (answer.status, answer.body["errors"][0]["field"]) == (422, "Idempotency-Key")
    for wrong in ("", "hk_live_nobody", "x" * 5000, "ключ"):
        answer = await node.ask("GET", "/v1/messages", headers={"Authorization": f"Bearer {wrong}"})
        assert (answer.status, answer.body["code"]) == (401, "unauthenticated")
        assert "WWW-Authenticate" in answer.headers

    taken = [answer for body in strange() if (answer := await node.ask("POST", "/v1/messages", body, key=key))]
    assert {answer.status for answer in taken} <= {202, 400, 413, 422}, [a for a in taken if a.status >= 500]
    accepted = [answer.body["id"] for answer in taken if answer.status == 202]
    assert len(accepted) > len(STRANGE)
    messages = await node.all_final(accepted, SOON_S)
    assert {message["status"] for message in messages.values()} <= {"delivered", "failed"}
    assert len(await node.listed(key)) == len(accepted) + 1
    assert node.pid == pid
    node.check_alive()
    assert "Traceback" not in node.log, node.log


async def talk(port: int, said: bytes) -> bytes:
    """Say something that may be no HTTP, stop talking, and hear what comes until the other side hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(said)
        await writer.drain()
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), SOON_S)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_what_is_no_http_does_not_harm_the_node(node: Node) -> None:
    key = (await node.tenant()).key
    head = b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key.encode() + b"\r\n"
    for said in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(500),  # TLS to a plain port
        os.urandom(10_000),
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-\x00: 1\r\n\r\n",
        head + b"Content-Length: -1\r\n\r\n{}",
        head + b"Content-Length: 99999999999999999999\r\n\r\n{}",
        head + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        head + b"Content-Length: 50\r\n\r\n{",  # and hangs up
        head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        head + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        b"\r\n" * 1000,
        b"",
    ):
        answer = await talk(node.port, said)
        assert b"HTTP/1.1 5" not in answer, (said[:80], answer)
        if answer:
            assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4", b"HTTP/1.1 505")), (said[:80], answer)
    message = await node.final((await node.send(key, SMS))["id"])
    assert message["status"] == "delivered"
    node.check_alive()


# Texts that must be in no log.
CANARIES = {
    "text": "canary-text",
    "subject": "canary-subject",
    "html": "<b>canary-html</b>",
    "email": "canary-email",
    "phone": "+4577100510001",
    "push": "tok-delivered-canary-token",
    "metadata": "canary-metadata",
    "password": "canary-password",
    "receipt_secret": "canary-receipt-secret",
    "query": "canary-query",
    "sender": "canary-sender",
    "idempotency_key": "canary-key",
}


def said_by(folder: Path) -> Mapping[str, str]:
    logs = [*folder.glob("*.log"), *(folder / "data").glob("*.log*")]
    return {path.name: path.read_text("utf-8", "replace") for path in logs}


@pytest.mark.parametrize("format", ["console", "json"])
async def test_logs_at_the_default_level_hold_no_secret_and_no_message(tmp_path: Path, data: Path, format: str) -> None:
    """Not when all is well, nor when carriers refuse, customers fail, or the database dies."""
    c = CANARIES
    customer = Customer(status=500)
    hook = f"{customer.url}?{c['query']}"
    address = f"{c['email']}@example.test"
    async with mailbox() as (port, box):
        box.replies[address] = [f"550 5.1.1 no {address} here", "450 4.2.1 busy"]
        smtp = {"host": "127.0.0.1", "tls": "none", "from_": f"{c['sender']}@acme.test", "port": port}
        carriers = (
            carrier(name="no-login", kind="smtp", channel="email", username="u", password=c["password"], **smtp)
            + carrier(name="mail", kind="smtp", channel="email", **smtp)
            + mock("sms", secret=c["receipt_secret"])
            + mock("push")
        )
        log = f'{ALLOW}\n[log]\nformat = "{format}"\n'
        async with customer.listening(), running(tmp_path, carriers, server=log, data=data) as node:
            tenant = await node.tenant()
            body = {
                "to": {"email": address, "phone": c["phone"], "push": c["push"]},
                "cascade": ["email", "sms", "push"],
                "content": {"text": c["text"], "subject": c["subject"], "html": c["html"]},
                "metadata": {"k": c["metadata"]},
                "callback_url": hook,
            }
            await node.ask("POST", f"/v1/tenants/{tenant.id}/webhooks", {"url": hook})
            secret = (await node.get(f"/v1/tenants/{tenant.id}/secret"))["secret"]
            sent = [(await node.send(tenant.key, body, f"{c['idempotency_key']}-{n}"))["id"] for n in range(3)]
            for one in sent:
                await node.final(one)
            await until(lambda: len(customer.told) >= 3, SOON_S, "the customer is called, and fails")
            for wrong in (body | {"colour": c["text"]}, body | {"to": {"email": c["email"]}}, c["text"].encode()):
                assert (await node.ask("POST", "/v1/messages", wrong, key=tenant.key)).status in (400, 422)
            assert (await node.ask("GET", "/v1/messages", key=tenant.key[:-1] + "x")).status == 401
            forged = {"carrier": "mock-sms", "carrier_message_id": c["text"], "status": "delivered"}
            answer = await node.ask("POST", "/v1/webhooks/dlr", forged, headers={"X-Hermes-Signature": c["text"]})
            assert answer.status == 401
            postmaster = node.postmaster()
            assert postmaster is not None
            os.kill(postmaster, signal.SIGKILL)

            async def sends_again() -> bool:
                return (await node.ask("POST", "/v1/messages", body, key=tenant.key)).status == 202

            await until(lambda: "restarting it" in node.log, SOON_S, "the database's death is noticed")
            await until(sends_again, SOON_S, "the database is back")
            node.kill()
            await node.start()
            assert await node.terminate() == 0
            said = said_by(tmp_path)
            keys = [tenant.key, tenant.test_key, node.operator_key, secret]
    assert set(said) >= {"node.log", "postgres.log"}
    for name, text in said.items():
        for canary in (*c.values(), *keys):
            assert canary not in text, f"{canary} is in {name}"
        for one in sent:
            assert one not in text, f"a line for a message is in {name}"
    if format == "json":
        for line in said["node.log"].splitlines():
            assert isinstance(json.loads(line), dict), line
