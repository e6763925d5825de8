"""SMPP carriers over the real tree, against the simulated centre (`hermes.smsc`). Numbers are docs/smpp.md's."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from actors.context import CarrierPlan
from actors.smpp_connection import ConnectionActor
from carriers.registry import make_carrier
from carriers.smpp.pdu import DeliverSm
from carriers.smpp.segmentation import segment
from hermes.domain.commands import CancelMessage, ControlCarrier
from hermes.domain.inbound import Inbound, NumberOwner
from hermes.domain.message import Content
from hermes.journal.base import StoredMessage
from hermes.runtime import SystemClock
from hermes.smsc import Smsc, SmscSettings
from tests.actors.cast import CastNode, message, mock, start_cast
from tests.carriers.smtp_servers import make_certificates

FAST = {"receipt_delay_s": 0.01, "magic": False}
LONG = "Hermes walks a cascade over channels until one has delivered it. " * 5  # 3 parts


def smpp(smsc: Smsc, name: str = "tele", **options: Any) -> CarrierPlan:
    """An SMPP carrier bound to the centre; options of SmppSettings and of the plan."""
    plan = {key: options.pop(key) for key in ("throughput_per_s", "on_ambiguous", "queue_limit") if key in options}
    settings = {"host": "127.0.0.1", "port": smsc.port, "system_id": "hermes", "password": "secret", "from": "Hermes"}
    if "hosts" in options:
        del settings["host"], settings["port"]
    carrier = make_carrier("smpp", name, "sms", settings | options, clock=SystemClock(), cost=0.01)
    return CarrierPlan(carrier, **plan)


@asynccontextmanager
async def centre(**settings: Any) -> AsyncIterator[Smsc]:
    async with Smsc(SmscSettings(**{"accounts": {"hermes": "secret"}, **FAST, **settings})) as smsc:
        yield smsc


@asynccontextmanager
async def node_of(*plans: CarrierPlan, **settings: Any) -> AsyncIterator[CastNode]:
    node = await start_cast(plans, **settings)
    try:
        yield node
    finally:
        await node.stop()


def sms(node: CastNode, n: int = 1, text: str = "Hi", **fields: Any) -> Any:
    parts = len(segment(text, 0).parts)
    content = Content(text=text)
    to = {"phone": f"+45201{n:05d}"}
    return message(node.tenant, "sms", to=to, content=content, segments=parts, **fields)


async def send(node: CastNode, count: int, start: int = 0, **fields: Any) -> list[str]:
    messages = [sms(node, start + n, **fields) for n in range(count)]
    await asyncio.gather(*(node.submit(m) for m in messages))
    return [m.message_id for m in messages]


async def ends(node: CastNode, ids: list[str], timeout_s: float = 30.0) -> list[StoredMessage]:
    return [await node.final(id_, timeout_s) for id_ in ids]


def view(node: CastNode, name: str = "tele") -> dict[str, Any]:
    return node.system.info(f"smpp/{name}/dispatcher").detail


async def test_a_message_goes_out_over_a_bind_and_its_receipt_ends_it() -> None:
    async with centre() as smsc, node_of(smpp(smsc)) as node:
        (id_,) = await send(node, 1)
        (stored,) = await ends(node, [id_])
        assert stored.status == "delivered"
        (sent,) = smsc.messages
        assert (sent.text, sent.source, sent.destination) == ("Hi", "Hermes", "4520100000")
        assert sent.submits[0].pdu.registered_delivery == 1
        submitted = stored.events[1].data
        assert submitted["carrier_message_ids"] == list(sent.message_ids) and submitted["cost"] == 0.01


async def test_14_all_parts_go_by_one_bind_in_order_and_all_must_be_delivered() -> None:
    async with centre() as smsc, node_of(smpp(smsc, binds=3, window_size=2)) as node:
        ids = await send(node, 10, text=LONG)
        stored = await ends(node, ids)
        assert {s.status for s in stored} == {"delivered"}
        assert len(smsc.messages) == 10
        for sent in smsc.messages:
            assert sent.complete and sent.text == LONG
            assert len({submit.bind for submit in sent.submits}) == 1
            assert [submit.n for submit in sent.submits] == sorted(submit.n for submit in sent.submits)
        for each in stored:
            assert len(each.events[1].data["carrier_message_ids"]) == 3
            assert each.events[1].data["cost"] == 0.03


async def test_2_the_window_is_never_exceeded() -> None:
    async with centre(response_delay_s=0.02) as smsc, node_of(smpp(smsc, window_size=4)) as node:
        ids = await send(node, 60)
        most = 0

        def all_final() -> bool:
            nonlocal most
            most = max(most, view(node)["in_flight"])
            return smsc.taken == 60

        await node.until(all_final)
        await ends(node, ids)
        assert most == 4


async def test_3_a_connection_that_drops_leaves_no_more_in_doubt_than_its_window() -> None:
    plan = partial(smpp, window_size=4, on_ambiguous="never")
    async with centre(response_delay_s=60) as smsc, node_of(plan(smsc)) as node:
        ids = await send(node, 20)
        await node.until(lambda: view(node)["in_flight"] == 4)
        await smsc.go_away()

        async def in_doubt() -> int:
            stored = [await node.stored(id_) for id_ in ids]
            return sum(any(event.type == "ambiguous" for event in each.events) for each in stored)

        await node.until(in_doubt)
        await node.until(lambda: view(node)["in_flight"] == 0 and not node.journal.queued)
        assert await in_doubt() == 4


async def test_26_a_receipt_is_acknowledged_once_stored_though_the_customer_does_not_answer() -> None:
    calls: list[asyncio.StreamWriter] = []
    customer = await asyncio.start_server(lambda reader, writer: calls.append(writer), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{customer.sockets[0].getsockname()[1]}/hook"
    async with customer, centre() as smsc, node_of(smpp(smsc)) as node:
        ids = await send(node, 5, callback_url=url)
        await ends(node, ids)
        await smsc.wait_for_receipts(5)
        await node.until(lambda: len(calls) == 5)  # all are called, none has answered
        for writer in calls:  # Python 3.12 waits for them
            writer.close()


async def test_27_receipts_before_their_answers_are_not_lost() -> None:
    async with centre(early_receipt_rate=0.5, response_delay_s=0.002, seed=1) as smsc, node_of(smpp(smsc)) as node:
        assert {s.status for s in await ends(node, await send(node, 300))} == {"delivered"}


@pytest.mark.parametrize(
    ("response", "receipt"),
    [("dec", "dec_padded"), ("hex", "dec"), ("hex_upper", "dec"), ("dec", "hex"), ("uuid", "uuid_upper")],
)
async def test_28_ids_match_in_whatever_form_they_come(response: str, receipt: str) -> None:
    async with centre(id_in_response=response, id_in_receipt=receipt) as smsc, node_of(smpp(smsc)) as node:
        assert {s.status for s in await ends(node, await send(node, 30))} == {"delivered"}


FORMS = (
    "appendix_b",
    "reordered",
    "no_err",
    "no_text",
    "seconds",
    "lower_case",
    "hex_err",
    "tlvs",
    "tlvs_without_nul",
    "tlvs_and_text",
    "payload",
    "data_sm",
)


async def test_29_30_receipts_of_every_form_end_their_messages() -> None:
    async with centre(receipt_forms=FORMS) as smsc, node_of(smpp(smsc)) as node:
        assert {s.status for s in await ends(node, await send(node, 3 * len(FORMS)))} == {"delivered"}


async def test_32_a_receipt_that_comes_twice_or_of_unknown_messages_is_acknowledged() -> None:
    async with centre(duplicate_receipt_rate=1.0) as smsc, node_of(smpp(smsc)) as node:
        await ends(node, await send(node, 20))
        await smsc.wait_for_receipts(40)
        assert smsc.deliveries["receipt"]["refused"] == 0


async def test_undelivered_receipts_move_the_message_on() -> None:
    async with centre(delivered_rate=0.0) as smsc, node_of(smpp(smsc)) as node:
        (stored,) = await ends(node, await send(node, 1))
        assert stored.status == "failed"
        assert any(event.data.get("error", {}).get("code") == "027" for event in stored.events)


@pytest.mark.parametrize(
    ("status", "error_class", "elsewhere"),
    [
        ("ESME_RINVDSTADR", "invalid_destination", False),
        ("ESME_RSYSERR", "retryable_transient", True),
        ("ESME_RINVSRCADR", "provider_config", True),
    ],
)
async def test_15_16_a_refusal_is_final_or_goes_to_the_next_carrier_at_once(
    status: str, error_class: str, elsewhere: bool
) -> None:
    next_carrier = mock("aggregator", "sms", receipt_delay_ms=5, magic=False)
    async with centre(error_rate=1.0, error_status=status) as smsc, node_of(smpp(smsc), next_carrier) as node:
        await smsc.wait_for_binds()
        (stored,) = await ends(node, await send(node, 1))
        (first, *_) = [event for event in stored.events if event.type == "rejected"]
        assert (first.data["error"]["class"], first.data["error"]["code"]) == (error_class, status)
        assert stored.status == ("delivered" if elsewhere else "failed")


async def test_a_sender_the_carrier_cannot_write_is_refused_without_asking_it() -> None:
    async with centre() as smsc, node_of(smpp(smsc)) as node:
        await smsc.wait_for_binds()
        m = sms(node, 1, sender={"sms": "a name far too long"})
        await node.submit(m)
        stored = await node.final(m.message_id)
        assert stored.status == "failed" and smsc.submitted == 0


@pytest.mark.slow
async def test_13_14_a_known_limit_is_used_and_hardly_ever_throttled() -> None:
    async with centre(tps=200) as smsc, node_of(smpp(smsc, throughput_per_s=200)) as node:
        await smsc.wait_for_binds()
        began = asyncio.get_running_loop().time()
        await ends(node, await send(node, 600))
        statuses = smsc.stats()["submit_statuses"]
        assert statuses.get("ESME_RTHROTTLED", 0) <= 0.01 * 600
        assert smsc.taken == 600
        assert asyncio.get_running_loop().time() - began >= 600 / 200 * 0.9


@pytest.mark.parametrize("status", ["ESME_RTHROTTLED", "ESME_RMSGQFUL"])
async def test_13_what_is_throttled_goes_again_in_order_and_is_no_try(status: str) -> None:
    async with centre(tps=40, tps_status=status) as smsc, node_of(smpp(smsc)) as node:
        await smsc.wait_for_binds()
        ids: list[str] = []
        for n in range(60):
            ids += await send(node, 1, start=n)
        stored = await ends(node, ids)
        assert {s.status for s in stored} == {"delivered"}
        assert smsc.stats()["submit_statuses"][status] >= 1
        assert not [event for s in stored for event in s.events if event.type == "rejected"]
        taken = [sent.destination for sent in smsc.messages]
        assert taken == sorted(taken)


async def test_one_time_codes_go_first_and_tenants_take_turns() -> None:
    async with centre(response_delay_s=0.01) as smsc, node_of(smpp(smsc, window_size=1)) as node:
        await smsc.wait_for_binds()
        await send(node, 30, category="marketing")
        await node.until(lambda: view(node)["queue"] >= 20)
        ids = await send(node, 3, start=1_000, category="otp")
        await ends(node, ids)
        ahead = [sent.destination for sent in smsc.messages if sent.destination.startswith("452010100")]
        assert len(ahead) == 3 and smsc.taken < 30


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["resend", "never"])
async def test_17_a_connection_reset_again_and_again_loses_nothing(policy: str) -> None:
    async with centre(drop_every=40) as smsc, node_of(smpp(smsc, window_size=5, on_ambiguous=policy)) as node:
        await smsc.wait_for_binds()
        ids = await send(node, 200)
        if policy == "resend":
            assert {s.status for s in await ends(node, ids)} == {"delivered"}
            assert smsc.taken <= 200 + 5 * 6  # a window each time
            return
        everyone = {f"45201{n:05d}" for n in range(200)}
        await node.until(lambda: view(node)["sent"] + view(node)["failed"] == 200, 30)
        taken = [m.destination for m in smsc.messages]
        assert len(taken) == len(set(taken))  # none twice
        for n, id_ in enumerate(ids):
            stored = await node.stored(id_)
            doubtful = any(event.type == "ambiguous" for event in stored.events)
            assert doubtful or f"45201{n:05d}" in taken
        assert len(set(taken)) >= len(everyone) - 5 * 6


async def test_18_a_carrier_that_was_away_is_found_at_once_and_everything_flows_again() -> None:
    async with centre() as smsc, node_of(smpp(smsc)) as node:
        await ends(node, await send(node, 5))
        await smsc.go_away()
        await node.until(lambda: view(node)["state"] == "down")
        await node.until(lambda: view(node)["reason"] == "connection refused")
        ids = await send(node, 50, start=100)
        await node.until(lambda: view(node)["queue"] == 50)
        await smsc.come_back()
        stored = await ends(node, ids)
        assert {s.status for s in stored} == {"delivered"}
        assert view(node)["state"] == "up"
        taken = [m.destination for m in smsc.messages]
        assert taken == sorted(taken) and len(taken) == 55


async def test_16_while_a_carrier_is_away_messages_take_the_next_one() -> None:
    async with (
        centre() as smsc,
        node_of(smpp(smsc), mock("aggregator", "sms", receipt_delay_ms=5, magic=False)) as node,
    ):
        await smsc.wait_for_binds()
        await smsc.go_away()
        stored = await ends(node, await send(node, 10))
        assert {s.status for s in stored} == {"delivered"}
        carriers = {event.data["carrier"] for s in stored for event in s.events if event.type == "submitted"}
        assert carriers == {"aggregator"}


async def test_18_a_wrong_password_takes_the_carrier_down_with_its_reason_and_no_storm() -> None:
    next_carrier = mock("aggregator", "sms", receipt_delay_ms=5, magic=False)
    async with centre(accounts={"hermes": "other"}) as smsc, node_of(smpp(smsc), next_carrier) as node:
        await node.until(lambda: view(node)["state"] == "down")
        shown = view(node)
        assert shown["reason"] == "ESME_RINVPASWD"
        assert shown["binds"][0]["state"] == "refused" and shown["binds"][0]["last_error"] == "ESME_RINVPASWD"
        assert {s.status for s in await ends(node, await send(node, 5))} == {"delivered"}
        assert smsc.bind_statuses.total() == 1


async def test_47_an_address_that_is_not_allowed_is_an_alarm_and_no_storm() -> None:
    async with centre(allowed_addresses=("192.0.2.1",)) as smsc, node_of(smpp(smsc)) as node:
        await node.until(lambda: view(node)["state"] == "down")
        assert "not be allowed" in view(node)["reason"]
        assert smsc.counts["refused_connections"] == 1


async def test_19_a_bind_taken_by_our_own_past_is_tried_again() -> None:
    async with centre(bind_status="ESME_RALYBND") as smsc, node_of(smpp(smsc)) as node:
        await smsc.wait_until(lambda: smsc.bind_statuses.total() >= 1)
        smsc.configure(bind_status="")
        assert {s.status for s in await ends(node, await send(node, 1))} == {"delivered"}


async def test_21_a_half_open_connection_is_given_up_and_bound_again() -> None:
    settings: dict[str, Any] = {"enquire_link_s": 0.1, "enquire_timeout_s": 0.2, "response_timeout_s": 5}
    async with centre() as smsc, node_of(smpp(smsc, **settings)) as node:
        (first,) = await smsc.wait_for_binds()
        smsc.freeze()
        ids = await send(node, 3)
        await node.until(lambda: len(smsc.binds) >= 2)
        smsc.drop(bind=first.n)
        assert {s.status for s in await ends(node, ids)} == {"delivered"}


async def test_22_23_the_carrier_asks_for_signs_of_life_and_gets_them() -> None:
    async with centre(enquire_link_s=0.05, inactivity_s=0.5) as smsc, node_of(smpp(smsc)) as node:
        (bind,) = await smsc.wait_for_binds()
        started = bind.at
        await smsc.wait_until(lambda: smsc.now() - started > 1.0, 5)
        assert [each.n for each in smsc.bound_now()] == [bind.n]
        assert view(node)["state"] == "up"


async def test_24_a_carrier_that_asks_us_to_leave_gets_us_back() -> None:
    async with centre() as smsc, node_of(smpp(smsc)) as node:
        await smsc.wait_for_binds()
        smsc.unbind()
        assert {s.status for s in await ends(node, await send(node, 10))} == {"delivered"}
        assert len(smsc.binds) == 2


async def test_25_a_node_that_stops_takes_its_answers_and_logs_out() -> None:
    async with centre(response_delay_s=0.05) as smsc:
        node = await start_cast([smpp(smsc)])
        await smsc.wait_for_binds()
        ids = await send(node, 5)
        await node.until(lambda: smsc.submitted >= 5)
        node.context.draining = True
        await node.until(lambda: not node.context.in_flight)
        await node.stop()
        assert not smsc.bound_now()
        assert not smsc.counts["dead"]
        for id_ in ids:
            assert not [event for event in (await node.stored(id_)).events if event.type == "ambiguous"]


async def test_25_a_node_that_stops_leaves_what_it_has_not_stored_to_the_carrier(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with centre() as smsc:
        node = await start_cast([smpp(smsc)])
        await smsc.wait_for_binds()
        monkeypatch.setattr(node.context.journal, "park_receipt", lambda *_: asyncio.get_running_loop().create_future())
        smsc.inject([DeliverSm(esm_class=0x04, short_message=b"id:unknown stat:DELIVRD err:000 text:")])
        await node.until(lambda: node.system.info("dlr").detail["parked"] == 1)
        node.context.draining = True
        await node.stop()
        assert smsc.deliveries["inbound"]["again"] == 1
        assert not smsc.bound_now()
        assert not smsc.counts["dead"]


async def test_5_an_answer_after_its_time_still_tells_the_id_that_the_receipt_needs() -> None:
    # 4 and 9: in doubt, and under `never` not sent again.
    async with centre(response_delay_s=0.5, receipt_delay_s=0.05) as smsc:
        plan = smpp(smsc, response_timeout_s=0.1, on_ambiguous="never")
        async with node_of(plan) as node:
            await smsc.wait_for_binds()
            (stored,) = await ends(node, await send(node, 1))
            assert stored.status == "delivered"
            assert "ambiguous" in [event.type for event in stored.events]
            assert smsc.taken == 1


async def test_45_binds_share_the_work_and_one_that_dies_stalls_nobody() -> None:
    async with centre(response_delay_s=0.005) as smsc, node_of(smpp(smsc, binds=3, window_size=2)) as node:
        binds = await smsc.wait_for_binds(3)
        ids = await send(node, 100)
        await smsc.wait_until(lambda: smsc.taken >= 30)
        smsc.drop(bind=binds[0].n)
        assert {s.status for s in await ends(node, ids)} == {"delivered"}
        used = {submit.bind for m in smsc.messages for submit in m.submits}
        assert used >= {bind.n for bind in binds}


async def test_33_a_pair_of_binds_submits_on_one_and_takes_receipts_on_the_other() -> None:
    async with centre(receipt_bind="any") as smsc, node_of(smpp(smsc, bind="pair")) as node:
        binds = await smsc.wait_for_binds(2)
        assert {bind.mode for bind in binds} == {"transmitter", "receiver"}
        assert {s.status for s in await ends(node, await send(node, 20))} == {"delivered"}
        assert [bind["mode"] for bind in view(node)["binds"]] == ["transmitter", "receiver"]


async def test_33_receipts_find_their_messages_after_a_crash_of_the_node() -> None:
    async with centre(receipt_delay_s=60) as smsc:
        first = await start_cast([smpp(smsc)])
        ids = await send(first, 3)

        async def submitted() -> bool:
            return all([len((await first.stored(id_)).events) == 2 for id_ in ids])

        await first.until(submitted)
        journal = first.journal.copy()  # type: ignore[attr-defined]
        await first.stop(crash=True)
        await journal.start()
        async with node_of(smpp(smsc), journal=journal) as second:
            await second.until(lambda: view(second)["binds"][0]["state"] == "bound")
            for sent in smsc.messages:
                text = f"id:{sent.message_ids[0]} sub:001 dlvrd:001 stat:DELIVRD err:000 text:"
                await smsc.inject([DeliverSm(short_message=text.encode(), esm_class=4, source_addr=sent.destination)])
            assert {s.status for s in await ends(second, ids)} == {"delivered"}
            assert smsc.taken == 3


async def test_18_the_next_host_is_tried_when_one_does_not_answer() -> None:
    async with centre() as away, centre() as smsc:
        await away.go_away()
        hosts = [f"127.0.0.1:{away.port}", f"127.0.0.1:{smsc.port}"]
        async with node_of(smpp(smsc, hosts=hosts)) as node:
            assert {s.status for s in await ends(node, await send(node, 3))} == {"delivered"}


async def test_46_tls_is_verified_and_a_client_certificate_shown(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    files = {"tls_cert": str(made.cert), "tls_key": str(made.key), "tls_client_ca": str(made.ca)}
    ours: dict[str, Any] = {
        "tls": True,
        "ca_file": str(made.ca),
        "cert_file": str(made.cert),
        "key_file": str(made.key),
    }
    async with centre(**files) as smsc, node_of(smpp(smsc, **ours, server_name="localhost")) as node:
        assert {s.status for s in await ends(node, await send(node, 3))} == {"delivered"}


@pytest.mark.parametrize("wrong", ["authority", "name"])
async def test_46_a_certificate_that_is_not_the_carriers_is_not_trusted(tmp_path: Path, wrong: str) -> None:
    made = make_certificates(tmp_path)
    files = {"tls_cert": str(made.cert), "tls_key": str(made.key)}
    ours: dict[str, Any] = {"tls": True, "server_name": "localhost" if wrong == "authority" else "smsc.example"}
    if wrong == "name":
        ours["ca_file"] = str(made.ca)
    async with centre(**files) as smsc, node_of(smpp(smsc, **ours)) as node:
        await node.until(lambda: view(node)["state"] == "down")
        assert view(node)["reason"].startswith("certificate:")
        assert not smsc.bind_statuses


async def test_pause_holds_what_waits_and_resume_sends_it() -> None:
    async with centre() as smsc, node_of(smpp(smsc)) as node:
        await smsc.wait_for_binds()
        ref = node.system.whereis("smpp/tele/dispatcher")
        assert ref is not None
        shown = await ref.call(ControlCarrier("pause"), timeout_s=2)
        assert shown["state"] == "paused"
        ids = await send(node, 5)
        await node.until(lambda: view(node)["queue"] == 5)
        assert smsc.submitted == 0
        await ref.call(ControlCarrier("resume"), timeout_s=2)
        assert {s.status for s in await ends(node, ids)} == {"delivered"}


@pytest.mark.parametrize("which", ["dispatcher", "connection/1"])
async def test_a_bug_in_one_actor_is_a_restart_and_loses_nothing(which: str) -> None:
    async with centre(response_delay_s=0.01) as smsc, node_of(smpp(smsc, window_size=4)) as node:
        await smsc.wait_for_binds()
        ids = await send(node, 40)
        await smsc.wait_until(lambda: smsc.taken >= 5)
        ref = node.system.whereis(f"smpp/tele/{which}")
        assert ref is not None
        ref.stop(RuntimeError("a bug"))
        assert {s.status for s in await ends(node, ids)} == {"delivered"}
        again = node.system.whereis(f"smpp/tele/{which}")
        assert again is not None and again is not ref


@pytest.mark.slow
async def test_48_a_centre_that_does_not_read_leaves_messages_in_the_queue() -> None:
    async with centre() as smsc, node_of(smpp(smsc, window_size=10, response_timeout_s=60)) as node:
        await smsc.wait_for_binds()
        smsc.freeze()
        await send(node, 200)
        await node.until(lambda: view(node)["queue"] >= 190)
        assert view(node)["in_flight"] <= 10


async def test_49_the_socket_sends_at_once_and_is_kept_alive() -> None:
    async with centre() as smsc, node_of(smpp(smsc)) as node:
        await smsc.wait_for_binds()
        (bind,) = (b for b in gc.get_objects() if type(b) is ConnectionActor and b._context is node.context)
        assert bind._socket is not None and bind._socket.transport is not None
        raw = bind._socket.transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60


async def test_50_no_password_and_no_text_is_shown() -> None:
    async with centre() as smsc, node_of(smpp(smsc)) as node:
        await ends(node, await send(node, 1, text="my secret text"))
        everything = repr(
            [node.system.info(name).detail for name in ("smpp/tele/dispatcher", "smpp/tele/connection/1")]
        )
        assert "secret" not in everything and "4520100000" not in everything


@asynccontextmanager
async def number_of(smsc: Smsc, **options: Any) -> AsyncIterator[CastNode]:
    """A node whose tenant owns 1234 at the carrier."""
    async with node_of(smpp(smsc, **options)) as node:
        node.context.numbers = (NumberOwner("1234", node.tenant),)
        await smsc.wait_for_binds()
        yield node


async def inbound(node: CastNode) -> list[Inbound]:
    return [record.inbound for record in await node.journal.inbound(node.tenant, 100)]


@pytest.mark.parametrize("concatenation", ["udh8", "udh16", "sar", "payload"])
async def test_42_a_long_message_from_a_handset_is_stored_whole_before_it_is_acknowledged(concatenation: Any) -> None:
    async with centre() as smsc, number_of(smsc) as node:
        statuses = await smsc.inject_mo("+4520111111", "1234", LONG, concatenation=concatenation)
        assert set(statuses) == {0}
        (stored,) = await inbound(node)
        assert (stored.text, stored.sender, stored.recipient) == (LONG, "+4520111111", "1234")


async def test_42_parts_come_in_any_order_and_one_at_a_time() -> None:
    async with centre(deliver_window=1) as smsc, number_of(smsc) as node:
        statuses = await smsc.inject_mo("+4520111111", "1234", LONG, order=[3, 1, 2])
        assert set(statuses) == {0}
        await node.until(lambda: inbound(node))
        (stored,) = await inbound(node)
        assert stored.text == LONG


async def bring(smsc: Smsc, node: CastNode, order: list[int]) -> None:
    """Bring parts of a long message, the same one each time; each is acknowledged."""
    assert set(await smsc.inject_mo("+4520111111", "1234", LONG, reference=7, order=order)) == {0}


async def restart(node: CastNode) -> None:
    """End the carrier's whole subtree as a crash would, and let its supervisor start it again."""
    ref = node.system.whereis("smpp/tele")
    assert ref is not None
    ref.stop(RuntimeError("a bug"))
    await node.until(lambda: node.system.whereis("smpp/tele") not in (None, ref))


