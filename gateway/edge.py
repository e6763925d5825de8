"""What the HTTP edge needs from the rest of Hermes, and what one request is while it is answered."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from gateway.connection import BodyBroken, BodyTooLarge
from gateway.connection import Reply as Reply
from gateway.connection import Request as Request
from gateway.decode import decode_json
from gateway.limits.base import Limits
from gateway.problems import Problem, from_refusal, invalid, not_found
from gateway.shapes import Nothing
from gateway.workers.counts import Gone
from gateway.workers.peers import Peers
from hermes.domain.commands import Listed, Refused, SettingRefused
from hermes.domain.message import Message, new_message_id
from hermes.journal.base import ApiKey, Journal, JournalAway, Tenant, WorkerRow
from hermes.journal.directory import Author, Directory
from hermes.journal.suppressions import Suppressions
from hermes.runtime import Clock, System

if TYPE_CHECKING:
    from carriers.base import Carrier
    from hermes.metrics import Metrics
    from hermes.settings import RouteSettings, Settings

T = TypeVar("T")

ANSWER_WITHIN_S: Final = 1.8  # of the contract's 2 s, from the moment the request is read; the rest is for the loop
BODY_WITHIN_S: Final = 30.0  # a body that takes longer is a caller that holds a connection, not a slow network

encode: Final = msgspec.json.Encoder().encode
_nothing: Final = msgspec.json.Decoder(Nothing)


class Fleet(Protocol):
    """The carriers and routes there are (`actors.fleet.Fleet`, which says what each method raises)."""

    def listed(self) -> list[Listed]:
        """List all carriers but the sandbox."""

    @property
    def empty(self) -> bool:
        """Whether there is no carrier, or none is enabled."""

    def secret(self, name: str) -> str | None:
        """A carrier's `secret`, for /v1/webhooks/dlr; None when it has none, or does not exist."""

    def routes(self) -> list[RouteSettings]:
        """List the routes in order."""

    async def add(self, entry: Mapping[str, Any]) -> str:
        """Add a carrier; returns its name."""

    async def change(self, name: str, entry: Mapping[str, Any]) -> None:
        """Replace the settings that are named."""

    async def remove(self, name: str) -> None:
        """Remove a carrier."""

    async def set_routes(self, entries: Sequence[Any]) -> None:
        """Replace the live routes."""


@dataclass(slots=True)
class Edge:
    """What the gateway is given.

    Attributes:
        operator_key: the operator's bearer key, as text.
        limits: what a tenant may send; counted here or in Redis.
        ready: whether messages can be accepted now; must answer at once.
        default_success: (channel, mode) -> submitted or delivered, by what its carriers can tell.
        carriers: whose callbacks are taken, by configured name; looked at for each callback, so it may change.
        fleet: the carriers and routes there are, and how they are changed.
        explain: which carriers a message would take, as `/v1/routes/explain` answers.
        peers: the other workers.
        new_message_id: makes one that is for this worker, by when its request was read; raises Refused.
        gone: what workers that have ended had counted.
        resolve: host name -> addresses; raises OSError when it cannot. The system's resolver when absent.
    """

    settings: Settings
    system: System
    journal: Journal
    directory: Directory
    suppressions: Suppressions
    limits: Limits
    clock: Clock
    operator_key: str = field(repr=False)
    ready: Callable[[], bool]
    default_success: Callable[[str, str], str]
    carriers: Mapping[str, Carrier]
    fleet: Fleet
    metrics: Metrics
    explain: Callable[[Message], list[Any]] = lambda message: []
    new_message_id: Callable[[datetime], str] = new_message_id
    resolve: Callable[[str], Awaitable[list[str]]] | None = None
    public_url: str = field(default="")
    gone: Gone = field(default_factory=Gone)
    peers: Peers = field(init=False)

    def __post_init__(self) -> None:
        self.peers = Peers(self.journal, self.clock)
        if not self.public_url:
            server = self.settings.server
            self.public_url = server.public_url or f"http://{server.host}:{server.port}"


