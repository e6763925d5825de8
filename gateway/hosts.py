"""May a webhook go there? Looks a host up (off the event loop, 0.8 s at most) and judges what is found.

The judgement itself is `hermes.domain.callback_url`; the webhook actor asks it again at each connection,
because a name may lead elsewhere by then. So an answer here may be a little old, and a host nobody can
resolve is let through.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from gateway.problems import Problem
from gateway.shapes import FieldError
from hermes.domain.callback_url import is_refused_address, is_refused_host, literal_address
from hermes.runtime import Clock

LOOK_UP_WITHIN_S: Final = 0.8
_FRESH_S: Final = 30.0  # how long an answer is used again
_MOST_KEPT: Final = 4096  # hosts
_THREADS: Final = 4  # look-ups at a time: a resolver that hangs must not take the whole process's threads


class Hosts:
    """Judges the hosts of callback URLs."""

    def __init__(
        self, clock: Clock, allow_private: bool, resolve: Callable[[str], Awaitable[list[str]]] | None = None
    ) -> None:
        self._clock = clock
        self._allow_private = allow_private
        self._resolve = resolve or self._ask_system
        self._known: dict[str, tuple[float, bool]] = {}  # host -> (until, refused)
        self._threads: ThreadPoolExecutor | None = None

    async def check(self, host: str, field: str) -> None:
        """Let a host through.

        Args:
            host: as `callback_host` gives it.
            field: the request's field it comes from.

        Raises:
            Problem: callback_refused.
        """
        if not self._allow_private and await self._is_refused(host):
            detail = "The host is, or leads to, a private or special address."
            raise Problem("callback_refused", detail, errors=[FieldError(field, detail)])

    def close(self) -> None:
        """Let the threads go; look-ups under way end on their own."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    async def _is_refused(self, host: str) -> bool:
        if is_refused_host(host):
            return True
        if literal_address(host) is not None:
            return False
        now = self._clock.monotonic()
        known = self._known.get(host)
        if known is not None and known[0] > now:
            return known[1]
        try:
            async with asyncio.timeout(LOOK_UP_WITHIN_S):
                addresses = await self._resolve(host)
        except (
            OSError,
            UnicodeError,
        ):  # TimeoutError is an OSError: unresolvable now, judged at each connection
            refused = False
        else:
            refused = any(is_refused_address(address) for address in addresses)
        if len(self._known) >= _MOST_KEPT:
            self._known.clear()
        self._known[host] = (now + _FRESH_S, refused)
        return refused

    async def _ask_system(self, host: str) -> list[str]:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="callback-host")
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, lambda: socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        )
        return [str(sockaddr[0]) for *_, sockaddr in found]
