"""SMPP carriers over the real tree, against npm's `smpp`: a message centre nobody here wrote."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from actors.context import CarrierPlan
from carriers.registry import make_carrier
from carriers.smpp.segmentation import segment
from hermes.domain.inbound import NumberOwner
from hermes.domain.message import Content
from hermes.journal.base import StoredMessage
from hermes.runtime import SystemClock
from tests.actors.cast import CastNode, message, start_cast
from tests.carriers.smpp_servers import PASSWORD, SYSTEM_ID, NpmSmsc, needs_npm_smpp, npm_smsc
from tests.carriers.smtp_servers import make_certificates

pytestmark = needs_npm_smpp

TEXTS = {
    "short": "Hello",
    "long": "Hej med dig! Prisen er 42 € og du får æbler, pærer og kål {nu}. " * 5,
    "emoji": "Grüße 😀 " * 20,
}


@asynccontextmanager
async def bound_to(smsc: NpmSmsc, **options: Any) -> AsyncIterator[CastNode]:
    """A node whose only carrier is the centre, and whose tenant owns 1234 there."""
    account = {"system_id": SYSTEM_ID, "password": PASSWORD, "from": "Hermes"}
    settings = {"host": "127.0.0.1", "port": smsc.port, **account, **options}
    carrier = make_carrier("smpp", "npm", "sms", settings, clock=SystemClock())
    node = await start_cast([CarrierPlan(carrier)])
    node.context.numbers = (NumberOwner("1234", node.tenant),)
    try:
        yield node
    finally:
        await node.stop()


async def delivered(node: CastNode, text: str) -> StoredMessage:
    parts = len(segment(text, 0).parts)
    sent = message(node.tenant, "sms", to={"phone": "+4520123456"}, content=Content(text=text), segments=parts)
    await node.submit(sent)
    stored = await node.final(sent.message_id)
    assert stored.status == "delivered"
    return stored


@pytest.mark.parametrize("concatenation", ["udh8", "udh16", "sar", "payload"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=list(TEXTS))
async def test_a_message_goes_out_and_its_receipts_end_it(text: str, concatenation: str) -> None:
    async with npm_smsc() as smsc, bound_to(smsc, concatenation=concatenation) as node:
        stored = await delivered(node, text)
        ids = stored.events[1].data["carrier_message_ids"]
        taken = [await smsc.next("submit") for _ in ids]
        assert [each["submit"] for each in taken] == ids
        assert "".join(each["text"] for each in taken) == text
        assert {(each["source_addr"], each["destination_addr"]) for each in taken} == {("Hermes", "4520123456")}
        assert [(await smsc.next("answer"))["status"] for _ in ids] == [0] * len(ids)


@pytest.mark.parametrize("text", ["STOP it", "Æblegrød 😀"])
async def test_a_message_from_a_handset_is_stored_and_acknowledged(text: str) -> None:
    async with npm_smsc() as smsc, bound_to(smsc) as node:
        await smsc.next("bind")
        fields = {"source_addr": "4520111111", "source_addr_ton": 1, "destination_addr": "1234", "short_message": text}
        smsc.order(inbound=fields)
        assert (await smsc.next("answer"))["status"] == 0
        (stored,) = [record.inbound for record in await node.journal.inbound(node.tenant, 100)]
        assert (stored.sender, stored.recipient, stored.text) == ("+4520111111", "1234", text)


@pytest.mark.parametrize("order", ["unbind", "drop"])
async def test_a_centre_that_ends_the_bind_gets_the_next_messages(order: str) -> None:
    async with npm_smsc() as smsc, bound_to(smsc) as node:
        await delivered(node, "before")
        smsc.order(**{order: True})
        await smsc.next("closed")
        await delivered(node, "after")
        assert [(await smsc.next("submit"))["text"] for _ in "12"] == ["before", "after"]


async def test_both_sides_ask_for_signs_of_life_over_tls(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    tls = {"tls": True, "ca_file": str(made.ca), "server_name": "localhost", "enquire_link_s": 0.1}
    async with npm_smsc(made) as smsc, bound_to(smsc, **tls) as node:
        await smsc.next("enquire_link")
        smsc.order(enquire_link=True)
        assert (await smsc.next("alive"))["alive"] == 0
        await delivered(node, "Hello")


async def test_a_node_that_stops_logs_out() -> None:
    async with npm_smsc() as smsc:
        async with bound_to(smsc) as node:
            await delivered(node, "Hello")
        await smsc.next("unbind")


async def test_a_wrong_password_is_told_in_the_tree() -> None:
    async with npm_smsc() as smsc, bound_to(smsc, password="wrong") as node:
        await smsc.next("bind")

        def reason() -> str:
            return str(node.system.info("smpp/npm/dispatcher").detail["reason"])

        await node.until(lambda: "ESME_RINVPASWD" in reason())
