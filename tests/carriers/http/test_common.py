"""The client of the HTTP carriers: which failures are certain, which in doubt, and what an error may say."""

import asyncio
import gzip
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from carriers.http import common
from carriers.http.common import HttpAnswer, HttpClient, form, json_object, refusal, retry_after
from carriers.http.deadlines import Deadlines
from tests.carriers.http import servers
from tests.carriers.http.tables import carrier_to, outcome
from tests.carriers.smtp_servers import make_certificates

# One of each way a kind makes its request: by our client, by the provider's library.
KINDS = {
    "messente": {"username": "u", "password": "p", "from": "Hermes"},
    "twilio": {"account_sid": "AC" + "0" * 32, "auth_token": "t", "from": "+4520000000"},
}
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SECRET = "canary-73"


@asynccontextmanager
async def client(timeout_s=5.0):
    it = HttpClient(timeout_s)
    await it.open()
    try:
        yield it
    finally:
        await it.close()


async def post(it, url):
    return await it.request("POST", f"{url}/send?key={SECRET}", data=b"text=" + SECRET.encode())


def says_no_secret(error):
    return SECRET not in f"{error!s} {error!r} {vars(error)!r}"


async def test_an_answer_is_read_whole_and_its_connection_used_again():
    async with servers.provider() as provider, client() as it:
        provider.answer = (201, {"X-Kind": "yes"}, b'{"id": 1}')
        for _ in range(3):
            answer = await post(it, provider.url)
            assert (answer.status, answer.headers["x-kind"], answer.json()) == (201, "yes", {"id": 1})
        assert len(provider.asked) == 3
        assert provider.asked[0].headers["user-agent"] == common.USER_AGENT
        assert it._session is not None
        assert sum(map(len, it._session.connector._conns.values())) == 1


@pytest.mark.parametrize(("kind", "options"), KINDS.items())
async def test_a_send_names_its_span_and_other_calls_none(kind, options):
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with servers.provider() as provider, carrier_to(kind, options, provider.url) as carrier:
        provider.answer = (503, {}, b"")
        for given in (parent, None):
            await outcome(carrier, traceparent=given)
        await carrier.health()
    assert [asked.headers.get("traceparent") for asked in provider.asked][:2] == [parent, None]
    assert all("traceparent" not in asked.headers for asked in provider.asked[1:])


@pytest.mark.parametrize(
    "talk",
    [
        servers.reset_after_request,
        servers.close_after_request,
        servers.talk_garbage,
        servers.break_off,
    ],
)
async def test_a_loss_after_the_request_left_is_in_doubt(talk):
    async with servers.raw_server(talk) as url, client() as it:
        error = await servers.failure(post(it, url))
        assert (error.error_class, error.code, error.ambiguous) == ("retryable_transient", None, True)
        assert says_no_secret(error)


async def test_a_time_out_after_the_request_left_is_in_doubt():
    async with servers.raw_server(servers.hang) as url, client(0.05) as it:
        error = await servers.failure(post(it, url))
        assert error.ambiguous
        assert "within 0.05 s" in error.detail


async def test_what_cannot_be_connected_was_certainly_not_sent():
    async with client() as it:
        error = await servers.failure(post(it, f"http://127.0.0.1:{servers.free_port()}"))
        assert (error.error_class, error.retryable, error.ambiguous) == ("retryable_transient", True, False)
        assert "ConnectionRefusedError" in error.detail
        assert says_no_secret(error)


async def test_a_name_without_an_address_was_certainly_not_sent(monkeypatch):
    async def resolve(*args, **options):
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("aiohttp.resolver.ThreadedResolver.resolve", resolve)
    async with client() as it:
        error = await servers.failure(post(it, "http://provider.invalid"))
        assert (error.error_class, error.retryable, error.ambiguous) == ("retryable_transient", True, False)
        assert error.detail == "connecting: the host's name has no address"


async def test_waiting_for_a_free_connection_is_certainly_not_sent(monkeypatch):
    monkeypatch.setattr(common, "CONNECTIONS", 1)
    asked = asyncio.Event()

    async def talk(reader, writer):
        await servers.read_request(reader)
        asked.set()
        await asyncio.Event().wait()

    async with servers.raw_server(talk) as url, client(0) as it:
        first = asyncio.create_task(post(it, url))  # keeps the only connection
        await asyncio.wait_for(asked.wait(), 30)
        it._deadlines = Deadlines(0.05)
        second = await servers.failure(post(it, url))
        assert not second.ambiguous
        assert second.retryable
        first.cancel()


