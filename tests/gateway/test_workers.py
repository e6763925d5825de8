"""Several workers of one database answer as one, whoever is asked; one that does not answer costs its own part only."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.connection import Reply, Request
from gateway.workers import counts, peers
from gateway.workers.control import ControlServer
from hermes.journal.base import JournalAway
from hermes.journal.memory import MemoryJournal
from hermes.runtime import SystemClock
from hermes.samples import Samples
from tests.gateway.api import OPERATOR, Api

Start = Callable[..., Awaitable[Api]]


def nothing(worker: str, counts: bytes) -> None:
    """Take nothing that another worker leaves."""


class Two:
    """Two workers over one database."""

    def __init__(self, a: Api, b: Api) -> None:
        self.a, self.b = a, b
        self.ids = [a.node.journal.worker_id, b.node.journal.worker_id]

    async def get(self, path: str, api: Api | None = None, status: int = 200) -> Any:
        answer = await (api or self.a).call("GET", path, key=OPERATOR)
        assert answer.status == status, answer.raw
        return answer.json

    async def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        answer = await self.a.call("POST", path, body, key=OPERATOR)
        assert answer.status == status, answer.raw
        return answer.json

    async def metrics(self, api: Api | None = None) -> dict[tuple[Any, ...], float]:
        text = (await (api or self.a).call("GET", "/metrics", key=None)).raw.decode()
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture
async def two(start: Start) -> AsyncIterator[Two]:
    journal = MemoryJournal(clock=SystemClock(), worker_id="w1")
    await journal.start()
    a = await start(journal=journal, workers=2)
    other = journal.peer("w2")
    await other.start()
    yield Two(a, await start(journal=other, workers=2))


@pytest.fixture
def looking_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are looked for at each request, so that no test waits for a second to pass."""
    monkeypatch.setattr(peers, "LOOK_EVERY_S", 0.0)


def names(node: dict[str, Any]) -> list[str]:
    return [node["name"], *(name for child in node["children"] for name in names(child))]


async def test_the_tree_has_a_line_for_each_worker_and_every_name_can_be_asked_for(two: Two) -> None:
    for asked in (two.a, two.b):
        tree = await two.get("/v1/actors", asked)
        assert (tree["name"], tree["kind"]) == ("workers", "Workers")
        assert [child["name"] for child in tree["children"]] == ["worker/w1", "worker/w2"]
        shown = tree["children"][0]
        assert sum(child["detail"]["shards"] for child in tree["children"]) == 64
        assert shown["detail"]["pid"] == 0 and shown["state"] != "unreachable"
        assert shown["children"][0]["name"] == "worker/w1/root"
        for name in names(tree):
            found = await two.get(f"/v1/actors/{name}", asked)
            assert found["name"] == name


async def test_a_plain_name_is_that_actor_on_every_worker(two: Two) -> None:
    message_id = await two.a.sent({"channel": "sms", "to": "+4520120004", "content": {"text": "Hi"}})
    both = await two.get("/v1/actors/provider/mock-sms", two.b)
    assert [child["name"] for child in both["children"]] == [f"worker/{w}/provider/mock-sms" for w in two.ids]
    assert (both["name"], both["kind"], both["children_total"]) == ("provider/mock-sms", "Provider", 2)
    alone = await two.get(f"/v1/actors/cascade/{message_id}", two.b)
    assert alone["name"] == f"worker/w1/cascade/{message_id}"
    for path in ("nobody", "worker/w1/nobody", "worker/w9/root", "worker/w9"):
        assert (await two.get(f"/v1/actors/{path}", status=404))["code"] == "not_found"


