"""Logs: one line an event, in either format, from either kind of logger, and never a secret."""

import json
import logging
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from hermes import logs

# What must never be seen, each as it might come by.
TEXT = "Your code is 123456"
SECRETS = {
    "message text": TEXT,
    "phone": "+4520123456",
    "phone without plus": "4520123456",
    "email": "ada.lovelace@example.com",
    "push token": "dGhpc19pcw-canary:APA91bHun4MxP5egoKMwt2KZFBaFUH",
    "live key": "hk_live_Zm9vYmFyYmF6cXV4",
    "operator key": "hk_op_Zm9vYmFyYmF6cXV4",
    "webhook secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "password": "correct-horse",
}


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Give the test runner its logging back."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    logging.captureWarnings(False)
    structlog.reset_defaults()


def configured(format: str = "json", level: str = "info") -> StringIO:
    out = StringIO()
    logging.getLogger().handlers.clear()  # those of the test runner call repr without care
    logs.configure(format, level, out)
    return out


def only_line(out: StringIO) -> dict[str, Any]:
    (line,) = out.getvalue().splitlines()
    parsed: dict[str, Any] = json.loads(line)
    return parsed


# --- where lines come from and go to


def test_both_kinds_of_logger_write_the_same_line() -> None:
    out = configured()
    logs.get_logger("hermes.x").warning("carrier refused us", carrier="a", code=58)
    logging.getLogger("hermes.x").warning("carrier %s us", "refused", extra={"carrier": "a", "code": 58})
    ours, theirs = (json.loads(line) for line in out.getvalue().splitlines())
    assert ours.pop("timestamp").endswith("Z") and theirs.pop("timestamp")
    assert ours == theirs
    assert ours == {
        "event": "carrier refused us",
        "carrier": "a",
        "code": 58,
        "level": "warning",
        "logger": "hermes.x",
    }


@pytest.mark.parametrize("format", ["console", "json"])
def test_event_is_one_line_whatever_its_text_holds(format: str) -> None:
    out = configured(format)
    logging.getLogger("x").info("%s", "two\nlines\x1b[31m")
    assert out.getvalue().count("\n") == 1
    assert "\x1b" not in out.getvalue()


def test_console_has_no_colour_where_there_is_no_terminal() -> None:
    out = configured("console")
    logs.get_logger("x").error("failed", n=1)
    assert "\x1b" not in out.getvalue()
    assert "failed" in out.getvalue() and "n=1" in out.getvalue()


