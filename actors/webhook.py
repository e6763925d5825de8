"""Customers' webhooks: one actor a tenant, so that a slow customer delays nobody.

Memory holds only what is being worked on; the journal's outbox holds everything. A delivery comes as news
from a cascade (`WebhooksDue`, after the commit) or is read back from the outbox: at start, when a retry is
due, when there was no room for it. Its body was made by who committed the event (`webhook_bodies.py`), or else
its message is loaded, with others, right before the call. What became of it is written together with that of
other tenants (`webhook_results.py`), and only then is it forgotten here.

A tenant has a queue for each target (`webhook_targets.py`); the tenants' actors are started, and get their news, by
`webhook_supervisor.py`.

Invariants:
- `_held` has exactly the deliveries that are queued, under way, or whose result is not known to be written.
  What is in it is skipped when the outbox is read. What is written during a read is forgotten after the read,
  which may have seen the row as it was.
- A (message, target) has at most one call under way; its other deliveries wait in its chain, in order of seq.
- At most one read of the journal is under way per actor (`_busy`).
- `_unread` is true iff the outbox may hold due rows that memory had no room for; news are then left there.
"""

from __future__ import annotations

import asyncio
from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf
from operator import attrgetter
from typing import Any, Final

from actors.background import Background
from actors.context import Context
from actors.webhook_bodies import render
from actors.webhook_client import WebhookClient
from actors.webhook_results import ResultWriter, Saved
from actors.webhook_targets import Chain, Target, origin
from hermes.domain.events import DEFAULT_WEBHOOK_TYPES, webhook_type
from hermes.domain.message import Message, rfc3339
from hermes.domain.webhooks import (
    Answer,
    ReplayDue,
    Verdict,
    judge,
    sign,
    webhook_id,
)
from hermes.journal.base import JournalError, OutboxEntry, OutboxItem, OutboxResult, StoredMessage
from hermes.logs import get_logger
from hermes.runtime import SHUTDOWN, Actor
from hermes.runtime.timers import Timer
from hermes.telemetry import Tracer

log = get_logger("hermes.webhook")

CALLBACK: Final = "callback"  # the outbox's target for a message's callback_url

HELD_MOST: Final = 5_000  # deliveries a tenant has in memory, about 400 octets each
IN_FLIGHT_MOST: Final = 128  # calls under way for one tenant; bodies are in memory for these only
LOAD_AT_ONCE: Final = 100  # messages read in one query
LOOK_ROWS: Final = 1_000  # rows read from the outbox at once, those already held not counted
LOAD_ENOUGH: Final = 32  # messages: fewer wait before they are read, so that the next come together
LOAD_REST_S: Final = 0.025  # since the last load; a query for every commit's news cost as much as rendering them
READS_AT_ONCE: Final = 4  # over all tenants: webhooks leave the journal's connections to others

LOOK_EVERY_S: Final = 5.0  # how often an actor asks the outbox anew; another worker may have replayed something
LOOKS_PER_S: Final = 50.0  # by all actors together: with more than 250 of them each asks less often
RETRY_JOURNAL_S: Final = 1.0  # while the journal is away
IDLE_S: Final = 60.0  # with an empty outbox, before an actor ends
LAST_CALLS_S: Final = 3.0  # how long the calls under way are waited for when the node stops

FAILING_AFTER: Final = 10  # failures in a row; what has no room then is counted as a failed try
POSTPONED_S: Final = (60.0, 3_600.0)  # at least, at most: what has no room at a slow target
PAUSE_MOST_S: Final = 60.0  # how long a Retry-After holds up the target's other deliveries
TARGETS_KEPT: Final = 500  # remembered while they have nothing to do
TARGETS_SHOWN: Final = 20

_seq = attrgetter("seq")

Key = tuple[str, int, str]  # message id, seq, target


@dataclass(slots=True, frozen=True)
class WebhooksDue:
    """To `webhooks` or `webhook/<tenant id>`: these outbox entries of a message are committed."""

    tenant: str
    message_id: str
    entries: Sequence[OutboxEntry]


class Signal:
    """Mail that says it all by being there."""

    __slots__ = ()


_WAKE: Final = Signal()  # to a tenant's actor: the timer went off


class _Looked:
    """To itself: the outbox was read (or could not be: `rows` is None)."""

    __slots__ = ("limit", "rows")

    def __init__(self, rows: list[OutboxItem] | None, limit: int) -> None:
        self.rows = rows
        self.limit = limit


