"""Vonage: what we send it, what its answers and webhooks mean, and whose webhooks are believed."""

import asyncio
import hashlib
import json
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode

import jwt
import pytest

from carriers.base import CallbackRefused, CallbackRequest, SendError, SendResult
from carriers.http.vonage import VonageCarrier
from carriers.http.vonage_inbound import KEPT_S, MOST
from carriers.http.vonage_signature import METHODS, check_jwt, check_sig, sign
from carriers.registry import make_carrier
from hermes.domain.message import Content
from hermes.domain.receipt import DeliveryReceipt
from hermes.errors import SettingsError
from hermes.testing import ManualClock
from hermes.testing.carriers import Case, RememberingSink, check_keeps_secrets, check_receipt, submission
from tests.carriers.http import servers, tables

SECRET = "canary-signature-secret-of-32-octets"
API_SECRET = "canary-api-secret"
OPTIONS = {"api_key": "abcd1234", "api_secret": API_SECRET, "signature_secret": SECRET, "from": "Acme"}
OK: servers.Answer = (200, {}, b'{"messages": [{"message-id": "0A1", "status": "0", "message-price": "0.0333"}]}')


async def form_of(options=OPTIONS, clock=None, **changes):
    """The form that the provider gets when we send."""
    async with servers.provider() as vonage, tables.carrier_to("vonage", options, vonage.url, clock) as carrier:
        vonage.answer = OK
        assert await tables.outcome(carrier, **changes) == SendResult(("0A1",), 0.0333)
        (asked,) = vonage.asked
        assert (asked.method, asked.path) == ("POST", "/sms/json")
        assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
        return dict(parse_qsl(asked.body.decode(), strict_parsing=True))


async def test_a_message_is_a_form():
    assert await form_of(expires_at=ManualClock().now() + timedelta(days=30)) == {
        "api_key": "abcd1234",
        "api_secret": API_SECRET,
        "from": "Acme",
        "to": "4520123456",
        "text": "Your code is 123456",
        "client-ref": "msg_01KE0000000000000000000000.0",
        "callback": tables.URL,
    }


@pytest.mark.parametrize(
    ("text", "encoding", "type_"),
    [
        ("Hi", "gsm7", None),
        ("Hi", None, None),
        ("Привет", "ucs2", "unicode"),
        ("💬", None, "unicode"),
        ("€{}", None, None),
    ],
)
async def test_a_text_beyond_gsm_7_is_sent_as_unicode(text, encoding, type_):
    form = await form_of(content=Content(text=text), encoding=encoding)
    assert (form["text"], form.get("type")) == (text, type_)


@pytest.mark.parametrize(("left_s", "ttl"), [(259_200.5, None), (600, "600000"), (5, "20000"), (-5, "20000")])
async def test_a_message_that_ends_soon_is_not_kept_longer_by_vonage(left_s, ttl):
    form = await form_of(expires_at=ManualClock().now() + timedelta(seconds=left_s))
    assert form.get("ttl") == ttl


async def test_the_message_names_the_sender_else_the_carrier_does():
    assert (await form_of(sender="+4510101010"))["from"] == "4510101010"
    nobody = {key: value for key, value in OPTIONS.items() if key != "from"}
    async with servers.provider() as vonage, tables.carrier_to("vonage", nobody, vonage.url) as carrier:
        error = await tables.outcome(carrier)
        assert isinstance(error, SendError)
        assert error.error_class == "provider_config"
        assert not vonage.asked


@pytest.mark.parametrize("case", tables.cases("vonage", "send_responses"), ids=str)
async def test_an_answer_means_what_the_contract_says(case):
    await tables.check_send_case(case, "vonage", OPTIONS)


