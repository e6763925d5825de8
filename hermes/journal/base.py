"""The journal's promise: what is written together, what comes back, and which errors there are.

`postgres.py` keeps it on PostgreSQL, `memory.py` in a dict for tests; one contract suite runs against both.

Promises:
- `append` calls `done(None)` only when the write is committed (fsync). Every effect comes after.
- Writes are committed in the order of their `append` calls; a write is committed whole or not at all.
- The queue is bounded: an `append` with `refusable=True` raises `QueueFull` at once instead of waiting for room.
- A worker that was declared dead can never commit again (`Fenced`).
- A dead database is no error of a write: it stays queued and is written when the database is back.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, ClassVar, Final, Protocol
from zlib import crc32

from msgspec import Struct

from hermes.domain.consent import Consent
from hermes.domain.erasure import Erasure
from hermes.domain.events import Event
from hermes.domain.inbound import Inbound, PartKey, StoredPart
from hermes.domain.message import Message
from hermes.domain.quiet import Quiet
from hermes.domain.receipt import DeliveryReceipt
from hermes.domain.suppression import Suppression
from hermes.domain.usage import AcceptedLine, UsageDelta
from hermes.errors import HermesError

SHARDS: Final = 64
VERSIONS_KEPT: Final = 50  # of a template

# What workers tell each other; the detail is in brackets.
LOST: Final = ""  # something, while the connection was lost: look at everything again
NEWS_WORKERS: Final = "workers"  # one came or went, or shards are free
NEWS_ERRAND: Final = "errand"  # there are errands for a worker (its id)
NEWS_ANSWER: Final = "answer"  # to one that waits (its id, and what `actors.errands` puts there)
NEWS_PARKED: Final = "parked"  # a receipt (its row's id)
NEWS_SUPPRESSIONS: Final = "suppressions"  # entries were added or removed
NEWS_SEEN: Final = "seen"  # changes of the directory are in force at another worker (whose they are, and their names)
NEWS_CARRIERS: Final = "carriers"  # a carrier that one worker holds is in another state
NEWS_HANDOVER: Final = "handover"  # there is something to send for a worker (its id)
NEWS_WANTED: Final = "wanted"  # a worker would hold one of some carriers (its id, and their names)
NEWS_LIVE: Final = "live"  # a carrier or the routes were set or removed while the node ran


def shard_of(message_id: str) -> int:
    """Name the shard (0..63) a message belongs to: the same on every worker, for ever."""
    return crc32(message_id.encode()) % SHARDS


class JournalError(HermesError):
    """The journal could not do what was asked."""


class QueueFull(JournalError):
    """More is queued than `[database] queue_limit` allows. Nothing was written; try again later."""


class JournalAway(JournalError):
    """The database cannot be reached now. Nothing was written (reads), or the write stays queued (appends)."""


class Fenced(JournalError):
    """This worker was declared dead; it must stop at once. Nothing of the write was committed."""


class SecretDiffers(JournalError):
    """A worker that lives hashes API keys under another secret: each would refuse the keys that the other made.

    Attributes:
        host: where that one runs.
    """

    def __init__(self, host: str) -> None:
        super().__init__(f"a node on {host} works on this database with another secret for the hashes of API keys")
        self.host = host


class Conflict(JournalError):
    """The write contradicts what is stored (same message and seq, or same idempotency key). It was not written."""


class WriteRefused(JournalError):
    """The database refuses this very write, whatever is tried (data it cannot hold). The others went through."""


class CarrierRef(Struct, frozen=True, gc=False):
    """Receipt -> attempt: the id a carrier gave, in its canonical form."""

    carrier: str
    ref: str
    step: int
    attempt: int
    segment: int  # 0.. within the attempt


class OutboxEntry(Quiet, Struct, frozen=True, gc=False):
    """A customer webhook that must be sent because of one event.

    Attributes:
        target: "callback" for the message's callback_url, else the id of one of the tenant's endpoints.
        payload: JSON text, only for what is no message event (inbound); else rendered from the journal when sent.
    """

    quiet: ClassVar[frozenset[str]] = frozenset({"payload"})

    seq: int
    target: str
    type: str
    due: datetime
    payload: str | None = None


@dataclass(slots=True, frozen=True)
class IdempotencyRecord:
    """A stored answer. `request_hash` covers the parsed JSON; `response` is the body of the 202, JSON text."""

    key: str = field(repr=False)
    request_hash: bytes
    response: str = field(repr=False)


KEEP: Final = object()  # leave `due` as it is


class Write(Struct, gc=False):
    """What one decision writes, all of it or nothing.

    Attributes:
        events: in order of seq; may be empty for a write that only parks or unparks.
        message: on the first write of a message only.
        status: the message's status when this write makes it final (or corrects it), else None.
        due: when the parked message must be looked at; None marks it hot (an actor holds it); KEEP leaves it.
        usage: what this write adds to the tenant's usage.
    """

    message_id: str
    tenant: str
    events: Sequence[Event]
    message: Message | None = None
    status: str | None = None
    refs: Sequence[CarrierRef] = ()
    outbox: Sequence[OutboxEntry] = ()
    idempotency: IdempotencyRecord | None = None
    due: Any = KEEP
    usage: Sequence[UsageDelta] = ()


Done = Callable[[JournalError | None], None]


@dataclass(slots=True)
class StoredMessage:
    """A message as the journal holds it.

    Attributes:
        status: final status, or None while open (then the fold over `events` says which).
        due: set while the message is parked; None while an actor held it (hot) or it is closed.
        events: in order of seq, internal ones included.
    """

    message: Message
    events: list[Event]
    status: str | None
    due: datetime | None


@dataclass(slots=True, frozen=True)
class RefTarget:
    """Where a carrier's id leads."""

    message_id: str
    step: int
    attempt: int
    segment: int


