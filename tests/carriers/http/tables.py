"""What the tests of the SMS providers share: their tables, a carrier over loopback, and its failures."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from carriers.base import CallbackAnswer, CallbackRequest, Carrier, SendError, SendResult
from carriers.registry import make_carrier
from hermes.domain.inbound import asked_for, e164
from hermes.testing import ManualClock
from hermes.testing.carriers import Case, RememberingSink, check_answer, load_cases, submission
from tests.carriers.http import servers

CONTRACTS = Path(__file__).parents[2] / "contracts"
URL = "https://hermes.example/v1/webhooks/alpha"


def cases(provider: str, table: str) -> list[Case]:
    """The rows of one of a provider's payload files."""
    return load_cases(CONTRACTS / "payloads" / provider / f"{table}.json")


def vectors(name: str) -> list[Any]:
    """The rows of a signature file, as test parameters named by their ids."""
    rows = json.loads((CONTRACTS / "signatures" / f"{name}.json").read_text("utf-8"))["cases"]
    return [pytest.param(row, id=row["id"]) for row in rows]


@asynccontextmanager
async def carrier_to(
    kind: str, options: dict[str, Any], url: str | None = None, clock: ManualClock | None = None
) -> AsyncIterator[Carrier]:
    """Open a carrier named alpha, over the provider at `url`."""
    given = dict(options) if url is None else {**options, "base_url": url}
    carrier = make_carrier(kind, "alpha", "sms", given, clock=clock or ManualClock(), cost=0.01)
    carrier.callback_url = URL
    await carrier.open(RememberingSink())
    try:
        yield carrier
    finally:
        await carrier.close()


async def outcome(carrier: Carrier, **changes: Any) -> SendResult | SendError:
    """Send; what came of it."""
    try:
        sent = carrier.send(submission(**changes))
        assert not isinstance(sent, SendResult)
        return await sent
    except SendError as error:
        return error


async def check_send_case(case: Case, kind: str, options: dict[str, Any]) -> None:
    """Let the provider answer as the row says, and compare what the carrier concludes."""
    answer = case.given["response"]
    async with servers.provider() as provider, carrier_to(kind, options, provider.url) as carrier:
        provider.answer = (answer["status"], answer["headers"], answer["body"].encode())
        result = await outcome(carrier, segments=case.expect.get("segments"))
        check_answer(case, result)
        assert len(provider.asked) == 1


def request_of(case: Case, body: bytes | None = None, query: str | None = None, **headers: str) -> CallbackRequest:
    """The call of a webhook row, with headers beside its own."""
    webhook = case.given["webhook"]
    query = webhook.get("query", "") if query is None else query
    return CallbackRequest(
        webhook["method"],
        f"{URL}?{query}" if query else URL,
        dict(parse_qsl(query, keep_blank_values=True)),
        {**webhook["headers"], **{name.replace("_", "-"): value for name, value in headers.items()}},
        webhook["body"].encode() if body is None else body,
    )


def check_inbound(case: Case, answer: CallbackAnswer) -> None:
    """Compare the one inbound message a carrier read with what it must have read."""
    (inbound,) = answer.inbound
    assert not answer.receipts
    assert answer.status == 200
    expect = case.expect
    for field, found in (("from", inbound.sender), ("to", inbound.recipient)):
        if field in expect:
            assert found == e164(expect[field])
    if "text" in expect:
        assert inbound.text == expect["text"]
    if "media" in expect:
        assert list(inbound.media) == expect["media"]
    if "keyword" in expect:
        asked = asked_for(inbound)
        word = {None: None, "stop": "opt_out", "start": "opt_in", "help": "help"}
        assert word[asked and asked[0]] == expect["keyword"]
    assert inbound.carrier_message_id


# What every provider does at some time: (what it does, is the send in doubt, error class)
FAILURES: list[tuple[str, Callable[..., Any] | tuple[int, bytes], bool, str]] = [
    ("hangs", servers.hang, True, "retryable_transient"),
    ("resets after the request", servers.reset_after_request, True, "retryable_transient"),
    ("closes after the request", servers.close_after_request, True, "retryable_transient"),
    ("talks garbage", servers.talk_garbage, True, "retryable_transient"),
    ("breaks off", servers.break_off, True, "retryable_transient"),
    ("answers 500", (500, b"Internal Server Error"), False, "retryable_transient"),
    ("answers 503", (503, b""), False, "retryable_transient"),
    ("answers 504", (504, b""), True, "retryable_transient"),
    ("answers 429", (429, b""), False, "throttled"),
    ("redirects", (302, b""), False, "provider_config"),
    ("answers what is no JSON", (200, b"<html>canary</html>"), True, "unknown"),
    ("answers deep JSON", (200, b"[" * 60_000), True, "unknown"),
    ("answers too much", (200, b'{"a": "' + b"x" * 100_000 + b'"}'), True, "unknown"),
    ("answers another shape", (200, b'{"messages": 7, "sid": [], "code": {}}'), True, "unknown"),
    ("answers a list", (200, b'[{"sid": "SM1"}]'), True, "unknown"),
]


async def check_failure(kind: str, options: dict[str, Any], how: Any, doubt: bool, error_class: str) -> None:
    """Let a provider fail in one way, and see what the carrier says; nothing it says shows a secret or the message."""
    hangs = how is servers.hang
    options = {**options, "timeout_s": 0.1 if hangs else 10}

    async def check(url: str) -> None:
        async with carrier_to(kind, options, url) as carrier:
            error = await outcome(carrier)
            assert isinstance(error, SendError)
            assert (error.ambiguous, error.error_class) == (doubt, error_class), error
            assert error.__cause__ is None
            assert error.__context__ is None
            shown = f"{error!r} {vars(error)!r} {carrier.inspect()!r} {carrier!r}"
            for secret in ("canary", "123456", submission().to):
                assert secret not in shown

    if isinstance(how, tuple):
        async with servers.provider() as provider:
            provider.answer = (how[0], {"Location": "/elsewhere"} if how[0] == 302 else {}, how[1])
            await check(provider.url)
            assert len(provider.asked) == 1
    else:
        async with servers.raw_server(how) as url:
            await check(url)
