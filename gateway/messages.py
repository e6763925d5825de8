"""/v1/messages: send, send many, try out, read, list, count, cancel.

A 202 means that the tenant actor's answer came, and that comes only after the commit. Whatever goes wrong
on the way is told apart: nothing was accepted (journal_away, overloaded), or nobody knows yet
(outcome_unknown).
"""

from __future__ import annotations

import asyncio
import builtins
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, cast

import msgspec

from gateway.counting import Counting
from gateway.decode import decode_any, decode_json, decode_leniently, decode_query, has_nul
from gateway.edge import ANSWER_WITHIN_S, Call, Caller, Edge, Reply, encode, journal_away, reading
from gateway.hosts import Hosts
from gateway.idempotency import Idempotency, check_key, request_hash, stored_key
from gateway.layers.pipeline import Pipeline
from gateway.layers.rate import headers as rate_headers
from gateway.limits.base import Ask, Taken
from gateway.limits.floods import Floods
from gateway.problems import Problem, from_refusal, invalid, invalid_fields, not_found
from gateway.shapes import (
    MOST_IN_BATCH,
    SEND_AT_MOST_DAYS,
    Accepted,
    BatchAnswer,
    BatchMessage,
    BatchResult,
    Counts,
    CountsQuery,
    FieldError,
    Links,
    ListQuery,
    LookupBody,
    MessageBody,
    Refusal,
    RescheduleBody,
    Shape,
    Verdict,
)
from gateway.submission import build, check_callback_url
from gateway.templates import Shelf
from hermes.domain.commands import (
    Admitted,
    AlreadyBegun,
    AlreadyFinal,
    CancelMessage,
    ExplainRoute,
    NotFound,
    Refused,
    RescheduleMessage,
    Submit,
    SubmitAll,
)
from hermes.domain.lines import has_control
from hermes.domain.message import UTC, Message, is_message_id, rfc3339
from hermes.domain.usage import MICROS, accepted
from hermes.domain.view import public_message
from hermes.journal.base import JournalAway, MessageQuery, StoredMessage
from hermes.journal.suppressions import Suppressions
from hermes.runtime.reasons import CallTimeout, NotAlive, RuntimeFault
from hermes.tenancy import Rules

logger = logging.getLogger(__name__)

# Of a batch; some milliseconds, with what becomes of them. 25 and 100 reached less (20,000/s offered).
ITEMS_AT_ONCE: Final = 50
BATCH_TIMES: Final = 32  # a batch may be this many times as large as a single message


class _Batch(Shape, forbid_unknown_fields=True):
    """A batch before its items are looked at: one bad item must not refuse the others."""

    messages: list[msgspec.Raw]


_message: Final = msgspec.json.Decoder(MessageBody)
_batch = msgspec.json.Decoder(_Batch)
_lookup = msgspec.json.Decoder(LookupBody)
_reschedule = msgspec.json.Decoder(RescheduleBody)


