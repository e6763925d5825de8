"""HTTP itself: a connection, the requests that come by it, and the answers that go out. Knows nothing of Hermes.

aiohttp reads (`RequestHandler`: the parser, reading and writing within bounds, the end of idle connections, stopping);
how a request is answered is ours (`Connection.start`): in the connection's own task, which goes on in the very turn of
the loop in which the request's last octet came. aiohttp makes a task, a writer and a response for every request and
goes round the loop three times for it; together that cost as much as all of our own work on a message
(benchmarks/gateway.py). What of aiohttp's inside is used here is held by tests/gateway/test_connection.py.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import HttpVersion, HttpVersion11, StreamReader, web
from aiohttp.client_exceptions import ClientError
from aiohttp.http import HttpProcessingError, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy, MultiMapping
    from yarl import URL

LINGER_S: Final = 10.0  # for what is left of a refused body: closed before, the caller may not see why
_REASONS: Final[dict[int, str]] = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    409: "Conflict",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
BREAKS: Final = (ClientError, HttpProcessingError, web.RequestPayloadError, ConnectionError)  # what ends a body early
_PROCESS: Final = os.urandom(6).hex()
_count: Final = itertools.count(1)


def new_request_id() -> str:
    """Make a request id: unique over processes, and cheap."""
    return f"req_{_PROCESS}{next(_count):08x}"


class BodyTooLarge(Exception):
    """A request's body has more octets than are taken."""


class BodyBroken(Exception):
    """A request's body broke off, or is not in the form its headers say."""


class Request:
    """What was asked. `method`, `raw_path` (the target as sent) and `headers` are as the parser found them."""

    __slots__ = ("_connection", "_message", "content", "headers", "method", "raw_path")

    def __init__(self, message: RawRequestMessage, content: StreamReader, connection: Connection) -> None:
        self._connection = connection
        self._message = message
        self.content = content
        self.headers: CIMultiDictProxy[str] = message.headers
        self.method = message.method
        self.raw_path = message.path

    @property
    def rel_url(self) -> URL:
        """The target without scheme and host."""
        url = self._message.url
        return url.relative() if url.absolute else url

    @property
    def query(self) -> MultiMapping[str]:
        """The parameters of the target's query."""
        return self._message.url.query

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies by name (RFC 6265, 4.2.1)."""
        pairs = (pair.partition("=") for pair in self.headers.get("Cookie", "").split(";"))
        return {name.strip(): value.strip().strip('"') for name, _, value in pairs}

    @property
    def version(self) -> HttpVersion:
        """The version of HTTP."""
        return self._message.version

    @property
    def keep_alive(self) -> bool:
        """Whether the caller wants to use the connection again."""
        return not self._message.should_close

    @property
    def transport(self) -> asyncio.Transport | None:
        """The way back; None once the caller is gone."""
        return self._connection.transport

    @property
    def remote(self) -> str | None:
        """The address of the connection's other end."""
        peer = self._connection.peername
        return str(peer[0]) if isinstance(peer, (list, tuple)) else peer

    def whole_body(self) -> bytes | None:
        """Take the body, if all of it is here and nobody has read of it; None: read `content`."""
        content = self.content
        if content is EMPTY_PAYLOAD:
            return b""
        if not content._eof or content._exception is not None:
            return None
        # `read_nowait` wakes the parser for each piece: ten calls for nothing, since it is through with this body.
        pieces = content._buffer
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return body

    async def slow_body(self, most: int) -> bytes:
        """Read the body as it comes; a caller that waits to be asked for it (Expect: 100-continue) is asked.

        Raises:
            BodyTooLarge: it has more octets than `most`.
            BodyBroken: it broke off, or its coding is wrong.
        """
        expects = self.version >= HttpVersion11 and self.headers.get("Expect", "").lower() == "100-continue"
        if expects and self.transport is not None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        parts: list[bytes] = []
        size = 0
        try:
            while part := await self.content.readany():
                parts.append(part)
                size += len(part)
                if size > most:
                    raise BodyTooLarge
        except BREAKS as exc:
            raise BodyBroken from exc
        return b"".join(parts)

    def _cancel(self, exc: BaseException) -> None:
        """The connection is lost (aiohttp's call): nothing more comes of the body."""
        self.content.set_exception(exc)


