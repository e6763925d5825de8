"""Whatever becomes of a message, no log line, answer of an error or repr tells whom it goes to or what it says.

A node logs all it can say; what is sent through it is drawn, each text with a mark that nothing else holds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from types import ModuleType
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actors.messages import Job
from carriers import guest
from carriers.base import Submission
from carriers.http import sns
from gateway import messages, shapes
from gateway.edge import Caller
from hermes import logs
from hermes.domain import cascade as rules
from hermes.domain.commands import LiftOptOut, Submit, SuppressRecipient
from hermes.domain.erasure import Erasure
from hermes.domain.inbound import Inbound, InboundReceived
from hermes.domain.receipt import DeliveryReceipt
from hermes.domain.suppression import Suppression
from hermes.journal.base import Endpoint, IdempotencyRecord, OutboxEntry, StoredMessage, Write
from tests.gateway.api import Api, start_api, stop_api

MARK = "zqmark"
words = st.text("abc æ漢\n\"'{}%\\", max_size=12).map(lambda text: f"{text}{MARK}{text}")
magic = st.sampled_from(["0001", "0002", "0003", "0005", "0007", "0008"])
names = st.sampled_from(["delivered", "rejected", "undelivered", "throttled", "error", "optout"])


class World:
    """A node that outlives the examples, on a loop of its own, and everything it logs."""

    def __init__(self, out: StringIO) -> None:
        self.out = out
        self.runner = asyncio.Runner()
        self.api: Api = self.run(start_api())

    def run(self, work: Any) -> Any:
        return self.runner.run(work)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    root.handlers.clear()
    out = StringIO()
    logs.configure("json", "debug", out)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    made = World(out)
    yield made
    made.run(stop_api(made.api))
    made.runner.close()
    root.setLevel(level)
    root.handlers[:] = handlers
    logging.captureWarnings(False)
    structlog.reset_defaults()


def told(text: str, marks: list[str]) -> list[str]:
    return [mark for mark in marks if mark.casefold() in text.casefold()]


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_no_line_tells_whom_a_message_goes_to_or_what_it_says(world: World, data: st.DataObject) -> None:
    draw = data.draw
    number = f"+4531{draw(st.integers(10, 99))}{draw(magic)}"
    email = f"{draw(names)}-{MARK}@example.com"
    token = f"tok-{draw(names)}-{MARK}"
    marks = [MARK, number.removeprefix("+"), number[3:]]
    body = {
        "to": {"phone": number, "email": email, "push": token},
        "cascade": draw(st.permutations(["sms", "email", "push"])),
        "content": {"text": draw(words), "subject": f"{MARK} subject", "html": f"<p>{MARK}</p>", "data": {MARK: MARK}},
        "metadata": {"k": MARK},
        "reference": f"{MARK} {draw(st.integers(0, 9))}",
        "expires_in_s": 20,
        "category": draw(st.sampled_from(["otp", "marketing"])),
    }
    if draw(st.booleans()):
        body |= {"from": {"sms": draw(words)}}  # most are refused: too long, or control characters
    start = world.out.tell()
    accepted = world.run(lived(world.api, body, number, draw(words)))
    world.out.seek(start)
    said = world.out.read()
    assert said.count("\n") > 1 or not accepted, "a node that says nothing proves nothing"
    assert told(said, marks) == [], said


async def lived(api: Api, body: dict[str, Any], number: str, answer: str) -> bool:
    """Send it, let the recipient answer, and end what is still open. False: it was not accepted."""
    sent = await api.send(body)
    if sent.status == 202:
        message_id = sent.json["id"]

        async def over() -> bool:
            found = await api.node.stored(message_id)
            last = found.events[-1].type if found.events else ""
            return found.status is not None or last in ("rejected", "fallback")

        await api.node.until(over)
        await api.call("POST", f"/v1/messages/{message_id}/cancel")
        await api.node.final(message_id)
    else:
        assert sent.status == 422, sent.raw
    mo = api.node.system.whereis("mo")
    assert mo is not None
    await mo.call(InboundReceived(Inbound("mock-sms", "sms", number, "+4570101010", answer)), timeout_s=10)
    entry = {"address": number, "channel": "sms", "reason": MARK}
    made = await api.call("POST", f"/v1/tenants/{api.node.tenant}/suppressions", entry)
    await api.call("DELETE", f"/v1/tenants/{api.node.tenant}/suppressions/{made.json['id']}")
    return sent.status == 202


def test_no_repr_of_what_actors_say_tells_it(world: World) -> None:
    number = "+4531999901"
    body = {"to": {"phone": number}, "cascade": ["sms"], "content": {"text": MARK, "sms": {"text": MARK}}}
    body |= {"metadata": {"k": MARK}, "reference": MARK}
    message_id = world.run(world.api.sent(body))
    stored: StoredMessage = world.run(world.api.node.final(message_id))
    message, now = stored.message, stored.message.created_at
    state = rules.fold(message, stored.events)
    content = message.content.for_channel("sms")
    to = (message_id, message.tenant, 0, 1, "sms", number, None, content, "otp", now, message_id)
    submission = Submission(*to)
    refused = rules.Refused(0, 1, "mock-sms", "unknown", "7", f"{MARK} {number}")
    error = {"class": "unknown", "code": "7", "detail": f"{MARK} {number}"}
    attempt = rules.Attempt(0, 1, "sms", "mock-sms", now, error=error, parts=[rules.Segment(error=error)])
    things: list[Any] = [
        *(message, message.content, content, state, *state.attempts, *stored.events, stored, attempt, refused),
        *(Submit(message, (MARK, b"", MARK)), submission, Job(submission, None, False)),  # type: ignore[arg-type]
        rules.InDoubt(0, 1, "mock-sms", detail=f"{MARK} {number}"),
        rules.Receipt(0, 1, 0, "id", "undelivered", error_detail=f"{MARK} {number}"),
        DeliveryReceipt("mock-sms", "id", "undelivered", error_detail=f"{MARK} {number}", about=MARK),
        SuppressRecipient(message.tenant, "sms", number, "manual"),
        LiftOptOut(message.tenant, "sms", number),
        Suppression("sup_1", None, "sms", number, "manual", now),
        Erasure("era_1", message.tenant, "hash", number, "operator", now),
        Inbound("mock-sms", "sms", number, "+4570101010", MARK),
        Write(message_id, message.tenant, stored.events, message, idempotency=IdempotencyRecord(MARK, b"", MARK)),
        OutboxEntry(1, "callback", "inbound.received", now, MARK),
    ]
    for thing in things:
        assert told(repr(thing) + str(thing), [MARK, number[1:], number[3:]]) == [], type(thing)


@pytest.mark.parametrize("module", [shapes, messages, guest, sns])
def test_no_repr_of_what_crosses_the_edge_tells_a_value(module: ModuleType) -> None:
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]
    own = [
        kind for kind in kinds if kind.__module__.startswith(module.__name__) and not kind.__name__.endswith("Settings")
    ]
    assert own
    for kind in own:
        made = kind(**dict.fromkeys(kind.__struct_fields__, MARK))
        assert told(repr(made) + str(made) + repr([made]), [MARK]) == [], kind
        assert told(str(list(made.__rich_repr__())), [MARK]) == [], kind
    body = shapes.MessageBody(to="+4520123456", content=shapes.ContentBody(text=MARK))
    assert repr(body) == "MessageBody(to, content)"


def test_no_repr_of_a_tenant_tells_its_secrets(world: World) -> None:
    directory = world.api.node.context.directory
    tenant = directory.tenant(world.api.node.tenant)
    assert tenant is not None
    key = directory.find_key(world.api.live)
    assert key is not None
    now = tenant.created_at
    endpoint = Endpoint("end_1", tenant.id, "https://customer.example", (), MARK, now)
    tenant = replace(tenant, previous_secret=MARK, email=f"{MARK}@example.com")
    caller = Caller(key, tenant)
    shown = repr([tenant, key, endpoint, caller, world.api.edge])
    assert told(shown, [MARK, tenant.secret, repr(key.key_hash), world.api.edge.operator_key]) == []


def test_a_crash_over_a_request_logs_nothing_of_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(body: Any, *rest: Any) -> Any:
        raise RuntimeError(f"cannot build {body!r}")

    monkeypatch.setattr(messages, "build", broken)
    start = world.out.tell()
    sent = {"channel": "sms", "to": "+4531999901", "content": {"text": MARK}, "reference": MARK}
    answer = world.run(world.api.send(sent))
    assert (answer.status, told(answer.raw.decode(), [MARK, "31999901"])) == (500, [])
    world.out.seek(start)
    said = world.out.read()
    assert "cannot build MessageBody(" in said and told(said, [MARK, "31999901"]) == [], said