@pytest.mark.parametrize("asked", ["a", "b"])
async def test_an_order_reaches_the_worker_that_has_the_actor(two: Two, asked: str) -> None:
    api = getattr(two, asked)
    of = {"w1": two.a.node.system, "w2": two.b.node.system}
    for worker, other in (("w1", "w2"), ("w2", "w1")):
        name = f"worker/{worker}/provider/mock-sms"
        answer = await api.call("POST", f"/v1/actors/{name}/suspend", key=OPERATOR)
        assert (answer.json["name"], answer.json["state"]) == (name, "suspended")
        assert of[worker].info("provider/mock-sms").state == "suspended"
        assert of[other].info("provider/mock-sms").state != "suspended"
        await api.call("POST", f"/v1/actors/{name}/resume", key=OPERATOR)
    both = (await api.call("POST", "/v1/actors/provider/mock-sms/restart", key=OPERATOR)).json
    assert both["restarts"] == 2 and [child["restarts"] for child in both["children"]] == [1, 1]
    assert [system.info("provider/mock-sms").restarts for system in of.values()] == [1, 1]


async def test_a_refusal_of_another_worker_is_handed_on(two: Two) -> None:
    for held in ("worker/w2/root", "gateway"):
        assert (await two.post(f"/v1/actors/{held}/stop", status=422))["code"] == "schema_invalid"
    assert (await two.post("/v1/actors/worker/w2/router/suspend", {"x": 1}, status=422))["code"] == "schema_invalid"


async def test_a_log_level_holds_on_every_worker_that_has_the_actor(two: Two) -> None:
    assert await two.post("/v1/actors/router/log-level", {"level": "debug"}) == {"levels": {"router": "debug"}}
    assert two.b.node.system.log_levels() == {"router": logging.DEBUG}
    levels = await two.post("/v1/actors/worker/w2/dlr/log-level", {"level": "error"})
    assert levels["levels"] == {"worker/w2/router": "debug", "worker/w2/dlr": "error"}
    assert (await two.get("/v1/overview"))["log_levels"] == {"router": "debug", "worker/w2/dlr": "error"}
    await two.post("/v1/actors/nobody/log-level", {"level": "debug"}, status=404)


async def test_an_overview_counts_what_every_worker_did(two: Two) -> None:
    for api in (two.a, two.a, two.b):
        await api.node.final(await api.sent())
    await two.b.call("POST", "/v1/actors/worker/w2/provider/mock-push/restart", key=OPERATOR)
    for asked in (two.a, two.b):
        seen = await two.get("/v1/overview", asked)
        assert (seen["workers"], seen["workers_unreachable"], seen["ready"]) == (2, 0, True)
        assert seen["accepted"] == 3 and seen["final"] == {"delivered": 3}
        assert [(t["id"], t["accepted"]) for t in seen["tenants"]] == [(two.a.node.tenant, 3)]
        assert seen["carriers_total"] == 4 and seen["carriers_by_state"] == {"up": 4}
        assert sum(c["sent"] for c in seen["carriers"]) == 3
        assert {name.split("/")[1] for name in (a["name"] for a in seen["actors"])} == {"w1", "w2"}
        assert len((await two.get("/v1/overview?limit=1", asked))["carriers"]) == 1


async def test_a_carrier_is_shown_over_all_workers_and_an_order_reaches_each(two: Two) -> None:
    for api in (two.a, two.b):
        await api.node.final(await api.sent())
    sms = next(c for c in (await two.get("/v1/carriers", two.b))["data"] if c["name"] == "mock-sms")
    assert (sms["sent"], sms["state"], sms["breaker"]) == (2, "up", "closed")
    for order, state in (("pause", "paused"), ("resume", "up"), ("drain", "draining"), ("resume", "up")):
        assert (await two.post(f"/v1/carriers/mock-sms/{order}"))["state"] == state
        for api in (two.a, two.b):
            assert api.node.system.info("provider/mock-sms").detail["state"] == state
    await two.post("/v1/carriers/nobody/pause", status=404)


async def test_a_worker_that_comes_later_holds_what_the_operator_holds(
    start: Start, two: Two, looking_always: None
) -> None:
    await two.post("/v1/carriers/mock-sms/pause")
    await two.post("/v1/carriers/mock-push/drain")
    third = two.a.node.journal.peer("w3")  # type: ignore[attr-defined]
    await third.start()
    late = await start(journal=third)
    await late.server.gateway.carriers.take_over_orders()
    states = {name: late.node.system.info(f"provider/{name}").detail["state"] for name in late.node.context.carriers}
    assert states == {"mock-email": "up", "mock-sms": "paused", "mock-push": "draining", "mock-whatsapp": "up"} | {
        "sandbox": "up"
    }


