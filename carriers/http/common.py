"""What the carriers over HTTP share: one kept-open client each, and what a failed call means.

Invariants:
    A loss is ambiguous from the moment the request has its connection until its whole answer is read, and only
    then. What failed before (DNS, connecting, TLS, waiting for a free connection) was certainly not sent.
    No error repeats what the other side said, an address, the message or a credential; none keeps the cause,
    whose text may. So errors are raised outside of `except`.
    Redirects are never followed: they would carry the message and its credentials elsewhere.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

import aiohttp
import msgspec

from carriers.base import CallbackRequest, Carrier, ReceiptSink, SendError, SendResult, Submission
from carriers.errors import ErrorFact, classify_answer, meaning
from carriers.http.deadlines import Deadlines
from carriers.http.post import NotHttp, Poster
from carriers.registry import CarrierSettings
from hermes import __version__
from hermes.domain.message import rfc3339
from hermes.runtime.clock import Clock

if TYPE_CHECKING:
    from aiohttp.client import ClientTimeout
    from aiohttp.client_reqrep import ClientRequest
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

MAX_ANSWER: Final = 65_536  # octets of an answer that are read; the largest in the contracts has 2,000
CONNECTIONS: Final = 100  # open at most to one provider; `max_in_flight` bounds the calls
KEEP_ALIVE_S: Final = 15.0  # of an unused connection: below the 60 s after which load balancers usually close it
LONGEST_RETRY_AFTER_S: Final = 86_400.0
MAX_FIELDS: Final = 200  # of a form; a provider's webhook has at most some 60
USER_AGENT: Final = f"Hermes/{__version__}"

_T = TypeVar("_T")
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class HttpSettings(CarrierSettings, frozen=True, kw_only=True):
    """What every HTTP kind can be told.

    Attributes:
        base_url: the provider's host root, to which its whole path is appended; None: its own.
        timeout_s: for one whole call; 0 for none.
    """

    base_url: str | None = None
    timeout_s: Seconds = 10

    def __post_init__(self) -> None:
        if self.base_url is not None and (problem := _bad_root(self.base_url)):
            raise ValueError(f"base_url: {problem}")


def _bad_root(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "must be http:// or https:// and a host"
    if parts.username is not None or parts.query or parts.fragment:
        return "may hold no login, query or fragment"
    return None


@dataclass(slots=True, frozen=True, repr=False)
class HttpAnswer:
    """An answer that was read to its end.

    Attributes:
        headers: names are looked up in any case.
        body: empty when it was longer than MAX_ANSWER.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """Give the JSON object of the body; an empty one when it is anything else."""
        try:
            found = msgspec.json.decode(self.body)
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


