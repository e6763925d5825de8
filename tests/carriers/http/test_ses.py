"""Amazon SES against the contract's cases, providers that misbehave, and moto's SES (a real process)."""

import asyncio
import json
import os
import re
import threading
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import botocore.session
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.validate import ParamValidator

from carriers.base import CallbackRefused, CallbackRequest, SendError, SendResult
from carriers.http.aws import AwsSigner
from carriers.http.common import HttpAnswer
from carriers.http.ses_events import read_event
from carriers.registry import make_carrier
from hermes.domain.message import Content
from hermes.errors import SettingsError
from hermes.testing import ManualClock
from hermes.testing.carriers import (
    Case,
    RememberingSink,
    check_answer,
    check_keeps_secrets,
    check_receipt,
    load_cases,
    submission,
)
from tests.carriers.http import servers
from tests.carriers.http.moto import moto
from tests.carriers.http.sns_key import TOPIC, make_sns_key

PAYLOADS = Path(__file__).parents[2] / "contracts/payloads/ses"
KEYS = {"access_key_id": "AKIDCANARY", "secret_access_key": "s3cret-canary", "session_token": "t0ken-canary"}
SECRETS = list(KEYS.values())
OK = (200, {"content-type": "application/json"}, b'{"MessageId": "0102-1"}')


