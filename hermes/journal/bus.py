"""News for one worker over NATS, where the hop shall be shorter than a commit of the database.

Each worker listens on a subject of its own; telling is a request, so that whoever tells knows that it was heard. What
was not heard within `ANSWER_S`, for whatever reason, is told by NOTIFY instead: nothing rests on the bus.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error

from hermes.logs import get_logger

log = get_logger("hermes.bus")

ANSWER_S: Final = 0.5  # as long as the database has for a ping; then NOTIFY tells
CONNECT_S: Final = 3.0
AGAIN_S: Final = 1.0  # between two tries to connect
CLOSE_S: Final = 1.0
PING_EVERY_S: Final = 1  # a server that hangs is away after two that it did not answer

_AWAY: Final = (Error, OSError, TimeoutError)


class Bus:
    """The way to one NATS server, or to one of several.

    Args:
        url: nats:// or tls://; several with commas between them.
        cluster: names the installation; those that share a server do not hear each other.
        worker_id: who listens.
    """

    def __init__(self, url: str, cluster: str, worker_id: str) -> None:
        self._servers: Final = url.split(",")
        self._prefix: Final = f"hermes.{cluster}"
        self._worker_id: Final = worker_id
        self._heard: Callable[[str], bool] = lambda text: False
        self._client: Client | None = None  # connected, and heard itself
        self._away = False
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether news go over it now."""
        return self._client is not None

    def start(self, heard: Callable[[str], bool]) -> None:
        """Connect in the background, and again whenever the server is lost. `heard` says whether it takes a text."""
        self._heard = heard
        self._task = asyncio.create_task(self._stay_connected(), name="bus")

    async def close(self) -> None:
        """Hang up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def tell(self, worker_id: str, text: str) -> bool:
        """Tell one worker; False when it is not known to have heard."""
        client = self._client
        if client is None:
            return False
        try:
            await client.request(self._subject(worker_id), text.encode(), timeout=ANSWER_S)
        except _AWAY:
            return False
        return True

    def _subject(self, worker_id: str) -> str:
        return f"{self._prefix}.news.{worker_id}"

    async def _stay_connected(self) -> None:
        while True:
            client, lost = Client(), asyncio.Event()
            try:
                async with asyncio.timeout(CONNECT_S):
                    await self._connect(client, lost)
                self._client = client
                log.info("nats is there: news for one worker go over it")
                self._away = False
                await lost.wait()
                self._lost("connection lost")
            except _AWAY as exc:
                self._lost(type(exc).__name__)
            finally:
                self._client = None
                with suppress(*_AWAY):
                    async with asyncio.timeout(CLOSE_S):
                        await client.close()
            await asyncio.sleep(AGAIN_S)

    def _lost(self, error: str) -> None:
        if not self._away:
            self._away = True
            log.warning("nats is away: news go through the database", error=error)

    async def _connect(self, client: Client, lost: asyncio.Event) -> None:
        async def closed() -> None:
            lost.set()

        async def failed(exc: Exception) -> None:
            """Without it the library logs each one; what matters comes out of the call, or closes the connection."""

        await client.connect(
            self._servers,
            name=f"hermes {self._worker_id}",
            inbox_prefix=f"{self._prefix}.answers",
            allow_reconnect=False,  # `_stay_connected` does, also where the library would give up
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=int(CONNECT_S),
            ping_interval=PING_EVERY_S,
            max_outstanding_pings=1,
            error_cb=failed,
            closed_cb=closed,
        )
        await client.subscribe(self._subject(self._worker_id), cb=self._take)
        await client.request(self._subject(self._worker_id), b"", timeout=ANSWER_S)  # may it listen, and be answered

    async def _take(self, message: Msg) -> None:
        try:
            taken = not message.data or self._heard(message.data.decode())
        except UnicodeDecodeError:
            return  # not ours
        if taken and message.reply:
            with suppress(*_AWAY):
                await message.respond(b"")