async def test_the_refused_part_of_a_message_is_told_as_undelivered():
    (case,) = (case for case in tables.cases("vonage", "send_responses") if case.expect.get("partial"))
    clock = ManualClock()
    async with servers.provider() as vonage, tables.carrier_to("vonage", OPTIONS, vonage.url, clock) as carrier:
        vonage.answer = (200, {}, case.given["response"]["body"].encode())
        sink = carrier.sink
        assert isinstance(sink, RememberingSink)
        sink.stores = False
        result = await tables.outcome(carrier)
        assert result == SendResult(("0A00000000000004", "0A00000000000004.2"), 0.0412)
        receipt = DeliveryReceipt(
            "alpha",
            "0A00000000000004.2",
            "undelivered",
            "throttled",
            "1",
            "this part was refused: throttled",
        )
        assert sink.receipts == [receipt]
        sink.stores = True  # the journal was away: it is offered again, once
        clock.advance(1)
        clock.advance(10)
        assert sink.receipts == [receipt, receipt]


@pytest.mark.parametrize("failure", tables.FAILURES, ids=lambda failure: failure[0])
async def test_a_provider_that_fails_says_whether_the_send_is_in_doubt(failure):
    await tables.check_failure("vonage", OPTIONS, *failure[1:])


async def test_health_asks_for_the_balance():
    async with servers.provider() as vonage, tables.carrier_to("vonage", OPTIONS, vonage.url) as carrier:
        vonage.answer = (200, {}, b'{"value": 10.5}')
        assert await carrier.health() is None
        assert vonage.asked[0].path == "/account/get-balance"
        vonage.answer = (401, {}, b"canary")
        assert await carrier.health() == "provider_auth: HTTP 401"


# Webhooks


def signed(case: Case, clock=None, secret=SECRET, method="md5hash", **more: str) -> CallbackRequest:
    """A webhook row with timestamp and sig, as GET query, form or JSON."""
    webhook = case.given["webhook"]
    fields = json.loads(webhook["body"]) if webhook["body"][:1] == "{" else dict(webhook["form"])
    fields = {**fields, "timestamp": str(int((clock or ManualClock()).now().timestamp())), "nonce": "n", **more}
    fields["sig"] = sign(fields, secret, METHODS[method])
    if webhook["method"] == "GET":
        return tables.request_of(case, query=urlencode(fields))
    json_body = webhook["body"][:1] == "{"
    return tables.request_of(case, body=(json.dumps(fields) if json_body else urlencode(fields)).encode())


@pytest.mark.parametrize("case", tables.cases("vonage", "status_webhooks"), ids=str)
async def test_a_status_means_what_the_contract_says(case):
    async with tables.carrier_to("vonage", OPTIONS) as carrier:
        answer = await carrier.on_callback(signed(case))
        assert (answer.status, answer.inbound) == (200, ())
        if "provider_message_id" in case.expect:
            check_receipt(case, answer.receipts)
            assert answer.receipts[0].at == datetime(2020, 1, 1, 14, tzinfo=UTC)
            assert answer.receipts[0].cost == 0.0333
        else:
            assert not answer.receipts


@pytest.mark.parametrize(
    "case", [case for case in tables.cases("vonage", "inbound_webhooks") if "concat" not in case.expect], ids=str
)
async def test_an_inbound_message_is_read_as_the_contract_says(case):
    async with tables.carrier_to("vonage", OPTIONS) as carrier:
        tables.check_inbound(case, await carrier.on_callback(signed(case)))


def part(number: int, total: int = 3, ref: str = "1", id_: str | None = None, sender: str = "447700900001"):
    """The call that brings one part of a long message."""
    (case,) = (case for case in tables.cases("vonage", "inbound_webhooks") if "concat" in case.expect)
    changes = {"concat-part": str(number), "concat-total": str(total), "concat-ref": ref, "text": f"{number};"}
    return signed(case, **changes, messageId=id_ or f"{ref}-{number}", msisdn=sender)


