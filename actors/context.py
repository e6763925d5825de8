"""What every member of the cast can reach: made once by `hermes.boot`, handed to each child spec."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from actors.agequeue import AgeQueue
from actors.messages import OVERDUE, Job
from actors.receipts import ReceiptIndex
from actors.routes import CarrierEntry
from actors.routing import RoutingTable
from actors.shards import Shards
from actors.webhook_bodies import Bodies
from carriers.base import Carrier
from hermes.domain.commands import carrier_actor
from hermes.domain.health import DEFAULT_FAILURES, DEFAULT_OPEN_S, CarrierHealth
from hermes.domain.inbound import NumberOwner
from hermes.domain.quality import Quality
from hermes.domain.rates import RateDeck
from hermes.journal.base import Journal, OutboxEntry
from hermes.journal.directory import Directory
from hermes.journal.suppressions import Suppressions
from hermes.metrics import Metrics
from hermes.runtime import FairQueue, System
from hermes.runtime.clock import Clock
from hermes.telemetry import Tracer


@dataclass(slots=True)
class CarrierPlan:
    """A carrier and the limits its provider actor keeps. 0 means no limit.

    Attributes:
        timeout_s: after which an unanswered call is in doubt.
        queue_limit: jobs waiting; beyond, cascades keep them and the gateway refuses new ones.
        tenant: the only tenant it serves; None: all.
        weight: see `routing.CarrierEntry`.
        breaker_failures, breaker_open_s: see `hermes.domain.health.Breaker`.
        deck: its prices by destination; `carrier.cost` where it names none.
        actor: the name of the actor that holds its queue.
    """

    carrier: Carrier
    max_in_flight: int = 0
    throughput_per_s: float = 0.0
    timeout_s: float = 10.0
    on_ambiguous: str | None = None
    queue_limit: int = 20_000
    tenant: str | None = None
    weight: float = 1.0
    breaker_failures: int = DEFAULT_FAILURES
    breaker_open_s: float = DEFAULT_OPEN_S
    deck: RateDeck | None = None
    actor: str = field(init=False)

    def __post_init__(self) -> None:
        self.actor = carrier_actor(self.carrier.name, self.carrier.kind)

    def entry(self) -> CarrierEntry:
        """What the router knows of it."""
        carrier = self.carrier
        return CarrierEntry(
            carrier.name, carrier.channel, self.on_ambiguous, self.tenant, self.weight, carrier.cost, self.deck
        )


@dataclass(slots=True)
class Context:
    """The node's parts, and the few numbers actors share.

    Attributes:
        note_after_s: how long an attempt waits in a carrier's queue before the journal is told that it has not left.
        linger_s: how long a cascade that only waits stays in memory before it is parked.
        linger_limit: how many may wait in memory; beyond, the longest waiting are parked first.
        open_messages: accepted and not final, over all tenants of this process.
        open_of: the same by tenant, of what was accepted since this process started.
        webhooks_pending: deliveries not yet done, as last counted in the journal.
        active: cascade actors.
        queues: what waits for each carrier.
        health: whether each carrier is fit to be asked; the same dict that `routes` reads.
        full_carriers: carriers whose queue is nearly full; the same set that `routes` reads.
        quality: what the receipts of each carrier say; the same dict that `routes` reads.
        shards: what this worker holds of all messages.
        held: the carriers with binds that this worker holds; the others' jobs are handed over.
        leaving: those of them that are being given to another worker: nothing new is begun.
        kept: what waited for such a carrier, in order, while its actor is replaced.
        moved: of carriers that were given, to or by whom and why.
        alone: no other process can share the journal, so nobody can have taken a carrier.
        numbers: whose our numbers are, as the settings say (`[[number]]`).
        public_url: how the world reaches this node; None: nobody said.
        tracer: makes traces; None: there are none.
        draining: the node is stopping: nothing new is sent, answers are still taken.
        handed: cascades of which a carrier has something to send.
        lingering: cascades that only wait.
        answer_within_s: a receipt nobody knows waits so long for its submit answer, before a doubtful message may
            have it.
        bodies: what customers are to be sent of the newest events, made by who committed them.
        receipts_done: tells `dlr` that a parked receipt is in its message's events now (its row).
        webhook_due: tells a tenant's webhook actor of new outbox entries: (tenant, message_id, entries).
    """

    system: System
    clock: Clock
    journal: Journal
    directory: Directory
    suppressions: Suppressions
    metrics: Metrics
    carriers: Mapping[str, CarrierPlan]
    routes: RoutingTable
    receipts: ReceiptIndex
    shards: Shards = field(default_factory=Shards.alone)
    held: set[str] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)
    kept: dict[str, list[Job]] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    alone: bool = False
    numbers: Sequence[NumberOwner] = ()
    public_url: str | None = None
    max_open_messages: int = 2_000_000
    allow_private_callbacks: bool = False
    note_after_s: float = 1.0
    linger_s: float = 10.0
    linger_limit: int = 10_000
    answer_within_s: float = 20.0
    open_messages: int = 0
    open_of: dict[str, int] = field(default_factory=dict)
    webhooks_pending: int = 0
    active: int = 0
    in_flight: int = 0
    draining: bool = False
    tracer: Tracer | None = None
    full_carriers: set[str] = field(default_factory=set)
    queues: dict[str, FairQueue] = field(default_factory=dict)
    health: dict[str, CarrierHealth] = field(default_factory=dict)
    quality: dict[str, Quality] = field(default_factory=dict)
    handed: AgeQueue = field(init=False)
    lingering: AgeQueue = field(init=False)
    bodies: Bodies = field(default_factory=Bodies)
    webhook_due: Callable[[str, str, list[OutboxEntry]], None] = lambda tenant, message_id, entries: None
    receipts_done: Callable[[int], None] = lambda row: None

    def __post_init__(self) -> None:
        self.handed = AgeQueue(self.clock, self.note_after_s, OVERDUE)
        self.lingering = AgeQueue(self.clock, self.linger_s, OVERDUE, self.linger_limit)

    def keeps(self, carrier: str, job: Job) -> bool:
        """Keep a job, behind those kept, for the actor that is about to follow; False: none is."""
        kept = self.kept.get(carrier)
        if kept is None or carrier not in self.leaving:
            return False
        kept.append(job)
        return True

    def opened(self, tenant: str) -> None:
        """Count a message that was accepted."""
        self.open_messages += 1
        self.open_of[tenant] = self.open_of.get(tenant, 0) + 1

    def closed(self, tenant: str) -> None:
        """Count a message that is final."""
        self.open_messages -= 1
        left = self.open_of.get(tenant, 0) - 1
        if left > 0:
            self.open_of[tenant] = left
        else:
            self.open_of.pop(tenant, None)
