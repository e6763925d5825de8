"""Twilio: what we send it, what its answers and webhooks mean, and whose webhooks are believed."""

import hashlib
import json
import logging
from urllib.parse import parse_qsl, urlencode

import pytest
from twilio.request_validator import RequestValidator

from carriers.base import CallbackRefused, CallbackRequest, SendError, SendResult
from carriers.http.twilio import TwilioCarrier
from carriers.registry import make_carrier
from hermes.errors import SettingsError
from hermes.testing import ManualClock
from hermes.testing.carriers import check_keeps_secrets, check_receipt, submission
from tests.carriers.http import servers, tables

TOKEN = "canary-token"
SID = "AC0123456789abcdef0123456789abcdef"
OPTIONS = {"account_sid": SID, "auth_token": TOKEN, "from": "+4510101010"}
CREATED: servers.Answer = (
    201,
    {"content-type": "application/json"},
    b'{"sid": "SM1", "status": "queued", "price": null}',
)


async def asked_of(options=OPTIONS, clock=None, **changes):
    """What the provider is asked when we send."""
    async with servers.provider() as twilio, tables.carrier_to("twilio", options, twilio.url, clock) as carrier:
        twilio.answer = CREATED
        assert await tables.outcome(carrier, **changes) == SendResult(("SM1",))
        (asked,) = twilio.asked
        return asked, dict(parse_qsl(asked.body.decode(), strict_parsing=True))


async def test_a_message_is_a_form_with_basic_authentication():
    asked, form = await asked_of()
    assert (asked.method, asked.path) == ("POST", f"/2010-04-01/Accounts/{SID}/Messages.json")
    assert asked.headers["authorization"].startswith("Basic ")
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
    assert asked.headers["user-agent"].startswith("Hermes/")
    assert form == {
        "To": "+4520123456",
        "From": "+4510101010",
        "Body": "Your code is 123456",
        "StatusCallback": tables.URL,
    }


async def test_the_message_names_the_sender_else_the_carrier_does():
    service = {"account_sid": SID, "auth_token": TOKEN, "messaging_service_sid": "MG1"}
    assert (await asked_of(sender="Acme"))[1]["From"] == "Acme"
    form = (await asked_of(service))[1]
    assert "From" not in form
    assert form["MessagingServiceSid"] == "MG1"
    assert (await asked_of(service, sender="Acme"))[1]["From"] == "Acme"


async def test_a_message_that_ends_soon_is_not_kept_longer_by_twilio():
    clock = ManualClock()
    assert "ValidityPeriod" not in (await asked_of(clock=clock))[1]
    clock.advance((submission().expires_at - clock.now()).total_seconds() - 90.5)
    assert (await asked_of(clock=clock))[1]["ValidityPeriod"] == "90"
    clock.advance(100)
    assert (await asked_of(clock=clock))[1]["ValidityPeriod"] == "1"


async def test_the_receipts_may_be_wanted_elsewhere():
    form = (await asked_of({**OPTIONS, "status_callback_url": "https://elsewhere.example/x"}))[1]
    assert form["StatusCallback"] == "https://elsewhere.example/x"


async def test_a_price_that_twilio_knows_is_the_cost():
    async with servers.provider() as twilio, tables.carrier_to("twilio", OPTIONS, twilio.url) as carrier:
        twilio.answer = (201, {}, b'{"sid": "SM1", "price": "-0.00750"}')
        assert await tables.outcome(carrier) == SendResult(("SM1",), 0.0075)


@pytest.mark.parametrize("case", tables.cases("twilio", "send_responses"), ids=str)
async def test_an_answer_means_what_the_contract_says(case):
    await tables.check_send_case(case, "twilio", OPTIONS)


@pytest.mark.parametrize("failure", tables.FAILURES, ids=lambda failure: failure[0])
async def test_a_provider_that_fails_says_whether_the_send_is_in_doubt(failure):
    await tables.check_failure("twilio", OPTIONS, *failure[1:])


async def test_retry_after_is_heeded():
    async with servers.provider() as twilio, tables.carrier_to("twilio", OPTIONS, twilio.url) as carrier:
        twilio.answer = (429, {"Retry-After": "7"}, b'{"code": 20429}')
        error = await tables.outcome(carrier)
        assert isinstance(error, SendError)
        assert (error.error_class, error.retry_after_s) == ("throttled", 7)


async def test_a_message_without_text_is_not_sent():
    async with servers.provider() as twilio, tables.carrier_to("twilio", OPTIONS, twilio.url) as carrier:
        error = await tables.outcome(carrier, content=submission().content.__class__(html="x"))
        assert isinstance(error, SendError)
        assert error.error_class == "invalid_request"
        assert not twilio.asked


async def test_health_asks_for_the_account():
    async with servers.provider() as twilio, tables.carrier_to("twilio", OPTIONS, twilio.url) as carrier:
        twilio.answer = (200, {}, b'{"status": "active"}')
        assert await carrier.health() is None
        assert twilio.asked[0].path == f"/2010-04-01/Accounts/{SID}.json"
        twilio.answer = (401, {}, b'{"code": 20003, "message": "canary"}')
        assert await carrier.health() == (
            "provider_auth: HTTP 401: authentication failed or permission denied (HTTP 401)"
        )


# Webhooks


def signed(case, token=TOKEN):
    webhook = case.given["webhook"]
    signature = RequestValidator(token).compute_signature(tables.URL, webhook["form"])
    return tables.request_of(case, x_twilio_signature=signature)


