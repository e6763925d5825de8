"""The session on a socket, against two message centres: npm's `smpp`, which nobody here wrote, and `hermes smsc`."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, get_args

import pytest

from carriers.smpp import constants as c
from carriers.smpp.ids import IdForms
from carriers.smpp.inbound import Reassembler
from carriers.smpp.receipts import SmscReceipt
from carriers.smpp.session import Answered
from hermes.smsc import Smsc, SmscSettings
from hermes.smsc.settings import IdForm, ReceiptForm
from tests.carriers.smpp.link import Link, linked
from tests.carriers.smpp_servers import needs_npm_smpp, npm_smsc
from tests.carriers.smtp_servers import make_certificates

LONG = "Hej med dig! Prisen er 42 € og du får æbler, pærer og kål {nu}. " * 5
EMOJI = "Grüße 😀 " * 20


def centre(**settings: Any) -> Smsc:
    return Smsc(SmscSettings(**{"accounts": {"hermes": "secret"}, "receipt_delay_s": 0, **settings}))


def client_context(ca: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)


async def _answer(link: Link, to: str) -> Answered:
    n = len(link.answers)
    link.submit("Hello", to)
    await link.until(lambda: len(link.answers) > n)
    return link.answers[-1]


async def _receipt(link: Link) -> SmscReceipt:
    """Wait for the receipt of the last message."""
    await link.until(lambda: len(link.receipts) == len(link.answers))
    return link.receipts[-1].receipt


# --- npm's smpp


@needs_npm_smpp
@pytest.mark.parametrize("concatenation", ["udh8", "udh16", "sar", "payload"])
@pytest.mark.parametrize("text", ["Hello", LONG, EMOJI], ids=["short", "long", "emoji"])
async def test_npm_smpp_takes_messages_and_its_receipts_are_theirs(text: str, concatenation: str) -> None:
    async with npm_smsc() as smsc, linked(smsc.port) as link:
        await link.until_state("bound")
        parts = link.submit(text, concatenation=concatenation)
        taken = [await smsc.next("submit") for _ in range(parts)]
        assert "".join(each["text"] for each in taken) == text
        assert {(each["source_addr"], each["source_addr_ton"]) for each in taken} == {("Hermes", 5)}
        assert {(each["destination_addr"], each["dest_addr_ton"]) for each in taken} == {("4520999999", 1)}
        await link.until(lambda: len(link.receipts) == len(link.answers) == parts)
        ids = [answer.carrier_message_id for answer in link.answers]
        assert ids == [each["submit"] for each in taken]
        assert {each.receipt.message_ids for each in link.receipts} == {(each,) for each in ids}
        assert {each.receipt.status for each in link.receipts} == {"delivered"}
        assert [(await smsc.next("answer"))["status"] for _ in range(parts)] == [0] * parts


@needs_npm_smpp
async def test_npm_smpp_ties_our_parts_as_we_do() -> None:
    async with npm_smsc(receipts=False) as smsc, linked(smsc.port) as link:
        await link.until_state("bound")
        link.submit(LONG, concatenation="udh8")
        udh = [bytes.fromhex((await smsc.next("submit"))["udh"][0]) for _ in range(3)]
        assert [(each[:2], each[3:]) for each in udh] == [(b"\0\3", bytes((3, n))) for n in (1, 2, 3)]
        assert len({each[2] for each in udh}) == 1
        link.submit(LONG, concatenation="sar")
        sar = [(await smsc.next("submit"))["sar"] for _ in range(3)]
        assert [each[1:] for each in sar] == [[3, 1], [3, 2], [3, 3]]


@needs_npm_smpp
@pytest.mark.parametrize("text", ["STOP", "Æblegrød 😀"])
async def test_npm_smpp_brings_messages_from_handsets(text: str) -> None:
    async with npm_smsc() as smsc, linked(smsc.port) as link:
        await link.until_state("bound")
        fields = {"source_addr": "4520123456", "source_addr_ton": 1, "destination_addr": "1234", "short_message": text}
        smsc.order(inbound=fields)
        assert await smsc.next("answer") == {"answer": "inbound", "status": 0}
        part = link.inbound[0].part
        assert (part.sender, part.recipient, part.text) == ("+4520123456", "1234", text)


@needs_npm_smpp
async def test_npm_smpp_and_the_session_ask_each_other_for_signs_of_life() -> None:
    async with npm_smsc() as smsc, linked(smsc.port, enquire_link_s=0.05) as link:
        await smsc.next("enquire_link")
        smsc.order(enquire_link=True)
        assert await smsc.next("alive") == {"alive": 0}
        assert link.session.state == "bound"


@needs_npm_smpp
async def test_npm_smpp_asks_to_unbind_or_drops_and_the_session_binds_again() -> None:
    async with npm_smsc() as smsc, linked(smsc.port) as link:
        for order in ({"unbind": True}, {"drop": True}):
            await smsc.next("bind")
            await link.until_state("bound")
            smsc.order(**order)
            await smsc.next("closed")
        await smsc.next("bind")
        await link.until_state("bound")


@needs_npm_smpp
async def test_npm_smpp_refuses_a_wrong_password_and_there_is_no_storm() -> None:
    async with npm_smsc() as smsc, linked(smsc.port, password="wrong") as link:
        assert (await smsc.next("bind"))["status"] == c.ESME_RINVPASWD
        await link.until_state("down")
        await link.until(lambda: any(each.alarm for each in link.states))
        assert link.states[-1].command_status == c.ESME_RINVPASWD


@needs_npm_smpp
async def test_npm_smpp_speaks_tls_with_the_session(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    async with npm_smsc(made) as smsc, linked(smsc.port, client_context(made.ca)) as link:
        await link.until_state("bound")
        link.submit("Hello")
        await link.until(lambda: len(link.receipts) == 1)


# --- hermes smsc


@pytest.mark.parametrize("form", get_args(ReceiptForm))
async def test_29_30_a_receipt_of_every_form_says_delivered(form: ReceiptForm) -> None:
    async with centre(receipt_forms=(form,)) as smsc, linked(smsc.port, receipts_without_esm_class=True) as link:
        await link.until_state("bound")
        link.submit("Hello")
        await link.until(lambda: bool(link.receipts))
        receipt = link.receipts[0].receipt
        assert (receipt.message_ids, receipt.status, receipt.final) == (
            (link.answers[0].carrier_message_id,),
            "delivered",
            True,
        )
        await smsc.wait_for_receipts(1)


@pytest.mark.parametrize("in_receipt", [form for form in get_args(IdForm) if not form.startswith("uuid")])
@pytest.mark.parametrize("in_response", [form for form in get_args(IdForm) if not form.startswith("uuid")])
async def test_28_ids_of_every_form_are_matched_with_each_other(in_response: IdForm, in_receipt: IdForm) -> None:
    async with centre(id_in_response=in_response, id_in_receipt=in_receipt) as smsc, linked(smsc.port) as link:
        await link.until_state("bound")
        forms = IdForms()
        for _ in range(10):
            answer, receipt = await _answer(link, "+4520999999"), await _receipt(link)
            key, named = forms.key(answer.carrier_message_id), receipt.message_ids
            assert key in forms.candidates(*named)
            forms.learn(key, *named)


@pytest.mark.parametrize("concatenation", ["udh8", "udh16", "sar", "payload"])
@pytest.mark.parametrize("text", [LONG, EMOJI], ids=["gsm", "ucs2"])
async def test_36_37_long_messages_arrive_whole(text: str, concatenation: str) -> None:
    async with centre() as smsc, linked(smsc.port) as link:
        await link.until_state("bound")
        link.submit(text, concatenation=concatenation)
        (message,) = await smsc.wait_for_messages(1)
        assert message.text == text


@pytest.mark.parametrize("concatenation", ["udh8", "udh16", "sar", "payload"])
@pytest.mark.parametrize("text", ["STOP", LONG, EMOJI], ids=["short", "gsm", "ucs2"])
async def test_42_messages_from_handsets_arrive_whole(text: str, concatenation: Any) -> None:
    async with centre() as smsc, linked(smsc.port) as link:
        await link.until_state("bound")
        assert set(await smsc.inject_mo("+4520123456", "1234", text, concatenation=concatenation)) == {c.ESME_ROK}
        reassembler = Reassembler()
        whole = [each for came in link.inbound for each in reassembler.add(came.part, None, 0.0)]
        assert [each.text for each in whole] == [text]


async def test_13_15_refusals_are_told_as_they_are() -> None:
    async with centre() as smsc, linked(smsc.port) as link:
        await link.until_state("bound")
        outcomes = [(await _answer(link, f"+452099{digits}")).outcome for digits in ("0001", "0002", "0005", "0031")]
        assert outcomes == ["accepted", "refused", "throttled", "refused"]


async def test_08_09_10_what_cannot_be_read_is_answered_and_a_broken_stream_closed() -> None:
    async with centre() as smsc, linked(smsc.port) as link:
        await link.until_state("bound")
        for name in ("sm_length", "cut_parameter", "no_nul", "trailing_octets", "unknown_command", "unknown_answer"):
            smsc.inject_octets(name)
        assert (await _answer(link, "+4520999999")).outcome == "accepted"
        assert smsc.stats()["binds"][0]["bound"]
        for name in ("short_length", "huge_length"):
            await smsc.wait_for_binds(1)
            await smsc.wait_for_binds(1)
            smsc.inject_octets(name)
            await smsc.wait_until(lambda: not smsc.bound_now())
        await smsc.wait_for_binds(1)


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_18_it_is_bound_again_soon_after_the_centre_is_back(how: Any) -> None:
    async with centre() as smsc, linked(smsc.port) as link:
        await link.until_state("bound")
        await smsc.go_away(how)
        await link.until_state("down")
        await smsc.come_back()
        back = smsc.now()
        await smsc.wait_for_binds(1)
        assert smsc.now() - back < 5


async def test_21_a_half_open_connection_is_noticed_and_replaced() -> None:
    async with centre() as smsc, linked(smsc.port, enquire_link_s=0.05, enquire_timeout_s=0.05) as link:
        await link.until_state("bound")
        smsc.freeze()
        await smsc.wait_for_binds(2)  # the half-open one stands there still
        await link.until_state("bound")


async def test_a_receipt_that_was_not_acknowledged_comes_again() -> None:
    async with centre() as smsc, linked(smsc.port) as link:
        await link.until_state("bound")
        link.acknowledging = False
        link.submit("Hello")
        await link.until(lambda: len(link.receipts) == 1)
        link.acknowledging = True
        smsc.drop()
        await link.until(lambda: len(link.receipts) == 2)
        assert link.receipts[0].receipt.message_ids == link.receipts[1].receipt.message_ids
        await smsc.wait_for_receipts(1)


async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    context = client_context(made.ca)
    context.load_cert_chain(made.cert, made.key)
    files = {"tls_cert": str(made.cert), "tls_key": str(made.key), "tls_client_ca": str(made.ca)}
    async with centre(**files) as smsc, linked(smsc.port, context) as link:
        await link.until_state("bound")
        assert (await _answer(link, "+4520999999")).outcome == "accepted"


async def test_47_an_address_that_is_not_allowed_backs_off_with_an_alarm() -> None:
    async with centre(allowed_addresses=("192.0.2.1",)) as smsc, linked(smsc.port) as link:
        await link.until(lambda: any(each.alarm for each in link.states))
        assert smsc.counts["connections"] == 1