@dataclass(slots=True)
class MessageQuery:
    """A page of messages, newest first.

    Attributes:
        tenant: None reads every tenant's (operator).
        mode: "live", "test", or None for both.
        statuses: any of; "open" stands for accepted, scheduled and in_progress; empty for all.
        before_id: the cursor: only messages with a smaller id.
    """

    tenant: str | None = None
    mode: str | None = None
    statuses: Sequence[str] = ()
    channel: str | None = None
    reference: str | None = None
    reference_prefix: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    before_id: str | None = None
    limit: int = 100


@dataclass(slots=True, frozen=True)
class ParkedReceipt:
    """A receipt nobody could match yet."""

    id: int
    receipt: DeliveryReceipt
    ref: str  # canonical form of the carrier's id
    stored_at: datetime


@dataclass(slots=True, frozen=True)
class Errand:
    """Something for the worker that owns a message: kept until that one has done it.

    Attributes:
        kind: what it is; `body` is JSON text.
        asked_by: the worker that waits for an answer; "" when nobody does.
        id: 0 until stored.
    """

    message_id: str
    kind: str
    body: str
    asked_by: str = ""
    id: int = 0


@dataclass(slots=True, frozen=True)
class CarrierLease:
    """Who holds a carrier that only one worker may send by.

    Attributes:
        state, reason: how the holder finds it, as `hermes.domain.health` names it.
        free: its holder is dead.
    """

    carrier: str
    owner: str
    state: str = "up"
    reason: str | None = None
    free: bool = False


@dataclass(slots=True, frozen=True)
class Handover:
    """Something to send by a carrier that another worker holds: kept until its outcome is stored.

    Attributes:
        kind: what it is; `body` is JSON text.
        once: nobody else sends it, whatever becomes of whoever handed it over (policy never).
        expires_at: it is not taken any more from then on.
        worker: who handed it over; "" until stored.
        id: 0 until stored.
    """

    carrier: str
    kind: str
    message_id: str
    step: int
    attempt: int
    once: bool
    expires_at: datetime
    body: str = field(repr=False)
    worker: str = ""
    id: int = 0


@dataclass(slots=True, frozen=True)
class InboundRecord:
    """A message somebody wrote to one of our numbers. `tenant` is None when it is nobody's (unrouted)."""

    inbound_id: str  # "inb_" and 26 characters
    tenant: str | None
    inbound: Inbound
    received_at: datetime


@dataclass(slots=True)
class OutboxItem:
    """A webhook delivery that is due, or a dead letter."""

    message_id: str
    seq: int
    target: str
    tenant: str
    type: str
    due: datetime
    attempts: int
    created_at: datetime
    payload: str | None = field(default=None, repr=False)
    last_error: str | None = field(default=None, repr=False)
    dead_at: datetime | None = None
    id: str = ""  # "<message_id>.<seq>.<target>"


