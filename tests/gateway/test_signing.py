"""Signed requests over HTTP: who must sign, what is refused, and the examples of docs/api.md."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hermes.domain.signing import signature_of
from tests.gateway.api import OPERATOR, SMS, Answer, Api

Start = Callable[..., Awaitable[Api]]
BODY = json.dumps(SMS).encode()
DOCUMENTED = (Path(__file__).parents[2] / "docs/api.md").read_text(encoding="utf-8")
_nonces = itertools.count(10_000_000)


async def secret_of(api: Api, key: str = OPERATOR) -> str:
    keys = (await api.call("GET", f"/v1/tenants/{api.node.tenant}/keys", key=OPERATOR)).json["data"]
    live = next(one["id"] for one in keys if one["mode"] == "live")
    answer = await api.call("GET", f"/v1/tenants/{api.node.tenant}/keys/{live}/signing-secret", key=key)
    assert (answer.status, answer.json["id"]) == (200, live), answer.raw
    return str(answer.json["signing_secret"])


async def require(api: Api) -> None:
    answer = await api.call("PUT", f"/v1/tenants/{api.node.tenant}/signing", {"required": True}, key=OPERATOR)
    assert (answer.status, answer.json) == (200, {"required": True})


def headers(
    secret: str, method: str, target: str, body: bytes = b"", nonce: str = "", at: float | None = None
) -> dict[str, Any]:
    timestamp = str(int(time.time() if at is None else at))
    nonce = nonce or str(next(_nonces))
    signature = signature_of(secret, timestamp, nonce, method, target, body)
    return {"X-Hermes-Timestamp": timestamp, "X-Hermes-Nonce": nonce, "X-Hermes-Signature": signature}


async def post(api: Api, given: dict[str, Any], body: bytes = BODY) -> Answer:
    return await api.call("POST", "/v1/messages", raw=body, **given)


async def test_who_must_sign_is_refused_without_and_let_in_with_a_signature(api: Api) -> None:
    secret = await secret_of(api)
    assert secret.startswith("hss_") and (await api.send()).status == 202
    await require(api)
    for method, path, body in (("GET", "/v1/messages", None), ("POST", "/v1/messages", BODY)):
        answer = await api.call(method, path, raw=body)
        assert (answer.status, answer.code, answer.json["layer"]) == (401, "signature_invalid", "auth")
        assert "WWW-Authenticate" in answer.headers
    assert (await post(api, headers(secret, "POST", "/v1/messages", BODY))).status == 202
    listed = await api.call("GET", "/v1/messages?limit=5", **headers(secret, "GET", "/v1/messages?limit=5"))
    assert listed.status == 200
    # The operator does not sign; the setting is shown and can be taken back.
    tenant = await api.call("GET", f"/v1/tenants/{api.node.tenant}", key=OPERATOR)
    assert tenant.json["require_signed_requests"] is True
    path = f"/v1/tenants/{api.node.tenant}/signing"
    assert (await api.call("GET", path)).code == "signature_invalid"
    body = b'{"required": false}'
    answer = await api.call("PUT", path, raw=body, **headers(secret, "PUT", path, body))
    assert (answer.status, answer.json) == (200, {"required": False})
    assert (await api.send()).status == 202


async def test_a_leaked_key_cannot_get_at_the_secret(api: Api) -> None:
    await secret_of(api, "live")  # while nobody must sign, a key with tenant:manage may look
    await require(api)
    keys = (await api.call("GET", f"/v1/tenants/{api.node.tenant}/keys", key=OPERATOR)).json["data"]
    answer = await api.call("GET", f"/v1/tenants/{api.node.tenant}/keys/{keys[0]['id']}/signing-secret")
    assert (answer.status, answer.code) == (401, "signature_invalid")


@pytest.mark.parametrize("required", [False, True])
async def test_a_wrong_signature_is_refused_whether_it_was_asked_for_or_not(api: Api, required: bool) -> None:
    secret = await secret_of(api)
    if required:
        await require(api)
    good = headers(secret, "POST", "/v1/messages", BODY)
    assert (await post(api, good, BODY.replace(b"Hi", b"Ho"))).code == "signature_invalid"
    assert (await api.call("POST", "/v1/messages/validate", raw=BODY, **good)).code == "signature_invalid"
    assert (await api.call("POST", "/v1/messages", raw=BODY, key="test", **good)).code == "signature_invalid"
    for name in good:
        wrong = await post(api, good | {name: good[name][:-1] + "x"})
        assert (wrong.status, wrong.code) == (401, "signature_invalid"), name
        missing = await post(api, {other: value for other, value in good.items() if other != name})
        assert missing.status == (202 if name == "X-Hermes-Signature" and not required else 401)
    old = headers(secret, "POST", "/v1/messages", BODY, at=time.time() - 400)
    assert "300 s" in (await post(api, old)).json["detail"]
    assert (await post(api, good)).status == 202  # none of that used the nonce up


async def test_a_request_is_taken_once(api: Api) -> None:
    secret = await secret_of(api)
    await require(api)
    good = headers(secret, "POST", "/v1/messages", BODY)
    answers = await asyncio.gather(*(post(api, good) for _ in range(10)))
    assert sorted(answer.status for answer in answers) == [202] + [401] * 9
    assert {a.json["detail"] for a in answers if a.status == 401} == {"This nonce was used before."}
    reused = headers(secret, "GET", "/v1/messages", nonce=good["X-Hermes-Nonce"])
    assert (await api.call("GET", "/v1/messages", **reused)).code == "signature_invalid"


async def test_what_was_signed_before_a_restart_is_taken_once(api: Api, start: Start) -> None:
    secret = await secret_of(api)
    earlier = headers(secret, "POST", "/v1/messages", BODY, at=time.time() - 100)
    assert (await post(api, earlier)).status == 202
    assert (await post(api, earlier)).json["detail"] == "This nonce was used before."


async def test_while_the_database_is_away_nothing_signed_is_taken(api: Api) -> None:
    signed = headers(await secret_of(api), "GET", "/v1/messages")
    api.node.journal.set_available(False)  # type: ignore[attr-defined]
    assert (await api.call("GET", "/v1/messages", **signed)).code == "journal_away"
    api.node.journal.set_available(True)  # type: ignore[attr-defined]
    assert (await api.call("GET", "/v1/messages", **signed)).status == 200


async def test_the_octets_that_were_sent_are_signed_compressed_ones_too(api: Api) -> None:
    secret = await secret_of(api)
    await require(api)
    packed = gzip.compress(BODY)
    signed = headers(secret, "POST", "/v1/messages", packed)
    assert (await post(api, signed | {"Content-Encoding": "gzip"}, packed)).status == 202


def example(language: str) -> str:
    section = DOCUMENTED.split("## Signed requests\n")[1].split("\n## ")[0]
    (found,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return str(found)


@pytest.mark.parametrize("command", [[sys.executable, "-c", "python"], ["sh", "-c", "sh"]], ids=["python", "sh"])
async def test_the_documented_example_runs(api: Api, command: list[str]) -> None:
    environ = os.environ | {"HERMES_URL": api.url, "KEY": api.live, "SIGNING_SECRET": await secret_of(api)}
    await require(api)
    process = await asyncio.create_subprocess_exec(*command[:2], example(command[2]), env=environ, stdout=-1, stderr=-1)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err
    accepted: dict[str, Any] = json.loads(out)
    assert accepted["status"] == "accepted"
    assert (await api.node.stored(accepted["id"])).message.to == {"phone": "+4520123456"}
