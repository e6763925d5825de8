"""Frames out of a stream."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carriers.smpp import pdu as p
from carriers.smpp.framer import MAX_FRAME, Framer

FRAMES = [
    p.EnquireLink(0, 1).encode(),
    p.SubmitSmResp(0, 2, (), "42").encode(),
    p.DeliverSm(0, 3, (), "", 1, 1, "4520123456", short_message=b"x" * 200).encode(),
    p.DataSm(0, 4, ((0x0424, b"y" * 3_000),)).encode(),
    p.UnbindResp(0, 5).encode(),
]
STREAM = b"".join(FRAMES)


@given(st.lists(st.integers(0, len(STREAM)), max_size=40))
def test_12_any_split_gives_the_same_frames(cuts):
    framer, got, at = Framer(), [], 0
    for cut in [*sorted(cuts), len(STREAM)]:
        got += framer.feed(STREAM[at:cut])
        at = cut
    assert got == FRAMES
    assert framer.buffered == 0


def test_12_octet_by_octet_gives_the_same_frames():
    framer = Framer()
    assert [f for n in range(len(STREAM)) for f in framer.feed(STREAM[n : n + 1])] == FRAMES


@pytest.mark.parametrize("length", [0, 4, 15, MAX_FRAME + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_8_a_wrong_length_breaks_at_once_and_gives_the_frames_before_it(length):
    framer = Framer()
    assert framer.feed(FRAMES[0] + length.to_bytes(4, "big")) == FRAMES[:1]
    assert framer.broken is not None
    assert framer.broken.broken
    assert framer.feed(STREAM) == []
    assert framer.buffered == 0


def test_8_the_longest_frame_is_read():
    frame = MAX_FRAME.to_bytes(4, "big") + b"\0" * (MAX_FRAME - 4)
    assert Framer().feed(frame) == [frame]


def test_8_nothing_is_allocated_because_a_header_says_so():
    framer = Framer()
    tracemalloc.start()
    framer.feed(MAX_FRAME.to_bytes(4, "big"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000
    assert framer.buffered == 4


def test_12_random_chunks_of_many_frames():
    rng = random.Random(12)
    frames = [rng.choice(FRAMES) for _ in range(2_000)]
    stream, got, at, framer = b"".join(frames), [], 0, Framer()
    while at < len(stream):
        size = rng.choice((1, 3, 16, 1_448, 4_096))
        got += framer.feed(stream[at : at + size])
        at += size
    assert got == frames
