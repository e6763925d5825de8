"""The conformance kit: the example of docs/adding-a-carrier.md passes, and what breaks the contract is found."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from carriers.base import CallbackAnswer, CallbackRequest, SendError, SendResult, Submission
from carriers.http.messente import KIND as MESSENTE
from carriers.registry import Kind, find_kind, kinds, make_carrier
from hermes.domain.message import Content
from hermes.runtime.clock import SystemClock
from hermes.testing.carriers import load_cases
from hermes.testing.conformance import Adapter, Check, checks

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "docs/examples"
PAGE = REPOSITORY / "docs/adding-a-carrier.md"
SETTINGS = {"api_key": "canary-api-key", "webhook_secret": "canary-webhook-secret"}


def load_example() -> ModuleType:
    spec = util.spec_from_file_location("acme_sms", EXAMPLES / "acme_sms.py")
    assert spec is not None and spec.loader is not None
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


acme: Any = load_example()
SENDS, WEBHOOKS = load_cases(EXAMPLES / "acme_sends.json"), load_cases(EXAMPLES / "acme_webhooks.json")


def adapter(make: Any = None) -> Adapter:
    kind = Kind("acme", acme.AcmeSettings, make or acme.AcmeCarrier, frozenset({"sms"}))
    return Adapter(kind, "sms", SETTINGS, list(SETTINGS.values()), SENDS, WEBHOOKS)


CONTRACT_SENDS = load_cases(REPOSITORY / "tests/contracts/payloads/messente/send_responses.json")
OURS = Adapter(
    MESSENTE, "sms", {"username": "u", "password": "canary-password"}, ["canary-password"], CONTRACT_SENDS, signed=False
)


@pytest.mark.parametrize("check", checks(adapter()), ids=str)
async def test_the_example_conforms(check: Check) -> None:
    await check()


@pytest.mark.parametrize("check", [c for c in checks(OURS) if c.name.startswith("send")], ids=str)
async def test_a_carrier_of_ours_conforms_by_the_same_checks(check: Check) -> None:
    await check()


class Repeats(acme.AcmeCarrier):  # type: ignore[misc]
    """Tries again by itself."""

    async def submit(self, submission: Submission) -> SendResult:
        with suppress(SendError):
            await super().submit(submission)
        raise await self.refusal(submission)

    async def refusal(self, submission: Submission) -> SendError:
        try:
            await super().submit(submission)
        except SendError as exc:
            return exc
        return SendError("unknown")


class Hopes(acme.AcmeCarrier):  # type: ignore[misc]
    """Says that what got no answer was not sent."""

    async def submit(self, submission: Submission) -> SendResult:
        with suppress(SendError):
            await super().submit(submission)
        raise SendError("retryable_transient", None, "no answer", retryable=True)


class Tells(acme.AcmeCarrier):  # type: ignore[misc]
    """Repeats its key in its errors."""

    async def submit(self, submission: Submission) -> SendResult:
        raise SendError("unknown", None, f"refused for {self.settings.api_key}")


class Believes(acme.AcmeCarrier):  # type: ignore[misc]
    """Looks at no signature."""

    async def on_callback(self, request: CallbackRequest) -> CallbackAnswer:
        return CallbackAnswer()


class Boasts(acme.AcmeCarrier):  # type: ignore[misc]
    """Is always well."""

    async def check(self) -> None:
        return


class Crashes(acme.AcmeCarrier):  # type: ignore[misc]
    """Lets an exception of another kind out."""

    async def submit(self, submission: Submission) -> SendResult:
        raise KeyError("id")


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (Repeats, "send: bad number"),
        (Hopes, "send: a provider that hangs"),
        (Hopes, "send: a provider that resets after the request"),
        (Tells, "send: bad number"),
        (Believes, "signature: delivered"),
        (Boasts, "health: says well, and why not"),
        (Crashes, "send: taken"),
    ],
)
async def test_what_breaks_the_contract_is_found(make: Any, found: str) -> None:
    (check,) = [c for c in checks(adapter(make)) if c.name == found]
    with pytest.raises((AssertionError, KeyError)):
        await check()


def test_the_page_shows_the_example_as_it_is_and_it_is_short() -> None:
    code = (EXAMPLES / "acme_sms.py").read_text(encoding="utf-8")
    assert code in PAGE.read_text(encoding="utf-8")
    assert len(code.splitlines()) < 80


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example as another distribution would bring it: a module, and its entry point."""
    (tmp_path / "acme_sms.py").write_text((EXAMPLES / "acme_sms.py").read_text(encoding="utf-8"), encoding="utf-8")
    info = tmp_path / "acme_sms-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-sms\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hermes.carriers]\nacme = acme_sms:KIND\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("acme_sms", None)


@pytest.mark.usefixtures("installed")
def test_a_kind_of_another_distribution_is_found_by_its_entry_point() -> None:
    assert "acme" in kinds()
    found = find_kind("acme")
    assert found is not None and found.name == "acme"
    made = make_carrier("acme", "alpha", "sms", SETTINGS, clock=SystemClock())
    assert made.kind == "acme"


async def test_a_submission_may_be_changed_for_channels_that_need_more() -> None:
    asked = Adapter(MESSENTE, "sms", {"username": "u", "password": "p"}, [], changes={"content": Content(text="Hej")})
    (check,) = [c for c in checks(asked) if c.name == "send: a provider that answers 503"]
    await check()