class _Progress:
    """How far a call came. `left` iff it had its connection: its bytes may be on their way."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = False


_progress: Final[ContextVar[_Progress]] = ContextVar("carriers.http.progress")
_traceparent: Final[ContextVar[str | None]] = ContextVar("carriers.http.traceparent", default=None)


class _Connector(aiohttp.TCPConnector):
    """Notes when a call has its connection, and names its span. Tracing could too, for 15 us a call."""

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        connection = await super().connect(req, traces, timeout)
        _progress.get().left = True
        parent = _traceparent.get()
        if parent is not None:  # here, because a provider's own library may make the request
            req.headers["traceparent"] = parent
        return connection


class _Response(aiohttp.ClientResponse):
    """Keeps nothing of a body that is too long; its connection is then not used again."""

    async def read(self) -> bytes:
        if self._body is None:
            body = b""
            try:
                while chunk := await self.content.readany():
                    body = body + chunk if body else chunk
                    if len(body) > MAX_ANSWER:
                        self.close()
                        body = b""
                        break
            except BaseException:
                self.close()
                raise
            self._body = body
        return self._body


class HttpClient:
    """Calls one provider over kept-open connections.

    Attributes:
        headers: of every call, as they are when it is opened; 6 us a call cheaper than with each one.
    """

    def __init__(self, timeout_s: float) -> None:
        self.headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        self._timeout_s = timeout_s
        self._deadlines = Deadlines(timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._poster: Poster | None = None  # of the same connections

    async def open(self) -> None:
        """Get ready; nothing is connected yet."""
        await self.close()
        connector = _Connector(limit=CONNECTIONS, keepalive_timeout=KEEP_ALIVE_S)
        self._poster = Poster(connector, self.headers, MAX_ANSWER)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self.headers,
            response_class=_Response,
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None),
        )

    async def close(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        self._deadlines.close()

    async def request(
        self,
        method: str,
        url: str,
        *,
        data: bytes | Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpAnswer:
        """Make one call; never follows a redirect, never tries again.

        Raises:
            SendError: there was no answer. `ambiguous` iff the request may have arrived.
        """

        async def call(session: aiohttp.ClientSession) -> HttpAnswer:
            if method == "POST" and isinstance(data, bytes) and self._poster is not None:
                parent = _traceparent.get()
                own = headers if parent is None else {**(headers or {}), "traceparent": parent}
                return HttpAnswer(*await self._poster.post(url, data, own))
            # Not `async with`: an answer that was read to its end has given its connection back.
            response = await session.request(method, url, data=data, headers=headers, allow_redirects=False)
            return HttpAnswer(response.status, response.headers, await response.read())

        return await self.run(call)

    async def run(self, call: Callable[[aiohttp.ClientSession], Awaitable[_T]]) -> _T:
        """Do one call in a way of the caller's own, within the time limit.

        `call` must read the answer to its end, and follow no redirect. Raises as `request` does.
        """
        session = self._session
        if session is None:
            raise SendError("retryable_transient", None, "connecting: the carrier is not open", retryable=True)
        progress = _Progress()
        _progress.set(progress)
        try:
            return await self._deadlines.run(call(session))
        except TimeoutError:
            why, fact = f"no answer within {self._timeout_s:g} s", _TRANSIENT
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            why, fact = _reason(exc)
        if progress.left:
            raise SendError("retryable_transient", None, f"after the request left: {why}", ambiguous=True)
        raise SendError(fact.error_class, None, f"connecting: {why}", retryable=fact.retryable)


_TRANSIENT: Final = ErrorFact("retryable_transient", True)
_CONFIG: Final = ErrorFact("provider_config", False)


def _reason(exc: BaseException) -> tuple[str, ErrorFact]:
    """Say in a few words why a call had no answer, without anything the other side said."""
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        found = exc.certificate_error
        told = found.verify_message if isinstance(found, ssl.SSLCertVerificationError) else "not for this host"
        return f"certificate refused: {told}", _CONFIG
    if isinstance(exc, aiohttp.ClientConnectorSSLError):
        return "TLS failed", _TRANSIENT
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return "the host's name has no address", _TRANSIENT
    if isinstance(exc, aiohttp.ClientConnectorError):
        return type(exc.os_error).__name__, _TRANSIENT
    if isinstance(exc, aiohttp.ClientResponseError | NotHttp):
        return "not an HTTP answer", _TRANSIENT
    if isinstance(exc, aiohttp.ClientPayloadError):
        return "the answer broke off", _TRANSIENT
    if isinstance(exc, ConnectionError | aiohttp.ServerDisconnectedError):
        return "connection lost", _TRANSIENT
    return type(exc).__name__, _TRANSIENT


def refusal(
    provider: str,
    answer: HttpAnswer,
    code: str | int | None = None,
    *,
    fact: ErrorFact | None = None,
    retry_after_s: float | None = None,
    now: datetime | None = None,
) -> SendError:
    """Make the error of an answer that took nothing.

    Args:
        provider: as in errors.yaml.
        answer: what came; nothing of its body is repeated.
        code: the provider's own; None when the answer holds none.
        fact: what it means, when the table alone cannot say.
        retry_after_s: when the provider says so elsewhere than in Retry-After.
        now: for a Retry-After that is a date.

    Returns:
        An ambiguous one when the message may have been taken nonetheless: a 2xx that names no refusal and no
        id, and a 504, with which a proxy gives up waiting for an answer. Their class is `unknown` and
        `retryable_transient`.
    """
    status = answer.status
    if code is None and 200 <= status <= 299:
        return SendError("unknown", None, f"HTTP {status}: the answer cannot be understood", ambiguous=True)
    if code is None and 300 <= status <= 399:
        return SendError("provider_config", None, f"HTTP {status}: redirects are not followed")
    fact = fact or classify_answer(provider, code, status)
    said = "" if code is None else meaning(provider, "api", code)
    detail = f"HTTP {status}: {said}" if said else f"HTTP {status}"
    if code is None and status == 504:
        return SendError(fact.error_class, None, detail, ambiguous=True)
    if retry_after_s is None and fact.retryable:
        retry_after_s = retry_after(answer.headers.get("Retry-After"), now)
    return SendError(
        fact.error_class,
        None if code is None else str(code)[:64],
        detail,
        retryable=fact.retryable,
        retry_after_s=retry_after_s,
    )


def retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Read a Retry-After (RFC 9110, 10.2.3): seconds to wait, at most a day; None when it cannot be read.

    A date needs `now`, aware.
    """
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), LONGEST_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    if now is None:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return min(max((at - now).total_seconds(), 0.0), LONGEST_RETRY_AFTER_S)


