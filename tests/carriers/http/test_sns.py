"""Whose call it is: the contract's signature vectors, and everything a forger may try."""

import asyncio
import json
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from carriers.base import CallbackRefused, SendError
from carriers.http.sns import CERTIFICATES_KEPT, CertificateAway, SnsMessage, SnsReader, confirmation_url
from hermes.testing import ManualClock
from tests.carriers.http.sns_key import NAME, TOPIC, make_sns_key

VECTORS = json.loads((Path(__file__).parents[2] / "contracts/signatures/sns.json").read_text())
CERT_NAME = urlsplit(VECTORS["cert_url"]).path[1:]
HOST = "https://sns.eu-west-1.amazonaws.com"
CONFIRM = f"{HOST}/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t0ken"


class Fetcher:
    """Answers with `pem`, or raises it, and remembers what was fetched."""

    def __init__(self, pem: bytes | Exception | None = None) -> None:
        self.pem = pem
        self.urls: list[str] = []

    async def __call__(self, url: str) -> bytes | None:
        self.urls.append(url)
        await asyncio.sleep(0)
        if isinstance(self.pem, Exception):
            raise self.pem
        return self.pem


def reader(folder=None, fetch=None, topics=(TOPIC,), clock=None):
    return SnsReader(topics, folder, fetch or Fetcher(), clock or ManualClock())


async def refused(it, body):
    with pytest.raises(CallbackRefused) as caught:
        await it.read(body)
    return caught.value.status


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    return make_sns_key(tmp_path_factory.mktemp("sns"))


@pytest.mark.parametrize("source", ["folder", "fetch"])
@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["id"])
async def test_signature_vectors_of_the_contract(case, source, tmp_path):
    pem = VECTORS["cert_pem"].encode()
    fetch = Fetcher(pem)
    if source == "folder":
        for name in (CERT_NAME, "x.pem"):
            (tmp_path / name).write_bytes(pem)
    it = reader(tmp_path if source == "folder" else None, fetch)
    body = json.dumps(case["message"]).encode()
    if case["valid"]:
        assert (await it.read(body)).MessageId == case["message"]["MessageId"]
    else:
        assert await refused(it, body) == 401
    assert fetch.urls == ([VECTORS["cert_url"]] if source == "fetch" and CERT_NAME in body.decode() else [])


async def test_without_named_topics_nothing_is_believed(key):
    assert await refused(reader(key.folder, topics=()), key.notify("x")) == 403


async def test_a_topic_not_named_is_refused_before_anything_is_fetched(key):
    fetch = Fetcher(key.pem)
    body = key.notify("x", TopicArn="arn:aws:sns:eu-west-1:666666666666:ses-events")
    assert await refused(reader(fetch=fetch), body) == 403
    assert fetch.urls == []


@pytest.mark.parametrize("field", ["Message", "MessageId", "Timestamp", "TopicArn", "Type", "Subject"])
@pytest.mark.parametrize("version", ["1", "2"])
async def test_no_signed_field_can_be_changed(key, field, version):
    message = json.loads(key.notify("x", version, Subject="S"))
    message[field] = {"Type": "UnsubscribeConfirmation", "TopicArn": TOPIC + "2"}.get(field, "y")
    it = reader(key.folder, topics=(TOPIC, TOPIC + "2"))
    assert await refused(it, json.dumps(message).encode()) == 401


@pytest.mark.parametrize(
    "changes",
    [
        {"SignatureVersion": "3"},
        {"SignatureVersion": ""},
        {"Signature": ""},
        {"Signature": "%%%"},
        {"Signature": "é"},
        {"Signature": "QUJD"},
        {"SigningCertURL": ""},
    ],
)
async def test_a_signature_that_is_none_is_refused(key, changes):
    assert await refused(reader(key.folder), json.dumps({**json.loads(key.notify("x")), **changes}).encode()) == 401


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"{}", b'{"Type":"Notification"}', b"\xff", b"[" * 100_000, b'{"Type":1}'],
)
async def test_what_is_no_sns_message_is_unsigned(body):
    assert await refused(reader(), body) == 401