@dataclass(slots=True)
class Caller:
    """Who asks. The operator has no key and no tenant."""

    key: ApiKey | None
    tenant: Tenant | None

    @property
    def operator(self) -> bool:
        """Tell whether it is the operator."""
        return self.key is None


NOBODY: Final = Caller(None, None)
OPERATOR: Final = Caller(None, None)


def author(call: Call) -> Author:
    """Say who makes a change, for the audit log."""
    key = call.caller.key
    return Author("operator" if key is None else key.id, call.request_id)


class Call:
    """One request: what was asked, by whom, and how to answer.

    Attributes:
        params: parts of the path by name, percent-decoded.
        caller: set by `app.py` before the handler runs.
        local: another worker asks: the answer is about this one only.
    """

    __slots__ = ("_raw", "caller", "edge", "local", "method", "params", "request", "request_id")

    def __init__(self, edge: Edge, request: Request, request_id: str) -> None:
        self.edge = edge
        self.request = request
        self.request_id = request_id
        self.method = request.method
        self.params: Mapping[str, str] = {}
        self.caller = NOBODY
        self.local = False
        self._raw: bytes | None = None

    async def others(self) -> list[WorkerRow]:
        """List the other workers that the answer is about as well."""
        return [] if self.local else await self.edge.peers.others()

    @property
    def traceparent(self) -> str | None:
        """The caller's trace context (W3C Trace Context, 3.2), as sent."""
        return self.request.headers.get("traceparent")

    async def raw_body(self, limit: int) -> bytes:
        """Read the body's octets as they were sent; again, they are the same.

        Raises:
            Problem: too_large, malformed_json (it broke off), request_timeout.
        """
        if self._raw is None:
            declared = self.request.headers.get("Content-Length")
            if declared is not None and int(declared) > limit:
                raise _too_large(limit)
            self._raw = self.request.whole_body()
            if self._raw is None:
                self._raw = await self._slow_body(limit)
        return self._raw

    async def body(self, limit: int) -> bytes:
        """Read the body.

        Raises:
            Problem: too_large, unsupported_media_type (an unknown coding), malformed_json (it broke off),
                request_timeout.
        """
        headers = self.request.headers
        declared = headers.get("Content-Length")
        if declared is not None and int(declared) > limit:
            raise _too_large(limit)
        coding = headers.get("Content-Encoding", "").lower()
        plain = coding in ("", "identity")
        if not plain and coding not in ("gzip", "x-gzip", "deflate"):  # RFC 9110, 8.4.1.3: x-gzip is gzip
            raise Problem("unsupported_media_type", "Content-Encoding can be gzip, deflate or identity.")
        body = await self.raw_body(limit)
        if not plain:
            body = _decompressed(body, limit)
        if len(body) > limit:
            raise _too_large(limit)
        return body

    async def _slow_body(self, limit: int) -> bytes:
        try:
            async with asyncio.timeout(BODY_WITHIN_S):
                return await self.request.slow_body(limit)
        except TimeoutError as exc:
            raise Problem("request_timeout", f"The body did not arrive within {BODY_WITHIN_S:g} s.") from exc
        except BodyTooLarge as exc:
            raise _too_large(limit) from exc
        except BodyBroken as exc:
            raise Problem("malformed_json", "The body broke off, or its coding is wrong.") from exc

    async def json_body(self, limit: int) -> bytes:
        """Read a body that should be JSON. A missing content type is taken for JSON.

        Raises:
            Problem: as `body`, and unsupported_media_type.
        """
        self._check_type()
        if self._raw is None and "Content-Encoding" not in self.request.headers:  # as nearly always
            body = self._raw = self.request.whole_body()
            if body is not None:
                if len(body) > limit:
                    raise _too_large(limit)
                return body
        return await self.body(limit)

    async def optional_body(self, limit: int) -> bytes:
        """Read a JSON body that may be left out: empty then, whatever content type the client's library adds.

        Raises:
            Problem: as `json_body`.
        """
        body = (await self.body(limit)).strip()
        if body:
            self._check_type()
        return body

    async def no_body(self, limit: int) -> None:
        """Read the body of an order that says all by its path: none, or an object without fields.

        Raises:
            Problem: as `json_body`, and malformed_json, schema_invalid.
        """
        raw = await self.optional_body(limit)
        if raw:
            decode_json(_nothing, raw)

    def _check_type(self) -> None:
        kind = self.request.headers.get("Content-Type")
        if kind is not None and kind != "application/json" and not _is_json(kind):
            raise Problem("unsupported_media_type", "Send application/json, in UTF-8.")

    def reply(self, status: int, value: object, headers: str = "") -> Reply:
        """Answer with a value as JSON."""
        return Reply(status, encode(value), self.request_id, headers=headers)

    def problem(self, problem: Problem) -> Reply:
        """Answer with a refusal."""
        return Reply(
            problem.status,
            problem.json(self.request_id),
            self.request_id,
            content_type="application/problem+json",
            headers=problem.headers,
            close=problem.status == 408,
        )


