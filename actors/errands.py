"""The errands actor: what is for a message of another worker gets to that worker, through the journal.

A receipt counts as stored when its errand is: the carrier is told so then. Who owns the message is told at once
(NOTIFY), and looks by itself now and then, in case it was not heard. It does what the errand says as if it had come to
it, and the errand is forgotten when that is stored. A wish of a customer (cancel, reschedule) is answered the same way
back; should the answer not come, the caller is told that the outcome is unknown, and the wish is still carried out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final, cast

import msgspec

from actors.background import Background, sleep
from actors.cascade import Forget
from actors.context import Context
from actors.handover import ANSWER, read_answer
from actors.messages import CancelMail, Forward, Gained, HandoverEnded, ReceiptMail, RescheduleMail, Wake
from hermes.domain import cascade as rules
from hermes.domain.commands import AlreadyBegun, AlreadyFinal, NotFound
from hermes.domain.message import ulid
from hermes.domain.receipt import DeliveryReceipt
from hermes.journal.base import LOST, NEWS_ANSWER, NEWS_ERRAND, Errand, JournalAway, JournalError
from hermes.runtime import Actor, Reply

AT_ONCE: Final = 500  # errands in one statement
LOOK_EVERY_S: Final = 3.0  # for what nobody told of
RETRY_S: Final = 1.0  # while the journal is away
AGAIN_S: Final = 15.0  # after an errand could not be done: its message is unknown, or the journal was away
WAITING_LIMIT: Final = 50_000  # not yet stored; beyond, carriers are told to offer their receipts again
ASKED_FOR_S: Final = 10.0  # nobody waits longer for an answer

_encode = msgspec.json.encode


class _Receipt(msgspec.Struct):
    receipt: DeliveryReceipt
    target: tuple[int, int, int]


class _Wish(msgspec.Struct):
    ask: str
    send_at: datetime | None = None


class _Crash(msgspec.Struct):
    detail: str


class _Forget(msgspec.Struct):
    at: datetime


class _Look:
    """To itself: there may be errands for this worker."""

    __slots__ = ()


class _Found:
    """To itself: errands for this worker."""

    __slots__ = ("errands",)

    def __init__(self, errands: list[Errand]) -> None:
        self.errands = errands


class _Retry:
    """To itself: an errand could not be done a while ago."""

    __slots__ = ("id",)

    def __init__(self, id: int) -> None:
        self.id = id


_LOOK: Final = _Look()


class _Answering:
    """What stands for the caller of another worker: its answer goes back as news."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Callable[[str], None]) -> None:
        self._answer = answer

    def ok(self, value: Any = None) -> None:
        self._answer("ok")

    def error(self, exc: BaseException) -> None:
        self._answer(told(exc))


def told(exc: BaseException) -> str:
    """Write an answer to a wish as news."""
    if isinstance(exc, AlreadyFinal):
        return f"already_final {exc.status}"
    if isinstance(exc, AlreadyBegun):
        return "already_begun"
    return "not_found" if isinstance(exc, NotFound) else "away"


def answer_to(reply: Reply, text: str) -> None:
    """Answer a caller with what the news say."""
    code, _, status = text.partition(" ")
    if code == "ok":
        reply.ok(None)
    elif code == "already_final":
        reply.error(AlreadyFinal(status))
    elif code == "already_begun":
        reply.error(AlreadyBegun("the message waits for no time"))
    elif code == "not_found":
        reply.error(NotFound("no such message"))
    else:
        reply.error(JournalAway("the message's worker could not store it"))


