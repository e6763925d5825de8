"""Customers' webhooks over the memory journal, with real HTTP servers on this host as customers."""

import asyncio
import base64
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks import Webhook

import actors.webhook as webhook
import actors.webhook_client as webhook_client
import actors.webhook_results as webhook_results
import actors.webhook_supervisor as webhook_supervisor
import actors.webhook_targets as webhook_targets
from actors.context import Context
from actors.receipts import ReceiptIndex
from actors.routing import RoutingTable
from actors.webhook import WebhooksDue
from actors.webhook_bodies import render
from actors.webhook_client import WebhookClient
from actors.webhook_supervisor import WebhookSupervisor
from hermes import __version__
from hermes.domain.events import Event
from hermes.domain.message import Content, Message, Step, new_message_id, rfc3339
from hermes.domain.view import public_message
from hermes.domain.webhooks import RETRY_DELAYS_S, WINDOW_MOST, ReplayDue
from hermes.journal.base import OutboxEntry, Write
from hermes.journal.directory import Directory
from hermes.journal.memory import MemoryJournal
from hermes.journal.suppressions import Suppressions
from hermes.metrics import Metrics
from hermes.runtime import System
from hermes.testing.clock import ManualClock

LONG_ENOUGH = 0.25  # of a retry delay: more than its jitter


