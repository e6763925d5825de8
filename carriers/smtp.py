"""Send e-mail through an SMTP server (submission or relay, KumoMTA included) over kept-open connections.

Invariants:
    At most `pool_size` connections are open or opening; who waits for one is served in order.
    Nothing that the settings want encrypted is said in clear text: a failed STARTTLS ends the connection.
    A loss is ambiguous from the writing of the dot that ends DATA until its answer is read, and only then.
    No error, log or inspection shows a credential, an address or the message.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import socket
import ssl
from binascii import b2a_base64
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import aiosmtplib
import msgspec
from aiosmtplib import SMTPException, SMTPResponseException, SMTPServerDisconnected

from carriers.base import (
    CallbackAnswer,
    CallbackRefused,
    CallbackRequest,
    Carrier,
    ReceiptSink,
    SendError,
    SendResult,
    Submission,
)
from carriers.errors import ErrorFact, classify_smtp
from carriers.kumomta import read_log_records
from carriers.mime import AddressError, Mailbox, encode_message, parse_address, parse_mailbox
from carriers.registry import CarrierSettings, Kind
from hermes.domain.message import rfc3339
from hermes.errors import SettingsError
from hermes.runtime.clock import Clock

# Seconds a connection is kept unused; well below the 300 that RFC 5321, 4.5.3.2.7 asks servers to wait.
CLOSE_IDLE_AFTER: Final = 30.0
_PORTS: Final = {"none": 25, "starttls": 587, "tls": 465}
_ENHANCED: Final = re.compile(r"[45]\.\d{1,3}\.\d{1,3}(?!\S)")  # the first word of a reply's text (RFC 2034, 4)
_QUEUE_IDS: Final = re.compile(r"\bids=([^\s,;]+)")  # KumoMTA answers DATA with its spool ids
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_SHOWN: Final = 200  # characters of a server's text in an error
_STAGES: Final = {
    "pool": "waiting for a connection",
    "connect": "connecting",
    "ehlo": "EHLO",
    "starttls": "STARTTLS",
    "auth": "AUTH",
    "mail": "MAIL FROM",
    "rcpt": "RCPT TO",
    "data": "DATA",
}


class SmtpSettings(CarrierSettings, frozen=True, kw_only=True):
    """Where and how to hand over e-mail.

    Attributes:
        port: default 587 with starttls, 465 with tls, 25 with none.
        tls: `none` says everything in clear text, the password too.
        ca_file: PEM file of the only authorities to trust; default the system's.
        from_: sender when the customer names none: an address, or `Name <address>`.
        receipts: log hooks will report what became of a message.
        webhook_secret: key of the log hooks' signature; without it they are refused.
        timeout_s: for one whole send, waiting for a connection included; 0 for none.
    """

    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    tls: Literal["starttls", "tls", "none"] = "starttls"
    ca_file: str | None = None
    username: str | None = None
    password: str | None = None
    pool_size: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 8
    from_: str | None = msgspec.field(name="from", default=None)
    receipts: bool = False
    webhook_secret: str | None = None
    timeout_s: Annotated[float, msgspec.Meta(ge=0)] = 30

    def __post_init__(self) -> None:
        if (self.username is None) != (self.password is None):
            raise ValueError("password: username and password go together")


@dataclass(slots=True)
class _Progress:
    """How far a send came. `ambiguous` iff the final dot was written and its answer not yet read."""

    stage: str = "pool"
    ambiguous: bool = False


@dataclass(slots=True, frozen=True)
class _Envelope:
    """A message ready to go.

    Attributes:
        message_id: of the Message-ID header, without brackets.
        private: what no error may repeat, even if the server does.
    """

    message_id: str
    sender: Mailbox
    to: Mailbox
    message: bytes
    private: tuple[str | None, ...]


class _Connection:
    """A connection that is logged in. `dirty` iff the server may hold a half-begun transaction."""

    __slots__ = ("client", "dirty", "idle_since", "protocol", "size", "utf8")

    def __init__(self, client: aiosmtplib.SMTP) -> None:
        assert client.protocol is not None
        self.client = client
        self.protocol = client.protocol
        self.size = client.supports_extension("size")
        self.utf8 = client.supports_extension("smtputf8")
        self.dirty = False
        self.idle_since = 0.0

    @property
    def alive(self) -> bool:
        return self.client.is_connected

    def close(self) -> None:
        self.client.close()

    def quit(self) -> None:
        """Say goodbye without waiting for the answer."""
        if self.alive:
            self.protocol.write(b"QUIT\r\n")
        self.client.close()


class SmtpCarrier(Carrier):
    """E-mail by SMTP. What the server took is its to deliver; log hooks may tell what became of it."""

    kind = "smtp"

    def __init__(self, name: str, channel: str, settings: SmtpSettings, *, clock: Clock, cost: float = 0.0) -> None:
        super().__init__(name, channel, cost=cost)
        self.settings = settings
        self.receipts = settings.receipts
        self._clock = clock
        self._port = settings.port or _PORTS[settings.tls]
        self._tls = _tls_context(name, settings)
        try:
            self._sender = None if settings.from_ is None else parse_mailbox(settings.from_)
        except AddressError as exc:
            raise SettingsError(f"carrier {name!r}: from: {exc}") from None
        host = socket.gethostname()
        self._own_name = host if _HOST.fullmatch(host) else "localhost"
        self._login = _login_forms(settings)
        self._closed = False
        self._open = 0  # connections open or opening
        self._idle: deque[_Connection] = deque()  # longest idle first; the last one is used first
        self._waiting: deque[asyncio.Future[_Connection | None]] = deque()
        self._idle_timer = False  # True iff a call of _close_idle is due
        self._last_error: str | None = None
        self._last_ok_at: datetime | None = None

    async def open(self, sink: ReceiptSink) -> None:
        self.sink = sink
        self._closed = False

    async def close(self) -> None:
        self._closed = True
        while self._idle:
            self._open -= 1
            self._idle.popleft().quit()

    async def send(self, submission: Submission) -> SendResult:
        try:
            envelope = self._envelope(submission)
            answer = await self._on_a_connection(lambda c, progress: self._hand_over(c, envelope, progress))
        except SendError as error:
            self._last_error = str(error)
            raise
        self._last_ok_at = self._clock.now()
        queue_ids = _QUEUE_IDS.search(answer)
        return SendResult((queue_ids[1] if queue_ids else envelope.message_id,))

    async def on_callback(self, request: CallbackRequest) -> CallbackAnswer:
        """Read a KumoMTA log hook, signed as `/v1/webhooks/dlr` is: HMAC-SHA256 of the raw body."""
        if self.settings.webhook_secret is None:
            raise CallbackRefused(403, f"carrier {self.name} has no webhook_secret")
        secret = self.settings.webhook_secret.encode()
        wanted = "sha256=" + hmac.new(secret, request.body, hashlib.sha256).hexdigest()
        given = request.headers.get("x-hermes-signature", "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode()):
            raise CallbackRefused(401, "X-Hermes-Signature is missing or wrong")
        try:
            return CallbackAnswer(read_log_records(self.name, request.body))
        except ValueError:
            return CallbackAnswer(status=400, body=b"not a KumoMTA log record")

    async def health(self) -> str | None:
        try:
            await self._on_a_connection(self._noop)
        except SendError as error:
            self._last_error = str(error)
            return error.detail
        return None

    def inspect(self) -> dict[str, Any]:
        return {
            "host": self.settings.host,
            "port": self._port,
            "tls": self.settings.tls,
            "connections": {
                "open": self._open,
                "idle": len(self._idle),
                "in_use": self._open - len(self._idle),
                "pool_size": self.settings.pool_size,
            },
            "waiting": sum(not future.done() for future in self._waiting),
            "last_error": self._last_error,
            "last_ok_at": None if self._last_ok_at is None else rfc3339(self._last_ok_at),
        }

    # The message

    def _envelope(self, submission: Submission) -> _Envelope:
        content = submission.content
        if content.text is None and content.html is None:
            raise SendError("invalid_request", None, "the content has neither text nor html")
        try:
            sender = self._sender if submission.sender is None else _parse_sender(submission.sender)
        except AddressError as exc:
            raise SendError("invalid_request", None, f"from: {exc}") from None
        if sender is None:
            raise SendError("provider_config", None, "neither the message nor the carrier names a sender (`from`)")
        try:
            to = parse_address(submission.to)
        except AddressError as exc:
            raise SendError("invalid_destination", None, f"to: {exc}") from None
        # The same on every try of the step, so that who gets it twice can tell.
        message_id = f"{submission.message_id}.{submission.step}@{sender.domain}"
        message = encode_message(
            sender,
            to,
            content.subject,
            content.text,
            content.html,
            message_id=message_id,
            date=self._clock.now(),
        )
        private = (
            submission.to,
            sender.address,
            sender.name,
            content.subject,
            content.text,
            content.html,
            *self._login,
        )
        return _Envelope(message_id, sender, to, message, private)

    async def _hand_over(self, connection: _Connection, envelope: _Envelope, progress: _Progress) -> str:
        """Run one mail transaction; return the text of the answer to the final dot."""
        sender, to, protocol = envelope.sender, envelope.to, connection.protocol
        options = []
        if sender.needs_utf8 or to.needs_utf8:
            if not connection.utf8:
                error_class = "sender_not_allowed" if sender.needs_utf8 else "invalid_destination"
                raise SendError(error_class, None, "the address needs SMTPUTF8, which the server does not offer")
            options = [b"SMTPUTF8", b"BODY=8BITMIME"]
        if connection.size:
            options.append(b"SIZE=%d" % len(envelope.message))
        if connection.dirty:
            code, _ = await protocol.execute_command(b"RSET")
            if code != 250:
                raise SMTPServerDisconnected("RSET refused")
        connection.dirty = True
        self._check(
            await protocol.execute_command(b"MAIL", b"FROM:<" + sender.address.encode() + b">", *options),
            2,
            connection,
            envelope,
            progress,
        )
        progress.stage = "rcpt"
        self._check(
            await protocol.execute_command(b"RCPT", b"TO:<" + to.address.encode() + b">"),
            2,
            connection,
            envelope,
            progress,
        )
        progress.stage = "data"
        self._check(await protocol.execute_command(b"DATA"), 3, connection, envelope, progress)
        protocol.write(envelope.message + b".\r\n")
        progress.ambiguous = True
        answer = await protocol.read_response()
        self._check(answer, 2, connection, envelope, progress)
        connection.dirty = False
        return answer.message

    async def _noop(self, connection: _Connection, progress: _Progress) -> str:
        code, text = await connection.protocol.execute_command(b"NOOP")
        if code >= 400:
            connection.close()
            raise _refusal(code, text, ErrorFact("retryable_transient", True), "NOOP", self._login)
        return text

    def _check(
        self,
        reply: tuple[int, str],
        wanted: int,
        connection: _Connection,
        envelope: _Envelope,
        progress: _Progress,
    ) -> None:
        """Let a reply that begins with `wanted` pass.

        Raises:
            SendError: a refusal.
            SMTPResponseException: no SMTP server says such a thing here.
        """
        code, text = reply
        if code // 100 == wanted:
            progress.ambiguous = False
        elif 400 <= code <= 599:
            progress.ambiguous = False
            fact = classify_smtp(code, _enhanced(code, text), progress.stage)
            if code == 421 or fact.error_class == "provider_auth":
                connection.close()  # it is closing; or a new login may help
            raise _refusal(code, text, fact, _STAGES[progress.stage], envelope.private)
        else:
            raise SMTPResponseException(code, "")

    # Connections

    async def _on_a_connection(self, work: Callable[[_Connection, _Progress], Awaitable[str]]) -> str:
        """Do `work` on a kept or new connection within the time limit.

        A kept connection that turns out to be dead before it answered anything is replaced, once.

        Raises:
            SendError: refused, lost, or out of time.
        """
        progress = _Progress()
        try:
            async with asyncio.timeout(self.settings.timeout_s or None):
                connection = await self._take()
                try:
                    kept = connection is not None
                    while True:
                        if connection is None:
                            connection = await self._connect(progress)
                        progress.stage = "mail"
                        try:
                            return await work(connection, progress)
                        except SendError:
                            if not kept or connection.alive or progress.stage != "mail":
                                raise
                        except (SMTPException, OSError) as exc:
                            connection.close()
                            if not kept or progress.stage != "mail":
                                raise _lost(progress, _reason(exc)) from None
                        except BaseException:
                            connection.close()
                            raise
                        connection, kept = None, False
                finally:
                    self._give_back(connection)
        except TimeoutError:
            raise _lost(progress, f"no answer within {self.settings.timeout_s:g} s") from None

    async def _take(self) -> _Connection | None:
        """Get a kept connection, or None for the right to open one. Give back either."""
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                return connection
            self._open -= 1
        if self._open < self.settings.pool_size:
            self._open += 1
            return None
        turn: asyncio.Future[_Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(turn.result())
            raise

    def _give_back(self, connection: _Connection | None) -> None:
        if self._closed and connection is not None:
            connection.quit()
        if connection is not None and not connection.alive:
            connection = None
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        if connection is None:
            self._open -= 1
            return
        connection.idle_since = self._clock.monotonic()
        self._idle.append(connection)
        if not self._idle_timer:
            self._idle_timer = True
            self._clock.call_later(CLOSE_IDLE_AFTER, self._close_idle)

    def _close_idle(self) -> None:
        self._idle_timer = False
        now = self._clock.monotonic()
        while self._idle and (not self._idle[0].alive or now - self._idle[0].idle_since >= CLOSE_IDLE_AFTER):
            self._open -= 1
            self._idle.popleft().quit()
        if self._idle:
            self._idle_timer = True
            left = self._idle[0].idle_since + CLOSE_IDLE_AFTER - now
            self._clock.call_later(max(left, 0.001), self._close_idle)

    async def _connect(self, progress: _Progress) -> _Connection:
        settings = self.settings
        progress.stage = "connect"
        client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=self._port,
            local_hostname=self._own_name,
            use_tls=settings.tls == "tls",
            start_tls=False,
            tls_context=self._tls,
            timeout=None,  # the whole send has one
        )
        try:
            await client.connect()
            progress.stage = "ehlo"
            await _hello(client)
            if settings.tls == "starttls":
                progress.stage = "starttls"
                if not client.supports_extension("starttls"):
                    raise SendError("provider_config", None, "STARTTLS: the server does not offer it")
                await client.starttls()
                await _hello(client)
            if settings.username is not None and settings.password is not None:
                progress.stage = "auth"
                await client.login(settings.username, settings.password)
            return _Connection(client)
        except (SMTPException, OSError, ValueError) as exc:
            client.close()
            raise _connect_error(progress.stage, exc, self._login) from None
        except BaseException:
            client.close()
            raise


async def _hello(client: aiosmtplib.SMTP) -> None:
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError:
        if not client.is_connected:
            raise
        await client.helo()


def _tls_context(name: str, settings: SmtpSettings) -> ssl.SSLContext | None:
    if settings.tls == "none":
        return None
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        raise SettingsError(f"carrier {name!r}: ca_file: cannot be read as PEM certificates") from exc


def _login_forms(settings: SmtpSettings) -> tuple[str, ...]:
    """List the ways a server can repeat our login."""
    if settings.username is None or settings.password is None:
        return ()
    plain = (settings.username, settings.password, f"\0{settings.username}\0{settings.password}")
    return (*plain[:2], *(b2a_base64(form.encode(), newline=False).decode() for form in plain))


@lru_cache(maxsize=256)
def _parse_sender(text: str) -> Mailbox:
    return parse_mailbox(text)


def _enhanced(code: int, text: str) -> str | None:
    found = _ENHANCED.match(text)
    return found[0] if found and found[0][0] == str(code)[0] else None


def _refusal(code: int, text: str, fact: ErrorFact, stage: str, private: tuple[str | None, ...]) -> SendError:
    enhanced = _enhanced(code, text)
    said = _mask(text[len(enhanced or "") :], private)
    detail = " ".join(filter(None, (f"{stage}: {code}", enhanced, said)))
    return SendError(fact.error_class, enhanced or str(code), detail, retryable=fact.retryable)


def _mask(text: str, private: tuple[str | None, ...]) -> str:
    """Make a server's text fit to be logged: no address, and no word or number that the message holds too."""
    text = re.sub(r"\S*@\S*", "<address>", text.encode("ascii", "replace").decode())
    text = " ".join(re.sub(r"[\x00-\x20\x7f]+", " ", text).split())[:_SHOWN]
    known = "\n".join(filter(None, private)).casefold()

    def shown(word: re.Match[str]) -> str:
        telling = len(word[0]) > 3 or (len(word[0]) > 1 and any(map(str.isdigit, word[0])))
        return "*" if telling and word[0].casefold() in known else word[0]

    return re.sub(r"\w+", shown, text)


