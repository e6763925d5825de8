import asyncio
import email
import email.policy
import hashlib
import hmac
import json
import shutil
import socket
from base64 import b64decode
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from carriers.base import CallbackRefused, CallbackRequest, SendError, SendResult
from carriers.registry import make_carrier
from carriers.smtp import CLOSE_IDLE_AFTER
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
from tests.carriers.smtp_servers import (
    DROP,
    HANG,
    aiosmtpd_server,
    make_certificates,
    scripted,
    until,
)

TESTS = Path(__file__).parent.parent
PAYLOADS = TESTS / "contracts/payloads/smtp"
NODE = shutil.which("node")
NODE_MODULES = TESTS / "npm/node_modules/smtp-server"
PASSWORD = "pa55-wörd"
TEXT = "Dear Jané,\n.\n..two dots\n.dot\n\n" + "long " * 400 + "\n" + "x" * 2000 + "\n日本語\ttab\nno end"
HTML = "<p>Größe &amp; more</p>\n.\n" + "<b>y</b>" * 300
SUBJECT = "Zażółć gęślą jaźń — your code, and a subject that is far too long for one line of a header 😀"


def mail(**changes):
    content = changes.pop("content", Content(text="Your code is 9876543", subject="Code"))
    return submission(channel="email", content=content, **{"to": "jane@example.test", **changes})


@asynccontextmanager
async def carrier_to(port, clock=None, **settings):
    options = {"host": "127.0.0.1", "port": port, "tls": "none", "from": "Acme <news@acme.test>", **settings}
    carrier = make_carrier("smtp", "relay", "email", options, clock=clock or ManualClock())
    await carrier.open(RememberingSink())
    try:
        yield carrier
    finally:
        await carrier.close()


async def refusal(carrier, sent=None):
    with pytest.raises(SendError) as refused:
        await carrier.send(sent or mail())
    return refused.value


def unused_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def read(raw: bytes):
    return email.message_from_bytes(raw, policy=email.policy.default)


def check_arrived_intact(raw: bytes):
    message = read(raw)
    assert message["Subject"] == SUBJECT
    assert message["From"] == "Acme <news@acme.test>"
    assert message["To"] == "jane@example.test"
    for subtype, written in (("plain", TEXT), ("html", HTML)):
        part = message.get_body((subtype,))
        assert part is not None
        assert part.get_content().replace("\r\n", "\n") == written


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="session")
def other_authority(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("tls-other"), "other")


# What the other side answers


@pytest.mark.parametrize("case", load_cases(PAYLOADS / "replies.json"), ids=str)
async def test_reply_means_what_the_table_says(case: Case):
    reply = case.given["reply"]
    verb = {"auth": "AUTH", "mail": "MAIL", "rcpt": "RCPT", "data": "."}[reply["stage"]]
    login = {"username": "u", "password": "p"} if verb == "AUTH" else {}
    async with scripted(EHLO="250-scripted\r\n250 AUTH PLAIN") as server:
        server.replies[verb] = f"{reply['code']} {reply['text']}"
        async with carrier_to(server.port, **login) as carrier:
            try:
                answer: SendResult | SendError = await carrier.send(mail())
            except SendError as error:
                answer = error
                assert not answer.ambiguous
            check_answer(case, answer)
            connections = carrier.inspect()["connections"]
    if case.expect.get("reconnect"):
        assert connections["open"] == 0


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize(
    ("reply", "retryable"),
    [("450 4.2.1 later", True), ("450 later", True), ("550 no", False), ("599 ?", False)],
)
async def test_4yz_is_retryable_and_5yz_final_at_every_stage(verb, reply, retryable):
    async with scripted(**{verb: reply}) as server, carrier_to(server.port) as carrier:
        error = await refusal(carrier)
        assert (error.retryable, error.ambiguous) == (retryable, False)


async def test_sender_refused_at_mail_from_is_not_held_against_the_recipient():
    async with scripted(MAIL="550 5.1.1 who?") as server, carrier_to(server.port) as carrier:
        assert (await refusal(carrier)).error_class == "sender_not_allowed"