async def test_42_a_part_that_is_acknowledged_is_stored() -> None:
    async with centre() as smsc, number_of(smsc) as node:
        await bring(smsc, node, [2])
        (part,) = await node.journal.stored_parts("tele")
        assert (part.key.reference, part.key.total, part.number) == (7, 3, 2)


async def test_42_parts_outlive_what_put_them_together() -> None:
    async with centre() as smsc, number_of(smsc) as node:
        await bring(smsc, node, [3, 1])
        await restart(node)
        await smsc.wait_for_binds()
        await bring(smsc, node, [2])
        (stored,) = await inbound(node)
        assert (stored.text, stored.parts) == (LONG, 3)
        await restart(node)
        await smsc.wait_for_binds()
        await bring(smsc, node, [2])  # its acknowledgement was lost: it is no new message
        assert len(await inbound(node)) == 1
        assert [part.number for part in await node.journal.stored_parts("tele")] == [0]


async def test_42_a_part_that_cannot_be_stored_is_offered_again() -> None:
    async with centre(deliver_retry_s=0.05) as smsc, number_of(smsc) as node:
        node.journal.set_available(False)  # type: ignore[attr-defined]
        answered = smsc.inject_mo("+4520111111", "1234", LONG, reference=7, order=[1])
        await smsc.wait_until(lambda: smsc.deliveries["inbound"]["again"] >= 1)
        assert not answered.done()
        node.journal.set_available(True)  # type: ignore[attr-defined]
        assert await answered == [0]
        await bring(smsc, node, [2, 3])
        assert [each.text for each in await inbound(node)] == [LONG]


