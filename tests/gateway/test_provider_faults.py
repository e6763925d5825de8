"""Providers that fail in every way: the message goes on with another carrier, and is never silently sent twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from actors.context import CarrierPlan
from carriers.registry import make_carrier
from hermes.runtime.clock import SystemClock
from tests.carriers.http import servers
from tests.gateway.api import Api

Start = Callable[..., Awaitable[Api]]

TAKEN = {"MessageId": "ses-1", "messages": [{"id": "wamid.1"}], "name": "projects/demo/messages/1"}
GRANTED = {"access_token": "x", "expires_in": 3600}
OTHERWISE = json.dumps({"error": {"status": "INTERNAL", "code": 131000}, "message": "x"}).encode()


@pytest.fixture(scope="module")
def account() -> str:
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return json.dumps({"private_key": key.decode(), "client_email": "h@demo.test", "token_uri": "http://unused.test"})


def options(kind: str, account: str, oauth: str) -> dict[str, Any]:
    return {
        "ses": {"region": "eu-west-1", "access_key_id": "AKID", "secret_access_key": "x", "from": "news@acme.test"},
        "whatsapp": {"phone_number_id": "1", "access_token": "x"},
        "fcm": {"project_id": "demo", "service_account": account, "token_url": oauth},
    }[kind]


BODIES: dict[str, dict[str, Any]] = {
    "ses": {"channel": "email", "to": "jane@example.com", "content": {"text": "x", "subject": "x"}},
    "whatsapp": {"channel": "whatsapp", "to": "+4520123456", "content": {"text": "x"}},
    "fcm": {"channel": "push", "to": "tok:en", "content": {"text": "x"}},
}


@asynccontextmanager
async def answering(status: int, headers: dict[str, str], body: bytes) -> AsyncIterator[str]:
    async with servers.provider() as it:
        it.answer = (status, headers, body)
        yield it.url


@asynccontextmanager
async def nobody() -> AsyncIterator[str]:
    yield f"http://127.0.0.1:{servers.free_port()}"


# How the first carrier's provider fails -> whether nobody can tell if it took the message.
FAULTS: dict[str, tuple[Callable[[], Any], bool]] = {
    "500": (lambda: answering(500, {}, OTHERWISE), False),
    "503 of a proxy": (lambda: answering(503, {"content-type": "text/html"}, b"<html>away</html>"), False),
    "504 of a proxy": (lambda: answering(504, {}, b""), True),
    "429": (lambda: answering(429, {"retry-after": "30"}, b""), False),
    "redirect": (lambda: answering(302, {"location": "https://elsewhere.test/"}, b""), False),
    "200 with nonsense": (lambda: answering(200, {}, b"<html>"), True),
    "refused connection": (nobody, False),
    "hang": (lambda: servers.raw_server(servers.hang), True),
    "reset": (lambda: servers.raw_server(servers.reset_after_request), True),
    "close": (lambda: servers.raw_server(servers.close_after_request), True),
    "no HTTP": (lambda: servers.raw_server(servers.talk_garbage), True),
    "half an answer": (lambda: servers.raw_server(servers.break_off), True),
}
DOUBTFUL = [fault for fault, (_, in_doubt) in FAULTS.items() if in_doubt]


@asynccontextmanager
async def two_carriers(
    start: Start, kind: str, fault: str, account: str
) -> AsyncIterator[tuple[Api, servers.Provider]]:
    """Run a node whose first carrier's provider fails, and whose second one's takes everything."""
    fails, _ = FAULTS[fault]
    async with servers.provider() as good, servers.provider() as oauth, fails() as bad:
        good.answer = (200, {"content-type": "application/json"}, json.dumps(TAKEN).encode())
        oauth.answer = (200, {"content-type": "application/json"}, json.dumps(GRANTED).encode())
        own = options(kind, account, oauth.url + "/token")
        plans = [
            CarrierPlan(
                make_carrier(
                    kind,
                    name,
                    BODIES[kind]["channel"],
                    {**own, "base_url": url, "timeout_s": timeout_s},
                    clock=SystemClock(),
                ),
                timeout_s=timeout_s,
            )
            for name, url, timeout_s in (("first", bad, 0.3), ("second", good.url, 10.0))
        ]
        yield await start(plans), good


async def attempts(api: Api, message: str, wanted: int) -> list[dict[str, Any]]:
    """Wait until that many attempts are answered; give them all."""
    found: list[dict[str, Any]] = []

    async def answered() -> bool:
        nonlocal found
        found = (await api.call("GET", f"/v1/messages/{message}")).json["attempts"]
        return len([attempt for attempt in found if attempt["status"] != "queued"]) >= wanted

    await api.node.until(answered)
    return found


@pytest.mark.parametrize("fault", [fault for fault, (_, in_doubt) in FAULTS.items() if not in_doubt])
@pytest.mark.parametrize("kind", BODIES)
async def test_what_was_certainly_not_taken_goes_to_the_next_carrier(
    start: Start, kind: str, fault: str, account: str
) -> None:
    async with two_carriers(start, kind, fault, account) as (api, good):
        first, second = await attempts(api, await api.sent(BODIES[kind]), 2)
        assert (first["carrier"], first["status"]) == ("first", "rejected")
        assert first["error"]["class"] in ("retryable_transient", "throttled", "provider_config")
        assert (second["carrier"], second["recovered"]) == ("second", False)
        assert second["carrier_message_ids"]
        assert len(good.asked) == 1


@pytest.mark.parametrize(
    ("kind", "fault"), [("ses", "hang"), ("fcm", "hang"), *(("whatsapp", fault) for fault in DOUBTFUL)]
)
async def test_what_may_have_been_taken_is_sent_again_by_the_same_carrier_and_says_so(
    start: Start, kind: str, fault: str, account: str
) -> None:
    async with two_carriers(start, kind, fault, account) as (api, good):
        first, again, *_ = await attempts(api, await api.sent(BODIES[kind]), 2)
        assert [first["carrier"], again["carrier"]] == ["first", "first"]
        assert [first["status"], again["status"]] == ["ambiguous", "ambiguous"]
        assert [first["recovered"], again["recovered"]] == [False, True]
        assert first["error"]["class"] in ("retryable_transient", "unknown")
        assert not good.asked


@pytest.mark.parametrize("fault", DOUBTFUL)
async def test_what_may_have_been_taken_is_never_sent_again_under_never(start: Start, fault: str, account: str) -> None:
    async with two_carriers(start, "whatsapp", fault, account) as (api, good):
        (first,) = await attempts(api, await api.sent({**BODIES["whatsapp"], "on_ambiguous": "never"}), 1)
        assert first["status"] == "ambiguous"
        assert not good.asked


async def test_a_failing_provider_is_set_aside_after_five_failures(start: Start, account: str) -> None:
    async with two_carriers(start, "ses", "500", account) as (api, good):
        for _ in range(5):
            await attempts(api, await api.sent(BODIES["ses"]), 2)
        (only,) = await attempts(api, await api.sent(BODIES["ses"]), 1)
        assert only["carrier"] == "second"
        assert len(good.asked) == 6


async def test_a_refused_login_stops_the_carrier_until_somebody_looks(start: Start, account: str) -> None:
    async with two_carriers(start, "whatsapp", "500", account) as (api, good):
        first = api.node.context.carriers["first"].carrier
        async with answering(401, {}, b'{"error": {"code": 190}}') as url:
            first._send_url = url + "/"  # type: ignore[attr-defined]
            await attempts(api, await api.sent(BODIES["whatsapp"]), 2)
            (only,) = await attempts(api, await api.sent(BODIES["whatsapp"]), 1)
        assert only["carrier"] == "second"
        assert len(good.asked) == 2


async def test_outside_the_24_hours_the_next_step_begins(start: Start, account: str) -> None:
    async with two_carriers(start, "whatsapp", "500", account) as (api, good):
        good.answer = (400, {}, b'{"error": {"code": 131047}}')
        api.node.context.carriers["first"].carrier._send_url = good.url + "/"  # type: ignore[attr-defined]
        to = {"whatsapp": "+4520123456"}
        message = await api.sent({"to": to, "cascade": ["whatsapp", "whatsapp"], "content": {"text": "x"}})
        first, second = await attempts(api, message, 2)
        assert (first["step"], first["error"]["class"], first["error"]["code"]) == (0, "policy_window", "131047")
        assert (second["step"], second["carrier"]) == (1, "first")
        assert (await api.node.final(message)).status == "failed"
