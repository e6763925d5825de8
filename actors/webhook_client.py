"""The HTTP side of customers' webhooks: one client for all tenants, and what it brought in our own words.

Whom it may connect to is judged in `hermes/domain/callback_url.py`: the URL's host before anything else,
every address a name resolves to, and once more the very address a socket is made for. So a name that resolves
to something else a moment later leads nowhere.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from carriers.http.deadlines import Deadlines
from carriers.http.post import NotAnAddress, NotHttp, Poster, Started
from hermes import __version__
from hermes.domain.callback_url import BadUrl, callback_host, is_refused_address, is_refused_host
from hermes.domain.webhooks import Answer, retry_after_s
from hermes.errors import HermesError
from hermes.runtime import Clock

TIMEOUT_S: Final = 15.0  # for one call, all of it; Standard Webhooks recommends 15 to 30 s
CONNECT_TIMEOUT_S: Final = 5.0  # for one connection, to one address
CALLS_MOST: Final = 1_000  # under way at once, over all tenants
KEEP_ALIVE_S: Final = 4.0  # below the 5 s after which Node.js closes an idle connection
READ_MOST: Final = 8 * 1024  # octets of an answer's body that are read, to keep the connection; nobody looks at them
READ_TIMEOUT_S: Final = 1.0  # for that
DNS_THREADS: Final = 32  # look-ups at once: a name server that does not answer must not hold up the others
DNS_KEPT_S: Final = 10  # the same name is looked up at most this often

REFUSED: Final = "refused: not a public address"
RESOLVES_TO_REFUSED: Final = "refused: resolves to a private address"

Resolve = Callable[[str, int], list[tuple[Any, ...]]]  # host, port -> what getaddrinfo returns; runs in a thread


class AddressRefused(HermesError):
    """A name resolves to an address that no webhook may reach."""


class WebhookClient:
    """Calls customers. Opens its pool of connections at the first call; `close` it.

    Args:
        allow_private: any address may be reached (settings, `allow_private_callbacks`).
        resolve: instead of the system's resolver.

    Attributes:
        room: enter it around `post`: it bounds the calls under way of all tenants, first come, first served.
    """

    def __init__(self, clock: Clock, allow_private: bool, resolve: Resolve | None = None) -> None:
        self.room = asyncio.Semaphore(CALLS_MOST)
        self._clock = clock
        self._allow_private = allow_private
        self._resolve = resolve or _getaddrinfo
        self._threads: ThreadPoolExecutor | None = None
        self._connector: aiohttp.TCPConnector | None = None
        self._poster: Poster | None = None  # over the connector
        self._deadlines = Deadlines(TIMEOUT_S)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Make one call. Whatever goes wrong is an answer; only a cancellation is raised."""
        try:
            host = callback_host(url)
        except BadUrl as exc:
            return Answer(None, f"refused: the URL {exc}", hopeless=True)
        if not self._allow_private and is_refused_host(host):
            return Answer(None, REFUSED, hopeless=True)
        poster = self._poster or self._open()
        began = perf_counter()
        try:
            answer = await self._deadlines.run(poster.start(url, body, headers))
        except NotAnAddress:
            return Answer(None, "refused: not a URL", hopeless=True)
        except (TimeoutError, HermesError, aiohttp.ClientError, OSError, ValueError) as exc:
            return Answer(None, describe(exc), elapsed_s=perf_counter() - began)
        elapsed_s = perf_counter() - began
        status = answer.status
        wait_s = None
        if status == 429 or status == 503:
            wait_s = retry_after_s(answer.headers.get("Retry-After"), self._clock.now())
        await _drain(answer)
        return Answer(status, None, wait_s, elapsed_s)

    async def close(self) -> None:
        """Close every connection; look-ups under way are left to end by themselves."""
        connector, self._connector, self._poster = self._connector, None, None
        if connector is not None:
            await connector.close()
        self._deadlines.close()
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)

    def _open(self) -> Poster:
        self._threads = ThreadPoolExecutor(DNS_THREADS, thread_name_prefix="webhook-dns")
        self._deadlines = Deadlines(TIMEOUT_S)
        self._connector = aiohttp.TCPConnector(
            limit=CALLS_MOST,
            keepalive_timeout=KEEP_ALIVE_S,
            ttl_dns_cache=DNS_KEPT_S,
            resolver=_VettingResolver(self._threads, self._resolve, self._allow_private),
            socket_factory=None if self._allow_private else _vetted_socket,
        )
        self._poster = Poster(
            self._connector,
            {"Content-Type": "application/json", "User-Agent": f"Hermes/{__version__}"},
            READ_MOST,
            connect_timeout_s=CONNECT_TIMEOUT_S,
            without=("Accept-Encoding",),
            decompress=False,
        )
        return self._poster


async def _drain(answer: Started) -> None:
    """Read a short body to its end, so that the connection can be used again; leave a long or slow one."""
    if answer.end():
        return
    with suppress(TimeoutError, aiohttp.ClientError, OSError):
        async with asyncio.timeout(READ_TIMEOUT_S):
            await answer.read(READ_MOST)


class _VettingResolver(AbstractResolver):
    """Look names up in threads of our own, and let none through that leads where it may not."""

    def __init__(self, threads: ThreadPoolExecutor, resolve: Resolve, allow_private: bool) -> None:
        self._threads = threads
        self._lookup = resolve
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await asyncio.get_running_loop().run_in_executor(self._threads, self._lookup, host, port)
        results: list[ResolveResult] = []
        for found_family, _, proto, _, sockaddr in found:
            address = sockaddr[0]
            if not self._allow_private and is_refused_address(address):
                raise AddressRefused(RESOLVES_TO_REFUSED)
            results.append(
                ResolveResult(
                    hostname=host,
                    host=address,
                    port=port,
                    family=found_family,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        return results

    async def close(self) -> None:
        """The threads belong to the client."""


def _getaddrinfo(host: str, port: int) -> list[tuple[Any, ...]]:
    return list(socket.getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG))


def _vetted_socket(addr_info: tuple[Any, ...]) -> socket.socket:
    """Make the socket for a connection: the last look at where it goes, however the URL was read."""
    family, kind, proto, _, sockaddr = addr_info
    if is_refused_address(sockaddr[0]):
        raise OSError(errno.EACCES, REFUSED)
    made = socket.socket(family, kind, proto)
    made.setblocking(False)
    return made


def describe(exc: BaseException) -> str:
    """Say in a few words why a call failed; nothing of the URL, nothing of the answer."""
    if isinstance(exc, TimeoutError):
        return "timeout"
    if isinstance(exc, AddressRefused):
        return str(exc)
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        return "certificate refused"
    if isinstance(exc, aiohttp.ClientSSLError):
        return "TLS failed"
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return "host not found"
    if isinstance(exc, aiohttp.ClientConnectorError):
        reason = exc.os_error.errno
        if reason == errno.ECONNREFUSED:
            return "connection refused"
        return REFUSED if reason == errno.EACCES else "cannot connect"
    if isinstance(exc, NotHttp):
        return "the answer is not HTTP"
    if isinstance(exc, aiohttp.ServerDisconnectedError | OSError):
        return "connection closed"
    return f"failed: {type(exc).__name__}"
