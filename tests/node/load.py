"""Traffic for a node that will be killed: every message has an Idempotency-Key and is sent until accepted.

The e-mails go to an SMTP server in the test's own process, which outlives every kill and counts what it took.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.node.harness import FINAL, SOON_S, Node, carrier, mock, timeline, until
from tests.node.hooks import Customer

SMS, FALLS, SILENT = "+4520120001", "+4520120003", "+4520120004"
THROTTLED, LATE, ERROR = "+4520120005", "+4520120006", "+4520120007"
MOST_TRIES = 4  # of a step (API.md, "The message")
NEVER_EXPIRES_IN_S = 15.0  # what is in doubt under `never` waits for a receipt until then


@dataclass(frozen=True)
class Kind:
    """One kind of message and how it must end.

    Attributes:
        ends: the statuses it may have. Under `never` a lost answer may also lead to `unknown`.
        delivered_by: the step that delivers it, where only one can.
    """

    name: str
    cascade: Sequence[Mapping[str, Any] | str]
    phone: str = SMS
    mail: str = "inbox"
    ends: frozenset[str] = frozenset({"delivered"})
    delivered_by: int | None = None
    expires_in_s: float | None = None

    def body(self, key: str, policy: str, callback_url: str | None) -> dict[str, Any]:
        """The request for message `key`."""
        body: dict[str, Any] = {
            "to": {
                "phone": self.phone,
                "whatsapp": self.phone,
                "email": f"{self.mail}-{key}@example.test",
                "push": "tok-delivered",
            },
            "cascade": self.cascade,
            "content": {"text": "Your code is 123456", "subject": "Code"},
            "category": "otp" if self.name == "sms" else "transactional",
            "reference": key,
            "metadata": {"kind": self.name, "policy": policy},
            "on_ambiguous": policy,
        }
        if callback_url is not None:
            body["callback_url"] = callback_url
        expires_in_s = self.expires_in_s or (NEVER_EXPIRES_IN_S if policy == "never" else None)
        return body if expires_in_s is None else body | {"expires_in_s": expires_in_s}


def step(channel: str, timeout_s: float, success: str = "delivered") -> dict[str, Any]:
    """One step of a cascade."""
    return {"channel": channel, "timeout_s": timeout_s, "success": success}


KINDS = (
    Kind("sms", ["sms"], delivered_by=0),
    Kind("late", ["sms"], LATE, delivered_by=0),
    Kind("throttled", [step("sms", 60), "push"], THROTTLED, delivered_by=0),
    Kind("undelivered", [step("sms", 5), "push"], FALLS, delivered_by=1),
    Kind("error", [step("whatsapp", 12), "push"], ERROR, delivered_by=1),
    Kind("failed", ["sms"], FALLS, ends=frozenset({"failed"})),
    Kind("silent", ["sms"], SILENT, ends=frozenset({"unknown"}), expires_in_s=12),
    Kind("mail", ["email"], delivered_by=0),
    Kind("no-receipt", [step("email", 1), "sms"], delivered_by=1),
    Kind("bounce", [step("email", 60, "submitted"), "sms"], mail="nobody", delivered_by=1),
    Kind("busy", [step("email", 60, "submitted"), "sms"], mail="busy", delivered_by=0),
    Kind("cut-off", [step("email", 2, "submitted"), "sms"], mail="cut"),
)
# Those that end soon and are not in doubt by themselves.
SWIFT = tuple(kind for kind in KINDS if kind.name not in ("error", "silent", "cut-off"))


class MailServer:
    """Handler for aiosmtpd: an inbox that counts, and answers slowly, so that kills hit it before its answer.

    Local parts: `nobody-..` is refused, `busy-..` refused the first time, `cut-..` taken and the connection
    cut the first time, `hold-..` taken and not answered while `holding`, all others taken.
    """

    def __init__(self) -> None:
        self.taken: Counter[tuple[str, int]] = Counter()  # (message id, step) -> copies
        self._seen: Counter[str] = Counter()
        self.slowest_answer_s = 0.08
        self.holding = True

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        self._seen[address] += 1
        if address.startswith("nobody-"):
            return "550 5.1.1 no such user"
        if address.startswith("busy-") and self._seen[address] == 1:
            return "450 4.2.1 mailbox busy"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        found = re.search(rb"(?mi)^Message-ID:\s*<(msg_\w+)\.(\d+)@", envelope.content)
        assert found is not None, envelope.content[:500]
        self.taken[found[1].decode(), int(found[2])] += 1
        (address,) = envelope.rcpt_tos
        if address.startswith("cut-") and self._seen[address] == 1:
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
            return "421 gone"
        if address.startswith("hold-") and self.holding:
            await asyncio.sleep(3600)
        await asyncio.sleep(random.uniform(0, self.slowest_answer_s))
        return "250 2.0.0 OK"


@asynccontextmanager
async def mail_server() -> AsyncIterator[tuple[str, MailServer]]:
    """A mail server in this process; yields the carriers that go with it, as TOML, and what it took."""
    handler = MailServer()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(handler, hostname="mx.example.test"), "127.0.0.1", 0
    )
    try:
        port = server.sockets[0].getsockname()[1]
        sender = {"from_": "news@acme.test", "host": "127.0.0.1", "port": port, "tls": "none"}
        mail = carrier(name="mail", kind="smtp", channel="email", breaker_failures=0, **sender)
        # Only WhatsApp, over which all errors go, is ever set aside: elsewhere it is known who delivers what.
        yield mail + mock("sms", breaker_failures=0) + mock("whatsapp") + mock("push"), handler
    finally:
        server.close()


@dataclass
class Sent:
    """One message, from the side of who sent it."""

    key: str
    kind: Kind
    policy: str
    body: Mapping[str, Any]
    id: str = ""
    tries: int = 0


@dataclass
class Load:
    """Clients that send messages over kept-open connections until told to stop.

    Each message is sent until it is accepted: again with the same Idempotency-Key when the connection broke,
    the node is away, or it answered 503 or 409 idempotency_running.

    Attributes:
        pause_s: the most a client rests between two messages.
        kinds: one after the other.
        answers: how often which status and code came.
        newest: start of the request that was begun last among those accepted (monotonic).
        customer: is told of every eighth message.
    """

    node: Node
    key: str
    clients: int = 12
    pause_s: float = 0.15
    kinds: Sequence[Kind] = KINDS
    customer: Customer | None = None
    sent: list[Sent] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0
    newest: float = 0.0
    stopping: bool = False
    _count: int = 0
    _traffic: asyncio.Future[None] = field(init=False)

    @asynccontextmanager
    async def coming_in(self) -> AsyncIterator[None]:
        """Send while the block runs; at its end what was begun is seen through."""
        self._traffic = asyncio.ensure_future(self._run())
        try:
            yield
            self.stopping = True
            await self._traffic
        finally:
            self._traffic.cancel()
            await asyncio.gather(self._traffic, return_exceptions=True)

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(self.clients):
                group.create_task(self._client())

    @property
    def ids(self) -> list[str]:
        """The ids of all that was accepted."""
        return [one.id for one in self.sent if one.id]

    async def goes_on(self, within_s: float) -> float:
        """Wait until a message is accepted that is sent from now on; returns the seconds that took."""
        now = time.monotonic()

        def accepted() -> bool:
            if self._traffic.done():
                self._traffic.result()
            return self.newest > now

        await until(accepted, within_s, "messages are accepted")
        return time.monotonic() - now

    async def _client(self) -> None:
        while not self.stopping:
            n = self._count
            self._count += 1
            kind = self.kinds[n % len(self.kinds)]
            policy = ("resend", "never")[n // len(self.kinds) % 2]
            key = f"{kind.name}-{policy}-{n}"
            callback_url = self.customer.url if self.customer is not None and n % 8 == 0 else None
            one = Sent(key, kind, policy, kind.body(key, policy, callback_url))
            self.sent.append(one)
            await self._send(one)
            await asyncio.sleep(random.uniform(0, self.pause_s))

    async def _send(self, one: Sent) -> None:
        while not one.id:
            one.tries += 1
            began = time.monotonic()
            try:
                answer = await self.node.ask(
                    "POST", "/v1/messages", one.body, key=self.key, headers={"Idempotency-Key": one.key}
                )
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self.answers[type(error).__name__] += 1
                await asyncio.sleep(random.uniform(0.02, 0.2))
                continue
            self.slowest_s = max(self.slowest_s, time.monotonic() - began)
            code = answer.body.get("code", "") if isinstance(answer.body, dict) else str(answer.body)[:80]
            self.answers[f"{answer.status} {code}".strip()] += 1
            if answer.status == 202:
                one.id = answer.body["id"]
                self.newest = max(self.newest, began)
            else:
                assert answer.status == 503 or code == "idempotency_running", answer
                assert answer.headers["Retry-After"].isdigit()
                await asyncio.sleep(random.uniform(0.05, 0.3))  # sooner than told: to try the node's patience


async def check_kept(load: Load, mail: MailServer, within_s: float) -> dict[str, dict[str, Any]]:
    """Check that nothing that was accepted is lost, double or open, and that `never` never was sent twice.

    Returns:
        Every message by id.
    """
    node, key = load.node, load.key
    assert all(one.id for one in load.sent)
    by_id = {one.id: one for one in load.sent}
    assert len(by_id) == len(load.sent), "two keys got one message"
    messages = await node.all_final(load.ids, within_s)

    references = Counter(message["reference"] for message in await node.listed(key))
    assert references == Counter(one.key for one in load.sent)

    for one in load.sent:
        _check_end(one, messages[one.id])
    copies = {one.id: _check_copies(messages[one.id], mail) for one in load.sent}
    assert {one for one, _ in mail.taken} <= set(copies), "a message was sent that nobody sent"

    if load.customer is not None:
        await _check_webhooks(load, load.customer)

    again = [one for one in load.sent if one.tries > 1][:50] + random.sample(load.sent, min(50, len(load.sent)))
    for one in again:
        answer = await node.ask("POST", "/v1/messages", one.body, key=key, headers={"Idempotency-Key": one.key})
        assert (answer.status, answer.body["id"]) == (202, one.id), (one, answer)
        assert answer.headers["Idempotent-Replayed"] == "true"
    return messages


async def check_usage(node: Node, tenant: str, messages: Iterable[dict[str, Any]]) -> None:
    """Check that the tenant's usage is what its messages say, to the last segment and cent."""
    lines = (await node.get(f"/v1/tenants/{tenant}/usage"))["data"]
    counted = Counter(m["status"] for m in messages)
    attempts = [a for m in messages for a in m["attempts"] if a["status"] != "superseded" or a["submitted_at"]]
    sent = [a for a in attempts if a["submitted_at"] and a["channel"] == "sms"]
    by_status: Counter[str] = Counter()
    for line in lines:
        by_status[line["status"]] += line["messages"]
    print("usage", lines)
    assert by_status == counted
    assert sum(line["attempts"] for line in lines) == len(attempts)
    assert sum(line["segments"] for line in lines) == sum(a["segments"] or 1 for a in sent)
    assert sum(line["cost"] for line in lines) == pytest.approx(sum(a["cost"] or 0 for a in attempts), abs=1e-6)


