"""The console's files and its session: what a cookie may do, and what it may not."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from http.cookies import SimpleCookie
from importlib import resources
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import session as sessions
from tests.gateway.api import OPERATOR, Answer, Api

Start = Callable[..., Awaitable[Api]]
FILES = sorted(file.name for file in resources.files("gateway").joinpath("console").iterdir() if "." in file.name)


async def log_in(api: Api, key: str = OPERATOR) -> tuple[Answer, str, str]:
    """Log in; returns the answer, the cookie as a browser sends it, and the token."""
    answer = await api.call("POST", "/console/login", {"key": key}, key=None)
    cookie = SimpleCookie(answer.headers.get("Set-Cookie", ""))
    sent = "; ".join(f"{name}={morsel.value}" for name, morsel in cookie.items())
    return answer, sent, answer.json.get("csrf", "")


async def test_page_may_load_nothing_from_elsewhere_and_cannot_be_framed(api: Api) -> None:
    for path in ("/console", *(f"/console/{name}" for name in FILES)):
        answer = await api.call("GET", path, key=None)
        assert answer.status == 200
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_host_or_parses_markup(name: str) -> None:
    text = resources.files("gateway").joinpath("console", name).read_text(encoding="utf-8")
    urls = set(re.findall(r"https?://[^\s\"'`]+", text))
    assert urls <= {"http://www.w3.org/2000/svg"}
    for unsafe in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=", ' onclick="'):
        assert unsafe not in text


async def test_unknown_file_is_404(api: Api) -> None:
    for name in ("nope.js", "..%2fapp.py", "__init__.py", "index"):
        assert (await api.call("GET", f"/console/{name}", key=None)).status == 404


async def test_login_gives_a_cookie_no_script_can_read_and_no_other_site_can_send(api: Api) -> None:
    answer, cookie, csrf = await log_in(api)
    assert answer.status == 200 and csrf
    line = answer.headers["Set-Cookie"]
    assert "HttpOnly" in line and "SameSite=Strict" in line and "Path=/;" in line and "Secure" not in line
    assert OPERATOR not in line and OPERATOR not in cookie
    assert (await api.call("GET", "/v1/actors", key=None, Cookie=cookie)).status == 200
    assert (await api.call("GET", "/console/session", key=None, Cookie=cookie)).json["csrf"] == csrf


async def test_cookie_is_for_https_only_where_that_is_the_public_url(start: Start) -> None:
    api = await start(server={"public_url": "https://hermes.example"})
    assert "; Secure" in (await log_in(api))[0].headers["Set-Cookie"]


@pytest.mark.parametrize("key", ["", "wrong", OPERATOR + "x", OPERATOR[:-1], "ключ", "x" * 512])
async def test_wrong_key_opens_nothing(api: Api, key: str) -> None:
    answer, cookie, _ = await log_in(api, key)
    assert (answer.status, answer.code, cookie) == (401, "unauthenticated", "")
    assert not key or json.dumps(key)[1:-1] not in answer.json["detail"] or key in "This is not the operator key."


async def test_tenant_key_is_no_operator_key(api: Api) -> None:
    assert (await log_in(api, api.live))[0].status == 401


async def test_change_without_the_token_is_refused(api: Api) -> None:
    _, cookie, csrf = await log_in(api)
    _, _, of_another = await log_in(api)
    path = "/v1/carriers/mock-sms/pause"
    for token in (None, "", "x", of_another):
        headers: dict[str, Any] = {} if token is None else {"X_Hermes_CSRF": token}
        answer = await api.call("POST", path, key=None, Cookie=cookie, **headers)
        assert (answer.status, answer.code) == (403, "scope_missing")
    for method in ("PUT", "DELETE"):
        answer = await api.call(method, f"/v1/tenants/{api.node.tenant}", {}, key=None, Cookie=cookie)
        assert (answer.status, answer.code) == (403, "scope_missing")
    state = (await api.call("GET", "/v1/carriers/mock-sms", key=OPERATOR)).json["state"]
    assert state == "up"
    answer = await api.call("POST", path, key=None, Cookie=cookie, X_Hermes_CSRF=csrf)
    assert (answer.status, answer.json["state"]) == (200, "paused")


async def test_session_cannot_send_as_the_operator_key_cannot(api: Api) -> None:
    _, cookie, csrf = await log_in(api)
    body = {"channel": "sms", "to": "+4520123456", "content": {"text": "Hi"}}
    answer = await api.call("POST", "/v1/messages", body, key=None, Cookie=cookie, X_Hermes_CSRF=csrf)
    assert (answer.status, answer.code) == (403, "scope_missing")


async def test_logout_takes_the_cookie_back(api: Api) -> None:
    _, cookie, csrf = await log_in(api)
    assert (await api.call("POST", "/console/logout", key=None, Cookie=cookie)).status == 403
    answer = await api.call("POST", "/console/logout", key=None, Cookie=cookie, X_Hermes_CSRF=csrf)
    assert answer.status == 204 and "Max-Age=0" in answer.headers["Set-Cookie"]
    assert (await api.call("GET", "/console/session", key=None)).status == 401


async def test_a_key_in_the_header_counts_and_not_the_cookie(api: Api) -> None:
    _, cookie, _ = await log_in(api)
    assert (await api.call("GET", "/v1/actors", key="live", Cookie=cookie)).status == 403
    assert (await api.call("GET", "/v1/actors", key="wrong", Cookie=cookie)).status == 401


@pytest.mark.parametrize("body", [{}, {"key": 1}, {"key": "x", "remember": True}, [], {"key": "x" * 600}])
async def test_login_of_the_wrong_form_is_refused(api: Api, body: Any) -> None:
    assert (await api.call("POST", "/console/login", body, key=None)).status == 422
    answer = await api.call("POST", "/console/login", key=None, raw=b"x" * 5000)
    assert (answer.status, answer.code) == (413, "too_large")


def asked(cookie: str, method: str = "GET", **headers: str) -> Any:
    return SimpleNamespace(cookies={sessions.cookie_name("key"): cookie}, method=method, headers=headers)


def test_session_is_over_after_its_time_and_with_its_key() -> None:
    session = sessions.new_session("key", 1000.0)
    assert sessions.find_session("key", asked(session.cookie), 1000.0 + sessions.SESSION_S - 1) == session
    assert sessions.find_session("key", asked(session.cookie), 1000.0 + sessions.SESSION_S) is None
    other = SimpleNamespace(cookies={sessions.cookie_name("other"): session.cookie}, method="GET", headers={})
    assert sessions.find_session("other", other, 1000.0) is None  # type: ignore[arg-type]
    assert sessions.cookie_name("key") != sessions.cookie_name("other")


@given(st.text(max_size=80), st.integers(0, 200))
def test_no_other_cookie_is_a_session(text: str, cut: int) -> None:
    session = sessions.new_session("key", 1000.0)
    assert sessions.find_session("key", asked(text), 1000.0) is None
    altered = session.cookie[:cut] + text + session.cookie[cut + len(text) :]
    if altered != session.cookie:
        assert sessions.find_session("key", asked(altered), 1000.0) is None


def test_only_reads_need_no_token() -> None:
    session = sessions.new_session("key", 1000.0)
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert not sessions.may_change(session, asked(session.cookie, method))
        assert sessions.may_change(session, asked(session.cookie, method, **{"X-Hermes-CSRF": session.csrf}))
    assert sessions.may_change(session, asked(session.cookie, "GET"))


async def test_operator_lists_and_counts_one_tenants_messages(api: Api) -> None:
    other = (await api.call("POST", "/v1/tenants", {"name": "other"}, key=OPERATOR)).json["id"]
    key = await api.new_key(tenant=other)
    await api.sent()
    theirs = await api.sent(key=key)
    listed = await api.call("GET", f"/v1/messages?tenant={other}", key=OPERATOR)
    assert [m["id"] for m in listed.json["data"]] == [theirs]
    await api.node.final(theirs)
    counted = await api.call("GET", f"/v1/messages/counts?tenant={other}", key=OPERATOR)
    assert counted.json["delivered"] == 1
    for path in ("/v1/messages", "/v1/messages/counts"):
        answer = await api.call("GET", f"{path}?tenant={other}")
        assert (answer.status, answer.fields) == (422, ["tenant"])
    assert json.dumps(listed.json).count(api.node.tenant) == 0
