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
HOT_PAGE: Final = 1000  # rows of a shard read at once at start
LOOK_EVERY_S: Final = 0.5  # how often the journal is asked what is due
LOOK_AHEAD_S: Final = 1.0  # what is due within this is brought back; its own timer is exact
RECOVERY_PAUSE_S: Final = 0.02  # between pages, so that new traffic stays first
RETRY_S: Final = 1.0  # when the journal is away


@dataclass(slots=True)
class _Waking:
    mail: list[object] = field(default_factory=list)
    crash: rules.Crashed | None = None


class _Loaded:
    __slots__ = ("error", "ids", "stored")

    def __init__(self, ids: list[str], stored: list[StoredMessage], error: JournalError | None) -> None:
        self.ids = ids
        self.stored = stored
        self.error = error


class _DueNow:
    """From the journal: parked messages that are due."""

    __slots__ = ("ids",)

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids


class _Recovered:
    """To itself: everything that was in hands of a shard's former owner is brought back."""

    __slots__ = ("shard",)

    def __init__(self, shard: int) -> None:
        self.shard = shard


class _HotPage:
    __slots__ = ("last_alive", "stored")

    def __init__(self, stored: list[StoredMessage], last_alive: datetime) -> None:
        self.stored = stored
        self.last_alive = last_alive


class _Load:
    __slots__ = ()


_LOAD: Final = _Load()


class WakerActor(Actor):
    """`waker`: see the module. A shard it has gone through is opened for new messages."""

    kind = "Waker"
    mailbox_limit = 200_000

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waking: dict[str, _Waking] = {}
        self._to_load: list[str] = []
        self._loading = False
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
        elif kind is _Loaded:
            self._loaded(message)
        elif kind is _DueNow:
            for message_id in message.ids:
                if self._context.shards.owns(message_id):
                    self._wake(message_id, None)
        elif kind is _HotPage:
            for stored in message.stored:
                if stored.message.message_id not in self._waking:
                    self._recovered += 1
                    self._adopt(Adopt(stored, message.last_alive))
        elif kind is _Recovered:
            self._open(message.shard)
        elif kind is _Load:
            self._load()
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
        self._load()

    def _load(self) -> None:
        if self._loading or not self._to_load:
            return
        self._loading = True
        ids, self._to_load = self._to_load[:LOAD_AT_ONCE], self._to_load[LOAD_AT_ONCE:]
        self._background.run(self._ask_journal(ids))

    async def _ask_journal(self, ids: list[str]) -> None:
        crashed = [i for i in ids if self._waking[i].crash is not None]
        for message_id in crashed:
            await self._flush(message_id)
        try:
            stored, error = await self._context.journal.load(ids), None
        except JournalError as exc:
            stored, error = [], exc
        self.ref.send_system(_Loaded(ids, stored, error))

    async def _flush(self, message_id: str) -> None:
        """Wait until what a crashed cascade had queued is written: writes are committed in order."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: JournalError | None) -> None:
            if not written.done():
                written.set_result(None)

        self._context.journal.append(Write(message_id, "", ()), done)
        await written

    def _loaded(self, loaded: _Loaded) -> None:
        self._loading = False
        if loaded.error is not None:
            self._away(loaded)
            return
        found = {s.message.message_id: s for s in loaded.stored}
        for message_id in loaded.ids:
            waking = self._waking.pop(message_id)
            stored = found.get(message_id)
            if stored is None:
                for mail in waking.mail:
                    _undeliverable(mail)
                continue
            self._woken += 1
            last_alive = self._context.clock.now()  # of a parked message it is not asked
            self._adopt(Adopt(stored, last_alive, waking.mail, waking.crash))
        self._settled()
        self._load()

    def _away(self, loaded: _Loaded) -> None:
        """The journal is away: carriers and callers are told; due times and crashes are tried again."""
        assert loaded.error is not None
        again = []
        for message_id in loaded.ids:
            waking = self._waking[message_id]
            for mail in waking.mail:
                _undeliverable(mail, loaded.error)
            waking.mail.clear()
            if waking.crash is not None:
                again.append(message_id)
            else:
                del self._waking[message_id]
        self._to_load.extend(again)
        if self._to_load:
            self.send_after(RETRY_S, _LOAD)

    def _adopt(self, adopt: Adopt) -> None:
        tenant = adopt.stored.message.tenant
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
                if former:
                    self.ref.send_system(_HotPage(former, last_alive))
                if len(page) < HOT_PAGE:
                    break
                after = page[-1].message.message_id
                await sleep(context.clock, RECOVERY_PAUSE_S)
            self.ref.send_system(_Recovered(shard))
        if self._recovered > recovered:
            log.info("recovered open messages", count=self._recovered - recovered)

    def _open(self, shard: int) -> None:
        """Nothing of a shard is unknown any more: new messages may be accepted in it."""
        shards = self._context.shards
        shards.recovering.discard(shard)
        if shard in shards.held:
            shards.set_open(shards.open | {shard})

    async def _look(self) -> None:
        """Ask, again and again, what is due soon; what this process holds already is left out."""
        journal = self._context.journal
        held: list[str] = []  # due, and in an actor's hands already
        while True:
            pause = LOOK_EVERY_S
            noted_until = self._noted_until
            try:
                before = max(self._context.clock.now() + timedelta(seconds=LOOK_AHEAD_S), noted_until)
                ids = await journal.due_page(before, LOAD_AT_ONCE, not_ids=held)
            except JournalError:
                pause = RETRY_S
            else:
                fresh = [i for i in ids if not self._held(i)]
                if fresh:
                    self.ref.send_system(_DueNow(fresh))
                if len(ids) == LOAD_AT_ONCE:
                    pause = RECOVERY_PAUSE_S
                elif self._noted_until == noted_until:
                    self._noted_until = NEVER
                held = [i for i in (*held, *ids) if self._held(i) or i in fresh]
            await sleep(self._context.clock, pause)

    def _held(self, message_id: str) -> bool:
        return message_id in self._waking or self.system.whereis("cascade/" + message_id) is not None

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
