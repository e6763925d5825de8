"""Signing, judging answers, the retry schedule and the windows, as tables."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from hermes.domain.webhooks import (
    RETRY_AFTER_LIMIT_S,
    RETRY_DELAYS_S,
    WINDOW_MOST,
    WINDOW_SLOW,
    Answer,
    judge,
    next_delay_s,
    next_window,
    retry_after_s,
    sign,
    webhook_id,
)

NOW = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(bytes(range(24))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(24, 48))).decode()


def headers(signature, at, id_="msg_1.3"):
    return {"webhook-id": id_, "webhook-timestamp": str(at), "webhook-signature": signature}


# --- signing


@given(st.dictionaries(st.text(), st.text()), st.integers(1, 10_000))
def test_the_library_of_the_standard_accepts_our_signature(data, seq):
    body = json.dumps(data, ensure_ascii=False).encode()
    at = int(datetime.now(UTC).timestamp())
    id_ = webhook_id("msg_01ARZ3NDEKTSV4RRFFQ69G5FAV", seq)
    assert Webhook(SECRET).verify(body, headers(sign([SECRET], id_, at, body), at, id_)) == data


def test_it_refuses_another_body_id_time_or_secret():
    at = int(datetime.now(UTC).timestamp())
    good = sign([SECRET], "msg_1.3", at, b"{}")
    for body, sent, secret in (
        (b"{} ", headers(good, at), SECRET),
        (b"{}", headers(good, at, "msg_1.4"), SECRET),
        (b"{}", headers(good, at - 1), SECRET),
        (b"{}", headers(good, at), OTHER),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, sent)


def test_the_published_example_has_the_published_signature():
    # The example of the standard's reference libraries (their test suites share it).
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    assert (
        sign([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )


def test_each_secret_of_a_rotation_signs():
    at = int(datetime.now(UTC).timestamp())
    signature = sign([SECRET, OTHER], "msg_1.3", at, b"{}")
    assert len(signature.split(" ")) == 2
    for secret in (SECRET, OTHER):
        assert Webhook(secret).verify(b"{}", headers(signature, at)) == {}


def test_what_the_documentation_tells_customers_to_run_accepts_us_and_nobody_else():
    page = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    told: dict[str, Any] = {}
    exec(code, told)
    verify = told["verify"]
    at = int(time.time())
    body = '{"text":"☎"}'.encode()
    for signature in (sign([SECRET], "msg_1.3", at, body), sign([OTHER, SECRET], "msg_1.3", at, body)):
        assert verify(SECRET, headers(signature, at), body)
    assert not verify(SECRET, headers(sign([OTHER], "msg_1.3", at, body), at), body)
    assert not verify(SECRET, headers(sign([SECRET], "msg_1.3", at, body), at), body + b" ")
    old = at - 600
    assert not verify(SECRET, headers(sign([SECRET], "msg_1.3", old, body), old), body)


# --- what follows from an answer


@pytest.mark.parametrize(
    ("answer", "outcome", "error"),
    [
        (Answer(200), "delivered", None),
        (Answer(204), "delivered", None),
        (Answer(299), "delivered", None),
        (Answer(199), "retry", "199"),
        (Answer(301), "retry", "301"),
        (Answer(302), "retry", "302"),
        (Answer(308), "retry", "308"),
        (Answer(400), "retry", "400"),
        (Answer(401), "retry", "401"),
        (Answer(404), "retry", "404"),
        (Answer(410), "gone", "410"),
        (Answer(429), "retry", "429"),
        (Answer(500), "retry", "500"),
        (Answer(503), "retry", "503"),
        (Answer(None, "timeout"), "retry", "timeout"),
        (
            Answer(None, "refused: not a public address", hopeless=True),
            "dead",
            "refused: not a public address",
        ),
    ],
)
def test_answers(answer, outcome, error):
    verdict = judge(answer, 1, "seed")
    assert (verdict.outcome, verdict.error) == (outcome, error)


def test_the_last_try_of_the_schedule_leads_to_a_dead_letter():
    tries = len(RETRY_DELAYS_S) + 1
    assert judge(Answer(503), tries - 1, "seed").outcome == "retry"
    assert judge(Answer(503), tries, "seed").outcome == "dead"
    assert judge(Answer(200), tries, "seed").outcome == "delivered"


@pytest.mark.parametrize(
    ("status", "asked_s", "attempt", "low_s", "high_s"),
    [
        (429, 60.0, 1, 60.0, 60.0),
        (503, 1.0, 1, 4.0, 6.0),  # shorter than our own delay
        (503, 60.0, 2, 240.0, 360.0),
        (429, 10_000_000.0, 1, RETRY_AFTER_LIMIT_S, RETRY_AFTER_LIMIT_S),
    ],
)
def test_retry_after_is_honoured_when_longer_within_a_bound(status, asked_s, attempt, low_s, high_s):
    verdict = judge(Answer(status, None, asked_s), attempt, "seed")
    assert verdict.outcome == "retry"
    assert low_s <= verdict.delay_s <= high_s


# --- the schedule


def test_the_schedule_takes_three_days():
    assert sum(RETRY_DELAYS_S) == timedelta(days=3).total_seconds()
    assert RETRY_DELAYS_S[0] == 5.0
    assert list(RETRY_DELAYS_S) == sorted(RETRY_DELAYS_S)


@given(st.integers(1, len(RETRY_DELAYS_S)), st.text())
def test_jitter_stays_within_a_fifth(attempt, seed):
    delay_s = next_delay_s(attempt, seed)
    assert delay_s is not None
    assert abs(delay_s / RETRY_DELAYS_S[attempt - 1] - 1) <= 0.2
    assert delay_s == next_delay_s(attempt, seed)


def test_jitter_spreads_what_failed_together():
    delays = {round(next_delay_s(1, f"msg_{n}.2.callback") or 0, 3) for n in range(200)}
    assert len(delays) > 150
    assert max(delays) - min(delays) > 1.5


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Mon, 04 May 2026 12:01:30 GMT", 90.0),
        ("Mon, 04 May 2026 11:00:00 GMT", 0.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("9" * 400, 999_999_999.0),
        ("٣", None),
        ("Mon, 99 May 2026 12:01:30 GMT", None),
    ],
)
def test_retry_after_header(header, seconds):
    assert retry_after_s(header, NOW) == seconds


@given(st.text())
def test_no_retry_after_header_can_raise(header):
    found = retry_after_s(header, NOW)
    assert found is None or found >= 0


# --- windows


@pytest.mark.parametrize(
    ("window", "answer", "after"),
    [
        (8, Answer(200, elapsed_s=0.05), 9),
        (WINDOW_MOST, Answer(200, elapsed_s=0.05), WINDOW_MOST),
        (64, Answer(200, elapsed_s=5.0), 63),
        (WINDOW_SLOW, Answer(200, elapsed_s=5.0), WINDOW_SLOW),
        (1, Answer(200, elapsed_s=5.0), 2),
        (8, Answer(404, elapsed_s=0.05), 9),  # it answers fast: no reason to spare it
        (8, Answer(503, elapsed_s=0.05), 4),
        (8, Answer(429, elapsed_s=0.05), 4),
        (8, Answer(None, "timeout"), 4),
        (1, Answer(None, "timeout"), 1),
    ],
)
def test_a_target_gets_as_many_calls_as_it_bears(window, answer, after):
    assert next_window(window, answer) == after
