"""HTTP itself: connections, methods, codings, stopping; health, metrics, actors and the documentation."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import zlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from gateway.app import Gateway
from hermes.domain.commands import Admitted
from hermes.domain.message import rfc3339
from hermes.runtime import Actor
from tests.gateway.api import OPERATOR, SMS, Api

Start = Callable[..., Awaitable[Api]]


async def raw(api: Api, request: bytes, answers: int = 1) -> list[bytes]:
    """Write octets to a connection of its own; returns the answers' heads, or what came before it was closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    writer.write(request)
    heads = []
    try:
        async with asyncio.timeout(5):
            for _ in range(answers):
                head = await reader.readuntil(b"\r\n\r\n")
                heads.append(head)
                length = re.search(rb"Content-Length: (\d+)", head)
                if length is not None and not request.startswith(b"HEAD"):
                    await reader.readexactly(int(length[1]))
            if b"Connection: close" in heads[-1]:
                assert await reader.read() == b""
    except asyncio.IncompleteReadError as exc:
        heads.append(exc.partial)
    writer.close()
    return heads


def post(api: Api, body: bytes, *headers: str, version: str = "1.1") -> bytes:
    lines = [
        f"POST /v1/messages HTTP/{version}",
        "Host: x",
        f"Authorization: Bearer {api.live}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


BODY = json.dumps(SMS).encode()


async def test_a_connection_is_kept_and_requests_may_be_pipelined(api: Api) -> None:
    heads = await raw(api, post(api, BODY) * 3, 3)
    assert [head.split(b"\r\n")[0] for head in heads] == [b"HTTP/1.1 202 Accepted"] * 3


async def test_a_connection_closes_when_the_caller_asks(api: Api) -> None:
    (head,) = await raw(api, post(api, BODY, "Connection: close"))
    assert b"\r\nConnection: close\r\n" in head
    (head,) = await raw(api, post(api, BODY, version="1.0"))
    assert b"\r\nConnection: close\r\n" in head
    (head,) = await raw(api, post(api, BODY, "Connection: keep-alive", version="1.0"))
    assert b"\r\nConnection: keep-alive\r\n" in head


async def test_a_caller_that_waits_for_100_continue_gets_it(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    head, _, body = post(api, BODY, "Expect: 100-continue").partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 Continue")
        writer.write(body)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 202")
    writer.close()


async def test_http_1_0_knows_no_100_continue(api: Api) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.server.port)
    head, _, body = post(api, BODY, "Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0").partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    await asyncio.sleep(0)
    assert api.server._server is not None
    async with asyncio.timeout(5):
        while not any(end._current_request for end in api.server._server.connections):  # noqa: ASYNC110
            await asyncio.sleep(0)
        writer.write(body)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 202")
    writer.close()


async def test_a_body_may_come_in_pieces(api: Api) -> None:
    async def pieces() -> Any:
        for n in range(0, len(BODY), 10):
            yield BODY[n : n + 10]

    headers = {"Authorization": f"Bearer {api.live}", "Content-Type": "application/json"}
    async with api.session.post(api.url + "/v1/messages", data=pieces(), headers=headers) as answer:
        assert answer.status == 202


async def test_a_body_may_be_compressed_but_not_a_bomb_nor_broken(api: Api) -> None:
    assert (await api.call("POST", "/v1/messages", raw=gzip.compress(BODY), Content_Encoding="gzip")).status == 202
    bomb = gzip.compress(BODY + b" " * (4 << 20))
    assert (await api.call("POST", "/v1/messages", raw=bomb, Content_Encoding="gzip")).code == "too_large"
    assert (await api.call("POST", "/v1/messages", raw=zlib.compress(BODY), Content_Encoding="deflate")).status == 202
    assert (await api.call("POST", "/v1/messages", raw=gzip.compress(BODY), Content_Encoding="x-gzip")).status == 202
    assert (await api.call("POST", "/v1/messages", raw=BODY, Content_Encoding="")).status == 202
    for part in (b"nonsense", b"", gzip.compress(BODY)[:-9], bytes(20)):
        broken = await api.call("POST", "/v1/messages", raw=part, Content_Encoding="gzip")
        assert (broken.status, broken.code) == (400, "malformed_json")
    other = await api.call("POST", "/v1/messages", raw=BODY, Content_Encoding="br")
    assert (other.status, other.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: \x00\r\n\r\n",
        b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"x" * 20_000 + b"\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999999999999999\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nzz",
    ],
)
async def test_what_the_parser_refuses_is_no_5xx(api: Api, request_: bytes) -> None:
    (head,) = await raw(api, request_)
    assert re.match(rb"HTTP/1.[01] 4\d\d ", head) or head == b"", head
    assert (await api.call("GET", "/livez", key=None)).status == 200


