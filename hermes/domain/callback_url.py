"""Which hosts a customer's webhook may reach: the public internet, in any spelling, and nothing else.

Pure: names are resolved by whoever asks (the gateway at submission, the webhook actor at each connection),
and each address found is judged here. Sources: RFC 6890 and its registries (as the standard library's
`ipaddress` knows them), WHATWG URL, 3.5 (hosts that are numbers: decimal, octal, hex, short forms).
"""

from __future__ import annotations

import ipaddress
import unicodedata
from functools import lru_cache
from typing import Final, TypeAlias
from urllib.parse import unquote, urlsplit

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

LONGEST_URL: Final = 2048  # characters
URLS_KEPT: Final = 1_024  # whose host, and of which hosts the judgement, is remembered: a customer names few

# Names that mean this machine, whatever a resolver says (RFC 6761, 6.3). Others are judged by what they
# resolve to.
_LOCAL_NAMES: Final = ("localhost", "localdomain")
# What `ipaddress` calls global, or would not refuse, and no webhook is served from.
_REFUSED: Final = tuple(
    ipaddress.ip_network(block)
    for block in (
        "192.88.99.0/24",  # 6to4 relays, deprecated (RFC 7526)
        "100.64.0.0/10",  # shared address space of carriers (RFC 6598)
        "192.0.0.0/24",  # protocol assignments (RFC 6890)
        "64:ff9b:1::/48",  # local-use NAT64 (RFC 8215)
        "100::/64",  # discard (RFC 6666)
        "2001::/23",  # protocol assignments, Teredo among them (RFC 2928)
        "fec0::/10",  # site-local, deprecated (RFC 3879)
        "::/96",  # IPv4-compatible, deprecated (RFC 4291, 2.5.5.1)
        "2002::/16",  # 6to4 (RFC 3056): leads through relays that are gone (RFC 7526)
        "3fff::/20",  # documentation (RFC 9637)
    )
)
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052


class BadUrl(ValueError):
    """The text is no URL a webhook can be sent to. Says why."""


@lru_cache(URLS_KEPT)
def callback_host(url: str) -> str:
    """Read the host out of a webhook's URL, as it has to be resolved: ASCII, lower case, no trailing dot.

    Raises:
        BadUrl: not http or https, no host, a user or password, a fragment, characters that no URL holds,
        too long.
    """
    if len(url) > LONGEST_URL:
        raise BadUrl(f"is longer than {LONGEST_URL} characters")
    if not url.isprintable() or " " in url or "\\" in url:
        raise BadUrl("holds a space, a backslash or a control character")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname
    except ValueError as exc:
        raise BadUrl("is not a URL") from exc
    if parts.scheme not in ("http", "https"):
        raise BadUrl("does not begin with https:// or http://")
    if not host or port == 0:
        raise BadUrl("names no host")
    if "@" in parts.netloc:
        raise BadUrl("holds a user or a password")
    return _ascii_host(host)


@lru_cache(URLS_KEPT)
def is_refused_host(host: str) -> bool:
    """Tell whether a host, as `callback_host` gives it, is refused without asking a resolver."""
    address = literal_address(host)
    if address is not None:
        return is_refused_address(address)
    return any(host == name or host.endswith("." + name) for name in _LOCAL_NAMES) or _looks_numeric(host)


def literal_address(host: str) -> Address | None:
    """Read a host that is an address, in any spelling a resolver takes; None when it is a name.

    `127.1`, `0x7f000001`, `017700000001` and `2130706433` all are 127.0.0.1.
    """
    if ":" in host:
        try:
            return ipaddress.IPv6Address(host)
        except ValueError:
            return None
    parts = host.split(".")
    if not 1 <= len(parts) <= 4:
        return None
    numbers = [_number(part) for part in parts]
    if None in numbers:
        return None
    *leading, last = (number for number in numbers if number is not None)
    if any(number > 255 for number in leading) or last >= 256 ** (4 - len(leading)):
        return None
    value = last
    for n, number in enumerate(leading):
        value += number << (8 * (3 - n))
    return ipaddress.IPv4Address(value)


def is_refused_address(address: Address | str) -> bool:
    """Tell whether an address is private, loopback, link-local, or special in any other way.

    An IPv6 address that carries an IPv4 one (mapped, NAT64) is refused when that one is.

    Raises:
        ValueError: a text that is no address.
    """
    if isinstance(address, str):
        address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_refused_address(inner)
    return (
        not address.is_global
        or address.is_multicast
        or address.is_reserved
        or address.is_unspecified
        or any(address.version == block.version and address in block for block in _REFUSED)
    )


def _ascii_host(host: str) -> str:
    if ":" in host:
        return host.partition("%")[0]  # a zone only says which link: what is left is judged
    # Full-width digits and ideographic full stops are dots and digits to a resolver (UTS 46).
    text = unicodedata.normalize("NFKC", unquote(host)).replace("。", ".").lower()
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError as exc:
            raise BadUrl("has a host that is no name") from exc
    text = text[:-1] if text.endswith(".") else text
    labels = text.split(".")
    if len(text) > 253 or not all(_is_label(label) for label in labels):
        raise BadUrl("has a host that is no name")
    return text


def _is_label(label: str) -> bool:
    return 0 < len(label) <= 63 and all(c.isalnum() or c in "-_" for c in label)


def _looks_numeric(host: str) -> bool:
    """Tell whether the last label is a number: no such name exists, and resolvers differ on it."""
    return _number(host.rsplit(".", 1)[-1]) is not None


def _number(text: str) -> int | None:
    """Read one part of a dotted address: decimal, 0-octal, 0x-hex (WHATWG URL, 3.5, "IPv4 number parser")."""
    if not text or not text.isascii() or not text.isalnum():
        return None
    try:
        if text[:2] in ("0x", "0X"):
            return int(text[2:] or "0", 16)
        if text[0] == "0" and len(text) > 1:
            return int(text, 8)
        return int(text, 10)
    except ValueError:
        return None
