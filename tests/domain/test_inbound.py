"""Inbound messages: whose they are, what their words ask for, what the customer is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.domain.inbound import (
    Inbound,
    Keywords,
    NumberOwner,
    asked_for,
    e164,
    last_writer,
    opted_out_data,
    owner_of,
    plain,
    received_data,
    storable,
)
from hermes.domain.message import Content, Message, Step, new_message_id

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def inbound(text="Hello", carrier="twilio-dk", recipient="+4510101010", sender="+4520123456", **more):
    return Inbound(carrier, "sms", sender, recipient, text, **more)


@pytest.mark.parametrize(
    ("text", "plain_text"),
    [
        ("STOP", "stop"),
        ("  Stop!! ", "stop"),
        ("\u201cAFMELD\u201d.", "afmeld"),
        ("ＳＴＯＰ", "stop"),
        ("stop  all", "stop all"),
        ("STOP\ufe0f\u200b", "stop"),
        ("don't stop", "don't stop"),
        ("…", ""),
        ("HJÆLP?", "hjælp"),
    ],
)
def test_what_is_compared_of_a_text(text, plain_text):
    assert plain(text) == plain_text


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("STOP", "stop"),
        (" stop. ", "stop"),
        ("Stopall!", "stop"),
        ("AFMELD", "stop"),
        ("afmeld", "stop"),
        ("START", "start"),
        ("help?", "help"),
        ("please stop", None),
        ("STOP sending me these", None),
        ("stopping", None),
        ("", None),
        (None, None),
        ("!!!", None),
        ("x" * 10_000, None),
    ],
)
def test_keywords_are_the_whole_text(text, asked):
    found = Keywords().find(text)
    assert (found and found[0]) == asked


def test_sets_are_configurable_one_by_one():
    keywords = Keywords({"stop": ["Afslut", "Slet mig"], "vote": ["JA"]})
    assert keywords.find("SLET  MIG!") == ("stop", "slet mig")
    assert keywords.find("ja") == ("vote", "ja")
    assert keywords.find("STOP") is None
    assert keywords.find("help") == ("help", "help")


@pytest.mark.parametrize(
    ("text", "asked", "found"),
    [
        ("Afmeld!", None, ("stop", "AFMELD")),
        ("hello", None, None),
        ("Slut", "stop", ("stop", "SLUT")),  # a word only the carrier knows
        ("please", "help", ("help", "PLEASE")),
        ("STOP", "start", ("start", "STOP")),
        (None, "stop", ("stop", "")),
    ],
)
def test_what_the_carrier_says_it_was_asked_for_wins(text, asked, found):
    assert asked_for(inbound(text, asked=asked)) == found


@pytest.mark.parametrize(
    ("number", "written"),
    [
        ("447700900001", "+447700900001"),
        ("00447700900001", "+447700900001"),
        ("+447700900001", "+447700900001"),
        ("1234", "1234"),
        ("AcmeInc", "AcmeInc"),
        ("1234567890123456", "1234567890123456"),
        ("٤٤٧٧٠٠٩٠٠٠٠١", "٤٤٧٧٠٠٩٠٠٠٠١"),
        ("", ""),
    ],
)
def test_an_international_number_gets_its_plus(number, written):
    assert e164(number) == written


OWNERS = (
    NumberOwner("1234", "ten_any"),
    NumberOwner("1234", "ten_acme", keyword="ACME"),
    NumberOwner("1234", "ten_over_b", carrier="b"),
    NumberOwner("1234", "ten_acme_over_b", carrier="b", keyword="acme"),
    NumberOwner("4510101010", "ten_first"),
    NumberOwner("+4510101010", "ten_second"),
)


@pytest.mark.parametrize(
    ("recipient", "carrier", "text", "tenant"),
    [
        ("1234", "a", "hi", "ten_any"),
        ("1234", "a", "Acme: hi", "ten_acme"),
        ("1234", "a", "ACME", "ten_acme"),
        ("1234", "a", "acmes hi", "ten_any"),
        ("1234", "b", "hi", "ten_over_b"),
        ("1234", "b", "acme hi", "ten_acme_over_b"),
        ("1234", "a", None, "ten_any"),
        ("+4510101010", "a", "hi", "ten_first"),
        ("4510101010", "a", "hi", "ten_first"),
        ("4599", "a", "hi", "ten_own"),
        ("+4598", "a", "hi", None),
    ],
)
def test_the_narrowest_number_that_fits_names_the_tenant(recipient, carrier, text, tenant):
    message = inbound(text, carrier, recipient)
    assert owner_of(message, OWNERS, {"ten_other": ["4597"], "ten_own": ["+4599"]}) == tenant


def wrote(tenant, to="+4520123456", sender="+4510101010", carriers=(), mode="live", **more):
    message = Message(
        new_message_id(NOW),
        tenant,
        {"phone": to, **more},
        (Step("sms", 60.0, "delivered"),),
        Content("Hi"),
        NOW,
        NOW + timedelta(hours=72),
        mode=mode,
        sender={"sms": sender} if sender else {},
    )
    return message, carriers


@pytest.mark.parametrize(
    ("messages", "tenant"),
    [
        ([], None),
        ([wrote("ten_1")], "ten_1"),
        ([wrote("ten_1", sender=None)], None),
        ([wrote("ten_1", sender=None, carriers=("twilio-dk",))], "ten_1"),
        ([wrote("ten_1", sender="Acme", carriers=("other",))], None),
        ([wrote("ten_new"), wrote("ten_old")], "ten_new"),
        ([wrote("ten_new", sender="Acme"), wrote("ten_old")], "ten_old"),
        ([wrote("ten_1", to="+4520999999")], None),  # only its hash is the same
        ([wrote("ten_1", mode="test")], None),
        ([wrote("ten_1", to="+4520999999", whatsapp="+4520123456")], "ten_1"),
    ],
)
def test_an_answer_belongs_to_the_tenant_that_wrote_last(messages, tenant):
    assert last_writer(inbound(), messages) == tenant


def test_the_customer_is_told_what_the_contract_says():
    message = inbound("Stop", media=("https://m.example/1",), parts=2)
    assert received_data(message, NOW) == {
        "from": "+4520123456",
        "to": "+4510101010",
        "text": "Stop",
        "channel": "sms",
        "carrier": "twilio-dk",
        "parts": 2,
        "media": ["https://m.example/1"],
        "received_at": "2026-11-24T12:00:00.000000Z",
    }
    assert opted_out_data(message, "STOP") == {
        "recipient": "+4520123456",
        "channel": "sms",
        "number": "+4510101010",
        "keyword": "STOP",
    }


def test_an_inbound_message_does_not_show_itself():
    assert "4520123456" not in repr(inbound("secret"))
    assert "secret" not in f"{inbound('secret')}"


@given(st.text(st.characters()), st.text(st.characters()))
def test_whatever_a_carrier_brings_is_decided_and_can_be_kept(text, address):
    message = storable(inbound(text, recipient=address, sender=address, carrier_message_id=text, media=(address,)))
    asked_for(message)
    owner_of(message, OWNERS, {"ten_1": [address]})
    last_writer(message, [wrote("ten_1")])
    received_data(message, NOW)
    written = (message.text or "") + message.recipient + e164(message.sender)
    assert written.encode().decode() == written