class HttpCarrier(Carrier):
    """A carrier over HTTP. A kind says `root`, `provider`, `submit`, `check` and what its webhooks mean.

    Attributes:
        provider: its name in errors.yaml.
        root: the provider's own host root; the settings' `base_url` wins.
    """

    provider: str
    root: str

    def __init__(self, name: str, channel: str, settings: HttpSettings, *, clock: Clock, cost: float = 0.0) -> None:
        super().__init__(name, channel, cost=cost)
        self.base_url = (settings.base_url or self.root).rstrip("/")
        self.clock = clock
        self.client = HttpClient(settings.timeout_s)
        self._last_error: str | None = None
        self._last_ok_at: datetime | None = None

    async def open(self, sink: ReceiptSink) -> None:
        self.sink = sink
        await self.client.open()

    async def close(self) -> None:
        await self.client.close()

    async def send(self, submission: Submission) -> SendResult:
        _traceparent.set(submission.traceparent)
        return await self._noted(self.submit, submission)

    async def submit(self, submission: Submission) -> SendResult:
        """Ask the provider to take one message; raises SendError as `Carrier.send` does."""
        raise NotImplementedError

    async def check(self) -> None:
        """Ask the provider something that needs its credentials and costs nothing.

        Raises:
            SendError: it is not well.
        """
        raise NotImplementedError

    async def health(self) -> str | None:
        try:
            await self._noted(self.check)
        except SendError as error:
            return f"{error.error_class}: {error.detail}"
        return None

    async def _noted(self, call: Callable[..., Awaitable[_T]], *given: Any) -> _T:
        try:
            result = await call(*given)
        except SendError as error:
            self._last_error = str(error)
            raise
        self._last_ok_at = self.clock.now()
        return result

    def inspect(self) -> dict[str, Any]:
        return {
            "base_url": self.base_url,
            "last_error": self._last_error,
            "last_ok_at": None if self._last_ok_at is None else rfc3339(self._last_ok_at),
        }


def form(text: str | bytes) -> list[tuple[str, str]] | None:
    """Read an `application/x-www-form-urlencoded` body or a query, in order; None for one that is none."""
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        return parse_qsl(decoded, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        return None


def json_object(body: bytes) -> dict[str, Any] | None:
    """Read a JSON object; None for anything else."""
    try:
        found = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def is_json(request: CallbackRequest) -> bool:
    """Tell whether a call says that its body is JSON."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")
