"""The simulated centre on a real socket: binds, messages, receipts, and everything it does wrong on demand."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from carriers.smpp import constants as c
from carriers.smpp.inbound import InboundMessage, Reassembler, read_part
from carriers.smpp.pdu import (
    AlertNotification,
    BindReceiver,
    BindTransceiver,
    CancelSm,
    DataSm,
    DataSmResp,
    DeliverSm,
    DeliverSmResp,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    Outbind,
    Pdu,
    QuerySm,
    QuerySmResp,
    ReplaceSm,
    SubmitSmResp,
    Unbind,
    UnbindResp,
)
from carriers.smpp.receipts import kind_of, read_receipt
from hermes.errors import SettingsError
from hermes.smsc import Smsc, SmscSettings
from hermes.smsc.outcomes import MAGIC
from tests.carriers.smtp_servers import make_certificates
from tests.hermes.smsc.peer import Esme, bind, connect, submit_sm

ACCOUNTS = {"hermes": "secret"}


@asynccontextmanager
async def centre(**settings: Any) -> AsyncIterator[Smsc]:
    async with Smsc(SmscSettings(**{"accounts": ACCOUNTS, "receipt_delay_s": 0, **settings})) as smsc:
        yield smsc


async def bind_status(smsc: Smsc, system_id: str = "hermes", password: str = "secret") -> int:
    esme = await connect(smsc)
    answer = await esme.request(BindTransceiver(system_id=system_id, password=password))
    await esme.ended()
    return answer.command_status


# --- binds


@pytest.mark.parametrize("mode", ["transceiver", "transmitter", "receiver"])
async def test_an_account_binds_in_every_mode_and_unbinds(mode: str) -> None:
    async with centre() as smsc:
        esme = await bind(smsc, mode)
        (made,) = await smsc.wait_for_binds(1)
        assert (made.n, made.system_id, made.mode) == (1, "hermes", mode)
        assert isinstance(await esme.request(Unbind()), UnbindResp)
        await esme.ended()
        await smsc.wait_until(lambda: not smsc.bound_now())


async def test_a_bind_is_judged_by_its_account() -> None:
    async with centre() as smsc:
        assert await bind_status(smsc, password="wrong") == c.ESME_RINVPASWD
        assert await bind_status(smsc, system_id="nobody") == c.ESME_RINVSYSID
        smsc.configure(bind_status="ESME_RBINDFAIL")
        assert await bind_status(smsc) == c.ESME_RBINDFAIL
        assert not smsc.bound_now()
        assert smsc.stats()["bind_statuses"] == {"ESME_RBINDFAIL": 1, "ESME_RINVPASWD": 1, "ESME_RINVSYSID": 1}


async def test_without_accounts_anybody_binds() -> None:
    async with Smsc() as smsc:
        await bind(smsc, system_id="anybody", password="")


async def test_one_bind_too_many_is_already_bound_until_one_ends() -> None:
    async with centre(max_binds=1) as smsc:
        first = await bind(smsc)
        assert await bind_status(smsc) == c.ESME_RALYBND
        first.close()
        await smsc.wait_until(lambda: not smsc.bound_now())
        await bind(smsc)


async def test_a_second_bind_on_one_connection_is_already_bound() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        answer = await esme.request(BindReceiver(system_id="hermes", password="secret"))
        assert answer.command_status == c.ESME_RALYBND
        assert await esme.submit()


async def test_an_address_that_is_not_allowed_is_closed_right_after_accept() -> None:
    async with centre(allowed_addresses=("127.0.0.2",)) as smsc:
        await (await connect(smsc)).ended()
        assert smsc.counts["refused_connections"] == 1
        allowed = await connect(smsc, local="127.0.0.2")
        answer = await allowed.request(BindTransceiver(system_id="hermes", password="secret"))
        assert answer.command_status == c.ESME_ROK


async def test_nothing_but_a_bind_is_taken_before_the_bind() -> None:
    async with centre() as smsc:
        esme = await connect(smsc)
        assert (await esme.submit()).command_status == c.ESME_RINVBNDSTS
        assert (await esme.request(QuerySm(message_id="1"))).command_status == c.ESME_RINVBNDSTS
        assert smsc.submitted == 0


async def test_a_receiver_sends_nothing() -> None:
    async with centre() as smsc:
        esme = await bind(smsc, "receiver")
        assert (await esme.submit()).command_status == c.ESME_RINVBNDSTS


async def test_an_enquire_link_is_answered_bound_or_not() -> None:
    async with centre() as smsc:
        assert isinstance(await (await connect(smsc)).request(EnquireLink()), EnquireLinkResp)
        assert isinstance(await (await bind(smsc)).request(EnquireLink()), EnquireLinkResp)


async def test_a_silent_esme_is_asked_and_closed_if_it_does_not_answer() -> None:
    async with centre(enquire_link_s=0.05) as smsc:
        esme = await bind(smsc)
        asked: Pdu = await esme.read(EnquireLink)
        esme.writer.write(EnquireLinkResp(0, asked.sequence_number).encode())
        await esme.read(EnquireLink)
        await esme.ended()
        assert smsc.counts["dead"] == 1


async def test_an_inactive_bind_is_closed() -> None:
    async with centre(inactivity_s=0.05) as smsc:
        await (await bind(smsc)).ended()
        assert smsc.counts["inactive"] == 1


async def test_a_connection_without_a_bind_is_closed() -> None:
    async with centre(bind_timeout_s=0.05) as smsc:
        await (await connect(smsc)).ended()


async def test_the_centre_asks_to_unbind_and_closes_on_the_answer() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        assert smsc.unbind() == 1
        asked: Pdu = await esme.read(Unbind)
        assert (await esme.submit()).command_status == c.ESME_RINVBNDSTS
        esme.writer.write(UnbindResp(0, asked.sequence_number).encode())
        await esme.ended()


# --- messages


async def test_a_message_is_taken_and_reported_delivered() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        answer = await esme.submit(short_message=b"Caf\x05")
        receipt = await esme.receipt()
        assert kind_of(receipt) == "receipt"
        said = read_receipt(receipt)
        assert (said.message_ids, said.state, said.error_code) == ((answer.message_id,), "DELIVRD", "000")
        assert (receipt.source_addr, receipt.destination_addr) == ("4520999999", "Hermes")
        await smsc.wait_for_receipts(1)
        (message,) = await smsc.wait_for_messages(1)
        assert (message.text, message.destination, message.message_ids) == ("Café", "4520999999", (answer.message_id,))
        assert smsc.submits[0].state == "DELIVRD"


async def test_no_receipt_comes_unless_it_is_asked_for() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        await esme.submit(registered_delivery=0)
        await esme.submit(registered_delivery=2)  # only of failures
        await esme.submit("4520990003", registered_delivery=2)
        assert read_receipt(await esme.receipt()).state == "UNDELIV"
        assert smsc.deliveries["receipt"]["sent"] == 1


@pytest.mark.parametrize(
    ("in_response", "in_receipt", "first", "response", "receipt"),
    [
        ("dec", "dec", 255, "255", "255"),
        ("hex", "dec", 255, "ff", "255"),
        ("dec", "hex_upper", 255, "255", "FF"),
        ("hex_padded", "hex", 255, "00000000000000ff", "ff"),
        ("dec_padded", "dec", 255, "00000000000000000255", "255"),
    ],
)
async def test_an_id_is_written_one_way_in_the_answer_and_another_in_the_receipt(
    in_response: str, in_receipt: str, first: int, response: str, receipt: str
) -> None:
    async with centre(id_in_response=in_response, id_in_receipt=in_receipt, first_id=first) as smsc:
        esme = await bind(smsc)
        assert (await esme.submit()).message_id == response
        assert read_receipt(await esme.receipt()).message_ids == (receipt,)


async def test_a_uuid_changes_case_only() -> None:
    async with centre(id_in_response="uuid", id_in_receipt="uuid_upper") as smsc:
        esme = await bind(smsc)
        ids = [(await esme.submit()).message_id for _ in range(3)]
        assert len(set(ids)) == 3
        assert [read_receipt(await esme.receipt()).message_ids for _ in ids] == [(each.upper(),) for each in ids]


UDH = b"\x05\x00\x03\x07\x02"


@pytest.mark.parametrize(
    "parts",
    [
        [
            {"esm_class": 0x40, "short_message": UDH + b"\x01hello "},
            {"esm_class": 0x40, "short_message": UDH + b"\x02world"},
        ],
        [
            {"esm_class": 0x40, "short_message": b"\x06\x08\x04\x12\x34\x02\x02world"},
            {"esm_class": 0x40, "short_message": b"\x06\x08\x04\x12\x34\x02\x01hello "},
        ],
        [
            {"short_message": b"hello ", "tlvs": ((0x020C, b"\0\7"), (0x020E, b"\2"), (0x020F, b"\1"))},
            {"short_message": b"world", "tlvs": ((0x020C, b"\0\7"), (0x020E, b"\2"), (0x020F, b"\2"))},
        ],
        [{"short_message": b"", "tlvs": ((0x0424, b"hello world"),)}],
    ],
    ids=["udh8", "udh16 out of order", "sar", "payload"],
)
async def test_the_parts_of_a_message_are_put_together(parts: list[dict[str, Any]]) -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        for part in parts:
            await esme.submit(**part)
        (message,) = await smsc.wait_for_messages(1)
        assert message.text == "hello world"
        assert len(message.message_ids) == len(parts) == smsc.submitted


async def test_a_data_sm_is_a_message_too() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        answer = await esme.request(
            DataSm(destination_addr="4520999999", registered_delivery=1, tlvs=((c.MESSAGE_PAYLOAD, b"hello"),))
        )
        assert isinstance(answer, DataSmResp)
        assert read_receipt(await esme.receipt()).message_ids == (answer.message_id,)
        assert (await smsc.wait_for_messages(1))[0].text == "hello"


async def test_a_message_is_queried_and_cancelled_while_it_is_under_way() -> None:
    async with centre(receipt_delay_s=60) as smsc:
        esme = await bind(smsc)
        message_id = (await esme.submit()).message_id

        async def state() -> int:
            answer = await esme.request(QuerySm(message_id=message_id))
            assert isinstance(answer, QuerySmResp)
            return answer.message_state

        async def cancel() -> int:
            return (await esme.request(CancelSm(message_id=message_id))).command_status

        assert await state() == 1  # ENROUTE
        assert await cancel() == c.ESME_ROK
        assert read_receipt(await esme.receipt()).state == "DELETED"
        assert await state() == 4
        assert await cancel() == c.ESME_RCANCELFAIL
        assert (await esme.request(QuerySm(message_id="x"))).command_status == c.ESME_RQUERYFAIL


async def test_one_account_does_not_see_anothers_messages() -> None:
    async with centre(accounts={"hermes": "secret", "other": "secret"}) as smsc:
        message_id = (await (await bind(smsc)).submit()).message_id
        other = await bind(smsc, system_id="other")
        assert (await other.request(QuerySm(message_id=message_id))).command_status == c.ESME_RQUERYFAIL


async def test_what_it_does_not_know_is_refused_and_the_link_stays() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        assert (await esme.request(ReplaceSm(message_id="1"))).command_status == c.ESME_RREPLACEFAIL
        submit_multi = b"\0\0\0\x10\0\0\0\x21\0\0\0\0\0\0\0\x63"
        esme.writer.write(submit_multi)
        nack: Pdu = await esme.read(GenericNack)
        assert (nack.command_status, nack.sequence_number) == (c.ESME_RINVCMDID, 0x63)
        assert await esme.submit()


async def test_only_the_newest_is_remembered() -> None:
    async with centre(keep=3, receipts="never") as smsc:
        esme = await bind(smsc)
        ids = [(await esme.submit()).message_id for _ in range(5)]
        assert [submit.message_id for submit in smsc.submits] == ids[2:]
        assert (smsc.submitted, smsc.taken, len(smsc.messages)) == (5, 5, 3)
        assert (await esme.request(QuerySm(message_id=ids[0]))).command_status == c.ESME_RQUERYFAIL


# --- receipts


async def test_receipts_come_before_their_answers_when_asked() -> None:
    async with centre(early_receipt_rate=1) as smsc:
        esme = await bind(smsc)
        esme.write(submit_sm())
        await esme.read(SubmitSmResp, command_status=0)
        assert isinstance(esme.came[0], DeliverSm) or not esme.came  # it was read before the answer
        receipt = await esme.receipt()
        assert read_receipt(receipt).message_ids == (smsc.submits[0].receipt_id,)


async def test_receipts_come_twice_and_intermediate_ones_first_when_asked() -> None:
    async with centre(duplicate_receipt_rate=1, intermediate_rate=1) as smsc:
        esme = await bind(smsc)
        await esme.submit()
        kinds = [(kind_of(receipt), read_receipt(receipt).state) for receipt in [await esme.receipt() for _ in "123"]]
        assert kinds == [("intermediate", "ENROUTE"), ("receipt", "DELIVRD"), ("receipt", "DELIVRD")]


async def test_an_intermediate_receipt_can_be_asked_for_by_the_message() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        await esme.submit(registered_delivery=0x11)
        assert [kind_of(await esme.receipt()) for _ in "12"] == ["intermediate", "receipt"]


async def test_a_share_is_undelivered_when_asked() -> None:
    async with centre(delivered_rate=0, undelivered_err=14) as smsc:
        esme = await bind(smsc)
        await esme.submit()
        said = read_receipt(await esme.receipt())
        assert (said.state, said.error_code) == ("UNDELIV", "014")


async def test_receipts_wait_for_a_bind_that_receives() -> None:
    async with centre() as smsc:
        sender = await bind(smsc, "transmitter")
        ids = [(await sender.submit()).message_id for _ in range(3)]
        await smsc.wait_until(lambda: smsc.stats()["waiting"] == {"hermes": 3})
        receiver = await bind(smsc, "receiver")
        assert [read_receipt(await receiver.receipt()).message_ids for _ in ids] == [(each,) for each in ids]


async def test_receipts_come_on_other_binds_when_asked() -> None:
    async with centre(receipt_bind="any") as smsc:
        first, second = await bind(smsc), await bind(smsc)
        for _ in range(2):
            await first.submit()
        await first.receipt()
        await second.receipt()


async def test_an_unacknowledged_receipt_comes_again_on_the_next_bind() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        message_id = (await esme.submit()).message_id
        await esme.read(DeliverSm)
        esme.close()
        again = await bind(smsc)
        assert read_receipt(await again.receipt()).message_ids == (message_id,)
        await smsc.wait_for_receipts(1)


async def test_an_unanswered_receipt_comes_again_in_time() -> None:
    async with centre(deliver_timeout_s=0.05) as smsc:
        esme = await bind(smsc)
        await esme.submit()
        first: DeliverSm = await esme.read(DeliverSm)
        again = await esme.receipt()
        assert first.short_message == again.short_message
        assert first.sequence_number != again.sequence_number


@pytest.mark.parametrize("status", [c.ESME_RMSGQFUL, c.ESME_RTHROTTLED, c.ESME_RX_T_APPN])
async def test_a_receipt_refused_for_now_comes_again(status: int) -> None:
    async with centre(deliver_retry_s=0.01) as smsc:
        esme = await bind(smsc)
        await esme.submit()
        await esme.receipt(status)
        await esme.receipt()
        await smsc.wait_for_receipts(1)


async def test_a_receipt_refused_for_good_does_not_come_again() -> None:
    async with centre(deliver_retry_s=0) as smsc:
        esme = await bind(smsc)
        await esme.submit()
        await esme.receipt(c.ESME_RX_R_APPN)
        await smsc.wait_until(lambda: smsc.deliveries["receipt"]["refused"] == 1)
        assert smsc.deliveries["receipt"]["again"] == 0


async def test_no_more_deliveries_than_the_window_are_unanswered() -> None:
    async with centre(deliver_window=2) as smsc:
        esme = await bind(smsc)
        for _ in range(5):
            await esme.submit()
        await smsc.wait_until(lambda: smsc.stats()["waiting"] == {"hermes": 3})
        for _ in range(5):
            await esme.receipt()
        await smsc.wait_for_receipts(5)


# --- refusals, delay, loss


async def test_what_is_over_the_rate_is_throttled() -> None:
    async with centre(tps=1, tps_burst_s=3) as smsc:
        esme = await bind(smsc)
        statuses = [(await esme.submit()).command_status for _ in range(5)]
        assert statuses == [c.ESME_ROK] * 3 + [c.ESME_RTHROTTLED] * 2
        smsc.configure(tps_status="ESME_RMSGQFUL")
        assert (await esme.submit()).command_status == c.ESME_RMSGQFUL
        smsc.configure(tps=0)
        assert (await esme.submit()).command_status == c.ESME_ROK


async def test_errors_come_by_chance_and_by_destination() -> None:
    async with centre(statuses={"77": "0x400"}, error_rate=0.5, seed=7) as smsc:
        esme = await bind(smsc)
        assert (await esme.submit("4520999977")).command_status == 0x400
        statuses = [(await esme.submit()).command_status for _ in range(50)]
        assert set(statuses) == {c.ESME_ROK, c.ESME_RSYSERR}
        assert smsc.taken == statuses.count(c.ESME_ROK)


async def test_an_answer_is_delayed() -> None:
    async with centre(response_delay_s=0.05) as smsc:
        esme = await bind(smsc)
        await esme.submit()
        assert smsc.now() - smsc.submits[0].at >= 0.05


async def test_an_answer_is_lost_but_not_the_message() -> None:
    async with centre(lost_answer_rate=1) as smsc:
        esme = await bind(smsc)
        esme.write(submit_sm())
        assert read_receipt(await esme.receipt()).message_ids == (smsc.submits[0].receipt_id,)
        assert not esme.came


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_every_so_many_messages_the_connection_ends_instead_of_the_answer(how: str) -> None:
    async with centre(drop_every=3, drop_how=how) as smsc:
        esme = await bind(smsc)
        await esme.submit()
        await esme.submit()
        esme.write(submit_sm())
        if how == "reset":
            with pytest.raises(ConnectionResetError):
                while await esme.reader.read(65_536):
                    pass
        else:
            await esme.ended()
        assert smsc.taken == 3
        again = await bind(smsc)
        ids = {read_receipt(await again.receipt()).message_ids[0] for _ in range(smsc.taken)}
        assert ids == {submit.receipt_id for submit in smsc.submits}


async def test_a_half_open_connection_says_nothing_until_it_is_thawed() -> None:
    async with centre(max_binds=1) as smsc:
        esme = await bind(smsc)
        assert smsc.freeze() == 1
        esme.write(EnquireLink())
        assert await bind_status(smsc) == c.ESME_RALYBND  # the old session still lives there
        assert not esme.came
        assert smsc.thaw() == 1
        await esme.read(EnquireLinkResp)


async def test_the_end_of_a_half_open_connection_goes_unnoticed_until_it_is_thawed() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        smsc.freeze()
        esme.close()
        another = await bind(smsc)
        assert len(smsc.bound_now()) == 2
        smsc.thaw()
        await smsc.wait_until(lambda: len(smsc.bound_now()) == 1)
        another.close()


async def test_a_centre_that_is_gone_refuses_and_comes_back_on_its_port() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        port = smsc.port
        message_id = (await esme.submit("4520990006")).message_id
        await smsc.go_away()
        await esme.ended()
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                await connect(smsc)
        await smsc.come_back()
        assert smsc.port == port
        smsc.configure(magic=False)
        await (await bind(smsc)).submit()
        assert smsc.submits[0].message_id == message_id


# --- what it sends on its own


@pytest.mark.parametrize("concatenation", ["udh8", "udh16", "sar", "payload"])
@pytest.mark.parametrize("text", ["hello", "a" * 161, "Hej 😀" * 40])
async def test_a_message_from_a_handset_comes_in_parts(concatenation: Any, text: str) -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        done = smsc.inject_mo("+4520123456", "1234", text, concatenation=concatenation)
        reassembler = Reassembler()
        whole: list[InboundMessage] = []
        while not whole:
            whole = reassembler.add(read_part(await esme.receipt()), None, 0.0)
        assert (whole[0].sender, whole[0].recipient, whole[0].text) == ("+4520123456", "1234", text)
        assert set(await done) == {c.ESME_ROK}
        if concatenation == "payload":
            assert smsc.deliveries["inbound"]["sent"] == 1


async def test_messages_from_handsets_come_in_any_coding_and_order() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        smsc.inject_mo("4520123456", "1234", "Åse", data_coding=3)
        latin = await esme.receipt()
        assert (latin.data_coding, latin.short_message) == (3, "Åse".encode("latin-1"))
        smsc.inject_mo("Brand", "1234", b"\0\1")
        binary = await esme.receipt()
        assert (binary.data_coding, binary.short_message, binary.source_addr_ton) == (4, b"\0\1", 5)
        smsc.inject_mo("4520123456", "1234", "a" * 400, order=[3, 1])
        assert [(await esme.receipt()).short_message[5] for _ in "12"] == [3, 1]


async def test_an_alert_and_octets_are_sent_as_they_are() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        smsc.alert("+4520123456", "hermes")
        alert: AlertNotification = await esme.read(AlertNotification)
        assert alert.source_addr == "4520123456"
        smsc.inject_octets("huge_length")
        async with asyncio.timeout(5):
            assert await esme.reader.readexactly(4) == b"\x7f\xff\xff\xff"
        with pytest.raises(SettingsError, match="unknown_command"):
            smsc.inject_octets("nonsense")


async def test_an_outbind_asks_an_esme_to_bind_as_a_receiver() -> None:
    came: asyncio.Future[Esme] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda r, w: came.set_result(Esme(r, w)), "127.0.0.1", 0)
    async with centre() as smsc, server:
        await smsc.outbind("127.0.0.1", server.sockets[0].getsockname()[1], "secret")
        esme = await came
        asked: Outbind = await esme.read(Outbind)
        assert (asked.system_id, asked.password) == ("hermes-smsc", "secret")
        answer = await esme.request(BindReceiver(system_id="hermes", password="secret"))
        assert answer.command_status == c.ESME_ROK
        smsc.inject_mo("4520123456", "1234", "hello")
        assert (await esme.receipt()).short_message == b"hello"
        esme.writer.close()  # a server of Python 3.12 and newer ends after its connections


async def test_an_esme_that_answers_nonsense_loses_nothing() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        esme.writer.write(DeliverSmResp(0, 99).encode())
        await smsc.wait_until(lambda: smsc.counts["unknown_answers"] == 1)
        assert await esme.submit()


async def test_a_wrong_length_ends_the_connection() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        esme.writer.write(b"\0\0\0\x01\0\0\0\0")
        nack: Pdu = await esme.read(GenericNack)
        assert nack.command_status == c.ESME_RINVCMDLEN
        await esme.ended()


# --- magic numbers


async def test_each_refusal_has_its_number() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        for digits, magic in MAGIC.items():
            if magic.outcome.status and magic.outcome.answer == "resp":
                answer = await esme.submit(f"452099{digits}")
                assert answer.command_status == magic.outcome.status, digits
                if magic.tries:
                    later = [(await esme.submit(f"452099{digits}")).command_status for _ in range(magic.tries)]
                    assert later[-1] == c.ESME_ROK


async def test_each_final_state_has_its_number() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        states = {"0001": "DELIVRD", "0003": "UNDELIV", "0008": "REJECTD", "0010": "EXPIRED", "0011": "DELETED"}
        for digits, state in {**states, "0012": "UNKNOWN"}.items():
            await esme.submit(f"452099{digits}")
            assert read_receipt(await esme.receipt()).state == state


async def test_an_unreadable_pdu_before_the_receipt_has_its_number() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        esme.write(submit_sm("4520990017"))
        with pytest.raises(Exception, match="sm_length"):
            while True:
                await esme.read(DeliverSm)


async def test_a_generic_nack_has_its_number() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        sequence = esme.write(submit_sm("4520990031"))
        nack: Pdu = await esme.read(GenericNack)
        assert (nack.sequence_number, nack.command_status) == (sequence, c.ESME_RINVCMDLEN)


@pytest.mark.parametrize("digits", ["0022", "0023", "0024", "0025"])
async def test_a_connection_ends_once_by_number_and_the_next_try_is_delivered(digits: str) -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        esme.write(submit_sm(f"452099{digits}"))
        await smsc.wait_for_messages(1)
        if digits == "0025":
            await esme.read(Unbind)
        elif digits != "0024":
            await esme.ended()
        again = await bind(smsc)
        assert (await again.submit(f"452099{digits}")).command_status == c.ESME_ROK


async def test_magic_can_be_turned_off() -> None:
    async with centre(magic=False) as smsc:
        assert (await (await bind(smsc)).submit("4520990002")).command_status == c.ESME_ROK


# --- TLS


async def test_tls_is_spoken_and_a_client_without_a_certificate_is_refused(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    files = {"tls_cert": str(made.cert), "tls_key": str(made.key), "tls_client_ca": str(made.ca)}
    context = ssl.create_default_context(cafile=made.ca)
    async with centre(**files) as smsc:
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            esme = await connect(smsc, tls=context)
            await esme.request(EnquireLink())
        context.load_cert_chain(made.cert, made.key)
        esme = await bind(smsc, tls=context)
        answer = await esme.submit()
        assert read_receipt(await esme.receipt()).message_ids == (answer.message_id,)
        await smsc.go_away()
        await esme.ended()


async def test_a_handshake_that_ends_after_the_centre_has_gone_gets_no_bind(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    context = ssl.create_default_context(cafile=made.ca)
    async with centre(tls_cert=str(made.cert), tls_key=str(made.key)) as smsc:
        reader, writer = await asyncio.open_connection("127.0.0.1", smsc.port)
        await (await connect(smsc, tls=context)).request(EnquireLink())  # so the one before was accepted too
        await smsc.go_away()
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            await writer.start_tls(context, server_hostname="localhost")
            await Esme(reader, writer).request(EnquireLink())
        writer.close()
        assert not smsc.stats()["connections"]


# --- settings


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"error_rate": 1.5}, "error_rate"),
        ({"nonsense": 1}, "nonsense"),
        ({"tps_status": "ESME_NONSENSE"}, "ESME_NONSENSE"),
        ({"id_in_response": "uuid"}, "id_in_receipt"),
        ({"receipt_forms": ["nonsense"]}, "receipt_forms"),
        ({"port": 1}, "port"),
        ({"accounts": {"hermes": "longer than eight"}}, "accounts"),
    ],
)
async def test_a_wrong_setting_is_refused_by_name_and_changes_nothing(changes: dict[str, Any], names: str) -> None:
    async with centre() as smsc:
        before = smsc.settings
        with pytest.raises(SettingsError, match=names):
            smsc.configure(**changes)
        assert smsc.settings == before


async def test_waiting_in_vain_says_what_there_was() -> None:
    async with centre() as smsc:
        esme = await bind(smsc)
        with pytest.raises(TimeoutError, match="1 binds, 0 submits"):
            await smsc.wait_for_messages(1, timeout_s=0.01)
        esme.close()
