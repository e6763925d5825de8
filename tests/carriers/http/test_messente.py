"""Messente: what we send it, what its answers and webhooks mean, and whose webhooks are believed."""

import hashlib
import hmac
import json
import logging
from datetime import UTC, datetime, timedelta

import pytest

from carriers.base import CallbackRefused, CallbackRequest, SendError, SendResult
from carriers.registry import make_carrier
from hermes.errors import SettingsError
from hermes.testing import ManualClock
from hermes.testing.carriers import check_keeps_secrets, check_receipt
from tests.carriers.http import servers, tables

PASSWORD = "canary-api-password"
INBOUND = "canary-inbound-shared"
OPTIONS = {"username": "user", "password": PASSWORD, "inbound_secret": INBOUND, "from": "Acme"}
CREATED: servers.Answer = (
    201,
    {},
    b'{"messages": [{"message_id": "m-1", "channel": "sms"}], "omnimessage_id": "o-1", "to": "+45"}',
)


async def body_of(options=OPTIONS, **changes):
    """What the provider is sent."""
    async with servers.provider() as messente, tables.carrier_to("messente", options, messente.url) as carrier:
        messente.answer = CREATED
        assert await tables.outcome(carrier, **changes) == SendResult(("m-1",))
        (asked,) = messente.asked
        assert (asked.method, asked.path) == ("POST", "/v1/omnimessage")
        assert asked.headers["authorization"].startswith("Basic ")
        assert asked.headers["content-type"] == "application/json"
        return json.loads(asked.body)


async def test_a_message_is_json_with_basic_authentication():
    assert await body_of(expires_at=ManualClock().now() + timedelta(days=4)) == {
        "to": "+4520123456",
        "messages": [{"channel": "sms", "text": "Your code is 123456", "sender": "Acme"}],
        "dlr_url": tables.URL,
    }


async def test_the_message_names_the_sender_else_the_carrier_or_the_account_does():
    assert (await body_of(sender="Other"))["messages"][0]["sender"] == "Other"
    account = {key: value for key, value in OPTIONS.items() if key != "from"}
    assert "sender" not in (await body_of(account))["messages"][0]


@pytest.mark.parametrize(("left_s", "ttl"), [(259_201, None), (600.9, 600), (-5, 1)])
async def test_a_message_that_ends_soon_is_not_kept_longer_by_messente(left_s, ttl):
    body = await body_of(expires_at=ManualClock().now() + timedelta(seconds=left_s))
    assert body["messages"][0].get("ttl") == ttl


@pytest.mark.parametrize("case", tables.cases("messente", "send_responses"), ids=str)
async def test_an_answer_means_what_the_contract_says(case):
    await tables.check_send_case(case, "messente", OPTIONS)


async def test_invalid_data_is_about_the_number_only_where_it_says_so():
    async with servers.provider() as messente, tables.carrier_to("messente", OPTIONS, messente.url) as carrier:
        messente.answer = (400, {}, b'{"errors": [{"code": "105", "source": "sender"}]}')
        error = await tables.outcome(carrier)
        assert isinstance(error, SendError)
        assert (error.error_class, error.code) == ("invalid_request", "105")


@pytest.mark.parametrize("failure", tables.FAILURES, ids=lambda failure: failure[0])
async def test_a_provider_that_fails_says_whether_the_send_is_in_doubt(failure):
    await tables.check_failure("messente", OPTIONS, *failure[1:])


async def test_health_needs_good_credentials_and_no_message():
    async with servers.provider() as messente, tables.carrier_to("messente", OPTIONS, messente.url) as carrier:
        messente.answer = (404, {}, b'{"errors": [{"code": "101"}]}')
        assert await carrier.health() is None
        assert messente.asked[0].path.startswith("/v1/omnimessage/0000")
        messente.answer = (401, {}, b'{"errors": [{"code": "103", "detail": "canary"}]}')
        assert await carrier.health() == "provider_auth: HTTP 401: unauthorized"


# Webhooks