async def test_metrics_are_the_sum_of_all_workers_whoever_is_asked(two: Two) -> None:
    for api in (two.a, two.a, two.b):
        await api.node.final(await api.sent())
    for asked in (two.a, two.b):
        seen = await two.metrics(asked)
        assert seen["hermes_accepted_total",] == 3
        assert seen["hermes_final_total", ("channel", "sms"), ("status", "delivered")] == 3
        assert seen["hermes_accept_seconds_count",] == 3
        assert (seen["hermes_workers",], seen["hermes_workers_unreachable",]) == (2, 0)
        assert seen["hermes_carrier_up", ("carrier", "mock-sms")] == 1
        assert [seen["hermes_journal_up", ("worker", worker)] for worker in two.ids] == [1, 1]
        assert all(seen["process_resident_memory_bytes", ("worker", worker)] > 0 for worker in two.ids)


async def test_one_worker_alone_is_shown_without_a_worker(api: Api) -> None:
    text = (await api.call("GET", "/metrics", key=None)).raw.decode()
    assert "worker=" not in text and "hermes_workers 1.0" in text
    assert (await api.call("GET", "/v1/actors", key=OPERATOR)).json["name"] == "root"
    named = (await api.call("GET", f"/v1/actors/worker/{api.node.journal.worker_id}/router", key=OPERATOR)).json
    assert named["name"].endswith("/router")


async def test_a_worker_that_does_not_answer_is_left_out_and_counted(
    two: Two, monkeypatch: pytest.MonkeyPatch, looking_always: None
) -> None:
    await two.a.node.final(await two.a.sent())
    await two.b.node.final(await two.b.sent())
    monkeypatch.setattr(peers, "ASK_WITHIN_S", 0.2)
    before = await two.metrics()
    await two.b.server.stop()  # its row says that it lives
    after = await two.metrics()
    assert (after["hermes_workers",], after["hermes_workers_unreachable",]) == (2, 1)
    assert before["hermes_accepted_total",] == after["hermes_accepted_total",] == 2, "no counter falls"
    assert ("hermes_journal_up", ("worker", "w2")) not in after
    tree = await two.get("/v1/actors")
    assert [(c["name"], c["state"] == "unreachable") for c in tree["children"]] == [
        ("worker/w1", False),
        ("worker/w2", True),
    ]
    seen = await two.get("/v1/overview")
    assert (seen["workers"], seen["workers_unreachable"], seen["accepted"]) == (2, 1, 1)
    rows = {row["id"]: row for row in (await two.get("/v1/workers"))["data"]}
    assert (rows["w1"]["open"], rows["w2"]["open"], rows["w2"]["state"]) == (0, None, "alive")
    assert (await two.get("/v1/actors/router"))["name"] == "worker/w1/router"
    assert (await two.get("/v1/actors/cascade/gone", status=503))["code"] == "overloaded"
    assert (await two.get("/v1/actors/worker/w2/router", status=503))["code"] == "overloaded"
    problem = await two.post("/v1/carriers/mock-sms/pause", status=503)
    assert "w2" in problem["detail"]
    assert two.a.node.system.info("provider/mock-sms").detail["state"] == "paused"
    assert (await two.get("/v1/log"))["data"] is not None


async def test_counts_of_a_worker_that_ended_stay_whoever_is_asked_later(
    start: Start, two: Two, looking_always: None
) -> None:
    await two.b.node.final(await two.b.sent())
    assert (await two.metrics(two.a))["hermes_accepted_total",] == 1
    two.b.node.journal.kill()  # type: ignore[attr-defined]
    await two.b.server.stop()
    third = two.a.node.journal.peer("w3")  # type: ignore[attr-defined]
    await third.start()
    late = await start(journal=third)
    for asked in (late, two.a, late):
        seen = await two.metrics(asked)
        assert seen["hermes_accepted_total",] == 1
        assert (seen["hermes_workers",], seen["hermes_workers_unreachable",]) == (2, 0)