@dataclass
class Request:
    """A webhook as the customer got it."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Customer:
    """An HTTP server that remembers what it was sent, and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Awaitable[web.StreamResponse] | web.StreamResponse] = lambda request: (
            web.Response()
        )
        self.at_once = 0
        self.at_once_most = 0
        self._got = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self) -> "Customer":
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def _take(self, got: web.Request) -> web.StreamResponse:
        request = Request(got.path, {k.lower(): v for k, v in got.headers.items()}, await got.read())
        self.requests.append(request)
        self.at_once += 1
        self.at_once_most = max(self.at_once, self.at_once_most)
        async with self._got:
            self._got.notify_all()
        try:
            answer = self.answer(request)
            return await answer if isinstance(answer, Awaitable) else answer
        finally:
            self.at_once -= 1

    async def got(self, count: int) -> Request:
        """Wait for the request of that number, from 1."""
        async with asyncio.timeout(5), self._got:
            await self._got.wait_for(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


def status(code: int, **headers: str) -> Callable[[Request], web.Response]:
    return lambda request: web.Response(status=code, headers=headers)


@dataclass
class Node:
    """The webhooks' branch of the tree."""

    context: Context
    journal: MemoryJournal
    clock: ManualClock
    messages: dict[str, Message] = field(default_factory=dict)
    events: dict[str, list[Event]] = field(default_factory=dict)

    @property
    def directory(self) -> Directory:
        return self.context.directory

    def message(self, tenant: str, url: str | None = None) -> str:
        now = self.clock.now()
        message = Message(
            new_message_id(),
            tenant,
            {"phone": "+4520120001"},
            (Step("sms", 60.0, "delivered"),),
            Content(text="Hi"),
            now,
            now + timedelta(hours=72),
            callback_url=url,
        )
        id_ = message.message_id
        self.messages[id_] = message
        self.events[id_] = [Event(1, now, "accepted", None, None, {})]
        self.journal.append(Write(id_, tenant, list(self.events[id_]), message))
        return id_

    def event(self, id_: str, type: str = "delivered", *targets: str, news: bool = True) -> Event:
        """Store an event with its outbox entries, and tell of it as a cascade does."""
        tenant = self.messages[id_].tenant
        event = Event(len(self.events[id_]) + 1, self.clock.now(), type, None, None, {})
        self.events[id_].append(event)
        entries = [OutboxEntry(event.seq, target, "message." + type, event.at) for target in targets or ("callback",)]
        self.write(Write(id_, tenant, [event], outbox=entries), news)
        return event

    def write(self, write: Write, news: bool = True) -> None:
        def done(error: Exception | None) -> None:
            assert error is None
            if news:
                self.context.webhook_due(write.tenant, write.message_id, list(write.outbox))

        self.journal.append(write, done)

    def delivered(self, tenant: str, url: str) -> str:
        """A message that was delivered, and whose callback_url is to hear of it."""
        id_ = self.message(tenant, url)
        self.event(id_)
        return id_

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Let the loop run until a condition (plain or async) gives something true."""
        async with asyncio.timeout(5):
            while True:
                found = condition()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0)

    async def all_done(self) -> None:
        """Wait until the outbox holds nothing but dead letters."""

        async def none() -> bool:
            return not self.journal.queued and await self.journal.outbox_pending() == 0

        await self.until(none)

    async def row(self, tenant: str, attempts: int) -> Any:
        """Wait until the first undone delivery of a tenant has that many attempts written."""

        async def found() -> Any:
            rows = await self.journal.outbox_due(tenant, self.clock.now() + timedelta(days=9), 1)
            return rows[0] if rows and rows[0].attempts == attempts else None

        return await self.until(found)

    async def dead(self, tenant: str, count: int) -> list[Any]:
        """Wait for that many dead letters."""

        async def found() -> Any:
            rows = await self.journal.dead_letters(tenant, None, 1000)
            return rows if len(rows) >= count else None

        return list(await self.until(found))

    def inspect(self, tenant: str) -> dict[str, Any]:
        """What the tenant's actor shows; nothing is pending where there is none."""
        if self.context.system.whereis("webhook/" + tenant) is None:
            return {"pending": 0, "in_flight": 0, "targets": {}}
        return dict(self.context.system.info("webhook/" + tenant).detail)

    async def crash(self) -> "Node":
        """Vanish, and come back over what was committed."""
        self.journal.kill()
        journal = self.journal.copy()
        webhooks = self.context.system.whereis("webhooks")
        assert webhooks is not None
        webhooks.kill()
        return await start(self.clock, journal, self.context.allow_private_callbacks)

    async def stop(self) -> None:
        self.context.draining = True
        await self.context.system.shutdown()


async def start(
    clock: ManualClock | None = None,
    journal: MemoryJournal | None = None,
    allow_private: bool = True,
    client: WebhookClient | None = None,
) -> Node:
    clock = clock or ManualClock(datetime.now(UTC))  # the library of the standard looks at the real time
    journal = journal or MemoryJournal(clock=clock)
    await journal.start()
    await journal.claim_shards()
    directory = Directory(journal, clock, b"secret")
    await directory.load()
    system = System(clock=clock)
    context = Context(
        system,
        clock,
        journal,
        directory,
        Suppressions(journal, directory, clock),
        Metrics(),
        {},
        RoutingTable([]),
        ReceiptIndex(),
        allow_private_callbacks=allow_private,
    )
    node = Node(context, journal, clock)
    system.spawn(lambda: WebhookSupervisor(context, client), name="webhooks")
    return node


@pytest.fixture
async def node():
    node = await start()
    yield node
    await node.stop()


@pytest.fixture
async def customers():
    started: list[Customer] = []

    async def make() -> Customer:
        started.append(await Customer().start())
        return started[-1]

    yield make
    for customer in started:
        await customer.stop()


@pytest.fixture
async def customer(customers):
    return await customers()


@pytest.fixture
async def tenant(node):
    return (await node.directory.create_tenant("one")).id


# --- what is sent


async def test_the_customer_gets_the_message_as_of_the_event_signed(node, customer, tenant):
    id_ = node.message(tenant, customer.url + "/hook?key=1")
    event = node.event(id_, "failed")
    node.event(id_, "corrected", "other")  # later, and not for the callback
    request = await customer.got(1)
    secret = node.directory.tenant(tenant).secret
    assert Webhook(secret).verify(request.body, request.headers) == request.json
    assert request.json == {
        "type": "message.failed",
        "timestamp": rfc3339(event.at),
        "data": public_message(node.messages[id_], node.events[id_], until_seq=event.seq),
    }
    assert request.json["data"]["status"] == "failed"
    assert request.id == f"{id_}.2"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == f"Hermes/{__version__}"
    assert "cookie" not in request.headers
    await node.dead(tenant, 1)  # "other" is no endpoint
    await node.all_done()
    assert len(customer.requests) == 1
    assert node.context.metrics.webhook_attempts.values == {"delivered": 1, "gone": 1}


async def test_a_rotated_secret_signs_beside_the_new_one_until_its_time_is_over(node, customer, tenant):
    old = node.directory.tenant(tenant).secret
    new = (await node.directory.rotate_secret(tenant, overlap_s=100.0)).secret
    node.delivered(tenant, customer.url)
    request = await customer.got(1)
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        Webhook(secret).verify(request.body, request.headers)
    await node.clock.elapse(100.0)
    node.delivered(tenant, customer.url)
    request = await customer.got(2)
    assert len(request.headers["webhook-signature"].split(" ")) == 1
    Webhook(new).verify(request.body, request.headers)


async def test_an_endpoint_has_its_own_secret_and_a_payload_is_sent_as_it_is(node, customer, tenant):
    endpoint = await node.directory.create_endpoint(tenant, customer.url + "/in", ["inbound.received"])
    payload = '{"from":"+4520123456","text":"STOP ☎","parts":1}'
    at = node.clock.now()
    entry = OutboxEntry(1, endpoint.id, "inbound.received", at, payload)
    inbound = new_message_id()
    node.write(Write(inbound, tenant, (), outbox=[entry]))
    customer.answer = status(500)
    first = await customer.got(1)
    Webhook(endpoint.secret).verify(first.body, first.headers)
    assert first.json["data"] == json.loads(payload)
    assert first.id == f"{inbound}.1"
    await node.row(tenant, 1)
    customer.answer = status(200)
    await node.clock.elapse(RETRY_DELAYS_S[0] * (1 + LONG_ENOUGH))
    again = await customer.got(2)
    assert (again.body, again.id) == (first.body, first.id)


async def test_one_event_goes_to_every_target_and_is_rendered_once(node, customer, tenant, monkeypatch):
    rendered = []

    def counting(item: Any, stored: Any) -> bytes:
        rendered.append(item)
        return render(item, stored)

    monkeypatch.setattr(webhook, "render", counting)
    one = await node.directory.create_endpoint(tenant, customer.url + "/one", [])
    two = await node.directory.create_endpoint(tenant, customer.url + "/two", [])
    node.event(node.message(tenant, customer.url + "/three"), "delivered", "callback", one.id, two.id)
    await customer.got(3)
    await node.all_done()
    assert sorted(r.path for r in customer.requests) == ["/one", "/three", "/two"]
    assert len({r.id for r in customer.requests}) == len({r.body for r in customer.requests}) == 1
    assert len(rendered) == 1


# --- retries


async def test_a_failed_delivery_is_tried_again_after_five_seconds_with_the_same_id(node, customer, tenant):
    customer.answer = status(503)
    node.delivered(tenant, customer.url)
    first = await customer.got(1)
    row = await node.row(tenant, 1)
    assert row.last_error == "503"
    assert abs((row.due - node.clock.now()).total_seconds() - 5.0) <= 1.0
    await node.clock.elapse(3.9)
    assert len(customer.requests) == 1
    customer.answer = status(200)
    await node.clock.elapse(2.3)
    again = await customer.got(2)
    assert again.id == first.id
    assert again.body == first.body
    assert int(again.headers["webhook-timestamp"]) >= int(first.headers["webhook-timestamp"]) + 4
    await node.all_done()


async def test_after_three_days_it_is_a_dead_letter_that_can_be_replayed(node, customer, tenant, monkeypatch):
    monkeypatch.setattr(webhook, "LOOK_EVERY_S", 600.0)  # three days of looking take their time
    monkeypatch.setattr(webhook_supervisor, "LOOK_EVERY_S", 600.0)
    customer.answer = status(500)
    id_ = node.delivered(tenant, customer.url)
    for tries, delay_s in enumerate(RETRY_DELAYS_S, 1):
        await customer.got(tries)
        await node.row(tenant, tries)
        await node.clock.elapse(delay_s * (1 + LONG_ENOUGH))
    (dead,) = await node.dead(tenant, 1)
    assert (dead.attempts, dead.last_error) == (len(RETRY_DELAYS_S) + 1, "500")
    assert len(customer.requests) == len(RETRY_DELAYS_S) + 1
    assert {r.id for r in customer.requests} == {f"{id_}.2"}
    customer.answer = status(204)
    await node.clock.elapse(200.0)
    assert await node.journal.replay_dead_letter(tenant, dead.id, node.clock.now())
    node.context.system.send("webhooks", ReplayDue(tenant))
    assert (await customer.got(len(RETRY_DELAYS_S) + 2)).id == f"{id_}.2"
    await node.all_done()
    assert await node.journal.dead_letters(tenant, None, 10) == []


async def test_a_replay_by_another_worker_is_found_without_being_told(node, customer, tenant):
    customer.answer = status(410)
    node.delivered(tenant, customer.url)
    (dead,) = await node.dead(tenant, 1)
    customer.answer = status(200)
    await node.journal.replay_dead_letter(tenant, dead.id, node.clock.now())
    await node.clock.elapse(webhook.LOOK_EVERY_S * 1.1)
    await customer.got(2)
    await node.all_done()


async def test_retry_after_is_honoured_and_holds_up_the_target(node, customer, tenant):
    customer.answer = status(429, **{"Retry-After": "30"})
    node.delivered(tenant, customer.url)
    row = await node.row(tenant, 1)
    assert (row.due - node.clock.now()).total_seconds() == pytest.approx(30.0, abs=0.1)
    node.delivered(tenant, customer.url)
    await node.clock.elapse(20.0)
    assert len(customer.requests) == 1
    customer.answer = status(200)
    await node.clock.elapse(10.5)
    await customer.got(2)
    await customer.got(3)
    await node.all_done()


async def test_redirects_are_not_followed(node, customers, tenant):
    customer, elsewhere = await customers(), await customers()
    customer.answer = status(302, Location=elsewhere.url)
    node.delivered(tenant, customer.url)
    assert (await node.row(tenant, 1)).last_error == "302"
    assert elsewhere.requests == []


async def test_what_goes_wrong_is_said_in_a_few_words(node, customer, tenant, monkeypatch):
    monkeypatch.setattr(webhook_client, "TIMEOUT_S", 0.2)
    never = asyncio.Event()
    ask = socket.getaddrinfo

    def no_such_host(host: Any, *more: Any, **options: Any) -> Any:  # without a name server, which may be slow
        if host == "no-such-host.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return ask(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)

    async def silent(request: Request) -> web.Response:
        await never.wait()
        return web.Response()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.close()

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        writer.close()

    customer.answer = silent
    hanging, babbling = [await asyncio.start_server(s, "127.0.0.1", 0) for s in (hang_up, babble)]
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        hung, talk, nobody = (s.getsockname()[1] for s in (hanging.sockets[0], babbling.sockets[0], closed))
        urls = {
            customer.url: "timeout",
            f"http://127.0.0.1:{nobody}": "connection refused",
            f"http://127.0.0.1:{hung}": "connection closed",
            f"http://127.0.0.1:{talk}": "the answer is not HTTP",
            "http://no-such-host.invalid": "host not found",
            f"https://127.0.0.1:{talk}": "TLS failed",
        }
        expected = {}
        for url, error in urls.items():
            expected[node.delivered(tenant, url)] = error

        async def errors() -> Any:
            rows = await node.journal.outbox_due(tenant, node.clock.now() + timedelta(days=9), 99)
            return {r.message_id: r.last_error for r in rows} if all(r.attempts for r in rows) else None

        assert await node.until(errors) == expected
    never.set()
    hanging.close()
    babbling.close()


async def test_an_endless_body_is_not_read(node, tenant):
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                await writer.drain()
        except ConnectionError:
            ended.set()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    node.delivered(tenant, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await node.all_done()
    async with asyncio.timeout(5):
        await ended.wait()
    server.close()
    assert node.context.metrics.webhook_attempts.values == {"delivered": 1}


# --- 410


async def test_410_disables_an_endpoint_and_nothing_more_is_sent_there(node, customer, tenant):
    endpoint = await node.directory.create_endpoint(tenant, customer.url, [])
    customer.answer = status(410)
    ids = [node.message(tenant) for _ in range(3)]
    node.event(ids[0], "delivered", endpoint.id)
    await node.dead(tenant, 1)
    assert node.directory.endpoint(tenant, endpoint.id).disabled_at is not None
    for id_ in ids[1:]:
        node.event(id_, "delivered", endpoint.id)
    rows = await node.dead(tenant, 3)
    assert {r.message_id: r.last_error for r in rows} == {
        ids[0]: "410",
        ids[1]: "the endpoint is disabled",
        ids[2]: "the endpoint is disabled",
    }
    assert len(customer.requests) == 1
    assert node.context.metrics.webhook_attempts.values == {"gone": 3}


async def test_410_of_a_callback_ends_that_message_also_after_a_restart(node, customer, tenant):
    customer.answer = status(410)
    id_, other = node.message(tenant, customer.url), node.message(tenant, customer.url)
    node.event(id_, "failed")
    node.event(id_, "corrected")
    rows = await node.dead(tenant, 2)
    assert [r.last_error for r in rows] == ["410", "410"]
    assert len(customer.requests) == 1
    again = await node.crash()
    again.messages, again.events = node.messages, node.events
    again.event(id_, "corrected")
    await again.dead(tenant, 3)
    assert len(customer.requests) == 1
    customer.answer = status(200)
    again.event(other)  # of another message they are sent
    await again.all_done()
    assert len(customer.requests) == 2
    await again.stop()


# --- order, and who waits for whom


async def test_events_of_a_message_go_in_order_and_an_earlier_failure_blocks_none(node, customer, tenant):
    go_on = asyncio.Event()

    async def first_fails(request: Request) -> web.Response:
        if request.json["type"] == "message.failed":
            await go_on.wait()
            return web.Response(status=500)
        return web.Response()

    customer.answer = first_fails
    id_ = node.message(tenant, customer.url)
    node.event(id_, "failed")
    await customer.got(1)
    for _ in range(3):
        node.event(id_, "corrected")
    other = node.delivered(tenant, customer.url)
    assert (await customer.got(2)).id == f"{other}.2"  # another message does not wait
    go_on.set()
    await customer.got(5)
    assert [r.id for r in customer.requests if r.id.startswith(id_)] == [f"{id_}.{n}" for n in (2, 3, 4, 5)]
    assert (await node.row(tenant, 1)).seq == 2


async def test_order_holds_for_what_is_read_back_too(node, customer, tenant):
    ids = [node.message(tenant, customer.url) for _ in range(20)]
    for _ in range(3):
        for id_ in ids:
            node.event(id_, "corrected", news=False)
    await node.clock.settle()
    again = await node.crash()
    await again.all_done()
    for id_ in ids:
        assert [r.id for r in customer.requests if r.id.startswith(id_)] == [f"{id_}.{n}" for n in (2, 3, 4)]
    await again.stop()


async def test_a_customer_that_never_answers_delays_nobody_else(node, customers):
    slow, quick = await customers(), await customers()
    never = asyncio.Event()

    async def silent(request: Request) -> web.Response:
        await never.wait()
        return web.Response()

    slow.answer = silent
    one = (await node.directory.create_tenant("slow")).id
    two = (await node.directory.create_tenant("quick")).id
    for _ in range(200):
        node.delivered(one, slow.url)
    await slow.got(8)
    for _ in range(50):
        node.delivered(two, quick.url)
    await quick.got(50)
    assert slow.at_once == 8
    detail = node.inspect(one)
    assert (detail["pending"], detail["in_flight"]) == (200, 8)
    # and the same tenant's other targets
    node.delivered(one, quick.url)
    await quick.got(51)
    never.set()
    await node.all_done()
    assert len(slow.requests) == 200


async def test_a_target_that_answers_fast_is_called_more_at_once(node, customer, tenant):
    batch = asyncio.Event()

    async def together(request: Request) -> web.Response:
        await batch.wait()
        return web.Response()

    for _ in range(100):
        node.delivered(tenant, customer.url)
    await node.all_done()
    customer.answer = together
    for _ in range(100):
        node.delivered(tenant, customer.url)
    await node.until(lambda: customer.at_once == WINDOW_MOST)
    await node.clock.settle()
    assert customer.at_once_most == WINDOW_MOST
    batch.set()
    await node.all_done()


async def test_memory_is_bounded_and_the_rest_is_read_back(node, customer, tenant, monkeypatch):
    for name, value in {"HELD_MOST": 40, "LOOK_ROWS": 15, "LOAD_AT_ONCE": 10}.items():
        monkeypatch.setattr(webhook, name, value)
    go_on = asyncio.Event()

    async def wait(request: Request) -> web.Response:
        await go_on.wait()
        return web.Response()

    customer.answer = wait
    ids = {f"{node.delivered(tenant, customer.url)}.2" for _ in range(300)}
    await customer.got(8)
    await node.clock.settle()
    assert node.inspect(tenant)["pending"] <= 40
    assert node.inspect(tenant)["more_in_journal"]
    go_on.set()
    await node.all_done()
    assert len(customer.requests) == 300
    assert {r.id for r in customer.requests} == ids
    await node.clock.elapse(webhook.LOOK_EVERY_S * 1.1)
    assert node.inspect(tenant)["pending"] == 0
    assert not node.inspect(tenant)["more_in_journal"]


async def test_what_a_slow_target_has_no_room_for_is_put_off(node, customers, tenant, monkeypatch):
    monkeypatch.setattr(webhook_targets, "SHARE_MOST", 5)
    monkeypatch.setattr(webhook_targets, "SLOW_S", 0.0)  # every target is slow
    slow, quick = await customers(), await customers()
    go_on = asyncio.Event()

    async def wait(request: Request) -> web.Response:
        if len(slow.requests) > 1:
            await go_on.wait()
        return web.Response()

    slow.answer = wait
    for _ in range(30):
        node.delivered(tenant, slow.url)
    await slow.got(9)
    await node.until(lambda: node.inspect(tenant)["pending"] <= 9 + 5)
    node.delivered(tenant, quick.url)
    await quick.got(1)
    go_on.set()
    for _ in range(30):
        await node.clock.elapse(70.0)
        await node.until(lambda: node.inspect(tenant)["in_flight"] == 0)
    await node.all_done()
    assert len(slow.requests) == len({r.id for r in slow.requests}) == 30


async def test_what_a_failing_target_has_no_room_for_counts_as_tried(node, customer, tenant, monkeypatch):
    monkeypatch.setattr(webhook_targets, "SHARE_MOST", 5)
    customer.answer = status(500)
    for _ in range(15):
        node.delivered(tenant, customer.url)
    target = f"callback {customer.url}"
    await node.until(lambda: node.inspect(tenant)["targets"].get(target, {}).get("failures") == 15)
    monkeypatch.setattr(webhook_targets, "SLOW_S", 0.0)
    for _ in range(30):
        node.delivered(tenant, customer.url)

    async def all_tried() -> bool:
        rows = await node.journal.outbox_due(tenant, node.clock.now() + timedelta(days=9), 99)
        return len(rows) == 45 and all(row.attempts == 1 and row.last_error == "500" for row in rows)

    await node.until(all_tried)
    assert len(customer.requests) < 45


async def test_a_burst_for_a_target_that_answers_well_is_not_put_off(node, customer, tenant, monkeypatch):
    monkeypatch.setattr(webhook_targets, "SHARE_MOST", 5)
    for _ in range(200):
        node.delivered(tenant, customer.url)
    await node.all_done()
    assert len(customer.requests) == 200


# --- nothing is lost


async def test_a_killed_node_delivers_what_was_left_with_the_same_ids(node, customer, tenant):
    hold = asyncio.Event()

    async def wait(request: Request) -> web.Response:
        await hold.wait()
        return web.Response()

    customer.answer = wait
    ids = {f"{node.delivered(tenant, customer.url)}.2" for _ in range(30)}
    await customer.got(8)
    again = await node.crash()
    hold.set()
    await again.all_done()
    assert {r.id for r in customer.requests} == ids
    assert len(customer.requests) == 30 + 8  # what was under way is sent twice, and can be told by its id
    await again.stop()


async def test_a_retry_survives_a_restart(node, customer, tenant):
    customer.answer = status(500)
    node.delivered(tenant, customer.url)
    await node.row(tenant, 1)
    again = await node.crash()
    customer.answer = status(200)
    await again.clock.elapse(RETRY_DELAYS_S[0] * (1 + LONG_ENOUGH))
    assert (await customer.got(2)).id == customer.requests[0].id
    await again.all_done()
    await again.stop()


async def test_a_stopping_node_waits_for_the_calls_under_way(customer):
    node = await start()
    tenant = (await node.directory.create_tenant("one")).id
    hold = asyncio.Event()

    async def wait(request: Request) -> web.Response:
        await hold.wait()
        return web.Response()

    customer.answer = wait
    for _ in range(20):
        node.delivered(tenant, customer.url)
    await customer.got(8)
    stopping = asyncio.ensure_future(node.stop())
    await node.clock.settle()
    hold.set()
    await stopping
    assert len(customer.requests) == 8
    assert await node.journal.outbox_pending() == 12


async def test_results_wait_for_the_journal(node, customer, tenant):
    hold = asyncio.Event()

    async def wait(request: Request) -> web.Response:
        await hold.wait()
        return web.Response()

    customer.answer = wait
    node.delivered(tenant, customer.url)
    await customer.got(1)
    node.journal.set_available(False)
    hold.set()
    await node.until(lambda: node.inspect(tenant)["in_flight"] == 0)
    await node.clock.elapse(30.0)
    assert node.inspect(tenant)["pending"] == 1
    node.journal.set_available(True)
    await node.clock.elapse(webhook.LOOK_EVERY_S * 1.1)
    await node.all_done()
    await node.until(lambda: node.inspect(tenant)["pending"] == 0)
    assert len(customer.requests) == 1


async def test_results_that_follow_a_write_wait_for_company_and_are_written_when_the_node_stops(
    node, customer, tenant, monkeypatch
):
    monkeypatch.setattr(webhook_results, "REST_S", 3_600.0)
    monkeypatch.setattr(webhook_results, "ENOUGH", 3)
    node.delivered(tenant, customer.url)
    await node.all_done()  # the first at once
    for _ in range(2):
        node.delivered(tenant, customer.url)
    await node.until(lambda: node.context.system.info("webhooks").detail["results_to_write"] == 2)
    node.delivered(tenant, customer.url)
    await node.all_done()  # three are enough
    node.delivered(tenant, customer.url)
    await node.until(lambda: node.context.system.info("webhooks").detail["results_to_write"] == 1)
    await node.stop()
    assert await node.journal.outbox_pending() == 0
    assert len(customer.requests) == 5


async def test_messages_that_follow_a_load_wait_for_company(node, customer, tenant, monkeypatch):
    monkeypatch.setattr(webhook, "LOAD_REST_S", 3_600.0)
    monkeypatch.setattr(webhook, "LOAD_ENOUGH", 2)
    loads = []
    load = node.journal.load

    async def counted(ids):
        loads.append(len(ids))
        return await load(ids)

    monkeypatch.setattr(node.journal, "load", counted)
    node.delivered(tenant, customer.url)
    await node.all_done()  # the first at once
    endpoint = await node.directory.create_endpoint(tenant, customer.url, [])
    node.event(node.message(tenant, customer.url), "delivered", "callback", endpoint.id)
    await node.all_done()  # two are enough
    node.delivered(tenant, customer.url)
    await node.until(lambda: node.inspect(tenant)["in_flight"] == 1)
    assert loads == [1, 1]
    assert len(customer.requests) == 3


async def test_it_starts_while_the_journal_is_away(node, customer, tenant):
    node.delivered(tenant, customer.url)
    await node.all_done()
    node.delivered(tenant, customer.url)
    await node.clock.settle()
    journal = node.journal
    journal.set_available(False)
    await node.clock.elapse(3.0)
    journal.set_available(True)
    await node.clock.elapse(webhook.LOOK_EVERY_S * 1.1)
    await customer.got(2)
    await node.all_done()


async def test_an_actor_that_crashed_is_started_again_and_the_others_live(node, customer, tenant):
    other = (await node.directory.create_tenant("other")).id
    node.delivered(tenant, customer.url)
    node.delivered(other, customer.url)
    await node.all_done()
    lives = node.context.system.whereis("webhook/" + other)
    ref = node.context.system.whereis("webhook/" + tenant)
    ref.send("nonsense")
    await ref.ended()
    node.event(node.message(tenant, customer.url), news=False)
    await node.clock.elapse(webhook_supervisor.RESTART_S * 1.1)
    await customer.got(3)
    assert node.context.system.whereis("webhook/" + tenant) is not ref
    assert node.context.system.whereis("webhook/" + other) is lives


async def test_an_event_that_cannot_be_rendered_is_a_dead_letter_and_stops_no_other(node, customer, tenant):
    id_ = node.message(tenant, customer.url)
    node.write(Write(id_, tenant, (), outbox=[OutboxEntry(7, "callback", "message.failed", node.clock.now())]))
    node.delivered(tenant, customer.url)
    await customer.got(1)
    (dead,) = await node.dead(tenant, 1)
    assert dead.last_error == "the event cannot be rendered"
    await node.all_done()


async def test_an_idle_actor_ends_and_is_started_anew(node, customer, tenant):
    node.delivered(tenant, customer.url)
    await node.all_done()
    await node.clock.elapse(webhook.IDLE_S + 3 * webhook.LOOK_EVERY_S)
    assert node.context.system.whereis("webhook/" + tenant) is None
    node.delivered(tenant, customer.url)
    await customer.got(2)
    await node.all_done()


async def test_news_that_find_a_full_mailbox_are_found_in_the_outbox(node, customer, tenant):
    node.delivered(tenant, customer.url)
    await node.all_done()
    ref = node.context.system.whereis("webhook/" + tenant)
    ref.suspend()
    while not ref.send(WebhooksDue(tenant, "msg_none", ())):
        pass
    node.delivered(tenant, customer.url)
    await node.clock.settle()
    ref.resume()
    await customer.got(2)
    await node.all_done()


async def test_a_deleted_tenants_or_endpoints_deliveries_are_dead_letters(node, customer, tenant):
    endpoint = await node.directory.create_endpoint(tenant, customer.url, [])
    id_ = node.message(tenant, customer.url)
    await node.directory.delete_endpoint(tenant, endpoint.id)
    await node.directory.delete_tenant(tenant)
    node.event(id_, "delivered", "callback", endpoint.id)
    rows = await node.dead(tenant, 2)
    assert {r.last_error for r in rows} == {"the tenant was deleted", "the endpoint was deleted"}
    assert customer.requests == []


# --- where nothing may go


SPELLINGS = [
    "127.0.0.1",
    "127.1",
    "0x7f000001",
    "0x7f.0.0.1",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fe80::1]",
    "[fd00::1]",
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "127。0。0。1",
    "①②⑦.0.0.1",
    "127.0.0.1.",
]


@pytest.mark.parametrize("host", SPELLINGS)
async def test_a_private_address_is_refused_however_it_is_spelled(host, customer):
    looked_up = []

    def resolve(name: str, port: int) -> Any:
        looked_up.append(name)
        return socket.getaddrinfo(name, port, 0, socket.SOCK_STREAM)

    port = customer.url.rpartition(":")[2]
    client = WebhookClient(ManualClock(), False, resolve)
    for scheme in ("http", "https"):
        answer = await client.post(f"{scheme}://{host}:{port}/hook", b"{}", {})
        assert answer.status is None
        assert answer.error is not None and answer.error.startswith("refused: ")
        assert answer.hopeless
    await client.close()
    assert looked_up == []
    assert customer.requests == []


@pytest.mark.parametrize("url", ["ftp://example.com", "http://u:p@example.com", "http://", "x", "http://a b", ""])
async def test_what_is_no_url_for_a_webhook_is_refused(url):
    client = WebhookClient(ManualClock(), True)
    answer = await client.post(url, b"{}", {})
    await client.close()
    assert answer.hopeless


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["93.184.216.34", "10.0.0.1"],  # one of several is enough
        ["::1"],
        ["::ffff:10.0.0.1"],
    ],
)
async def test_a_name_that_resolves_to_a_private_address_is_refused_and_tried_again(addresses, customer):
    def resolve(name: str, port: int) -> Any:
        return [
            (socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses
        ]

    clock = ManualClock(datetime.now(UTC))
    node = await start(clock, None, False, WebhookClient(clock, False, resolve))
    tenant = (await node.directory.create_tenant("one")).id
    node.delivered(tenant, "http://customer.example:" + customer.url.rpartition(":")[2])
    assert (await node.row(tenant, 1)).last_error == "refused: resolves to a private address"
    assert customer.requests == []
    await node.stop()


async def test_the_address_that_was_vetted_is_the_one_that_is_called(customer, monkeypatch):
    """A name server that changes its mind between the look and the call finds nobody asking again."""
    answers = iter([["93.184.216.34"], ["127.0.0.1"], ["127.0.0.1"]])
    port = int(customer.url.rpartition(":")[2])
    called: list[str] = []

    def resolve(name: str, port: int) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in next(answers)]

    def no_socket(addr_info: Any) -> socket.socket:
        called.append(addr_info[4][0])
        raise OSError(101, "no network in this test")

    monkeypatch.setattr(webhook_client, "_vetted_socket", no_socket)
    client = WebhookClient(ManualClock(), False, resolve)
    answer = await client.post(f"http://customer.example:{port}/", b"{}", {})
    await client.close()
    assert answer.error == "cannot connect"
    assert called == ["93.184.216.34"]
    assert len(list(answers)) == 2  # it was asked once