class _Loaded:
    """To itself: messages were read, or could not be: `stored` is None. `gone`: their URL answered 410."""

    __slots__ = ("chains", "gone", "stored")

    def __init__(
        self,
        chains: list[Chain],
        stored: dict[str, StoredMessage] | None,
        gone: frozenset[str] = frozenset(),
    ) -> None:
        self.chains = chains
        self.stored = stored
        self.gone = gone


class _Answered:
    """To itself: a call is over."""

    __slots__ = ("answer", "chain")

    def __init__(self, chain: Chain, answer: Answer) -> None:
        self.chain = chain
        self.answer = answer


class Shared:
    """What the tenants' actors have in common."""

    __slots__ = ("actors", "client", "overflowed", "reads", "results")

    def __init__(self, client: WebhookClient, results: ResultWriter) -> None:
        self.client = client
        self.results = results
        self.reads = asyncio.Semaphore(READS_AT_ONCE)
        self.overflowed: set[str] = set()  # tenants whose mailbox was full: their outbox holds more than they know
        self.actors = 0


class WebhookActor(Actor):
    """`webhook/<tenant id>`: delivers one tenant's events. See the module's docstring."""

    kind = "Webhook"
    mailbox_limit = 5_000

    def __init__(self, context: Context, shared: Shared, tenant: str) -> None:
        self._context = context
        self._shared = shared
        self._tenant = tenant
        self._held: dict[Key, OutboxItem] = {}
        self._chains: dict[tuple[str, str], Chain] = {}
        self._targets: dict[str, Target] = {}
        self._ready: dict[str, Target] = {}  # those with something in their queue
        # Whose message must be loaded before anybody knows where it goes.
        self._unresolved = Target(CALLBACK, IN_FLIGHT_MOST)
        self._in_flight = 0
        self._busy = False
        self._looked_last = False
        self._loaded_at = -inf  # loop time
        self._saved_meanwhile: list[OutboxResult] = []
        self._gone: set[str] = set()  # messages whose callback_url answered 410, until that is written
        self._unread = True
        self._look_at = -inf  # monotonic
        self._try_again_at = -inf  # monotonic: not before, the journal is away
        self._idle_since: float | None = None
        self._timer: Timer | None = None
        self._timer_at = inf
        self._calls: set[asyncio.Task[None]] = set()

    def init(self) -> None:
        """Read the outbox."""
        self._shared.actors += 1
        self._tasks = Background(self.ref)
        self._pump()

    def handle(self, message: Any) -> None:
        """Take one step, and start whatever may start now."""
        kind = type(message)
        if kind is _Answered:
            self._answered(message)
        elif kind is WebhooksDue:
            self._take_news(message)
        elif kind is Saved:
            self._saved(message.results)
        elif kind is _Loaded:
            self._loaded(message)
        elif kind is _Looked:
            self._looked(message)
        elif message is _WAKE:
            self._timer = None
        elif kind is ReplayDue:
            self._look_at = -inf
        else:
            raise TypeError(f"a webhook actor does not understand {kind.__name__}")
        self._pump()

    # --- what is to be done ---------------------------------------------------------------------------------

    def _take_news(self, news: WebhooksDue) -> None:
        now = self._context.clock.now()
        for entry in news.entries:
            if self._unread or len(self._held) >= HELD_MOST:
                self._unread = True
                self._look_at = -inf
                return
            if entry.payload is not None or entry.due > now:
                # Its time of creation is the row's: a body must be the same at every try.
                self._look_at = min(self._look_at, self._monotonic(entry.due))
                continue
            self._hold(
                OutboxItem(
                    news.message_id,
                    entry.seq,
                    entry.target,
                    self._tenant,
                    entry.type,
                    entry.due,
                    0,
                    entry.due,
                )
            )

    def _hold(self, item: OutboxItem) -> None:
        """Take a delivery that is due into memory, unless it is there."""
        key = (item.message_id, item.seq, item.target)
        if key in self._held:
            return
        self._held[key] = item
        self._idle_since = None
        chain = self._chains.get((item.message_id, item.target))
        if chain is not None:
            insort(chain.waiting, item, key=_seq)
            return
        target = self._unresolved if item.target == CALLBACK else self._target(item.target)
        chain = self._chains[item.message_id, item.target] = Chain(item, target)
        self._enqueue(chain)

    def _enqueue(self, chain: Chain, first: bool = False) -> None:
        """Queue a chain for its target."""
        target = chain.target
        if first:
            target.queue.appendleft(chain)
        else:
            target.queue.append(chain)
        self._ready[target.name] = target
        self._shed(target)

    def _shed(self, target: Target) -> None:
        """Give what came last for a slow target back to the outbox: memory is for those that answer."""
        while target.overfull:
            chain = target.queue.pop()
            del self._chains[chain.key]
            for item in chain.waiting:
                self._put_off(target, item)

    def _put_off(self, target: Target, item: OutboxItem) -> None:
        """Say when a delivery that found no room is to be looked at again: the older it is, the later."""
        now = self._context.clock.now()
        if target.failures >= FAILING_AFTER:
            # Not tried, but taken as tried: it would have failed like the ten before it.
            attempts = item.attempts + 1
            verdict = judge(Answer(None, target.last_error or "failing"), attempts, _name(item))
            self._conclude(item, verdict, attempts)
            return
        age_s = (now - item.created_at).total_seconds()
        wait_s = min(max(age_s / 2, POSTPONED_S[0]), POSTPONED_S[1])
        due = now + timedelta(seconds=wait_s)
        self._put(OutboxResult(*_key(item), "retry", item.attempts, due, item.last_error))

    def _target(self, name: str) -> Target:
        target = self._targets.get(name)
        if target is None:
            if len(self._targets) >= TARGETS_KEPT:
                self._forget_targets()
            target = self._targets[name] = Target(name)
        return target

    def _forget_targets(self) -> None:
        for name in [n for n, t in self._targets.items() if not t.queue and not t.in_flight]:
            del self._targets[name]

    # --- starting what may start ----------------------------------------------------------------------------

    def _pump(self) -> None:
        """Read the outbox or load messages if there is need and room; set the timer."""
        if self._context.draining:
            return
        now = self._context.clock.monotonic()
        if self._tenant in self._shared.overflowed:
            self._shared.overflowed.discard(self._tenant)
            self._unread = True
            self._look_at = -inf
        if not self._busy and now >= self._try_again_at:
            look = self._look_at <= now and self._may_look(now)
            if look and not (self._looked_last and self._begin_load(now) and self._busy):
                self._begin_look()
            elif not self._busy:
                self._begin_load(now)
        self._arm(now)

    def _may_look(self, now: float) -> bool:
        """Tell whether there is room for what the outbox may hold; what waits for slow targets aside."""
        if not self._unread:
            return True
        held = len(self._held)
        waiting = sum(len(target.queue) for target in self._ready.values() if not target.has_room(now))
        return held <= HELD_MOST - LOOK_ROWS and held - waiting <= LOOK_ROWS

    def _arm(self, now: float) -> None:
        """Let the timer go off when something can be done by then that cannot be done now."""
        if self._busy:
            return  # its end pumps again
        at = inf
        if now < self._try_again_at:
            at = self._try_again_at
        else:
            if self._look_at > now:
                at = self._look_at
            elif not self._calls:
                at = now + RETRY_JOURNAL_S  # no room to look now, and nothing under way that would pump again
            for target in self._ready.values():
                if now < target.paused_until < at:
                    at = target.paused_until
        if self._timer is not None:
            if abs(self._timer_at - at) < 0.05:
                return
            self._timer.cancel()
            self._timer = None
        if at < inf:
            self._timer_at = at
            self._timer = self.send_after(at - now, _WAKE)

    def _begin_look(self) -> None:
        self._busy = True
        self._looked_last = True
        self._look_at = inf
        self._tasks.run(self._look(len(self._held) + LOOK_ROWS))

    async def _look(self, limit: int) -> None:
        # Rows due later are read too: the first of them says when to look again.
        before = self._context.clock.now() + timedelta(days=30)
        rows: list[OutboxItem] | None
        async with self._shared.reads:
            try:
                rows = await self._context.journal.outbox_due(self._tenant, before, limit)
            except JournalError:
                rows = None
        self.ref.send_system(_Looked(rows, limit))

    def _looked(self, looked: _Looked) -> None:
        now = self._context.clock.monotonic()
        wall = self._context.clock.now()
        rows = looked.rows
        if rows is None:
            self._look_at = -inf
            self._try_again_at = now + RETRY_JOURNAL_S
            self._read_over()
            return
        next_at = now + max(LOOK_EVERY_S, self._shared.actors / LOOKS_PER_S)
        more = len(rows) >= looked.limit
        for item in rows:
            if item.due > wall:
                next_at = min(next_at, self._monotonic(item.due))
                more = False
                break
            if len(self._held) >= HELD_MOST:
                more = True
                break
            self._hold(item)
        self._unread = more
        self._look_at = min(self._look_at, -inf if more else next_at)
        self._read_over()
        if not rows and not self._held:
            if self._idle_since is None:
                self._idle_since = now
            elif now - self._idle_since >= IDLE_S and not self.ref.mailbox:
                self.stop()

    def _begin_load(self, now: float) -> bool:
        """Pick what may be called now, in turn from each target, and load its messages. False: nothing."""
        picked: list[Chain] = []
        turn = deque(self._ready.values())
        while turn and len(picked) < LOAD_AT_ONCE and self._in_flight < IN_FLIGHT_MOST:
            target = turn.popleft()
            if not target.has_room(now):
                continue
            chain = target.queue.popleft()
            del self._ready[target.name]
            if target.queue:
                self._ready[target.name] = target  # the last one next time
                turn.append(target)
            if not self._context.shards.owns(chain.key[0]):  # its new owner delivers it
                del self._chains[chain.key]
                for item in chain.waiting:
                    del self._held[_key(item)]
                continue
            chain.running = chain.waiting.pop(0)
            target.in_flight += 1
            self._in_flight += 1
            picked.append(chain)
        if not picked:
            return False
        self._looked_last = False
        rendered: dict[tuple[str, int], bytes] = {}
        unknown: list[Chain] = []
        for chain in picked:
            if self._is_known(chain.under_way):
                self._begin(chain, None, frozenset(), rendered)
            else:
                unknown.append(chain)
        if unknown:
            self._busy = True
            self._tasks.run(self._load(unknown))
        return True

    def _is_known(self, item: OutboxItem) -> bool:
        """Tell whether a delivery can be made without its message."""
        return item.payload is not None or self._context.bodies.find(item.message_id, item.seq) is not None

    async def _load(self, picked: list[Chain]) -> None:
        ids = list({chain.key[0]: None for chain in picked})
        stored: dict[str, StoredMessage] | None
        gone: set[str] = set()
        loop = asyncio.get_running_loop()
        rest_s = self._loaded_at + LOAD_REST_S - loop.time()
        if rest_s > 0 and len(picked) < LOAD_ENOUGH:
            await asyncio.sleep(rest_s)  # others become ready meanwhile, and are loaded together next
        async with self._shared.reads:
            try:
                stored = {s.message.message_id: s for s in await self._context.journal.load(ids)}
                for message_id, target in [chain.key for chain in picked]:
                    message = stored.get(message_id)
                    if target != CALLBACK or message is None or _callback_events(message) < 2:
                        continue
                    if await self._answered_gone(message_id):
                        gone.add(message_id)
            except JournalError:
                stored = None
        self._loaded_at = loop.time()
        self.ref.send_system(_Loaded(picked, stored, frozenset(gone)))

    async def _answered_gone(self, message_id: str) -> bool:
        """Tell whether the message's callback_url answered 410 to another event, which is a dead letter."""
        after_all = f"{message_id}.{999_999_999}.{CALLBACK}"
        for dead in await self._context.journal.dead_letters(self._tenant, after_all, LOAD_AT_ONCE):
            if dead.message_id != message_id:
                break
            if dead.target == CALLBACK and dead.last_error == "410":
                return True
        return False

    def _loaded(self, loaded: _Loaded) -> None:
        stored = loaded.stored
        if stored is None:
            self._try_again_at = self._context.clock.monotonic() + RETRY_JOURNAL_S
            for chain in reversed(loaded.chains):
                self._take_back(chain)
                self._enqueue(chain, first=True)
        else:
            rendered: dict[tuple[str, int], bytes] = {}
            for chain in loaded.chains:
                self._begin(chain, stored.get(chain.key[0]), loaded.gone, rendered)
        self._read_over()

    def _take_back(self, chain: Chain) -> None:
        """Undo the picking of a chain; the caller queues it."""
        chain.waiting.insert(0, chain.under_way)
        chain.running = None
        chain.target.in_flight -= 1
        self._in_flight -= 1

    def _begin(
        self,
        chain: Chain,
        stored: StoredMessage | None,
        gone: frozenset[str],
        rendered: dict[tuple[str, int], bytes],
    ) -> None:
        """Call the customer, unless it has become clear that there is nobody to call."""
        item = chain.under_way
        message_id = item.message_id
        bodies = self._context.bodies
        known = bodies.find(message_id, item.seq) if item.payload is None else None
        directory = self._context.directory
        secrets: list[str]
        url: str | None
        if stored is None and known is None and item.payload is None:
            return self._end(chain, Verdict("dead", error="the message is not stored any more"))
        if item.target == CALLBACK:
            tenant = directory.tenant(self._tenant)
            url = known.url if known is not None else stored.message.callback_url if stored is not None else None
            if message_id in gone or message_id in self._gone:
                return self._end(chain, Verdict("gone", error="410"))
            if tenant is None or url is None:
                return self._end(chain, Verdict("dead", error="the tenant was deleted" if url else "no URL"))
            secrets = [tenant.secret]
            until = tenant.previous_secret_until
            if tenant.previous_secret is not None and until is not None and self._context.clock.now() < until:
                secrets.append(tenant.previous_secret)
            if chain.target is self._unresolved and not self._resolve(chain, url):
                return None
        else:
            endpoint = directory.endpoint(self._tenant, item.target)
            if endpoint is None or endpoint.disabled_at is not None:
                why = "the endpoint was deleted" if endpoint is None else "the endpoint is disabled"
                return self._end(chain, Verdict("gone", error=why))
            url, secrets = endpoint.url, [endpoint.secret]
        if known is not None:
            body = known.octets
            bodies.called(message_id, item.seq)
        elif (message_id, item.seq) in rendered:
            body = rendered[message_id, item.seq]
        else:
            try:
                body = rendered[message_id, item.seq] = render(item, stored)
            except Exception:  # the log is told, and the dead letter can be replayed once it is mended
                log.exception("a webhook cannot be rendered", message_id=message_id, seq=item.seq)
                return self._end(chain, Verdict("dead", error="the event cannot be rendered"))
        message = stored.message if stored is not None else None
        task = asyncio.get_running_loop().create_task(self._call(chain, url, secrets, body, message))
        self._calls.add(task)
        task.add_done_callback(self._call_done)

    def _resolve(self, chain: Chain, url: str) -> bool:
        """Now it is known where a chain goes: count it there. False: there is no room, it is queued."""
        target = self._target(f"{CALLBACK} {origin(url)}")
        if target.has_room(self._context.clock.monotonic()):
            self._unresolved.in_flight -= 1
            target.in_flight += 1
            chain.target = target
            return True
        self._take_back(chain)
        chain.target = target
        self._enqueue(chain)
        return False

    def _read_over(self) -> None:
        self._busy = False
        if self._saved_meanwhile:
            results, self._saved_meanwhile = self._saved_meanwhile, []
            self._saved(results)

    # --- calling, and what follows --------------------------------------------------------------------------

    async def _call(self, chain: Chain, url: str, secrets: list[str], body: bytes, message: Message | None) -> None:
        item = chain.under_way
        tracer = self._context.tracer
        client = self._shared.client
        async with client.room:
            id_ = webhook_id(item.message_id, item.seq)
            timestamp = int(self._context.clock.now().timestamp())
            headers = {
                "webhook-id": id_,
                "webhook-timestamp": str(timestamp),
                "webhook-signature": sign(secrets, id_, timestamp, body),
            }
            if tracer is None or message is None:
                answer = await client.post(url, body, headers)
            else:
                answer = await self._traced_call(tracer, message, item, url, body, headers)
        if answer.status == 410 and item.target != CALLBACK:
            try:
                await self._context.directory.disable_endpoint(self._tenant, item.target)
            except JournalError:
                answer = Answer(None, "410")  # asked again, until it can be written
        answered = _Answered(chain, answer)
        if self.ref.send_system(answered):
            self._answered(answered)  # the actor is ending and waits for this

    async def _traced_call(
        self, tracer: Tracer, message: Message, item: OutboxItem, url: str, body: bytes, headers: dict[str, str]
    ) -> Answer:
        """Call within the message's trace: the customer gets a traceparent, the call a span."""
        clock = self._context.clock
        parent = tracer.webhook_parent(message, item.seq, item.target, item.attempts)
        if parent is not None:
            headers["traceparent"] = parent
        start = clock.now()
        answer = await self._shared.client.post(url, body, headers)
        outcome = str(answer.status) if answer.status is not None else "no answer"
        tracer.webhook(message, item.seq, item.target, item.attempts, start, clock.now(), outcome)
        return answer

    def _call_done(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.ref.stop(error)

    def _answered(self, answered: _Answered) -> None:
        chain, answer = answered.chain, answered.answer
        item = chain.under_way
        target = chain.target
        attempts = item.attempts + 1
        verdict = judge(answer, attempts, _name(item))
        target.take(answer, verdict.error)
        if answer.retry_after_s:
            wait_s = min(answer.retry_after_s, PAUSE_MOST_S)
            target.paused_until = self._context.clock.monotonic() + wait_s
        if verdict.outcome == "gone" and item.target == CALLBACK:
            self._gone.add(item.message_id)
        self._end(chain, verdict, attempts)
        self._shed(target)

    def _end(self, chain: Chain, verdict: Verdict, attempts: int | None = None) -> None:
        """Conclude the delivery a chain has under way; the next one of the chain is first in the queue."""
        item = chain.under_way
        chain.running = None
        chain.target.in_flight -= 1
        self._in_flight -= 1
        self._context.metrics.webhook_attempts.inc(verdict.outcome)
        self._conclude(item, verdict, item.attempts if attempts is None else attempts)
        if chain.waiting:
            self._enqueue(chain, first=True)
        else:
            del self._chains[chain.key]

    def _conclude(self, item: OutboxItem, verdict: Verdict, attempts: int) -> None:
        """Have written what became of a delivery."""
        outcome = verdict.outcome
        key = _key(item)
        if outcome == "delivered":
            self._put(OutboxResult(*key, "done", attempts))
        elif outcome == "retry":
            due = self._context.clock.now() + timedelta(seconds=verdict.delay_s)
            self._put(OutboxResult(*key, "retry", attempts, due, verdict.error))
        else:
            self._put(OutboxResult(*key, "dead", attempts, None, verdict.error))

    def _put(self, result: OutboxResult) -> None:
        self._shared.results.put(result, self.ref)

    def _saved(self, results: list[OutboxResult]) -> None:
        """Forget what is written; look again when the first of it is due."""
        if self._busy:
            self._saved_meanwhile.extend(results)
            return
        for result in results:
            self._held.pop((result.message_id, result.seq, result.target), None)
            if result.due is not None:
                self._look_at = min(self._look_at, self._monotonic(result.due))
            elif result.outcome == "dead" and result.target == CALLBACK:
                self._gone.discard(result.message_id)

    def _monotonic(self, at: datetime) -> float:
        clock = self._context.clock
        return clock.monotonic() + max(0.0, (at - clock.now()).total_seconds())

    # --- the end, and seeing it -----------------------------------------------------------------------------

    def terminate(self, reason: Any) -> Any:
        """At a shutdown, wait a little for the calls under way: what they bring need not be sent twice."""
        self._shared.actors -= 1
        self._tasks.cancel()
        if reason is SHUTDOWN and self._calls:
            return self._wait_for_calls()
        for task in self._calls:
            task.cancel()
        return None

    async def _wait_for_calls(self) -> None:
        calls = list(self._calls)
        await asyncio.wait(calls, timeout=LAST_CALLS_S)
        for task in calls:
            task.cancel()

    def inspect(self) -> dict[str, Any]:
        """Show what waits and why; of URLs the origin only."""
        oldest = min((item.due for item in self._held.values()), default=None)
        shown = sorted(self._targets.values(), key=lambda t: (-len(t.queue), -t.in_flight, -t.failures))
        return {
            "tenant": self._tenant,
            "pending": len(self._held),
            "in_flight": self._in_flight,
            "oldest_due": None if oldest is None else rfc3339(oldest),
            "more_in_journal": self._unread,
            "targets": {
                target.name: {
                    "queued": len(target.queue),
                    "in_flight": target.in_flight,
                    "window": target.window,
                    "failures": target.failures,
                    "last_error": target.last_error,
                }
                for target in shown[:TARGETS_SHOWN]
            },
            "targets_total": len(self._targets),
        }


def _callback_events(stored: StoredMessage) -> int:
    """Count the events of a message that its callback_url is told of."""
    return sum(1 for event in stored.events if webhook_type(event) in DEFAULT_WEBHOOK_TYPES)


def _key(item: OutboxItem) -> Key:
    return (item.message_id, item.seq, item.target)


def _name(item: OutboxItem) -> str:
    return f"{item.message_id}.{item.seq}.{item.target}"