@pytest.mark.parametrize("verb", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    "garbage",
    ["what?", "2", "", "+25 OK", "999 x", "100 x", "\x00\xff\xfe", "250-" + "x" * 40_000, "\r\n\r\n"],
)
async def test_garbage_before_the_final_dot_is_retryable_and_not_ambiguous(verb, garbage):
    async with scripted(**{verb: garbage}) as server, carrier_to(server.port, timeout_s=0.3) as carrier:
        error = await refusal(carrier)
        assert (error.error_class, error.retryable) == ("retryable_transient", True)
        assert not error.ambiguous
        assert carrier.inspect()["connections"]["open"] == 0


@pytest.mark.parametrize("reply", ["what?", "354 again", "199 x", DROP, HANG])
async def test_no_reply_one_can_read_after_the_final_dot_is_ambiguous(reply):
    async with scripted(**{".": reply}) as server, carrier_to(server.port, timeout_s=0.3) as carrier:
        error = await refusal(carrier)
        assert error.ambiguous
        assert not error.retryable
        assert carrier.inspect()["connections"]["open"] == 0


@pytest.mark.parametrize("reply", [DROP, HANG])
@pytest.mark.parametrize("verb", ["GREETING", "EHLO", "MAIL", "RCPT", "DATA"])
async def test_drop_or_silence_before_the_final_dot_is_retryable_and_not_ambiguous(verb, reply):
    async with scripted(**{verb: reply}) as server, carrier_to(server.port, timeout_s=0.2) as carrier:
        error = await refusal(carrier)
        assert (error.error_class, error.retryable) == ("retryable_transient", True)
        assert not error.ambiguous
        assert carrier.inspect()["connections"]["open"] == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "host.invalid"])
async def test_server_that_cannot_be_reached_is_retryable_and_not_ambiguous(host):
    async with carrier_to(unused_port(), host=host) as carrier:
        error = await refusal(carrier)
        assert (error.error_class, error.retryable) == ("retryable_transient", True)
        assert not error.ambiguous
        assert await carrier.health() == error.detail


async def test_greeting_that_refuses_service_is_retryable():
    async with scripted(GREETING="554 5.7.1 no") as server, carrier_to(server.port) as carrier:
        error = await refusal(carrier)
        assert (error.error_class, error.code, error.retryable) == ("retryable_transient", "5.7.1", True)


# What we send


async def test_queue_ids_of_the_server_are_the_carrier_ids_else_the_message_id_is():
    async with scripted() as server, carrier_to(server.port) as carrier:
        first = await carrier.send(mail(message_id="msg_1", step=2, attempt=1))
        again = await carrier.send(mail(message_id="msg_1", step=2, attempt=2))
        assert first.carrier_message_ids == again.carrier_message_ids == ("msg_1.2@acme.test",)
        assert all(b"\r\nMessage-ID: <msg_1.2@acme.test>\r\n" in raw for raw in server.messages)
        server.replies["."] = "250 OK ids=abc,def"
        assert (await carrier.send(mail())).carrier_message_ids == ("abc",)


async def test_content_arrives_intact_at_aiosmtpd_over_starttls_with_login(certificates):
    login = {"username": "acme", "password": PASSWORD}
    server = aiosmtpd_server(certificates.server_context(), ("acme", PASSWORD))
    async with server as (port, inbox):
        settings = {"tls": "starttls", "ca_file": str(certificates.ca), **login}
        async with carrier_to(port, **settings) as carrier:
            await carrier.send(mail(content=Content(text=TEXT, html=HTML, subject=SUBJECT)))
        (received,) = inbox.received
        assert (received.sender, received.to, received.secure) == (
            "news@acme.test",
            ["jane@example.test"],
            True,
        )
        assert inbox.logins == [("acme", PASSWORD)]
        check_arrived_intact(received.raw)