async def test_a_socket_to_a_private_address_is_never_made_whatever_was_judged_before(customer, monkeypatch):
    monkeypatch.setattr(webhook_client, "is_refused_host", lambda host: False)
    client = WebhookClient(ManualClock(), False)
    answer = await client.post(customer.url, b"{}", {})
    await client.close()
    assert answer.error == "refused: not a public address"
    assert customer.requests == []


async def test_a_literal_private_address_is_a_dead_letter_at_once(customer):
    node = await start(allow_private=False)
    tenant = (await node.directory.create_tenant("one")).id
    node.delivered(tenant, customer.url)
    (dead,) = await node.dead(tenant, 1)
    assert (dead.last_error, dead.attempts) == ("refused: not a public address", 1)
    assert customer.requests == []
    await node.stop()


async def test_a_proxy_of_the_environment_is_not_used(node, customers, tenant, monkeypatch):
    customer, proxy = await customers(), await customers()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    node.delivered(tenant, customer.url)
    await customer.got(1)
    assert proxy.requests == []


async def test_neither_log_nor_inspect_shows_a_secret(node, customer, tenant, caplog):
    caplog.set_level("DEBUG")
    customer.answer = status(500)
    node.delivered(tenant, customer.url + "/hook?key=hush-hush")
    await node.row(tenant, 1)
    inspected = node.inspect(tenant)
    assert customer.url in json.dumps(inspected)
    node.context.system.whereis("webhook/" + tenant).send("nonsense")  # its end is logged
    await node.clock.settle()
    secret = node.directory.tenant(tenant).secret
    shown = caplog.text + json.dumps(inspected)
    for hidden in ("hush-hush", secret, base64.b64decode(secret.removeprefix("whsec_")).hex(), "+4520120001"):
        assert hidden not in shown