class ErrandsActor(Actor):
    """`errands`: see the module."""

    kind = "Errands"
    mailbox_limit = 200_000

    def __init__(self, context: Context) -> None:
        self._context = context
        self._out: list[tuple[Errand, Callable[[JournalError | None], None]]] = []
        self._sending = False
        self._asks: OrderedDict[str, tuple[Reply, float]] = OrderedDict()  # until when, monotonic
        self._doing: dict[int, Errand] = {}  # given to the waker, or to be tried again later
        self._done: list[Errand] = []
        self._forgetting = False
        self._looking = False
        self._look_again = False
        self._forwarded = 0
        self._received = 0
        self._ending = False

    def init(self) -> None:
        """Hear of errands, and look for them."""
        self._background = Background(self.ref)
        self._context.journal.on_news(self._told)
        self._look_every()

    def _told(self, topic: str, detail: str) -> None:
        worker_id = self._context.journal.worker_id
        if topic == LOST or (topic == NEWS_ERRAND and detail == worker_id):
            self.ref.send_system(_LOOK)
        elif topic == NEWS_ANSWER:
            worker, _, rest = detail.partition(" ")
            if worker == worker_id:
                ask, _, text = rest.partition(" ")
                waiting = self._asks.pop(ask, None)
                if waiting is not None:
                    answer_to(waiting[0], text)

    def handle(self, message: Any) -> None:
        """Take mail for another worker's message, or errands of others."""
        kind = type(message)
        if kind is Forward:
            self._forward(message.message_id, message.mail)
        elif kind is _Found:
            self._found(message.errands)
        elif kind is _Look or kind is Gained:
            self._look()
        elif kind is _Retry:
            if self._doing.pop(message.id, None) is not None:
                self._look()
        else:
            raise TypeError(f"errands do not understand {kind.__name__}")

    # --- for others -------------------------------------------------------------------------------------------------

    def _forward(self, message_id: str, mail: Any) -> None:
        if type(mail) is ReceiptMail:
            stored = mail.stored
            if len(self._out) >= WAITING_LIMIT or mail.target is None:
                if stored is not None:
                    stored(False)
                return
            body: msgspec.Struct = _Receipt(mail.receipt, mail.target)
            self._send(Errand(message_id, "receipt", _text(body)), lambda e: None if stored is None else stored(not e))
        elif type(mail) is CancelMail or type(mail) is RescheduleMail:
            ask = ulid()
            at = mail.send_at if type(mail) is RescheduleMail else None
            kind = "cancel" if at is None else "reschedule"
            self._asks[ask] = (mail.reply, self._context.clock.monotonic() + ASKED_FOR_S)
            errand = Errand(message_id, kind, _text(_Wish(ask, at)), self._context.journal.worker_id)
            self._send(errand, partial(self._asked, ask))
        elif type(mail) is rules.Crashed:
            errand = Errand(message_id, "crashed", _text(_Crash(mail.detail)))
            self._send(errand, partial(self._again, errand))
        elif type(mail) is Forget:
            errand = Errand(message_id, "forget", _text(_Forget(mail.at)))
            self._send(errand, partial(self._again, errand))
        elif mail is None:
            errand = Errand(message_id, "wake", "{}")
            self._send(errand, partial(self._again, errand))
        else:
            raise TypeError(f"no errand says {type(mail).__name__}")

    def _asked(self, ask: str, error: JournalError | None) -> None:
        if error is not None and (waiting := self._asks.pop(ask, None)) is not None:
            waiting[0].error(error)

    def _again(self, errand: Errand, error: JournalError | None) -> None:
        """Nobody else says this once more: try until it is stored."""
        if error is not None and not self._ending:
            self._send(errand, partial(self._again, errand))

    def _send(self, errand: Errand, stored: Callable[[JournalError | None], None]) -> None:
        self._out.append((errand, stored))
        if not self._sending:
            self._sending = True
            self._background.run(self._store())

    async def _store(self) -> None:
        while self._out:
            batch = self._out[:AT_ONCE]  # there until it is stored, so that `terminate` tells these, too
            error: JournalError | None = None
            try:
                await self._context.journal.send_errands([errand for errand, _ in batch])
                self._forwarded += len(batch)
            except JournalError as exc:
                error = exc
            del self._out[: len(batch)]
            for _, stored in batch:
                stored(error)
            if error is not None:
                await sleep(self._context.clock, RETRY_S)
        self._sending = False

    # --- for this worker ----------------------------------------------------------------------------------------------

    def _look_every(self) -> None:
        now = self._context.clock.monotonic()
        while self._asks and next(iter(self._asks.values()))[1] < now:
            self._asks.popitem(last=False)
        self._look()
        self._background.run(self._tick())

    async def _tick(self) -> None:
        await sleep(self._context.clock, LOOK_EVERY_S)
        self._look_every()

    def _look(self) -> None:
        if self._looking:
            self._look_again = True
            return
        self._looking = True
        self._background.run(self._read())

    async def _read(self) -> None:
        try:
            found = await self._context.journal.errands(AT_ONCE, not_ids=list(self._doing))
        except JournalError:
            found = []
        self.ref.send_system(_Found(found))

    def _found(self, errands: list[Errand]) -> None:
        self._looking = False
        for errand in errands:
            if errand.id not in self._doing:
                self._received += 1
                self._doing[errand.id] = errand
                self._carry_out(errand)
        if self._look_again or len(errands) == AT_ONCE:
            self._look_again = False
            self._look()

    def _carry_out(self, errand: Errand) -> None:
        if errand.kind == "forget":  # what is not in memory is erased where it is stored
            self._context.bodies.forget(errand.message_id)
            cascade = self.system.whereis("cascade/" + errand.message_id)
            if cascade is not None:
                cascade.send_system(Forget(msgspec.json.decode(errand.body, type=_Forget).at))
            self._finish(errand)
            return
        mail: object | None = None
        if errand.kind == "receipt":
            receipt = msgspec.json.decode(errand.body, type=_Receipt)
            mail = ReceiptMail(receipt.receipt, partial(self._receipt_stored, errand), receipt.target)
        elif errand.kind in ("cancel", "reschedule"):
            wish = msgspec.json.decode(errand.body, type=_Wish)
            reply = cast(Reply, _Answering(partial(self._answered, errand, wish.ask)))
            mail = CancelMail(reply) if wish.send_at is None else RescheduleMail(reply, wish.send_at)
        elif errand.kind == "crashed":
            mail = rules.Crashed(msgspec.json.decode(errand.body, type=_Crash).detail)
        elif errand.kind == ANSWER:
            mail = answer = read_answer(errand)
            plan = self._context.carriers.get(answer.carrier)
            if plan is not None:
                self.system.send(plan.actor, HandoverEnded((errand.message_id, answer.step, answer.attempt)))
        self.system.send("waker", Wake(errand.message_id, mail))
        if errand.kind in ("crashed", "wake", ANSWER):
            self._finish(errand)  # its row says that it is in somebody's hands; the rest is as for any such message

    def _receipt_stored(self, errand: Errand, stored: bool) -> None:
        if stored:
            self._finish(errand)
        elif not self._ending:
            self.send_after(AGAIN_S, _Retry(errand.id))

    def _answered(self, errand: Errand, ask: str, text: str) -> None:
        self._finish(errand)
        self._background.run(self._tell(f"{errand.asked_by} {ask} {text}"))

    async def _tell(self, detail: str) -> None:
        try:
            await self._context.journal.tell(NEWS_ANSWER, detail)
        except JournalError:
            return  # whoever asked is told that the outcome is unknown

    def _finish(self, errand: Errand) -> None:
        self._done.append(errand)
        if not self._forgetting:
            self._forgetting = True
            self._background.run(self._forget())

    async def _forget(self) -> None:
        while self._done:
            await sleep(self._context.clock, 0.0)  # those that are done at once go in one statement
            done = self._done[:AT_ONCE]
            try:
                await self._context.journal.errands_done(done)
            except JournalError:
                await sleep(self._context.clock, RETRY_S)
                continue
            del self._done[: len(done)]
            for errand in done:
                self._doing.pop(errand.id, None)
        self._forgetting = False

    def terminate(self, reason: Any) -> None:
        """Carriers offer again what is not stored; callers are told to ask again."""
        self._ending = True
        self._background.cancel()
        for _, stored in self._out:
            stored(JournalAway("the node stops"))

    def inspect(self) -> dict[str, Any]:
        """Count what went to other workers, and what came."""
        return {
            "forwarded": self._forwarded,
            "received": self._received,
            "to_send": len(self._out),
            "doing": len(self._doing),
            "asked": len(self._asks),
        }


def _text(value: msgspec.Struct) -> str:
    return _encode(value).decode()