@pytest.mark.skipif(NODE is None, reason="node is not installed")
@pytest.mark.skipif(not NODE_MODULES.is_dir(), reason="tests/npm/node_modules has no smtp-server (make test)")
async def test_content_arrives_intact_at_node_smtp_server_over_starttls_with_login(certificates):
    login = {"username": "acme", "password": PASSWORD}
    arguments = json.dumps({"key": str(certificates.key), "cert": str(certificates.cert), **login})
    node = await asyncio.create_subprocess_exec(
        NODE or "node",
        str(TESTS / "npm/smtp_server.mjs"),
        arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    assert node.stdin is not None
    assert node.stdout is not None
    try:
        port = json.loads(await node.stdout.readline())["port"]
        settings = {"tls": "starttls", "ca_file": str(certificates.ca), **login}
        async with carrier_to(port, **settings) as carrier:
            assert await carrier.health() is None
            for to in ("jane@example.test", "jürgen@bücher.example"):
                await carrier.send(mail(to=to, content=Content(text=TEXT, html=HTML, subject=SUBJECT)))
            lines = [json.loads(await node.stdout.readline()) for _ in range(2)]
        async with carrier_to(port, **{**settings, "password": "wrong"}) as carrier:
            error = await refusal(carrier)
            assert (error.error_class, error.retryable, error.code) == ("provider_auth", False, "535")
    finally:
        node.stdin.close()
        await node.wait()
    first, second = lines
    assert (first["from"], first["to"]) == ("news@acme.test", ["jane@example.test"])
    assert (first["secure"], first["user"]) == (True, "acme")
    check_arrived_intact(b64decode(first["raw"]))
    assert second["to"] == ["jürgen@bücher.example"]  # smtp-server shows the domain decoded


async def test_address_outside_ascii_goes_out_with_smtputf8_when_the_server_offers_it():
    async with (
        aiosmtpd_server(enable_SMTPUTF8=True) as (port, inbox),
        carrier_to(port, **{"from": "news@bücher.example"}) as carrier,
    ):
        await carrier.send(mail(to="用户@例え.jp"))
    (received,) = inbox.received
    assert received.to == ["用户@xn--r8jz45g.jp"]
    assert received.sender == "news@xn--bcher-kva.example"


async def test_address_outside_ascii_without_smtputf8_is_an_invalid_destination_and_costs_no_connection():
    async with scripted() as server, carrier_to(server.port) as carrier:
        error = await refusal(carrier, mail(to="用户@example.test"))
        assert (error.error_class, error.retryable) == ("invalid_destination", False)
        assert "SMTPUTF8" in error.detail
        await carrier.send(mail())
        assert server.connections == 1
        assert server.verbs().count("MAIL") == 1


@pytest.mark.parametrize(
    ("changes", "error_class"),
    [
        ({"to": "no address"}, "invalid_destination"),
        ({"to": "a@b.test>\r\nRCPT TO:<c@d.test"}, "invalid_destination"),
        ({"sender": "news@acme.test\r\nBcc: x@y.test"}, "invalid_request"),
        ({"sender": "Hermes"}, "invalid_request"),
        ({"content": Content(subject="only")}, "invalid_request"),
    ],
)
async def test_message_that_cannot_be_written_is_refused_before_any_connection(changes, error_class):
    async with scripted() as server, carrier_to(server.port) as carrier:
        error = await refusal(carrier, mail(**changes))
        assert (error.error_class, error.retryable, error.ambiguous) == (error_class, False, False)
        assert server.connections == 0


async def test_message_without_any_sender_is_a_matter_of_configuration():
    async with scripted() as server:
        options = {"host": "127.0.0.1", "port": server.port, "tls": "none"}
        carrier = make_carrier("smtp", "relay", "email", options, clock=ManualClock())
        assert (await refusal(carrier)).error_class == "provider_config"
        answer = carrier.send(mail(sender="Customer <c@customer.test>"))
        assert not isinstance(answer, SendResult)
        await answer
        await carrier.close()
        assert "MAIL FROM:<c@customer.test> SIZE=" in "\n".join(server.heard)


# Connections


async def test_connection_is_kept_for_the_next_message():
    async with scripted() as server, carrier_to(server.port) as carrier:
        for _ in range(5):
            await carrier.send(mail())
        assert server.connections == 1
        assert server.verbs().count("EHLO") == 1
        assert carrier.inspect()["connections"] == {"open": 1, "idle": 1, "in_use": 0, "pool_size": 8}


async def test_connection_is_reset_and_kept_after_a_refusal():
    async with scripted() as server, carrier_to(server.port) as carrier:
        server.once["RCPT"] = ["550 5.1.1 unknown"]
        await refusal(carrier)
        await carrier.send(mail())
        assert server.connections == 1
        assert server.verbs() == ["EHLO", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "DATA"]


@pytest.mark.parametrize("settle", [True, False], ids=["noticed", "not yet noticed"])
async def test_kept_connection_that_the_server_dropped_is_replaced_without_a_trace(settle):
    async with scripted() as server, carrier_to(server.port) as carrier:
        await asyncio.gather(carrier.send(mail()), carrier.send(mail()))
        server.drop_all()
        if settle:
            await until(lambda: not any(kept.alive for kept in carrier._idle))
        await carrier.send(mail())
        assert server.connections == 3
        assert len(server.messages) == 3


@pytest.mark.parametrize("reply", [DROP, "421 4.4.2 idle too long", "garbage"])
async def test_kept_connection_that_ends_at_mail_from_is_replaced_once(reply):
    async with scripted() as server, carrier_to(server.port) as carrier:
        await carrier.send(mail())
        server.once["MAIL"] = [reply]
        await carrier.send(mail())
        assert server.connections == 2
        server.once["MAIL"] = [reply, reply]
        error = await refusal(carrier)
        assert (error.error_class, error.ambiguous) == ("retryable_transient", False)
        assert server.connections == 3
        assert len(server.messages) == 2


async def test_kept_connection_that_ends_after_mail_from_is_not_tried_again_here():
    async with scripted() as server, carrier_to(server.port) as carrier:
        await carrier.send(mail())
        server.once["RCPT"] = [DROP]
        assert (await refusal(carrier)).retryable
        assert server.connections == 1


async def test_server_that_dies_and_comes_back_is_used_again():
    async with scripted() as server, carrier_to(server.port) as carrier:
        await carrier.send(mail())
        await server.stop()
        for _ in range(2):
            error = await refusal(carrier)
            assert (error.error_class, error.ambiguous) == ("retryable_transient", False)
        assert await carrier.health()
        await server.start()
        await carrier.send(mail())
        assert await carrier.health() is None
        assert len(server.messages) == 2


async def test_at_most_pool_size_connections_serve_the_waiting_in_order():
    async with scripted() as server, carrier_to(server.port, pool_size=2) as carrier:
        server.gate.clear()
        sends = [asyncio.ensure_future(carrier.send(mail(message_id=f"msg_{n:02}"))) for n in range(20)]
        await until(lambda: server.verbs().count("MAIL") == 2)
        assert carrier.inspect()["waiting"] == 18
        assert carrier.inspect()["connections"]["in_use"] == 2
        sends.pop(10).cancel()
        server.gate.set()
        await asyncio.gather(*sends)
        assert server.most_open == server.connections == 2
        order = [read(raw)["Message-ID"][1:7] for raw in server.messages]
        assert len(order) == 19
        # Two at a time: no message is overtaken by more than its neighbour.
        assert all(abs(n - sorted(order).index(name)) <= 1 for n, name in enumerate(order))


async def test_cancelled_and_timed_out_sends_leave_no_slot_taken():
    async with scripted(MAIL=HANG) as server, carrier_to(server.port, pool_size=1, timeout_s=0.2) as carrier:
        sends = [asyncio.ensure_future(carrier.send(mail())) for _ in range(3)]
        await asyncio.sleep(0)
        sends[1].cancel()
        answers = await asyncio.gather(*sends, return_exceptions=True)
        assert [type(answer) for answer in answers] == [SendError, asyncio.CancelledError, SendError]
        assert not any(isinstance(answer, SendError) and answer.ambiguous for answer in answers)
        server.replies["MAIL"] = "250 OK"
        await carrier.send(mail())
        assert carrier.inspect()["connections"]["open"] == 1


async def test_connection_unused_for_a_while_is_closed_with_quit():
    clock = ManualClock()
    async with scripted() as server, carrier_to(server.port, clock) as carrier:
        await asyncio.gather(carrier.send(mail()), carrier.send(mail()))
        clock.advance(CLOSE_IDLE_AFTER - 1)
        await carrier.send(mail())
        clock.advance(1)
        assert carrier.inspect()["connections"]["open"] == 1
        clock.advance(CLOSE_IDLE_AFTER - 1)
        assert carrier.inspect()["connections"]["open"] == 0
        await until(lambda: server.verbs().count("QUIT") == 2)
        await carrier.send(mail())
        assert server.connections == 3


async def test_close_ends_every_connection_those_in_use_after_their_message():
    async with scripted() as server, carrier_to(server.port) as carrier:
        await carrier.send(mail())
        server.gate.clear()
        send = asyncio.ensure_future(carrier.send(mail()))
        await until(lambda: server.verbs().count("MAIL") == 2)
        await carrier.close()
        server.gate.set()
        await send
        assert carrier.inspect()["connections"]["open"] == 0
        await until(lambda: not server.writers)


async def test_carrier_opened_again_after_close_keeps_connections_again():
    async with scripted() as server, carrier_to(server.port) as carrier:
        await carrier.send(mail())
        await carrier.close()
        await carrier.open(RememberingSink())
        for _ in range(3):
            await carrier.send(mail())
        assert server.connections == 2


# Encryption and login


@asynccontextmanager
async def tls_server(certificates, tls):
    """Serve one way of encryption; it can do nothing but say hello."""
    if tls == "starttls":
        async with aiosmtpd_server(certificates.server_context()) as (port, _):
            yield port
        return
    server = await asyncio.start_server(say_hello, "127.0.0.1", 0, ssl=certificates.server_context())
    async with server:
        yield server.sockets[0].getsockname()[1]


async def say_hello(reader, writer):
    writer.write(b"220 tls\r\n")
    while line := await reader.readline():
        writer.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 OK\r\n")
    writer.close()


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_server_of_the_right_authority_and_name_is_trusted(tls, certificates):
    async with tls_server(certificates, tls) as port:
        for host in ("127.0.0.1", "localhost"):
            async with carrier_to(port, tls=tls, ca_file=str(certificates.ca), host=host) as carrier:
                assert await carrier.health() is None


async def test_wrong_password_is_provider_auth(certificates):
    async with (
        aiosmtpd_server(certificates.server_context(), ("acme", PASSWORD)) as (port, inbox),
        carrier_to(port, tls="starttls", ca_file=str(certificates.ca), username="acme", password="wrong") as carrier,
    ):
        error = await refusal(carrier)
        assert (error.error_class, error.code, error.retryable) == ("provider_auth", "5.7.8", False)
        assert not inbox.received


async def test_server_of_another_authority_is_provider_config(certificates, other_authority):
    async with aiosmtpd_server(certificates.server_context(), ("acme", PASSWORD)) as (port, inbox):
        for ca_file in (str(other_authority.ca), None):
            login = {"username": "acme", "password": PASSWORD}
            async with carrier_to(port, tls="starttls", ca_file=ca_file, **login) as carrier:
                error = await refusal(carrier)
                assert (error.error_class, error.retryable) == ("provider_config", False)
                assert not error.ambiguous
                assert "certificate" in error.detail
        assert not inbox.received
        assert not inbox.logins


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_certificate_for_another_name_is_provider_config(tls, tmp_path):
    elsewhere = make_certificates(tmp_path, host="elsewhere.test", address="127.0.0.2")
    async with tls_server(elsewhere, tls) as port:
        async with carrier_to(port, tls=tls, ca_file=str(elsewhere.ca)) as carrier:
            error = await refusal(carrier)
            assert (error.error_class, error.ambiguous) == ("provider_config", False)
            assert "certificate" in error.detail
        async with carrier_to(port, tls=tls, ca_file=str(elsewhere.ca), host="localhost") as carrier:
            assert (await refusal(carrier)).error_class == "provider_config"


@pytest.mark.parametrize(
    ("ehlo", "starttls", "error_class"),
    [
        ("250-scripted\r\n250 AUTH PLAIN", "220 go", "provider_config"),
        ("250-scripted\r\n250-STARTTLS\r\n250 AUTH PLAIN", "454 4.7.0 not now", "retryable_transient"),
        ("250-scripted\r\n250-STARTTLS\r\n250 AUTH PLAIN", "502 5.5.1 never", "provider_config"),
        ("250-scripted\r\n250-STARTTLS\r\n250 AUTH PLAIN", "250 sure", "retryable_transient"),
        ("250-scripted\r\n250-STARTTLS\r\n250 AUTH PLAIN", DROP, "retryable_transient"),
        ("250-scripted\r\n250-STARTTLS\r\n250 AUTH PLAIN", "220 go\r\n220 injected", "retryable_transient"),
    ],
)
async def test_nothing_is_said_in_clear_text_after_starttls_failed(ehlo, starttls, error_class):
    async with scripted(EHLO=ehlo, STARTTLS=starttls) as server:
        login = {"username": "acme", "password": PASSWORD}
        async with carrier_to(server.port, tls="starttls", timeout_s=0.5, **login) as carrier:
            error = await refusal(carrier)
            assert error.error_class == error_class
            assert not error.ambiguous
            assert carrier.inspect()["connections"]["open"] == 0
        assert not {"AUTH", "MAIL", "RCPT", "DATA"} & set(server.verbs())


@pytest.mark.parametrize("ehlo", ["250 scripted", "250-scripted\r\n250 AUTH GSSAPI"])
async def test_server_that_offers_no_login_we_can_do_is_provider_config(ehlo):
    async with (
        scripted(EHLO=ehlo) as server,
        carrier_to(server.port, username="acme", password=PASSWORD) as carrier,
    ):
        assert (await refusal(carrier)).error_class == "provider_config"


@pytest.mark.parametrize("challenge", ["334 %%%", "334 é", "334", "250 x"])
async def test_broken_login_challenge_is_an_error_not_a_crash(challenge):
    ehlo = "250-scripted\r\n250 AUTH CRAM-MD5"
    async with (
        scripted(EHLO=ehlo, AUTH=challenge) as server,
        carrier_to(server.port, username="acme", password=PASSWORD, timeout_s=0.3) as carrier,
    ):
        assert not (await refusal(carrier)).ambiguous


# Settings


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"host": ""}, "host"),
        ({"host": "h", "port": 0}, "port"),
        ({"host": "h", "tls": "ssl"}, "tls"),
        ({"host": "h", "username": "u"}, "password"),
        ({"host": "h", "password": "s3cret"}, "password"),
        ({"host": "h", "from": "nobody"}, "from"),
        ({"host": "h", "from_": "a@b.test"}, "from_"),
        ({"host": "h", "ca_file": "no/such/file"}, "ca_file"),
        ({"host": "h", "pool_size": 0}, "pool_size"),
        ({}, "host"),
    ],
)
def test_wrong_setting_is_refused_by_name(options, named):
    with pytest.raises(SettingsError) as refused:
        make_carrier("smtp", "relay", "email", options, clock=ManualClock())
    assert "relay" in str(refused.value)
    assert named in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_receipts_are_promised_only_when_set():
    for receipts in (False, True):
        options = {"host": "h", "tls": "none", "receipts": receipts}
        assert make_carrier("smtp", "relay", "email", options, clock=ManualClock()).receipts == receipts