@pytest.mark.parametrize(
    "url",
    [
        f"http://sns.eu-west-1.amazonaws.com/{NAME}",
        f"https://sns.eu-west-1.amazonaws.com:8443/{NAME}",
        f"https://sns.eu-west-1.amazonaws.com@evil.test/{NAME}",
        f"https://user@sns.eu-west-1.amazonaws.com/{NAME}",
        f"https://evil.test/{NAME}",
        f"https://sns.eu-west-1.amazonaws.com.evil.test/{NAME}",
        f"https://evilsns.eu-west-1.amazonaws.com/{NAME}",
        f"https://sns.evil.test.amazonaws.com/{NAME}",
        f"https://sns.eu-west-1.amazonaws.com\\.evil.test/{NAME}",
        f"https://SNS.eu-west-1.amazonaws.com\n/{NAME}",
        f"https://bucket.s3.amazonaws.com/{NAME}",
        f"https://sns..amazonaws.com/{NAME}",
        f"{HOST}/../{NAME}",
        f"{HOST}/%2e%2e/{NAME}",
        f"{HOST}/a/{NAME}",
        f"{HOST}/{NAME}?x=1",
        f"{HOST}/{NAME}#x",
        f"{HOST}/?Action=GetTopicAttributes&x={NAME}",
        f"{HOST}/evil.pem",
        f"{HOST}/..pem",
        f"{HOST}/",
        "file:///etc/ssl/x.pem",
        "//[",
    ],
)
async def test_a_certificate_is_fetched_from_no_other_address(key, url):
    fetch = Fetcher(key.pem)
    assert await refused(reader(fetch=fetch), key.notify("x", SigningCertURL=url)) == 401
    assert fetch.urls == []


async def test_china_has_its_own_host(key):
    url = f"https://sns.cn-north-1.amazonaws.com.cn/{NAME}"
    fetch = Fetcher(key.pem)
    await reader(fetch=fetch).read(key.notify("x", SigningCertURL=url))
    assert fetch.urls == [url]


async def test_a_certificate_is_fetched_once_also_by_calls_at_the_same_time(key):
    fetch = Fetcher(key.pem)
    it = reader(fetch=fetch)
    await asyncio.gather(*(it.read(key.notify(str(n))) for n in range(5)))
    await it.read(key.notify("again"))
    assert len(fetch.urls) == 1


async def test_a_certificate_that_cannot_be_fetched_now_is_no_refusal_and_is_fetched_later(key):
    fetch = Fetcher(SendError("retryable_transient"))
    it = reader(fetch=fetch)
    with pytest.raises(CertificateAway):
        await it.read(key.notify("x"))
    fetch.pem = key.pem
    assert (await it.read(key.notify("x"))).Message == "x"


@pytest.mark.parametrize("pem", [None, b"", b"<html>", b"-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"])
async def test_what_is_no_certificate_is_a_refusal(key, pem):
    assert await refused(reader(fetch=Fetcher(pem)), key.notify("x")) == 401


async def test_another_key_of_the_right_name_is_a_refusal(key, tmp_path):
    assert await refused(reader(make_sns_key(tmp_path).folder), key.notify("x")) == 401


async def test_a_certificate_that_has_ended_is_a_refusal(tmp_path):
    short = make_sns_key(tmp_path, valid_days=30)
    assert await refused(reader(short.folder), short.notify("x")) == 401


async def test_certificates_kept_are_bounded(key):
    fetch = Fetcher(key.pem)
    it = reader(fetch=fetch)
    for n in range(CERTIFICATES_KEPT + 5):
        url = f"{HOST}/SimpleNotificationService-{n}.pem"
        await it.read(key.notify("x", SigningCertURL=url))
    assert len(it._certificates) == CERTIFICATES_KEPT


def confirmation(**changes):
    fields = {
        "Type": "SubscriptionConfirmation",
        "MessageId": "m",
        "TopicArn": TOPIC,
        "Message": "",
        "Timestamp": "",
        "SignatureVersion": "2",
        "Signature": "",
        "SigningCertURL": "",
        "SubscribeURL": CONFIRM,
        "Token": "t0ken",
    }
    return SnsMessage(**{**fields, **changes})


def test_a_subscription_is_confirmed_where_sns_says():
    assert confirmation_url(confirmation()) == CONFIRM


@pytest.mark.parametrize(
    "changes",
    [
        {"Type": "UnsubscribeConfirmation"},
        {"Type": "Notification"},
        {"SubscribeURL": None},
        {"SubscribeURL": CONFIRM.replace("https", "http")},
        {"SubscribeURL": CONFIRM.replace("amazonaws.com", "amazonaws.com.evil.test")},
        {"SubscribeURL": CONFIRM.replace("sns.", "127.0.0.1#sns.")},
        {"SubscribeURL": CONFIRM.replace("ConfirmSubscription", "Unsubscribe")},
        {"SubscribeURL": CONFIRM.replace("/?", "/x?")},
        {"SubscribeURL": CONFIRM + "&Action=Publish"},
        {"SubscribeURL": CONFIRM + "#x"},
        {"TopicArn": TOPIC + "2"},
        {"Token": "another"},
        {"Token": None},
    ],
)
def test_nothing_else_is_called_to_confirm(changes):
    assert confirmation_url(confirmation(**changes)) is None