@dataclass(slots=True, frozen=True)
class OutboxResult:
    """What became of one delivery: done, to be tried again at `due`, or dead."""

    message_id: str
    seq: int
    target: str
    outcome: str  # "done" | "retry" | "dead"
    attempts: int
    due: datetime | None = None
    error: str | None = None


@dataclass(slots=True)
class Tenant:
    """A customer.

    Attributes:
        status: active, suspended or deleted.
        secret: `whsec_...`, signs webhooks to a callback_url.
        settings: what was set of it beyond the name, as the public API names it; what is missing has its default.
        stage: how far a customer who signed up has come: "pending" (waits for the operator), "sandbox" (test keys
            only), "requested" (asks for production), "promoted" (may collect its first live key) or "production".
        email: whom to write to; None when nobody said.
        deleted_at: when it was deleted; its rows are erased once its messages are (`Journal.housekeep`).
    """

    id: str
    name: str
    status: str
    created_at: datetime
    secret: str = field(repr=False)
    previous_secret: str | None = field(default=None, repr=False)
    previous_secret_until: datetime | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    stage: str = "production"
    email: str | None = field(default=None, repr=False)
    deleted_at: datetime | None = None


@dataclass(slots=True)
class ApiKey:
    """A tenant's key; only its keyed hash is stored."""

    id: str
    tenant: str
    key_hash: bytes = field(repr=False)
    prefix: str  # "hk_live_abcd": what may be shown
    mode: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    allow_from: tuple[str, ...] = ()
    last_used_at: datetime | None = None


@dataclass(slots=True)
class Endpoint:
    """A customer's webhook endpoint."""

    id: str
    tenant: str
    url: str
    events: tuple[str, ...]
    secret: str = field(repr=False)
    created_at: datetime
    disabled_at: datetime | None = None


@dataclass(slots=True, frozen=True)
class Policy:
    """A tenant's stored cascade, used by its name. `body` is JSON text, as the public API shows it without the name."""

    tenant: str
    name: str
    body: str
    created_at: datetime
    updated_at: datetime


@dataclass(slots=True, frozen=True)
class Template:
    """One version of a tenant's template; versions never change.

    Attributes:
        id: of the template, the same for its versions: one that is made anew under the old name has another.
        body: JSON text, as the public API shows it without name, version and time; empty where it was not asked for.
    """

    tenant: str
    name: str
    id: str
    version: int
    body: str
    created_at: datetime


@dataclass(slots=True, frozen=True)
class Change:
    """Who changed something of a tenant, and what: one row of the audit log, stored with the change itself.

    Attributes:
        id: in the order they were stored; 0 until then.
        actor: "operator", a key's id, "signup", or "hermes" for what it did by itself.
        action: what was done, as `tenant.updated`.
        target: the id or name of what was changed.
        before, after: what differs, JSON values; None where there was, or is, nothing. Never a secret.
    """

    at: datetime
    actor: str
    tenant: str
    action: str
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str | None = None
    id: int = 0


@dataclass(slots=True)
class TenantRows:
    """Everything the directory keeps of one tenant. `tenant` is None once it was deleted."""

    tenant: Tenant | None
    keys: list[ApiKey]
    endpoints: list[Endpoint]
    policies: list[Policy] = field(default_factory=list)
    templates: list[Template] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class LiveSetting:
    """Something an operator set while the node ran, beside the settings file.

    Attributes:
        kind: what it is; with `name` it is unique.
        body: text; nothing secret.
        sealed: what is secret, encrypted (`hermes.journal.sealing`); None when nothing is.
        created_at: of the first one of its name; keeps the order.
    """

    kind: str
    name: str
    body: str
    created_at: datetime
    sealed: bytes | None = None


@dataclass(slots=True)
class WorkerRow:
    """One process incarnation."""

    id: str
    host: str
    pid: int
    process_started_at: str  # as the kernel tells it: pid and start time name a process for ever
    started_at: datetime
    lease_until: datetime
    dead: bool
    shards: int
    control: str | None = field(default=None, repr=False)  # where others ask it; a URL that holds the key to do so