class Messages:
    """The handlers of /v1/messages."""

    def __init__(self, edge: Edge, hosts: Hosts, shelf: Shelf) -> None:
        self._edge = edge
        self._shelf = shelf
        self._hosts = hosts
        self._clock = edge.clock
        self._monotonic = edge.clock.monotonic
        self._policies = edge.directory.policy
        self._limit = edge.settings.server.max_body_bytes
        self._traced = edge.settings.telemetry.otlp_endpoint is not None
        self._idempotency = Idempotency(edge.journal, edge.clock)
        self._floods = Floods(edge.clock.monotonic)
        self._counting = Counting(edge.journal, edge.clock)
        self._taking = asyncio.Lock()  # held by a batch while it takes a part of its items up
        self._pipelines: dict[str, tuple[Rules, Pipeline]] = {}  # by tenant

    # --- sending
    async def send(self, call: Call) -> Reply:
        """Send one message."""
        started = 0.0
        try:
            raw = await call.json_body(self._limit)
            started = self._monotonic()  # the contract counts from here
            pipeline = self._pipeline(call.caller)
            body = decode_json(_message, raw)
            key = call.request.headers.get("Idempotency-Key")
            if key is not None:
                if len(call.request.headers.getall("Idempotency-Key")) > 1:
                    raise invalid("Idempotency-Key", "is given more than once")
                return await self._send_once(call, pipeline, body, raw, key, started)
            if body.template is not None:
                message = await self._made(body, raw, call, pipeline)
            else:
                message = self._checked(body, raw, call, pipeline, [])  # most: nothing is waited for
            pipeline.run(message)
            answer = _answer(message)
            _, limits = await self._submit(message, pipeline, None, started)
        except Problem as problem:
            self._count(problem)
            if problem.status == 429:
                await self._floods.hold(_tenant(call.caller)[0], self._left_s(started))
            raise
        self._edge.metrics.accept_seconds.observe(self._monotonic() - started)
        headers = f"Location: /v1/messages/{message.message_id}\r\n{limits}"
        return Reply(202, answer, call.request_id, headers=headers)

    async def send_batch(self, call: Call) -> Reply:
        """Send up to 1,000 messages; each is judged for itself."""
        if "Idempotency-Key" in call.request.headers:
            raise invalid("Idempotency-Key", "is not for batches: send the messages one by one to use it")
        raw = await call.json_body(self._limit * BATCH_TIMES)
        started = self._monotonic()
        try:
            raw.decode()  # items are not looked at yet, and a text that is not UTF-8 spoils the whole body
        except UnicodeDecodeError as exc:
            raise Problem("malformed_json", "The body is not UTF-8.") from exc
        items = decode_json(_batch, raw).messages
        if not 0 < len(items) <= MOST_IN_BATCH:
            raise invalid("messages", f"holds 1 to {MOST_IN_BATCH} messages")
        results = await self._send_items(call, items, started)
        problems = [result for result in results if isinstance(result, Problem)]
        if len(problems) == len(results) and all(problem.status == 503 for problem in problems):
            raise problems[0]
        if len(problems) == len(results) and all(problem.status == 429 for problem in problems):
            await self._floods.hold(_tenant(call.caller)[0], self._left_s(started), len(problems))
        answer = BatchAnswer(
            [
                BatchResult(result.status, problem=result.body(call.request_id))
                if isinstance(result, Problem)
                else BatchResult(202, message=result)
                for result in results
            ]
        )
        return call.reply(200, answer)

    async def validate(self, call: Call) -> Reply:
        """Say what would become of a message, with every reason to refuse it; nothing is sent."""
        raw = await call.json_body(self._limit)
        now = self._clock.now()
        pipeline = self._pipeline(call.caller)
        decoded = decode_leniently(_message, raw)
        body, errors = decoded
        message = None
        if body is not None:
            found = list(errors)
            if body.template is not None:
                await self._shelf.fill_in(body, _tenant(call.caller)[0], found)
            message = self._build(body, call.caller, now, pipeline, found)
            # What is wrong already is not missing as well.
            errors += [e for e in found[len(errors) :] if not any(_covers(old.field, e.field) for old in errors)]
        if b"\\u0000" in raw:
            nul = has_nul(decode_any(raw))
            if nul is not None:
                errors.append(FieldError(nul, "holds a NUL character"))
        refusals = [Refusal("schema", "schema_invalid", error.field, error.why) for error in errors]
        if message is not None and message.callback_url is not None and len(message.callback_url) <= 2048:
            try:
                await self._hosts.check(check_callback_url(message.callback_url, "callback_url"), "callback_url")
            except Problem as problem:
                refusals += [Refusal(problem.layer, problem.code, e.field, e.why) for e in problem.errors]
        route: list[str] = []
        price: float | None = None
        if message is not None and not errors:
            refusals += pipeline.ask(message)
            ask = pipeline.limits(message)
            if ask is not None:
                ask.counts = False
                taken = await self._take(ask, pipeline, message)
                if taken.refused is not None:
                    over = pipeline.refusal(taken, message)
                    field = over.errors[0].field if over.errors else None
                    refusals.append(Refusal(over.layer, over.code, field, over.detail))
            carriers = await self._explain(message)
            route = list(dict.fromkeys(name for names in carriers for name in names))
            for n, names in enumerate(carriers):
                if not names:
                    channel = message.cascade[n].channel
                    detail = f"no carrier serves channel {channel}"
                    refusals.append(Refusal("route", "no_route", f"cascade[{n}].channel", detail))
            price = self._price(message, carriers)
        verdict = Verdict(
            not refusals,
            message.segments if message is not None else None,
            message.encoding if message is not None else None,
            route,
            price,
            refusals,
        )
        return call.reply(200, verdict)

    # --- reading
    async def get(self, call: Call) -> Reply:
        """Show one message, with its attempts and events."""
        stored = await self._find(call)
        return call.reply(200, public_message(stored.message, stored.events))

    async def list(self, call: Call) -> Reply:
        """List messages, newest first."""
        asked = decode_query(ListQuery, call.request.query.items())
        for name, text in (("reference", asked.reference), ("reference_prefix", asked.reference_prefix)):
            if text is not None and has_control(text):
                raise invalid(name, "holds a control character")
        before_id = None
        if asked.cursor is not None:
            before_id = "msg_" + asked.cursor.removeprefix("cur_")
            if not asked.cursor.startswith("cur_") or not is_message_id(before_id):
                raise invalid("cursor", "is no cursor of this list")
        tenant, mode = _sees(call.caller, asked.tenant)
        query = MessageQuery(
            tenant=tenant,
            mode=mode,
            statuses=tuple(dict.fromkeys(asked.status)),
            channel=asked.channel,
            reference=asked.reference,
            reference_prefix=asked.reference_prefix,
            created_after=_utc(asked.created_after),
            created_before=_utc(asked.created_before),
            before_id=before_id,
            limit=asked.limit + 1,  # one more tells whether there is a next page
        )
        found = await reading(self._edge.journal.list_messages(query))
        page = found[: asked.limit]
        cursor = "cur_" + page[-1].message.message_id[4:] if len(found) > asked.limit else None
        full = asked.fields == "full"
        data = [public_message(stored.message, stored.events, full=full) for stored in page]
        return call.reply(200, {"data": data, "next_cursor": cursor})

    async def counts(self, call: Call) -> Reply:
        """Count messages by status."""
        asked = decode_query(CountsQuery, call.request.query.items())
        tenant, mode = _sees(call.caller, asked.tenant)
        counted = await self._counting.count((tenant, mode, _utc(asked.created_after), _utc(asked.created_before)))
        return call.reply(200, Counts(**{s: counted.get(s, 0) for s in Counts.__struct_fields__}))

    async def lookup(self, call: Call) -> Reply:
        """Show many messages at once; unknown ids are left out."""
        asked = decode_json(_lookup, await call.json_body(self._limit))
        ids = list(dict.fromkeys(one for one in asked.ids if is_message_id(one)))
        found = await reading(self._edge.journal.load(ids)) if ids else []
        data = [public_message(s.message, s.events) for s in found if _is_visible(call.caller, s.message)]
        return call.reply(200, {"data": data})

    async def cancel(self, call: Call) -> Reply:
        """Cancel a message, and show it."""
        await call.no_body(self._limit)
        return await self._order(call, CancelMessage((await self._find(call, 0.5)).message.message_id))

    async def reschedule(self, call: Call) -> Reply:
        """Send a scheduled message at another time, and show it."""
        raw = await call.json_body(self._limit)
        message_id = (await self._find(call, 0.5)).message.message_id
        asked = decode_json(_reschedule, raw)
        send_at = utc(asked.send_at)
        if send_at - self._clock.now() > timedelta(days=SEND_AT_MOST_DAYS):
            raise invalid("send_at", f"is more than {SEND_AT_MOST_DAYS} days ahead")
        return await self._order(call, RescheduleMessage(message_id, send_at))

    async def _order(self, call: Call, order: CancelMessage | RescheduleMessage) -> Reply:
        """Have the tenant carry out what is wanted of a message, and show it."""
        tenant_id, _ = _tenant(call.caller)
        ref = self._edge.system.whereis(f"tenant/{tenant_id}")
        if ref is None:
            raise _overloaded()
        try:
            await ref.call(order, timeout_s=0.8)
        except NotFound as exc:
            raise not_found("message") from exc
        except AlreadyFinal as exc:
            raise Problem("already_final", f"The message is already {exc.status}.") from exc
        except AlreadyBegun as exc:
            raise Problem("already_begun", "The message was not scheduled, or its time has come.") from exc
        except Refused as exc:
            raise from_refusal(exc) from exc
        except JournalAway as exc:
            raise journal_away() from exc
        except (CallTimeout, NotAlive) as exc:
            raise _unknown() from exc
        except RuntimeFault as exc:
            raise _overloaded() from exc
        stored = await self._find(call, 0.5)
        return call.reply(200, public_message(stored.message, stored.events))

    # --- inside
    async def _made(self, body: MessageBody, raw: bytes, call: Call, pipeline: Pipeline) -> Message:
        """Make a message as `_checked`, with the text of its template.

        Raises:
            Problem: schema_invalid, journal_away.
        """
        errors: builtins.list[FieldError] = []
        if body.template is not None:
            await self._shelf.fill_in(body, _tenant(call.caller)[0], errors)
        return self._checked(body, raw, call, pipeline, errors)

    def _checked(
        self, body: MessageBody, raw: bytes, call: Call, pipeline: Pipeline, errors: builtins.list[FieldError]
    ) -> Message:
        """Make a message of a body that was decoded from `raw`, and check all of it but the callback's host.

        Raises:
            Problem: schema_invalid, with `errors` that were found before.
        """
        message = self._build(body, call.caller, self._clock.now(), pipeline, errors)
        if self._traced:
            message.traceparent = call.traceparent
        if b"\\u0000" in raw:
            nul = has_nul(decode_any(raw))
            if nul is not None:
                errors.append(FieldError(nul, "holds a NUL character"))
        if errors:
            raise invalid_fields(errors)
        return message

    def _build(
        self, body: MessageBody, caller: Caller, now: datetime, pipeline: Pipeline, errors: builtins.list[FieldError]
    ) -> Message:
        tenant, mode = _tenant(caller)
        edge, country = self._edge, pipeline.default_country
        try:
            return build(
                body, tenant, mode, now, edge.default_success, self._policies, errors, country, edge.new_message_id
            )
        except Refused as exc:
            raise from_refusal(exc) from exc

    def _pipeline(self, caller: Caller) -> Pipeline:
        """Find the layers of the caller's tenant, as its settings have them now."""
        assert caller.tenant is not None
        rules = self._edge.directory.rules(caller.tenant)
        known = self._pipelines.get(caller.tenant.id)
        if known is None or known[0] is not rules:
            known = self._pipelines[caller.tenant.id] = (rules, _pipeline(rules, self._edge.suppressions))
        return known[1]

    async def _send_once(
        self, call: Call, pipeline: Pipeline, body: MessageBody, raw: bytes, key: str, started: float
    ) -> Reply:
        """Send a message that has an Idempotency-Key, or repeat the answer of the first time.

        The message is made only if it is the first time: its policy or template may be gone since.
        """
        check_key(key)
        try:
            hash_ = request_hash(decode_any(raw))
        except RecursionError as exc:
            raise Problem("malformed_json", "The body is nested too deeply.") from exc
        tenant, mode = _tenant(call.caller)
        key = stored_key(key, mode)
        stored = await self._idempotency.begin(tenant, key, hash_)
        if stored is None:
            answer: str | None = None
            limits = ""
            committed = False
            try:
                message = await self._made(body, raw, call, pipeline)
                pipeline.run(message)
                answer = _answer(message).decode()
                _, limits = await self._submit(message, pipeline, (key, hash_, answer), started)
                committed = True
            except Problem as problem:
                if problem.code != "idempotency_running":
                    raise
                # Another worker, or a request whose outcome was unknown, was first.
                stored = await self._idempotency.settled(tenant, key, hash_)
            finally:
                self._idempotency.end(tenant, key, hash_, answer if committed else stored)
            if committed and answer is not None:
                self._edge.metrics.accept_seconds.observe(self._monotonic() - started)
                headers = f"Location: /v1/messages/{message.message_id}\r\n{limits}"
                return Reply(202, answer.encode(), call.request_id, headers=headers)
        assert stored is not None
        first = msgspec.json.decode(stored, type=_Replayed)
        headers = f"Location: /v1/messages/{first.id}\r\nIdempotent-Replayed: true\r\n"
        return Reply(202, stored.encode(), call.request_id, headers=headers)

    async def _send_items(
        self, call: Call, items: Sequence[msgspec.Raw], started: float
    ) -> builtins.list[BatchMessage | Problem]:
        """Send the items of a batch, each for itself.

        In parts, and of all batches one part in a turn of the loop: so everybody else has a turn in between, and
        messages are not taken faster than those before them are sent.
        """
        parts = []
        async with asyncio.TaskGroup() as tasks:
            for n in range(0, len(items), ITEMS_AT_ONCE):
                async with self._taking:
                    parts.append(tasks.create_task(self._send_part(call, items[n : n + ITEMS_AT_ONCE], started, tasks)))
                    await asyncio.sleep(0)
        return [result for part in parts for result in part.result()]

    async def _send_part(
        self, call: Call, items: Sequence[msgspec.Raw], started: float, tasks: asyncio.TaskGroup
    ) -> builtins.list[BatchMessage | Problem]:
        """Send some items of a batch: the tenant is asked once for all that wait for nothing else."""
        pipeline = self._pipeline(call.caller)
        begun = [self._begin_item(call, bytes(item), pipeline, started, tasks) for item in items]
        submits = [one for one in begun if isinstance(one, Submit)]
        error = await self._submit_all(submits, started) if submits else None
        results: builtins.list[BatchMessage | Problem] = []
        for one in begun:
            if isinstance(one, asyncio.Task):
                results.append(await one)
            elif isinstance(one, Problem):
                results.append(one)
            elif isinstance(one.outcome, Admitted):
                results.append(self._sent_item(one.message, one.outcome.status, started))
            else:
                results.append(self._failed_item(_not_admitted(one.outcome or error, one)))
        return results

    def _begin_item(
        self, call: Call, raw: bytes, pipeline: Pipeline, started: float, tasks: asyncio.TaskGroup
    ) -> Submit | Problem | asyncio.Task[BatchMessage | Problem]:
        """Take an item up: what is to be submitted, or why not; or a task, where more than the tenant is waited for."""
        try:
            body = decode_json(_message, raw)
            if pipeline.remembers or body.template is not None or body.callback_url is not None:
                return tasks.create_task(self._send_item(call, body, raw, pipeline, started))
            message = self._checked(body, raw, call, pipeline, [])
            pipeline.run(message)
            return Submit(message)
        except Exception as exc:
            return self._failed_item(exc)

    async def _send_item(
        self, call: Call, body: MessageBody, raw: bytes, pipeline: Pipeline, started: float
    ) -> BatchMessage | Problem:
        try:
            message = await self._made(body, raw, call, pipeline)
            pipeline.run(message)
            status, _ = await self._submit(message, pipeline, None, started)
        except Exception as exc:
            return self._failed_item(exc)
        return self._sent_item(message, status, started)

    def _sent_item(self, message: Message, status: str, started: float) -> BatchMessage:
        self._edge.metrics.accept_seconds.observe(self._monotonic() - started)
        return BatchMessage(message.message_id, status, message.reference)

    def _failed_item(self, exc: Exception) -> Problem:
        if isinstance(exc, Problem):
            self._count(exc)
            return exc
        # The operator is told; one item's bug must not hide what became of the others.
        logger.error("an item of a batch failed", exc_info=exc)
        return Problem("internal", "This is a mistake of ours; the log tells more.")

    async def _submit_all(self, submits: Sequence[Submit], started: float) -> Exception | None:
        """Have the tenant admit messages, each for itself; what became of each is its `outcome`.

        Returns:
            Why those without an outcome have none.
        """
        left_s = self._left_s(started)
        tenant = self._edge.system.whereis(f"tenant/{submits[0].message.tenant}")
        if tenant is None or left_s <= 0:
            return _overloaded()
        try:
            await tenant.call(SubmitAll(submits), timeout_s=left_s)
        except Exception as exc:  # RuntimeFault; or the tenant's own end, of which the kernel has told the operator
            return exc
        return None

    async def _submit(
        self, message: Message, pipeline: Pipeline, idempotency: tuple[str, bytes, str] | None, started: float
    ) -> tuple[str, str]:
        """Count a message against the tenant's limits and have the tenant admit it.

        Returns:
            Its status once it is committed, and header lines that tell of the limits.

        Raises:
            Problem: it was not accepted, or (outcome_unknown) nobody can tell yet.
        """
        if message.callback_url is not None:
            await self._hosts.check(check_callback_url(message.callback_url, "callback_url"), "callback_url")
        submit = Submit(message, idempotency)
        headers = ""
        ask = pipeline.limits(message)
        if ask is not None:
            taken = await self._take(ask, pipeline, message)
            if taken.refused is not None:
                raise pipeline.refusal(taken, message)
            if taken.limit:
                headers = rate_headers(taken)
            if ask.quota is not None:
                _, segments, micros = ask.quota.adds
                submit.accepted = accepted(message.mode, ask.quota.day, segments, micros)
        left_s = self._left_s(started)
        tenant = self._edge.system.whereis(f"tenant/{message.tenant}")
        try:
            if tenant is None or left_s <= 0:
                raise _overloaded()
            status: str = (await tenant.call(submit, timeout_s=left_s)).status
        except (Problem, Refused, JournalAway, RuntimeFault) as exc:
            problem = _not_admitted(exc, submit)
            if ask is not None and problem.code != "outcome_unknown":
                await self._edge.limits.forget(ask)
            if problem is exc:
                raise
            raise problem from exc
        return status, headers

    async def _take(self, ask: Ask, pipeline: Pipeline, message: Message) -> Taken:
        """Ask the limits.

        Raises:
            Problem: journal_away (what was used of the tenant's quotas cannot be read).
        """
        if ask.quota is not None and pipeline.caps_spending:
            messages, segments, _ = ask.quota.adds
            price = self._expected_price(message)
            ask.quota.adds = (messages, segments, round(price * MICROS) if price is not None else 0)
        try:
            return await self._edge.limits.take(ask)
        except JournalAway as exc:
            raise journal_away() from exc

    async def _explain(self, message: Message) -> Sequence[Sequence[str]]:
        ref = self._edge.system.whereis("router")
        if ref is None:
            raise _overloaded()
        try:
            carriers: Sequence[Sequence[str]] = await ref.call(ExplainRoute(message), timeout_s=0.5)
        except RuntimeFault as exc:
            raise _overloaded() from exc
        return carriers

    def _price(self, message: Message, carriers: Sequence[Sequence[str]]) -> float | None:
        """Estimate what the first step costs at its first carrier; None when nobody takes it."""
        if not carriers or not carriers[0]:
            return None
        return self._expected_price(message)

    def _expected_price(self, message: Message) -> float | None:
        """Tell what the first step costs at the carrier that would be asked; None when that is unknown."""
        told = self._edge.explain(message)
        return next((c["price"] for c in told if c["eligible"]), None)

    async def _find(self, call: Call, within_s: float = ANSWER_WITHIN_S) -> StoredMessage:
        """Load the message of the path.

        Raises:
            Problem: not_found (unknown, or not the caller's to see), journal_away.
        """
        message_id = call.params["id"]
        if is_message_id(message_id):
            found = await reading(self._edge.journal.load([message_id]), within_s)
            if found and _is_visible(call.caller, found[0].message):
                return found[0]
        raise not_found("message")

    def _left_s(self, started: float) -> float:
        """Tell for how long the answer to a request read at this time may still be waited for."""
        return ANSWER_WITHIN_S - (self._monotonic() - started)

    def _count(self, problem: Problem) -> None:
        if not problem.counted:
            self._edge.metrics.refused.inc(problem.code)