@pytest.mark.parametrize(("level", "seen"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_level_holds_for_both_kinds_of_logger(level: str, seen: int) -> None:
    for logger in (logs.get_logger("x"), logging.getLogger("x")):
        out = configured(level=level)
        for name in ("debug", "info", "warning", "error"):
            getattr(logger, name)("x")
        assert len(out.getvalue().splitlines()) == seen


def test_default_level_has_no_line_per_request_or_connection() -> None:
    out = configured()
    for name in ("aiohttp.access", "asyncio", "asyncpg", "aiosmtplib"):
        logging.getLogger(name).info("GET /v1/messages")
    assert out.getvalue() == ""
    out = configured(level="debug")
    logging.getLogger("aiohttp.access").info("GET /v1/messages")
    assert out.getvalue() != ""


def test_configuring_again_replaces_the_first() -> None:
    first, second = configured(), configured()
    logging.getLogger("x").info("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_warnings_of_python_are_logged() -> None:
    import warnings

    out = configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", stacklevel=1)
    assert "old" in only_line(out)["event"]


# --- what they never hold


@pytest.mark.parametrize("format", ["console", "json"])
@pytest.mark.parametrize("secret", SECRETS)
def test_canary_is_never_seen_under_a_key_that_names_it(format: str, secret: str) -> None:
    keys = (
        "text", "body", "password", "to", "address", "phone", "email", "token", "api_key", "authorization",
        "secret", "Authorization", "X-Api-Key", "auth_token", "webhook_secret", "push", "request_body",
    )  # fmt: skip
    canary = SECRETS[secret]
    out = configured(format, "debug")
    ours, theirs = logs.get_logger("x"), logging.getLogger("x")
    for key in keys:
        ours.info("event", **{key: canary})
        ours.info("event", nested={"list": [{key: canary}]})
        ours.info("event", **{key: {"inside": canary, "list": [canary]}})
        ours.info("event", **{key: canary.encode()})
        theirs.info("event", extra={key: canary})
    assert canary not in out.getvalue()
    assert out.getvalue().count("event") >= 5 * len(keys)


@pytest.mark.parametrize("format", ["console", "json"])
@pytest.mark.parametrize("secret", [name for name in SECRETS if name not in ("message text", "password")])
def test_canary_is_never_seen_in_a_text(format: str, secret: str) -> None:
    class Thing:
        def __repr__(self) -> str:
            return f"Thing({canary!r})"

    canary = SECRETS[secret]
    out = configured(format, "debug")
    ours, theirs = logs.get_logger("x"), logging.getLogger("x")
    ours.info(f"no route to {canary}.", detail=f"'{canary}'", things=[Thing()], thing=Thing())
    ours.info("event", headers={"X": canary}, raw=canary.encode(), pair=(1, canary), **{canary: 1})
    theirs.info("no route to %s, %r", canary, Thing())
    for log in (ours, theirs):
        try:
            raise ValueError(f"refused: {canary}") from KeyError(canary)
        except ValueError:
            log.exception("failed")
    assert canary not in out.getvalue()
    assert out.getvalue().count("ValueError") >= 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("Basic dXNlcjpwYXNz sent", "Basic *** sent"),
        ("postgresql://user:pass@host/db", "postgresql://***@host/db"),
        ("https://h/x?api_key=abc&a=b&sig=x", "https://h/x?api_key=***&a=b&sig=***"),
        ('{"password": "correct horse", "a": 1}', '{"password": ***, "a": 1}'),
        ("Settings(auth_token='abc', a=1)", "Settings(auth_token=***, a=1)"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln", "***"),
        ("mailto:a.b+c@example.co.uk", "mailto:***@example.co.uk"),
        ("tel:+45 20 12 34 56", "tel:***56"),
        ("+1 (202) 555-0123", "***23"),
        ("to=%2B4520123456&x", "to=***56&x"),
        ("a%40example.com", "***@example.com"),
        ("+45201234567890123", "***0123"),
        ("msg_01JABCDEFGHJKMNPQRSTVWXYZ0 attempt 3 of 4 after 1234567 ms", None),
        ("2025-01-31T10:00:00.000000Z pid 1234567 127.0.0.1:8080 ESME_RINVPASWD 0x0000000E", None),
        ("550e8400-e29b-41d4-a716-446655440000", None),
    ],
)
def test_shape_of_a_secret_is_known_in_any_text(text: str, shown: str | None) -> None:
    assert logs.clean_text(text) == (text if shown is None else shown)


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("to", "+4520123456", "***56"),
        ("msisdn", 4520123456, "***56"),
        ("email", "ada@example.com", "***@example.com"),
        ("to", {"phone": "+4520123456", "push": "tok"}, {"phone": "***56", "push": "***"}),
        ("to", ["+4520123456"], ["***56"]),
        ("to", "Ada", "***"),
        ("carrier_message_id", "4520123456", "4520123456"),
        ("due_at", "20250131100000", "20250131100000"),
        ("latency_ms", 4520123456, 4520123456),
        ("password", None, None),
        ("ok", True, True),
    ],
)
def test_value_is_shown_as_far_as_its_key_allows(key: str, value: Any, shown: Any) -> None:
    assert logs.clean(value, key) == shown


def test_broken_or_endless_value_costs_only_itself() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    endless: list[Any] = []
    endless.append(endless)
    out = configured()
    logs.get_logger("x").info("event", broken=Broken(), endless=endless, long="a " * 100_000)
    line = only_line(out)
    assert line["broken"] == "<Broken whose repr raised RuntimeError>"
    assert len(out.getvalue()) < 10_000


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text() | st.binary(), st.lists), st.text())
def test_any_value_becomes_json(value: Any, key: str) -> None:
    json.dumps(logs.clean(value, key))


@given(st.text(max_size=50), st.from_regex(r"\A\+[1-9][0-9]{7,14}\Z"), st.text(max_size=50))
def test_no_number_with_its_plus_is_ever_shown_whole(before: str, number: str, after: str) -> None:
    assert number not in logs.clean_text(f"{before}{number}{after}")
