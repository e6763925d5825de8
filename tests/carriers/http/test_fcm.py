"""Firebase Cloud Messaging against the contract's cases, Prism over its description, and a token endpoint."""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from carriers.base import CallbackRefused, CallbackRequest, SendError, SendResult
from carriers.http.fcm import SCOPE
from carriers.registry import make_carrier
from hermes.domain.message import Content
from hermes.errors import SettingsError
from hermes.testing import ManualClock
from hermes.testing.carriers import (
    SUPPRESSING,
    Case,
    RememberingSink,
    check_answer,
    check_keeps_secrets,
    load_cases,
    submission,
)
from tests.carriers.http import servers
from tests.carriers.http.prism import needs_prism, prism

PAYLOADS = Path(__file__).parents[2] / "contracts/payloads/fcm"
TOKEN = "bk3RNwTe3H0:CI2k_HHwgIpoDKCIZvvDMExUdFQ3P1-canary"
FID = "cVsmVfStS3mYN2jNG_bC1q"
OK = (200, {"content-type": "application/json"}, b'{"name": "projects/demo/messages/1"}')
UNAUTHENTICATED = (401, {"content-type": "application/json"}, b'{"error": {"code": 401, "status": "UNAUTHENTICATED"}}')


@pytest.fixture(scope="module")
def account():
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "demo",
        "private_key_id": "k1",
        "private_key": key.decode(),
        "client_email": "hermes@demo.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "http://127.0.0.1:1/token",
    }


def token_answer(n, expires_in=3600):
    body = {"access_token": f"ya29.canary-{n}", "expires_in": expires_in, "token_type": "Bearer"}
    return 200, {"content-type": "application/json"}, json.dumps(body).encode()


@asynccontextmanager
async def google(account, clock=None, fcm_url=None, tokens=(1, 2, 3), **settings):
    """Run an FCM and a token endpoint, and a carrier to both."""
    async with servers.provider() as fcm, servers.provider() as oauth:
        fcm.answer = OK
        oauth.answers = [token_answer(n) for n in tokens]
        oauth.answer = (500, {}, b"")
        options = {
            "project_id": "demo",
            "service_account": json.dumps(account),
            "token_url": f"{oauth.url}/token",
            "base_url": fcm_url or fcm.url,
            **settings,
        }
        carrier = make_carrier("fcm", "push", "push", options, clock=clock or ManualClock())
        await carrier.open(RememberingSink())
        try:
            yield carrier, fcm, oauth
        finally:
            await carrier.close()


def push(**changes):
    content = changes.pop("content", Content(text="Your code is 9876543", title="Code"))
    return submission(channel="push", content=content, **{"to": TOKEN, **changes})


def message_of(asked):
    return json.loads(asked.body)["message"]


# What we send


async def test_a_notification_goes_to_a_token_with_the_time_it_has(account):
    clock = ManualClock()
    async with google(account, clock) as (carrier, fcm, _):
        sent = push(expires_at=clock.now() + timedelta(seconds=90.7))
        assert await carrier.send(sent) == SendResult(("projects/demo/messages/1",))
    asked = fcm.asked[0]
    assert (asked.method, asked.path) == ("POST", "/v1/projects/demo/messages:send")
    assert asked.headers["authorization"] == "Bearer ya29.canary-1"
    assert message_of(asked) == {
        "token": TOKEN,
        "notification": {"title": "Code", "body": "Your code is 9876543"},
        "android": {"ttl": "90s"},
        "apns": {"headers": {"apns-expiration": str(int(sent.expires_at.timestamp()))}},
        "webpush": {"headers": {"TTL": "90"}},
    }


async def test_data_alone_is_no_notification_and_its_values_are_texts(account):
    data = {"order": "17", "n": 5, "yes": True, "list": [1, "é"], "deep": {"a": None}}
    async with google(account) as (carrier, fcm, _):
        await carrier.send(push(content=Content(data=data)))
    message = message_of(fcm.asked[0])
    assert "notification" not in message
    assert message["data"] == {"order": "17", "n": "5", "yes": "true", "list": '[1,"é"]', "deep": '{"a":null}'}


