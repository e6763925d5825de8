"""POST over aiohttp's connections and parser, without what its session makes anew for every call.

A session builds a URL, three tables of headers, a request, a response, and before Python 3.12 a task that writes the
body: 75 of the 115 us of CPU a small POST costs. Here the head is written once for an address, and head and body leave
in one write. Connecting, TLS, the pool, and reading the answer stay aiohttp's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict, istr
from yarl import URL

MAX_HEADS: Final = 1_024  # addresses and sets of header names remembered, the latest; some 3 KB each

_LONGEST_PIECE: Final = 65_536  # octets read from the socket ahead of who takes them


class NotHttp(aiohttp.ClientError):
    """What came is no HTTP answer. Holds nothing of it."""


class NotAnAddress(ValueError):
    """The URL leads nowhere a call could go. Holds nothing of it."""


class _Head(NamedTuple):
    """What is the same in every call to an address.

    Attributes:
        request: tells the connector where to; it is never sent.
        first_line: with its line break; the headers of one call follow.
        rest: up to the value of Content-Length.
    """

    request: aiohttp.ClientRequest
    first_line: bytes
    rest: bytes


class Started:
    """An answer whose head came: `read` it, or `end` it.

    Attributes:
        headers: names are looked up in any case.
    """

    __slots__ = ("_connection", "_content", "headers", "status")

    def __init__(
        self, connection: Connection, status: int, headers: Mapping[str, str], content: aiohttp.StreamReader
    ) -> None:
        self.status = status
        self.headers = headers
        self._connection = connection
        self._content = content

    def end(self) -> bool:
        """Give the connection back if nothing of a body is left to read; tell whether it did."""
        if not self._content.at_eof():
            return False
        self._connection.release()
        return True

    async def read(self, most: int) -> bytes | None:
        """Give the body, to its end; the connection can be used again.

        Returns:
            None: it is longer than `most` octets; the connection is closed.

        Raises:
            NotHttp: what came is no HTTP answer.
            aiohttp.ClientError, OSError: it broke off. After any error, and a cancellation, the connection is closed.
        """
        content = self._content
        try:
            body = await content.readany()
            while len(body) <= most and not content.at_eof():
                body += await content.readany()
        except HttpProcessingError:
            self._connection.close()
        except BaseException:
            self._connection.close()
            raise
        else:
            if len(body) > most:
                self._connection.close()
                return None
            self._connection.release()
            return body
        raise NotHttp  # outside of `except`: its text holds what came


class Poster:
    """Posts bytes.

    Args:
        connector: the pool of connections; closed by who made it.
        headers: of every call, as they are when this is made.
        max_answer: octets of a body that `post` reads; the connection of a longer one is closed.
        connect_timeout_s: for one connection, to one address; None: none.
        without: headers that aiohttp would add by itself, and shall not.
        decompress: read a compressed body; else it is left as it is.
    """

    def __init__(
        self,
        connector: aiohttp.BaseConnector,
        headers: Mapping[str, str],
        max_answer: int,
        *,
        connect_timeout_s: float | None = None,
        without: Iterable[str] = (),
        decompress: bool = True,
    ) -> None:
        self._connector = connector
        self._headers = CIMultiDict(headers)
        self._max_answer = max_answer
        self._without = frozenset(istr(name) for name in without)
        self._decompress = decompress
        self._longest_piece = min(max_answer, _LONGEST_PIECE)
        self._timeout = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=connect_timeout_s, sock_read=None)
        self._heads: dict[tuple[str, ...], _Head] = {}

    async def post(
        self, url: str, data: bytes, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Make one call; never follows a redirect, never tries again. Raises as `start` and `Started.read` do.

        Returns:
            Status, headers and body of the answer, read to its end; an empty body when it was longer than `max_answer`.
        """
        answer = await self.start(url, data, headers)
        return answer.status, answer.headers, await answer.read(self._max_answer) or b""

    async def start(self, url: str, data: bytes, headers: Mapping[str, str] | None = None) -> Started:
        """Make one call, and wait for the head of its answer; never follows a redirect, never tries again.

        Args:
            url: where to, http or https.
            data: the body, as it is.
            headers: of this call; they win over those of every call.

        Raises:
            NotAnAddress: the URL is none. Nothing was sent.
            ValueError: a header cannot be written. Nothing was sent.
            NotHttp: what came is no HTTP answer.
            aiohttp.ClientError, OSError: there was no answer.
        """
        given = headers or {}
        head = self._heads.get((url, *given)) or self._make_head(url, given)
        octets = b"%b%b%b%d\r\n\r\n%b" % (head.first_line, _lines(given), head.rest, len(data), data)
        connection = await self._connector.connect(head.request, [], self._timeout)
        try:
            protocol = connection.protocol
            if protocol is None or protocol.transport is None:
                raise aiohttp.ClientConnectionResetError("closed while connecting")
            protocol.set_response_params(
                read_until_eof=True, read_bufsize=self._longest_piece, auto_decompress=self._decompress
            )
            protocol.transport.write(octets)
            message, content = await protocol.read()
            while 100 <= message.code <= 199 and message.code != 101:  # before the answer (RFC 9110, 15.2)
                message, content = await protocol.read()
        except HttpProcessingError:
            connection.close()
        except BaseException:
            connection.close()
            raise
        else:
            return Started(connection, message.code, message.headers, content)
        raise NotHttp  # outside of `except`: its text holds what came

    def _make_head(self, url: str, given: Mapping[str, str]) -> _Head:
        """Write a head as aiohttp would, but for the headers of one call, which come first."""
        try:
            where = URL(url)
            if where.scheme not in ("http", "https") or not where.raw_host:
                raise NotAnAddress("the URL is neither http:// nor https:// with a host")
            request = aiohttp.ClientRequest(
                "POST", where, headers=self._headers, skip_auto_headers=self._without, data=b""
            )
        except ValueError as exc:  # the text of yarl's and aiohttp's holds the URL
            raise NotAnAddress(str(exc) if isinstance(exc, NotAnAddress) else "not a URL") from None
        headers = request.headers
        for name in ("Content-Length", *given):
            headers.popall(name, None)
        rest = _lines(headers) + b"Content-Length: "
        if len(self._heads) >= MAX_HEADS:
            del self._heads[next(iter(self._heads))]  # the oldest: who is called with ever new URLs costs no other
        head = _Head(request, f"POST {request.url.raw_path_qs} HTTP/1.1\r\n".encode(), rest)
        self._heads[(url, *given)] = head
        return head


def _lines(headers: Mapping[str, str]) -> bytes:
    """Write headers as lines.

    Raises:
        ValueError: one would be more than its line.
    """
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\r") != len(headers) or lines.count("\n") != len(headers) or "\0" in lines:
        raise ValueError("a header holds a line break or NUL")
    return lines.encode()