# Log hooks


def hook(body: bytes, secret: str | None = "s3cret", signature: str | None = None) -> CallbackRequest:
    headers = {}
    if secret is not None:
        headers["x-hermes-signature"] = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if signature is not None:
        headers["x-hermes-signature"] = signature
    return CallbackRequest("POST", "https://hermes.test/v1/webhooks/relay", {}, headers, body)


def hooked(secret: str | None = "s3cret"):
    options = {"host": "h", "tls": "none", "webhook_secret": secret}
    return make_carrier("smtp", "relay", "email", options, clock=ManualClock())


HOOKS = load_cases(PAYLOADS / "kumomta_log_hooks.json")


@pytest.mark.parametrize("case", HOOKS, ids=str)
async def test_log_hook_means_what_the_table_says(case: Case):
    answer = await hooked().on_callback(hook(case.given["webhook"]["body"].encode()))
    assert answer.status == 200
    check_receipt(case, answer.receipts)
    assert all(receipt.carrier == "relay" and receipt.at is not None for receipt in answer.receipts)
    check_keeps_secrets(hooked(), ["jane", "example.test", "s3cret"], *answer.receipts)


async def test_log_hooks_come_one_by_one_in_a_list_or_one_a_line():
    bodies = [case.given["webhook"]["body"] for case in HOOKS]
    for together in ("[" + ",".join(bodies) + "]", "\n".join(bodies) + "\n"):
        answer = await hooked().on_callback(hook(together.encode()))
        assert len(answer.receipts) == len(HOOKS)