def _check_end(one: Sent, message: Mapping[str, Any]) -> None:
    events = [event["type"] for event in message["events"]]
    seqs = [event["seq"] for event in message["events"]]
    shown = timeline(message)
    assert sum(event in FINAL for event in events) == 1, shown
    assert seqs == sorted(set(seqs)), shown
    assert events.count("accepted") == 1, shown
    tries = Counter((attempt["step"], attempt["attempt"]) for attempt in message["attempts"])
    assert set(tries.values()) <= {1}, shown
    ran_out = message["status"] in ("unknown", "expired")
    if ran_out:
        assert message["final_at"] >= message["expires_at"], shown
    if not (one.policy == "never" and ran_out):
        assert message["status"] in one.kind.ends, shown
        if one.policy == "resend" and one.kind.delivered_by is not None and not _used_up(message):
            assert message["delivered_by"] == one.kind.delivered_by, shown
    if one.policy == "never":
        assert not any(attempt["recovered"] for attempt in message["attempts"]), shown


def _used_up(message: Mapping[str, Any]) -> bool:
    """Tell whether kills took the last of a step's four tries, so that a later step had to deliver."""
    doubts = [event["step"] for event in message["events"] if event["type"] == "ambiguous"]
    tries = Counter(attempt["step"] for attempt in message["attempts"])
    return any(tries[one] == MOST_TRIES for one in doubts)


