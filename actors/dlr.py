"""The DLR processor: finds the message a receipt is about - early, late, twice, on another bind, after a restart.

1. A cascade waits for that id in memory: it gets the receipt.
2. The journal knows the id: the waker brings the cascade back, and gives it the receipt.
3. Nobody knows it (yet): it is parked in the journal, and claimed when the submit answer names the id.
4. Nobody has claimed it after a while, and exactly one doubtful message is to and from whom it says: it is that
   message's (rule 9, `hermes/domain/doubt.py`).

A receipt that another worker parked is looked for here as well: its submit answer may come to this one.

A receipt counts as stored when its event is committed, or its parked row is. Only then is the carrier told so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any, Final

from msgspec.structs import replace

from actors.background import Background, sleep
from actors.context import Context
from actors.messages import ReceiptMail, Wake
from actors.receipts import Unmatched, canonical
from hermes.domain.commands import ReceiptArrived
from hermes.domain.doubt import the_one
from hermes.journal.base import LOST, NEWS_PARKED, JournalAway, JournalError, ParkedReceipt, RefTarget
from hermes.logs import get_logger
from hermes.runtime import NO_REPLY, Actor, Reply, SendResult

log = get_logger("hermes.dlr")

LOOK_UP_AT_ONCE: Final = 500  # ids asked of the journal in one query
WAITING_LIMIT: Final = 100_000  # receipts not yet looked up; beyond, carriers are told to offer them again
PARKED_LOADED: Final = 50_000  # parked receipts read back at start
RETRY_S: Final = 1.0  # while the journal is away
DOUBTFUL_LOOKED_AT: Final = 20  # of the newest to and from the same


class _LookedUp:
    """To itself: a look-up in the journal is over."""

    __slots__ = ("batch", "error", "targets")

    def __init__(
        self, batch: list[ReceiptMail], targets: list[tuple[str, RefTarget] | None], error: JournalError | None
    ) -> None:
        self.batch = batch
        self.targets = targets
        self.error = error


class _LookForDoubtful:
    """To itself: the oldest receipts that nobody has claimed have waited long enough."""

    __slots__ = ()


class _Asked:
    """A `ReceiptStored` that answers a call: "matched" or "parked"."""

    __slots__ = ("_reply", "outcome")

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.outcome = "matched"

    def __call__(self, ok: bool) -> None:
        if ok:
            self._reply.ok(self.outcome)
        else:
            self._reply.error(JournalAway("the receipt could not be stored"))


class DLRProcessor(Actor):
    """`dlr`: every receipt of every carrier comes through here."""

    kind = "DLRProcessor"
    mailbox_limit = 200_000

    def __init__(self, context: Context) -> None:
        self._context = context
        self._unknown: list[ReceiptMail] = []  # to be looked up
        self._looking = False
        self._matched = 0
        self._woken = 0
        self._parked = 0
        self._doubtful = 0
        self._done_rows: list[int] = []
        self._unclaimed: deque[tuple[float, Unmatched]] = deque()  # monotonic time of arrival; oldest first
        self._looking_for_doubtful = False
        self._told_rows: list[int] = []  # parked by other workers
        self._newest_row = 0

    async def init(self) -> None:
        """Read back the receipts that were parked before a restart."""
        self._background = Background(self.ref)
        self._context.receipts_done = self._row_done
        self._context.journal.on_news(self._told)
        self._context.receipts.release_all()
        for parked in reversed(await self._context.journal.parked_receipts(PARKED_LOADED)):
            unmatched = self._read_back(parked)
            self._context.receipts.hold(unmatched, self._names(unmatched))
            self._watch(unmatched)

    def _read_back(self, parked: ParkedReceipt) -> Unmatched:
        self._newest_row = max(self._newest_row, parked.id)
        plan = self._context.carriers.get(parked.receipt.carrier)
        refs = (parked.ref,) if plan is None else (parked.ref, *plan.carrier.receipt_keys(parked.receipt))
        unmatched = Unmatched(ReceiptMail(parked.receipt, None, keys=tuple(dict.fromkeys(refs))), parked.id)
        unmatched.mail.stored = partial(self._settled, unmatched)
        return unmatched

    @staticmethod
    def _names(unmatched: Unmatched) -> list[tuple[str, str]]:
        return [(unmatched.mail.receipt.carrier, ref) for ref in _keys(unmatched.mail)]

    # --- what other workers parked ------------------------------------------------------------------------------------

    def _told(self, topic: str, detail: str) -> None:
        if topic == NEWS_PARKED and len(self._told_rows) < PARKED_LOADED:
            self._told_rows.append(int(detail))
        elif topic == LOST:
            self._told_rows.append(0)
        else:
            return
        if len(self._told_rows) == 1:
            self._background.run(self._take_told())

    async def _take_told(self) -> None:
        """Look for the messages of receipts that were parked elsewhere."""
        journal = self._context.journal
        while self._told_rows:
            await asyncio.sleep(0)  # more may be told in this turn
            rows, self._told_rows = self._told_rows, [-1]  # so that nobody else begins
            try:
                if min(rows) > 0:
                    parked = await journal.parked_by_id(rows)
                else:  # some were told and not heard
                    newest = self._newest_row
                    parked = [p for p in await journal.parked_receipts(PARKED_LOADED) if p.id > newest or p.id in rows]
                read = [self._read_back(p) for p in parked]
                targets = await self._targets([unmatched.mail for unmatched in read])
            except JournalError:
                await sleep(self._context.clock, RETRY_S)
                self._told_rows = rows + self._told_rows[1:]
                continue
            for unmatched, found in zip(read, targets, strict=True):
                if self._hand_over(unmatched.mail):
                    continue
                if found is None:
                    self._context.receipts.hold(unmatched, self._names(unmatched))
                    self._watch(unmatched)
                else:
                    target = found[1]
                    mail = replace(unmatched.mail, target=(target.step, target.attempt, target.segment))
                    self.system.send("waker", Wake(target.message_id, mail))
            del self._told_rows[0]

    def handle(self, message: Any) -> None:
        """Take a receipt."""
        if type(message) is ReceiptMail:
            self._receipt(message)
        elif type(message) is _LookedUp:
            self._looked_up(message)
        elif type(message) is _LookForDoubtful:
            self._look_for_doubtful()
        else:
            raise TypeError(f"dlr does not understand {type(message).__name__}")

    def handle_call(self, request: Any, reply: Reply) -> Any:
        """Take a receipt and answer once it is stored; JournalAway to the caller when it cannot be."""
        if type(request) is not ReceiptArrived:
            raise TypeError(f"dlr does not understand {type(request).__name__}")
        self._receipt(ReceiptMail(request.receipt, _Asked(reply)))
        return NO_REPLY

    # --- matching -------------------------------------------------------------------------------------------------

    def _receipt(self, mail: ReceiptMail) -> None:
        if self._hand_over(mail):
            return
        if len(self._unknown) >= WAITING_LIMIT:
            if mail.stored is not None:
                mail.stored(False)
            return
        self._unknown.append(mail)
        self._look_up()

    def _hand_over(self, mail: ReceiptMail) -> bool:
        carrier = mail.receipt.carrier
        for ref in _keys(mail):
            found = self._context.receipts.find((carrier, ref))
            if found is None:
                continue
            cascade, step, attempt, segment = found
            addressed = ReceiptMail(mail.receipt, mail.stored, (step, attempt, segment))
            if cascade.send_system(addressed) != SendResult.DELIVERED:
                continue  # it is just ending; the journal knows the id by now
            if mail.matched is not None:
                mail.matched(ref)
            self._matched += 1
            return True
        return False

    def _look_up(self) -> None:
        if self._looking or not self._unknown:
            return
        self._looking = True
        batch, self._unknown = self._unknown[:LOOK_UP_AT_ONCE], self._unknown[LOOK_UP_AT_ONCE:]
        self._background.run(self._ask_journal(batch))

    async def _ask_journal(self, batch: list[ReceiptMail]) -> None:
        targets: list[tuple[str, RefTarget] | None]
        error: JournalError | None = None
        try:
            targets = await self._targets(batch)
        except JournalError as exc:
            targets, error = [None] * len(batch), exc
        self.ref.send_system(_LookedUp(batch, targets, error))

    async def _targets(self, batch: list[ReceiptMail]) -> list[tuple[str, RefTarget] | None]:
        """Ask the journal where these lead, and by which of their keys."""
        keys = [(m.receipt.carrier, ref) for m in batch for ref in _keys(m)]
        found = iter(await self._context.journal.find_refs(keys)) if keys else iter(())
        targets: list[tuple[str, RefTarget] | None] = []
        for mail in batch:
            known = [(ref, target) for ref in _keys(mail) if (target := next(found)) is not None]
            targets.append(known[0] if known else None)
        return targets

    def _looked_up(self, answer: _LookedUp) -> None:
        self._looking = False
        if answer.error is not None:
            for mail in answer.batch:
                if mail.stored is not None:
                    mail.stored(False)
            self._look_up()
            return
        for mail, found in zip(answer.batch, answer.targets, strict=True):
            if self._hand_over(mail):  # its submit answer came while we asked
                continue
            if mail.matched is not None:
                mail.matched(None if found is None else found[0])
            if found is not None:
                self._woken += 1
                target = found[1]
                at = (target.step, target.attempt, target.segment)
                self.system.send("waker", Wake(target.message_id, replace(mail, target=at)))
                continue
            self._hold(mail)
        self._look_up()

    def _hold(self, mail: ReceiptMail) -> None:
        """Nobody knows it: it is kept under every id it may be known by, and parked under the likeliest."""
        self._parked += 1
        carrier = mail.receipt.carrier
        self._context.metrics.receipts.inc(carrier, "parked")
        if isinstance(mail.stored, _Asked):
            mail.stored.outcome = "parked"
        unmatched = Unmatched(mail)
        refs = _keys(mail)
        self._context.receipts.hold(unmatched, [(carrier, ref) for ref in refs])
        self._watch(unmatched)
        self._background.run(self._park(unmatched, refs[0]))

    async def _park(self, unmatched: Unmatched, ref: str) -> None:
        mail = unmatched.mail
        try:
            row = await self._context.journal.park_receipt(mail.receipt, ref)
        except JournalError:
            if mail.stored is not None:
                mail.stored(False)
            return
        unmatched.row = row
        if mail.stored is not None:
            mail.stored(True)
        if unmatched.claimed:
            self._row_done(row)

    # --- receipts of doubtful messages ------------------------------------------------------------------------------

    def _watch(self, unmatched: Unmatched) -> None:
        """Should nobody claim it: it may be a doubtful message's."""
        if unmatched.mail.receipt.about is None:
            return
        self._unclaimed.append((self._context.clock.monotonic(), unmatched))
        if not self._looking_for_doubtful:
            self._looking_for_doubtful = True
            self.send_after(self._context.answer_within_s, _LookForDoubtful())

    def _look_for_doubtful(self) -> None:
        self._looking_for_doubtful = False
        due = self._context.clock.monotonic() - self._context.answer_within_s
        ripe: list[Unmatched] = []
        while self._unclaimed and self._unclaimed[0][0] <= due:
            unmatched = self._unclaimed.popleft()[1]
            if not unmatched.claimed:
                ripe.append(unmatched)
        if ripe:
            self._background.run(self._give_to_doubtful(ripe))
        if self._unclaimed:
            self._looking_for_doubtful = True
            wait = self._unclaimed[0][0] - due
            self.send_after(max(wait, 0.1), _LookForDoubtful())

    async def _give_to_doubtful(self, ripe: list[Unmatched]) -> None:
        journal = self._context.journal
        try:
            rows = [unmatched.row for unmatched in ripe if unmatched.row is not None]
            parked = {p.id for p in await journal.parked_by_id(rows)} if rows else set()
        except JournalError:
            return  # they stay parked
        for unmatched in ripe:
            if unmatched.row is not None and unmatched.row not in parked:
                continue  # claimed at another worker
            receipt = unmatched.mail.receipt
            assert receipt.about is not None
            try:
                targets = await journal.find_all_refs(receipt.carrier, receipt.about, DOUBTFUL_LOOKED_AT)
                places = {t.message_id: (t.step, t.attempt) for t in reversed(targets)}
                stored = await journal.load(list(places)) if places else []
            except JournalError:
                return  # they stay parked
            found = [(s.message, s.events, places[s.message.message_id]) for s in stored]
            one = the_one(found, receipt.carrier_message_id, receipt.submitted_at)
            if one is None or unmatched.claimed:
                continue
            self._context.receipts.claim(unmatched)
            message_id, (step, attempt) = one
            self._doubtful += 1
            mail = ReceiptMail(receipt, partial(self._settled, unmatched), (step, attempt, 0))
            self.system.send("waker", Wake(message_id, mail))

    def _settled(self, unmatched: Unmatched, stored: bool) -> None:
        if stored and unmatched.row is not None:
            self._row_done(unmatched.row)

    # --- parked rows ------------------------------------------------------------------------------------------------

    def _row_done(self, row: int) -> None:
        """A parked receipt is in its message's events: forget its row, with others, soon."""
        self._done_rows.append(row)
        if len(self._done_rows) == 1:
            self._background.run(self._drop_rows())

    async def _drop_rows(self) -> None:
        await asyncio.sleep(0)
        rows, self._done_rows = self._done_rows, []
        try:
            await self._context.journal.drop_parked(rows)
        except JournalError:
            log.info("parked receipts are dropped later", count=len(rows))  # housekeeping forgets them in a day

    def terminate(self, reason: Any) -> None:
        """What was not stored is offered again by the carriers."""
        self._background.cancel()
        for mail in self._unknown:
            if mail.stored is not None:
                mail.stored(False)

    def inspect(self) -> dict[str, Any]:
        """Count what came and where it went."""
        return {
            "matched": self._matched,
            "woken": self._woken,
            "parked": self._parked,
            "given_to_doubtful": self._doubtful,
            "waited_for": len(self._context.receipts),
            "unmatched": self._context.receipts.unmatched,
            "unclaimed": len(self._unclaimed),
            "to_look_up": len(self._unknown),
        }


def _keys(mail: ReceiptMail) -> tuple[str, ...]:
    return mail.keys or (canonical(mail.receipt.carrier_message_id),)