@pytest.fixture(autouse=True)
def no_metadata_service(monkeypatch):
    """Credentials come from nowhere but the test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return make_sns_key(tmp_path_factory.mktemp("sns"))


def make(url=None, clock=None, **settings):
    options = {"region": "eu-west-1", "from": "Acme <news@acme.test>", **KEYS, **settings}
    options = {name: value for name, value in options.items() if value is not None}
    if url is not None:
        options["base_url"] = url
    return make_carrier("ses", "ses", "email", options, clock=clock or ManualClock())


@asynccontextmanager
async def carrier_to(url, clock=None, **settings):
    carrier = make(url, clock, **settings)
    await carrier.open(RememberingSink())
    try:
        yield carrier
    finally:
        await carrier.close()


def mail(**changes):
    content = changes.pop("content", Content(text="Your code is 9876543", subject="Code"))
    return submission(channel="email", content=content, **{"to": "jane@example.test", **changes})


def call(body, method="POST"):
    return CallbackRequest(method, "https://hermes.test/v1/webhooks/ses", {}, {"content-type": "text/plain"}, body)


# What we send


async def test_a_text_is_a_signed_send_email():
    async with servers.provider() as aws, carrier_to(aws.url, configuration_set="hermes") as carrier:
        aws.answer = OK
        assert await carrier.send(mail()) == SendResult(("0102-1",))
    asked = aws.asked[0]
    assert (asked.method, asked.path) == ("POST", "/v2/email/outbound-emails")
    assert json.loads(asked.body) == {
        "FromEmailAddress": "Acme <news@acme.test>",
        "Destination": {"ToAddresses": ["jane@example.test"]},
        "Content": {
            "Simple": {
                "Subject": {"Data": "Code", "Charset": "UTF-8"},
                "Body": {"Text": {"Data": "Your code is 9876543", "Charset": "UTF-8"}},
            }
        },
        "EmailTags": [{"Name": "hermes_id", "Value": mail().message_id}],
        "ConfigurationSetName": "hermes",
    }
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["user-agent"].startswith("Hermes/")
    assert asked.headers["x-amz-security-token"] == KEYS["session_token"]
    assert re.fullmatch(
        r"AWS4-HMAC-SHA256 Credential=AKIDCANARY/\d{8}/eu-west-1/ses/aws4_request, "
        r"SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature=[0-9a-f]{64}",
        asked.headers["authorization"],
    )


async def test_text_and_html_go_as_one_message():
    async with servers.provider() as aws, carrier_to(aws.url) as carrier:
        aws.answer = OK
        await carrier.send(mail(content=Content(text="Größe", html="<p>Größe</p>", subject="日本")))
        await carrier.send(mail(content=Content(html="<p>x</p>")))
    both, html = (json.loads(asked.body)["Content"]["Simple"] for asked in aws.asked)
    assert both["Body"]["Text"]["Data"] == "Größe"
    assert both["Body"]["Html"]["Data"] == "<p>Größe</p>"
    assert both["Subject"]["Data"] == "日本"
    assert list(html["Body"]) == ["Html"]
    assert html["Subject"]["Data"] == ""


async def test_what_we_send_is_of_the_shape_that_awss_own_model_asks_for():
    async with servers.provider() as aws, carrier_to(aws.url, configuration_set="hermes") as carrier:
        aws.answer = OK
        await carrier.send(mail(content=Content(text="x", html="<p>x</p>", subject="x")))
    operation = botocore.session.get_session().get_service_model("sesv2").operation_model("SendEmail")
    report = ParamValidator().validate(json.loads(aws.asked[0].body), operation.input_shape)
    assert not report.has_errors(), report.generate_report()
    assert (operation.http["method"], operation.http["requestUri"]) == (aws.asked[0].method, aws.asked[0].path)


@pytest.mark.parametrize(
    ("sender", "written"),
    [
        (None, "Acme <news@acme.test>"),
        ("ops@acme.test", "ops@acme.test"),
        ("Żółć <ops@żółć.test>", "=?utf-8?B?xbvDs8WCxIc=?= <ops@xn--kda4b0koi.test>"),
        ('"A, B" <ops@acme.test>', '"A, B" <ops@acme.test>'),
    ],
)
async def test_the_sender_is_written_in_ascii(sender, written):
    async with servers.provider() as aws, carrier_to(aws.url) as carrier:
        aws.answer = OK
        await carrier.send(mail(sender=sender))
    assert json.loads(aws.asked[0].body)["FromEmailAddress"] == written


@pytest.mark.parametrize(
    ("sent", "settings", "error_class"),
    [
        (mail(content=Content(subject="x")), {}, "invalid_request"),
        (mail(), {"from": None}, "provider_config"),
        (mail(sender="nobody"), {}, "invalid_request"),
        (mail(sender="żółć@acme.test"), {}, "invalid_request"),
        (mail(to="żółć@example.test"), {}, "invalid_destination"),
        (mail(to="nobody"), {}, "invalid_destination"),
    ],
)
async def test_what_ses_cannot_take_is_refused_before_anything_is_sent(sent, settings, error_class):
    async with servers.provider() as aws, carrier_to(aws.url, **settings) as carrier:
        error = await servers.failure(carrier.send(sent))
        assert (error.error_class, error.retryable, error.ambiguous) == (error_class, False, False)
        assert not aws.asked
        assert not re.search("nobody|żółć|example|acme", error.detail)


# What SES answers


@pytest.mark.parametrize("case", load_cases(PAYLOADS / "send_responses.json"), ids=str)
async def test_an_answer_means_what_the_table_says(case: Case):
    response = case.given["response"]
    async with servers.provider() as aws, carrier_to(aws.url) as carrier:
        aws.answer = (response["status"], response["headers"], response["body"].encode())
        try:
            answer: SendResult | SendError = await carrier.send(mail())
        except SendError as error:
            answer = error
            assert not error.ambiguous
            assert "acme.test" not in str(error)
        check_answer(case, answer)
        check_keeps_secrets(carrier, SECRETS, answer)


@pytest.mark.parametrize(
    ("status", "headers", "body", "error_class", "code"),
    [
        (400, {"x-amzn-errortype": "MessageRejected:http://x/"}, b"{}", "content_rejected", "MessageRejected"),
        (400, {}, b'{"__type":"com.amazonaws#LimitExceededException"}', "throttled", "LimitExceededException"),
        (400, {}, b'{"__type":5}', "invalid_request", None),
        (403, {}, b"<html>", "provider_auth", None),
        (400, {"x-amzn-errortype": "ThrottlingException"}, b"{}", "throttled", "ThrottlingException"),
        (400, {"x-amzn-errortype": "NewException"}, b"{}", "unknown", "NewException"),
        (403, {"x-amzn-errortype": "InvalidSignatureException"}, b"", "provider_auth", "InvalidSignatureException"),
    ],
)
async def test_an_error_is_named_in_the_header_or_in_the_body(status, headers, body, error_class, code):
    async with servers.provider() as aws, carrier_to(aws.url) as carrier:
        aws.answer = (status, headers, body)
        error = await servers.failure(carrier.send(mail()))
        assert (error.error_class, error.code, error.ambiguous) == (error_class, code, False)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"MessageId": ""}', b'{"MessageId": 5}', b"<html>"])
async def test_a_200_without_an_id_is_in_doubt(body):
    async with servers.provider() as aws, carrier_to(aws.url) as carrier:
        aws.answer = (200, {}, body)
        assert (await servers.failure(carrier.send(mail()))).ambiguous


async def test_a_hanging_ses_is_in_doubt_and_a_closed_port_is_not():
    async with servers.raw_server(servers.hang) as url, carrier_to(url, timeout_s=0.1) as carrier:
        assert (await servers.failure(carrier.send(mail()))).ambiguous
    async with carrier_to(f"http://127.0.0.1:{servers.free_port()}") as carrier:
        error = await servers.failure(carrier.send(mail()))
        assert not error.ambiguous
        assert error.retryable


# Credentials


@pytest.mark.parametrize("token", [None, "t0ken/+="])
@pytest.mark.parametrize("root", ["https://email.eu-west-1.amazonaws.com", "http://127.0.0.1:4711/with a/päth"])
async def test_a_request_is_signed_as_botocore_signs_it(token, root):
    keys = {"aws_access_key_id": "AKID", "aws_secret_access_key": "s/+", "aws_session_token": token}
    signer = AwsSigner("ses", "eu-west-1", keys)
    for n, path in enumerate(("/v2/email/outbound-emails", "/v2/email/outbound-emails", "/v2/email/account")):
        body = b'{"n": %d}' % n
        with patch_time(datetime(2026, 11, 24, 23, 59, 59 - n, tzinfo=UTC)) as now:
            request = AWSRequest("POST", root + path, headers={"Content-Type": "application/json"}, data=body)
            SigV4Auth(Credentials("AKID", "s/+", token), "ses", "eu-west-1").add_auth(request)
        assert await signer.sign("POST", root + path, body, now) == dict(request.headers.items())


@contextmanager
def patch_time(now):
    """Let botocore sign at a time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", lambda: now)
        yield now