@pytest.mark.parametrize("case", tables.cases("twilio", "status_webhooks"), ids=str)
async def test_a_status_means_what_the_contract_says(case):
    async with tables.carrier_to("twilio", OPTIONS) as carrier:
        answer = await carrier.on_callback(signed(case))
        assert answer.status == case.expect.get("reply_status", 200)
        assert not answer.inbound
        if "provider_message_id" in case.expect:
            check_receipt(case, answer.receipts)
        else:
            assert not answer.receipts


@pytest.mark.parametrize("case", tables.cases("twilio", "inbound_webhooks"), ids=str)
async def test_an_inbound_message_is_read_as_the_contract_says(case):
    async with tables.carrier_to("twilio", OPTIONS) as carrier:
        answer = await carrier.on_callback(signed(case))
        tables.check_inbound(case, answer)
        assert (answer.content_type, answer.body.endswith(b"<Response/>")) == ("text/xml", True)


@pytest.mark.parametrize("case", tables.cases("twilio", "status_webhooks"), ids=str)
async def test_a_wrong_signature_changes_nothing(case):
    async with tables.carrier_to("twilio", OPTIONS) as carrier:
        for request in (
            signed(case, "another"),
            tables.request_of(case),
            tables.request_of(case, x_twilio_signature=""),
            tables.request_of(case, x_twilio_signature="é" * 28),
            tables.request_of(case, body=b"\xff", x_twilio_signature="x"),
        ):
            with pytest.raises(CallbackRefused) as refused:
                await carrier.on_callback(request)
            assert refused.value.status in (401, 403)


@pytest.mark.parametrize("row", tables.vectors("twilio"))
async def test_a_signature_vector_is_judged_as_its_row_says(row):
    async with tables.carrier_to("twilio", {**OPTIONS, "auth_token": row["auth_token"]}) as carrier:
        body, media_type = (
            urlencode([tuple(pair) for pair in row.get("params", [])]),
            "application/x-www-form-urlencoded",
        )
        if "json_body" in row:
            body, media_type = row["json_body"], "application/json"
        headers = {"content-type": media_type, "x-twilio-signature": row["signature"]}
        request = CallbackRequest("POST", row["url"], {}, headers, body.encode())
        if row["valid"]:
            assert (await carrier.on_callback(request)).status == 400  # believed, but about no message
        else:
            with pytest.raises(CallbackRefused):
                await carrier.on_callback(request)


async def test_a_json_body_must_be_the_one_whose_hash_was_signed():
    body = json.dumps({"MessageSid": "SM1", "MessageStatus": "delivered"}).encode()
    url = f"{tables.URL}?bodySHA256={hashlib.sha256(body).hexdigest()}"
    headers = {
        "content-type": "application/json",
        "x-twilio-signature": RequestValidator(TOKEN).compute_signature(url, {}),
    }
    async with tables.carrier_to("twilio", OPTIONS) as carrier:
        (receipt,) = (await carrier.on_callback(CallbackRequest("POST", url, {}, headers, body))).receipts
        assert (receipt.carrier_message_id, receipt.status) == ("SM1", "delivered")
        for wrong in (body.replace(b"SM1", b"SM2"), b""):
            with pytest.raises(CallbackRefused):
                await carrier.on_callback(CallbackRequest("POST", url, {}, headers, wrong))
        # The same octets said to be a form: then they would have to be signed themselves.
        headers["content-type"] = "application/x-www-form-urlencoded"
        with pytest.raises(CallbackRefused):
            await carrier.on_callback(CallbackRequest("POST", url, {}, headers, body))


async def test_a_get_is_signed_by_its_url():
    url = f"{tables.URL}?MessageSid=SM1&MessageStatus=read"
    headers = {"x-twilio-signature": RequestValidator(TOKEN).compute_signature(url, {})}
    request = CallbackRequest("GET", url, {"MessageSid": "SM1", "MessageStatus": "read"}, headers, b"")
    async with tables.carrier_to("twilio", OPTIONS) as carrier:
        (receipt,) = (await carrier.on_callback(request)).receipts
        assert receipt.status == "read"


# Settings and secrets


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"auth_token": TOKEN, "from": "x"}, "account_sid"),
        ({"account_sid": SID, "from": "x"}, "auth_token"),
        ({"account_sid": SID, "auth_token": TOKEN}, "exactly one of from and messaging_service_sid"),
        ({**OPTIONS, "messaging_service_sid": "MG1"}, "exactly one of from and messaging_service_sid"),
        ({**OPTIONS, "base_url": "ftp://x"}, "base_url"),
        ({**OPTIONS, "region": "ie1"}, "region"),
    ],
)
def test_wrong_settings_are_refused_by_name(options, why):
    with pytest.raises(SettingsError, match=why) as refused:
        make_carrier("twilio", "alpha", "sms", options, clock=ManualClock())
    assert TOKEN not in str(refused.value)


async def test_no_secret_is_shown_or_logged(caplog):
    caplog.set_level(logging.DEBUG)
    async with servers.provider() as twilio, tables.carrier_to("twilio", OPTIONS, twilio.url) as carrier:
        twilio.answer = (400, {}, b'{"code": 21211, "message": "canary-token +4520123456 Your code is 123456"}')
        error = await tables.outcome(carrier)
        twilio.answer = CREATED
        await tables.outcome(carrier)
        check_keeps_secrets(carrier, [TOKEN, "123456", "4520123456"], error)
        assert isinstance(carrier, TwilioCarrier)
        assert carrier._sdk._test_only_last_request is None
    for secret in (TOKEN, "123456", "4520123456"):
        assert secret not in caplog.text
