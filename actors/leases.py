"""The leases actor: sees to it that each carrier with binds is held by exactly one living worker.

The database says who holds a carrier; it is that worker's until its process ended or was declared dead, so nothing has
to be renewed. A carrier is held whole: all its binds, one queue, one pace, one order. A worker takes its fair share of
those that nobody holds, and whatever nobody took for some looks; it gives none back while it lives, because a move
costs a log-out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final

from actors.background import Background, wait
from actors.context import Context
from actors.messages import HeldBy
from hermes.journal.base import LOST, NEWS_CARRIERS, NEWS_LIVE, NEWS_WORKERS, CarrierLease, Fenced, JournalError
from hermes.logs import get_logger
from hermes.runtime import Actor, RuntimeFault

log = get_logger("hermes.leases")

LOOK_EVERY_S: Final = 1.0
EXPECTED_FOR_S: Final = 10.0  # after a start, for the other workers of this node to be there
PATIENCE: Final = 3  # looks for which a carrier is left to those whose share it is


def to_claim(free: Sequence[str], held: int, carriers: int, workers: int, left: Collection[str] = ()) -> list[str]:
    """Name the carriers that a worker should take now.

    Args:
        free: what nobody holds, in order.
        held: how many it holds.
        carriers: how many it knows.
        workers: how many live, or soon will.
        left: of the free ones, those that nobody has taken for a while.
    """
    share = max(-(-carriers // max(workers, 1)) - held, 0)
    return [carrier for n, carrier in enumerate(free) if n < share or carrier in left]


def with_binds(context: Context) -> list[str]:
    """List the carriers that only one worker may send by."""
    return [name for name, plan in context.carriers.items() if plan.carrier.kind == "smpp"]


def free_of(carriers: Sequence[str], leases: Sequence[CarrierLease]) -> list[str]:
    """Name those of these carriers that nobody holds."""
    taken = {lease.carrier for lease in leases if not lease.free}
    return [carrier for carrier in carriers if carrier not in taken]


async def claim_at_start(context: Context, expected: int) -> None:
    """Take this worker's share before its tree starts; call once.

    Raises:
        JournalError: the journal is away, or this worker was declared dead.
    """
    carriers = with_binds(context)
    if carriers:
        journal = context.journal
        workers = max(len(await journal.living_workers()), expected)
        free = free_of(carriers, await journal.carrier_leases())
        context.held.update(await journal.claim_carriers(to_claim(free, 0, len(carriers), workers)))


class LeasesActor(Actor):
    """`leases`: see the module.

    Args:
        hold: makes this worker serve a carrier it holds now (`Fleet.hold`).
        expected: how many workers this node is to have.
    """

    kind = "Leases"

    def __init__(self, context: Context, hold: Callable[[str], Awaitable[None]], expected: int = 1) -> None:
        self._context = context
        self._hold = hold
        self._expected = expected
        self._look_now = asyncio.Event()
        self._free_for: dict[str, int] = {}  # looks
        self._said: dict[str, tuple[str, str | None]] = {}

    def init(self) -> None:
        """Begin to look."""
        self._background = Background(self.ref)
        self._context.journal.on_news(self._told)
        self._background.run(self._live())

    def _told(self, topic: str, detail: str) -> None:
        if topic in (NEWS_WORKERS, NEWS_CARRIERS, NEWS_LIVE, LOST):
            self._look_now.set()

    async def _live(self) -> None:
        clock = self._context.clock
        expected_until = clock.monotonic() + EXPECTED_FOR_S
        while True:
            self._look_now.clear()
            try:
                await self._look(self._expected if clock.monotonic() < expected_until else 1)
            except Fenced:
                return  # the node stops
            except (JournalError, RuntimeFault) as exc:
                log.info("carriers are looked at again soon", reason=str(exc))
            await wait(self._look_now, clock, LOOK_EVERY_S)

    async def _look(self, expected: int) -> None:
        context = self._context
        carriers = with_binds(context)
        if not carriers or context.draining:
            return
        journal = context.journal
        leases = {lease.carrier: lease for lease in await journal.carrier_leases()}
        held = {name for name in carriers if name in leases and leases[name].owner == journal.worker_id}
        free = free_of(carriers, list(leases.values()))
        self._free_for = {name: self._free_for.get(name, 0) + 1 for name in free}
        left = [name for name, looks in self._free_for.items() if looks > PATIENCE and expected == 1]
        workers = max(context.shards.living, expected)
        claimed = await journal.claim_carriers(to_claim(free, len(held), len(carriers), workers, left))
        for name in sorted({*held, *claimed} - context.held):
            await self._hold(name)
            log.info("holds a carrier", carrier=name)
        for name in carriers:
            if name not in context.held:
                self._pass_on(name, leases.get(name))
            elif context.shards.living > 1:
                await self._say(name)

    def _pass_on(self, name: str, lease: CarrierLease | None) -> None:
        """Tell the courier how the holder finds the carrier."""
        if lease is not None and not lease.free:
            away = (lease.reason or "down at its holder") if lease.state == "down" else None
            self.system.send(self._context.carriers[name].actor, HeldBy(lease.owner, away))

    async def _say(self, name: str) -> None:
        """Tell the other workers how a carrier is that this one holds."""
        health = self._context.health.get(name)
        if health is not None:
            now = self._context.clock.monotonic()
            how = (health.state(now), health.reason(now))
            if self._said.get(name) != how:
                await self._context.journal.tell_carrier(name, *how)
                self._said[name] = how

    def handle(self, message: Any) -> None:
        """Take no mail."""
        raise TypeError(f"leases do not understand {type(message).__name__}")

    def terminate(self, reason: Any) -> None:
        """Look no more."""
        self._background.cancel()

    def inspect(self) -> dict[str, Any]:
        """Show what this worker holds."""
        return {"held": sorted(self._context.held), "free": sorted(self._free_for)}