async def test_a_worker_that_ends_leaves_its_counts_though_nobody_looked_before(two: Two, looking_always: None) -> None:
    await two.b.node.final(await two.b.sent())
    metrics = two.b.node.context.metrics
    gone = counts.Gone()
    gone.hear("w0", Samples({"hermes_accepted_total": {(): 5.0}}))
    await counts.leave_with_all(two.b.edge.peers, metrics, gone)
    await two.b.server.stop()
    assert (await two.metrics())["hermes_accepted_total",] == 6


async def test_counts_of_a_killed_worker_are_with_the_next_one(
    two: Two, looking_always: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "LEAVE_EVERY_S", 0.01)
    await two.b.node.final(await two.b.sent())
    leaving = asyncio.ensure_future(counts.leave_with_one(two.b.edge.peers, two.b.node.context.metrics))
    await two.a.node.until(lambda: "w2" in two.a.edge.gone.besides({}))
    leaving.cancel()
    await two.b.server.stop()
    assert (await two.metrics())["hermes_accepted_total",] == 1


def test_what_cannot_be_read_is_not_counted() -> None:
    gone = counts.Gone()
    for body in (b"", b"\xff", b"\x93\x01\x02\x03"):
        gone.take("w1", body)
    assert gone.besides({}) == {}


def test_no_more_workers_are_remembered_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "MOST_GONE", 3)
    gone = counts.Gone()
    for n in range(5):
        gone.hear(f"w{n}", Samples({"hermes_accepted_total": {(): 1.0}}))
    assert list(gone.besides({"w4": Samples()})) == ["w2", "w3"]


async def test_workers_are_listed_with_what_is_open_on_each(two: Two, looking_always: None) -> None:
    await two.a.sent({"channel": "sms", "to": "+4520120004", "content": {"text": "Hi"}})
    for asked in (two.a, two.b):
        rows = (await two.get("/v1/workers", asked))["data"]
        assert [(row["id"], row["state"], row["shards"], row["open"]) for row in rows] == [
            ("w1", "alive", 32, 1),
            ("w2", "alive", 32, 0),
        ]
        assert "control" not in rows[0] and "http" not in str(rows)


async def test_log_lines_of_all_workers_come_in_order_and_once(two: Two, log: io.StringIO) -> None:
    last = (await two.get("/v1/log"))["last"]
    for n in range(5):
        logging.getLogger("hermes.x").warning("line %d", n)
    seen: list[Any] = []
    while len(seen) < 10:
        page = await two.get(f"/v1/log?after={last}&level=warning")
        seen += page["data"]
        last = page["last"]
    assert [line["seq"] for line in seen] == sorted(line["seq"] for line in seen)
    for worker in two.ids:
        assert [line["event"] for line in seen if line["facts"]["worker"] == worker] == [f"line {n}" for n in range(5)]


async def test_figures_come_while_the_database_is_away(two: Two, looking_always: None) -> None:
    await two.b.node.final(await two.b.sent())
    await two.metrics()
    two.a.node.journal.set_available(False)  # type: ignore[attr-defined]
    seen = await two.metrics()
    assert seen["hermes_accepted_total",] == 1
    assert seen["hermes_journal_up", ("worker", "w1")] == 0
    assert (await two.get("/v1/actors"))["name"] == "workers"


