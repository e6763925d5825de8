"""Text as octets in a short_message, and back.

What a carrier's data_coding 0 means is its `default_alphabet`:
- `gsm7`: the GSM 7-bit default alphabet, one septet an octet, unpacked, the extension table after an escape;
- `latin1`: ISO 8859-1; what a part holds is counted in octets;
- `ascii`: the centre turns ASCII into GSM septets itself, so that is how a part is counted.
A text beyond that alphabet goes out as UCS-2 (UTF-16, big-endian; data_coding 8). National shift tables are
not used: handsets and centres know them too seldom.

Sources: SMPP v3.4, 5.2.19 (data_coding); 3GPP TS 23.038, 4 and 6.2.1 (alphabets); 3GPP TS 23.040, 9.2.3.24.1
(concatenation). Where a text is cut is `hermes.domain.segments`.
"""

from __future__ import annotations

from typing import Final

from carriers.smpp import constants as c
from hermes.domain.segments import GSM7_BASIC, GSM7_ESCAPE, GSM7_EXTENSION, encoding_of

ALPHABETS: Final = ("gsm7", "latin1", "ascii")
BINARY: Final = "binary"  # an encoding of what is no text
REPLACEMENT: Final = "\ufffd"


class _ToSeptets(dict[int, str]):
    """For `str.translate`, which would leave an unknown letter as it is: a backtick would go out as `¿`."""

    def __missing__(self, letter: int) -> str:
        raise ValueError(f"U+{letter:04X} is not in the GSM default alphabet")


_to_septets: Final = _ToSeptets({ord(letter): chr(code) for code, letter in enumerate(GSM7_BASIC)})
del _to_septets[ord(GSM7_ESCAPE)]
_to_septets.update({ord(letter): GSM7_ESCAPE + chr(code) for letter, code in GSM7_EXTENSION.items()})

# Octets that are no septet (0x80 and above) are read as Latin-1: so centres send them that say GSM and mean
# it.
_FROM_SEPTETS: Final = {code: letter for code, letter in enumerate(GSM7_BASIC) if letter != GSM7_ESCAPE}
_FROM_EXTENSION: Final = {chr(code): letter for letter, code in GSM7_EXTENSION.items()}


def encode_gsm7(text: str) -> bytes:
    """Write a text in the GSM default alphabet, one septet an octet.

    Raises:
        ValueError: a letter is in neither table.
    """
    return text.translate(_to_septets).encode("latin-1")


def decode_gsm7(octets: bytes) -> str:
    """Read unpacked septets. Never fails.

    An escape before a code the extension table lacks is shown as that code of the default table, a lone one
    as a space (TS 23.038, 6.2.1.1 and its note 1).
    """
    text = octets.decode("latin-1")
    if GSM7_ESCAPE not in text:
        return text.translate(_FROM_SEPTETS)
    first, *others = text.split(GSM7_ESCAPE)
    read = [first.translate(_FROM_SEPTETS)]
    for other in others:
        letter = _FROM_EXTENSION.get(other[:1])
        if letter is not None:
            read += letter, other[1:].translate(_FROM_SEPTETS)
        elif other:
            read.append(other.translate(_FROM_SEPTETS))
        else:
            read.append(" ")
    return "".join(read)