@pytest.mark.parametrize(
    ("secret", "signature", "configured", "status"),
    [
        (None, None, "s3cret", 401),
        ("other", None, "s3cret", 401),
        (None, "sha256=", "s3cret", 401),
        (None, "é", "s3cret", 401),
        ("s3cret", None, None, 403),
    ],
)
async def test_unsigned_or_wrongly_signed_log_hook_is_refused(secret, signature, configured, status):
    with pytest.raises(CallbackRefused) as refused:
        await hooked(configured).on_callback(hook(b"{}", secret, signature))
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b"[]", 200),
        (b"{}", 200),
        (b'{"type": "Bounce"}', 200),
        (b'{"type": "New", "id": "x"}', 200),
        (b'{"type": "Bounce", "id": 5}', 200),
        (b'{"type": ["Bounce"], "id": "x"}', 200),
        (b"not json", 400),
        (b"\xff", 400),
        (b"[1]", 400),
        (b'"x"', 400),
        (b"[" * 100_000, 400),
    ],
)
async def test_signed_log_hook_of_another_shape_gives_no_receipt_and_no_crash(body, status):
    answer = await hooked().on_callback(hook(body))
    assert (answer.status, list(answer.receipts)) == (status, [])


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"response": None},
        {"response": {"code": "550"}},
        {"response": {"code": 550, "enhanced_code": {"class": "5"}}},
        {"timestamp": "now", "response": {"code": 550}},
        {"timestamp": 1e300, "response": {"code": -1}},
        {"timestamp": True},
    ],
)
async def test_bounce_with_odd_fields_is_still_a_bounce(odd):
    body = json.dumps({"type": "Bounce", "id": "x", **odd}).encode()
    (receipt,) = (await hooked().on_callback(hook(body))).receipts
    assert (receipt.carrier_message_id, receipt.status) == ("x", "undelivered")


