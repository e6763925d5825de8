"""The parent of a node's worker processes: starts them on one port, restarts one that dies, stops and renews them.

It has no actors. It owns what there is once a node: the embedded PostgreSQL, `node.json`, and a listening socket for
each worker. The kernel shares new connections out between the sockets (SO_REUSEPORT); a worker inherits its own. So a
worker that is renewed hands what waits at its socket to its successor, and nobody is refused. The socket of a worker
that died is closed, so that the others get its callers, and made anew for the next one.

Each child holds one end of a socket pair: it says there that it accepts messages, and sees there that its parent ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hermes import settings as config
from hermes.data_dir import key_hash_secret, make_data_dir, operator_key, remove_node_file, write_node_file
from hermes.domain.message import ulid
from hermes.errors import HermesError, SettingsError
from hermes.journal import postgres
from hermes.journal.base import JournalError
from hermes.journal.embedded import EmbeddedPostgres
from hermes.journal.sealing import Sealer
from hermes.logs import get_logger
from hermes.runtime import Backoff, Intensity
from hermes.runtime.intensity import count_restart
from hermes.settings import Settings

log = get_logger("hermes.parent")

BACKOFF: Final = Backoff(initial_s=0.1, factor=2.0, max_s=10.0, jitter=0.2, reset_after_s=30.0)
RESTARTS_A_WORKER: Final = 8  # within a minute; more of all workers together, and the parent gives up
RESTARTS_WITHIN_S: Final = 60.0
STOP_WITHIN_S: Final = 11.0  # of a worker; the contract gives the node 12 s
LEAVE_WITHIN_S: Final = 30.0  # of a worker that is renewed
READY_WITHIN_S: Final = 60.0  # of its successor
RETRY_S: Final = 1.0


def intensity(workers: int) -> Intensity:
    """Say how often workers may be restarted before something must be wrong with all of them."""
    return Intensity(RESTARTS_A_WORKER * workers, RESTARTS_WITHIN_S)


def failures_after(failures: int, lived_s: float) -> int:
    """Count a death: a worker that lived long enough begins anew."""
    return 1 if lived_s >= BACKOFF.reset_after_s else failures + 1


@dataclass(slots=True, eq=False)
class _Child:
    slot: int
    worker_id: str
    process: asyncio.subprocess.Process
    channel: socket.socket
    started: float  # monotonic
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: bool = False


class WorkerFailed(HermesError):
    """A worker ended before the node was ready; it has said why."""


class Parent:
    """See the module docstring.

    Args:
        settings: checked, with more than one worker.
        source: what a worker reads the same settings from: `config`, `options` (see `hermes.settings.load`).
    """

    def __init__(
        self, settings: Settings, data_dir: Path, source: Mapping[str, Any], environ: Mapping[str, str]
    ) -> None:
        self._settings = settings
        self._data_dir = make_data_dir(data_dir)
        self._source = source
        self._workers = settings.server.workers
        self._embedded = EmbeddedPostgres(data_dir) if settings.database.url is None else None
        self._connect: Any = settings.database.url
        operator_key(data_dir, environ)
        key_hash_secret(data_dir)
        if settings.database.secrets_key_file is None:
            Sealer(data_dir / "secrets.key", own=True).make_key()
        self._children: dict[int, _Child] = {}
        self._listeners: dict[int, socket.socket] = {}
        self._address: tuple[Any, ...] = ()
        self._family = socket.AF_INET
        self._failures: dict[int, int] = {}
        self._restarts: tuple[float, ...] = ()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stop = asyncio.Event()
        self._stopping = False
        self._exit_code = 0
        self._renewing = False
        self._started = False

    async def run(self) -> int:
        """Run the node until SIGTERM or SIGINT; returns the exit code.

        Raises:
            HermesError: it could not start.
            OSError: the address is not ours, or taken.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        try:
            if self._embedded is not None:
                await self._embedded.start()
                self._connect = self._embedded.connect_kwargs()
                self._run(self._embedded.watch())
            await postgres.migrate(self._connect)
            self._reserve()
            await asyncio.gather(*(self._first(slot) for slot in range(self._workers)))
            self._started = True
            loop.add_signal_handler(signal.SIGHUP, self._renew_soon)
            url = config.base_url(self._settings.server.host, self._address[1])
            write_node_file(self._data_dir, url)
            log.info("ready", url=url, workers=self._workers)
            await self._stop.wait()
        finally:
            await self._end()
        return self._exit_code

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- the port
    def _reserve(self) -> None:
        """Take the address: first alone, so that nobody else is on it."""
        server = self._settings.server
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0]
        self._family, self._address = found[0], found[4]
        with socket.socket(self._family, socket.SOCK_STREAM) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(self._address)
            self._address = alone.getsockname()

    def _listener(self, slot: int) -> socket.socket:
        """A worker's socket, bound and not listening yet: it gets no callers before the worker is there."""
        listener = self._listeners.get(slot)
        if listener is None:
            listener = socket.socket(self._family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(self._address)
            self._listeners[slot] = listener
        return listener

    # --- children
    async def _start(self, slot: int) -> _Child:
        """Start a worker."""
        listener = self._listener(slot)
        ours, theirs = socket.socketpair()
        worker_id = ulid()
        given = {
            "config": self._source["config"],
            "options": {**self._source["options"], "server.port": self._address[1]},
            "data_dir": str(self._data_dir),
            "worker_id": worker_id,
            "workers": self._workers,
            "listener": listener.fileno(),
            "first": not self._started,
            "connect": self._connect if self._embedded is not None else None,
        }
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "hermes.worker", str(theirs.fileno())),
                pass_fds=(theirs.fileno(), listener.fileno()),
                stdin=asyncio.subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the parent, which passes it on
            )
        ours.setblocking(False)
        child = _Child(slot, worker_id, process, ours, time.monotonic())
        self._run(self._listen(child, json.dumps(given).encode() + b"\n"))
        return child

    async def _listen(self, child: _Child, given: bytes) -> None:
        """Tell a worker what it is, and hear that it is ready."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(child.channel, given)
            while said := await loop.sock_recv(child.channel, 100):
                if b"ready" in said:
                    child.ready.set()
        except OSError:
            pass  # it ended, which its watcher sees

    async def _is_ready(self, child: _Child, within_s: float) -> bool:
        """Wait until a worker accepts messages. False: it ended, or took too long."""
        ended = asyncio.ensure_future(child.process.wait())
        ready = asyncio.ensure_future(child.ready.wait())
        try:
            await asyncio.wait((ended, ready), timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            return child.ready.is_set() and child.process.returncode is None
        finally:
            ended.cancel()
            ready.cancel()

    async def _first(self, slot: int) -> None:
        child = self._children[slot] = await self._start(slot)
        stop = asyncio.ensure_future(self._stop.wait())
        ready = asyncio.ensure_future(self._is_ready(child, float("inf")))
        await asyncio.wait((stop, ready), return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if ready.done() and not ready.result() and not self._stop.is_set():
            self._exit_code = child.process.returncode or 1
            if self._exit_code == 2:
                raise SettingsError("a worker refused its settings; it says why above")
            raise WorkerFailed("a worker could not start; it says why above")
        self._run(self._watch(child))

    async def _watch(self, child: _Child) -> None:
        """Restart a worker that dies."""
        code = await child.process.wait()
        child.channel.close()
        if self._stopping or child.leaving:
            return
        log.error("a worker died", worker=child.worker_id, pid=child.process.pid, code=code)
        self._run(self._declare_dead(child.worker_id))
        slot = child.slot
        listener = self._listeners.pop(slot, None)
        if listener is not None:
            listener.close()
        while not self._stopping:
            now = time.monotonic()
            failures = self._failures[slot] = failures_after(self._failures.get(slot, 0), now - child.started)
            self._restarts, allowed = count_restart(intensity(self._workers), self._restarts, now)
            if not allowed:
                log.error("workers die again and again; the node stops")
                self._exit_code = 1
                self._stop.set()
                return
            await asyncio.sleep(BACKOFF.delay_s(failures))
            if self._stopping:
                return
            try:
                child = self._children[slot] = await self._start(slot)
            except OSError as exc:
                log.error("a worker cannot be started now", error=str(exc))
                continue
            self._run(self._watch(child))
            return

    async def _declare_dead(self, worker_id: str) -> None:
        """Let others have its shards now."""
        while not self._stopping:
            try:
                return await postgres.declare_gone(self._connect, worker_id)
            except JournalError:
                await asyncio.sleep(RETRY_S)  # the database is away; the others will see it, too

    # --- renewing
    def _renew_soon(self) -> None:
        if not self._renewing:
            self._renewing = True
            self._run(self._renew())

    async def _renew(self) -> None:
        """Replace one worker after the other: the new one accepts before the old one stops to."""
        try:
            for slot in range(self._workers):
                old = self._children[slot]
                if old.process.returncode is not None or self._stopping:
                    continue  # it is being restarted anyway
                new = await self._start(slot)
                if not await self._is_ready(new, READY_WITHIN_S):
                    log.error("a new worker did not get ready; the old ones stay", worker=new.worker_id)
                    new.leaving = True
                    _signal(new, signal.SIGKILL)
                    await new.process.wait()
                    self._run(self._declare_dead(new.worker_id))
                    return
                old.leaving = True
                self._children[slot] = new
                self._run(self._watch(new))
                _signal(old, signal.SIGUSR2)
                try:
                    await asyncio.wait_for(old.process.wait(), LEAVE_WITHIN_S)
                except TimeoutError:
                    _signal(old, signal.SIGKILL)
                    await old.process.wait()
                    self._run(self._declare_dead(old.worker_id))
                log.info("renewed a worker", worker=new.worker_id, former=old.worker_id)
        finally:
            self._renewing = False

    # --- the end
    async def _end(self) -> None:
        self._stopping = True
        running = [child for child in self._children.values() if child.process.returncode is None]
        for child in running:
            _signal(child, signal.SIGTERM)
        if running:
            _, late = await asyncio.wait(
                [asyncio.ensure_future(child.process.wait()) for child in running], timeout=STOP_WITHIN_S
            )
            for child in running:
                if child.process.returncode is None:
                    _signal(child, signal.SIGKILL)
                    self._exit_code = self._exit_code or 1
            for one in late:
                await one
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners.values():
            listener.close()
        if self._embedded is not None:
            await self._embedded.stop()
        remove_node_file(self._data_dir)


def _signal(child: _Child, number: int) -> None:
    if child.process.returncode is None:
        os.kill(child.process.pid, number)
