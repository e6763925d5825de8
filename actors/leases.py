"""The leases actor: sees to it that each carrier with binds is held by exactly one living worker.

The database says who holds a carrier; it is that worker's until its process ended or was declared dead, so nothing has
to be renewed. A carrier is held whole: all its binds, one queue, one pace, one order. A worker takes its fair share of
those that nobody holds, and whatever nobody took for some looks.

A move costs a log-out, so a carrier that is held moves only when nothing has changed for a good while, one at a time:
the worker with fewest asks the one with most (balance.py), which lets go of one of them (`Fleet.give`) and names the
new holder.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

from actors.background import Background, wait
from actors.balance import Seen, Steady, Wish, to_give, wish_of
from actors.context import Context
from actors.messages import HeldBy
from hermes.domain.message import rfc3339
from hermes.journal.base import (
    LOST,
    NEWS_CARRIERS,
    NEWS_LIVE,
    NEWS_WANTED,
    NEWS_WORKERS,
    CarrierLease,
    Fenced,
    JournalError,
)
from hermes.logs import get_logger
from hermes.runtime import Actor, RuntimeFault

log = get_logger("hermes.leases")

LOOK_EVERY_S: Final = 1.0
EXPECTED_FOR_S: Final = 10.0  # after a start, for the other workers of this node to be there
PATIENCE: Final = 3  # looks for which a carrier is left to those whose share it is
STEADY_S: Final = 30.0  # workers and holders have been the same, before a carrier is moved: no storm moves binds about
REST_S: Final = 300.0  # for a carrier that could not be let go of
WANTED_AT_ONCE: Final = 50  # carriers named in one wish: what is told has room for 8,000 octets

Give = Callable[[str, Callable[[], Awaitable[bool]]], Awaitable[str | None]]


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
        give: makes it let go of one (`Fleet.give`).
        expected: how many workers this node is to have.
    """

    kind = "Leases"

    def __init__(self, context: Context, hold: Callable[[str], Awaitable[None]], give: Give, expected: int = 1) -> None:
        self._context = context
        self._hold = hold
        self._give = give
        self._expected = expected
        self._look_now = asyncio.Event()
        self._free_for: dict[str, int] = {}  # looks
        self._said: dict[str, tuple[str, str | None]] = {}
        self._steady = Steady()
        self._wish: Wish | None = None  # what this worker asked for last
        self._wanted: tuple[str, frozenset[str]] | None = None  # who asked this one last, and for what
        self._giving: str | None = None
        self._rests: dict[str, float] = {}  # until when, monotonic
        self._given = 0

    def init(self) -> None:
        """Begin to look."""
        self._background = Background(self.ref)
        self._context.journal.on_news(self._told)
        self._background.run(self._live())

    def _told(self, topic: str, detail: str) -> None:
        if topic in (NEWS_WORKERS, NEWS_CARRIERS, NEWS_LIVE, LOST):
            self._look_now.set()
        elif topic == NEWS_WANTED:
            taker, *wanted = detail.split(" ")
            self._wanted = taker, frozenset(wanted)
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
        giving = self._giving  # before the leases are read: they may tell of it what is not true any more
        leases = {lease.carrier: lease for lease in await journal.carrier_leases()}
        held = {name for name in carriers if name in leases and leases[name].owner == journal.worker_id}
        free = free_of(carriers, list(leases.values()))
        self._free_for = {name: self._free_for.get(name, 0) + 1 for name in free}
        left = [name for name, looks in self._free_for.items() if looks > PATIENCE and expected == 1]
        workers = max(context.shards.living, expected)
        claimed = await journal.claim_carriers(to_claim(free, len(held), len(carriers), workers, left))
        for name in sorted({*held, *claimed} - context.held - {giving}):
            await self._begin(name, given=name in held)
        for name in carriers:
            if name == giving:
                continue
            if name not in context.held:
                self._pass_on(name, leases.get(name))
            elif context.shards.living > 1:
                await self._say(name)
        await self._balance(carriers, leases)

    async def _begin(self, name: str, *, given: bool) -> None:
        """Serve a carrier from now on."""
        self._said.pop(name, None)
        self._context.moved.pop(name, None)
        await self._hold(name)
        wish = self._wish
        if given and wish is not None and name in wish.carriers:
            self._wish = None
            self._moved(name, f"given by worker {wish.giver}", f"it held {wish.more} more")
        else:
            log.info("holds a carrier", carrier=name)

    # --- moving carriers that are held ----------------------------------------------------------------------------

    async def _balance(self, carriers: Sequence[str], leases: Mapping[str, CarrierLease]) -> None:
        """Ask for a carrier, or let go of one, if nothing has changed for a good while."""
        wanted, self._wanted = self._wanted, None
        context = self._context
        journal, workers = context.journal, context.shards.workers
        now = context.clock.monotonic()
        holders = {name: leases[name].owner for name in carriers if name in leases and not leases[name].free}
        steady = self._steady.for_s((workers, tuple(sorted(holders.items()))), now) >= STEADY_S
        if not steady or len(holders) < len(carriers) or self._giving is not None:
            return
        ready = [name for name in holders if leases[name].state == "up" and self._rests.get(name, now) <= now]
        seen = Seen(workers, holders, ready)
        if wanted is not None:
            taker, asked_for = wanted
            wish, name = wish_of(taker, seen), to_give(journal.worker_id, taker, asked_for, seen)
            if wish is not None and name is not None:
                self._giving = name
                self._background.run(self._let_go(name, taker, wish.more))
            return
        self._wish = wish_of(journal.worker_id, seen)
        if self._wish is not None:
            await journal.tell(NEWS_WANTED, " ".join((journal.worker_id, *self._wish.carriers[:WANTED_AT_ONCE])))

    async def _let_go(self, name: str, taker: str, more: int) -> None:
        context = self._context
        try:
            stays = await self._give(name, partial(context.journal.give_carrier, name, taker))
        except (JournalError, RuntimeFault) as exc:
            stays = str(exc)
        finally:
            self._giving = None
            self._look_now.set()
        self._said.pop(name, None)
        if stays is None:
            self._given += 1
            self._moved(name, f"given to worker {taker}", f"it held {more} fewer")
        else:
            self._rests[name] = context.clock.monotonic() + REST_S
            log.info("a carrier stays, though another worker holds fewer", carrier=name, reason=stays)

    def _moved(self, name: str, how: str, why: str) -> None:
        """Tell an operator that a carrier moved, and why."""
        self._context.moved[name] = f"{how} at {rfc3339(self._context.clock.now())}: {why}"
        log.info("a carrier moved", carrier=name, reason=f"{how}: {why}")

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
        return {
            "held": sorted(self._context.held),
            "free": sorted(self._free_for),
            "giving": self._giving,
            "given": self._given,
            "moved": dict(sorted(self._context.moved.items())),
        }