class _Replayed(Shape):
    """What of a stored answer the headers need."""

    id: str


def _answer(message: Message) -> bytes:
    """Make the body of the 202; it is stored with the message when there is an Idempotency-Key."""
    return encode(
        Accepted(
            message.message_id,
            "accepted" if message.send_at is None else "scheduled",
            message.reference,
            message.segments,
            message.encoding,
            # msgspec writes UTC as the contract does, at a third of the cost, but leaves out a fraction of zero.
            message.expires_at if message.expires_at.microsecond else cast(Any, rfc3339(message.expires_at)),
            message.cascade,
            Links(f"/v1/messages/{message.message_id}"),
        )
    )


def _pipeline(rules: Rules, suppressions: Suppressions) -> Pipeline:
    return Pipeline(rules, suppressions.listed, suppressions.consents.given)


def _tenant(caller: Caller) -> tuple[str, str]:
    """Name the tenant and the mode of a key that may send."""
    assert caller.key is not None
    return caller.key.tenant, caller.key.mode


def _sees(caller: Caller, wanted: str | None) -> tuple[str | None, str | None]:
    """Name the tenant and the mode whose messages the caller sees; None for all.

    Raises:
        Problem: a tenant's key asks for a tenant.
    """
    if caller.key is None:
        return wanted, None
    if wanted is not None:
        raise invalid("tenant", "is for the operator: a key sees its own tenant's messages")
    return caller.key.tenant, caller.key.mode