@pytest.mark.parametrize(
    ("to", "target"),
    [(TOKEN, "token"), (FID, "fid"), ("b" + FID[1:], "token"), (FID + "x", "token"), (FID[:-1] + ":", "token")],
)
async def test_an_installation_id_is_told_from_a_registration_token_by_its_form(account, to, target):
    async with google(account) as (carrier, fcm, _):
        await carrier.send(push(to=to))
    assert message_of(fcm.asked[0])[target] == to


async def test_a_one_time_code_is_urgent(account):
    async with google(account) as (carrier, fcm, _):
        await carrier.send(push(category="otp"))
    message = message_of(fcm.asked[0])
    assert message["android"]["priority"] == "HIGH"
    assert message["webpush"]["headers"]["Urgency"] == "high"


@pytest.mark.parametrize(("left_s", "ttl"), [(-5, "0s"), (0.5, "0s"), (10**7, "2419200s")])
async def test_the_time_to_live_stays_in_what_fcm_takes(account, left_s, ttl):
    clock = ManualClock()
    async with google(account, clock) as (carrier, fcm, _):
        await carrier.send(push(expires_at=clock.now() + timedelta(seconds=left_s)))
    assert message_of(fcm.asked[0])["android"]["ttl"] == ttl


async def test_without_anything_to_say_nothing_is_sent(account):
    async with google(account) as (carrier, fcm, _):
        error = await servers.failure(carrier.send(push(content=Content(subject="x"))))
        assert (error.error_class, error.ambiguous) == ("invalid_request", False)
        assert not fcm.asked


# What FCM answers


@pytest.mark.parametrize("case", load_cases(PAYLOADS / "send_responses.json"), ids=str)
async def test_an_answer_means_what_the_table_says(case: Case, account):
    response = case.given["response"]
    async with google(account) as (carrier, fcm, oauth):
        fcm.answer = (response["status"], response["headers"], response["body"].encode())
        try:
            answer: SendResult | SendError = await carrier.send(push())
        except SendError as error:
            answer = error
            assert not error.ambiguous
            if "drop_token" in case.expect:
                assert (error.error_class in SUPPRESSING) == case.expect["drop_token"]
            if "retry_after_s" in case.expect:
                assert error.retry_after_s == case.expect["retry_after_s"]
        check_answer(case, answer)
        renewed = case.expect.get("refresh_token_once", False)
        assert (len(fcm.asked), len(oauth.asked)) == ((2, 2) if renewed else (1, 1))
        secrets = [TOKEN, "ya29.canary", "PRIVATE KEY", account["private_key"][40:80], "9876543"]
        check_keeps_secrets(carrier, secrets, answer)


def error_body(status, message="", *details):
    return json.dumps({"error": {"status": status, "message": message, "details": list(details)}}).encode()


def field(name):
    return {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [{"field": name}]}


@pytest.mark.parametrize(
    ("status", "body", "error_class", "code"),
    [
        (404, error_body("NOT_FOUND", "Requested entity was not found."), "unknown", "NOT_FOUND"),
        (404, b"", "invalid_request", None),
        (400, error_body("INVALID_ARGUMENT", "", field("message.token")), "invalid_destination", "INVALID_ARGUMENT"),
        (400, error_body("INVALID_ARGUMENT", "", field("message.fid")), "invalid_destination", "INVALID_ARGUMENT"),
        (400, error_body("INVALID_ARGUMENT", "", field("message.tokens")), "invalid_request", "INVALID_ARGUMENT"),
        (403, error_body("PERMISSION_DENIED"), "provider_auth", "PERMISSION_DENIED"),
        (429, error_body("RESOURCE_EXHAUSTED"), "throttled", "RESOURCE_EXHAUSTED"),
        (400, error_body("BRAND_NEW"), "unknown", "BRAND_NEW"),
        (400, b'{"error": "x"}', "invalid_request", None),
        (400, b'{"error": {"status": 5, "details": 5}}', "invalid_request", None),
        (400, error_body("INVALID_ARGUMENT", "", 5, {"fieldViolations": [5]}), "invalid_request", "INVALID_ARGUMENT"),
    ],
)
async def test_answers_beyond_the_table(account, status, body, error_class, code):
    async with google(account) as (carrier, fcm, _):
        fcm.answer = (status, {}, body)
        error = await servers.failure(carrier.send(push()))
        assert (error.error_class, error.code, error.ambiguous) == (error_class, code, False)


