"""What we send to Twilio, Vonage and Messente, judged by Prism over the providers' own API descriptions."""

from typing import Any

import aiohttp
import pytest

from carriers.base import SendError, SendResult
from hermes.domain.message import Content
from hermes.testing import ManualClock
from hermes.testing.carriers import submission
from tests.carriers.http import tables, test_messente, test_twilio, test_vonage
from tests.carriers.http.prism import needs_prism, prism

pytestmark = [needs_prism, pytest.mark.slow]

SERVICE = {key: value for key, value in test_twilio.OPTIONS.items() if key != "from"} | {"messaging_service_sid": "MG1"}
SERVICE["messaging_service_sid"] = "MG0123456789abcdef0123456789abcdef"
MESSAGES: list[dict[str, Any]] = [
    {},
    {"content": Content(text="Größe €{} 💬" * 30), "encoding": "ucs2"},
    {"sender": "+4510101010"},
    {"sender": "Acme"},
    {"expires_at": ManualClock().now()},
]


@pytest.mark.parametrize(
    ("kind", "options", "spec", "prefix"),
    [
        ("twilio", test_twilio.OPTIONS, "twilio_messages_v2010.json", ""),
        ("twilio", SERVICE, "twilio_messages_v2010.json", ""),
        ("vonage", {**test_vonage.OPTIONS, "api_secret": "abcdef0123456789"}, "vonage_sms.json", "/sms"),
        ("messente", test_messente.OPTIONS, "messente_messaging.json", "/v1"),
    ],
    ids=["twilio", "twilio by a messaging service", "vonage", "messente"],
)
async def test_prism_finds_nothing_wrong_with_what_we_send(kind, options, spec, prefix):
    async with prism(spec, prefix) as it, tables.carrier_to(kind, options, it.url) as carrier:
        it.watch(carrier)
        for changes in MESSAGES:
            result = await tables.outcome(carrier, **changes)
            assert isinstance(result, SendResult), (changes, result)
            assert result.carrier_message_ids
        # Of the answers too, because Vonage's own example fits both of its schemas.
        assert [found for found in it.violations if '"request"' in found] == []


async def test_prism_would_find_what_is_wrong():
    wrong = [
        ("twilio_messages_v2010.json", "", "/2010-04-01/Accounts/AC1/Messages.json", {"Body": "Hi"}, None),
        ("vonage_sms.json", "/sms", "/sms/json", {"text": "Hi", "to": submission().to}, None),
        ("messente_messaging.json", "/v1", "/v1/omnimessage", None, {"to": "+4520123456"}),
    ]
    for spec, prefix, path, form, body in wrong:
        async with prism(spec, prefix) as it, aiohttp.ClientSession() as session:
            headers = {"Authorization": "Basic eDp5"}
            async with session.post(it.url + path, data=form, json=body, headers=headers) as answer:
                refused = answer.status in (400, 422) or "sl-violations" in answer.headers
                assert refused, (spec, answer.status, await answer.text())


async def test_a_refusal_as_messente_describes_it_is_understood_by_its_code():
    async with (
        prism("messente_messaging.json", "/v1") as it,
        tables.carrier_to("messente", test_messente.OPTIONS, it.url) as carrier,
    ):
        it.watch(carrier)
        for code in (400, 401):
            it.prefer = f"code={code}"
            result = await tables.outcome(carrier)
            assert isinstance(result, SendError)
            assert (result.error_class, result.code) == ("invalid_request", "101")  # Prism's example is that code
