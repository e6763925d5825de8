"""A small node for tests of the cast: the real tree over the memory journal, with carriers of the test's choice."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from actors import tree
from actors.context import CarrierPlan, Context
from actors.fleet import Fleet
from actors.journal import JournalActor
from actors.leases import claim_at_start
from actors.receipts import ReceiptIndex
from actors.routing import SANDBOX
from actors.shards import Shards
from carriers.base import Carrier
from carriers.mock import MockSettings
from carriers.registry import make_carrier
from hermes.domain.commands import Submit
from hermes.domain.message import Content, Message, Step, new_message_id
from hermes.journal.base import Journal, StoredMessage
from hermes.journal.directory import Directory
from hermes.journal.memory import MemoryJournal
from hermes.journal.sealing import Sealer
from hermes.journal.suppressions import Suppressions
from hermes.metrics import Metrics
from hermes.runtime import Actor, Clock, System, SystemClock

TENANT = "ten_test"
SECRET = "dlr-secret"  # of the mocks' receipts


class NoGateway(Actor):
    """Stands where the gateway would."""


@dataclass
class CastNode:
    """The tree without an HTTP edge."""

    context: Context
    fleet: Fleet
    journal: Journal
    system: System
    tenant: str
    folder: tempfile.TemporaryDirectory[str]

    async def submit(self, message: Message, **extra: Any) -> str:
        """Submit as the gateway would; returns the status of the 202."""
        ref = self.system.whereis("tenant/" + message.tenant)
        assert ref is not None
        admitted = await ref.call(Submit(message, **extra), timeout_s=5)
        return str(admitted.status)

    async def stored(self, message_id: str) -> StoredMessage:
        """Load a message."""
        (found,) = await self.journal.load([message_id])
        return found

    async def until(self, condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
        """Wait until a condition (plain or async) gives something true; fail after `timeout_s`."""
        async with asyncio.timeout(timeout_s):
            while True:
                found = condition()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.005)

    async def final(self, message_id: str, timeout_s: float = 10.0) -> StoredMessage:
        """Wait until a message is final."""

        async def ended() -> StoredMessage | None:
            found = await self.stored(message_id)
            return found if found.status is not None else None

        result: StoredMessage = await self.until(ended, timeout_s)
        return result

    async def stop(self, *, crash: bool = False) -> None:
        """End the tree: in order, or as a process that vanished."""
        if crash:
            self.journal.kill()  # type: ignore[attr-defined]
        else:
            self.context.draining = True
        await self.system.shutdown()
        await self.fleet.close()
        self.folder.cleanup()


def mock(name: str, channel: str, **options: Any) -> CarrierPlan:
    """A mock carrier; options of `MockSettings`."""
    clock = SystemClock()
    options.setdefault("secret", SECRET)
    return CarrierPlan(make_carrier("mock", name, channel, options, clock=clock, cost=0.01))


async def start_cast(
    carriers: Sequence[CarrierPlan] | None = None,
    journal: Journal | None = None,
    sealer: Sealer | None = None,
    clock: Clock | None = None,
    workers: int = 1,
    **settings: Any,
) -> CastNode:
    """Start the tree. `settings` are fields of the context; `workers`: how many are to share the database."""
    clock = clock or SystemClock()
    if journal is None:
        journal = MemoryJournal(clock=clock)
        await journal.start()
    directory = Directory(journal, clock, b"secret")
    await directory.load()
    if not directory.tenants():
        await directory.create_tenant("test")
    suppressions = Suppressions(journal, directory, clock)
    await suppressions.load()
    if carriers is None:
        carriers = [mock(f"mock-{c}", c, receipt_delay_ms=20) for c in ("email", "sms", "push", "whatsapp")]
    plans = {p.carrier.name: p for p in carriers}
    plans[SANDBOX] = replace(mock(SANDBOX, "sms", receipt_delay_ms=20))
    system = System(clock=clock)
    folder = tempfile.TemporaryDirectory(prefix="hermes-cast-")
    sealer = sealer or Sealer(Path(folder.name) / "secrets.key", own=True)
    fleet = Fleet(journal, clock, sealer, plans)
    await fleet.load()
    context = Context(
        system,
        clock,
        journal,
        directory,
        suppressions,
        Metrics(),
        fleet.plans,
        fleet.table(),
        ReceiptIndex(),
        Shards(),
        health=fleet.health,
        full_carriers=fleet.full,
        quality=fleet.quality,
        allow_private_callbacks=True,
        **settings,
    )
    fleet.attach(context, partial(tree.place, context))
    await claim_at_start(context, workers)
    root = partial(
        tree.root,
        context,
        journal=partial(JournalActor, context, None, 30),
        gateway=NoGateway,
        hold=fleet.hold,
        give=fleet.give,
        workers=workers,
    )
    await system.spawn_async(root, name="root")
    await context.shards.accepting.wait()
    return CastNode(context, fleet, journal, system, directory.tenants()[0].id, folder)


def message(tenant: str, *steps: str | Step, **fields: Any) -> Message:
    """A message over these channels to magic recipients that deliver, unless `to` says otherwise."""
    now = SystemClock().now()
    cascade = tuple(s if isinstance(s, Step) else Step(s, 60.0, "delivered") for s in steps or ("sms",))
    defaults: dict[str, Any] = {
        "to": {"phone": "+4520120001", "email": "delivered@example.com", "push": "tok-delivered"},
        "content": Content(text="Hi", subject="Hi"),
        "expires_at": now + timedelta(hours=72),
        "segments": 1,
        "encoding": "gsm7",
    }
    return Message(new_message_id(), tenant, cascade=cascade, created_at=now, **{**defaults, **fields})


__all__ = ["SECRET", "TENANT", "Carrier", "CastNode", "MockSettings", "message", "mock", "start_cast"]
