"""Radio parts: the alphabet against the specification's own codes, and the cuts of long texts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.domain.segments import (
    GSM7_BASIC,
    GSM7_ESCAPE,
    GSM7_EXTENSION,
    UDH16_OCTETS,
    encoding_of,
    part_size,
    sms_segments,
    split,
)

LETTERS = [c for c in GSM7_BASIC if c != GSM7_ESCAPE]
FAMILY = "\N{FAMILY}"  # outside the BMP: a surrogate pair


def units(text: str, encoding: str) -> int:
    if encoding == "ucs2":
        return len(text.encode("utf-16-be", "surrogatepass")) // 2
    return sum(2 if c in GSM7_EXTENSION else 1 for c in text)


@pytest.mark.parametrize(
    ("code", "letter"),
    [  # TS 23.038 6.2.1: the codes that differ from ASCII and Latin-1
        (0x00, "@"), (0x01, "£"), (0x02, "$"), (0x03, "¥"), (0x04, "è"), (0x09, "Ç"), (0x0A, "\n"),
        (0x0D, "\r"), (0x10, "Δ"), (0x11, "_"), (0x12, "Φ"), (0x15, "Ω"), (0x1A, "Ξ"), (0x1B, "\x1b"),
        (0x1C, "Æ"), (0x1F, "É"), (0x20, " "), (0x24, "¤"), (0x40, "¡"), (0x41, "A"), (0x5A, "Z"),
        (0x5B, "Ä"), (0x5E, "Ü"), (0x5F, "§"), (0x60, "¿"), (0x61, "a"), (0x7A, "z"), (0x7B, "ä"),
        (0x7D, "ñ"), (0x7F, "à"),
    ],
)  # fmt: skip
def test_a_letter_has_the_code_of_the_default_alphabet(code: int, letter: str) -> None:
    assert GSM7_BASIC[code] == letter


def test_the_alphabet_has_128_different_codes() -> None:
    assert len(GSM7_BASIC) == len(set(GSM7_BASIC)) == 128
    assert not set(GSM7_BASIC) & set(GSM7_EXTENSION)


@pytest.mark.parametrize(
    ("text", "encoding", "parts"),
    [
        ("", "gsm7", 1),
        ("Your code is 123456", "gsm7", 1),
        ("a" * 160, "gsm7", 1),
        ("a" * 161, "gsm7", 2),
        ("a" * 306, "gsm7", 2),
        ("a" * 307, "gsm7", 3),
        ("€" * 80, "gsm7", 1),
        ("€" * 81, "gsm7", 2),
        ("€" * 152, "gsm7", 2),  # 76 of them fill 152 of 153 septets: the odd septet stays empty
        ("€" * 153, "gsm7", 3),
        ("a" * 152 + "€" + "a" * 152, "gsm7", 3),  # 306 septets would be 2 parts, but the escape is not cut
        ("@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ", "gsm7", 1),
        ("[brackets] {curly} ~tilde~ \\ | ^ €", "gsm7", 1),
        ("ç", "ucs2", 1),  # only the capital is in the alphabet
        ("`", "ucs2", 1),
        ("\t", "ucs2", 1),
        ("\x1b", "ucs2", 1),  # the escape is no letter
        ("й" * 70, "ucs2", 1),
        ("й" * 71, "ucs2", 2),
        ("й" * 134, "ucs2", 2),
        ("й" * 135, "ucs2", 3),
        (FAMILY * 35, "ucs2", 1),
        (FAMILY * 36, "ucs2", 2),
        (FAMILY * 66, "ucs2", 2),  # 33 pairs are 66 of 67 units
        (FAMILY * 67, "ucs2", 3),
        ("й" * 66 + FAMILY + "й" * 66, "ucs2", 3),  # 134 units would be 2 parts, but the pair is not cut
        ("\ud800" * 71, "ucs2", 2),  # lone surrogates are no pairs, and no error here
    ],
)
def test_a_text_takes_so_many_parts(text: str, encoding: str, parts: int) -> None:
    assert sms_segments(text) == (encoding, parts)


@pytest.mark.parametrize(
    ("encoding", "header_octets", "size"),
    [("gsm7", 0, 160), ("gsm7", 6, 153), ("gsm7", 7, 152), ("ucs2", 0, 70), ("ucs2", 6, 67), ("ucs2", 7, 66),
     ("latin1", 0, 140), ("latin1", 6, 134), ("latin1", 7, 133)],
)  # fmt: skip
def test_a_part_holds_so_much(encoding: str, header_octets: int, size: int) -> None:
    assert part_size(encoding, header_octets) == size


def test_an_unknown_encoding_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="ebcdic"):
        split("a", "ebcdic")


def test_the_parts_of_a_long_text_are_cut_before_an_escape_and_before_a_pair() -> None:
    assert split("a" * 152 + "€" + "b" * 151) == ["a" * 152, "€" + "b" * 151]
    assert split("й" * 66 + FAMILY + "й" * 65) == ["й" * 66, FAMILY + "й" * 65]
    assert split("é" * 141, "latin1") == ["é" * 134, "é" * 7]


gsm7_texts = st.text(st.sampled_from([*LETTERS, *GSM7_EXTENSION]), max_size=500)
any_texts = st.text(st.characters(), max_size=300)


@given(gsm7_texts | any_texts, st.sampled_from([6, UDH16_OCTETS]))
def test_parts_are_full_whole_and_give_the_text_again(text: str, header_octets: int) -> None:
    encoding = encoding_of(text)
    parts = split(text, header_octets=header_octets)
    assert "".join(parts) == text
    if header_octets == 6:
        assert sms_segments(text) == (encoding, len(parts))
    if len(parts) == 1:
        assert units(text, encoding) <= part_size(encoding)
        return
    assert units(text, encoding) > part_size(encoding)
    each = part_size(encoding, header_octets)
    for part, following in pairwise(parts):
        assert units(part, encoding) <= each < units(part + following[0], encoding)  # nothing more would fit
    assert 0 < units(parts[-1], encoding) <= each
