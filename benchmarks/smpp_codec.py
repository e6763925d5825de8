"""What SMPP costs without a network: microseconds of CPU a message, beside smpplib on the same machine in the same run.

    python -m benchmarks.smpp_codec [--messages 20000]

One message, seen from the ESME: submit_sm written, submit_sm_resp read, its receipt (deliver_sm with two optional
parameters) read, deliver_sm_resp written. Each figure is the best of five rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

from carriers.smpp import constants as c
from carriers.smpp import pdu as p
from carriers.smpp.framer import Framer
from carriers.smpp.receipts import read_receipt
from carriers.smpp.segmentation import References
from carriers.smpp.session import ReceiptArrived, Send, Session, SessionSettings
from carriers.smpp.submit import SubmitSettings, build_submits

TEXT = "Your code is 123456. It is valid for five minutes."
RECEIPT = (
    b"id:4a8b3c2d1e sub:001 dlvrd:001 submit date:2601011200 done date:2601011201 stat:DELIVRD err:000 text:Your code"
)
TLVS = ((c.RECEIPTED_MESSAGE_ID, b"4a8b3c2d1e\0"), (c.MESSAGE_STATE, b"\2"))
ROUNDS = 5
TARGET_US = 6.0  # docs/smpp.md


def submit() -> p.SubmitSm:
    return p.SubmitSm(
        0, 2, (), "", 5, 0, "Hermes", 1, 1, "4520123456", registered_delivery=1, short_message=TEXT.encode()
    )


def answer() -> bytes:
    return p.SubmitSmResp(0, 2, (), "4a8b3c2d1e").encode()


def receipt(sequence_number: int = 7) -> p.DeliverSm:
    return p.DeliverSm(
        0, sequence_number, TLVS, "", 1, 1, "4520123456", 5, 0, "Hermes", c.ESM_RECEIPT, short_message=RECEIPT
    )


def best_us(messages: int, work: Callable[[], Any]) -> float:
    """Time `work`, once a message; microseconds of CPU."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(messages):
            work()
        best = min(best, time.process_time() - started)
    return best / messages * 1e6


def ours() -> dict[str, Callable[[], Any]]:
    pdu, resp, dlr = submit(), answer(), receipt().encode()
    return {
        "submit_sm written": pdu.encode,
        "submit_sm_resp read": lambda: p.decode(resp),
        "deliver_sm read": lambda: p.decode(dlr),
        "deliver_sm_resp written": lambda: p.encode_answer(c.DELIVER_SM_RESP, 0, 7),
    }


def theirs() -> dict[str, Callable[[], Any]] | None:
    try:
        from smpplib import smpp
    except ImportError:
        return None

    class Client:
        sequence = 1

        def next_sequence(self) -> int:
            return 1

    client, resp, dlr = Client(), answer(), receipt().encode()

    def write_submit() -> Any:
        return smpp.make_pdu(
            "submit_sm",
            client=client,
            source_addr_ton=5,
            source_addr_npi=0,
            source_addr="Hermes",
            dest_addr_ton=1,
            dest_addr_npi=1,
            destination_addr="4520123456",
            registered_delivery=1,
            short_message=TEXT.encode(),
        ).generate()

    def write_answer() -> Any:
        made = smpp.make_pdu("deliver_sm_resp", client=client)
        made.sequence = 7
        return made.generate()

    return {
        "submit_sm written": write_submit,
        "submit_sm_resp read": lambda: smpp.parse_pdu(resp, client=client),
        "deliver_sm read": lambda: smpp.parse_pdu(dlr, client=client),
        "deliver_sm_resp written": write_answer,
    }


def session_us(messages: int) -> float:
    """Time a message through everything sans-IO: text to submit_sm, session, answer, receipt read, acknowledged."""
    best = float("inf")
    for _ in range(ROUNDS):
        session = Session(SessionSettings("hermes", "secret"), lambda: 0.5)
        session.start(0.0)
        session.connected(0.0)
        session.received(p.BindTransceiverResp(0, 1).encode(), 0.0)
        settings, references = SubmitSettings(), References(0.0)
        dlr = receipt().encode()
        started = time.process_time()
        for n in range(2, messages + 2):
            _, submits = build_submits(TEXT, "+4520123456", "Hermes", settings, references)
            session.submit(n, submits[0], 1.0)
            session.received(p.encode_answer(c.SUBMIT_SM_RESP, 0, n), 1.0)
            for o in session.received(dlr, 1.0):
                if isinstance(o, ReceiptArrived):
                    o.receipt.delivery_receipt("carrier")
                    assert isinstance(session.acknowledge(o.delivery, 1.0)[0], Send)
        best = min(best, time.process_time() - started)
        assert session.counters["receipts"] == messages
    return best / messages * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000)
    messages = parser.parse_args().messages
    mine, other = ours(), theirs()
    total, their_total = 0.0, 0.0
    print(f"{'us of CPU':26}{'hermes':>9}{'smpplib':>9}")
    for what, work in mine.items():
        us = best_us(messages, work)
        total += us
        line = f"{what:26}{us:9.2f}"
        if other is not None:
            their_us = best_us(messages // 10 or 1, other[what])
            their_total += their_us
            line += f"{their_us:9.2f}"
        print(line)
    ratio = f"{their_total:9.2f}   {their_total / total:.0f} times" if other is not None else ""
    print(f"{'a message':26}{total:9.2f}{ratio}   (target {TARGET_US:.0f})")
    pdu, wire = receipt(), receipt().encode() * 100
    print(f"{'receipt parsed':26}{best_us(messages, lambda: read_receipt(pdu)):9.2f}")
    print(f"{'framed':26}{best_us(messages // 100 or 1, lambda: Framer().feed(wire)) / 100:9.2f}")
    print(f"{'the whole library, a message':26}{session_us(messages):7.2f}")


if __name__ == "__main__":
    main()
