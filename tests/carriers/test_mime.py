import email
import email.policy
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carriers.mime import AddressError, encode_body, encode_message, parse_address, parse_mailbox

AT = datetime(2026, 3, 5, 12, 30, 1, 999, tzinfo=UTC)
SENDER, TO = parse_mailbox("Hermes <no-reply@acme.test>"), parse_address("jane@example.test")
# Text as one can write it: Python and mail agree that CR, CRLF and LF all end a line.
CONTENT = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=200) | st.lists(
    st.sampled_from([".", "..", "\n", "x" * 999, "é" * 500, "--=_hermes_", "=", " ", "a ", "\x00", "From "])
).map("".join)


def encode(subject=None, text=None, html=None, sender=SENDER, to=TO):
    return encode_message(sender, to, subject, text, html, message_id="msg_1.0@acme.test", date=AT)


def parse(wire: bytes):
    return email.message_from_bytes(wire.replace(b"\r\n..", b"\r\n."), policy=email.policy.default)


def content(message, subtype):
    return message.get_body((subtype,)).get_content().replace("\r\n", "\n")


@given(text=CONTENT, html=st.none() | CONTENT)
def test_text_and_html_are_read_as_they_were_written(text, html):
    message = parse(encode("s", text, html))
    assert content(message, "plain") == text
    if html is not None:
        assert message.get_content_type() == "multipart/alternative"
        assert content(message, "html") == html


@given(subject=st.text(max_size=150), text=CONTENT, html=CONTENT)
def test_wire_is_ascii_lines_of_at_most_998_octets_that_crlf_ends_and_no_lone_dot(subject, text, html):
    wire = encode(subject, text, html)
    assert wire.isascii()
    assert wire.endswith(b"\r\n")
    lines = wire.split(b"\r\n")
    assert all(b"\r" not in line and b"\n" not in line and len(line) <= 998 for line in lines)
    assert all(not line.startswith(b".") or line.startswith(b"..") for line in lines)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=200))
def test_subject_is_read_as_it_was_written(subject):
    assert parse(encode(subject, "t"))["Subject"] == subject


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\r\n\r\n", "\x00", "\u2028", "\x85"])
def test_line_end_in_a_subject_begins_no_header(end):
    message = parse(encode(f"Hello{end}Bcc: victim@example.test", "t"))
    assert message["Subject"] == "Hello Bcc: victim@example.test"
    assert message.keys() == parse(encode("x", "t")).keys()


def test_headers_say_who_what_and_when():
    message = parse(encode("Hello", "t"))
    assert message["Date"].datetime == AT.replace(microsecond=0)
    assert message["From"] == "Hermes <no-reply@acme.test>"
    assert message["To"] == "jane@example.test"
    assert message["Message-ID"] == "<msg_1.0@acme.test>"
    assert message["MIME-Version"] == "1.0"


def test_message_without_subject_has_no_subject_header():
    assert "Subject" not in parse(encode(None, "t"))


@pytest.mark.parametrize(
    "name", ["Acme", "Acme, Inc.", 'The "Best" \\ One', "Bücher & Söhne", "日本", "=?utf-8?B?eA==?="]
)
def test_sender_name_is_read_as_it_was_written(name):
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    sender = parse_mailbox(f'"{quoted}" <a@acme.test>')
    assert sender.name == name
    assert parse(encode("s", "t", sender=sender))["From"].addresses[0].display_name == name


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("jane+tag@example.test", "jane+tag@example.test"),
        ("o'brien!#$%&*/=?^_`{|}~-@example.test", "o'brien!#$%&*/=?^_`{|}~-@example.test"),
        ('"jane doe"@example.test', '"jane doe"@example.test'),
        ("jane@[192.0.2.1]", "jane@[192.0.2.1]"),
        ("jane@bücher.example", "jane@xn--bcher-kva.example"),
        ("jane@straße.example", "jane@xn--strae-oqa.example"),
        ("用户@例え.jp", "用户@xn--r8jz45g.jp"),
    ],
)
def test_address_is_written_with_its_domain_in_ascii(address, written):
    assert parse_address(address).address == written


@pytest.mark.parametrize(
    "address",
    [
        *("", "@", "a", "a@", "@b.test", "a b@b.test", "a@b test", "a@b..test", "a..b@b.test", ".a@b.test"),
        *("<a@b.test>", "a@b.test>", "a@b.test\r\nRCPT TO:<c@d.test>", "a\n@b.test", "a\x00@b.test"),
        *("a@b.test\n", "a@-b.test", "a\u00a0b@c.test", "a@\ud800.test", "\ud800@b.test", "a@[192.0.2.1]x"),
        *('"a"b@c.test', '"a\n"@c.test', "x" * 65 + "@b.test", "a@" + "x" * 64 + ".test"),
        "a@" + "b." * 130 + "test",
    ],
)
def test_what_is_no_address_is_refused_without_being_shown(address):
    with pytest.raises(AddressError) as refused:
        parse_address(address)
    assert len(address) < 3 or address not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["Evil\r\nBcc: v@x.test <a@b.test>", "a@b.test\n", "Name <a@b.test> x", "Name <>", "A\x00 <a@b.test>"],
)
def test_mailbox_with_a_control_character_or_no_address_is_refused(text):
    with pytest.raises(AddressError):
        parse_mailbox(text)


def test_only_a_local_part_outside_ascii_puts_utf8_in_the_headers():
    to = parse_address("用户@example.test")
    assert to.needs_utf8
    wire = encode("日本", "日本", to=to)
    assert "To: 用户@example.test\r\n".encode() in wire
    assert wire.replace("用户".encode(), b"").isascii()


def test_short_english_text_stays_readable():
    assert b"\r\n\r\nYour code is 123456=\r\n" in encode_body("Your code is 123456", None)
    assert b"7bit\r\n\r\nHello\r\n..\r\n" in encode_body("Hello\n.\n", None)
