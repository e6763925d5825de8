"""The messages the simulated centre takes: what each is answered, and what is reported of it, and when."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Final

from carriers.smpp import constants as c
from carriers.smpp.pdu import CancelSm, DataSm, DataSmResp, QuerySm, QuerySmResp, SubmitSm, SubmitSmResp
from carriers.smpp.text import decode_text
from hermes.smsc.connection import Connection
from hermes.smsc.deliveries import Account, Delivery
from hermes.smsc.malformed import SURVIVED
from hermes.smsc.message_ids import write_id
from hermes.smsc.outcomes import DELIVERED, Outcome, decide, magic_of
from hermes.smsc.receipts import Report, write_receipt
from hermes.smsc.settings import status_of
from hermes.smsc.texts import Joiner, Message, Submit, part_of

if TYPE_CHECKING:
    from hermes.smsc.server import Smsc

_STATES: Final = {word: state for state, word in c.MESSAGE_STATES.items()}


class Intake:
    """Takes messages for a centre, which makes one.

    Attributes:
        submits, messages: the newest `keep`, oldest first: parts as they came, and whole messages taken.
        submitted, taken: how many submits and how many whole messages there were in all.
        statuses: how many submits were answered with which command_status.
        joiner: the messages of which parts are awaited.
        on_message: called with each whole message taken.
    """

    def __init__(self, smsc: Smsc) -> None:
        self._smsc = smsc
        settings = smsc.settings
        self.submits: deque[Submit] = deque()
        self.messages: deque[Message] = deque(maxlen=settings.keep)
        self.submitted = 0
        self.taken = 0
        self.statuses: Counter[int] = Counter()
        self.joiner = Joiner(settings.default_alphabet)
        self.on_message: Callable[[Message], None] | None = None
        self._by_id: dict[str, Submit] = {}
        self._random = Random(settings.seed)
        self._next_id = settings.first_id or time.time_ns() // 1_000_000 << 10
        self._next_form = 0
        self._tries: Counter[str] = Counter()

    def take(self, connection: Connection, account: Account, pdu: SubmitSm | DataSm) -> None:
        """Decide on a submit_sm or data_sm, remember it and answer it."""
        settings = self._smsc.settings
        now = self._smsc.now()
        self.submitted += 1
        if settings.tps and not account.bucket.take(now, settings.tps, settings.tps_burst_s):
            outcome = Outcome(status_of(settings.tps_status))
        else:
            outcome = decide(settings, self._random, pdu.destination_addr, self._try(pdu), self.submitted)
        part = part_of(pdu)
        text = decode_text(part[0], pdu.data_coding, settings.default_alphabet)
        submit = Submit(
            self.submitted, connection.n, account.system_id, pdu, now, datetime.now(UTC), text, outcome.status
        )
        self.statuses[outcome.status] += 1
        self._remember(submit)
        if outcome.status:
            self._answer(connection, submit, outcome)
            return
        submit.message_id = write_id(self._next_id, settings.id_in_response)
        submit.receipt_id = write_id(self._next_id, settings.id_in_receipt)
        submit.state = "ENROUTE"
        self._next_id += 1
        self._by_id[submit.message_id] = submit
        for message in self.joiner.add(submit, part):
            self.taken += 1
            self.messages.append(message)
            if self.on_message is not None:
                self.on_message(message)
        if outcome.early:
            self._finish(submit, outcome, connection)
        self._answer(connection, submit, outcome)
        if not outcome.early:
            self._plan_receipts(submit, outcome, connection)

    def _try(self, pdu: SubmitSm | DataSm) -> int:
        if not self._smsc.settings.magic:
            return 1
        destination = pdu.destination_addr
        magic = magic_of(destination)
        if magic is None or not magic.tries:
            return 1
        if len(self._tries) >= self._smsc.settings.keep and destination not in self._tries:
            del self._tries[next(iter(self._tries))]
        self._tries[destination] += 1
        return self._tries[destination]

    def _remember(self, submit: Submit) -> None:
        if len(self.submits) >= self._smsc.settings.keep:
            self._by_id.pop(self.submits.popleft().message_id, None)
        self.submits.append(submit)

    def _answer(self, connection: Connection, submit: Submit, outcome: Outcome) -> None:
        answer, pdu = outcome.answer, submit.pdu
        if answer in ("resp", "late", "unbind", "nack"):
            kind = SubmitSmResp if isinstance(pdu, SubmitSm) else DataSmResp
            delay_s = self._smsc.settings.response_delay_s + outcome.delay_s
            if self._smsc.settings.response_jitter_s:
                delay_s += self._random.uniform(0, self._smsc.settings.response_jitter_s)
            if answer == "nack":
                connection.nack(pdu.sequence_number, outcome.status)
                return
            octets = kind(outcome.status, pdu.sequence_number, (), submit.message_id).encode()
            if delay_s:
                self._smsc.agenda.after(delay_s, connection.send, octets)
            else:
                connection.send(octets)
            if answer == "unbind":
                self._smsc.agenda.after(delay_s, connection.unbind)
        elif answer == "reset":
            connection.reset()
        elif answer == "close":
            connection.close()
        elif answer == "freeze":
            connection.freeze()

    def _plan_receipts(self, submit: Submit, outcome: Outcome, connection: Connection) -> None:
        if outcome.state is None:
            return
        settings = self._smsc.settings
        delay_s = settings.receipt_delay_s if outcome.receipt_delay_s is None else outcome.receipt_delay_s
        if settings.receipt_jitter_s:
            delay_s += self._random.uniform(0, settings.receipt_jitter_s)
        delay_s += settings.response_delay_s
        before, intermediate = outcome.before, outcome.intermediate
        if before is None and submit.pdu.registered_delivery & 0x10:  # intermediate notification asked for (5.2.17)
            before, intermediate = "ENROUTE", True
        if before is not None and self._wants_receipt(submit, before):
            self._smsc.agenda.after(delay_s / 2, self._report, submit, before, 0, outcome, connection, intermediate)
        self._smsc.agenda.after(delay_s, self._finish, submit, outcome, connection)

    def _wants_receipt(self, submit: Submit, state: str) -> bool:
        if self._smsc.settings.receipts != "asked":
            return self._smsc.settings.receipts == "always"
        asked = submit.pdu.registered_delivery & 0x03
        return asked == c.RECEIPT_FINAL or (asked == c.RECEIPT_FAILURE and state != "DELIVRD")

    def _finish(self, submit: Submit, outcome: Outcome, connection: Connection) -> None:
        """A message reaches its end, unless it was cancelled."""
        if submit.state != "ENROUTE" or outcome.state is None:
            return
        submit.state = outcome.state
        submit.done_at = datetime.now(UTC)
        if not self._wants_receipt(submit, outcome.state):
            return
        if outcome.broken:
            connection.send(SURVIVED["sm_length"])
        for _ in range(outcome.copies):
            self._report(submit, outcome.state, outcome.err, outcome, connection, False)

    def _report(
        self, submit: Submit, state: str, err: int, outcome: Outcome, connection: Connection, intermediate: bool
    ) -> None:
        form = outcome.form
        if form is None:
            forms = self._smsc.settings.receipt_forms
            form = forms[self._next_form % len(forms)]
            self._next_form += 1
        pdu = submit.pdu
        report = Report(
            submit.receipt_id,
            pdu.source_addr,
            pdu.source_addr_ton,
            pdu.source_addr_npi,
            pdu.destination_addr,
            pdu.dest_addr_ton,
            pdu.dest_addr_npi,
            state,
            err,
            submit.submitted_at,
            submit.done_at or datetime.now(UTC),
            submit.text or "",
            intermediate,
        )
        bind = connection if self._smsc.settings.receipt_bind == "submitted" else None
        self._smsc.account(submit.system_id).deliver(Delivery(write_receipt(report, form), "receipt"), bind)

    def query(self, account: Account, pdu: QuerySm) -> QuerySmResp:
        """Answer a query_sm: the state of a message of the same account that is still remembered."""
        submit = self._by_id.get(pdu.message_id)
        if submit is None or submit.system_id != account.system_id:
            return QuerySmResp(c.ESME_RQUERYFAIL, pdu.sequence_number, (), pdu.message_id)
        final_date = submit.done_at.strftime("%y%m%d%H%M%S000+") if submit.done_at is not None else ""
        state = _STATES[submit.state]
        return QuerySmResp(c.ESME_ROK, pdu.sequence_number, (), pdu.message_id, final_date, state)

    def cancel(self, account: Account, pdu: CancelSm) -> int:
        """Cancel a message that has not reached its end: it is DELETED, and reported so. Gives the status."""
        submit = self._by_id.get(pdu.message_id)
        if submit is None or submit.system_id != account.system_id or submit.state != "ENROUTE":
            return c.ESME_RCANCELFAIL
        bind = next((each for each in account.binds if each.n == submit.bind), None)
        submit.state, submit.done_at = "DELETED", datetime.now(UTC)
        if self._wants_receipt(submit, "DELETED"):
            if bind is None and account.binds:
                bind = account.binds[0]
            if bind is not None:
                self._report(submit, "DELETED", 0, DELIVERED, bind, False)
        return c.ESME_ROK