# Secrets


@pytest.mark.parametrize("verb", ["GREETING", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("code", [421, 450, 550, 250, 999])
async def test_nothing_private_shows_even_when_the_server_repeats_it(verb, code):
    content = Content(text="Your code is 9876543, Rumpelstilzchen", subject="Geheimnis")
    echo = "<jane.doe@example.test> news@acme.test acmeuser hunter22 aHVudGVyMjI= AGFjbWV1c2VyAGh1bnRlcjIy"
    if verb in ("MAIL", "RCPT", "DATA", "."):
        echo += " 9876543 Rumpelstilzchen GEHEIMNIS"
    ehlo = "250-scripted\r\n250 AUTH PLAIN LOGIN"
    login = {"username": "acmeuser", "password": "hunter22", "webhook_secret": "wh-s3cret"}
    async with (
        scripted(EHLO=ehlo, AUTH="235 OK") as server,
        carrier_to(server.port, timeout_s=0.3, **login) as carrier,
    ):
        server.replies[verb] = f"{code} {echo}"
        said: list[object] = [await carrier.health()]
        try:
            said.append(await carrier.send(mail(to="jane.doe@example.test", content=content)))
        except SendError as error:
            said.append(error)
        secrets = [
            "jane",
            "news@acme",
            "9876543",
            "rumpel",
            "geheimnis",
            "acmeuser",
            "hunter22",
            "aHVud",
            "s3cret",
        ]
        texts = [f"{thing!s}{thing!r}".lower() for thing in said if not isinstance(thing, SendResult)]
        check_keeps_secrets(carrier, [s.lower() for s in secrets], *texts, *said)


async def test_reason_of_a_refusal_stays_readable():
    reply = "550-5.1.1 The email account that\r\n550 5.1.1 you tried"
    async with scripted(RCPT=reply) as server, carrier_to(server.port) as carrier:
        error = await refusal(carrier)
        assert error.detail == "RCPT TO: 550 5.1.1 The email account that 5.1.1 you tried"
        assert carrier.inspect()["last_error"] == f"invalid_destination 5.1.1 {error.detail}"


async def test_server_text_that_cannot_be_stored_is_made_plain():
    async with (
        scripted(RCPT="550 5.1.1 \x00\x1b[31m\xff\xfe red") as server,
        carrier_to(server.port) as carrier,
    ):
        error = await refusal(carrier)
        assert error.detail.isprintable()
        assert error.detail.isascii()
