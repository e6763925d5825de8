"""What every carrier over HTTP must do, as checks that any test runner can run against an adapter of yours.

    ADAPTER = Adapter(KIND, "sms", {"api_key": "canary-key"}, secrets=["canary-key"], sends=load_cases(...))

    @pytest.mark.parametrize("check", checks(ADAPTER), ids=str)
    async def test_conformance(check):
        await check()

The tables say what your provider answers and what Hermes must conclude (docs/adding-a-carrier.md has their form); the
rest - losses, time-outs, 5xx, signatures, secrets - is the same for everybody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from carriers.base import CallbackRefused, CallbackRequest, Carrier, SendError, SendResult
from carriers.registry import Kind
from hermes.testing import ManualClock, servers
from hermes.testing.carriers import Case, RememberingSink, check_answer, check_keeps_secrets, check_receipt, submission

URL: Final = "https://hermes.example/v1/webhooks/alpha"
SOON_S: Final = 0.2  # the time limit of a call that is meant to run into it
PATIENT_S: Final = 30.0

# What any provider does at some time: status, and what must be concluded: class, retryable, in doubt.
STATUSES: Final[dict[int, tuple[str, bool, bool]]] = {
    429: ("throttled", True, False),
    500: ("retryable_transient", True, False),
    503: ("retryable_transient", True, False),
}


@dataclass(slots=True, frozen=True)
class Adapter:
    """A carrier to be checked, and its tables.

    Attributes:
        settings: the kind's own keys; `base_url` and `timeout_s` are added.
        secrets: values among the settings that must never be shown.
        sends: answers to a send: `{"response": {"status", "headers", "body"}, "expect": {...}}`.
        webhooks: calls of the provider, signed as it signs:
            `{"webhook": {"method", "query", "headers", "body"}, "expect": {...}}`.
        signed: a call whose body was changed must be refused.
        changes: of the message that is sent (`hermes.testing.carriers.submission`).
    """

    kind: Kind
    channel: str
    settings: Mapping[str, Any]
    secrets: Sequence[str]
    sends: Sequence[Case] = ()
    webhooks: Sequence[Case] = ()
    signed: bool = True
    changes: Mapping[str, Any] = field(default_factory=dict)

    @asynccontextmanager
    async def open(self, url: str, timeout_s: float = PATIENT_S) -> AsyncIterator[Carrier]:
        """Make the carrier over the provider at `url`, and open it."""
        given = {**self.settings, "base_url": url, "timeout_s": timeout_s}
        settings = msgspec.convert(given, self.kind.settings)
        carrier = self.kind.make("alpha", self.channel, settings, clock=ManualClock(), cost=0.01)
        carrier.callback_url = URL
        await carrier.open(RememberingSink())
        try:
            yield carrier
        finally:
            await carrier.close()

    async def outcome(self, carrier: Carrier) -> SendResult | SendError:
        """Send a message; what came of it. Anything but these two is a bug of the adapter and is raised."""
        try:
            answer = carrier.send(submission(channel=self.channel, **self.changes))
            return answer if isinstance(answer, SendResult) else await answer
        except SendError as error:
            return error


@dataclass(slots=True, frozen=True)
class Check:
    """One check; call and await it. `str` of it is its name."""

    name: str
    run: Callable[[], Awaitable[None]]

    def __str__(self) -> str:
        return self.name

    async def __call__(self) -> None:
        """Raise AssertionError when the adapter does not conform."""
        await self.run()


def checks(adapter: Adapter) -> list[Check]:
    """List every check of an adapter, in the order of the contract."""
    found = [
        Check("settings: an unknown key is refused and no secret is shown", partial(_settings, adapter)),
        Check("send: a provider that cannot be reached has certainly not taken it", partial(_unreachable, adapter)),
        Check("health: says well, and why not", partial(_health, adapter)),
        Check("life: closes twice and opens again", partial(_life, adapter)),
    ]
    found += [Check(f"send: {case}", partial(_send, adapter, case)) for case in adapter.sends]
    found += [
        Check(f"send: a provider that answers {status}", partial(_status, adapter, status)) for status in STATUSES
    ]
    found += [Check(f"send: a provider that {how}", partial(_doubtful, adapter, how)) for how in servers.DOUBTFUL]
    found += [Check(f"webhook: {case}", partial(_webhook, adapter, case)) for case in adapter.webhooks]
    if adapter.signed:
        found += [Check(f"signature: {case}", partial(_signature, adapter, case)) for case in adapter.webhooks]
    return found


async def _settings(adapter: Adapter) -> None:
    try:
        msgspec.convert({**adapter.settings, "no_such_key": 1}, adapter.kind.settings)
    except msgspec.ValidationError as exc:
        assert "no_such_key" in str(exc), f"the refusal does not name the key: {exc}"
    else:
        raise AssertionError("an unknown key is taken")
    given = msgspec.json.encode(adapter.settings).decode()
    assert all(secret in given for secret in adapter.secrets), "a secret to look for is not among the settings"
    async with adapter.open("http://127.0.0.1:9") as carrier:
        check_keeps_secrets(carrier, adapter.secrets)
        assert isinstance(carrier.inspect(), dict)
        msgspec.json.encode(carrier.inspect())


async def _send(adapter: Adapter, case: Case) -> None:
    answer = case.given["response"]
    async with servers.provider() as provider, adapter.open(provider.url) as carrier:
        provider.answer = (answer["status"], answer.get("headers", {}), answer["body"].encode())
        result = await adapter.outcome(carrier)
        check_answer(case, result)
        _keeps_quiet(adapter, carrier, result)
        assert len(provider.asked) == 1, (
            f"it made {len(provider.asked)} requests; trying again is the cascade's business"
        )
        assert provider.asked[0].headers.get("user-agent", "").startswith("Hermes/"), "User-Agent is not Hermes/X.Y.Z"


async def _status(adapter: Adapter, status: int) -> None:
    error_class, retryable, doubt = STATUSES[status]
    async with servers.provider() as provider, adapter.open(provider.url) as carrier:
        provider.answer = (status, {"content-type": "text/html"}, b"<html>canary-answer</html>")
        error = await adapter.outcome(carrier)
        assert isinstance(error, SendError), "it counts as taken"
        assert (error.error_class, error.retryable, error.ambiguous) == (error_class, retryable, doubt), vars(error)
        _keeps_quiet(adapter, carrier, error)
        assert len(provider.asked) == 1


async def _doubtful(adapter: Adapter, how: str) -> None:
    timeout_s = SOON_S if how == "hangs" else PATIENT_S
    async with servers.raw_server(servers.DOUBTFUL[how]) as url, adapter.open(url, timeout_s) as carrier:
        error = await adapter.outcome(carrier)
        assert isinstance(error, SendError), "it counts as taken"
        assert error.ambiguous, f"the request had left: nobody knows whether it was taken, but {error}"
        _keeps_quiet(adapter, carrier, error)


async def _unreachable(adapter: Adapter) -> None:
    async with adapter.open(f"http://127.0.0.1:{servers.free_port()}") as carrier:
        error = await adapter.outcome(carrier)
        assert isinstance(error, SendError), "it counts as taken"
        assert not error.ambiguous, "nothing was sent"
        assert error.retryable, "the next try may reach it"
        _keeps_quiet(adapter, carrier, error)


async def _health(adapter: Adapter) -> None:
    async with servers.provider() as provider, adapter.open(provider.url) as carrier:
        assert await carrier.health() is None
    async with adapter.open(f"http://127.0.0.1:{servers.free_port()}") as carrier:
        reason = await carrier.health()
        assert reason, "it cannot be reached and says that it is well"
        check_keeps_secrets(carrier, adapter.secrets, reason)


async def _life(adapter: Adapter) -> None:
    async with adapter.open("http://127.0.0.1:9") as carrier:
        await carrier.close()
        await carrier.close()
        await carrier.open(RememberingSink())


async def _webhook(adapter: Adapter, case: Case) -> None:
    async with adapter.open("http://127.0.0.1:9") as carrier:
        answer = await carrier.on_callback(request_of(case))
        assert answer.status < 500, "the provider would send it again, for ever"
        check_receipt(case, answer.receipts)
        for receipt in answer.receipts:
            assert receipt.carrier == "alpha", "receipts name the configured carrier"
        check_keeps_secrets(carrier, adapter.secrets, *answer.receipts)


async def _signature(adapter: Adapter, case: Case) -> None:
    good = request_of(case)
    changed = CallbackRequest(good.method, good.url, good.query, good.headers, good.body + b" ")
    bare = CallbackRequest(good.method, good.url, good.query, {"content-type": "application/json"}, good.body)
    async with adapter.open("http://127.0.0.1:9") as carrier:
        for request in (changed, bare):
            try:
                answer = await carrier.on_callback(request)
            except CallbackRefused as refused:
                assert refused.status in (401, 403), refused.status
                check_keeps_secrets(carrier, adapter.secrets, refused)
            else:
                raise AssertionError(f"a call that is not the provider's changed something: {answer}")


def request_of(case: Case) -> CallbackRequest:
    """Make the call of a webhook row."""
    webhook = case.given["webhook"]
    query = webhook.get("query", "")
    headers = {name.lower(): value for name, value in webhook.get("headers", {}).items()}
    return CallbackRequest(
        webhook.get("method", "POST"),
        f"{URL}?{query}" if query else URL,
        dict(parse_qsl(query, keep_blank_values=True)),
        headers,
        webhook.get("body", "").encode(),
    )


def _keeps_quiet(adapter: Adapter, carrier: Carrier, said: SendResult | SendError) -> None:
    """Fail if an error or the tree would show a secret, the message, the address, or what the provider said."""
    asked = submission(**adapter.changes)
    hidden = [*adapter.secrets, "canary-answer", asked.to, *filter(None, [asked.content.text])]
    check_keeps_secrets(carrier, hidden, said)
    if isinstance(said, SendError):
        assert said.__cause__ is None and said.__context__ is None, "the cause may hold what the provider said"
