"""Clients nobody here wrote bind to the centre, send, and read what it reports: smpplib and aiosmpplib."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosmpplib  # type: ignore[import-untyped]
import pytest
import smpplib.client  # type: ignore[import-untyped]
import smpplib.consts  # type: ignore[import-untyped]
import smpplib.exceptions  # type: ignore[import-untyped]
import smpplib.gsm  # type: ignore[import-untyped]

from carriers.smpp import constants as c
from hermes.smsc import Smsc, SmscSettings
from hermes.smsc.texts import Message
from tests.carriers.smtp_servers import make_certificates

LONG = "Hej med dig, {navn}! Prisen er 42 € og du får æbler, pærer og kål. " * 5
EMOJI = "Grüße 😀 " * 20
ACCOUNTS = {"hermes": "secret"}


def centre(**settings: Any) -> Smsc:
    return Smsc(SmscSettings(**{"accounts": ACCOUNTS, "receipt_delay_s": 0, **settings}))


# --- smpplib: it blocks, so it lives in a thread


class Smpplib:
    """A bound client: `answers` and `deliveries` hold what came."""

    def __init__(self, port: int, **options: Any) -> None:
        self.client = smpplib.client.Client("127.0.0.1", port, allow_unknown_opt_params=True, **options)
        self.answers: list[Any] = []
        self.deliveries: list[Any] = []
        self.client.set_message_sent_handler(lambda pdu: self.answers.append(pdu))
        self.client.set_message_received_handler(self._deliver)

    def _deliver(self, pdu: Any) -> int:
        self.deliveries.append(pdu)
        return 0

    def bind(self, mode: str = "transceiver", password: str = "secret") -> None:
        self.client.connect()
        getattr(self.client, f"bind_{mode}")(system_id="hermes", password=password)

    def send(self, text: str) -> None:
        parts, coding, esm_class = smpplib.gsm.make_parts(text)
        for part in parts:
            self.client.send_message(
                source_addr_ton=smpplib.consts.SMPP_TON_ALNUM,
                source_addr="Hermes",
                dest_addr_ton=smpplib.consts.SMPP_TON_INTL,
                destination_addr="4520999999",
                short_message=part,
                data_coding=coding,
                esm_class=esm_class,
                registered_delivery=True,
            )

    def read_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.client.read_once()

    def end(self) -> None:
        self.client.unbind()
        self.client.disconnect()


@pytest.mark.parametrize("text", ["hello", LONG, EMOJI], ids=["short", "long", "emoji"])
async def test_smpplib_sends_and_reads_receipts(text: str) -> None:
    parts = len(smpplib.gsm.make_parts(text)[0])

    def drive(port: int) -> Smpplib:
        client = Smpplib(port)
        client.bind()
        client.send(text)
        client.read_until(lambda: len(client.deliveries) == len(client.answers) == parts)
        client.end()
        return client

    async with centre() as smsc:
        client = await asyncio.to_thread(drive, smsc.port)
        (message,) = await smsc.wait_for_messages(1)
        assert message.text == text
        assert message.message_ids == tuple(pdu.message_id.decode() for pdu in client.answers)
        said = [pdu.short_message.decode("latin-1") for pdu in client.deliveries]
        for message_id in message.message_ids:
            assert any(f"id:{message_id} " in text and " stat:DELIVRD " in text for text in said)
        await smsc.wait_for_receipts(parts)
        assert smsc.counts["malformed"] == smsc.counts["unsupported"] == 0


async def test_smpplib_reads_receipts_by_parameter_and_messages_from_handsets() -> None:
    def drive(port: int) -> Smpplib:
        client = Smpplib(port)
        client.bind()
        client.send("hello")
        client.read_until(lambda: len(client.deliveries) == 2)
        client.end()
        return client

    async with centre(receipt_forms=("tlvs",)) as smsc:
        smsc.inject_mo("+4520123456", "1234", "STOP")
        client = await asyncio.to_thread(drive, smsc.port)
        inbound, receipt = client.deliveries
        assert (inbound.short_message, inbound.source_addr) == (b"STOP", b"4520123456")
        assert receipt.receipted_message_id == client.answers[0].message_id
        assert receipt.message_state == smpplib.consts.SMPP_MESSAGE_STATE_DELIVERED


@pytest.mark.parametrize(
    ("settings", "status"),
    [
        ({"accounts": {"hermes": "other"}}, c.ESME_RINVPASWD),
        ({"accounts": {"other": "secret"}}, c.ESME_RINVSYSID),
        ({"bind_status": "ESME_RALYBND"}, c.ESME_RALYBND),
    ],
)
async def test_smpplib_is_told_why_it_may_not_bind(settings: dict[str, Any], status: int) -> None:
    def drive(port: int) -> int:
        client = Smpplib(port)
        with pytest.raises(smpplib.exceptions.PDUError) as refused:
            client.bind()
        client.client.disconnect()
        return int(refused.value.args[1])

    async with centre(**settings) as smsc:
        assert await asyncio.to_thread(drive, smsc.port) == status


async def test_smpplib_is_told_what_is_wrong_with_a_message() -> None:
    def drive(port: int) -> int:
        client = Smpplib(port)
        client.bind("transmitter")
        failed: list[int] = []
        client.client.set_error_pdu_handler(lambda pdu: failed.append(pdu.status))
        client.send("hello")
        client.read_until(lambda: bool(failed))
        client.end()
        return failed[0]

    async with centre(error_rate=1, error_status="ESME_RINVSRCADR") as smsc:
        assert await asyncio.to_thread(drive, smsc.port) == c.ESME_RINVSRCADR


async def test_smpplib_queries_a_message_over_tls(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    context = ssl.create_default_context(cafile=made.ca)
    context.check_hostname = False  # smpplib has no way to say the name

    def drive(port: int) -> Any:
        client = Smpplib(port, ssl_context=context)
        client.bind()
        client.send("hello")
        client.read_until(lambda: bool(client.answers and client.deliveries))
        found: list[Any] = []
        client.client.set_query_resp_handler(found.append)
        client.client.query_message(message_id=client.answers[0].message_id.decode())
        client.read_until(lambda: bool(found))
        client.end()
        return found[0]

    async with centre(tls_cert=str(made.cert), tls_key=str(made.key)) as smsc:
        answer = await asyncio.to_thread(drive, smsc.port)
        assert answer.message_state == smpplib.consts.SMPP_MESSAGE_STATE_DELIVERED


# --- aiosmpplib


class Hook(aiosmpplib.AbstractHook):  # type: ignore[misc]
    """Keeps what came."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[Any] = asyncio.Queue()
        self.errors: list[Exception] = []

    async def sending(self, smpp_message: Any, pdu: bytes, client_id: str) -> None:
        pass

    async def received(self, smpp_message: Any, pdu: bytes, client_id: str) -> None:
        self.came.put_nowait(smpp_message)

    async def send_error(self, smpp_message: Any, error: Exception, client_id: str) -> None:
        self.errors.append(error)

    async def next(self, kind: type) -> Any:
        """Give the next message of a kind; drops others."""
        async with asyncio.timeout(10):
            while not isinstance(message := await self.came.get(), kind):
                pass
            return message


