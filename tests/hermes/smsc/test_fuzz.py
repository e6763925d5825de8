"""Whatever comes, the centre lives: it answers the next sign of life, or the next connection."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from carriers.smpp.framer import MAX_FRAME
from carriers.smpp.pdu import EnquireLink, EnquireLinkResp
from hermes.smsc import Smsc, SmscSettings
from tests.carriers.smpp.malformed import CORPUS, mutate, with_length
from tests.hermes.smsc.peer import Esme, bind

FRAMES = 10_000
BATCH = 50


async def alive(smsc: Smsc, esme: Esme) -> Esme:
    """Show that the connection still answers; where the centre closed it, that a new one does."""
    try:
        esme.writer.write(EnquireLink(0, 0x7FFFFFFF).encode())
        await esme.read(EnquireLinkResp, sequence_number=0x7FFFFFFF)
    except (EOFError, ConnectionError):
        esme.close()
        esme = await bind(smsc)
        await esme.request(EnquireLink())
    esme.came.clear()
    return esme


class Unexpected:
    """Collects what the event loop would only have logged."""

    def __init__(self) -> None:
        self.found: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.found.append(context))


async def test_ten_thousand_malformed_pdus_do_not_end_it() -> None:
    rng, unexpected = random.Random(20_261_124), Unexpected()
    async with Smsc(SmscSettings(accounts={"hermes": "secret"}, receipt_delay_s=0, keep=100)) as smsc:
        esme = await bind(smsc)
        for _ in range(FRAMES // BATCH):
            for _ in range(BATCH):
                esme.writer.write(mutate(rng))
            esme = await alive(smsc, esme)
        assert smsc.counts["malformed"] > FRAMES // 4
        assert unexpected.found == []
        assert len(smsc.submits) <= 100


anything = st.binary(max_size=200)
frames = st.one_of(
    st.sampled_from(CORPUS),
    anything.map(lambda octets: with_length(b"\0\0\0\0" + octets.ljust(12, b"\0"))),
    st.builds(
        lambda frame, at, octets: with_length(frame[: 4 + at] + octets + frame[4 + at :]),
        st.sampled_from(CORPUS),
        st.integers(0, 100),
        st.binary(max_size=10),
    ),
    anything,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(frames, max_size=10), st.booleans())
def test_any_octets_do_not_end_it(stream: list[bytes], bound: bool) -> None:
    async def play() -> None:
        unexpected = Unexpected()
        async with Smsc(SmscSettings(accounts={"hermes": "secret"}, receipt_delay_s=0)) as smsc:
            esme = await bind(smsc)
            if not bound:
                esme.close()
                esme = Esme(*await asyncio.open_connection("127.0.0.1", smsc.port))
            for octets in stream:
                esme.writer.write(octets)
            esme.writer.write_eof()  # ends a frame that promised more than came
            await esme.ended()
            other = await bind(smsc)
            assert await other.submit()
            assert unexpected.found == []

    asyncio.run(play())


async def test_a_frame_that_promises_a_lot_costs_nothing() -> None:
    async with Smsc(SmscSettings(accounts={"hermes": "secret"})) as smsc:
        esme = await bind(smsc)
        esme.writer.write((MAX_FRAME + 1).to_bytes(4, "big"))
        await esme.ended()