class Journal(Protocol):
    """See the module docstring for the promises. Reads raise `JournalAway` when the database is away."""

    @property
    def worker_id(self) -> str:
        """This process incarnation's name; never used again once it ended."""

    @property
    def available(self) -> bool:
        """True while the last thing tried on the database worked. Turns False within 1 s of its death."""

    @property
    def queued(self) -> int:
        """Writes not yet committed."""

    def on_change(self, callback: Callable[[bool], None]) -> None:
        """Call `callback(available)` at each change, from the event loop."""

    def on_fenced(self, callback: Callable[[], None]) -> None:
        """Call once when this worker was declared dead: stop the process, nothing it does can be stored."""

    # --- life: the node calls these in this order
    async def start(self) -> None:
        """Connect, migrate, make partitions ahead, register this worker, start the writer."""

    async def living_workers(self) -> list[str]:
        """Declare dead what is certainly dead; name those that live, this one included, in order.

        A worker of this host whose process is gone is declared dead at once, another when its lease is over.

        Raises:
            Fenced: this one was declared dead.
        """

    async def claim_shards(self, limit: int = SHARDS) -> dict[int, datetime]:
        """Claim free shards, those of dead workers included, until this worker holds `limit`.

        Raises:
            Fenced: this worker was declared dead.

        Returns:
            For each shard now held: the latest moment its former owner may have acted (its lease's end, or now at
            the latest): what was not due before then was certainly not sent. datetime.min for a never-owned one.
        """

    def leave_shards(self, shards: Collection[int]) -> None:
        """Name nothing of these shards as due any more: this worker is about to release them."""

    async def release_shards(self, shards: Collection[int]) -> None:
        """Give shards back, for others to claim: nothing of them may be in memory, queued or hot any more."""

    # --- workers tell each other; whoever changes something tells it with the change itself
    def on_news(self, callback: Callable[[str, str], None]) -> None:
        """Call `callback(topic, detail)` for what other workers tell, and topic LOST when some of it may be lost.

        Topics are the NEWS_* constants. Told after it was committed, in the order of the commits.
        """

    async def tell(self, topic: str, detail: str = "") -> None:
        """Tell the other workers; NEWS_ANSWER perhaps only the one it is for."""

    async def send_errands(self, errands: Sequence[Errand]) -> None:
        """Store errands, all or none, and tell those who own their messages."""

    async def errands(self, limit: int, *, not_ids: Sequence[int] = ()) -> list[Errand]:
        """Load errands for this worker's shards."""

    async def errands_done(self, errands: Sequence[Errand]) -> None:
        """Forget errands that are done."""

    # --- carriers that only one worker may send by
    @property
    def lease_until(self) -> float:
        """Until when nobody can have declared this worker dead for its silence (the clock's monotonic seconds)."""

    async def claim_carriers(self, carriers: Sequence[str]) -> list[str]:
        """Take those of these carriers that nobody holds, or a dead worker; name what was taken.

        Raises:
            Fenced: this worker was declared dead.
        """

    async def carrier_leases(self) -> list[CarrierLease]:
        """List who holds what, by carrier."""

    async def tell_carrier(self, carrier: str, state: str, reason: str | None) -> None:
        """Say how a carrier is that this worker holds, and tell the others (NEWS_CARRIERS)."""

    async def give_carrier(self, carrier: str, to: str) -> bool:
        """Make another worker the holder of a carrier that this one holds, and tell it (NEWS_CARRIERS).

        False: nothing was changed, because one of the two does not live, or this one does not hold it.
        """

    async def hand_over(self, handovers: Sequence[Handover]) -> None:
        """Store what a carrier's holder is to send, all or none, and tell it (NEWS_HANDOVER).

        Raises:
            Fenced: this worker was declared dead; nothing was stored.
        """

    async def take_handovers(self, carrier: str, limit: int, *, lasting_s: float = 0.0) -> list[Handover]:
        """Take the oldest into this worker's hands; nothing unless it lives and holds the carrier.

        Left where it is: what expires within `lasting_s`.

        What a dead worker handed over is taken only if it is `once`: else its message's new owner sends it again.
        """

    async def taken_handovers(self, carrier: str) -> list[Handover]:
        """List what any holder has taken and not answered."""

    async def give_back_handovers(self, carrier: str, ids: Sequence[int]) -> None:
        """Put back what this worker took and certainly did not send."""

    async def handed_over(self, carrier: str) -> set[str]:
        """Name the messages of what this worker handed over that is still there, and of outcomes not yet read."""

    async def recall_handovers(self, carrier: str, *, within_s: float | None = None) -> list[tuple[str, int, int]]:
        """Take back what this worker handed over and nobody has taken; gives (message_id, step, attempt) of each.

        With `within_s` only what expires within that time.
        """

    async def answer_handovers(self, errands: Sequence[Errand], done: Sequence[tuple[str, int]]) -> None:
        """Store outcomes as errands, and forget what was handed over (carrier, id), all or nothing."""

    async def stop(self) -> None:
        """Write what is queued (bounded), mark this worker dead, close connections."""

    # --- the hot path
    def append(self, write: Write, done: Done | None = None, *, refusable: bool = False) -> None:
        """Queue a write. `done(None)` once committed; `done(error)` with Conflict, WriteRefused or Fenced else.

        Raises:
            QueueFull: only with `refusable`.
            JournalAway: only with `refusable`, while the database is known to be away.
        """

    def withdraw(self, write: Write) -> bool:
        """Take a queued write back. False: it is being written (or was): its outcome will be told to `done`."""

    # --- reads
    async def load(self, message_ids: Sequence[str]) -> list[StoredMessage]:
        """Load messages with all their events; unknown ids are left out; order as asked."""

    async def list_messages(self, query: MessageQuery) -> list[StoredMessage]:
        """Load one page, newest first, with events."""

    async def count_messages(
        self, tenant: str | None, mode: str | None, created_after: datetime | None, created_before: datetime | None
    ) -> dict[str, int]:
        """Count by status (accepted, scheduled, in_progress and the final ones)."""

    async def count_open(self) -> int:
        """Count messages of this worker's shards that are not final."""

    async def find_refs(self, keys: Sequence[tuple[str, str]]) -> list[RefTarget | None]:
        """Find where (carrier, canonical ref) pairs lead; None for unknown ones; order as asked."""

    async def find_all_refs(self, carrier: str, ref: str, limit: int) -> list[RefTarget]:
        """Find all the places a ref leads to, the newest first: one that several messages may have."""

    async def find_idempotent(self, tenant: str, key: str) -> IdempotencyRecord | None:
        """Find a stored answer younger than 24 h."""

    # --- recovery and parking
    async def hot_page(self, shard: int, after_id: str, limit: int) -> list[StoredMessage]:
        """Page through the open messages of a shard that an actor held (due is null), by id."""

    async def due_page(self, before: datetime, limit: int, *, not_ids: Sequence[str] = ()) -> list[str]:
        """Name parked open messages of this worker's shards that are due before, earliest first."""

    # --- receipts nobody can match yet
    async def park_receipt(self, receipt: DeliveryReceipt, ref: str) -> int:
        """Store a receipt, and tell the others (NEWS_PARKED); returns its id. Bounded by age (`purge`)."""

    async def parked_receipts(self, limit: int) -> list[ParkedReceipt]:
        """Load the newest parked receipts (at start)."""

    async def parked_by_id(self, ids: Sequence[int]) -> list[ParkedReceipt]:
        """Load parked receipts; those that are gone are left out."""

    async def drop_parked(self, ids: Sequence[int]) -> None:
        """Forget parked receipts that were matched."""

    # --- what somebody writes to us
    async def store_inbound(
        self, record: InboundRecord, outbox: Sequence[OutboxEntry] = (), parts: PartKey | None = None
    ) -> bool:
        """Store an inbound message and its webhooks, all or nothing, at once.

        Args:
            record: the message.
            outbox: its webhooks.
            parts: those it was put together from: forgotten with it, and remembered as whole.

        Returns:
            False: a message with this carrier and carrier_message_id, or of these parts within five minutes, is
            stored already; no message was written.
        """

    async def store_part(self, part: StoredPart) -> None:
        """Store a part of a message that is not whole yet; the same part again takes its place."""

    async def stored_parts(self, carrier: str) -> list[StoredPart]:
        """Load a carrier's parts whose message is not stored, and which were stored (number 0); oldest first."""

    async def inbound(self, tenant: str | None, limit: int) -> list[InboundRecord]:
        """Load a tenant's newest inbound messages; None: the unrouted ones."""

    async def messages_to(self, phone: str, since: datetime, limit: int) -> list[StoredMessage]:
        """Load live messages whose `to.phone` (or else `to.whatsapp`) may be this one, newest first.

        Found by a hash of the number: compare it. Those created before `since` are left out, to the day.
        """

    # --- webhooks
    async def outbox_due(self, tenant: str | None, before: datetime, limit: int) -> list[OutboxItem]:
        """Load deliveries due before, earliest first (not dead ones). tenant None: of all tenants of this worker."""

    async def outbox_tenants(self) -> list[str]:
        """Name the tenants with deliveries not yet done (at start)."""

    async def outbox_results(self, results: Sequence[OutboxResult]) -> None:
        """Record what became of deliveries."""

    async def dead_letters(self, tenant: str, before_id: str | None, limit: int) -> list[OutboxItem]:
        """Page through a tenant's dead letters, newest first."""

    async def replay_dead_letter(self, tenant: str, id: str, due: datetime) -> bool:
        """Make a dead letter due again with its count at zero. False: no such dead letter."""

    async def outbox_pending(self) -> int:
        """Count deliveries not yet done, dead ones left out."""

    # --- tenants and keys: each change is stored with its row of the audit log, and other workers are told of it
    def on_directory(self, callback: Callable[[str | None], None]) -> None:
        """Call `callback(tenant)` when another worker changed a tenant, its keys or endpoints; None: any may have."""

    def take_unseen(self) -> list[str]:
        """Name the changes of other workers that were told since the last call; to be given to `seen`."""

    async def seen(self, changes: Sequence[str]) -> None:
        """Tell those who made these changes that this worker goes by them now: they wait for it, a second at most."""

    async def put_tenant(self, tenant: Tenant, change: Change | None = None) -> None:
        """Insert or replace a tenant."""

    async def tenants(self) -> list[Tenant]:
        """Load all tenants, deleted ones left out, by id."""

    async def put_key(self, key: ApiKey, change: Change | None = None) -> None:
        """Insert or replace a key."""

    async def keys(self) -> list[ApiKey]:
        """Load all keys that have not expired."""

    async def delete_key(self, tenant: str, key_id: str, change: Change | None = None) -> bool:
        """End a key. False: the tenant has no such key."""

    async def keys_used(self, key_ids: Sequence[str], at: datetime) -> None:
        """Note that keys were used, at `at` for the last time."""

    async def put_endpoint(self, endpoint: Endpoint, change: Change | None = None) -> None:
        """Insert or replace a webhook endpoint."""

    async def endpoints(self) -> list[Endpoint]:
        """Load all endpoints."""

    async def delete_endpoint(self, tenant: str, endpoint_id: str, change: Change | None = None) -> bool:
        """Remove an endpoint. False: the tenant has no such endpoint."""

    async def put_policy(self, policy: Policy, change: Change | None = None) -> None:
        """Insert or replace a policy."""

    async def policies(self) -> list[Policy]:
        """Load all policies."""

    async def delete_policy(self, tenant: str, name: str, change: Change | None = None) -> bool:
        """Remove a policy. False: the tenant has no such policy."""

    async def put_template(self, template: Template, change: Change | None = None) -> None:
        """Add a version, and forget those older than the newest `VERSIONS_KEPT`. `Conflict`: it is there already."""

    async def templates(self) -> list[Template]:
        """Load the newest version of each template, without its body."""

    async def template(self, tenant: str, name: str, version: int) -> Template | None:
        """Load one version, with its body."""

    async def delete_template(self, tenant: str, name: str, change: Change | None = None) -> bool:
        """Remove all versions. False: the tenant has no such template."""

    async def tenant_rows(self, tenant: str) -> TenantRows:
        """Load one tenant with its keys that have not expired, its endpoints, policies and templates."""

    async def changes(self, tenant: str | None, before_id: int | None, limit: int) -> list[Change]:
        """Page through the audit log of a tenant (None: of all), newest first."""

    # --- who must not be written to
    async def put_suppressions(self, entries: Sequence[Suppression]) -> list[Suppression]:
        """Store entries, all of them or none. One for the same tenant, channel and address may be there: it stays.

        Returns:
            For each entry what is stored now: itself, or the one that was there (another id).
        """

    async def delete_suppression(self, tenant: str | None, id: str) -> Suppression | None:
        """Remove an entry of this tenant (None: of the operator). None: no such entry."""

    async def find_suppressions(self, tenant: str | None, address: str) -> list[Suppression]:
        """Find this tenant's (None: the operator's) entries for an address, whatever their channel."""

    async def suppressions(self, tenant: str | None, before_id: str | None, limit: int) -> list[Suppression]:
        """Load a page of this tenant's entries (None: the operator's), newest first."""

    async def all_suppressions(self, after_id: str, limit: int) -> list[Suppression]:
        """Load a page of everybody's entries, by id (at start)."""

    # --- consent
    async def put_consent(self, consent: Consent, change: Change | None = None) -> None:
        """Insert a record with its row of the audit log, and tell the other workers."""

    async def consent(self, tenant: str, id: str) -> Consent | None:
        """Load one of this tenant's; None: it has no such record."""

    async def consents(self, tenant: str, recipient: str | None, before_id: str | None, limit: int) -> list[Consent]:
        """Load a page of this tenant's, newest first; of one recipient (its hash), or None: of all."""

    async def withdraw_consents(self, like: Consent, at: datetime, change: Change | None = None) -> list[Consent]:
        """Withdraw what the same recipient agreed to for the same channel and category.

        Returns:
            All records of the recipient as they are now.
        """

    async def erase_consents(self, tenant: str, recipient: str, at: datetime) -> list[Consent]:
        """Withdraw all of a recipient's, and forget address and ip. Returns all of the recipient's records."""

    async def consents_changed(self, since: datetime, after_id: str, limit: int) -> list[Consent]:
        """Load a page of everybody's by (changed_at, id), after these."""

    # --- erasing
    async def put_erasure(self, erasure: Erasure, change: Change | None = None) -> None:
        """Insert an erasure with its row of the audit log, or store how far it has come."""

    async def erasure(self, tenant: str, id: str) -> Erasure | None:
        """Load one of this tenant's; None: it has no such erasure."""

    async def erasures(self, tenant: str, before_id: str | None, limit: int) -> list[Erasure]:
        """Load a page of this tenant's, newest first."""

    async def open_erasures(self) -> list[Erasure]:
        """Load those of this worker's shards that are not done, oldest first."""

    async def erasable(self, tenant: str, after_id: str, before_id: str, limit: int) -> list[tuple[Message, bool]]:
        """Load a page of a tenant's messages that are not erased, by id, both ends left out; True: it is open."""

    async def erase_messages(self, tenant: str, message_ids: Sequence[str], at: datetime) -> int:
        """Leave of messages what `hermes.domain.erasure` leaves, wherever there is something of them; all or nothing.

        Returns:
            How many there were.
        """

    async def erase_inbound(self, tenant: str, address: str | None, before: datetime) -> int:
        """Erase who wrote and what, with the webhooks not yet sent: of this sender (None: of all), received before.

        Returns:
            How many there were that were not erased yet.
        """

    # --- what was set while the node ran
    async def put_live_setting(self, setting: LiveSetting) -> None:
        """Insert or replace; a replaced one keeps its `created_at`."""

    async def live_settings(self) -> list[LiveSetting]:
        """Load all, oldest first."""

    async def delete_live_setting(self, kind: str, name: str) -> bool:
        """Remove one. False: there is none."""

    # --- usage
    async def usage(self, tenant: str, mode: str, first: date, last: date) -> list[UsageDelta]:
        """Add up a tenant's usage of these days, both included: one entry a line that is not zero, in order."""

    async def accepted(self, scopes: Sequence[tuple[str, str]], day: date) -> list[AcceptedLine]:
        """Add up what was accepted of these (tenant, mode) on a day and in its month, for quotas."""

    async def take_nonce(self, hash: bytes, now: datetime, until: datetime) -> bool:
        """Remember until then that a signed request was taken; False: it was before, by whichever worker."""

    # --- housekeeping
    async def workers(self) -> list[WorkerRow]:
        """Load the worker rows of living processes, and dead ones of the last day."""

    async def announce(self, control: str) -> None:
        """Say where the other workers can ask this one."""

    async def housekeep(self, now: datetime, messages_days: int) -> list[str]:
        """Make partitions ahead, drop those past retention, purge old idempotency rows and parked receipts.

        Of a tenant deleted longer ago than messages are kept, everything is erased but the bare facts of the audit log.

        Returns:
            The carrier of each parked receipt that was dropped: nobody ever waited for them.
        """


def day_of(at: datetime) -> date:
    """Name the partition of a message created at `at` (UTC)."""
    return at.date()
