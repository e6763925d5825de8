"""The composition root: the only module that knows every part. Builds a node, runs it, stops it.

Start: database, journal, directory, tree; the gateway opens last, then `node.json` says where.
Stop: nothing new is accepted or sent, what carriers hold is waited for (10 s at most), the rest is left to the
journal with the word that it did not leave; then the tree ends in reverse order.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from actors import gauges, tree
from actors.context import CarrierPlan, Context
from actors.fleet import Fleet, plan_of
from actors.journal import JournalActor
from actors.leases import claim_at_start
from actors.receipts import ReceiptIndex
from actors.routing import SANDBOX, explained
from actors.shards import Shards
from carriers.registry import make_carrier
from gateway.actor import GatewayActor
from gateway.edge import Edge
from gateway.limits.accepted import Accepted
from gateway.limits.base import Limits
from gateway.limits.local import LocalLimits
from gateway.server import HttpServer
from gateway.workers.control import ControlServer
from gateway.workers.counts import Gone, leave_with_all, leave_with_one
from gateway.workers.peers import Peers
from hermes import logs
from hermes import settings as config
from hermes.data_dir import key_hash_secret, make_data_dir, operator_key, remove_node_file, write_node_file
from hermes.domain.inbound import NumberOwner
from hermes.domain.message import ulid
from hermes.errors import SettingsError
from hermes.journal.base import Journal, SecretDiffers
from hermes.journal.directory import Directory
from hermes.journal.embedded import EmbeddedPostgres
from hermes.journal.postgres import PostgresJournal
from hermes.journal.sealing import Sealer
from hermes.journal.suppressions import Suppressions
from hermes.logs import get_logger
from hermes.metrics import Metrics
from hermes.runtime import ChildSpec, Ref, SupervisorEvent, System, SystemClock
from hermes.settings import GuestSettings, Settings
from hermes.telemetry import Tracer, otlp

if TYPE_CHECKING:
    from hermes.journal.bus import Bus

log = get_logger("hermes.node")

DRAIN_S: Final = 10.0  # at a stop, for what carriers hold unanswered
# Seconds a guest's thread may keep the interpreter from the loop, which may need it at each wake-up. Python's own 5 ms
# were 5.2 ms more for each timer beside a guest that computes without end; this is 1.2 ms, and costs guests nothing.
GUEST_SWITCH_S: Final = 0.001
GUEST_SHUTDOWN_S: Final = 5.0  # for a guest to clean up
LEAVE_S: Final = 3.0  # for callers to send once more on the connections they have, before these are closed
FLUSH_S: Final = 3.0  # and for the journal's queue
LOOKS: Final = 3
ROOT_SHUTDOWN_S: Final = 10.0

OnReady = Callable[["Node"], Awaitable[None] | None]


@dataclass(slots=True, frozen=True)
class Place:
    """What a worker process is given by its parent (`hermes.parent`).

    Attributes:
        workers: how many there are.
        connect: the way to the parent's embedded database; None: the settings name another.
        listener: bound to the node's address.
        first: the node itself is being started; a worker that follows another takes what there is.
    """

    worker_id: str
    workers: int
    connect: Mapping[str, Any] | None
    listener: socket.socket
    first: bool = True


class Node:
    """One Hermes process.

    Args:
        settings: checked; they may name no carrier, if the journal has one that was added live.
        data_dir: holds the embedded database and the keys; made if missing.
        place: where it stands among several; None: it is the whole node.
        embedded: the data folder's database, if it is being started already; the node stops it.
    """

    def __init__(
        self,
        settings: Settings,
        data_dir: Path,
        environ: Mapping[str, str] | None = None,
        *,
        place: Place | None = None,
        embedded: EmbeddedPostgres | None = None,
    ) -> None:
        self._place = place
        environ = os.environ if environ is None else environ
        self.settings = settings
        self.data_dir = make_data_dir(data_dir)
        self.operator_key = operator_key(data_dir, environ)
        self.url = ""
        self.clock = SystemClock()
        self.metrics = Metrics()
        self.system = System(clock=self.clock)
        logs.follow(self.system.whose_log, self.system.log_level_by_name)
        self._root: Ref | None = None
        self._tracing: asyncio.Task[None] | None = None
        self._embedded = embedded
        self._stopped = asyncio.Event()
        self._leaving: asyncio.Task[None] | None = None
        self._exit_code = 0
        self._ready = False
        self._announced = False
        self._gone = Gone()
        self._handing_on: asyncio.Task[None] | None = None
        connect: Any = place.connect if place is not None and place.connect else settings.database.url
        if connect is None and embedded is None:
            self._embedded = EmbeddedPostgres(data_dir)
        self._connect = connect
        key_file = settings.database.secrets_key_file
        self._sealer = Sealer(Path(key_file) if key_file else data_dir / "secrets.key", own=key_file is None)
        self._workers = 1 if place is None else place.workers
        self._fixed = self._plans()
        self._guests = mount_guests(settings.guests, self.system)
        self._http: HttpServer | None = None

    # --- building -------------------------------------------------------------------------------------------------

    def _plans(self) -> dict[str, CarrierPlan]:
        plans = {c.name: plan_of(c, self.clock, self._workers) for c in self.settings.carriers if c.enabled}
        sandbox = make_carrier("mock", SANDBOX, "sms", {}, clock=self.clock, cost=0.0)
        plans[SANDBOX] = CarrierPlan(sandbox, breaker_failures=0)
        return plans

    async def start(self) -> None:
        """Start everything; returns once the node accepts messages.

        Raises:
            HermesError: it cannot start; the text says why.
        """
        settings = self.settings
        if self._embedded is not None:
            await self._embedded.start()
            self._connect = self._embedded.connect_kwargs()
        hash_secret = key_hash_secret(self.data_dir)
        worker_id = ulid() if self._place is None else self._place.worker_id
        journal = PostgresJournal(
            self._connect,
            worker_id=worker_id,
            clock=self.clock,
            batch_window_ms=settings.database.batch_window_ms,
            queue_limit=settings.database.queue_limit,
            bus=self._make_bus(worker_id, hash_secret),
            secret_digest=sha256(b"which key-hash.secret? " + hash_secret.encode()).hexdigest()[:32],
        )
        self.journal: Journal = journal
        self._control = ControlServer(self.data_dir / "control", journal.worker_id, settings.server.control_host)
        try:
            await journal.start()
        except SecretDiffers as exc:
            own = self.data_dir / "key-hash.secret"
            raise SettingsError(
                f"{exc}: API keys made by one would be unknown to the other. "
                f"Copy key-hash.secret from the data folder of that node over {own}, or stop that node"
            ) from exc
        journal.on_fenced(self._fenced)
        journal.on_batch(self._committed)
        self.directory = Directory(journal, self.clock, hash_secret.encode(), settings.tenant_defaults)
        await self.directory.load()
        self.limits = self._make_limits()
        self.suppressions = Suppressions(journal, self.directory, self.clock)
        await self.suppressions.load()
        off = [c for c in settings.carriers if not c.enabled]
        self.fleet = fleet = Fleet(journal, self.clock, self._sealer, self._fixed, off, settings.routes, self._workers)
        await fleet.load()
        if fleet.unset and (self._place is None or self._place.first):
            settings.refuse_no_carrier()
        self.context = Context(
            self.system,
            self.clock,
            journal,
            self.directory,
            self.suppressions,
            self.metrics,
            fleet.plans,
            fleet.table(),
            ReceiptIndex(),
            Shards(),
            health=fleet.health,
            full_carriers=fleet.full,
            quality=fleet.quality,
            public_url=settings.server.public_url,
            numbers=tuple(NumberOwner(n.number, n.tenant, n.carrier, n.keyword) for n in settings.numbers),
            max_open_messages=settings.server.max_open_messages,
            allow_private_callbacks=settings.server.allow_private_callbacks,
        )
        fleet.attach(self.context, partial(tree.place, self.context))
        self.context.alone = self._embedded is not None
        await claim_at_start(self.context, self._workers)
        if settings.telemetry.otlp_endpoint is not None:
            export = otlp(settings.telemetry.otlp_endpoint, journal.worker_id)
            self.context.tracer = Tracer(export, settings.telemetry.sample_ratio, self.metrics)
            self._tracing = asyncio.ensure_future(self.context.tracer.run())
        self._peers = Peers(journal, self.clock)
        self._handing_on = asyncio.ensure_future(leave_with_one(self._peers, self.metrics))
        self._gauges()
        self.system.on_event(self._supervised)
        root = partial(
            tree.root,
            self.context,
            journal=partial(
                JournalActor,
                self.context,
                self._embedded.watch if self._embedded is not None else None,
                settings.retention.messages_days,
            ),
            gateway=partial(GatewayActor, self._server, self._opened),
            hold=fleet.hold,
            give=fleet.give,
            workers=self._workers,
            guests=self._guests,
        )
        self._root = await self.system.spawn_async(root, name="root")
        self._root_watch = asyncio.ensure_future(self._watch_root(self._root))
        self._ready = True
        if self._place is None:
            write_node_file(self.data_dir, self.url)
        gc.collect()
        gc.freeze()  # what lives as long as the node is no work for later collections
        # A message makes few cycles, but while many arrive what they hold is walked for nothing: 8 to 15 % of a batch's
        # CPU at (20,000, 20, 50), 4 to 5 % so; what ends by itself until then is never walked.
        gc.set_threshold(100_000, 10, 20)

    def _make_bus(self, worker_id: str, hash_secret: str) -> Bus | None:
        if self.settings.nats.url is None:
            return None
        from hermes.journal.bus import Bus  # with nats, a third of a second

        cluster = sha256(b"which bus? " + hash_secret.encode()).hexdigest()[:16]
        return Bus(self.settings.nats.url, cluster, worker_id)

    def _make_limits(self) -> Limits:
        redis, monotonic = self.settings.redis.url, self.clock.monotonic
        accepted = Accepted(self.journal.accepted, monotonic)
        if redis is None:
            return LocalLimits(monotonic, accepted)
        from gateway.limits.shared import SharedLimits  # with redis, an eighth of what a start imports

        return SharedLimits(redis, monotonic, accepted)

    async def _accepting(self) -> None:
        """Come to know the other workers, and wait for a shard to accept in: they may have to give one back."""
        if not self._announced and self._http is not None:  # started again, it is where it was
            await self.journal.announce(self._control.url)
            self._announced = True
            await self._http.gateway.carriers.take_over_orders()
        waiting = [asyncio.ensure_future(event.wait()) for event in (self.context.shards.accepting, self._stopped)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()

    def _server(self) -> HttpServer:
        server = self.settings.server
        edge = Edge(
            settings=self.settings,
            system=self.system,
            journal=self.journal,
            directory=self.directory,
            suppressions=self.suppressions,
            limits=self.limits,
            clock=self.clock,
            operator_key=self.operator_key,
            ready=self._is_ready,
            default_success=self.fleet.default_success,
            carriers=self.fleet.callbacks,
            fleet=self.fleet,
            metrics=self.metrics,
            gone=self._gone,
            explain=lambda message: explained(self.context.routes, message),
            new_message_id=self.context.shards.new_message_id,
        )
        listener = None if self._place is None else self._place.listener
        self._http = HttpServer(
            edge, server.host, server.port, listener=listener, accepting=self._accepting, control=self._control
        )
        return self._http

    async def _opened(self, server: Any) -> None:
        self.url = config.base_url(self.settings.server.host, server.port)

    def _is_ready(self) -> bool:
        context = self.context
        return self._ready and self.journal.available and not context.draining and bool(context.shards.open)

    def _gauges(self) -> None:
        gauges.measure(self.context)
        self.metrics.gauge("hermes_ready", self._is_ready)
        self.metrics.gauge("hermes_data_free_bytes", lambda: shutil.disk_usage(self.data_dir).free)
        self.metrics.gauge("hermes_data_size_bytes", lambda: shutil.disk_usage(self.data_dir).total)

    def _committed(self, writes: int, seconds: float) -> None:
        self.metrics.journal_batch_rows.observe(writes)
        self.metrics.journal_commit_seconds.observe(seconds)

    # --- living ---------------------------------------------------------------------------------------------------

    def _supervised(self, event: SupervisorEvent) -> None:
        """Every decision of a supervisor is counted and logged."""
        self.metrics.supervisor_decisions.inc(event.supervisor, event.decision)
        if event.decision in ("restart", "back_off"):  # a restart at once, or after a wait
            self.metrics.restarts.inc(event.supervisor)
        log.warning("supervisor", supervisor=event.supervisor, **event.as_dict())

    def _fenced(self) -> None:
        log.error("another process has declared this one dead; stopping")
        self._exit_code = 1
        self._stopped.set()

    async def _watch_root(self, root: Ref) -> None:
        reason = await root.ended()
        if not self.context.draining:
            log.error("the tree has ended", reason=str(reason))
            self._exit_code = 1
            self._stopped.set()

    def request_stop(self) -> None:
        """Ask `run` to stop; safe to call more than once."""
        self._stopped.set()

    def leave(self) -> None:
        """Stop as one that another worker takes over from: no caller is refused. Safe to call more than once."""
        if self._leaving is None:
            self._leaving = asyncio.ensure_future(self._leave())

    async def _leave(self) -> None:
        if self._http is not None:
            await self._http.leave(LEAVE_S)
        self.request_stop()

    async def wait(self) -> int:
        """Wait until the node is asked to stop, or must; returns the exit code."""
        await self._stopped.wait()
        return self._exit_code

    async def stop(self) -> None:
        """Stop as the module docstring says. Idempotent."""
        self._ready = False
        context: Context | None = getattr(self, "context", None)
        if context is not None and self._root is not None:
            context.draining = True
            await self._drain(context)
            self._root_watch.cancel()
            await self.system.shutdown()
            await self.fleet.close()
        limits: Limits | None = getattr(self, "limits", None)
        if limits is not None:
            await limits.close()
        if self._handing_on is not None:
            self._handing_on.cancel()
            await leave_with_all(self._peers, self.metrics, self._gone)
            await self._peers.close()
        journal: Journal | None = getattr(self, "journal", None)
        if journal is not None:
            await journal.stop()
        if self._tracing is not None:
            self._tracing.cancel()
            if context is not None and context.tracer is not None:
                await context.tracer.flush(FLUSH_S)
        if self._embedded is not None:
            await self._embedded.stop()
        if self._place is None:
            remove_node_file(self.data_dir)

    async def _drain(self, context: Context) -> None:
        """Wait for the answers of carriers, and for what they lead to to be written."""
        await _until(lambda: not context.in_flight, DRAIN_S)
        await _until(lambda: not self.journal.queued or not self.journal.available, FLUSH_S)


def mount_guests(guests: Sequence[GuestSettings], system: System) -> dict[str, list[ChildSpec]]:
    """Return the child specs of the guests, by the name of their supervisor; without any, Thespian is not imported.

    Raises:
        SettingsError: Thespian is not installed, or a class is not there or no Thespian actor; every one is told.
    """
    if not guests:
        return {}
    try:
        from thespian.actors import Actor as ThespianActor

        from hermes.runtime.thespian import SystemBase, resolve
    except ImportError as exc:
        raise SettingsError("guest: needs Thespian: pip install 'hermes-messaging[thespian]'") from exc
    sys.setswitchinterval(GUEST_SWITCH_S)
    base = SystemBase(system)
    specs: dict[str, list[ChildSpec]] = {}
    wrong = []
    for guest in guests:
        try:
            actor_class = resolve(guest.class_)
            if not issubclass(actor_class, ThespianActor):
                raise TypeError("is no subclass of thespian.actors.Actor")
        except Exception as exc:  # whatever importing it raised; the operator is told
            wrong.append(f"guest.{guest.name}.class: {guest.class_}: {exc}")
            continue
        name = "guest/" + guest.name
        args = (actor_class, guest.name, None, guest.handler_timeout_s)
        specs.setdefault(guest.supervisor, []).append(
            ChildSpec(name, base.mount, args, backoff=tree.GUEST_BACKOFF, shutdown_s=GUEST_SHUTDOWN_S)
        )
    if wrong:
        raise SettingsError("\n".join(wrong))
    return specs


async def _until(condition: Callable[[], bool], limit_s: float) -> None:
    """Wait until a condition held at `LOOKS` looks in a row, at most `limit_s` seconds.

    Only at a stop: a signal would cost every send. One look is not enough: what is on its way from one actor to
    another - a carrier's answer to its cascade - is in no count.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + limit_s
    held = 0
    while held < LOOKS and loop.time() < end:
        held = held + 1 if condition() else 0
        await asyncio.sleep(0.01)


async def serve(
    settings: Settings, data_dir: Path, *, on_ready: OnReady | None = None, embedded: EmbeddedPostgres | None = None
) -> int:
    """Run a node until SIGTERM or SIGINT; returns the exit code.

    Raises:
        HermesError: it could not start.
    """
    return await run(Node(settings, data_dir, embedded=embedded), on_ready=on_ready)


async def run(node: Node, *, on_ready: OnReady | None = None) -> int:
    """Run a node as `serve` does."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.request_stop)
    try:
        await node.start()
        if on_ready is not None:
            told = on_ready(node)
            if told is not None:
                await told
        return await node.wait()
    finally:
        await node.stop()