async def test_a_quota_that_names_no_time_waits_a_minute(account):
    async with google(account) as (carrier, fcm, _):
        detail = {"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "QUOTA_EXCEEDED"}
        fcm.answer = (429, {}, error_body("RESOURCE_EXHAUSTED", "", detail))
        assert (await servers.failure(carrier.send(push()))).retry_after_s == 60


@pytest.mark.parametrize("body", [b"", b"{}", b'{"name": ""}', b'{"name": 5}', b"<html>"])
async def test_a_200_without_a_name_is_in_doubt(account, body):
    async with google(account) as (carrier, fcm, _):
        fcm.answer = (200, {}, body)
        assert (await servers.failure(carrier.send(push()))).ambiguous


async def test_a_hanging_fcm_is_in_doubt(account):
    async with servers.raw_server(servers.hang) as url, google(account, fcm_url=url, timeout_s=0.1) as (carrier, _, _):
        assert (await servers.failure(carrier.send(push()))).ambiguous


# Access tokens


async def test_a_token_is_had_once_for_all_sends_by_a_signed_assertion(account):
    async with google(account) as (carrier, fcm, oauth):
        await asyncio.gather(*(carrier.send(push()) for _ in range(10)))
        assert len(fcm.asked) == 10
        assert len(oauth.asked) == 1
    asked = parse_qs(oauth.asked[0].body.decode())
    assert asked["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    assert asked["assertion"][0].count(".") == 2
    assert SCOPE.endswith("firebase.messaging")


async def test_a_refused_token_is_replaced_once_and_the_message_sent_again(account):
    async with google(account) as (carrier, fcm, oauth):
        await carrier.send(push())
        fcm.answers = [UNAUTHENTICATED]
        assert await carrier.send(push()) == SendResult(("projects/demo/messages/1",))
        assert [asked.headers["authorization"][-1] for asked in fcm.asked] == ["1", "1", "2"]
        assert len(oauth.asked) == 2


async def test_many_refusals_at_once_get_one_new_token(account):
    async with google(account) as (carrier, fcm, oauth):
        await carrier.send(push())
        fcm.answers = [UNAUTHENTICATED] * 5
        await asyncio.gather(*(carrier.send(push()) for _ in range(5)))
        assert len(oauth.asked) == 2


async def test_a_token_near_its_end_is_renewed_beside_the_sends(account):
    async with google(account) as (carrier, fcm, _):
        await carrier.send(push())
        credentials = carrier._tokens._credentials
        credentials.expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=100)
        await carrier.send(push())
        assert fcm.asked[1].headers["authorization"].endswith("-1")
        await carrier._tokens._renewing
        await carrier.send(push())
        assert fcm.asked[2].headers["authorization"].endswith("-2")


@pytest.mark.parametrize(
    ("answer", "error_class", "code"),
    [
        ((400, {}, b'{"error": "invalid_grant", "error_description": "canary"}'), "provider_auth", "invalid_grant"),
        ((401, {}, b'{"error": "invalid_client"}'), "provider_auth", "invalid_client"),
        ((200, {}, b"{}"), "retryable_transient", None),
        *(((200, {}, body), "retryable_transient", None) for body in (b"<html>canary", b"[]", b"5", b"null", b"\xff")),
        ((200, {}, b'{"access_token": 5, "expires_in": "canary"}'), "retryable_transient", None),
        ((403, {}, b"<html>canary"), "retryable_transient", None),
    ],
)
async def test_without_a_token_nothing_is_sent(account, answer, error_class, code):
    async with google(account) as (carrier, fcm, oauth):
        oauth.answers = [answer] * 5
        error = await servers.failure(carrier.send(push()))
        assert (error.error_class, error.code) == (error_class, code)
        assert error.retryable == (error_class == "retryable_transient")
        assert not error.ambiguous
        assert "canary" not in str(error)
        assert not fcm.asked


async def test_a_token_endpoint_that_is_away_is_tried_again_later(account, monkeypatch):
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda seconds: None)
    async with google(account, token_url=f"http://127.0.0.1:{servers.free_port()}/token") as (carrier, fcm, _):
        error = await servers.failure(carrier.send(push()))
        assert (error.error_class, error.retryable, error.ambiguous) == ("retryable_transient", True, False)
        assert not fcm.asked
    async with google(account, tokens=()) as (carrier, fcm, oauth):
        error = await servers.failure(carrier.send(push()))  # 500 each time
        assert (error.error_class, error.retryable, error.ambiguous) == ("retryable_transient", True, False)
        oauth.answers = [token_answer(9)]
        await carrier.send(push())
        assert len(fcm.asked) == 1


