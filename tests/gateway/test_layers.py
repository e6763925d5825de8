"""The layers that need no memory: what each refuses and what it lets through, as tables."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import timezone

from gateway.layers.compliance import ComplianceLayer, awake_at
from gateway.layers.content import ContentLayer
from gateway.layers.enrich import EnrichLayer
from gateway.layers.numbers import number_facts, time_zone, with_country_code, zones_of
from gateway.layers.pipeline import Pipeline
from gateway.problems import Problem
from hermes.domain.message import Content, Message, Step, new_message_id
from hermes.tenancy import ComplianceSettings, ContentSettings, DoNotContactSettings, LayersSettings, QuietHours, Rules
from tests.gateway.api import OPERATOR, SMS, Api

CODES = sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def message(*channels: str, at: datetime = NOON, **fields: Any) -> Message:
    defaults: dict[str, Any] = {
        "to": {"phone": "+4520123456", "email": "a@example.com"},
        "content": Content(text="Hi"),
        "expires_at": at + timedelta(hours=72),
        "segments": 1,
        "encoding": "gsm7",
    }
    cascade = tuple(Step(channel, 60.0, "delivered") for channel in channels or ("sms",))
    return Message(new_message_id(at), "ten_1", cascade=cascade, created_at=at, **{**defaults, **fields})


def fields(layer: Any, sent: Message) -> list[str]:
    return [error.field for error in layer.check(sent)]


# --- content
@pytest.mark.parametrize(
    ("set_", "sent", "refused"),
    [
        ({}, message(), []),
        ({"max_segments": 2}, message(segments=2), []),
        ({"max_segments": 2}, message(segments=3), ["content.text"]),
        ({"max_segments": 2}, message(segments=3, content=Content(text="x", sms={"text": "y"})), ["content.sms.text"]),
        ({"max_segments": 2}, message("email", segments=None), []),
        ({"max_length": 2}, message(), []),
        ({"max_length": 1}, message(), ["content.text"]),
        ({"max_length": 1}, message("sms", "whatsapp"), ["content.text"]),
        ({"max_length": 3}, message("email", content=Content(text="abc", html="abcd")), ["content.html"]),
        ({"max_length": 3}, message("sms", content=Content(text="abc", html="abcd")), []),
        ({"blocked_words": ("casino",)}, message(content=Content(text="Win at the CASINO!")), ["content.text"]),
        ({"blocked_words": ("casino",)}, message(content=Content(text="casinos")), []),
        ({"blocked_words": ("free money",)}, message(content=Content(text="Free  money now")), ["content.text"]),
        ({"blocked_words": ("a.b",)}, message(content=Content(text="axb")), []),
        ({"blocked_words": ("straße",)}, message(content=Content(text="STRASSE")), ["content.text"]),
        ({"blocked_words": (" ",)}, message(), []),
        (
            {"blocked_words": ("bad",)},
            message("push", content=Content(title="bad", push={"text": "bad"})),
            ["content.title", "content.push.text"],
        ),
        ({"link_hosts": ("acme.example",)}, message(content=Content(text="see https://acme.example/x")), []),
        ({"link_hosts": ("acme.example",)}, message(content=Content(text="see http://www.ACME.example:80.")), []),
        ({"link_hosts": ("acme.example",)}, message(content=Content(text="https://evil.example")), ["content.text"]),
        ({"link_hosts": ("acme.example",)}, message(content=Content(text="https://xacme.example")), ["content.text"]),
        (
            {"link_hosts": ("acme.example",)},
            message(content=Content(text="https://acme.example@evil.example/")),
            ["content.text"],
        ),
        ({"link_hosts": ("acme.example",)}, message(content=Content(text="www.evil.example")), ["content.text"]),
        ({}, message(sender={"sms": "Hermes"}), []),
        ({}, message(sender={"sms": "+4520123456"}), []),
        ({}, message(sender={"sms": "123456789012345"}), []),
        ({}, message(sender={"sms": "twelve chars"}), ["from.sms"]),
        ({}, message(sender={"email": "twelve.chars@example.com"}), []),
    ],
)
def test_content(set_: dict[str, Any], sent: Message, refused: list[str]) -> None:
    assert fields(ContentLayer(ContentSettings(**set_)), sent) == refused


LINK = re.compile(r"(?:https?://|(?<![\w.@-])www\.)[^\s/?#\"'<>()\[\]]+", re.IGNORECASE)  # as one would write it
PIECES = (
    "http",
    "HTTP",
    "Https",
    "httpſ",
    "://",
    "www.",
    "Www.",
    "h",
    "w",
    "s",
    "a.b",
    "é",
    "@",
    "-",
    ".",
    " ",
    "/",
    "(",
)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_a_link_is_found_wherever_it_begins_and_however_it_is_written(text: str) -> None:
    layer = ContentLayer(ContentSettings(link_hosts=("acme.example",)))
    refused = fields(layer, message(content=Content(text=text)))
    assert refused == (["content.text"] if LINK.search(text) else [])


def test_a_refusal_does_not_repeat_the_text() -> None:
    layer = ContentLayer(ContentSettings(blocked_words=("secret",), max_length=1))
    assert all("secret" not in error.why for error in layer.check(message(content=Content(text="secret"))))


# --- compliance
@pytest.mark.parametrize(
    ("set_", "sent", "refused"),
    [
        ({}, message(), []),
        ({"countries": ("DK",)}, message(), []),
        ({"countries": ("SE", "NO")}, message(), ["to.phone"]),
        ({"countries": ("DK",)}, message(to={"phone": "+4520123456", "whatsapp": "+4670123456"}), ["to.whatsapp"]),
        ({"countries": ("DK",)}, message("email", to={"email": "a@example.com"}), []),
        ({"countries": ("US",)}, message(to={"phone": "+14155552671"}), []),
        ({"countries": ("US",)}, message(to={"phone": "+14165550123"}), ["to.phone"]),  # Toronto
        ({"countries": ("DK",)}, message(to={"phone": "+881612345678"}), ["to.phone"]),  # a satellite
        ({"senders": ("Acme",)}, message(sender={"sms": "Acme"}), []),
        ({"senders": ("Acme",)}, message(), []),
        ({"require_consent": ("marketing",)}, message(category="marketing"), ["to.phone"]),
        ({"require_consent": ("marketing",)}, message(category="otp"), []),
        ({"senders": ("Acme",)}, message(sender={"sms": "acme", "email": "x@y.example"}), ["from.sms", "from.email"]),
    ],
)
def test_compliance(set_: dict[str, Any], sent: Message, refused: list[str]) -> None:
    assert fields(ComplianceLayer(ComplianceSettings(**set_), lambda *asked: False), sent) == refused


def quiet(**set_: Any) -> ComplianceLayer:
    return ComplianceLayer(ComplianceSettings(quiet_hours=QuietHours(**set_)), lambda *asked: False)


NIGHT = datetime(2026, 1, 5, 22, 30, tzinfo=UTC)  # 23:30 in Copenhagen


@pytest.mark.parametrize(
    ("set_", "more", "sent_at"),
    [
        ({}, {}, None),  # transactional
        ({}, {"category": "marketing"}, datetime(2026, 1, 6, 7, tzinfo=UTC)),  # 08:00 in Copenhagen
        ({"categories": ()}, {"category": "marketing"}, None),
        ({"categories": ("otp",)}, {"category": "marketing"}, None),
        ({}, {"category": "marketing", "send_at": NIGHT + timedelta(hours=12)}, NIGHT + timedelta(hours=12)),
        ({}, {"category": "marketing", "send_at": NIGHT + timedelta(days=1)}, datetime(2026, 1, 7, 7, tzinfo=UTC)),
        ({"from_": "23:45"}, {"category": "marketing"}, None),
        ({"from_": "08:00"}, {"category": "marketing"}, None),  # none at all
        ({}, {"category": "marketing", "to": {"email": "a@b.example"}}, datetime(2026, 1, 6, 8, tzinfo=UTC)),
        (
            {"zone": "America/New_York", "from_": "17:00"},
            {"category": "marketing", "to": {"email": "a@b.example"}},
            datetime(2026, 1, 6, 13, tzinfo=UTC),
        ),
    ],
)
def test_what_would_disturb_is_sent_when_the_quiet_hours_end(set_: Any, more: Any, sent_at: datetime | None) -> None:
    sent = message("email" if "to" in more else "sms", at=NIGHT, **more)
    lasts = sent.expires_at
    assert quiet(**set_).check(sent) == []
    assert sent.send_at == sent_at
    assert sent.expires_at - lasts == (sent_at or NIGHT) - (more.get("send_at") or NIGHT)


def test_what_one_minute_says_of_one_zone_holds_for_no_other() -> None:
    layer = quiet(**{"from_": "12:00", "to": "13:00"})  # UTC and Copenhagen are an hour apart
    danish, british = {"phone": "+4520123456"}, {"phone": "+447400123456"}
    moments = [NOON - timedelta(hours=1, minutes=n) for n in (2, 1, 0)]
    told = []
    for at in (*moments, *(m + timedelta(hours=1) for m in moments)):
        for to in (danish, british, danish):
            sent = message(at=at, to=to, category="marketing")
            layer.check(sent)
            told.append(sent.send_at is not None)
    asleep = [(True, False, True), (False, True, False)]  # 11:00 UTC is 12:00 in Denmark, 12:00 UTC in Britain
    free = (False, False, False)
    assert [tuple(told[n : n + 3]) for n in range(0, 18, 3)] == [free, free, asleep[0], asleep[0], asleep[0], asleep[1]]


def test_what_would_disturb_is_refused_where_the_tenant_wants_that() -> None:
    sent = message(at=NIGHT, category="marketing")
    assert fields(quiet(action="refuse"), sent) == ["to.phone"]
    assert sent.send_at is None


CLOCK = st.times().map(lambda t: t.replace(second=0, microsecond=0))
PLACES = ["UTC", "Europe/Copenhagen", "America/New_York", "Asia/Kathmandu", "Pacific/Chatham"]
ZONES = st.lists(st.sampled_from(PLACES).map(ZoneInfo), min_size=1, max_size=3)
MINUTES = st.integers(0, 365 * 24 * 60).map(lambda n: NOON + timedelta(minutes=n))


@settings(deadline=None)
@given(MINUTES, CLOCK, CLOCK, ZONES)
def test_nobody_is_disturbed_and_nobody_waits_longer_than_two_days(
    at: datetime, quiet_from: time, quiet_to: time, zones: list[ZoneInfo]
) -> None:
    awake = awake_at(at, quiet_from, quiet_to, zones)
    assert at <= awake <= at + timedelta(days=2, hours=2)
    if quiet_from != quiet_to:
        local = awake.astimezone(zones[0]).time()
        inside = quiet_from <= local < quiet_to if quiet_from < quiet_to else not quiet_to <= local < quiet_from
        assert not inside


# --- enrich, numbers
@pytest.mark.parametrize(
    ("number", "country", "kind"),
    [
        ("+4520123456", "DK", "fixed_line_or_mobile"),
        ("+447400123456", "GB", "mobile"),
        ("+441481960194", "GG", "fixed_line"),
        ("+14155552671", "US", "fixed_line_or_mobile"),
        ("+390612345678", "IT", "fixed_line"),
        ("+881612345678", None, "mobile"),
        ("+999123456789", None, None),
        ("+4512", "DK", None),
    ],
)
def test_a_numbers_country_and_kind(number: str, country: str | None, kind: str | None) -> None:
    assert number_facts(number) == (country, kind)


@given(st.sampled_from(sorted(phonenumbers.SUPPORTED_REGIONS)), st.sampled_from(range(11)))
def test_numbers_tell_what_the_library_tells_of_the_parsed_text(region: str, kind: int) -> None:
    example = phonenumbers.example_number_for_type(region, kind)
    if example is None:
        return
    text = phonenumbers.format_number(example, phonenumbers.PhoneNumberFormat.E164)
    parsed = phonenumbers.parse(text, None)
    assert number_facts(text).country == phonenumbers.region_code_for_number(parsed)
    known = phonenumbers.number_type(parsed)
    assert (number_facts(text).kind or "unknown").upper() == phonenumbers.PhoneNumberType.to_string(known)
    zones = [name for name in timezone.time_zones_for_number(parsed) if time_zone(name) is not None]
    assert [zone.key for zone in zones_of(text)] == zones


@settings(max_examples=400)
@given(
    st.sampled_from(sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)),
    st.from_regex(r"[1-9][0-9]{3,11}", fullmatch=True),
)
def test_any_number_tells_what_it_tells_the_library(code: int, national: str) -> None:
    parsed = phonenumbers.PhoneNumber(code, int(national))
    text = f"+{code}{national}"
    known = phonenumbers.number_type(parsed)
    assert (number_facts(text).kind or "unknown").upper() == phonenumbers.PhoneNumberType.to_string(known)
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE[code]
    country = phonenumbers.region_code_for_number(parsed) or regions[0]
    assert (number_facts(text).country or "001") == country
    zones = [name for name in timezone.time_zones_for_number(parsed) if time_zone(name) is not None]
    assert [zone.key for zone in zones_of(text)] == zones


@pytest.mark.parametrize(
    ("text", "country", "number"),
    [
        ("20 12 34 56", "DK", "+4520123456"),
        ("(0)7400 123456", "GB", "+447400123456"),
        ("0046 70 123 45 67", "DK", "+46701234567"),
        ("12", "DK", None),
        ("nobody", "DK", None),
        ("", "DK", None),
    ],
)
def test_a_number_gets_its_country_code(text: str, country: str, number: str | None) -> None:
    assert with_country_code(text, country) == number


def test_enrich_notes_the_country_and_refuses_nothing() -> None:
    sent, mail = message(), message("email", to={"email": "a@b.example"})
    assert list(EnrichLayer().check(sent)) == list(EnrichLayer().check(mail)) == []
    assert (sent.country, mail.country) == ("DK", None) and sent.number_type is not None
    assert [zone.key for zone in zones_of("+4520123456")] == ["Europe/Copenhagen"]


# --- all of them
def pipeline(blocked: bool = False, **set_: Any) -> Pipeline:
    return Pipeline(Rules(layers=LayersSettings(**set_)), lambda *asked: blocked, lambda *asked: False)


STRICT: dict[str, Any] = {
    "content": ContentSettings(max_segments=1),
    "compliance": ComplianceSettings(countries=("SE",)),
}


def test_the_first_layer_refuses_and_validate_asks_them_all() -> None:
    sent = message(segments=2)
    with pytest.raises(Problem) as refused:
        pipeline(True, **STRICT).run(sent)
    assert (refused.value.code, refused.value.layer) == ("content_refused", "content")
    asked = [(r.layer, r.code, r.field) for r in pipeline(True, **STRICT).ask(sent)]
    assert asked == [
        ("content", "content_refused", "content.text"),
        ("compliance", "compliance_refused", "to.phone"),
        ("do_not_contact", "do_not_contact", "to.phone"),
    ]


def test_a_layer_that_is_off_refuses_nothing() -> None:
    off = pipeline(
        True,
        content=ContentSettings(enabled=False, max_segments=1),
        compliance=ComplianceSettings(enabled=False, countries=("SE",)),
        do_not_contact=DoNotContactSettings(enabled=False),
    )
    sent = message(segments=2, sender={"sms": "far too long a name"})
    off.run(sent)
    assert off.ask(sent) == []


# --- over HTTP
async def set_layers(api: Api, layers: dict[str, Any]) -> Any:
    return await api.call("PUT", f"/v1/tenants/{api.node.tenant}", {"layers": layers}, key=OPERATOR)


async def test_settings_are_replaced_as_they_are_named_and_hold_at_once(api: Api) -> None:
    assert (await set_layers(api, {"content": {"blocked_words": ["Hi"]}})).status == 200
    changed = await set_layers(api, {"content": {"max_segments": 3}, "enrich": {"default_country": "DK"}})
    layers = changed.json["layers"]
    assert layers["content"]["blocked_words"] == ["Hi"] and layers["content"]["max_segments"] == 3
    assert layers["do_not_contact"] == {"enabled": True, "exempt_categories": ["otp"]}
    refused = await api.send()
    assert (refused.status, refused.code, refused.json["layer"]) == (422, "content_refused", "content")
    assert refused.fields == ["content.text"]
    assert (await set_layers(api, {"content": {"enabled": False}})).status == 200
    stored = await api.node.stored(await api.sent({**SMS, "to": "20 12 34 56"}))
    assert (stored.message.to, stored.message.country) == ({"phone": "+4520123456"}, "DK")
    shown = await api.call("GET", f"/v1/tenants/{api.node.tenant}", key=OPERATOR)
    assert (await api.call("PUT", f"/v1/tenants/{api.node.tenant}", shown.json, key=OPERATOR)).json == shown.json


async def test_who_exempts_no_category_has_codes_refused_too(api: Api) -> None:
    await api.call("POST", f"/v1/tenants/{api.node.tenant}/suppressions", {"address": SMS["to"]})
    assert (await api.send({**SMS, "category": "otp"})).status == 202
    await set_layers(api, {"do_not_contact": {"exempt_categories": []}})
    assert (await api.send({**SMS, "category": "otp"})).code == "do_not_contact"
    await set_layers(api, {"do_not_contact": {"enabled": False}})
    assert (await api.send()).status == 202


async def test_validate_reports_each_layer(api: Api) -> None:
    await set_layers(api, {"content": {"blocked_words": ["hi"]}, "compliance": {"countries": ["SE"]}})
    verdict = (await api.call("POST", "/v1/messages/validate", SMS)).json
    assert [r["layer"] for r in verdict["refusals"]] == ["content", "compliance"]
    assert verdict["route"] == ["mock-sms"]
    results = (await api.call("POST", "/v1/messages/batch", {"messages": [SMS]})).json["results"]
    assert results[0]["problem"]["layer"] == "content"


@pytest.mark.parametrize(
    ("layers", "field"),
    [
        ({"auth": {"enabled": False}}, "layers.auth"),
        ({"schema": {}}, "layers.schema"),
        ({"content": {"max_segments": -1}}, "layers.content.max_segments"),
        ({"content": {"blocked_words": [""]}}, "layers.content.blocked_words[0]"),
        ({"compliance": {"countries": ["ZZ"]}}, "layers.compliance.countries[0]"),
        ({"compliance": {"countries": ["dk"]}}, "layers.compliance.countries[0]"),
        ({"compliance": {"quiet_hours": {"from": "25:00"}}}, "layers.compliance.quiet_hours.from"),
        ({"compliance": {"quiet_hours": {"zone": "Mars/Base"}}}, "layers.compliance.quiet_hours.zone"),
        ({"compliance": {"quiet_hours": {"zone": "../x"}}}, "layers.compliance.quiet_hours.zone"),
        ({"do_not_contact": {"exempt_categories": ["x"]}}, "layers.do_not_contact.exempt_categories[0]"),
        ({"enrich": {"default_country": "ZZ"}}, "layers.enrich.default_country"),
    ],
)
async def test_a_wrong_setting_is_named(api: Api, layers: dict[str, Any], field: str) -> None:
    answer = await set_layers(api, layers)
    assert (answer.status, answer.fields) == (422, [field])