class _Second:
    """The headers that every answer has, and the end of its head, made once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = ""

    def lines(self) -> str:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._lines = (
                "Server: Hermes\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
                f"Date: {formatdate(second, usegmt=True)}\r\n\r\n"
            )
        return self._lines


_common: Final = _Second()


class Reply:
    """An answer whose body is ready.

    Attributes:
        headers: lines of its own, each with its end.
        close: the connection is closed with it; settled by `octets`.
    """

    __slots__ = ("body", "close", "content_type", "headers", "request_id", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        request_id: str,
        *,
        content_type: str = "application/json",
        headers: str = "",
        close: bool = False,
    ) -> None:
        self.status = status
        self.body = body
        self.request_id = request_id
        self.content_type = content_type
        self.headers = headers
        self.close = close

    def octets(self, request: Request | None) -> bytes:
        """Write it as it goes out: the answer to a request, or (None) to what was none."""
        connection = ""
        if self.close or request is None or not request.keep_alive:
            self.close = True
            connection = "Connection: close\r\n"
        elif request.version < HttpVersion11:
            connection = "Connection: keep-alive\r\n"
        status, body = self.status, self.body
        content = f"Content-Type: {self.content_type}\r\nContent-Length: {len(body)}\r\n" if status != 204 else ""
        head = (
            f"HTTP/1.1 {status} {_REASONS.get(status, 'Other')}\r\n{self.headers}X-Request-Id: {self.request_id}\r\n"
            f"{content}{connection}{_common.lines()}"
        ).encode("latin-1")
        return head if request is not None and request.method == "HEAD" else head + body


Handler = Callable[[Request], Awaitable[Reply]]


class Server(web.Server):
    """Makes a `Connection` for each that is accepted; stops as aiohttp's does.

    Args:
        handle: answers a request; what it raises is answered 500, and logged.
        keep_alive_s: seconds that a connection may be idle.
    """

    def __init__(self, handle: Handler, keep_alive_s: float = 75.0) -> None:
        super().__init__(
            cast(Any, handle),
            access_log=None,
            keepalive_timeout=keep_alive_s,
            auto_decompress=False,  # aiohttp drops the connection when a coding is wrong; `Call.body` answers
        )

    def __call__(self) -> Connection:
        """Make one, for the loop that listens."""
        return Connection(self, loop=self._loop, **self._kwargs)


class Connection(web.RequestHandler):
    """One connection: its requests are answered one after the other, each before the next is begun.

    A request whose caller has left is carried out all the same. A caller that does not read its answers gets no more
    of them, and is left once it has read nothing for as long as a connection may be idle.

    Invariant: `_waiter` is `_idle` iff the task has nothing to do.
    """

    __slots__ = ("_content", "_ended", "_idle")

    def __init__(self, manager: Server, *, loop: asyncio.AbstractEventLoop, **settings: Any) -> None:
        super().__init__(manager, loop=loop, **settings)
        self._idle = Wakeup(loop)
        self._content: StreamReader | None = None  # of the request that is being answered
        self._ended = False  # True iff the caller has closed its side, and is still answered

    def data_received(self, data: bytes) -> None:
        """Read on, and have the task answer at once what has come."""
        super().data_received(data)
        self._idle.wake()

    def eof_received(self) -> bool:  # type: ignore[override]  # None to aiohttp, which leaves such a caller
        """The caller sends no more, but may still read: answer what it has asked. Returns whether it has."""
        if self._waiter is not None and not self._waiter.done():
            return False
        self._ended = True
        for content in (self._content, *(content for _, content in self._messages)):
            if content is not None and not content.is_eof():
                content.set_exception(ConnectionResetError("the body broke off"))
        return True

    def force_close(self) -> None:
        """Close at once, whatever is still asked."""
        transport = self.transport
        super().force_close()
        self._forget(transport)

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on, where a body had stopped it. aiohttp asks at the end of each body, and then the transport too."""
        if self._reading_paused or resume_parser:
            super().resume_reading(resume_parser)

    async def start(self) -> None:
        """Answer requests until the connection is to end: its task, which aiohttp begins in `connection_made`."""
        handle = cast(Handler, self._request_handler)
        while not self._force_close:
            if self._messages:
                await asyncio.sleep(0)  # pipelined: the other connections have their turn in between
            elif self._ended:
                break
            else:
                self._waiter = cast("asyncio.Future[None]", self._idle)
                try:
                    await self._idle
                finally:
                    self._waiter = None
            if self._force_close:
                return
            message, content = self._messages.popleft()
            self._content = content
            self._make_room()
            try:
                if type(message) is RawRequestMessage:
                    stays = await self._answer(Request(message, content, self), handle)
                else:  # what the parser made of octets that are no request
                    self._refuse(message)
                    stays = False
                if not content.is_eof():
                    await self._linger(content)
            except asyncio.CancelledError:
                self.force_close()
                raise
            except ConnectionError:
                break  # the caller left while it was answered
            except Exception as exc:  # the operator is told; of the connection nobody knows what was said on it
                self.log_exception("Unhandled exception", exc_info=exc)
                self.force_close()
                break
            if not stays or self._close or self._force_close:
                break
            del message, content  # an idle connection holds nothing of its last request, nor its answer
            self._content = None
            if self._upgraded:
                self._decline_upgrade()
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
            if self._keepalive_handle is None:
                self._keepalive_handle = self._loop.call_at(self._next_keepalive_close_time, self._process_keepalive)
        if not self._force_close:
            self._task_handler = None
            if self.transport is not None:
                self.transport.close()
                self._forget(self.transport)

    async def _answer(self, request: Request, handle: Handler) -> bool:
        """Have a request answered, and write the answer; who has not read those before is waited for.

        Returns:
            Whether the connection stays open.

        Raises:
            ConnectionError: the caller left while it was waited for, or does not read.
        """
        self._request_in_progress = True  # `shutdown` waits while it is so
        self._current_request = cast(Any, request)
        try:
            try:
                reply = await handle(request)
            except Exception as exc:
                self.log_exception("Error handling request from %s", request.remote, exc_info=exc)
                reply = _mistake()
            finally:
                self._current_request = None
            if self.transport is not None:  # the caller is still there
                if self._ended and not self._messages:
                    reply.close = True
                self.transport.write(reply.octets(request))
                if self._paused:
                    await self._read()
        finally:
            self._request_in_progress = False
            if self._handler_waiter is not None and not self._handler_waiter.done():
                self._handler_waiter.set_result(None)
        return not reply.close

    async def _read(self) -> None:
        """Wait until the caller has read most of what was written.

        Raises:
            ConnectionError: it left, or read nothing for as long as a connection may be idle.
        """
        while self._paused and self.transport is not None:
            transport = self.transport
            unread = transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(self._keepalive_timeout):
                    await self._drain_helper()
            except TimeoutError as exc:
                self._drain_waiter = None  # is cancelled
                if transport.get_write_buffer_size() >= unread:
                    transport.abort()
                    raise ConnectionAbortedError("the caller does not read") from exc

    def _forget(self, transport: asyncio.Transport | None) -> None:
        """Leave a caller that does not read the rest of its answers: a close waits until they are written."""
        if transport is not None and transport.get_write_buffer_size():
            self._loop.call_later(self._keepalive_timeout, transport.abort)

    def _make_room(self) -> None:
        """Tell the parser that a request was taken; it stops at so many (aiohttp's `MAX_MSG_QUEUE_SIZE`)."""
        if self._parser is not None:
            self._parser.message_consumed()
        if self._buffer_paused and len(self._messages) <= self._msg_queue_resume_size:
            self._resume_reading_if_drained()

    def _refuse(self, error: Any) -> None:
        """Answer what is no request, in aiohttp's words; `error` is its `_ErrInfo`."""
        # Scanners and broken clients must not fill the log, nor may it hold what they sent: it can be a key or a text.
        peer = self.peername
        self.logger.debug("no request from %s: %s", peer[0] if peer else None, type(error.exc).__name__)
        text = str(error.message).encode("utf-8", "backslashreplace")
        if self.transport is not None:
            reply = Reply(error.status, text, new_request_id(), content_type="text/plain; charset=utf-8")
            self.transport.write(reply.octets(None))

    async def _linger(self, content: StreamReader) -> None:
        """Read and forget what is left of a body that was refused; close when it is too long, or breaks off."""
        try:
            async with asyncio.timeout(LINGER_S):
                while not content.is_eof():
                    await content.readany()
        except (TimeoutError, RuntimeError, *BREAKS):  # RuntimeError: the connection is closed
            self.close()

    def _decline_upgrade(self) -> None:
        """Go on with HTTP after a request that offered another protocol; nobody here speaks one."""
        if self._messages or self._parser is None:
            return  # that request is still to come
        self._parser.set_upgraded(False)
        self._upgraded = False
        tail, self._message_tail = self._message_tail, b""
        if tail:
            self.data_received(tail)
        if self._buffer_paused:
            self._resume_reading_if_drained()


