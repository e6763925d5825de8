"""The contract's table of problems, each provoked by a real request, and the shape every refusal has."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.problems import CODES
from hermes.domain.message import new_message_id
from hermes.journal.memory import MemoryJournal
from tests.actors.cast import mock
from tests.gateway.api import OPERATOR, SMS, Answer, Api

Start = Callable[..., Awaitable[Api]]


def refused(answer: Answer, status: int, code: str, *fields: str) -> None:
    """Check that an answer is this refusal, and has the shape of RFC 9457 and our fields."""
    problem = answer.json
    assert (answer.status, problem["code"]) == (status, code), problem
    assert answer.headers["Content-Type"] == "application/problem+json"
    required = {"type", "title", "status", "detail", "code", "request_id"}
    assert required <= set(problem) <= required | {"layer", "errors"}
    assert problem["status"] == status
    assert problem["type"] and problem["title"] and problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    for error in problem.get("errors", ()):
        assert set(error) == {"field", "why"} and error["field"] and error["why"]
    if fields:
        assert sorted(answer.fields) == sorted(fields), problem
    if status in (429, 503) or code == "idempotency_running":
        assert int(answer.headers["Retry-After"]) >= 1
    if status == 401:
        assert answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"{]", b"nul", b'{"to":}', b'\xff\xfe{"a":1}', b'{"a":NaN}', b'{"a":"\xff"}']
)
async def test_what_is_no_json_is_400(api: Api, raw: bytes) -> None:
    for path in ("/v1/messages", "/v1/messages/validate", "/v1/messages/batch", "/v1/messages/lookup"):
        refused(await api.call("POST", path, raw=raw), 400, "malformed_json")


async def test_deep_nesting_is_refused_and_not_our_mistake(api: Api) -> None:
    for depth in (500, 20_000):
        for raw in (
            b"[" * depth,
            b'{"to":' * depth,
            b'{"content":{"data":' + b'{"a":' * depth + b"1" + b"}" * (depth + 2),
        ):
            answer = await api.call("POST", "/v1/messages", raw=raw, Idempotency_Key="deep")
            assert answer.status in (400, 422), answer.raw[:200]


async def test_without_a_valid_key_it_is_401(api: Api) -> None:
    refused(await api.send(key=None), 401, "unauthenticated")
    for header in (
        "Bearer nonsense",
        "Bearer hk_live_unknown",
        "Basic abc",
        "Bearer",
        "Bearer ",
        "x" * 5000,
        "Bearer é",
    ):
        refused(await api.send(key=None, Authorization=header), 401, "unauthenticated")
    assert (await api.send(key=None, Authorization=f"bearer {api.live}")).status == 202


async def test_the_scheme_has_any_case_and_any_spaces_follow_it(api: Api) -> None:
    for text in (f"Bearer {api.live}", f"bearer {api.live}", f"BEARER   {api.live}", f"Bearer  {api.live}"):
        assert (await api.call("GET", "/v1/messages", key=None, Authorization=text)).status == 200


async def test_403_scope_missing(api: Api) -> None:
    read, write = await api.new_key(scopes=["messages:read"]), await api.new_key(scopes=["messages:write"])
    manage = await api.new_key(scopes=["tenant:manage"])
    own = f"/v1/tenants/{api.node.tenant}"
    refused(await api.send(key=read), 403, "scope_missing")
    refused(await api.send(key=manage), 403, "scope_missing")
    refused(await api.send(key=OPERATOR), 403, "scope_missing")
    refused(await api.call("GET", "/v1/messages", key=write), 403, "scope_missing")
    refused(await api.call("GET", own + "/secret", key=read), 403, "scope_missing")
    for path in ("/v1/tenants", own, own + "/keys", "/v1/actors", "/v1/workers", "/v1/carriers", "/v1/routes"):
        refused(await api.call("GET", path), 403, "scope_missing")
    assert (await api.send(key=write)).status == 202
    assert (await api.call("GET", "/v1/messages", key=read)).status == 200
    assert (await api.call("GET", own + "/secret", key=manage)).status == 200


async def test_403_tenant_suspended_until_it_is_active_again(api: Api) -> None:
    path = f"/v1/tenants/{api.node.tenant}"
    assert (await api.call("PUT", path, {"status": "suspended"}, key=OPERATOR)).json["status"] == "suspended"
    refused(await api.send(), 403, "tenant_suspended")
    refused(await api.call("GET", "/v1/messages"), 403, "tenant_suspended")
    await api.call("PUT", path, {"status": "active"}, key=OPERATOR)
    await api.sent()


async def test_403_address_not_allowed(api: Api) -> None:
    far = await api.new_key(allow_from=["192.0.2.0/24", "2001:db8::/32"])
    near = await api.new_key(allow_from=["192.0.2.0/24", "127.0.0.0/8"])
    refused(await api.send(key=far), 403, "address_not_allowed")
    refused(await api.send(key=far, X_Forwarded_For="192.0.2.1"), 403, "address_not_allowed")
    assert (await api.send(key=near)).status == 202


async def test_404_is_the_same_for_the_unknown_and_for_what_is_not_the_callers(api: Api) -> None:
    other = await api.call("POST", "/v1/tenants", {"name": "other"}, key=OPERATOR)
    stranger = await api.new_key(tenant=other.json["id"])
    live, test = await api.sent(), await api.sent(key="test")
    unknown = await api.call("GET", f"/v1/messages/{new_message_id()}")
    refused(unknown, 404, "not_found")
    for message, key in (
        (live, stranger),
        (test, stranger),
        (live, "test"),
        (test, "live"),
        ("msg_x", "live"),
        ("%00", "live"),
    ):
        for method, path in (("GET", f"/v1/messages/{message}"), ("POST", f"/v1/messages/{message}/cancel")):
            answer = await api.call(method, path, key=key)
            refused(answer, 404, "not_found")
            assert {**answer.json, "request_id": 0} == {**unknown.json, "request_id": 0}
    refused(await api.call("GET", f"/v1/tenants/{api.node.tenant}/secret", key=stranger), 404, "not_found")
    for path in ("/", "/v1", "/v1/messages/", "/v1/message", "/v2/messages", "/v1/messages/a/b", "/v1//messages"):
        refused(await api.call("GET", path), 404, "not_found")


async def test_405_names_the_methods_there_are(api: Api) -> None:
    for method, path, allowed in (
        ("DELETE", "/v1/messages", "GET, HEAD, POST"),
        ("PUT", f"/v1/messages/{new_message_id()}", "GET, HEAD"),
        ("GET", "/v1/messages/batch", "POST"),
        ("POST", "/livez", "GET, HEAD"),
    ):
        answer = await api.call(method, path)
        refused(answer, 405, "method_not_allowed")
        assert set(allowed.split(", ")) <= set(answer.headers["Allow"].split(", "))


async def test_409_already_begun(api: Api) -> None:
    waiting = await api.sent({**SMS, "to": "+4520120004"})
    body = {"send_at": "2026-12-30T00:00:00Z"}
    refused(await api.call("POST", f"/v1/messages/{waiting}/reschedule", body), 409, "already_begun")


async def test_409_already_final(api: Api) -> None:
    message = await api.sent()
    await api.node.final(message)
    refused(await api.call("POST", f"/v1/messages/{message}/cancel"), 409, "already_final")
    waiting = await api.sent({**SMS, "to": "+4520120004"})
    cancelled = await api.call("POST", f"/v1/messages/{waiting}/cancel")
    assert (cancelled.status, cancelled.json["status"]) == (200, "cancelled")
    refused(await api.call("POST", f"/v1/messages/{waiting}/cancel", {}), 409, "already_final")


async def test_413_single_and_batch(api: Api) -> None:
    large = {**SMS, "content": {"text": "x" * (256 << 10)}}
    refused(await api.send(large), 413, "too_large")

    async def chunks() -> Any:
        for _ in range(300):
            yield b" " * 1024

    headers = {"Authorization": f"Bearer {api.live}", "Content-Type": "application/json"}
    async with api.session.post(api.url + "/v1/messages", data=chunks(), headers=headers) as answer:
        assert answer.status == 413
    mail = {"channel": "email", "to": "a@example.com", "content": {"text": "x" * 200_000, "subject": "s"}}
    assert (await api.call("POST", "/v1/messages/batch", {"messages": [mail] * 40})).status == 200
    refused(await api.call("POST", "/v1/messages/batch", {"messages": [mail] * 50}), 413, "too_large")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "application/json; charset=latin-1"]
)
async def test_415(api: Api, kind: str) -> None:
    refused(await api.send(Content_Type=kind), 415, "unsupported_media_type")
    refused(
        await api.call("POST", "/v1/messages/batch", {"messages": [SMS]}, Content_Type=kind),
        415,
        "unsupported_media_type",
    )


async def test_json_with_a_charset_is_fine(api: Api) -> None:
    for kind in ("application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"'):
        assert (await api.send(Content_Type=kind)).status == 202


async def test_422_no_route(start: Start) -> None:
    api = await start([mock("only-sms", "sms")])
    body = {"to": {"email": "a@example.com"}, "cascade": ["email"], "content": {"text": "x", "subject": "y"}}
    refused(await api.send(body), 422, "no_route", "cascade[0].channel")
    assert (await api.send(body, key="test")).status == 202  # the sandbox is on every channel
    verdict = await api.call("POST", "/v1/messages/validate", body)
    assert (verdict.status, verdict.json["accepted"]) == (200, False)
    assert [r["code"] for r in verdict.json["refusals"]] == ["no_route"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost:8080/x", "https://10.0.0.1/", "https://192.168.1.1/", "http://169.254.169.254/",
        "http://[::1]/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/",
        "http://[::ffff:127.0.0.1]/", "http://0.0.0.0/", "http://inside.example/", "http://LOCALHOST./",
    ],
)  # fmt: skip
async def test_422_callback_refused(start: Start, url: str) -> None:
    async def resolve(host: str) -> list[str]:
        return ["93.184.215.14", "10.1.2.3"] if host == "inside.example" else ["93.184.215.14"]

    api = await start(resolve=resolve)
    refused(await api.send({**SMS, "callback_url": url}), 422, "callback_refused", "callback_url")
    refused(
        await api.call("POST", f"/v1/tenants/{api.node.tenant}/webhooks", {"url": url}), 422, "callback_refused", "url"
    )
    assert (await api.send({**SMS, "callback_url": "https://outside.example/hook"})).status == 202


async def test_a_callback_host_nobody_can_resolve_is_let_through(start: Start) -> None:
    async def resolve(host: str) -> list[str]:
        raise OSError("no such host")

    api = await start(resolve=resolve)
    assert (await api.send({**SMS, "callback_url": "https://nowhere.example/hook"})).status == 202


async def test_503_journal_away(start: Start) -> None:
    api = await start(journal=await started(MemoryJournal()))
    message = await api.sent()
    journal = api.node.journal
    assert isinstance(journal, MemoryJournal)
    assert (await api.call("GET", "/readyz", key=None)).status == 200
    journal.set_available(False)
    refused(await api.call("GET", "/readyz", key=None), 503, "journal_away")
    assert (await api.call("GET", "/livez", key=None)).status == 200
    begun = asyncio.get_running_loop().time()
    refused(await api.send(), 503, "journal_away")
    refused(await api.send(Idempotency_Key="k"), 503, "journal_away")
    refused(await api.call("POST", "/v1/messages/batch", {"messages": [SMS, SMS]}), 503, "journal_away")
    for method, path in (
        ("GET", f"/v1/messages/{message}"), ("GET", "/v1/messages"), ("GET", "/v1/messages/counts"),
        ("POST", f"/v1/messages/{message}/cancel"),
    ):  # fmt: skip
        refused(await api.call(method, path), 503, "journal_away")
    refused(await api.call("POST", "/v1/messages/lookup", {"ids": [message]}), 503, "journal_away")
    refused(await api.call("POST", "/v1/tenants", {"name": "x"}, key=OPERATOR), 503, "journal_away")
    assert asyncio.get_running_loop().time() - begun < 10
    journal.set_available(True)
    await api.sent(Idempotency_Key="k")


async def started(journal: MemoryJournal) -> MemoryJournal:
    await journal.start()
    return journal


async def test_503_too_many_open(start: Start) -> None:
    api = await start(max_open_messages=1)
    await api.sent({**SMS, "to": "+4520120004"})
    refused(await api.send(), 503, "too_many_open")


async def test_503_overloaded_while_the_node_stops(api: Api) -> None:
    api.node.context.draining = True
    refused(await api.send(), 503, "overloaded")
    api.node.context.draining = False


class Slow(MemoryJournal):
    """A database that takes writes and does not tell whether they are stored."""

    slow = False

    def _flush(self) -> None:
        if not self.slow:
            super()._flush()

    def withdraw(self, write: Any) -> bool:
        return False if self.slow else super().withdraw(write)

    def speed_up(self) -> None:
        self.slow = False
        self._flush()


async def test_503_outcome_unknown_within_2_s_and_the_same_key_tells_which(start: Start) -> None:
    api = await start(journal=await started(Slow()))
    await api.sent()
    journal = api.node.journal
    assert isinstance(journal, Slow)
    journal.slow = True
    begun = asyncio.get_running_loop().time()
    refused(await api.send(Idempotency_Key="which"), 503, "outcome_unknown")
    assert asyncio.get_running_loop().time() - begun < 2
    journal.speed_up()
    again = await api.send(Idempotency_Key="which")
    assert (again.status, again.headers.get("Idempotent-Replayed")) == (202, "true")
    page = await api.call("GET", "/v1/messages")
    assert len(page.json["data"]) == 2


async def test_every_answer_has_a_request_id_and_the_callers_own_when_it_is_one(api: Api) -> None:
    for method, path in (("GET", "/livez"), ("GET", "/v1/messages"), ("GET", "/nowhere"), ("DELETE", "/docs")):
        first, second = await api.call(method, path), await api.call(method, path)
        assert first.headers["X-Request-Id"] != second.headers["X-Request-Id"]
        assert (await api.call(method, path, X_Request_Id="mine-1")).headers["X-Request-Id"] == "mine-1"
    for bad in ("x" * 129, "é"):
        assert (await api.call("GET", "/livez", X_Request_Id=bad)).headers["X-Request-Id"].startswith("req_")


def test_the_table_of_codes_is_the_contracts() -> None:
    table = {
        400: "malformed_json", 401: "unauthenticated signature_invalid",
        403: "tenant_suspended scope_missing address_not_allowed",
        404: "not_found", 409: "duplicate idempotency_running already_final already_begun", 413: "too_large",
        415: "unsupported_media_type", 429: "rate_limited quota_exceeded",
        422: "schema_invalid content_refused compliance_refused do_not_contact no_route callback_refused "
        "idempotency_mismatch",
        503: "overloaded too_many_open journal_away outcome_unknown",
    }  # fmt: skip
    wanted = {code: status for status, codes in table.items() for code in codes.split()}
    beyond = {"method_not_allowed", "request_timeout", "internal"}
    assert {name: code.status for name, code in CODES.items() if name not in beyond} == wanted