async def test_42_parts_that_come_before_the_journal_is_asked_wait_for_it() -> None:
    async with centre(deliver_retry_s=0.05) as smsc, number_of(smsc) as node:
        await bring(smsc, node, [1])
        node.journal.set_available(False)  # type: ignore[attr-defined]
        await restart(node)
        await smsc.wait_for_binds()
        answered = smsc.inject_mo("+4520111111", "1234", LONG, reference=7, order=[3, 2])
        await smsc.wait_until(lambda: smsc.deliveries["inbound"]["again"] >= 1)
        assert not answered.done()
        node.journal.set_available(True)  # type: ignore[attr-defined]
        assert set(await answered) == {0}
        assert [each.text for each in await inbound(node)] == [LONG]


async def test_26_what_cannot_be_stored_is_offered_again_until_it_is() -> None:
    async with centre(deliver_retry_s=0.05) as smsc, number_of(smsc) as node:
        node.journal.set_available(False)  # type: ignore[attr-defined]
        answered = smsc.inject_mo("+4520111111", "1234", "Hello")
        await smsc.wait_until(lambda: smsc.deliveries["inbound"]["again"] >= 1)
        node.journal.set_available(True)  # type: ignore[attr-defined]
        assert await answered == [0]
        assert [each.text for each in await inbound(node)] == ["Hello"]


