"""Write an e-mail as the bytes of DATA: RFC 5322 headers, MIME parts, dots doubled, every line ended by CRLF.

By hand, because `email.message.EmailMessage` takes about 1 ms a message and this about 10 us. Parts are 7bit
where the text allows it, else quoted-printable or base64, so that what is read equals what was written.
Headers are ASCII; only a local part outside ASCII is written in UTF-8, and needs a server with SMTPUTF8 (RFC
6532).
"""

from __future__ import annotations

import re
from binascii import b2a_base64, b2a_qp
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from secrets import token_hex
from typing import Final

import idna

from hermes.domain.lines import CONTROLS

MAX_LOCAL: Final = 64  # octets; RFC 5321, 4.5.3.1.1
MAX_DOMAIN: Final = 255  # octets; RFC 5321, 4.5.3.1.2
MAX_LINE: Final = 998  # octets without CRLF; RFC 5322, 2.1.1
_PLAIN_HEADER: Final = 60  # characters a header value may have unfolded; 78 a line is recommended (RFC 5322, 2.1.1)
_WORD: Final = 45  # octets in an encoded word: 75 characters at most once in base64 (RFC 2047, 2)
_BASE64_LINE: Final = 57  # octets in 76 characters (RFC 2045, 6.8)

# No quoted-printable nor base64 line can hold "=_"; a 7bit part that does is encoded instead.
_BOUNDARY: Final = f"=_hermes_{token_hex(8)}"
_BOUNDARY_MARK: Final = "--=_"
_BETWEEN: Final = f"\r\n--{_BOUNDARY}\r\n".encode()

_ATOM: Final = r'[^\s\x00-\x20\x7f-\x9f"(),:;<>@\[\]\\.]+'  # in ASCII exactly RFC 5322's atext
_DOT_ATOM: Final = re.compile(rf"{_ATOM}(?:\.{_ATOM})*")
_QUOTED: Final = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])+"')
_DOMAIN: Final = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_-]{1,63}")
_LITERAL: Final = re.compile(r"\[(?:IPv6:)?[0-9A-Fa-f:.]+\]")
_WORDS: Final = re.compile(r"[A-Za-z0-9 !#$%&'*+/=?^_`{|}~-]+")


class AddressError(ValueError):
    """Not an address one can write to. Says why, and never shows it."""


@dataclass(slots=True, frozen=True)
class Mailbox:
    """An address with the domain in ASCII, and the name shown beside it."""

    local: str
    domain: str
    name: str | None = None

    @property
    def address(self) -> str:
        """What goes between the angle brackets."""
        return f"{self.local}@{self.domain}"

    @property
    def needs_utf8(self) -> bool:
        """Only a server with SMTPUTF8 can take it."""
        return not self.local.isascii()


def parse_address(address: str) -> Mailbox:
    """Read `local@domain`.

    Raises:
        AddressError: it is none.
    """
    local, at, domain = address.rpartition("@")
    if not at:
        raise AddressError("no @ in the address")
    if not (_DOT_ATOM.fullmatch(local) or _QUOTED.fullmatch(local)):
        raise AddressError("the part before the @ is not valid")
    try:
        if len(local.encode()) > MAX_LOCAL:
            raise AddressError(f"the part before the @ is longer than {MAX_LOCAL} octets")
        if not domain.isascii():
            domain = idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError as exc:  # idna's errors are such; also a lone surrogate
        raise AddressError("the domain is no valid internationalised name") from exc
    if len(domain) > MAX_DOMAIN or not (_DOMAIN.fullmatch(domain) or _LITERAL.fullmatch(domain)):
        raise AddressError("the domain is not valid")
    return Mailbox(local, domain)


def parse_mailbox(text: str) -> Mailbox:
    """Read `local@domain` or `Name <local@domain>`.

    Raises:
        AddressError: it is neither, or holds a control character.
    """
    if CONTROLS.search(text):
        raise AddressError("a control character in the address")
    text = text.strip()
    if not text.endswith(">"):
        return parse_address(text)
    name, _, address = text[:-1].rpartition("<")
    name = name.strip()
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    found = parse_address(address.strip())
    return Mailbox(found.local, found.domain, name or None)


@lru_cache(maxsize=256)
def encode_header(text: str) -> str:
    """Write free text as a header value: as it is when short and plain, else as encoded words (RFC 2047).

    Control characters, line ends among them, become one space: no header can begin inside another.
    """
    text = CONTROLS.sub(" ", text)
    plain = len(text) <= _PLAIN_HEADER and text.isascii() and text == text.strip() and "=?" not in text
    return text if plain else "\r\n ".join(_encoded_words(text))