async def test_the_parts_of_a_long_message_are_answered_when_all_are_here_and_are_one_message():
    async with tables.carrier_to("vonage", OPTIONS) as carrier:
        calls = [asyncio.ensure_future(carrier.on_callback(part(n))) for n in (2, 3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not any(call.done() for call in calls)
        answers = [await carrier.on_callback(part(1)), *[await call for call in calls]]
        answers.append(await carrier.on_callback(part(2)))  # its answer was lost: Vonage brings it again
        (inbound,) = {answer.inbound for answer in answers}
        assert (inbound[0].text, inbound[0].parts, inbound[0].carrier_message_id) == ("1;2;3;", 3, "1-1")


async def test_a_part_whose_call_was_given_up_still_counts():
    async with tables.carrier_to("vonage", OPTIONS) as carrier:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await carrier.on_callback(part(1, 2))
        assert (await carrier.on_callback(part(2, 2))).inbound[0].text == "1;2;"


async def test_a_message_whose_part_never_comes_is_given_as_it_is():
    clock = ManualClock()
    async with tables.carrier_to("vonage", OPTIONS, clock=clock) as carrier:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await carrier.on_callback(part(2))
        clock.advance(KEPT_S + 1)
        (inbound,) = (await carrier.on_callback(part(2))).inbound
        assert (inbound.text, inbound.parts, inbound.carrier_message_id) == ("2;", 3, "1-2")


async def test_a_reference_that_is_used_again_is_another_message():
    async with tables.carrier_to("vonage", OPTIONS) as carrier:
        for id_ in ("x", "y"):
            first = asyncio.ensure_future(carrier.on_callback(part(1, 2, id_=f"{id_}1")))
            await asyncio.sleep(0)
            second = await carrier.on_callback(part(2, 2, id_=f"{id_}2"))
            assert second.inbound == (await first).inbound
            assert second.inbound[0].carrier_message_id == f"{id_}1"


async def test_unfinished_messages_are_bounded():
    async with tables.carrier_to("vonage", OPTIONS) as carrier:
        calls = [
            asyncio.ensure_future(carrier.on_callback(part(1, sender=str(447_700_000_000 + n))))
            for n in range(MOST + 5)
        ]
        await asyncio.sleep(0)
        assert isinstance(carrier, VonageCarrier)
        assert len(carrier._parts) == MOST
        for call in calls:
            call.cancel()


@pytest.mark.parametrize(("total", "number"), [(0, 1), (1, 1), (3, 0), (3, 4), (999, 1)])
async def test_a_part_that_makes_no_sense_is_a_message(total, number):
    async with tables.carrier_to("vonage", OPTIONS) as carrier:
        (inbound,) = (await carrier.on_callback(part(number, total))).inbound
        assert (inbound.text, inbound.parts) == (f"{number};", 1)


# Signatures


@pytest.mark.parametrize("case", tables.cases("vonage", "status_webhooks"), ids=str)
async def test_a_wrong_signature_changes_nothing(case):
    good = signed(case)
    async with tables.carrier_to("vonage", OPTIONS) as carrier:
        for request in (
            tables.request_of(case),
            signed(case, secret="another"),
            signed(case, method="sha256"),
            replace(
                good,
                body=good.body.replace(b"delivered", b"failed").replace(b"0A0", b"0B0"),
                query={**good.query, "messageId": "0B0"},
            ),
        ):
            if request == good:
                continue
            with pytest.raises(CallbackRefused) as refused:
                await carrier.on_callback(request)
            assert refused.value.status in (401, 403)


async def test_a_signature_is_good_for_48_hours_and_needs_its_timestamp():
    case = tables.cases("vonage", "status_webhooks")[0]
    clock = ManualClock()
    request = signed(case, clock)
    async with tables.carrier_to("vonage", OPTIONS, clock=clock) as carrier:
        clock.advance(48 * 3600 - 1)
        assert (await carrier.on_callback(request)).receipts
        clock.advance(2)
        with pytest.raises(CallbackRefused, match="48 hours"):
            await carrier.on_callback(request)
        for timestamp in ("", "soon", "-5", "9" * 40, "٤"):
            with pytest.raises(CallbackRefused):
                await carrier.on_callback(signed(case, clock, timestamp=timestamp))


async def test_without_a_signature_secret_every_webhook_is_refused():
    options = {key: value for key, value in OPTIONS.items() if key != "signature_secret"}
    async with tables.carrier_to("vonage", options) as carrier:
        for case in tables.cases("vonage", "status_webhooks"):
            with pytest.raises(CallbackRefused) as refused:
                await carrier.on_callback(signed(case))
            assert refused.value.status == 403


@pytest.mark.parametrize("row", tables.vectors("vonage_sms"))
def test_a_signature_vector_is_judged_as_its_row_says(row):
    fields = {**{key: str(value) for key, value in row["params"].items()}, "sig": row["sig"]}
    now = datetime.fromtimestamp(int(row["params"]["timestamp"]), UTC)
    if row["valid"]:
        check_sig(fields, row["secret"], METHODS[row["method"]], now)
    else:
        with pytest.raises(CallbackRefused):
            check_sig(fields, row["secret"], METHODS[row["method"]], now)


ACCOUNT = "a1b2c3d"  # of the tokens in the vectors
ISSUED = datetime.fromtimestamp(1_587_494_962, UTC)


@pytest.mark.parametrize("row", tables.vectors("vonage_jwt"))
def test_a_token_vector_is_judged_as_its_row_says(row):
    request = CallbackRequest("POST", tables.URL, {}, {"authorization": row["authorization"]}, row["body"].encode())
    if row["valid"]:
        check_jwt(request, row["secret"], ACCOUNT, ISSUED)
        with pytest.raises(CallbackRefused, match="48 hours"):
            check_jwt(request, row["secret"], ACCOUNT, ISSUED + timedelta(hours=49))
        with pytest.raises(CallbackRefused, match="another account"):
            check_jwt(request, row["secret"], "other", ISSUED)
    else:
        with pytest.raises(CallbackRefused):
            check_jwt(request, row["secret"], ACCOUNT, ISSUED)


def token(body: bytes, algorithm="HS256", secret=SECRET, **claims: object) -> str:
    payload = {
        "iat": int(ManualClock().now().timestamp()),
        "payload_hash": hashlib.sha256(body).hexdigest(),
        "api_key": "abcd1234",
        **claims,
    }
    payload = {key: value for key, value in payload.items() if value is not None}
    return "Bearer " + jwt.encode(payload, secret if algorithm != "none" else "", algorithm=algorithm)


async def test_a_token_signs_the_body_and_nothing_else():
    case = tables.cases("vonage", "status_webhooks")[1]
    body = case.given["webhook"]["body"].encode()
    async with tables.carrier_to("vonage", {**OPTIONS, "signature_method": "jwt"}) as carrier:
        request = tables.request_of(case, query="messageId=0B0&status=failed", authorization=token(body))
        check_receipt(case, (await carrier.on_callback(request)).receipts)
        for wrong in (
            "",
            "Bearer",
            "Bearer x.y.z",
            "Basic eDp5",
            token(body, "none"),
            token(body, "HS384", secret=SECRET * 2),
            token(body, secret="another-secret-that-is-not-ours-at-all"),
            token(body + b" "),
            token(body, iat=None),
            token(body, payload_hash=None),
            token(body, api_key="other"),
            token(body, iat=0),
        ):
            with pytest.raises(CallbackRefused):
                await carrier.on_callback(tables.request_of(case, authorization=wrong))
        # A token of an empty body speaks for no query.
        empty = CallbackRequest(
            "GET", tables.URL, {"messageId": "0B0", "status": "failed"}, {"authorization": token(b"")}, b""
        )
        assert not (await carrier.on_callback(empty)).receipts


# Settings and secrets


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"api_secret": "x"}, "api_key"),
        ({"api_key": "x"}, "api_secret"),
        ({**OPTIONS, "signature_method": "rot13"}, "signature_method"),
        ({**OPTIONS, "colour": "red"}, "colour"),
    ],
)
def test_wrong_settings_are_refused_by_name(options, why):
    with pytest.raises(SettingsError, match=why) as refused:
        make_carrier("vonage", "alpha", "sms", options, clock=ManualClock())
    assert "canary" not in str(refused.value)


async def test_no_secret_is_shown_or_logged(caplog):
    caplog.set_level(logging.DEBUG)
    async with servers.provider() as vonage, tables.carrier_to("vonage", OPTIONS, vonage.url) as carrier:
        vonage.answer = (200, {}, b'{"messages": [{"status": "3", "error-text": "canary 4520123456 123456"}]}')
        error = await tables.outcome(carrier)
        check_keeps_secrets(carrier, ["canary", "123456", "4520123456"], error)
    for secret in ("canary", "123456", submission().to[1:]):
        assert secret not in caplog.text