async def test_43_stop_holds_for_what_waits_in_the_queue_at_once() -> None:
    async with centre() as smsc, number_of(smsc, throughput_per_s=1) as node:
        ids = await send(node, 5)
        await node.until(lambda: view(node)["queue"] >= 3)
        late = f"+45201{4:05d}"
        assert await smsc.inject_mo(late, "1234", " Stop! ") == [0]
        stored = await node.final(ids[4])
        assert stored.status == "failed"
        assert not [m for m in smsc.messages if m.destination == late.removeprefix("+")]


async def test_17_the_receipt_of_a_doubtful_message_finds_it_without_an_id() -> None:
    # The answer that names the id is lost with the connection: rule 9, policy never.
    settings = {"answer_within_s": 0.2}
    async with centre(drop_every=1, receipt_delay_s=0.05) as smsc:
        plan = smpp(smsc, on_ambiguous="never")
        async with node_of(plan, **settings) as node:
            (stored,) = await ends(node, await send(node, 1))
            assert stored.status == "delivered" and smsc.taken == 1
            assert "ambiguous" in [event.type for event in stored.events]


async def test_17_a_receipt_that_fits_two_doubtful_messages_is_nobodys() -> None:
    async with centre(drop_every=2, receipt_delay_s=0.05, response_delay_s=0.2) as smsc:
        plan = smpp(smsc, on_ambiguous="never")
        async with node_of(plan, answer_within_s=0.2) as node:
            await smsc.wait_for_binds()
            twins = [sms(node, 7) for _ in range(2)]
            await asyncio.gather(*(node.submit(m) for m in twins))
            await smsc.wait_for_receipts(2)
            await node.until(lambda: node.system.info("dlr").detail["parked"] == 2)
            await node.until(lambda: not node.system.info("dlr").detail["unclaimed"])
            assert node.system.info("dlr").detail["given_to_doubtful"] == 0
            for m in twins:
                stored = await node.stored(m.message_id)
                assert stored.status is None and stored.events[-1].type == "ambiguous"


async def test_13_what_is_throttled_may_be_cancelled_but_is_never_noted_as_not_left() -> None:
    async with centre(error_rate=1.0, error_status="ESME_RTHROTTLED") as smsc, node_of(smpp(smsc)) as node:
        await smsc.wait_for_binds()
        (throttled,) = await send(node, 1)
        await smsc.wait_until(lambda: smsc.submitted >= 1)
        (waiting,) = await send(node, 1, start=1)

        async def noted(id_: str) -> bool:
            return (await node.stored(id_)).due is not None

        await node.until(partial(noted, waiting))
        assert not await noted(throttled)  # it is sent again without asking: a crash must leave it in doubt
        tenant = node.system.whereis("tenant/" + node.tenant)
        assert tenant is not None
        await tenant.call(CancelMessage(throttled), timeout_s=5)
        smsc.configure(error_rate=0.0)
        await ends(node, [waiting])
        assert [m.destination for m in smsc.messages] == ["4520100001"]
        assert (await node.stored(throttled)).status == "cancelled"
