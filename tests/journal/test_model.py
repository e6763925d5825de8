"""Any sequence of batches, against a model that takes one write after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from hermes.domain.events import Event
from hermes.domain.message import Message
from hermes.journal.base import (
    KEEP,
    CarrierRef,
    Conflict,
    IdempotencyRecord,
    JournalError,
    OutboxEntry,
    RefTarget,
    Write,
    WriteRefused,
    shard_of,
)
from tests.journal.makers import Bench, database, message, put

MESSAGES = 3
STATUSES = ["delivered", "failed", "expired"]


@dataclass
class Known:
    """What the model holds of one message."""

    events: dict[int, Event] = field(default_factory=dict)
    message: Message | None = None
    status: str | None = None
    due: Any = None


@dataclass(frozen=True)
class Plan:
    """One write, to be made when the state is known."""

    which: int
    accept: bool
    steps: tuple[int, ...]  # for each event: how far its seq is from the next free one; 0 fits, less conflicts
    status: str | None
    due_s: int | None  # None keeps, 0 wakes, else parks
    key: int | None
    ref: str | None
    outbox: bool
    withdrawn: bool


PLANS = st.builds(
    Plan,
    which=st.integers(0, MESSAGES - 1),
    accept=st.booleans(),
    steps=st.lists(st.sampled_from([0, 0, 0, 0, 0, -1]), max_size=2).map(tuple),
    status=st.none() | st.sampled_from(STATUSES),
    due_s=st.none() | st.integers(0, 3),
    key=st.none() | st.integers(0, 2),
    ref=st.none() | st.sampled_from(["fine", "fine", "a\x1fb", "nul\0"]),
    outbox=st.booleans(),
    withdrawn=st.sampled_from([False, False, False, True]),
)


class JournalMachine(RuleBasedStateMachine):
    """Runs on a journal that `journal_and_runner` names; each example has messages and keys of its own."""

    bench: Bench
    journal: Any
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.at = self.bench.clock.now()
        self.made = [message(self.at) for _ in range(MESSAGES)]
        self.known = [Known() for _ in range(MESSAGES)]
        self.keys: dict[str, IdempotencyRecord] = {}
        self.refs: dict[tuple[str, str], RefTarget] = {}
        self.outbox: set[tuple[str, int]] = set()
        self.count = 0

    def build(self, plan: Plan, next_seq: dict[int, int]) -> Write:
        made = self.made[plan.which]
        events = []
        seq = next_seq.setdefault(plan.which, max(self.known[plan.which].events, default=0) + 1)
        for step in plan.steps:
            events.append(Event(seq + step, self.at, "submitted", 0, 1, {"n": seq, "text": "\x1f\0"}))
            seq += 1
        next_seq[plan.which] = seq
        due: Any = KEEP if plan.due_s is None else None
        if plan.due_s:
            due = self.at + timedelta(seconds=plan.due_s)
        self.count += 1
        key = None if plan.key is None else f"{made.message_id[:20]}-{self.made[0].message_id}-{plan.key}"
        return Write(
            made.message_id,
            made.tenant,
            events,
            message=made if plan.accept else None,
            status=plan.status,
            refs=()
            if plan.ref is None
            else [CarrierRef("mock", f"{plan.ref}-{made.message_id}-{self.count}", 0, 1, 0)],
            outbox=[OutboxEntry(e.seq, "callback", "t", self.at) for e in events[:1]] if plan.outbox else (),
            idempotency=None if key is None else IdempotencyRecord(key, b"h", str(self.count)),
            due=due,
        )

    def expect(self, which: int, write: Write) -> type[JournalError] | None:
        """Apply one write to the model; the error it must meet else."""
        known = self.known[which]
        seqs = [event.seq for event in write.events]
        if any("\0" in ref.ref for ref in write.refs):
            return WriteRefused
        if (
            any(seq in known.events for seq in seqs)
            or len(set(seqs)) < len(seqs)
            or (write.message is not None and known.message is not None)
            or (write.idempotency is not None and write.idempotency.key in self.keys)
            or any((write.message_id, entry.seq) in self.outbox for entry in write.outbox)
        ):
            return Conflict
        if write.message is not None:
            known.message = write.message
        known.events.update((event.seq, event) for event in write.events)
        if write.idempotency is not None:
            self.keys[write.idempotency.key] = write.idempotency
        for ref in write.refs:
            self.refs[ref.carrier, ref.ref] = RefTarget(write.message_id, ref.step, ref.attempt, ref.segment)
        self.outbox.update((write.message_id, entry.seq) for entry in write.outbox)
        if known.message is not None:
            if write.status is not None:
                known.status, known.due = write.status, None
            elif write.due is not KEEP and known.status is None:
                known.due = write.due
        return None

    @rule(plans=st.lists(PLANS, min_size=1, max_size=6))
    def write_batch(self, plans: list[Plan]) -> None:
        # A message is closed or parked by those who know it: after its first write.
        next_seq: dict[int, int] = {}
        begun = {n for n, known in enumerate(self.known) if known.message is not None}
        writes: list[tuple[Plan, Write]] = []
        for plan in plans:
            if plan.which not in begun and not (plan.accept and not plan.withdrawn):
                continue
            begun.add(plan.which)
            writes.append((plan, self.build(plan, next_seq)))

        async def run() -> list[JournalError | None]:
            outcomes = [put(self.journal, write) for _, write in writes]
            for (plan, write), outcome in zip(writes, outcomes, strict=True):
                if plan.withdrawn:
                    assert self.journal.withdraw(write)
                    assert not outcome.told
            return [
                None if plan.withdrawn else await outcome for (plan, _), outcome in zip(writes, outcomes, strict=True)
            ]

        told = self.runner.run(run())
        refused: dict[int, type[JournalError]] = {}
        for (plan, write), error in zip(writes, told, strict=True):
            if plan.withdrawn:
                continue
            expected = refused.get(plan.which) or self.expect(plan.which, write)
            if expected is not None:
                refused[plan.which] = expected
            assert (type(error) if error is not None else None) is expected, (plan, error)

    @invariant()
    def journal_agrees(self) -> None:
        ids = [made.message_id for made in self.made]
        later = self.at + timedelta(seconds=10)

        async def read() -> Any:
            stored = await self.journal.load(ids)
            due = await self.journal.due_page(later, 100_000)
            hot = [s.message.message_id for i in ids for s in await self.journal.hot_page(shard_of(i), "", 100_000)]
            refs = await self.journal.find_refs(list(self.refs))
            items = await self.journal.outbox_due("ten_1", later, 100_000)
            keys = [await self.journal.find_idempotent("ten_1", key) for key in self.keys]
            return stored, due, hot, refs, items, keys

        stored, due, hot, refs, items, keys = self.runner.run(read())
        present = [known for known in self.known if known.message is not None]
        assert [(s.message, {e.seq: e for e in s.events}, s.status, s.due) for s in stored] == [
            (known.message, known.events, known.status, known.due) for known in present
        ]
        for one in stored:
            assert [e.seq for e in one.events] == sorted(e.seq for e in one.events)
        parked = [known for known in present if known.status is None and known.due is not None]
        assert {i for i in due if i in ids} == {k.message.message_id for k in parked if k.message}
        held = {k.message.message_id for k in present if k.message and k.status is None and k.due is None}
        assert {i for i in hot if i in ids} == held
        assert refs == list(self.refs.values())
        assert {(i.message_id, i.seq) for i in items if i.message_id in ids} == self.outbox
        assert keys == list(self.keys.values())


@pytest.fixture(params=["memory", "postgres"])
def machine(request: pytest.FixtureRequest) -> Iterator[type[JournalMachine]]:
    with asyncio.Runner() as runner:
        lent = database()
        connect = runner.run(lent.__aenter__()) if request.param == "postgres" else None
        bench = Bench(request.param, connect)

        class Machine(JournalMachine):
            pass

        Machine.bench = bench
        Machine.runner = runner
        Machine.journal = runner.run(bench.worker())
        yield Machine
        runner.run(bench.end())
        if connect is not None:
            runner.run(lent.__aexit__(None, None, None))


def test_every_sequence_of_batches_is_as_one_write_after_the_other(machine):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=8,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