def signature(body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def signed(case, secret=PASSWORD):
    return tables.request_of(case, x_messente_signature=signature(case.given["webhook"]["body"].encode(), secret))


@pytest.mark.parametrize("case", tables.cases("messente", "status_webhooks"), ids=str)
async def test_a_status_means_what_the_contract_says(case):
    async with tables.carrier_to("messente", OPTIONS) as carrier:
        answer = await carrier.on_callback(signed(case))
        assert (answer.status, answer.inbound) == (200, ())
        check_receipt(case, answer.receipts)
        assert answer.receipts[0].at == datetime(2020, 2, 4, 8, 9, 42, 389630, UTC)


@pytest.mark.parametrize("case", tables.cases("messente", "inbound_webhooks"), ids=str)
async def test_an_inbound_message_is_read_as_the_contract_says(case):
    async with tables.carrier_to("messente", OPTIONS) as carrier:
        tables.check_inbound(case, await carrier.on_callback(signed(case, INBOUND)))


async def test_each_secret_speaks_for_its_own_webhooks_only():
    async with tables.carrier_to("messente", OPTIONS) as carrier:
        for table, secret in (("status_webhooks", INBOUND), ("inbound_webhooks", PASSWORD)):
            for case in tables.cases("messente", table):
                answer = await carrier.on_callback(signed(case, secret))
                assert (answer.receipts, answer.inbound) == ((), ())
    without = {key: value for key, value in OPTIONS.items() if key != "inbound_secret"}
    async with tables.carrier_to("messente", without) as carrier:
        for secret in (INBOUND, ""):
            for case in tables.cases("messente", "inbound_webhooks"):
                with pytest.raises(CallbackRefused):
                    await carrier.on_callback(signed(case, secret))


@pytest.mark.parametrize("case", tables.cases("messente", "status_webhooks"), ids=str)
async def test_a_wrong_signature_changes_nothing(case):
    async with tables.carrier_to("messente", OPTIONS) as carrier:
        for request in (
            tables.request_of(case),
            signed(case, "another"),
            tables.request_of(case, x_messente_signature=""),
            tables.request_of(case, x_messente_signature="é"),
            tables.request_of(case, body=b"{}", x_messente_signature=signature(b"{} ", PASSWORD)),
        ):
            with pytest.raises(CallbackRefused) as refused:
                await carrier.on_callback(request)
            assert refused.value.status in (401, 403)


@pytest.mark.parametrize("row", tables.vectors("messente"))
async def test_a_signature_vector_is_judged_as_its_row_says(row):
    headers = {"content-type": "application/json", "x-messente-signature": row["signature"]}
    request = CallbackRequest("POST", tables.URL, {}, headers, row["body"].encode())
    options = {"username": "user", "password": row["secret"], "inbound_secret": "another"}
    async with tables.carrier_to("messente", options) as carrier:
        if row["valid"]:
            assert (await carrier.on_callback(request)).receipts
        else:
            with pytest.raises(CallbackRefused):
                await carrier.on_callback(request)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"status": "DELIVRD"}',
        b'{"status": 7, "message_id": "m"}',
        b'{"status": "NEW", "message_id": "m"}',
        b'{"status": "DELIVRD", "message_id": 7}',
    ],
)
async def test_a_report_that_makes_no_sense_changes_nothing(body):
    async with tables.carrier_to("messente", OPTIONS) as carrier:
        headers = {"x-messente-signature": signature(body, PASSWORD)}
        answer = await carrier.on_callback(CallbackRequest("POST", tables.URL, {}, headers, body))
        assert (answer.receipts, answer.inbound) == ((), ())
        assert answer.status in (200, 400)


async def test_a_null_status_is_queued():
    body = b'{"status": null, "message_id": "m", "err": null, "timestamp": "2020-02-04T10:09:42+02:00"}'
    async with tables.carrier_to("messente", OPTIONS) as carrier:
        headers = {"x-messente-signature": signature(body, PASSWORD)}
        (receipt,) = (await carrier.on_callback(CallbackRequest("POST", tables.URL, {}, headers, body))).receipts
        assert (receipt.status, receipt.at) == ("submitted", datetime(2020, 2, 4, 8, 9, 42, tzinfo=UTC))


# Settings and secrets


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"password": "x"}, "username"),
        ({"username": "x"}, "password"),
        ({"username": "", "password": "x"}, "username, password: empty"),
        ({**OPTIONS, "colour": "red"}, "colour"),
    ],
)
def test_wrong_settings_are_refused_by_name(options, why):
    with pytest.raises(SettingsError, match=why) as refused:
        make_carrier("messente", "alpha", "sms", options, clock=ManualClock())
    assert "canary" not in str(refused.value)


async def test_no_secret_is_shown_or_logged(caplog):
    caplog.set_level(logging.DEBUG)
    async with servers.provider() as messente, tables.carrier_to("messente", OPTIONS, messente.url) as carrier:
        messente.answer = (400, {}, b'{"errors": [{"code": "105", "source": "to", "detail": "canary 4520123456"}]}')
        error = await tables.outcome(carrier)
        check_keeps_secrets(carrier, ["canary", "123456", "4520123456"], error)
    for secret in ("canary", "123456", "4520123456"):
        assert secret not in caplog.text
