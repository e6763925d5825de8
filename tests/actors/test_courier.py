"""A worker that does not hold its SMPP carrier, against a holder that the test plays through the journal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from actors.courier import WINDOW
from actors.handover import CANCEL, LAST_HANDED_S, answered, read_cancel, read_submission
from actors.intake import IN_HAND
from carriers.smpp_carrier import SmppCarrier
from hermes.domain import cascade as rules
from hermes.domain.commands import CancelMessage, ControlCarrier, Refused
from hermes.journal.base import Handover
from hermes.journal.memory import MemoryJournal
from hermes.runtime import SystemClock
from tests.actors.cast import CastNode, message, start_cast
from tests.actors.test_smpp import centre, smpp, view

ACTOR = "smpp/tele/dispatcher"


class Holder:
    """Another worker that holds the carrier: what it does is what the test says."""

    def __init__(self, journal: MemoryJournal, node: CastNode) -> None:
        self.journal = journal
        self.node = node

    async def takes(self, count: int) -> list[Handover]:
        taken: list[Handover] = []

        async def enough() -> bool:
            taken.extend(await self.journal.take_handovers("tele", count - len(taken)))
            return len(taken) == count

        await self.node.until(enough)
        return taken

    async def says(self, handover: Handover, answer: rules.Submitted | rules.Refused | rules.InDoubt) -> None:
        await self.journal.answer_handovers([answered(handover.message_id, answer)], [("tele", handover.id)])

    async def submitted(self, handover: Handover) -> None:
        id_ = "id-" + handover.message_id
        await self.says(handover, rules.Submitted(handover.step, handover.attempt, "tele", (id_,), 1))

    @property
    def waiting(self) -> int:
        """What is handed over and not taken."""
        return sum(taken_by is None for _, taken_by in self.journal._store.handovers.values())


@asynccontextmanager
async def beside_a_holder(port: int = 1, **options: Any) -> AsyncIterator[tuple[CastNode, Holder]]:
    first = MemoryJournal(SystemClock(), worker_id="worker-1")
    await first.start()
    await first.claim_shards(32)
    await first.claim_carriers(["tele"])
    journal = first.peer("worker-2")
    await journal.start()
    centre_: Any = type("Nowhere", (), {"port": port})
    node = await start_cast([smpp(centre_, **options)], journal)
    await node.until(lambda: view(node)["held_by"] == "worker-1")
    try:
        yield node, Holder(first, node)
    finally:
        await node.stop()


async def send(node: CastNode, count: int = 1, **fields: Any) -> list[str]:
    ids = []
    for n in range(count):
        made = message(node.tenant, "sms", to={"phone": f"+45201{n:05d}"}, **fields)
        made.message_id = node.context.shards.new_message_id(made.created_at)
        await node.submit(made)
        ids.append(made.message_id)
    return ids


async def status(node: CastNode, message_id: str) -> list[str]:
    """The events of a message."""
    return [event.type for event in (await node.stored(message_id)).events]


@pytest.mark.parametrize("policy", ["resend", "never"])
async def test_a_message_is_handed_over_and_its_outcome_comes_back(policy: str) -> None:
    async with beside_a_holder() as (node, holder):
        (id_,) = await send(node, on_ambiguous=policy)
        (handover,) = await holder.takes(1)
        submission = read_submission(handover)
        assert (submission.message_id, submission.to, submission.content.text) == (id_, "+4520100000", "Hi")
        assert handover.once == (policy == "never")
        assert view(node)["handed_over"] == 1
        assert view(node)["reason"] == "held by worker worker-1"
        await holder.submitted(handover)
        await node.until(lambda: view(node)["handed_over"] == 0)

        async def noted() -> bool:
            return (await status(node, id_))[-1] == "submitted"

        await node.until(noted)
        assert ("sending" in await status(node, id_)) == (policy == "never")
        assert node.context.in_flight == 0


async def test_what_is_refused_by_the_carrier_is_refused_to_the_cascade() -> None:
    async with beside_a_holder() as (node, holder):
        (id_,) = await send(node)
        (handover,) = await holder.takes(1)
        await holder.says(handover, rules.Refused(0, 1, "tele", "invalid_destination", "ESME_RINVDSTADR"))
        assert (await node.final(id_)).status == "failed"


async def test_no_more_is_handed_over_than_a_window_and_a_full_queue_refuses() -> None:
    async with beside_a_holder(queue_limit=20) as (node, holder):
        await send(node, WINDOW + 10)
        await node.until(lambda: holder.waiting == WINDOW and view(node)["queue"] == 10)
        with pytest.raises(Refused):
            await send(node, 20)
        for handover in await holder.takes(30):
            await holder.submitted(handover)
        await node.until(lambda: view(node)["queue"] == 0)
        await send(node, 1)


@pytest.mark.parametrize("policy", ["resend", "never"])
async def test_what_nobody_took_comes_back_when_the_carrier_is_paused_and_goes_when_it_is_resumed(policy: str) -> None:
    async with beside_a_holder() as (node, holder):
        taken_id, waiting_id = await send(node, 2, on_ambiguous=policy)
        (taken,) = await holder.takes(1)
        await node.system.call(ACTOR, ControlCarrier("pause"))
        await node.until(lambda: holder.waiting == 0 and view(node)["handed_over"] == 1)
        await node.until(lambda: view(node)["queue"] == 1)
        await holder.submitted(taken)
        await node.until(lambda: view(node)["handed_over"] == 0)
        assert "submitted" not in await status(node, waiting_id)
        await node.system.call(ACTOR, ControlCarrier("resume"))
        (again,) = await holder.takes(1)
        assert again.message_id == waiting_id
        assert (await status(node, waiting_id)).count("sending") == (policy == "never")
        assert taken_id == taken.message_id


async def test_what_nobody_takes_in_its_time_expires_and_is_taken_back() -> None:
    async with beside_a_holder() as (node, holder):
        soon = SystemClock().now() + timedelta(seconds=LAST_HANDED_S + 1.0)
        (id_,) = await send(node, expires_at=soon)
        await node.until(lambda: holder.waiting == 1)
        assert (await node.final(id_)).status == "expired"
        await node.until(lambda: holder.waiting == 0 and view(node)["handed_over"] == 0)
        assert await holder.journal.take_handovers("tele", 10) == []


async def test_a_carrier_that_is_down_at_its_holder_is_down_here() -> None:
    async with beside_a_holder() as (node, holder):
        await holder.journal.tell_carrier("tele", "down", "no bind")
        await node.until(lambda: view(node)["state"] == "down")
        assert view(node)["reason"] == "no bind"
        await holder.journal.tell_carrier("tele", "up", None)
        await node.until(lambda: view(node)["state"] == "up")


async def test_a_cancel_of_what_was_taken_is_passed_to_the_carrier() -> None:
    async with beside_a_holder() as (node, holder):
        (id_,) = await send(node)
        (handover,) = await holder.takes(1)
        await holder.submitted(handover)

        async def noted() -> bool:
            return (await status(node, id_))[-1] == "submitted"

        await node.until(noted)
        await node.system.call(f"tenant/{node.tenant}", CancelMessage(id_))
        (wish,) = await holder.takes(1)
        assert wish.kind == CANCEL and read_cancel(wish).carrier_message_ids == (f"id-{id_}",)


async def test_who_takes_over_sends_what_was_not_taken_and_what_was_is_in_doubt() -> None:
    async with centre() as smsc, beside_a_holder(smsc.port) as (node, holder):
        ids = await send(node, 3, on_ambiguous="never")
        (taken,) = await holder.takes(1)
        await holder.journal.stop()
        await node.until(lambda: holds(node))
        waiting = [id_ for id_ in ids if id_ != taken.message_id]
        assert {(await node.final(id_)).status for id_ in waiting} == {"delivered"}

        async def doubtful() -> bool:
            return (await status(node, taken.message_id))[-1] == "ambiguous"

        await node.until(doubtful)
        assert len(smsc.messages) == 2
        assert node.context.held == {"tele"}


async def test_a_holder_sends_for_others_no_more_than_it_has_in_hand_and_answers_them() -> None:
    async with centre() as smsc, beside_a_holder(smsc.port) as (node, holder):
        await holder.journal.stop()
        await node.until(lambda: holds(node))
        other = node.journal.peer("worker-3")  # type: ignore[attr-defined]
        await other.start()
        mine = []
        for n in range(IN_HAND + 50):
            made = message(node.tenant, "sms", to={"phone": f"+45201{n:05d}"})
            submission = _submission_of(made)
            mine.append(Handover("tele", "submit", made.message_id, 0, 1, False, made.expires_at, submission))
        await other.hand_over(mine)
        await node.until(lambda: len(smsc.messages) == len(mine), 20.0)
        store = other._store
        await node.until(lambda: not store.handovers)
        told = {errand.message_id for errand in store.errands.values() if errand.kind == "answer"}
        not_own = {h.message_id for h in mine if not node.context.shards.owns(h.message_id)}
        assert not_own <= told  # those of this worker's own shards are carried out already
        await other.stop()


def holds(node: Any) -> bool:
    """Tell whether the carrier is this worker's; while it changes hands nobody has its actor's name."""
    return node.system.whereis("smpp/tele/dispatcher") is not None and "held_by" not in view(node)


def _submission_of(made: Any) -> str:
    import msgspec

    from carriers.base import Submission

    at = (made.message_id, made.tenant, 0, 1, "sms", made.to["phone"], None, made.content, made.category)
    submission = Submission(*at, made.expires_at, made.message_id + ".0", 1, "gsm7", None)
    return msgspec.json.encode(submission).decode()


def test_the_plans_of_a_shared_carrier_keep_its_whole_limits() -> None:
    from actors.fleet import plan_of
    from hermes.settings import CarrierSettings

    options = {"host": "127.0.0.1", "system_id": "a", "password": "b"}
    settings = CarrierSettings(name="tele", kind="smpp", channel="sms", throughput_per_s=100, options=options)
    plan = plan_of(settings, SystemClock(), workers=4)
    assert isinstance(plan.carrier, SmppCarrier) and plan.throughput_per_s == 100