async def test_credentials_come_from_where_the_tools_of_aws_look(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    keys = dict.fromkeys(KEYS)
    async with servers.provider() as aws, carrier_to(aws.url, **keys) as carrier:
        aws.answer = OK
        await carrier.send(mail())
    assert "Credential=AKIDENV/" in aws.asked[0].headers["authorization"]


async def test_without_credentials_nothing_is_sent_until_there_are_some(monkeypatch):
    async with servers.provider() as aws, carrier_to(aws.url, **dict.fromkeys(KEYS)) as carrier:
        aws.answer = OK
        error = await servers.failure(carrier.send(mail()))
        assert (error.error_class, error.retryable, error.ambiguous) == ("provider_config", False, False)
        assert not aws.asked
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        await carrier.send(mail())


class Role:
    """Credentials of a role, renewed `count` times; `fails`: the next renewal does."""

    def __init__(self) -> None:
        self.count = 0
        self.lasts = timedelta(hours=1)
        self.fails = False

    def get(self):
        if self.fails:
            raise OSError("metadata away")
        self.count += 1
        expiry = (datetime.now(UTC) + self.lasts).isoformat()
        return {"access_key": f"ROLE{self.count}", "secret_key": "x", "token": "t", "expiry_time": expiry}

    def credentials(self):
        return RefreshableCredentials.create_from_metadata(self.get(), self.get, "test")


@pytest.fixture
def role(monkeypatch):
    it = Role()
    monkeypatch.setattr("boto3.Session.get_credentials", lambda session: it.credentials())
    return it


async def sent_as(aws, carrier):
    await carrier.send(mail())
    return aws.asked[-1].headers["authorization"].partition("=")[2].partition("/")[0]


async def test_a_roles_credentials_are_renewed_before_they_end_once_for_all_sends(role):
    async with servers.provider() as aws, carrier_to(aws.url, **dict.fromkeys(KEYS)) as carrier:
        aws.answer = OK
        assert await sent_as(aws, carrier) == "ROLE1"
        assert await sent_as(aws, carrier) == "ROLE1"
        credentials = carrier._signer._credentials
        credentials._expiry_time = datetime.now(UTC) + timedelta(seconds=300)
        await asyncio.gather(*(carrier.send(mail()) for _ in range(10)))
        assert await sent_as(aws, carrier) == "ROLE2"
        assert role.count == 2


async def test_a_renewal_that_fails_stops_nothing_while_the_credentials_last(role):
    async with servers.provider() as aws, carrier_to(aws.url, **dict.fromkeys(KEYS)) as carrier:
        aws.answer = OK
        assert await sent_as(aws, carrier) == "ROLE1"
        role.fails = True
        carrier._signer._credentials._expiry_time = datetime.now(UTC) + timedelta(seconds=800)
        assert await sent_as(aws, carrier) == "ROLE1"


async def test_credentials_that_ended_and_cannot_be_renewed_send_nothing_and_stop_nothing(role):
    async with servers.provider() as aws, carrier_to(aws.url, **dict.fromkeys(KEYS)) as carrier:
        aws.answer = OK
        assert await sent_as(aws, carrier) == "ROLE1"
        role.fails = True
        carrier._signer._credentials._expiry_time = datetime.now(UTC) - timedelta(seconds=1)
        error = await servers.failure(carrier.send(mail()))
        assert (error.error_class, error.retryable, error.ambiguous) == ("retryable_transient", True, False)
        assert len(aws.asked) == 1
        role.fails = False
        assert await sent_as(aws, carrier) == "ROLE2"


async def test_credentials_that_do_not_come_in_time_send_nothing(role):
    gate = threading.Event()
    role.credentials = gate.wait  # as an instance's metadata service that hangs
    keys = dict.fromkeys(KEYS)
    try:
        async with servers.provider() as aws, carrier_to(aws.url, timeout_s=0.1, **keys) as carrier:
            error = await servers.failure(carrier.send(mail()))
            assert (error.error_class, error.retryable, error.ambiguous) == ("retryable_transient", True, False)
            assert not aws.asked
            gate.set()
    finally:
        gate.set()


# Settings


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"region": None}, "region"),
        ({"region": "evil.test/"}, "region"),
        ({"secret_access_key": None}, "secret_access_key"),
        ({"access_key_id": None, "secret_access_key": None}, "session_token"),
        ({"from": "nobody"}, "from"),
        ({"from": "ż@acme.test"}, "from"),
        ({"sns_topic_arns": "x"}, "sns_topic_arns"),
        ({"base_url": "ftp://x"}, "base_url"),
        ({"topic": "x"}, "topic"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings, named):
    with pytest.raises(SettingsError, match=named) as caught:
        make(**settings)
    assert not any(secret in str(caught.value) for secret in SECRETS)