def _decompressed(body: bytes, limit: int) -> bytes:
    """Undo gzip or deflate, at most one octet further than `limit`: a bomb does not go off."""
    inflate = zlib.decompressobj(wbits=47)  # tells gzip and zlib apart by their headers (zlib.h, inflateInit2)
    try:
        plain = inflate.decompress(body, limit + 1)
    except zlib.error as exc:
        raise Problem("malformed_json", "The body is not what its Content-Encoding says.") from exc
    if len(plain) <= limit and not inflate.eof:
        raise Problem("malformed_json", "The compressed body broke off.")
    return plain


def _too_large(limit: int) -> Problem:
    return Problem("too_large", f"At most {limit} octets are taken.")


def _is_json(content_type: str) -> bool:
    kind, _, parameters = content_type.partition(";")
    if kind.strip().lower() != "application/json":
        return kind.strip() == ""
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in (
            "utf-8",
            "utf8",
            "us-ascii",
        ):
            return False
    return True


def journal_away() -> Problem:
    """Make the answer while the database is away: nothing was done."""
    return Problem("journal_away", "The database cannot be reached now; nothing was changed.")


async def reading(read: Awaitable[T], within_s: float = ANSWER_WITHIN_S) -> T:
    """Wait for a read of the journal, within the time an answer may take.

    Raises:
        Problem: journal_away.
    """
    try:
        async with asyncio.timeout(within_s):
            return await read
    except (JournalAway, TimeoutError) as exc:
        raise journal_away() from exc


_writes: Final[set[asyncio.Task[Any]]] = set()


async def writing(write: Awaitable[T]) -> T:
    """Wait for a change to be stored, within the time an answer may take; it goes on when nobody waits.

    Raises:
        Problem: journal_away (nothing was changed), not_found, schema_invalid (a setting that is refused),
            outcome_unknown (it took too long).
    """
    task = asyncio.ensure_future(write)
    if isinstance(task, asyncio.Task):
        _writes.add(task)
        task.add_done_callback(_written)
    try:
        return await asyncio.wait_for(asyncio.shield(task), ANSWER_WITHIN_S)
    except JournalAway as exc:
        raise journal_away() from exc
    except KeyError as exc:  # the directory's word for what somebody else removed a moment ago
        raise not_found("tenant, key or carrier") from exc
    except SettingRefused as exc:
        raise invalid(exc.key, exc.why) from exc
    except Refused as exc:
        raise from_refusal(exc) from exc
    except TimeoutError as exc:
        raise Problem("outcome_unknown", "The database answers slowly; look whether the change was made.") from exc


def _written(task: asyncio.Task[Any]) -> None:
    _writes.discard(task)
    if not task.cancelled():
        task.exception()  # read, so that nobody warns; the caller was told, or was answered outcome_unknown
