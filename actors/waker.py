"""The waker brings cascades back from the journal: after a restart, when they are due, and when mail comes for them.

It is the only one who does, and it loads a message once at a time, so that a message never has two cascades. Mail for
a message of another worker goes to `errands`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from actors.background import Background, sleep
from actors.cascade import NOTED_FOR_S
from actors.context import Context
from actors.messages import Adopt, CancelMail, Forward, Gained, ReceiptMail, RescheduleMail, Settle, Wake
from actors.shards import NEVER
from hermes.domain import cascade as rules
from hermes.domain.commands import NotFound
from hermes.journal.base import JournalAway, JournalError, StoredMessage, Write, shard_of
from hermes.logs import get_logger
from hermes.runtime import NO_REPLY, Actor, Reply, SendResult

log = get_logger("hermes.waker")

LOAD_AT_ONCE: Final = 500  # messages in one read
LOADS: Final = 2  # reads at once: on a busy node one is answered long before its turn comes
HOT_PAGE: Final = 1000  # rows of a shard read at once at start
LOOK_EVERY_S: Final = 0.5  # how often the journal is asked what is due
LOOK_AHEAD_S: Final = 1.9  # what is due within this is brought back; its own timer is exact. Not parked: 2 s ahead
LOOK_THROUGH: Final = 10_000  # due messages that may be in somebody's hands at once; later ones wait in the journal
HANDED_FOR_S: Final = 5.0  # what its tenant has not taken by then got lost with it, and is read again
GIVEN_MOST: Final = 2_000  # messages brought back before all actors have had another turn
QUEUED_MOST: Final = 5_000  # writes that wait; with more, what is due is brought back at the slower pace
RECOVERY_PAUSE_S: Final = 0.02  # between pages, so that new traffic stays first
RETRY_S: Final = 1.0  # when the journal is away


@dataclass(slots=True)
class _Waking:
    mail: list[object] = field(default_factory=list)
    crash: rules.Crashed | None = None


class _Load:
    __slots__ = ()


class _Turn:
    """To itself: every actor that had something to do has had its turn since."""

    __slots__ = ()


_LOAD: Final = _Load()
_TURN: Final = _Turn()


class WakerActor(Actor):
    """`waker`: see the module. A shard it has gone through is opened for new messages."""

    kind = "Waker"
    mailbox_limit = 200_000

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waking: dict[str, _Waking] = {}
        self._to_load: list[str] = []
        self._handed: dict[str, tuple[Adopt, float]] = {}  # given to its tenant, and when (monotonic)
        self._loading = 0
        self._given = 0  # messages brought back since the last turn
        self._settling: list[Reply] = []
        self._noted_until = NEVER
        self._recovered = 0
        self._woken = 0

    def init(self) -> None:
        """Start to recover, and to look for what is due."""
        self._background = Background(self.ref)
        self._gained(dict(self._context.shards.held))
        self._background.run(self._look())

    def handle(self, message: Any) -> None:
        """Bring back what is asked for."""
        kind = type(message)
        if kind is Wake:
            if message.delay_s > 0:
                self.send_after(message.delay_s, Wake(message.message_id, message.mail))
            else:
                self._wake(message.message_id, message.mail)
                self._load()
        elif kind is _Load:
            self._load()
        elif kind is _Turn:
            self._given = 0
        elif kind is Gained:
            self._gained(message.shards)
        else:
            raise TypeError(f"the waker does not understand {kind.__name__}")

    def handle_call(self, request: Any, reply: Reply) -> Any:
        """Answer `Settle`."""
        if type(request) is not Settle:
            raise TypeError(f"the waker does not understand {type(request).__name__}")
        self._settling.append(reply)
        self._settled()
        return NO_REPLY

    def _settled(self) -> None:
        if self._settling:
            leaving = self._context.shards.leaving
            if not any(shard_of(message_id) in leaving for message_id in self._waking):
                settling, self._settling = self._settling, []
                for reply in settling:
                    reply.ok(None)

    # --- on demand ------------------------------------------------------------------------------------------------

    def _wake(self, message_id: str, mail: object | None) -> None:
        cascade = self.system.whereis("cascade/" + message_id)
        if cascade is not None and not isinstance(mail, rules.Crashed):
            if mail is not None:
                cascade.send_system(mail)
            return
        handed = self._on_its_way(message_id)
        if handed is not None and not isinstance(mail, rules.Crashed):
            if mail is not None:
                handed.mail.append(mail)
            return
        waking = self._waking.get(message_id)
        if waking is None and not self._context.shards.owns(message_id):
            self.system.send("errands", Forward(message_id, mail))
            return
        if waking is None:
            waking = self._waking[message_id] = _Waking()
            self._to_load.append(message_id)
        if isinstance(mail, rules.Crashed):
            waking.crash = mail
        elif mail is not None:
            waking.mail.append(mail)

    def _load(self) -> None:
        while self._to_load and self._loading < LOADS:
            self._loading += 1
            ids, self._to_load = self._to_load[:LOAD_AT_ONCE], self._to_load[LOAD_AT_ONCE:]
            self._background.run(self._ask_journal(ids))

    async def _ask_journal(self, ids: list[str]) -> None:
        """Read messages and pass them on; at once, not by a mail that would wait behind all others on a busy node."""
        crashed = [i for i in ids if self._waking[i].crash is not None]
        for message_id in crashed:
            await self._flush(message_id)
        try:
            stored = await self._context.journal.load(ids)
        except JournalError as exc:
            self._loading -= 1
            self._away(ids, exc)
        else:
            self._loading -= 1
            self._loaded(ids, stored)

    async def _flush(self, message_id: str) -> None:
        """Wait until what a crashed cascade had queued is written: writes are committed in order."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: JournalError | None) -> None:
            if not written.done():
                written.set_result(None)

        self._context.journal.append(Write(message_id, "", ()), done)
        await written

    def _loaded(self, ids: list[str], loaded: list[StoredMessage]) -> None:
        found = {s.message.message_id: s for s in loaded}
        for message_id in ids:
            waking = self._waking.pop(message_id)
            stored = found.get(message_id)
            if stored is None:
                for mail in waking.mail:
                    _undeliverable(mail)
                continue
            self._woken += 1
            last_alive = self._context.clock.now()  # of a parked message it is not asked
            self._adopt(Adopt(stored, last_alive, waking.mail, waking.crash))
        if self._given or self.ref.send(_TURN) == SendResult.DELIVERED:
            self._given += len(ids)
        self._settled()
        self._load()

    def _away(self, ids: list[str], error: JournalError) -> None:
        """The journal is away: carriers and callers are told; due times and crashes are tried again."""
        again = []
        for message_id in ids:
            waking = self._waking[message_id]
            for mail in waking.mail:
                _undeliverable(mail, error)
            waking.mail.clear()
            if waking.crash is not None:
                again.append(message_id)
            else:
                del self._waking[message_id]
        self._to_load.extend(again)
        if self._to_load:
            self.send_after(RETRY_S, _LOAD)

    def _adopt(self, adopt: Adopt) -> None:
        message = adopt.stored.message
        tenant = message.tenant
        self._handed[message.message_id] = (adopt, self._context.clock.monotonic())
        if self.system.send("tenant/" + tenant, adopt) == SendResult.UNKNOWN:
            self._context.directory.on_tenant(tenant)  # it was deleted; its open messages still end
            self.system.send("tenant/" + tenant, adopt)

    # --- by themselves ----------------------------------------------------------------------------------------------

    def _gained(self, shards: dict[int, datetime]) -> None:
        """Go through shards that are this worker's now; one that nobody ever had is open at once."""
        context = self._context
        former = {shard: at for shard, at in shards.items() if at > NEVER}
        context.shards.set_open(context.shards.open | (shards.keys() - former.keys()))
        if former:
            context.shards.recovering.update(former)
            # What waited in a carrier's queue when the former owner ended is noted as due within this time.
            self._noted_until = context.clock.now() + timedelta(seconds=NOTED_FOR_S)
            self._background.run(self._recover(former))

    async def _recover(self, shards: dict[int, datetime]) -> None:
        """Bring back every message an actor held when the former owner of its shard ended."""
        context = self._context
        recovered = self._recovered
        for shard, last_alive in shards.items():
            after = ""
            while True:
                try:
                    page = await context.journal.hot_page(shard, after, HOT_PAGE)
                except JournalError:
                    await sleep(context.clock, RETRY_S)
                    continue
                # In an open shard this worker has messages of its own.
                own = shard in context.shards.open
                former = [s for s in page if not own or s.message.created_at <= last_alive]
                for stored in former:
                    message_id = stored.message.message_id
                    if message_id not in self._waking and self._on_its_way(message_id) is None:
                        self._recovered += 1
                        self._adopt(Adopt(stored, last_alive))
                if len(page) < HOT_PAGE:
                    break
                after = page[-1].message.message_id
                await sleep(context.clock, RECOVERY_PAUSE_S)
            self._open(shard)
        if self._recovered > recovered:
            log.info("recovered open messages", count=self._recovered - recovered)

    def _open(self, shard: int) -> None:
        """Nothing of a shard is unknown any more: new messages may be accepted in it."""
        shards = self._context.shards
        shards.recovering.discard(shard)
        if shard in shards.held:
            shards.set_open(shards.open | {shard})

    async def _look(self) -> None:
        """Go through what is due soon, again and again, the earliest first; what this process holds is passed over."""
        journal, clock = self._context.journal, self._context.clock
        passed: list[str] = []  # this time
        while not self._context.draining:
            if len(self._to_load) >= LOAD_AT_ONCE or self._given >= GIVEN_MOST:
                await sleep(clock, RECOVERY_PAUSE_S)
                continue
            noted_until = self._noted_until
            try:
                before = max(clock.now() + timedelta(seconds=LOOK_AHEAD_S), noted_until)
                ids = await journal.due_page(before, LOAD_AT_ONCE, not_ids=passed)
            except JournalError:
                await sleep(clock, RETRY_S)
                continue
            for message_id in ids:
                if self._context.shards.owns(message_id):
                    self._wake(message_id, None)
            self._load()
            passed += ids
            through = len(ids) < LOAD_AT_ONCE
            if through and self._noted_until == noted_until:
                self._noted_until = NEVER
            if through or (len(passed) >= LOOK_THROUGH and noted_until == NEVER):
                passed = []
                self._handed = {i: handed for i, handed in self._handed.items() if self._on_its_way(i)}
            slowly = through or journal.queued >= QUEUED_MOST
            await sleep(clock, LOOK_EVERY_S if slowly else RECOVERY_PAUSE_S)

    def _on_its_way(self, message_id: str) -> Adopt | None:
        """Return what its tenant was given to start a cascade, and has not taken yet."""
        adopt, at = self._handed.get(message_id, (None, 0.0))
        if adopt is None or adopt.taken or self._context.clock.monotonic() - at >= HANDED_FOR_S:
            return None
        return adopt

    def terminate(self, reason: Any) -> None:
        """Whoever waits is told to try again."""
        self._background.cancel()
        for waking in self._waking.values():
            for mail in waking.mail:
                _undeliverable(mail, JournalAway("the waker ended"))

    def inspect(self) -> dict[str, Any]:
        """Count what was brought back."""
        return {
            "shards": len(self._context.shards.held),
            "recovering": len(self._context.shards.recovering),
            "recovered": self._recovered,
            "woken": self._woken,
            "waking": len(self._waking),
        }


def _undeliverable(mail: Any, error: JournalError | None = None) -> None:
    """Tell whoever sent it: no such message, or the journal is away."""
    if isinstance(mail, ReceiptMail):
        if mail.stored is not None:
            mail.stored(False)
    elif isinstance(mail, CancelMail | RescheduleMail):
        mail.reply.error(error if error is not None else NotFound("no such message"))