def _is_visible(caller: Caller, message: Message) -> bool:
    key = caller.key
    return key is None or (key.tenant == message.tenant and key.mode == message.mode)


def _covers(field: str, other: str) -> bool:
    """Tell whether a complaint about `field` makes one about `other` needless."""
    return other == field or other.startswith((field + ".", field + "[")) or field.startswith(other + ".")


def _utc(at: datetime | None) -> datetime | None:
    return None if at is None else utc(at)


def utc(at: datetime) -> datetime:
    """Turn an aware time into UTC, as near as the calendar goes."""
    try:
        return at.astimezone(UTC)
    except OverflowError:  # the first and last hours of the calendar
        return at.replace(tzinfo=UTC)


def _not_admitted(exc: Exception | None, submit: Submit) -> Problem:
    """Tell why a message was not admitted, by what the tenant answered or how it ended without an answer."""
    if isinstance(exc, Problem):
        return exc
    if isinstance(exc, Refused):
        return from_refusal(exc)
    if isinstance(exc, JournalAway):
        return journal_away()
    if isinstance(exc, CallTimeout):
        return journal_away() if submit.withdraw is not None and submit.withdraw() else _unknown()
    if isinstance(exc, RuntimeFault) and not isinstance(exc, NotAlive):
        return _overloaded()  # the mailbox is full, or the system is closing
    # The tenant ended before it looked at the message, or between queueing the write and its commit.
    return _overloaded() if submit.withdraw is None or submit.withdraw() else _unknown()


def _overloaded() -> Problem:
    return Problem("overloaded", "There is no room for this now; nothing was accepted.")


def _unknown() -> Problem:
    return Problem("outcome_unknown", "Nobody can tell yet; the same Idempotency-Key tells which.")