def _encoded_words(text: str) -> list[str]:
    words, octets = [], b""
    for character in text:
        encoded = character.encode("utf-8", "replace")
        if len(octets) + len(encoded) > _WORD:
            words.append(octets)
            octets = b""
        octets += encoded
    words.append(octets)
    return [f"=?utf-8?B?{b2a_base64(word, newline=False).decode()}?=" for word in words]


def mailbox_header(mailbox: Mailbox) -> str:
    """Write a mailbox as a header value."""
    if not mailbox.name:
        return mailbox.address
    name = mailbox.name
    if len(name) > _PLAIN_HEADER or not name.isascii() or "=?" in name or name != name.strip():
        return "\r\n ".join([*_encoded_words(name), f"<{mailbox.address}>"])
    if not _WORDS.fullmatch(name):
        name = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{name} <{mailbox.address}>"


def encode_body(text: str | None, html: str | None) -> bytes:
    """Write the MIME headers and the content: text, HTML, or both as multipart/alternative.

    Returns:
        from `MIME-Version` to the last CRLF, dots doubled; without the dot that ends DATA.
    """
    parts = [
        _part(subtype, content, inside=text is not None and html is not None)
        for subtype, content in (("plain", text), ("html", html))
        if content is not None
    ]
    if len(parts) == 1:
        return b"MIME-Version: 1.0\r\n" + parts[0]
    return b"".join(
        [
            b'MIME-Version: 1.0\r\nContent-Type: multipart/alternative; boundary="',
            _BOUNDARY.encode(),
            b'"\r\n',
            _BETWEEN,
            _BETWEEN.join(parts),
            f"\r\n--{_BOUNDARY}--\r\n".encode(),
        ]
    )


@lru_cache(maxsize=64)  # one HTML goes to many; bounded, since a content may have 256 KiB
def _part(subtype: str, content: str, *, inside: bool) -> bytes:
    """Write a part, dots doubled; it is read back exactly, `inside` a multipart or alone."""
    if "\r" in content:
        content = content.replace("\r\n", "\n").replace("\r", "\n")
    seven_bits = (
        (inside or content.endswith("\n"))
        and content.isascii()
        and content.replace("\n", "").replace("\t", "").isprintable()
        and _BOUNDARY_MARK not in content
        and (len(content) <= MAX_LINE or max(map(len, content.split("\n"))) <= MAX_LINE)
    )
    if seven_bits:
        encoding, encoded = b"7bit", content.encode("ascii").replace(b"\n", b"\r\n")
    else:
        octets = content.encode("utf-8", "replace")
        if 6 * (len(octets) - len(content)) <= len(content):  # mostly ASCII: readable and shorter
            # b2a_qp ends soft breaks the way the first line ends, so CRLF comes last.
            encoding, encoded = b"quoted-printable", b2a_qp(octets).replace(b"\n", b"\r\n")
            if not inside and not encoded.endswith(b"\r\n"):
                encoded += b"=\r\n"
        else:
            octets = octets.replace(b"\n", b"\r\n")
            lines = (octets[i : i + _BASE64_LINE] for i in range(0, len(octets), _BASE64_LINE))
            encoding = b"base64"
            encoded = b"\r\n".join([b2a_base64(line, newline=False) for line in lines])
            if not inside:
                encoded += b"\r\n"
    return b"".join(
        [
            b"Content-Type: text/",
            subtype.encode(),
            b"; charset=utf-8\r\nContent-Transfer-Encoding: ",
            encoding,
            b"\r\n\r\n",
            encoded,
        ]
    ).replace(b"\r\n.", b"\r\n..")


@lru_cache(maxsize=4)
def _date(second: datetime) -> str:
    return format_datetime(second)


def encode_message(
    sender: Mailbox,
    to: Mailbox,
    subject: str | None,
    text: str | None,
    html: str | None,
    *,
    message_id: str,
    date: datetime,
) -> bytes:
    """Write a whole message, ready for DATA but for the dot that ends it; `message_id` without brackets."""
    headers = (
        f"Date: {_date(date.replace(microsecond=0))}\r\n"
        f"From: {mailbox_header(sender)}\r\n"
        f"To: {mailbox_header(to)}\r\n"
        f"Message-ID: <{message_id}>\r\n"
    )
    if subject is not None:
        headers += f"Subject: {encode_header(subject)}\r\n"
    return headers.encode() + encode_body(text, html)
