"""Fuzz the SMPP codec, framer, receipt parser and session with atheris (coverage-guided), for as long as you like.

    pip install atheris
    python -m tests.fuzz.smpp_atheris [corpus-folder] [-max_total_time=600] [other libFuzzer options]

Not in CI: tests/carriers/smpp/test_fuzz.py is. Any exception but `PduError` is a finding; so is a PDU that is taken
and not written again as it came. The folder is filled with tests/carriers/smpp/malformed.py's corpus when empty.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

atheris: Any = import_module("atheris")

with atheris.instrument_imports(include=["carriers.smpp"]):
    from carriers.smpp import constants as c
    from carriers.smpp import pdu as p
    from carriers.smpp.inbound import Reassembler
    from carriers.smpp.pdu import PduError, decode
    from carriers.smpp.session import InboundArrived, ReceiptArrived, Session, SessionSettings
    from tests.carriers.smpp.malformed import CORPUS, with_length


def one_pdu(data: bytes) -> None:
    """Decode it under the length it has; what is taken is written again as it came."""
    frame = with_length(bytes(4) + data) if len(data) >= 12 else data
    try:
        pdu = decode(frame)
    except PduError:
        return
    repr(pdu)
    if len(frame) == 16 and pdu.may_lack_body:
        return
    if getattr(pdu, "short_message", b"") and pdu.tlv(c.MESSAGE_PAYLOAD) is not None:
        return
    assert pdu.encode() == frame


def one_stream(data: bytes) -> None:
    """Feed it to a bound session in pieces cut by its own first octet."""
    session = Session(SessionSettings("hermes", "secret", receipts_without_esm_class=True), lambda: 0.5)
    session.start(0.0)
    session.connected(0.0)
    session.received(p.BindTransceiverResp(0, 1).encode(), 0.0)
    session.submit("a", p.SubmitSm(destination_addr="45"), 0.0)
    reassembler = Reassembler()
    step = data[0] % 64 + 1 if data else 1
    for at in range(1, len(data), step):
        for o in session.received(data[at : at + step], 1.0):
            if isinstance(o, InboundArrived):
                reassembler.add(o.part, o.delivery, 1.0)
            if isinstance(o, (InboundArrived, ReceiptArrived)):
                session.acknowledge(o.delivery, 1.0)
    session.timer_fired(100.0)


def one_input(data: bytes) -> None:
    """Both."""
    one_pdu(data)
    one_stream(data)


def main() -> None:
    """Run until told to stop."""
    for folder in [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")][:1]:
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            for n, frame in enumerate(CORPUS):
                (folder / f"pdu-{n:02d}").write_bytes(frame[4:])
                (folder / f"stream-{n:02d}").write_bytes(b"\x20" + frame)
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
