"""SMTP servers for tests: one whose every reply is scripted, one by aiosmtpd; and certificates."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DROP = "drop"  # as a reply: close the connection instead
HANG = "hang"  # as a reply: say nothing
DEFAULT_REPLIES = {
    "GREETING": "220 scripted ESMTP",
    "EHLO": "250-scripted\r\n250-SIZE 1000000\r\n250 ENHANCEDSTATUSCODES",
    "MAIL": "250 2.1.0 OK",
    "RCPT": "250 2.1.5 OK",
    "DATA": "354 go on",
    ".": "250 2.0.0 OK",
    "RSET": "250 2.0.0 OK",
    "NOOP": "250 2.0.0 OK",
    "QUIT": "221 2.0.0 bye",
}


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop run until something is so."""
    for _ in range(200_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came to that")


@dataclass
class ScriptedSmtp:
    """A server that answers as told: `replies` by verb, `once` for the next use of a verb only.

    `heard` holds every line of every connection, `connections` counts them, `most_open` is the most at once.
    """

    replies: dict[str, str] = field(default_factory=lambda: dict(DEFAULT_REPLIES))
    once: dict[str, list[str]] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    connections: int = 0
    most_open: int = 0
    port: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _handlers: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    def __post_init__(self) -> None:
        self.gate.set()

    def verbs(self) -> list[str]:
        return [line.split()[0] if line else "" for line in self.heard]

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Die: refuse new connections and reset those there are."""
        assert self._server is not None
        self._server.close()
        for writer in list(self.writers):
            writer.transport.abort()
        if self._handlers:
            await asyncio.wait(self._handlers)

    def drop_all(self) -> None:
        for writer in self.writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handler = asyncio.current_task()
        assert handler is not None
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)
        self.connections += 1
        self.writers.add(writer)
        self.most_open = max(self.most_open, len(self.writers))
        try:
            if not await self._reply(writer, "GREETING"):
                return
            while line := await reader.readline():
                text = line.decode().rstrip("\r\n")
                self.heard.append(text)
                verb = text.split(" ")[0].split(":")[0].upper()
                if verb == "MAIL":
                    await self.gate.wait()
                if not await self._reply(writer, verb):
                    return
                if verb == "QUIT":
                    return
                if verb == "DATA" and self.replies["DATA"].startswith("354"):
                    self.messages.append(await reader.readuntil(b"\r\n.\r\n"))
                    if not await self._reply(writer, "."):
                        return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.writers.discard(writer)

    async def _reply(self, writer: asyncio.StreamWriter, verb: str) -> bool:
        queued = self.once.get(verb)
        reply = queued.pop(0) if queued else self.replies.get(verb, "500 5.5.1 what?")
        if reply == DROP:
            return False
        if reply != HANG:
            writer.write(reply.encode("latin-1") + b"\r\n")
        return True


@asynccontextmanager
async def scripted(**replies: str) -> AsyncIterator[ScriptedSmtp]:
    server = ScriptedSmtp()
    server.replies.update(replies)
    await server.start()
    try:
        yield server
    finally:
        server.gate.set()
        await server.stop()


@dataclass
class Received:
    sender: str
    to: list[str]
    raw: bytes
    secure: bool


class Inbox:
    """Handler for aiosmtpd that keeps what it gets."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.logins: list[tuple[str, str]] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.received.append(
            Received(
                envelope.mail_from or "",
                list(envelope.rcpt_tos),
                envelope.content,
                session.ssl is not None,
            )
        )
        return "250 2.0.0 OK"


@asynccontextmanager
async def aiosmtpd_server(
    tls: ssl.SSLContext | None = None, login: tuple[str, str] | None = None, **options: Any
) -> AsyncIterator[tuple[int, Inbox]]:
    inbox = Inbox()

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        pair = (given.login.decode(), given.password.decode())
        inbox.logins.append(pair)
        return AuthResult(success=pair == login, handled=False)

    def make() -> SMTP:
        return SMTP(
            inbox,
            hostname="localhost",
            tls_context=tls,
            require_starttls=tls is not None,
            auth_required=login is not None,
            authenticator=authenticate if login else None,
            **options,
        )

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], inbox
    finally:
        server.close()


@dataclass
class Certificates:
    """Files of an authority and of a server it vouches for, by default `localhost` and 127.0.0.1."""

    ca: Path
    cert: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def make_certificates(
    folder: Path, name: str = "ca", host: str = "localhost", address: str = "127.0.0.1"
) -> Certificates:
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Hermes test {name}")])
    ca = (
        _certificate(ca_name, ca_name, ca_key)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    cert = (
        _certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)]), ca_name, key)
        # Python 3.13 and newer verify strictly (RFC 5280, 4.2.1.1): a certificate names its authority's key.
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host), x509.IPAddress(ip_address(address))]),
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    made = Certificates(*(folder / f"{name}-{part}.pem" for part in ("ca", "cert", "key")))
    made.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made.cert.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    made.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return made


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
    )
