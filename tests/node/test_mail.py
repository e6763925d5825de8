"""Real mail end to end: HTTP in, a node, SMTP out to servers nobody here wrote."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
import shutil
import ssl
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.carriers.smtp_servers import Certificates, aiosmtpd_server
from tests.node.harness import SOON_S, Node, carrier, mock, running, until

TESTS = Path(__file__).parents[1]
NPM_SERVER = TESTS / "npm/smtp_server.mjs"
PASSWORD = "pa55-wörd"
SUBJECT = "Zażółć gęślą jaźń — your code, and a subject that is far too long for one line of a header 😀"
TEXT = "Dear Jané,\n.\n..two dots\n.dot\n\n" + "long " * 400 + "\n" + "x" * 2000 + "\n日本語\ttab\nno end"
HTML = "<p>Größe &amp; more</p>\n.\n" + "<b>y</b>" * 300 + "\n.\n"
LETTER = {
    "channel": "email",
    "to": "jané.doe@example.test",
    "from": {"email": "Ácme Nëws <news@acme.test>"},
    "content": {"subject": SUBJECT, "text": TEXT, "html": HTML},
}


def smtp(name: str, port: int, tls: str = "none", **more: Any) -> str:
    settings = {"host": "127.0.0.1", "port": port, "tls": tls, "from_": "Acme <news@acme.test>", **more}
    return carrier(name=name, kind="smtp", channel="email", **settings)


def check_intact(raw: bytes) -> None:
    assert all(len(line) <= 998 for line in raw.split(b"\r\n")), "RFC 5322 allows 998 octets a line"
    letter = email.message_from_bytes(raw, policy=email.policy.default)
    assert letter["Subject"] == SUBJECT
    assert letter["From"] == "Ácme Nëws <news@acme.test>"
    for subtype, written in (("plain", TEXT), ("html", HTML)):
        part = letter.get_body((subtype,))
        assert part is not None
        assert part.get_content().replace("\r\n", "\n") == written


class Mailbox:
    """Handler for aiosmtpd: gives each recipient its next reply in `replies`, if any; keeps what it takes."""

    def __init__(self) -> None:
        self.replies: dict[str, list[str]] = {}
        self.taken: list[tuple[str, bytes]] = []

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        waiting = self.replies.get(address)
        if waiting:
            return waiting.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.taken.extend((to, envelope.content) for to in envelope.rcpt_tos)
        return "250 2.0.0 OK"

    def got(self, address: str) -> int:
        return sum(to == address for to, _ in self.taken)


@asynccontextmanager
async def mailbox(port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, Mailbox]]:
    """An SMTP server by aiosmtpd; it dies with the block: refuses connections and drops those there are."""
    handler = Mailbox()
    sessions: list[SMTP] = []

    def session() -> SMTP:
        sessions.append(SMTP(handler, enable_SMTPUTF8=True, tls_context=tls, hostname="mx.example.test"))
        return sessions[-1]

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1], handler
    finally:
        server.close()
        for one in sessions:
            if isinstance(one.transport, asyncio.Transport):
                one.transport.abort()


async def post(node: Node, key: str, **body: Any) -> str:
    message_id: str = (await node.send(key, body))["id"]
    return message_id


async def test_letter_arrives_intact_at_aiosmtpd_over_starttls_with_login(
    tmp_path: Path, data: Path, certificates: Certificates
) -> None:
    login = ("acme", PASSWORD)
    async with aiosmtpd_server(certificates.server_context(), login, enable_SMTPUTF8=True) as (port, inbox):
        mail = smtp("mail", port, "starttls", ca_file=str(certificates.ca), username="acme", password=PASSWORD)
        async with running(tmp_path, mail, data=data) as node:
            key = (await node.tenant()).key
            message = await node.final(await post(node, key, **LETTER))
            assert message["status"] == "delivered"
            assert [(a["status"], a["carrier"]) for a in message["attempts"]] == [("submitted", "mail")]
            (received,) = inbox.received
            assert received.secure
            assert received.to == [LETTER["to"]]
            assert received.sender == "news@acme.test"
            check_intact(received.raw)
            assert inbox.logins == [login]
            # Only one part, and addresses that need no SMTPUTF8.
            for content in (
                {"subject": "s", "text": "only text\n.\n"},
                {"subject": "s", "html": "<p>only html</p>"},
            ):
                await node.final(await post(node, key, channel="email", to="ann@example.test", content=content))
            for received, written in zip(inbox.received[1:], ("only text\n.\n", "<p>only html</p>"), strict=True):
                letter = email.message_from_bytes(received.raw, policy=email.policy.default)
                body = letter.get_body()
                assert body is not None
                assert body.get_content().replace("\r\n", "\n").rstrip() == written.rstrip()


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.skipif(
    not (TESTS / "npm/node_modules/smtp-server").is_dir(),
    reason="tests/npm/node_modules has no smtp-server (make test)",
)
async def test_letter_arrives_intact_at_npm_smtp_server_over_starttls_with_login(
    tmp_path: Path, data: Path, certificates: Certificates
) -> None:
    login = {"username": "acme", "password": PASSWORD}
    server = await asyncio.create_subprocess_exec(
        "node",
        str(NPM_SERVER),
        json.dumps({"key": str(certificates.key), "cert": str(certificates.cert), **login}),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    try:
        port = json.loads(await server.stdout.readline())["port"]
        mail = smtp("mail", port, "starttls", ca_file=str(certificates.ca), **login)
        async with running(tmp_path, mail, data=data) as node:
            message = await node.final(await post(node, (await node.tenant()).key, **LETTER))
            assert message["status"] == "delivered"
            received = json.loads(await asyncio.wait_for(server.stdout.readline(), SOON_S))
    finally:
        server.stdin.close()
        await server.wait()
    assert (received["secure"], received["user"]) == (True, "acme")
    assert (received["from"], received["to"]) == ("news@acme.test", [LETTER["to"]])
    check_intact(b64decode(received["raw"]))


async def test_450_is_retried_and_550_falls_to_sms(tmp_path: Path, data: Path) -> None:
    async with (
        mailbox() as (port, box),
        running(tmp_path, smtp("mail", port) + mock("sms"), data=data) as node,
    ):
        key = (await node.tenant()).key
        box.replies["busy@example.test"] = ["450 4.2.1 mailbox busy"]
        box.replies["nobody@example.test"] = ["550 5.1.1 no such user"] * 9
        content = {"subject": "Code", "text": "Your code is 123456"}
        both = {"cascade": ["email", "sms"], "content": content}
        busy = await post(node, key, to={"email": "busy@example.test", "phone": "+4520120001"}, **both)
        nobody = await post(node, key, to={"email": "nobody@example.test", "phone": "+4520120001"}, **both)
        alone = await post(node, key, channel="email", to="nobody@example.test", content=content)

        message = await node.final(busy)
        assert (message["status"], message["delivered_by"]) == ("delivered", 0)
        tries = [(a["step"], a["attempt"], a["status"]) for a in message["attempts"]]
        assert tries == [(0, 1, "rejected"), (0, 2, "submitted")]
        assert message["attempts"][0]["error"]["code"] == "4.2.1"
        assert box.got("busy@example.test") == 1

        message = await node.final(nobody)
        assert (message["status"], message["delivered_by"]) == ("delivered", 1)
        tries = [(a["step"], a["attempt"], a["status"]) for a in message["attempts"]]
        assert tries == [(0, 1, "rejected"), (1, 1, "delivered")]
        error = message["attempts"][0]["error"]
        assert (error["class"], error["code"]) == ("invalid_destination", "5.1.1")
        assert "nobody@" not in json.dumps(message["events"])

        message = await node.final(alone)
        assert message["status"] == "failed"
        assert box.got("nobody@example.test") == 0


async def test_dead_server_fails_over_to_the_next_carrier_and_comes_back(tmp_path: Path, data: Path) -> None:
    content = {"subject": "Code", "text": "Your code is 123456"}
    async with mailbox() as (second_port, second):
        async with mailbox() as (port, first):
            carriers = smtp("first", port) + smtp("second", second_port)
            node = Node(tmp_path, carriers, data=data)
            try:
                await node.start()
                key = (await node.tenant()).key
                await node.final(await post(node, key, channel="email", to="one@example.test", content=content))
                assert (first.got("one@example.test"), second.got("one@example.test")) == (1, 0)
            except BaseException:
                await node.close()
                raise
        try:
            message = await node.final(await post(node, key, channel="email", to="two@example.test", content=content))
            assert message["status"] == "delivered"
            assert [(a["carrier"], a["status"]) for a in message["attempts"]] == [
                ("first", "rejected"),
                ("second", "submitted"),
            ]
            assert not any(attempt["recovered"] for attempt in message["attempts"])
            assert second.got("two@example.test") == 1
            async with mailbox(port) as (_, first):

                async def over_the_first() -> bool:
                    found = await node.final(
                        await post(node, key, channel="email", to="three@example.test", content=content)
                    )
                    return bool(found["attempts"][-1]["carrier"] == "first")

                await until(over_the_first, SOON_S, "mail goes over the first server again")
                assert first.got("three@example.test") == 1
        finally:
            await node.close()


async def test_mail_waits_for_its_only_server_and_leaves_when_it_is_back(tmp_path: Path, data: Path) -> None:
    content = {"subject": "Code", "text": "Your code is 123456"}
    async with mailbox() as (port, _):
        pass
    async with running(tmp_path, smtp("mail", port), data=data) as node:
        key = (await node.tenant()).key
        waiting = await post(node, key, channel="email", to="one@example.test", content=content)

        async def refused() -> bool:
            return len((await node.message(waiting))["attempts"]) >= 2

        await until(refused, SOON_S, "a first try is refused")
        async with mailbox(port) as (_, box):
            message = await node.final(waiting)
            assert message["status"] == "delivered"
            assert box.got("one@example.test") == 1
        assert {a["status"] for a in message["attempts"][:-1]} == {"rejected"}