async def test_head_is_get_without_its_body(api: Api) -> None:
    whole = await api.call("GET", "/livez", key=None)
    (head,) = await raw(api, b"HEAD /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert f"Content-Length: {len(whole.raw)}".encode() in head


async def test_odd_targets_are_not_found_and_no_5xx(api: Api) -> None:
    for target in (
        "/v1/messages/%", "/v1/messages/%zz", "/v1/messages/%ff%fe", "/v1/messages/%2e%2e", "/v1/actors/", "//", "/%2F",
        "/v1/actors/%00", "/v1/tenants/%E2%82/keys", "/docs/..%2f..%2fapp.py", "/docs/docs.py", "/docs/", "*",
        "/v1/messages/" + "a" * 5000,
    ):  # fmt: skip
        lines = f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OPERATOR}\r\nConnection: close\r\n\r\n"
        (head,) = await raw(api, lines.encode())
        assert head.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400", b"HTTP/1.0 400")), (target, head)


async def test_an_absolute_target_is_the_same_path(api: Api) -> None:
    (head,) = await raw(api, b"GET http://hermes.example/livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")


class Held(Actor):
    """A tenant that answers when told."""

    waiting: asyncio.Event
    go: asyncio.Event

    async def handle_call(self, request: Any, reply: Any) -> Any:
        self.waiting.set()
        await self.go.wait()
        return Admitted("accepted")