async def test_a_certificate_nobody_trusts_is_a_matter_of_settings_and_nothing_is_sent(tmp_path):
    context = make_certificates(tmp_path).server_context()
    asked = []

    async def talk(reader, writer):
        asked.append(await reader.read(100))

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    try:
        async with client() as it:
            error = await servers.failure(post(it, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        assert (error.error_class, error.ambiguous) == ("provider_config", False)
        assert "certificate refused" in error.detail
        assert not asked
    finally:
        server.close()


async def test_tls_that_is_none_was_certainly_not_sent():
    async def talk(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        await reader.read()

    async with servers.raw_server(talk) as url, client() as it:
        error = await servers.failure(post(it, url.replace("http:", "https:")))
        assert (error.error_class, error.retryable, error.ambiguous) == ("retryable_transient", True, False)


async def test_nothing_of_a_huge_answer_is_kept():
    async with servers.provider() as provider, client() as it:
        provider.answer = (500, {}, b"x" * (common.MAX_ANSWER + 1))
        answer = await post(it, provider.url)
        assert (answer.status, answer.body) == (500, b"")
        provider.answer = (200, {}, b"x" * common.MAX_ANSWER)
        assert len((await post(it, provider.url)).body) == common.MAX_ANSWER


async def test_a_compressed_answer_that_grows_is_bounded_too():
    async with servers.provider() as provider, client() as it:
        provider.answer = (200, {"Content-Encoding": "gzip"}, gzip.compress(b"x" * 10_000_000))
        assert (await post(it, provider.url)).body == b""


async def test_a_redirect_is_not_followed():
    async with servers.provider() as provider, client() as it:
        provider.answer = (302, {"Location": f"{provider.url}/elsewhere"}, b"")
        answer = await post(it, provider.url)
        error = refusal("twilio", answer)
        assert (error.error_class, error.ambiguous) == ("provider_config", False)
        assert len(provider.asked) == 1


async def test_a_closed_client_sends_nothing():
    it = HttpClient(1)
    error = await servers.failure(post(it, "http://127.0.0.1:1"))
    assert (error.retryable, error.ambiguous) == (True, False)


async def test_a_cancelled_call_stays_cancelled():
    async with servers.raw_server(servers.hang) as url, client() as it:
        task = asyncio.ensure_future(post(it, url))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def answered(status, body=b"", **headers):
    return HttpAnswer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.mark.parametrize(
    ("status", "code", "error_class", "retryable", "ambiguous"),
    [
        (200, None, "unknown", False, True),  # taken or not: nobody can tell
        (201, None, "unknown", False, True),
        (302, None, "provider_config", False, False),
        (400, None, "invalid_request", False, False),
        (400, 21211, "invalid_destination", False, False),
        (400, "29999", "unknown", False, False),
        (401, None, "provider_auth", False, False),
        (429, None, "throttled", True, False),
        (500, None, "retryable_transient", True, False),
        (502, None, "retryable_transient", True, False),
        (504, None, "retryable_transient", False, True),  # a proxy that gave up waiting
        (504, 20429, "throttled", True, False),
    ],
)
def test_an_answer_that_took_nothing_says_what_it_means(status, code, error_class, retryable, ambiguous):
    error = refusal("twilio", answered(status), code)
    assert (error.error_class, error.retryable, error.ambiguous) == (error_class, retryable, ambiguous)
    assert error.code == (None if code is None else str(code))


def test_an_error_repeats_nothing_the_provider_said():
    error = refusal("twilio", answered(400, b'{"message": "the number +4520123456"}'), 21211)
    assert "4520123456" not in str(error)
    assert error.detail == "HTTP 400: 'To' is not a valid phone number"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("2", 2.0),
        (" 120 ", 120.0),
        ("9" * 30, common.LONGEST_RETRY_AFTER_S),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30.0),
        ("Tue, 24 Nov 2026 11:00:30 GMT", 0.0),
        ("Tue, 24 Nov 2029 11:00:30 GMT", common.LONGEST_RETRY_AFTER_S),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date(header, seconds):
    assert retry_after(header, NOW) == seconds


def test_retry_after_is_asked_for_only_where_another_try_may_help():
    assert refusal("twilio", answered(429, Retry_After="7")).retry_after_s == 7
    assert refusal("twilio", answered(503, Retry_After="7")).retry_after_s == 7
    assert refusal("twilio", answered(400, Retry_After="7")).retry_after_s is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"null", b"[" * 100_000])
def test_what_is_no_json_object_is_an_empty_one(body):
    assert HttpAnswer(200, {}, body).json() == {}
    assert json_object(body) is None


def test_a_form_is_read_in_order_and_within_bounds():
    assert form(b"a=1&b=%2B&a=&c") == [("a", "1"), ("b", "+"), ("a", ""), ("c", "")]
    assert form(b"a=\xff") is None
    assert form("a=%ff") is None
    assert form("&".join("a=1" for _ in range(common.MAX_FIELDS + 1))) is None


@pytest.mark.parametrize(
    "url",
    [
        "provider.example",
        "ftp://x",
        "https://",
        "https://u:p@host",
        "https://h/?q=1",
        "https://h/#f",
        "http://[",
        "http://h:x",
    ],
)
def test_a_base_url_must_be_a_host_root(url):
    with pytest.raises(ValueError, match="base_url"):
        common.HttpSettings(base_url=url)
