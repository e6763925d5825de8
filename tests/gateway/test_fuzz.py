"""Whatever is sent, the answer is one of the contract's, in its form, and never a 5xx."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.problems import CODES
from tests.gateway.api import OPERATOR, Answer, Api, start_api, stop_api

FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["sms", "email", "push", "+4520123456", "a@b.co", "2026-01-01T00:00:00Z", "\0", "\ufeff", "😀"])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def maybe(value: Any) -> Any:
    """Mostly a right value, sometimes anything."""
    return st.one_of(value, value, value, ANYTHING)


PHONE = st.sampled_from(["+4520123456", "+45 20 12 34 56", "20123456", "+45", ""])
EMAIL = st.emails() | st.text(max_size=30) | st.sampled_from(["a@b", "a@b.c", "ü@exämple.de", "a@b.c\r\n"])
CHANNEL = st.sampled_from(["sms", "email", "push", "whatsapp", "fax"])
STEP = maybe(CHANNEL) | st.fixed_dictionaries(
    {"channel": maybe(CHANNEL)},
    optional={
        "timeout_s": maybe(st.floats(0, 300_000)),
        "success": maybe(st.sampled_from(["submitted", "delivered", "read"])),
        "x": ANYTHING,
    },
)
CONTENT = st.fixed_dictionaries(
    {},
    optional={
        "text": maybe(st.text(max_size=400)),
        "subject": maybe(st.text(max_size=20)),
        "html": maybe(st.text(max_size=20)),
        "title": maybe(st.text(max_size=20)),
        "data": maybe(st.dictionaries(st.text(max_size=5), ANYTHING, max_size=3)),
        "sms": maybe(st.fixed_dictionaries({}, optional={"text": maybe(st.text(max_size=20)), "x": ANYTHING})),
        "push": maybe(st.fixed_dictionaries({}, optional={"title": maybe(st.text(max_size=20)), "data": ANYTHING})),
    },
)
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "to": maybe(
            st.fixed_dictionaries(
                {},
                optional={
                    "phone": maybe(PHONE),
                    "email": maybe(EMAIL),
                    "push": maybe(st.text(max_size=20)),
                    "whatsapp": maybe(PHONE),
                },
            )
            | PHONE
        ),
        "cascade": maybe(st.lists(STEP, max_size=9)),
        "channel": maybe(CHANNEL),
        "content": maybe(CONTENT),
        "from": maybe(st.dictionaries(CHANNEL, maybe(st.text(max_size=25)), max_size=3)),
        "category": maybe(st.sampled_from(["otp", "transactional", "marketing"])),
        "expires_in_s": maybe(st.floats(0, 700_000)),
        "send_at": maybe(st.datetimes().map(lambda at: at.isoformat() + "Z")),
        "reference": maybe(st.text(max_size=130)),
        "metadata": maybe(st.dictionaries(st.text(max_size=10), maybe(st.text(max_size=20)), max_size=21)),
        "callback_url": maybe(
            st.sampled_from(["https://192.0.43.8/", "http://10.1/", "http://[::1]", "http://[", "x://y"])
        ),
        "on_ambiguous": maybe(st.sampled_from(["resend", "never"])),
        "policy": ANYTHING,
    },
)


class Loop:
    """A node that outlives the examples, on a loop of its own."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.api = self.run(start_api())

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def call(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        """Ask, and check the form of the answer."""
        answer: Answer = self.run(self.api.call(method, path, body, **more))
        assert answer.status < 500, answer.raw
        assert answer.headers["X-Request-Id"]
        if answer.status >= 400:
            problem = answer.json
            assert CODES[problem["code"]].status == answer.status == problem["status"]
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert all(error["field"] for error in problem.get("errors", ()))
            if answer.code == "schema_invalid":
                assert problem["errors"]
        return answer


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.run(stop_api(made.api))
    made.runner.close()


@FUZZ
@given(body=MESSAGE)
def test_send_validate_and_batch_agree_on_any_message(loop: Loop, body: dict[str, Any]) -> None:
    sent = loop.call("POST", "/v1/messages", body)
    verdict = loop.call("POST", "/v1/messages/validate", body)
    batch = loop.call("POST", "/v1/messages/batch", {"messages": [body]})
    assert sent.status in (202, 422)
    (result,) = batch.json["results"]
    assert result["status"] == sent.status
    assert verdict.json["accepted"] == (sent.status == 202)
    if sent.status == 202:
        shown = loop.call("GET", sent.json["links"]["self"])
        assert shown.json["id"] == sent.json["id"] and shown.json["expires_at"] == sent.json["expires_at"]
    else:
        assert result["problem"]["code"] == sent.code
        refused = {(refusal["code"], refusal["field"]) for refusal in verdict.json["refusals"]}
        assert {(sent.code, field) for field in sent.fields} <= refused


@FUZZ
@given(raw=st.binary(max_size=60) | ANYTHING.map(lambda value: json.dumps(value).encode()))
@pytest.mark.parametrize(
    "path", ["/v1/messages", "/v1/messages/batch", "/v1/messages/validate", "/v1/messages/lookup", "/v1/webhooks/dlr"]
)
def test_any_octets_as_a_body(loop: Loop, path: str, raw: bytes) -> None:
    loop.call("POST", path, raw=raw, Idempotency_Key="k", X_Hermes_Signature="x")


@FUZZ
@given(body=st.dictionaries(st.sampled_from(["name", "status", "id", "mode", "scopes", "expires_at", "allow_from",
                                             "overlap_s", "url", "events"]), ANYTHING, max_size=3))  # fmt: skip
@pytest.mark.parametrize("path", ["", "/keys", "/secret", "/webhooks"])
def test_any_fields_of_a_tenant(loop: Loop, path: str, body: dict[str, Any]) -> None:
    body.pop("status", None)  # a suspended tenant would end the other examples
    url = f"/v1/tenants/{loop.api.node.tenant}{path}"
    loop.call("POST" if path else "PUT", url, body, key=OPERATOR)


@FUZZ
@given(query=st.dictionaries(st.sampled_from(["status", "channel", "reference", "reference_prefix", "created_after",
                                              "created_before", "fields", "limit", "cursor", "x"]),
                             st.text(max_size=20) | st.sampled_from(["open", "sms", "5", "2026-01-01T00:00:00Z"]),
                             max_size=4))  # fmt: skip
def test_any_query(loop: Loop, query: dict[str, str]) -> None:
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    for path in ("/v1/messages", "/v1/messages/counts", f"/v1/tenants/{loop.api.node.tenant}/dead-letters"):
        loop.call("GET", f"{path}?{text}")


@FUZZ
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"]),
    parts=st.lists(
        st.sampled_from(["v1", "messages", "tenants", "actors", "keys", "webhooks", "docs", "cancel", "%2F", ".."])
        | st.text(max_size=6).map(lambda text: quote(text, safe="")),
        max_size=5,
    ),
)
def test_any_path_and_method(loop: Loop, method: str, parts: list[str]) -> None:
    loop.call(method, "/" + "/".join(parts), key=OPERATOR)


@FUZZ
@given(
    st.dictionaries(
        st.sampled_from(["Authorization", "Content-Type", "Idempotency-Key", "X-Request-Id", "traceparent"]),
        st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=40),
        max_size=4,
    )
)
def test_any_headers(loop: Loop, headers: dict[str, str]) -> None:
    loop.call("POST", "/v1/messages", {"channel": "sms", "to": "+4520123456", "content": {"text": "x"}}, **headers)


def test_the_node_is_still_well(loop: Loop) -> None:
    assert loop.call("GET", "/readyz", key=None).status == 200
    assert isinstance(loop.api, Api)