def _lost(progress: _Progress, why: str) -> SendError:
    if progress.ambiguous:
        return SendError("retryable_transient", None, f"after the final dot: {why}", ambiguous=True)
    return SendError("retryable_transient", None, f"{_STAGES[progress.stage]}: {why}", retryable=True)


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def _reason(exc: BaseException) -> str:
    """Say in a few words why a connection failed; nothing the server said, as that may hold an address.

    For the same reason these errors are raised `from None`.
    """
    if isinstance(exc, SMTPResponseException):
        return "not an SMTP reply"
    system = next((e for e in _causes(exc) if isinstance(e, OSError) and e.strerror), None)
    if isinstance(system, ssl.SSLError):
        return f"TLS failed: {system.reason or type(system).__name__}"
    if isinstance(system, OSError) and system.errno:
        return f"{type(system).__name__}: {_mask(system.strerror or '', ())}"
    return "connection lost" if isinstance(exc, ConnectionError) else type(exc).__name__


def _connect_error(stage: str, exc: Exception, private: tuple[str, ...]) -> SendError:
    """Say what a failed connection means. Nothing was sent, so it is never ambiguous."""
    label = _STAGES[stage]
    for cause in _causes(exc):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return SendError("provider_config", None, f"{label}: certificate refused: {cause.verify_message}")
    if isinstance(exc, SMTPResponseException) and 400 <= exc.code <= 599:
        fact = ErrorFact("retryable_transient", True)
        if stage == "auth":
            fact = classify_smtp(exc.code, _enhanced(exc.code, exc.message), "auth")
        elif stage == "starttls" and exc.code >= 500:
            fact = ErrorFact("provider_config", False)
        return _refusal(exc.code, exc.message, fact, label, private)
    if stage == "auth" and (type(exc) is SMTPException or isinstance(exc, ValueError)):
        return SendError("provider_config", None, f"{label}: the server offers no login we can do")
    return SendError("retryable_transient", None, f"{label}: {_reason(exc)}", retryable=True)


KIND: Final = Kind("smtp", SmtpSettings, SmtpCarrier, frozenset({"email"}))
