"""How a text becomes radio parts: the GSM 7-bit default alphabet, UCS-2, and where a long text is cut.

Sources: 3GPP TS 23.038 (the former GSM 03.38), 6.2.1 and 6.2.1.1 for the alphabet and its extension table,
6.2.3 for UCS-2; 3GPP TS 23.040, 9.2.3.24.1 for the header of a concatenated message and 9.2.3.16 for
the 140 octets of user data.
"""

from __future__ import annotations

import re
from typing import Final

# Index = code, 0x00..0x7F. 0x1B is no letter: it announces one of the extension table (TS 23.038, 6.2.1).
GSM7_BASIC: Final = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ"
    " !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§"
    "¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM7_ESCAPE: Final = "\x1b"
# Letter -> code after the escape: two septets each (TS 23.038, 6.2.1.1).
GSM7_EXTENSION: Final[dict[str, int]] = {
    "\f": 0x0A,
    "^": 0x14,
    "{": 0x28,
    "}": 0x29,
    "\\": 0x2F,
    "[": 0x3C,
    "~": 0x3D,
    "]": 0x3E,
    "|": 0x40,
    "€": 0x65,
}

USER_DATA_OCTETS: Final = 140  # of one radio part, the user data header included (TS 23.040, 9.2.3.16)
UDH8_OCTETS: Final = 6  # user data header with an 8-bit reference number (TS 23.040, 9.2.3.24.1)
UDH16_OCTETS: Final = 7  # ... with a 16-bit reference number (TS 23.040, 9.2.3.24.8)

_LETTERS: Final = GSM7_BASIC.replace(GSM7_ESCAPE, "")
_EXTENDED: Final = "".join(GSM7_EXTENSION)
_is_basic: Final = re.compile(f"[{re.escape(_LETTERS)}]*").fullmatch
_is_gsm7: Final = re.compile(f"[{re.escape(_LETTERS + _EXTENDED)}]*").fullmatch
_escape: Final = re.compile(f"([{re.escape(_EXTENDED)}])").sub
_ESCAPED: Final = GSM7_ESCAPE + r"\1"
_HIGH_SURROGATE: Final = range(0xD8, 0xDC)  # first octet, big-endian
_LOW_SURROGATE: Final = range(0xDC, 0xE0)


def sms_segments(text: str) -> tuple[str, int]:
    """Tell how a text is sent by SMS: ("gsm7" or "ucs2", number of radio parts, at least 1).

    One part holds 160 septets or 70 UTF-16 units; each of several holds 153 or 67, after the 6 octets of
    header that tie them together. A letter of the extension table takes 2 septets. Neither such a letter nor
    a surrogate pair is ever cut, so that a text may need one part more than its length alone says.
    """
    if _is_basic(text) is not None:
        n = len(text)
        return "gsm7", 1 if n <= 160 else -(-n // 153)
    if _is_gsm7(text) is not None:
        return "gsm7", len(split(text, "gsm7"))
    if len(text) <= 35:  # every letter at most 2 units
        return "ucs2", 1
    return "ucs2", len(split(text, "ucs2"))


def encoding_of(text: str) -> str:
    """Name the encoding a text needs on a carrier of the GSM default alphabet: "gsm7" or "ucs2"."""
    return "gsm7" if _is_gsm7(text) is not None else "ucs2"


def part_size(encoding: str, header_octets: int = 0) -> int:
    """Tell how much one radio part holds beside its header.

    Septets for gsm7, UTF-16 units for ucs2, octets for latin1.

    Raises:
        ValueError: no such encoding.
    """
    octets = USER_DATA_OCTETS - header_octets
    if encoding == "gsm7":
        return octets * 8 // 7  # the text starts on a septet boundary after the header
    if encoding == "ucs2":
        return octets // 2
    if encoding == "latin1":
        return octets
    raise ValueError(f"no such SMS encoding: {encoding}")


def split(text: str, encoding: str | None = None, *, header_octets: int = UDH8_OCTETS) -> list[str]:
    """Cut a text into its radio parts: at least one, in order; joined they give the text again.

    Args:
        text: what the customer wrote.
        encoding: "gsm7" (the text must have its letters only, see `encoding_of`), "ucs2" or "latin1" (8-bit
            data); as `encoding_of` says when absent.
        header_octets: user data header of each part when there are several: UDH8_OCTETS or UDH16_OCTETS.

    Raises:
        ValueError: no such encoding.
    """
    if encoding is None:
        encoding = encoding_of(text)
    whole, each = part_size(encoding), part_size(encoding, header_octets)
    if encoding == "ucs2":
        return _split_ucs2(text, whole, each)
    if encoding == "latin1":
        return [text] if len(text) <= whole else [text[i : i + each] for i in range(0, len(text), each)]
    if 2 * len(text) <= whole:
        return [text]  # whatever its letters are
    septets = _escape(_ESCAPED, text)
    if len(septets) <= whole:
        return [text]
    parts = []
    start, size = 0, len(septets)
    while start < size:
        end = min(start + each, size)
        if end < size and septets[end - 1] == GSM7_ESCAPE:
            end -= 1
        parts.append(septets[start:end].replace(GSM7_ESCAPE, ""))
        start = end
    return parts


def _split_ucs2(text: str, whole: int, each: int) -> list[str]:
    data = text.encode("utf-16-be", "surrogatepass")
    size = len(data)
    if size <= 2 * whole:
        return [text]
    parts = []
    start = 0
    while start < size:
        end = min(start + 2 * each, size)
        if end < size and data[end - 2] in _HIGH_SURROGATE and data[end] in _LOW_SURROGATE:
            end -= 2
        parts.append(data[start:end].decode("utf-16-be", "surrogatepass"))
        start = end
    return parts
