"""POST over aiohttp's connections and parser, without what its session makes anew for every call.

A session builds a URL, three tables of headers, a request, a response, and before Python 3.12 a task that writes the
body: 75 of the 115 us of CPU a small POST costs. Here the head is written once for an address, and head and body leave
in one write. Connecting, TLS, the pool, and reading the answer stay aiohttp's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import aiohttp
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

MAX_HEADS: Final = 256  # addresses and sets of header names remembered

_NO_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)
_LONGEST_PIECE: Final = 65_536  # octets read from the socket ahead of who takes them


class NotHttp(aiohttp.ClientError):
    """What came is no HTTP answer. Holds nothing of it."""


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


class Poster:
    """Posts bytes.

    Args:
        connector: the pool of connections; closed by who made it.
        headers: of every call, as they are when this is made.
        max_answer: octets of a body that are read; the connection of a longer one is closed.
    """

    def __init__(self, connector: aiohttp.BaseConnector, headers: Mapping[str, str], max_answer: int) -> None:
        self._connector = connector
        self._headers = CIMultiDict(headers)
        self._max_answer = max_answer
        self._heads: dict[tuple[str, ...], _Head] = {}

    async def post(
        self, url: str, data: bytes, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Make one call; never follows a redirect, never tries again.

        Args:
            url: where to, http or https.
            data: the body, as it is.
            headers: of this call; they win over those of every call.

        Returns:
            Status, headers and body of the answer, read to its end; an empty body when it was longer than `max_answer`.

        Raises:
            ValueError: the URL, or a header, cannot be written. Nothing was sent.
            NotHttp: what came is no HTTP answer.
            aiohttp.ClientError, OSError: there was no answer.
        """
        given = headers or {}
        head = self._heads.get((url, *given)) or self._make_head(url, given)
        octets = b"%b%b%b%d\r\n\r\n%b" % (head.first_line, _lines(given), head.rest, len(data), data)
        connection = await self._connector.connect(head.request, [], _NO_TIMEOUT)
        try:
            protocol = connection.protocol
            if protocol is None or protocol.transport is None:
                raise aiohttp.ClientConnectionResetError("closed while connecting")
            protocol.set_response_params(read_until_eof=True, read_bufsize=_LONGEST_PIECE)
            protocol.transport.write(octets)
            message, content = await protocol.read()
            while 100 <= message.code <= 199 and message.code != 101:  # before the answer (RFC 9110, 15.2)
                message, content = await protocol.read()
            body = await content.readany()
            while len(body) <= self._max_answer and not content.at_eof():
                body += await content.readany()
        except HttpProcessingError:
            connection.close()
        except BaseException:
            connection.close()
            raise
        else:
            if len(body) > self._max_answer:
                connection.close()
                body = b""
            connection.release()
            return message.code, message.headers, body
        raise NotHttp  # outside of `except`: its text holds what came

    def _make_head(self, url: str, given: Mapping[str, str]) -> _Head:
        """Write a head as aiohttp would, but for the headers of one call, which come first."""
        where = URL(url)
        if where.scheme not in ("http", "https") or not where.raw_host:
            raise ValueError("the URL is neither http:// nor https:// with a host")
        request = aiohttp.ClientRequest("POST", where, headers=self._headers, data=b"")
        headers = request.headers
        for name in ("Content-Length", *given):
            headers.popall(name, None)
        rest = _lines(headers) + b"Content-Length: "
        if len(self._heads) >= MAX_HEADS:
            self._heads.clear()
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