class Wakeup:
    """What a task awaits until `wake`, again and again, in place of a future.

    A future has the loop continue the task at its next turn, and each turn is a system call; `wake` continues it at
    once. To asyncio it is a future by `_asyncio_future_blocking` (`asyncio.isfuture`); to aiohttp, which calls
    `set_result` for each request it has read, by `done`, `set_result` and `cancel`.
    """

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_context", "_due", "_loop", "_task")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self._task: Callable[[Any], object] | None = None  # continues the task that waits
        self._due: Callable[[Any], object] | None = None  # the same, once it is to be continued
        self._context = contextvars.Context()
        self._cancelled = False

    def __await__(self) -> Generator[Wakeup, None, None]:
        self._asyncio_future_blocking = True
        yield self

    def wake(self) -> None:
        """Continue the task, if `set_result` was called since it waits. For callbacks of the loop, not for tasks."""
        due = self._due
        if due is not None:
            self._due = None
            self._context.run(due, self)

    def set_result(self, result: None) -> None:
        """Make the task due."""
        self._due, self._task = self._task, None

    def done(self) -> bool:
        """Tell whether no task waits."""
        return self._task is None

    def cancel(self, msg: object = None) -> bool:
        """Cancel the task's wait, at the loop's next turn."""
        task = self._task or self._due
        if task is None:
            return False
        self._task = self._due = None
        self._cancelled = True
        self._loop.call_soon(task, self, context=self._context)
        return True

    # What the task asks of it.
    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, continue_: Callable[[Any], object], *, context: contextvars.Context) -> None:
        self._task = continue_
        self._context = context

    def result(self) -> None:
        if self._cancelled:
            self._cancelled = False
            raise asyncio.CancelledError


def _mistake() -> Reply:
    """Make the answer to what the handler did not expect itself."""
    return Reply(
        500, b"500 Internal Server Error", new_request_id(), content_type="text/plain; charset=utf-8", close=True
    )