def pack(septets: bytes, fill_bits: int = 0) -> bytes:
    """Pack septets, one an octet, into octets of eight bits (TS 23.038, 6.1.2.1).

    Args:
        septets: each 0..127.
        fill_bits: 0..6 zero bits before the first, so that it starts on a septet's border after a header.
    """
    value, bits = 0, fill_bits
    for septet in septets:
        value |= (septet & 0x7F) << bits
        bits += 7
    return value.to_bytes(-(-bits // 8), "little")


def unpack(octets: bytes, count: int | None = None, fill_bits: int = 0) -> bytes:
    """Unpack octets into septets, one an octet.

    Args:
        octets: the packed text, without its header.
        count: how many septets there are; without it a last one of seven zero bits is taken for padding when
            the octets could hold eight (an `@` there cannot be told from padding, TS 23.038, 6.1.2.3.1).
        fill_bits: as in `pack`.
    """
    bits = len(octets) * 8 - fill_bits
    whole = max(bits // 7, 0)
    if count is None:
        count = whole
        if whole and bits % 7 == 0 and octets[-1] >> 1 == 0:
            count -= 1
    value = int.from_bytes(octets, "little") >> fill_bits
    return bytes([(value >> 7 * n) & 0x7F for n in range(min(count, whole))])


def choose_encoding(text: str, default_alphabet: str = "gsm7") -> tuple[str, int]:
    """Tell how a text goes to a carrier: (encoding, data_coding).

    The encoding is the carrier's alphabet, or "ucs2" when that lacks a letter.
    """
    if default_alphabet == "gsm7":
        fits = encoding_of(text) == "gsm7"
    elif default_alphabet == "ascii":
        fits = text.isascii() and "\0" not in text
    else:
        try:
            text.encode("latin-1")
            fits = True
        except UnicodeEncodeError:
            fits = False
    return (default_alphabet, c.DATA_CODING_DEFAULT) if fits else ("ucs2", c.DATA_CODING_UCS2)


def encode_text(text: str, encoding: str) -> bytes:
    """Write a text in `gsm7`, `latin1`, `ascii` or `ucs2`.

    Raises:
        ValueError: a letter is not in it, or there is no such encoding.
    """
    if encoding == "gsm7":
        return encode_gsm7(text)
    if encoding == "ucs2":
        # A lone surrogate is no character: no handset shows it, some centres refuse the whole message.
        return text.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "replace").encode("utf-16-be")
    if encoding in ("latin1", "ascii"):
        return text.encode("latin-1" if encoding == "latin1" else "ascii")
    raise ValueError(f"no such SMS encoding: {encoding}")


# data_coding of its own table (5.2.19) -> Python's codec.
_CODECS: Final[dict[int, str]] = {
    0x01: "ascii",
    0x03: "latin-1",
    0x05: "shift_jis",  # JIS X 0208-1990: centres that name it send its Shift-JIS form
    0x06: "iso8859-5",
    0x07: "iso8859-8",
    0x08: "utf-16-be",
    0x0A: "iso2022_jp",
    0x0D: "euc_jp",  # extended kanji JIS X 0212-1990
    0x0E: "euc_kr",  # KS C 5601
}
_BINARY_CODINGS: Final = frozenset({0x02, 0x04, 0x09})  # 0x09 is pictograms, which no codec reads


def encoding_of_data_coding(data_coding: int, default_alphabet: str = "gsm7") -> str:
    """Name the codec behind a data_coding: a codec of Python's, `gsm7`, or `BINARY` for what is no text.

    0x00..0x0F are SMPP's own (5.2.19); 0x10 and above are read as GSM does (TS 23.038, 4): general groups
    with the alphabet in bits 3-2, message waiting groups, and 0xF0 with bit 2 for eight-bit data.
    """
    if data_coding == 0:
        return {"gsm7": "gsm7", "latin1": "latin-1", "ascii": "ascii"}.get(default_alphabet, "gsm7")
    if data_coding < 0x10:
        return BINARY if data_coding in _BINARY_CODINGS else _CODECS.get(data_coding, BINARY)
    group = data_coding >> 4
    if group < 0x8:
        alphabet = (data_coding >> 2) & 0x03
    elif group == 0xE:
        alphabet = 2
    elif group == 0xF:
        alphabet = (data_coding >> 2) & 0x01
    else:
        alphabet = 0
    if alphabet == 0:
        return encoding_of_data_coding(0, default_alphabet)
    return "utf-16-be" if alphabet == 2 else BINARY


def decode_text(octets: bytes, data_coding: int, default_alphabet: str = "gsm7") -> str | None:
    """Read what a handset wrote; None when it is no text. Never fails.

    What cannot be read, and NUL, which no database takes, become U+FFFD.
    """
    codec = encoding_of_data_coding(data_coding, default_alphabet)
    if codec == BINARY:
        return None
    if codec == "gsm7":
        text = decode_gsm7(octets)
    elif codec == "ascii":
        text = octets.decode("latin-1")  # so centres send it that say ASCII and mean Latin-1
    else:
        text = octets.decode(codec, "replace")
    return text.replace("\0", REPLACEMENT) if "\0" in text else text