async def test_a_token_endpoint_that_hangs_puts_no_message_in_doubt(account):
    async with (
        servers.raw_server(servers.hang) as url,
        google(account, token_url=f"{url}/token", timeout_s=0.1) as (carrier, fcm, _),
    ):
        error = await servers.failure(carrier.send(push()))
        assert (error.error_class, error.retryable, error.ambiguous) == ("retryable_transient", True, False)
        assert not fcm.asked


# Settings, health, callbacks


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"project_id": ""}, "project_id"),
        ({"project_id": "a/b"}, "project_id"),
        ({"service_account": "canary"}, "service_account"),
        ({"service_account": '["canary"]'}, "service_account"),
        ({"service_account": '{"private_key": "canary"}'}, "service_account"),
        ({"token_url": "canary"}, "token_url"),
        ({"base_url": "canary"}, "base_url"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_not_shown(account, settings, named):
    options = {"project_id": "demo", "service_account": json.dumps(account), **settings}
    with pytest.raises(SettingsError, match=named) as caught:
        make_carrier("fcm", "push", "push", options, clock=ManualClock())
    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None or "canary" not in str(caught.value.__context__)


def test_a_key_that_is_none_is_refused(account):
    options = {"project_id": "demo", "service_account": json.dumps({**account, "private_key": "canary"})}
    with pytest.raises(SettingsError, match="service_account"):
        make_carrier("fcm", "push", "push", options, clock=ManualClock())


@pytest.mark.parametrize(("answer", "well"), [(OK, True), ((403, {}, b""), False), ((503, {}, b""), False)])
async def test_health_lets_fcm_judge_a_message_that_is_not_sent(account, answer, well):
    async with google(account) as (carrier, fcm, _):
        fcm.answer = answer
        assert (await carrier.health() is None) == well
        assert json.loads(fcm.asked[0].body)["validateOnly"] is True


async def test_fcm_reports_nothing(account):
    async with google(account) as (carrier, _, _):
        assert carrier.receipts is False
        with pytest.raises(CallbackRefused):
            await carrier.on_callback(CallbackRequest("POST", "https://h.test/v1/webhooks/push", {}, {}, b"{}"))


@needs_prism
@pytest.mark.slow
async def test_prism_finds_nothing_wrong_with_what_we_send_and_its_refusals_are_understood(account):
    async with prism("fcm_v1_openapi_derived.json") as it, google(account, fcm_url=it.url) as (carrier, _, _):
        it.watch(carrier)
        for content in (Content(text="a", title="b", data={"c": 1}), Content(data={"d": "e"})):
            for to in (TOKEN, FID):
                for category in ("otp", "marketing"):
                    sent = push(to=to, content=content, category=category)
                    assert (await carrier.send(sent)).carrier_message_ids[0].startswith("projects/")
        assert await carrier.health() is None
        assert it.violations == []
        classes = {}
        for code in (400, 403, 404, 429, 500, 503):
            it.prefer = f"code={code}"
            classes[code] = (await servers.failure(carrier.send(push()))).error_class
    assert classes == {
        400: "invalid_request",
        403: "invalid_destination",
        404: "invalid_destination",
        429: "throttled",
        500: "retryable_transient",
        503: "retryable_transient",
    }
