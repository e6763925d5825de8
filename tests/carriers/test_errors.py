from importlib.resources import files

import pytest
import yaml

from carriers import errors


def test_every_row_of_the_table_is_found_with_its_class():
    document = yaml.load(files("carriers").joinpath("errors.yaml").read_text(), yaml.SafeLoader)
    for provider, tables in document["providers"].items():
        for table, rows in tables.items():
            for row in rows if isinstance(rows, list) else ():
                if "code" in row:
                    code = {"2xx": "250", "200-299": "231"}.get(row["code"], row["code"])
                    assert errors.classify(provider, table, code) == (row["class"], row["retryable"])
                else:
                    fact = errors.classify_status(provider, row["provider"], table)
                    assert fact == (row["canonical"], row["final"])


@pytest.mark.parametrize(
    ("provider", "table", "code"),
    [
        ("twilio", "api", "99999999"),
        ("twilio", "api", 0),
        ("twilio", "rule", "x"),
        ("smtp", "rule", "550"),
        ("smtp", "api", "9" * 5000),
        ("smtp", "api", "٣٤٥"),
        ("whatsapp", "api", "199"),
        ("whatsapp", "api", "300"),
        ("nobody", "api", "1"),
        ("nobody", "nothing", None),
        ("fcm", "api", ""),
    ],
)
def test_an_unlisted_code_is_unknown_and_not_retryable(provider, table, code):
    assert errors.classify(provider, table, code) == ("unknown", False)


@pytest.mark.parametrize(
    ("status", "fact"),
    [
        (400, ("invalid_request", False)),
        (401, ("provider_auth", False)),
        (402, ("insufficient_funds", False)),
        (408, ("retryable_transient", True)),
        (418, ("unknown", False)),
        (429, ("throttled", True)),
        (500, ("retryable_transient", True)),
        (599, ("retryable_transient", True)),
        (302, ("unknown", False)),
    ],
)
def test_http_status_without_a_code_has_the_default_class(status, fact):
    assert errors.classify_http(status) == fact


@pytest.mark.parametrize(
    ("provider", "code", "status", "error_class"),
    [
        ("twilio", 21211, 400, "invalid_destination"),
        ("twilio", 123, 401, "provider_auth"),
        ("twilio", 29999, 400, "unknown"),
        ("twilio", 29999, 500, "retryable_transient"),
        ("whatsapp", 131056, 403, "throttled"),
        ("whatsapp", 0, 401, "provider_auth"),
        ("whatsapp", 135000, 400, "unknown"),
        ("whatsapp", 135000, 503, "retryable_transient"),
        ("whatsapp", 135000, 429, "throttled"),
        ("fcm", None, 503, "retryable_transient"),
    ],
)
def test_the_provider_code_wins_over_the_http_status_unless_it_says_nothing(provider, code, status, error_class):
    assert errors.classify_answer(provider, code, status).error_class == error_class


@pytest.mark.parametrize(
    ("reply", "enhanced", "stage", "fact"),
    [
        (535, "5.7.8", "auth", ("provider_auth", False)),
        (530, "5.7.0", "mail", ("provider_auth", False)),
        (534, "5.7.9", "auth", ("provider_auth", False)),
        (454, "4.7.0", "auth", ("retryable_transient", True)),
        (550, "5.7.1", "auth", ("provider_auth", False)),
        (550, "5.7.1", "data", ("content_rejected", False)),
        (452, "4.2.2", "rcpt", ("unreachable_handset", True)),
        (452, None, "rcpt", ("throttled", True)),
        (552, "5.2.2", "rcpt", ("unreachable_handset", True)),
        (550, "5.9.9", "rcpt", ("invalid_destination", False)),
        (550, None, "mail", ("sender_not_allowed", False)),
        (553, "5.1.3", "mail", ("sender_not_allowed", False)),
        (499, None, "rcpt", ("unknown", True)),
        (599, "5.9.9", "data", ("unknown", False)),
        (-1, None, "data", ("unknown", False)),
    ],
)
def test_smtp_reply_is_classed_by_auth_codes_then_enhanced_then_reply_code(reply, enhanced, stage, fact):
    assert errors.classify_smtp(reply, enhanced, stage) == fact


@pytest.mark.parametrize(
    ("canonical", "receipt"),
    [("queued", "submitted"), ("bounced", "undelivered"), ("read", "read"), ("complaint", None), ("x", None)],
)
def test_canonical_status_becomes_the_status_of_a_receipt_or_none(canonical, receipt):
    assert errors.receipt_status(canonical) == receipt
