"""Texts as octets and parts. The cuts themselves: tests/domain/test_segments.py."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from carriers.smpp import constants as c
from carriers.smpp.segmentation import MAX_PAYLOAD, References, TextTooLong, segment
from carriers.smpp.text import (
    choose_encoding,
    decode_gsm7,
    decode_text,
    encode_gsm7,
    encode_text,
    pack,
    unpack,
)
from hermes.domain.segments import GSM7_BASIC, GSM7_ESCAPE, GSM7_EXTENSION, split

gsm = pytest.importorskip("smpplib.gsm")

LETTERS = [x for x in GSM7_BASIC if x != GSM7_ESCAPE] + list(GSM7_EXTENSION)
gsm7_text = st.text(st.sampled_from(LETTERS), max_size=800)
any_text = st.text(max_size=400)


@given(gsm7_text)
def test_gsm7_comes_back(text):
    assert decode_gsm7(encode_gsm7(text)) == text


def test_38_gsm7_octets_are_smpplibs_where_smpplib_is_right():
    for letter in LETTERS:
        if letter not in "§\f":  # it writes § as UCS-2 and takes a backtick for it; it lacks the form feed
            assert encode_gsm7(letter) == gsm.gsm_encode(letter)


def test_38_a_backtick_is_not_in_the_alphabet_and_the_section_sign_is():
    assert encode_gsm7("§") == b"\x5f"
    assert choose_encoding("§") == ("gsm7", 0)
    assert choose_encoding("`") == ("ucs2", 8)
    with pytest.raises(ValueError, match=r"U\+0060"):
        encode_gsm7("`")
    with pytest.raises(ValueError, match=r"U\+001B"):
        encode_gsm7("\x1b")


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"\x1b\x65", "€"),
        (b"a\x1b\x28b\x1b\x29", "a{b}"),
        (b"\x1b\x41", "A"),  # no such extension: the default table's letter
        (b"a\x1b", "a "),
        (b"\x1b\x1b\x65", " €"),
        (b"\x00\x11\x40", "@_¡"),
        (b"caf\xe9", "café"),  # says GSM, sends Latin-1
        (b"", ""),
    ],
)
def test_gsm7_is_read_whatever_comes(octets, text):
    assert decode_gsm7(octets) == text


@given(st.binary(max_size=200), st.integers(0, 255), st.sampled_from(("gsm7", "latin1", "ascii")))
def test_42_decoding_never_fails_and_gives_no_nul(octets, data_coding, alphabet):
    text = decode_text(octets, data_coding, alphabet)
    assert text is None or ("\0" not in text and text.encode("utf-8") is not None)


@pytest.mark.parametrize(
    ("text", "packed"),
    [  # TS 23.038, 6.1.2.1; the first is the well-known example of the packing
        ("hellohello", "e8329bfd4697d9ec37"),
        ("@", "00"),
        ("1234567", "31d98c56b3dd00"),
        ("12345678", "31d98c56b3dd70"),
    ],
)
def test_packing_is_the_specifications(text, packed):
    assert pack(encode_gsm7(text)).hex() == packed
    assert unpack(bytes.fromhex(packed), len(text)) == encode_gsm7(text)


@given(st.binary(max_size=160).map(lambda b: bytes(x & 0x7F for x in b)), st.integers(0, 6))
def test_packing_comes_back(septets, fill_bits):
    assert unpack(pack(septets, fill_bits), len(septets), fill_bits) == septets


@pytest.mark.parametrize(
    ("data_coding", "alphabet", "octets", "text"),
    [
        (0x00, "gsm7", b"\x00\x02", "@$"),
        (0x00, "latin1", b"\xe6\xf8\xe5", "æøå"),
        (0x00, "ascii", b"@$", "@$"),
        (0x01, "gsm7", b"@$", "@$"),
        (0x02, "gsm7", b"\x01", None),
        (0x03, "gsm7", b"\xe6", "æ"),
        (0x04, "gsm7", b"\x01", None),
        (0x06, "gsm7", b"\xb0", "А"),
        (0x07, "gsm7", b"\xe0", "א"),
        (0x08, "gsm7", b"\xd8\x3d\xde\x00", "\U0001f600"),
        (0x08, "gsm7", b"\x00a\x00", "a\ufffd"),
        (0x08, "gsm7", b"\x00a\xd8\x3d", "a\ufffd"),
        (0x0E, "gsm7", "한".encode("euc_kr"), "한"),
        (0x0B, "gsm7", b"abc", None),
        (0x10, "gsm7", b"\x00", "@"),
        (0x14, "gsm7", b"\x00", None),
        (0x18, "gsm7", b"\x00a", "a"),
        (0xC0, "gsm7", b"\x00", "@"),
        (0xE0, "gsm7", b"\x00a", "a"),
        (0xF0, "gsm7", b"\x00", "@"),
        (0xF1, "latin1", b"@", "@"),
        (0xF4, "gsm7", b"\x00", None),
        (0xF5, "gsm7", b"\x00", None),
    ],
)
def test_38_42_data_coding_names_the_alphabet(data_coding, alphabet, octets, text):
    assert decode_text(octets, data_coding, alphabet) == text


@pytest.mark.parametrize(
    ("text", "alphabet", "expected"),
    [
        ("Hej", "gsm7", ("gsm7", 0)),
        ("smørrebrød €{}", "gsm7", ("gsm7", 0)),
        ("ş", "gsm7", ("ucs2", 8)),
        ("smørrebrød", "latin1", ("latin1", 0)),
        ("€", "latin1", ("ucs2", 8)),
        ("plain `text`", "ascii", ("ascii", 0)),
        ("smørrebrød", "ascii", ("ucs2", 8)),
    ],
)
def test_38_the_carriers_alphabet_or_ucs2(text, alphabet, expected):
    assert choose_encoding(text, alphabet) == expected


def joined(segmented, header_octets):
    return b"".join(part.short_message[header_octets:] for part in segmented.parts)


@given(st.one_of(gsm7_text, any_text), st.integers(0, 65_535), st.sampled_from(("udh8", "udh16", "sar")))
@settings(max_examples=300)
def test_36_37_parts_hold_the_text_in_order_and_never_cut_a_letter(text, reference, concatenation):
    got = segment(text, reference, concatenation=concatenation)
    n = len(got.parts)
    octets = encode_text(text, got.encoding)
    header = {"udh8": 6, "udh16": 7, "sar": 0}[concatenation] if n > 1 else 0
    assert joined(got, header) == octets
    for k, part in enumerate(got.parts, 1):
        body = part.short_message[header:]
        room = {"gsm7": 160, "ucs2": 140}[got.encoding] if n == 1 else 140 - (header or 6)
        assert len(body) <= (room * 8 // 7 if got.encoding == "gsm7" and n > 1 else room)
        if got.encoding == "gsm7":
            assert not body.endswith(b"\x1b")
        else:
            body.decode("utf-16-be")  # strict: fails on half a pair
        if n == 1:
            assert (part.esm_class, part.tlvs) == (0, ())
        elif concatenation == "udh8":
            assert part.short_message[:6] == bytes((5, 0, 3, reference & 0xFF, n, k))
        elif concatenation == "udh16":
            assert part.short_message[:7] == bytes((6, 8, 4, reference >> 8, reference & 0xFF, n, k))
        else:
            assert dict(part.tlvs) == {
                c.SAR_MSG_REF_NUM: reference.to_bytes(2, "big"),
                c.SAR_TOTAL_SEGMENTS: bytes((n,)),
                c.SAR_SEGMENT_SEQNUM: bytes((k,)),
            }
        if n > 1:
            assert part.esm_class == (0 if concatenation == "sar" else c.ESM_UDHI)
    if concatenation != "udh16":
        assert n == len(split(text))


@pytest.mark.parametrize(
    ("text", "concatenation", "sizes"),
    [
        ("a" * 160, "udh8", [160]),
        ("a" * 161, "udh8", [6 + 153, 6 + 8]),
        ("a" * 161, "udh16", [7 + 152, 7 + 9]),
        ("a" * 161, "sar", [153, 8]),
        ("a" * 152 + "€" + "b" * 10, "udh8", [6 + 152, 6 + 12]),  # the pair moves to the next part
        ("ж" * 71, "udh8", [6 + 134, 6 + 8]),
        ("ж" * 66 + "\U0001f600" + "жжжж", "udh8", [6 + 132, 6 + 12]),
    ],
)
def test_36_sizes_of_parts(text, concatenation, sizes):
    assert [len(part.short_message) for part in segment(text, concatenation=concatenation).parts] == sizes


@pytest.mark.parametrize(
    ("text", "alphabet", "sizes", "encoding"),
    [
        ("ø" * 140, "latin1", [140], "latin1"),
        ("ø" * 141, "latin1", [6 + 134, 6 + 7], "latin1"),
        ("a" * 160, "ascii", [160], "gsm7"),
        ("a" * 161, "ascii", [6 + 153, 6 + 8], "gsm7"),
        ("[" * 81, "ascii", [6 + 76, 6 + 5], "gsm7"),  # two septets each once the centre writes them
    ],
)
def test_36_latin1_counts_octets_and_ascii_the_septets_it_becomes(text, alphabet, sizes, encoding):
    got = segment(text, default_alphabet=alphabet)
    assert (got.encoding, got.data_coding) == (encoding, 0)
    assert [len(part.short_message) for part in got.parts] == sizes


def test_37_payload_is_one_pdu_and_leaves_short_message_empty():
    got = segment("a" * 161, concatenation="payload")
    assert [(x.short_message, x.esm_class, x.tlvs) for x in got.parts] == [(b"", 0, ((c.MESSAGE_PAYLOAD, b"a" * 161),))]
    assert segment("a" * 160, concatenation="payload").parts[0].short_message == b"a" * 160
    with pytest.raises(TextTooLong):
        segment("a" * (MAX_PAYLOAD + 1), concatenation="payload")


def test_36_more_than_255_parts_is_refused():
    assert len(segment("a" * 153 * 255).parts) == 255
    with pytest.raises(TextTooLong):
        segment("a" * (153 * 255 + 1))


def test_a_lone_surrogate_does_not_go_out():
    assert encode_text("a\ud83d", "ucs2") == b"\0a\xff\xfd"


def test_35_references_of_one_destination_do_not_repeat_for_hours():
    references = References(now_s=1_800_000_000.0, counters=1_024)
    given = [references.next("4520123456") for _ in range(256)]
    assert len({n & 0xFF for n in given}) == 256
    for n in range(20_000):
        references.next(str(n))


def test_35_references_go_on_ahead_of_themselves_after_a_restart():
    references = References(now_s=1_800_000_000.0)
    before = {references.next("4520123456") & 0xFF for _ in range(60)}
    after = References(now_s=1_800_000_000.0 + 3_600)
    assert before.isdisjoint(after.next("4520123456") & 0xFF for _ in range(60))
