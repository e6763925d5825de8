"""Whatever a provider answers or posts, a carrier says something sensible and never crashes."""

import json
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from carriers.base import SendError
from carriers.http import fcm, ses_events, whatsapp_events
from carriers.http.common import HttpAnswer
from carriers.registry import make_carrier
from hermes.domain.state import ErrorClass
from hermes.testing import ManualClock

ERROR_CLASSES = frozenset(get_args(ErrorClass))

# JSON with the words that matter, in wrong places too.
WORDS = st.sampled_from(
    [
        "error",
        "code",
        "status",
        "details",
        "errorCode",
        "message",
        "@type",
        "fieldViolations",
        "field",
        "__type",
        "entry",
        "changes",
        "value",
        "statuses",
        "id",
        "from",
        "type",
        "text",
        "body",
        "timestamp",
        "errors",
        "eventType",
        "mail",
        "messageId",
        "bounce",
        "bounceType",
        "Bounce",
        "Complaint",
        "Delivery",
        "Subscription",
        "messages",
        "whatsapp_business_account",
        "object",
        "failed",
        "delivered",
        "interactive",
        "image",
        "metadata",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=6),
    max_leaves=30,
)


def whatsapp_post(changes):
    return {"object": "whatsapp_business_account", "entry": [{"changes": [{"field": "messages", "value": changes}]}]}


VALUES = st.fixed_dictionaries({"statuses": JSON | st.lists(JSON), "messages": JSON | st.lists(JSON), "metadata": JSON})


@given(JSON | VALUES.map(whatsapp_post))
@settings(max_examples=300, deadline=None)
def test_any_post_to_the_whatsapp_webhook_can_be_read(document):
    if isinstance(document, dict):
        events = whatsapp_events.read_events("wa", "whatsapp", document, "https://x.test/")
        assert all(receipt.carrier_message_id for receipt in events.receipts)
        assert all(receipt.error_class in {None, *ERROR_CLASSES} for receipt in events.receipts)
        assert all(inbound.sender for inbound in events.inbound)


@given(JSON | st.fixed_dictionaries({"eventType": WORDS, "mail": JSON, "bounce": JSON, "subscription": JSON}))
@settings(max_examples=300, deadline=None)
def test_any_event_of_ses_can_be_read(event):
    for receipt in ses_events.read_event("ses", json.dumps(event)):
        assert receipt.carrier_message_id
        assert receipt.error_class in {None, *ERROR_CLASSES}


CARRIERS = [
    make_carrier("ses", "ses", "email", {"region": "eu-west-1"}, clock=ManualClock()),
    make_carrier("whatsapp", "wa", "whatsapp", {"phone_number_id": "1", "access_token": "x"}, clock=ManualClock()),
]
FCM = fcm.FcmCarrier.__new__(fcm.FcmCarrier)  # without the key of a service account, which takes 100 ms to make
FCM.clock = ManualClock()
BODIES = JSON.map(lambda found: json.dumps(found).encode()) | st.binary(max_size=50)


@given(st.integers(200, 599), BODIES, st.sampled_from([*CARRIERS, FCM]))
@settings(max_examples=500, deadline=None)
def test_any_answer_that_took_nothing_is_an_error_with_a_class(status, body, carrier):
    error = carrier._refusal(HttpAnswer(status, {"x-amzn-errortype": body.decode("latin-1")[:20]}, body))
    assert isinstance(error, SendError)
    assert error.error_class in ERROR_CLASSES
    assert not (error.ambiguous and error.retryable)