@asynccontextmanager
async def aiosmpplib_client(smsc: Smsc) -> AsyncIterator[tuple[aiosmpplib.ESME, Hook]]:
    hook = Hook()
    esme = aiosmpplib.ESME(
        smsc_host="127.0.0.1", smsc_port=smsc.port, system_id="hermes", password="secret", hook=hook, log_level="ERROR"
    )
    running = asyncio.create_task(esme.start())
    await smsc.wait_for_binds(1)
    try:
        yield esme, hook
    finally:
        await esme.stop()
        await running
    assert hook.errors == []


def submit(text: str, log_id: str, **fields: Any) -> aiosmpplib.SubmitSm:
    return aiosmpplib.SubmitSm(
        short_message=text,
        source=aiosmpplib.PhoneNumber("Hermes", aiosmpplib.TON.ALPHANUMERIC, aiosmpplib.NPI.UNKNOWN),
        destination=aiosmpplib.PhoneNumber("4520999999", aiosmpplib.TON.INTERNATIONAL, aiosmpplib.NPI.ISDN),
        log_id=log_id,
        **fields,
    )


async def test_aiosmpplib_matches_every_receipt_to_its_message() -> None:
    async with centre() as smsc, aiosmpplib_client(smsc) as (esme, hook):
        for n in range(5):
            await esme.broker.enqueue(submit(f"hello {n}", f"id-{n}"))
        receipts = [await hook.next(aiosmpplib.DeliverSm) for _ in range(5)]
        assert {receipt.log_id for receipt in receipts} == {f"id-{n}" for n in range(5)}
        assert {receipt.parse_receipt()["stat"] for receipt in receipts} == {"DELIVRD"}
        await smsc.wait_for_receipts(5)
        assert {message.text for message in smsc.messages} == {f"hello {n}" for n in range(5)}
        assert smsc.counts["malformed"] == smsc.counts["unsupported"] == 0


@pytest.mark.parametrize("fields", [{}, {"auto_message_payload": False, "esm_class": 0x40}], ids=["payload", "udh"])
@pytest.mark.parametrize("text", [LONG, EMOJI], ids=["gsm", "ucs2"])
async def test_aiosmpplib_sends_long_messages(fields: dict[str, Any], text: str) -> None:
    async with centre() as smsc, aiosmpplib_client(smsc) as (esme, hook):
        await esme.broker.enqueue(submit(text, "long", **fields))
        messages: list[Message] = await smsc.wait_for_messages(1)
        assert messages[0].text == text
        receipt = await hook.next(aiosmpplib.DeliverSm)
        assert (receipt.log_id, receipt.parse_receipt()["stat"]) == ("long", "DELIVRD")


async def test_aiosmpplib_is_told_that_it_is_throttled() -> None:
    async with centre(tps=1) as smsc, aiosmpplib_client(smsc) as (esme, hook):
        for n in range(2):
            await esme.broker.enqueue(submit("hello", f"id-{n}"))
        answers = [await hook.next(aiosmpplib.SubmitSmResp) for _ in range(2)]
        assert [answer.command_status.name for answer in answers] == ["ESME_ROK", "ESME_RTHROTTLED"]


@pytest.mark.parametrize("concatenation", ["udh8", "sar"])
async def test_aiosmpplib_reads_long_messages_from_handsets(concatenation: Any) -> None:
    async with centre() as smsc, aiosmpplib_client(smsc) as (_, hook):
        sent = smsc.inject_mo("+4520123456", "1234", LONG, concatenation=concatenation)
        read = await hook.next(aiosmpplib.DeliverSm)
        assert (read.short_message, read.source.number) == (LONG, "4520123456")
        assert set(await sent) == {c.ESME_ROK}