@pytest.mark.parametrize(
    ("region", "root"),
    [
        ("eu-west-1", "https://email.eu-west-1.amazonaws.com"),
        ("us-gov-west-1", "https://email.us-gov-west-1.amazonaws.com"),
        ("cn-north-1", "https://email.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_the_region_names_the_host(region, root):
    assert make(region=region).base_url == root


# Health


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        ((200, {}, b'{"SendingEnabled": true}'), True),
        ((200, {}, b'{"SendingEnabled": false}'), False),
        ((403, {"x-amzn-errortype": "AccessDeniedException"}, b"{}"), True),
        ((403, {"x-amzn-errortype": "SignatureDoesNotMatch"}, b"{}"), False),
        ((503, {}, b""), False),
    ],
)
async def test_health_asks_for_the_account(answer, well):
    async with servers.provider() as aws, carrier_to(aws.url) as carrier:
        aws.answer = answer
        assert (await carrier.health() is None) == well
        assert (aws.asked[0].method, aws.asked[0].path) == ("GET", "/v2/email/account")


# What SNS posts


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("case", load_cases(PAYLOADS / "status_webhooks.json"), ids=str)
async def test_a_notification_means_what_the_table_says(case: Case, version, key):
    body = key.sign(json.loads(case.given["webhook"]["body"]), version)
    carrier = make(sns_topic_arns=[TOPIC], sns_cert_dir=str(key.folder))
    confirmed = carrier_confirming(carrier)
    answer = await carrier.on_callback(call(body))
    assert answer.status == 200
    check_receipt(case, answer.receipts)
    assert len(confirmed) == (case.expect.get("action") == "confirm_subscription")
    assert await carrier.on_callback(call(body)) == answer  # twice is the same
    check_keeps_secrets(carrier, ["jane@example.test", "user unknown"], *answer.receipts)


@pytest.mark.parametrize("case", load_cases(PAYLOADS / "status_webhooks.json"), ids=str)
async def test_a_notification_that_is_not_signed_changes_nothing(case: Case, key):
    carrier = make(sns_topic_arns=[TOPIC], sns_cert_dir=str(key.folder))
    confirmed = carrier_confirming(carrier)
    with pytest.raises(CallbackRefused) as caught:
        await carrier.on_callback(call(case.given["webhook"]["body"].encode()))
    assert caught.value.status == 401
    assert not confirmed


def carrier_confirming(carrier, answer=(200, b"<ok/>")):
    """Let the carrier reach an SNS that answers so; the addresses it gets."""
    urls = []

    async def request(method, url, **given):
        urls.append(url)
        if isinstance(answer, Exception):
            raise answer
        return HttpAnswer(answer[0], {}, answer[1])

    carrier.client.request = request
    return urls


CONFIRM = f"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t"


def subscription(key, **changes):
    fields = {"Type": "SubscriptionConfirmation", "SubscribeURL": CONFIRM, "Token": "t", **changes}
    return key.notify("You have chosen to subscribe", **fields)


async def test_a_subscription_is_confirmed_at_sns(key):
    carrier = make(sns_topic_arns=[TOPIC], sns_cert_dir=str(key.folder))
    confirmed = carrier_confirming(carrier)
    answer = await carrier.on_callback(call(subscription(key)))
    assert (answer.status, list(answer.receipts)) == (200, [])
    assert confirmed == [CONFIRM]


@pytest.mark.parametrize("answer", [(500, b""), (403, b""), SendError("retryable_transient")])
async def test_a_confirmation_that_fails_is_asked_for_again(key, answer):
    carrier = make(sns_topic_arns=[TOPIC], sns_cert_dir=str(key.folder))
    carrier_confirming(carrier, answer)
    assert (await carrier.on_callback(call(subscription(key)))).status == 503


async def test_a_subscription_is_confirmed_nowhere_else(key):
    carrier = make(sns_topic_arns=[TOPIC], sns_cert_dir=str(key.folder))
    confirmed = carrier_confirming(carrier)
    with pytest.raises(CallbackRefused):
        await carrier.on_callback(call(subscription(key, SubscribeURL="https://evil.test/?Action=ConfirmSubscription")))
    assert not confirmed


async def test_an_unsubscription_is_taken_note_of_only(key):
    carrier = make(sns_topic_arns=[TOPIC], sns_cert_dir=str(key.folder))
    confirmed = carrier_confirming(carrier)
    answer = await carrier.on_callback(call(subscription(key, Type="UnsubscribeConfirmation")))
    assert (answer.status, confirmed) == (200, [])


@pytest.mark.parametrize(("status", "answered"), [(200, 200), (404, None), (503, 503), (429, 503)])
async def test_the_certificate_is_fetched_from_sns(key, status, answered):
    carrier = make(sns_topic_arns=[TOPIC])
    fetched = carrier_confirming(carrier, (status, key.pem if status == 200 else b""))
    if answered is None:
        with pytest.raises(CallbackRefused):
            await carrier.on_callback(call(key.notify("x")))
    else:
        assert (await carrier.on_callback(call(key.notify("x")))).status == answered
    assert fetched == [json.loads(key.notify("x"))["SigningCertURL"]]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_call_without_a_body_is_refused(method):
    with pytest.raises(CallbackRefused):
        await make(sns_topic_arns=[TOPIC]).on_callback(call(b"", method))


MAIL = {"messageId": "0102-1", "timestamp": "2026-01-27T14:59:38.237Z"}


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ("Successfully validated SNS topic for Amazon SES event publishing.", None),
        ([], None),
        ({}, None),
        ({"eventType": "Delivery"}, None),
        ({"eventType": "Delivery", "mail": []}, None),
        ({"eventType": "Delivery", "mail": {"messageId": 5}}, None),
        ({"eventType": 5, "mail": MAIL}, None),
        ({"eventType": "Teleport", "mail": MAIL}, None),
        ({"eventType": "Delivery", "mail": MAIL, "delivery": []}, ("delivered", None, None)),
        ({"eventType": "Click", "mail": MAIL}, ("read", None, None)),
        ({"eventType": "Rendering Failure", "mail": MAIL}, ("undelivered", "invalid_request", None)),
        ({"eventType": "Bounce", "mail": MAIL}, ("undelivered", "unknown", "None/None")),
        (
            {"eventType": "Bounce", "mail": MAIL, "bounce": {"bounceType": "Undetermined", "bounceSubType": "New"}},
            ("undelivered", "unknown", "Undetermined/New"),
        ),
        ({"eventType": "Subscription", "mail": MAIL, "subscription": {}}, None),
        (
            {
                "eventType": "Subscription",
                "mail": MAIL,
                "subscription": {"newTopicPreferences": {"unsubscribeAll": True}},
            },
            ("submitted", "blocked_or_opted_out", None),
        ),
    ],
)
def test_events_beyond_the_table(event, expected):
    receipts = read_event("ses", event if isinstance(event, str) else json.dumps(event))
    assert [(r.status, r.error_class, r.error_code) for r in receipts] == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("timestamp", "at"),
    [
        ("2026-01-27T15:00:00.000Z", datetime(2026, 1, 27, 15, tzinfo=UTC)),
        ("2026-01-27T15:00:00", datetime(2026, 1, 27, 15, tzinfo=UTC)),
        ("0001-01-01T00:00:00+23:00", datetime(2026, 1, 27, 14, 59, 38, 237000, tzinfo=UTC)),
        ("yesterday", datetime(2026, 1, 27, 14, 59, 38, 237000, tzinfo=UTC)),
        (5, datetime(2026, 1, 27, 14, 59, 38, 237000, tzinfo=UTC)),
    ],
)
def test_the_time_is_of_what_happened_else_of_the_mail(timestamp, at):
    event = {"eventType": "Delivery", "mail": MAIL, "delivery": {"timestamp": timestamp}}
    assert read_event("ses", json.dumps(event))[0].at == at


# An SES nobody here wrote


@pytest.mark.slow
async def test_moto_takes_what_we_send_and_refuses_an_unverified_sender():
    async with moto() as aws, carrier_to(aws.url) as carrier:
        error = await servers.failure(carrier.send(mail()))
        assert (error.error_class, error.code) == ("provider_config", "MessageRejected")
        await aws.verify("news@acme.test")
        sent = await carrier.send(mail(content=Content(text="x", html="<p>Größe 日本</p>", subject="Zażółć")))
        assert await aws.messages() == [
            {
                "id": sent.carrier_message_ids[0],
                "source": "Acme <news@acme.test>",
                "destinations": {"ToAddresses": ["jane@example.test"]},
                "subject": "Zażółć",
                "body": "<p>Größe 日本</p>",
            }
        ]
