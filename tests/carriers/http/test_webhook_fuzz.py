"""Whatever is posted to a webhook, signed or not: an answer or a refusal, never a crash."""

import hashlib
import hmac
import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from carriers.base import CallbackAnswer, CallbackRefused, CallbackRequest, Carrier
from carriers.http.vonage_signature import METHODS, sign
from carriers.registry import make_carrier
from hermes.domain.inbound import asked_for, storable
from hermes.testing import ManualClock
from tests.carriers.http import tables, test_messente, test_twilio, test_vonage

OPTIONS = {"twilio": test_twilio.OPTIONS, "vonage": test_vonage.OPTIONS, "messente": test_messente.OPTIONS}
FIELDS = {
    "twilio": [
        *("MessageSid", "SmsSid", "MessageStatus", "SmsStatus", "ErrorCode", "Body", "From", "To", "NumSegments"),
        *("MediaUrl0", "OptOutType"),
    ],
    "vonage": [
        *("messageId", "status", "err-code", "msisdn", "to", "text", "message-timestamp", "timestamp", "price"),
        *("concat", "concat-ref", "concat-total", "concat-part"),
    ],
    "messente": ["message_id", "status", "err", "timestamp", "msg_id", "sender", "recipient", "text", "to", "channel"],
}
WORDS = [
    "",
    "delivered",
    "DELIVRD",
    "failed",
    "FAILED",
    "received",
    "unknown",
    "STOP",
    "0",
    "3",
    "21610",
    "1" * 40,
    "²",
    "+45",
]
values = st.sampled_from(WORDS) | st.text(max_size=20)
json_values = values | st.none() | st.booleans() | st.integers() | st.floats() | st.lists(values, max_size=2)


async def believed(carrier: Carrier, request: CallbackRequest) -> CallbackAnswer | None:
    """What the call means; None when it is refused. All of it must be fit to be stored."""
    try:
        answer = await carrier.on_callback(request)
    except CallbackRefused as refused:
        assert refused.status in (401, 403)
        return None
    assert answer.status in (200, 400)
    for receipt in answer.receipts:
        assert receipt.status in ("submitted", "undelivered", "delivered", "read")
        assert receipt.carrier_message_id
    for inbound in answer.inbound:
        kept = storable(inbound)
        json.dumps([kept.sender, kept.recipient, kept.text]).encode()
        asked_for(kept)
    return answer


@pytest.mark.parametrize("kind", sorted(OPTIONS))
@given(
    method=st.sampled_from(["GET", "POST"]),
    query=st.dictionaries(st.text(max_size=12), values, max_size=5),
    headers=st.dictionaries(
        st.sampled_from(["content-type", "x-twilio-signature", "x-messente-signature", "authorization"]),
        st.sampled_from(["application/json", "Bearer a.b.c", "Bearer eyJhbGciOiJub25lIn0.e30."]) | st.text(max_size=40),
    ),
    body=st.binary(max_size=200),
)
async def test_a_call_that_nobody_signed_is_refused(kind, method, query, headers, body):
    for options in (OPTIONS[kind], {**OPTIONS[kind], **({"signature_method": "jwt"} if kind == "vonage" else {})}):
        carrier = make_carrier(kind, "alpha", "sms", options, clock=ManualClock())
        url = f"{tables.URL}?{urlencode(query)}"
        assert await believed(carrier, CallbackRequest(method, url, query, headers, body)) is None


@pytest.mark.parametrize("kind", sorted(OPTIONS))
@given(data=st.data())
async def test_a_signed_call_is_understood_whatever_it_says(kind, data):
    names = st.sampled_from(FIELDS[kind])
    carrier = make_carrier(kind, "alpha", "sms", OPTIONS[kind], clock=ManualClock())
    if kind == "messente":
        body = json.dumps(data.draw(st.dictionaries(names, json_values, max_size=8) | json_values)).encode()
        secret = data.draw(st.sampled_from([test_messente.PASSWORD, test_messente.INBOUND]))
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {"x-messente-signature": signature}
    else:
        fields = data.draw(st.dictionaries(names, values, max_size=8))
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if kind == "twilio":
            headers["x-twilio-signature"] = RequestValidator(test_twilio.TOKEN).compute_signature(tables.URL, fields)
        else:
            # A part of a long message waits for the others: not here.
            fields = {name: value for name, value in fields.items() if not name.startswith("concat")}
            fields.setdefault("timestamp", str(int(ManualClock().now().timestamp())))
            fields["sig"] = sign(fields, test_vonage.SECRET, METHODS["md5hash"])
        body = urlencode(fields).encode()
    answer = await believed(carrier, CallbackRequest("POST", tables.URL, {}, headers, body))
    assert answer is not None or kind == "vonage"  # whose timestamp may be none