async def test_the_control_channel_wants_its_own_key_and_serves_only_what_workers_ask(two: Two) -> None:
    (row,) = [row for row in await two.a.node.journal.workers() if row.id == "w2"]
    assert row.control is not None
    parts = urlsplit(row.control)
    path = Path(parts.path)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    right = f"Bearer {parts.password}"
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        for given in ({}, {"Authorization": f"Bearer {OPERATOR}"}, {"Authorization": right + "x"}):
            async with session.get("http://worker/v1/actors", headers=given) as answer:
                assert (answer.status, await answer.read()) == (401, b"")
        for method, asked in (
            ("GET", "/v1/tenants"),
            ("POST", "/v1/messages"),
            ("POST", "/v1/carriers"),
            ("GET", "/console"),
            ("DELETE", "/v1/carriers/mock-sms"),
        ):
            async with session.request(method, f"http://worker{asked}", headers={"Authorization": right}) as answer:
                assert answer.status in (404, 405), (method, asked)
        async with session.get("http://worker/v1/actors", headers={"Authorization": right}) as answer:
            assert (await answer.json())["name"] == "worker/w2"
    public = await two.a.call("GET", "/v1/actors", key=parts.password)
    assert public.status == 401
    assert str(parts.password) not in repr(row)


async def test_a_worker_with_an_address_is_asked_over_it(tmp_path: Path) -> None:
    control = ControlServer(tmp_path, "w", "127.0.0.1")

    async def handle(request: Request) -> Reply:
        return Reply(200, json.dumps({"path": request.raw_path}).encode(), "req_1")

    await control.start(handle, nothing)
    before = control.url
    journal = MemoryJournal(clock=SystemClock(), worker_id="w1")
    await journal.start()
    await journal.announce(control.url)
    asking = peers.Peers(journal, SystemClock())
    (row,) = await asking.rows()
    told = await asking.ask(row, "GET", "/v1/x%2Fy?z=1")
    assert told.read(dict) == {"path": "/v1/x%2Fy?z=1"}
    await control.stop()
    assert (await asking.ask(row, "GET", "/v1/x")).status == 0
    await control.start(handle, nothing)
    assert control.url == before and (await asking.ask(row, "GET", "/v1/x")).status == 200
    await asking.close()
    await control.stop()


async def test_a_socket_goes_where_its_path_is_short_enough_and_leaves_nothing(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    control = ControlServer(deep, "w")

    async def handle(request: Request) -> Reply:
        return Reply(200, b"", "req_1")

    await control.start(handle, nothing)
    path = Path(urlsplit(control.url).path)
    assert path.exists() and not path.is_relative_to(deep) and path.parent.stat().st_mode & 0o777 == 0o700
    await control.stop()
    assert not path.parent.exists()


async def test_sockets_of_killed_workers_are_removed_and_living_ones_stay(tmp_path: Path) -> None:
    async def handle(request: Request) -> Reply:
        return Reply(200, b"", "req_1")

    living, later = ControlServer(tmp_path, "a"), ControlServer(tmp_path, "b")
    await living.start(handle, nothing)
    with socket.socket(socket.AF_UNIX) as killed:  # asyncio's own server removes its socket since Python 3.13
        killed.bind(str(tmp_path / "dead.sock"))
        killed.listen()
    assert (tmp_path / "dead.sock").exists()
    await later.start(handle, nothing)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.sock", "b.sock"]
    await later.stop()
    await living.stop()
    assert list(tmp_path.iterdir()) == []


async def test_an_answer_that_another_version_would_give_is_no_answer(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def odd(*args: Any, **more: Any) -> list[peers.Told]:
        rows = await two.a.edge.peers.others()
        return [peers.Told(row, 200, b'{"unheard": "of"}') for row in rows]

    monkeypatch.setattr(two.a.edge.peers, "ask_all", odd)
    assert (await two.get("/v1/overview"))["workers_unreachable"] == 1
    assert (await two.metrics())["hermes_workers_unreachable",] == 1
    assert len((await two.get("/v1/carriers"))["data"]) == 4
    assert (await two.get("/v1/log"))["last"] > 0


async def test_rows_are_read_once_for_many_who_ask_at_once() -> None:
    class Counting:
        worker_id = "w1"
        asked = 0

        async def workers(self) -> list[Any]:
            self.asked += 1
            await asyncio.sleep(0)
            if self.asked > 1:
                raise JournalAway("away")
            return []

    journal = Counting()
    asking = peers.Peers(journal, SystemClock())  # type: ignore[arg-type]
    assert await asyncio.gather(*map(partial(lambda n: asking.rows()), range(5))) == [[]] * 5
    assert journal.asked == 1