async def test_a_stop_lets_running_requests_finish_and_takes_no_new_ones(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    Held.waiting, Held.go = asyncio.Event(), asyncio.Event()
    ref = api.node.system.spawn(Held, name="held")
    monkeypatch.setattr(api.node.system, "whereis", lambda name: ref)
    running = asyncio.create_task(api.send())
    await Held.waiting.wait()
    stopping = asyncio.create_task(api.server.stop(5.0))
    await asyncio.sleep(0)
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", api.server.port)
    assert not running.done()
    Held.go.set()
    assert (await running).status == 202
    await stopping
    assert api.server.connections == 0
    await api.server.stop()  # twice is fine


async def test_a_bug_is_500_logged_and_not_told(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("a secret")

    monkeypatch.setattr(api.node.system, "tree", broken)
    answer = await api.call("GET", "/v1/actors", key=OPERATOR)
    assert (answer.status, answer.code) == (500, "internal")
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert b"secret" not in answer.raw
    assert "a secret" in caplog.text


async def test_health(start: Start) -> None:
    ready = [True]
    api = await start(ready=lambda: ready[0])
    for path in ("/livez", "/readyz"):
        answer = await api.call("GET", path + "?probe=1", key=None)
        assert (answer.status, answer.json) == (200, {"status": "ok"})
    ready[0] = False
    assert (await api.call("GET", "/readyz", key=None)).status == 503
    assert (await api.call("GET", "/livez", key=None)).status == 200


async def test_metrics_count_what_was_accepted_and_refused(api: Api) -> None:
    await api.sent()
    await api.send({**SMS, "to": "1"})
    await api.send({})
    text = (await api.call("GET", "/metrics", key=None)).raw.decode()
    assert "hermes_accepted_total 1.0" in text
    assert 'hermes_refused_total{code="schema_invalid"} 2.0' in text
    assert "hermes_accept_seconds_count 1.0" in text


async def test_metrics_ask_for_their_key_when_one_is_set(start: Start) -> None:
    api = await start(server={"metrics_key": "scrape"})
    for key in (None, "live", "nonsense"):
        answer = await api.call("GET", "/metrics", key=key)
        assert (answer.status, answer.code) == (401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"]
    for key in ("scrape", OPERATOR):
        assert (await api.call("GET", "/metrics", key=key)).status == 200


ACTOR = {
    "name", "kind", "state", "since", "restarts", "mailbox", "uptime_s", "messages_in", "last_error", "detail",
    "children", "children_total",
}  # fmt: skip


async def test_actors_are_a_tree_and_names_hold_slashes(api: Api) -> None:
    tree = (await api.call("GET", "/v1/actors", key=OPERATOR)).json
    assert set(tree) == ACTOR and tree["children_total"] == len(tree["children"]) > 1
    name = f"tenant/{api.node.tenant}"
    for written in (name, name.replace("/", "%2F"), name.replace("/", "%2f")):
        answer = await api.call("GET", f"/v1/actors/{written}", key=OPERATOR)
        assert (answer.status, answer.json["name"]) == (200, name)
        assert set(answer.json) == ACTOR and answer.json["since"].endswith("Z")
    answer = await api.call("GET", "/v1/actors/nobody/at/all", key=OPERATOR)
    assert (answer.status, answer.code) == (404, "not_found")


async def test_an_actor_writes_when_its_message_is_due_as_the_contract_writes_times(api: Api) -> None:
    at = (api.node.context.clock.now() + timedelta(days=1)).replace(microsecond=0)
    message_id = await api.sent({**SMS, "send_at": at.isoformat()})
    answer = await api.call("GET", f"/v1/actors/cascade/{message_id}", key=OPERATOR)
    assert answer.json["detail"]["due"] == rfc3339(at)


async def test_workers(api: Api) -> None:
    await api.sent({**SMS, "to": "+4520120004"})
    (worker,) = (await api.call("GET", "/v1/workers", key=OPERATOR)).json["data"]
    assert set(worker) == {"id", "pid", "started_at", "state", "shards", "open", "lease_until"}
    assert (worker["state"], worker["shards"], worker["open"]) == ("alive", 64, 1)


async def test_the_documentation_needs_no_network_and_runs_no_script_but_its_own(api: Api) -> None:
    page = await api.call("GET", "/docs", key=None)
    assert page.status == 200 and page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    loaded = re.findall(r'(?:src|href)="(/[^"]+)"', page.raw.decode())
    assert {"/docs/docs.js", "/docs/docs.css", "/openapi.json"} <= set(loaded)
    for path in loaded:
        part = await api.call("GET", path, key=None)
        assert part.status == 200
        if not path.endswith(".json"):
            assert not re.search(rb"https?://|@import|innerHTML|eval\(", part.raw)
    assert not re.search(rb"<script>|<style|style=|onclick", page.raw)


async def test_every_route_is_described_and_only_those(api: Api) -> None:
    document = (await api.call("GET", "/openapi.json", key=None)).json
    described = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    served = {(route.method, route.path.replace("...", "")) for route in Gateway(api.edge).routes}
    assert described == served
    assert document["servers"] == [{"url": api.edge.public_url}]


async def test_the_description_is_valid_openapi(api: Api) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    document = (await api.call("GET", "/openapi.json", key=None)).json
    assert document["openapi"].startswith("3.1")
    validator.validate(document)


async def test_every_operation_names_its_key_its_answers_and_its_refusals(api: Api) -> None:
    document = (await api.call("GET", "/openapi.json", key=None)).json
    ids = set()
    for path, item in document["paths"].items():
        for operation in item.values():
            ids.add(operation["operationId"])
            assert operation["summary"] and operation["tags"]
            assert any(status.startswith("2") for status in operation["responses"])
            assert "500" in operation["responses"]
            callbacks = "webhooks/" in path.replace("/webhooks/{endpoint}", "")
            if path.startswith("/v1/") and path != "/v1/signup" and not callbacks:
                assert operation["security"] and {"401", "403", "503"} <= set(operation["responses"]), path
    assert len(ids) == sum(len(item) for item in document["paths"].values())
