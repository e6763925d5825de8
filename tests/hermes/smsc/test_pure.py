"""What the centre writes, without a socket: every form of receipt, every spelling of an id, calls made later."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carriers.smpp import constants as c
from carriers.smpp.pdu import decode
from carriers.smpp.receipts import kind_of, read_receipt, text_of
from hermes.smsc.agenda import Agenda
from hermes.smsc.message_ids import write_id
from hermes.smsc.outcomes import MAGIC, Outcome, decide
from hermes.smsc.receipts import Report, write_receipt
from hermes.smsc.settings import IdForm, ReceiptForm, SmscSettings

NOON = datetime(2026, 1, 2, 12, 30, 45, tzinfo=UTC)
REPORT = Report("1f4a", "Hermes", 5, 0, "4520123456", 1, 1, "UNDELIV", 27, NOON, NOON, "Your code is 123456 and more")
# form -> the whole text
TEXTS: dict[ReceiptForm, str] = {
    "appendix_b": "id:1f4a sub:001 dlvrd:000 submit date:2601021230 done date:2601021230 stat:UNDELIV err:027"
    " text:Your code is 123456 ",
    "reordered": "stat:UNDELIV id:1f4a done date:2601021230 submit date:2601021230 err:027 sub:001 dlvrd:000"
    " text:Your code is 123456 ",
    "no_err": "id:1f4a sub:001 dlvrd:000 submit date:2601021230 done date:2601021230 stat:UNDELIV"
    " text:Your code is 123456 ",
    "no_text": "id:1f4a sub:001 dlvrd:000 submit date:2601021230 done date:2601021230 stat:UNDELIV err:027",
    "seconds": "id:1f4a sub:001 dlvrd:000 submit date:260102123045 done date:260102123045 stat:UNDELIV err:027"
    " text:Your code is 123456 ",
    "lower_case": "id:1f4a sub:001 dlvrd:000 submit date:2601021230 done date:2601021230 stat:undeliv err:027"
    " text:your code is 123456 ",
    "hex_err": "id:1f4a sub:001 dlvrd:000 submit date:2601021230 done date:2601021230 stat:UNDELIV err:1b"
    " text:Your code is 123456 ",
    "tlvs": "",
    "tlvs_without_nul": "",
}
TLVS = {c.RECEIPTED_MESSAGE_ID: b"1f4a\0", c.MESSAGE_STATE: b"\5", c.NETWORK_ERROR_CODE: b"\3\0\x1b"}


@pytest.mark.parametrize("form", get_args(ReceiptForm))
def test_a_receipt_in_every_form_says_the_same(form: ReceiptForm) -> None:
    pdu = write_receipt(REPORT, form)
    assert text_of(pdu) == TEXTS.get(form, TEXTS["appendix_b"])
    tlvs = {tag: value for tag, value in pdu.tlvs if tag != c.MESSAGE_PAYLOAD}
    if form == "tlvs_without_nul":
        assert tlvs == {**TLVS, c.RECEIPTED_MESSAGE_ID: b"1f4a"}
    else:
        assert tlvs == (TLVS if form in ("tlvs", "tlvs_and_text", "data_sm") else {})
    assert pdu.esm_class == (0 if form == "no_esm_class" else c.ESM_RECEIPT)
    assert (pdu.source_addr, pdu.dest_addr_ton, pdu.destination_addr) == ("4520123456", 5, "Hermes")
    assert decode(pdu.encode()) == pdu
    said = read_receipt(pdu)  # our ESME's reading of it
    assert (said.message_ids, said.state, said.status) == (("1f4a",), "UNDELIV", "undelivered")
    assert kind_of(pdu, receipts_without_esm_class=True) == "receipt"


def test_an_intermediate_receipt_says_so_in_esm_class() -> None:
    report = Report("1", "Hermes", 5, 0, "4520123456", 1, 1, "ENROUTE", 0, NOON, NOON, intermediate=True)
    assert write_receipt(report, "appendix_b").esm_class == 0x20


@given(st.integers(0, 2**62 - 1))
def test_an_id_is_one_number_in_every_spelling(number: int) -> None:
    decimal: tuple[IdForm, ...] = ("dec", "dec_padded")
    hexadecimal: tuple[IdForm, ...] = ("hex", "hex_padded", "hex_upper")
    for form in decimal:
        assert int(write_id(number, form)) == number
    for form in hexadecimal:
        assert int(write_id(number, form), 16) == number
    made = uuid.UUID(write_id(number, "uuid"))
    assert (made.version, made.int & (1 << 62) - 1) == (4, number)
    assert all(0 < len(write_id(number, form)) <= 64 for form in get_args(IdForm))


def test_magic_numbers_have_four_digits_and_say_what_happens() -> None:
    assert all(len(digits) == 4 and digits.isdigit() and magic.says for digits, magic in MAGIC.items())


@given(st.text("0123456789", max_size=20), st.integers(1, 9), st.integers(1, 1000))
def test_without_errors_asked_for_an_ordinary_number_is_delivered(destination: str, tries: int, number: int) -> None:
    outcome = decide(SmscSettings(), Random(0), destination, tries, number)
    assert outcome == Outcome() or destination[-4:] in MAGIC


async def test_later_calls_are_made_in_the_order_they_are_due() -> None:
    made: list[str] = []
    done = asyncio.Event()
    agenda = Agenda(asyncio.get_running_loop(), lambda: None)
    agenda.after(0.02, done.set)
    agenda.after(0.01, made.append, "second")
    agenda.after(0, made.append, "first")
    agenda.after(0.01, made.append, "third")
    await done.wait()
    assert made == ["first", "second", "third"]


async def test_a_call_that_fails_keeps_no_other_from_being_made() -> None:
    failures: list[object] = []
    made: list[str] = []
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: failures.append(context["exception"]))
    agenda = Agenda(loop, lambda: None)
    agenda.after(0, made.remove, "x")
    agenda.after(0, done.set)
    await done.wait()
    assert isinstance(failures[0], ValueError)


async def test_a_closed_agenda_makes_no_call() -> None:
    made: list[str] = []
    agenda = Agenda(asyncio.get_running_loop(), lambda: None)
    agenda.after(0, made.append, "x")
    agenda.close()
    agenda.after(0, made.append, "y")
    await asyncio.sleep(0.01)  # time enough for a call that must not come
    assert made == []