def _check_copies(message: Mapping[str, Any], mail: MailServer) -> int:
    """Count what the mail server took of a message; every copy but the first must be owned up to."""
    most = 0
    for n, _ in enumerate(message["cascade"]):
        copies = mail.taken[message["id"], n]
        resent = sum(attempt["recovered"] for attempt in message["attempts"] if attempt["step"] == n)
        assert copies <= 1 + resent, f"{copies} copies were sent\n{timeline(message)}"
        if message["metadata"]["policy"] == "never":
            assert copies <= 1, f"{copies} copies were sent under `never`\n{timeline(message)}"
        if any(a["step"] == n and a["carrier"] == "mail" and a["submitted_at"] for a in message["attempts"]):
            assert copies >= 1, f"it was not sent\n{timeline(message)}"
        most = max(most, copies)
    return most


async def _check_webhooks(load: Load, customer: Customer) -> None:
    """Check that each end was told, as one event: a repeated call says by its id that it is one."""
    asked = [one.id for one in load.sent if "callback_url" in one.body]

    def owed(message: Mapping[str, Any]) -> set[tuple[str, str]]:
        ends = (event for event in message["events"] if event["type"] in FINAL | {"corrected"})
        return {(f"{message['id']}.{event['seq']}", f"message.{event['type']}") for event in ends}

    end = time.monotonic() + SOON_S
    while True:
        told = {id: {(one.id, one.type) for one in customer.of(id)} for id in asked}
        wrong = [m for m in (await load.node.messages(asked)).values() if told[m["id"]] != owed(m)]
        if not wrong:
            break
        shown = f"told {told[wrong[0]['id']]}\n{timeline(wrong[0])}"
        assert time.monotonic() < end, f"{len(wrong)} customers know too much or too little, such as\n{shown}"
        await asyncio.sleep(0.1)
    assert set(customer.by_message) == set(asked)
