"""What is committed, in memory: the same as the tables of PostgreSQL, for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime

from hermes.domain.consent import Consent
from hermes.domain.erasure import Erasure
from hermes.domain.inbound import PartKey, StoredPart
from hermes.domain.suppression import Suppression
from hermes.journal.base import (
    ApiKey,
    CarrierLease,
    Change,
    Endpoint,
    Errand,
    Handover,
    IdempotencyRecord,
    LiveSetting,
    OutboxItem,
    Policy,
    RefTarget,
    Template,
    Tenant,
    WorkerRow,
)


@dataclass(slots=True)
class MessageRow:
    """A message row."""

    tenant: str
    mode: str
    reference: str | None
    channels: frozenset[str]
    created_at: datetime
    status: str | None
    closed: bool
    due: datetime | None
    body: str


@dataclass(slots=True)
class WorkerEntry:
    """A worker's row; `gone` once its process is, which the others find out."""

    row: WorkerRow
    gone: bool = False
    dead_at: datetime | None = None


@dataclass(slots=True)
class Store:
    """What is committed: it outlives the journals that write it."""

    messages: dict[str, MessageRow] = field(default_factory=dict)
    events: dict[str, dict[int, tuple[datetime, str, int | None, int | None, str]]] = field(default_factory=dict)
    refs: dict[tuple[str, str], list[RefTarget]] = field(default_factory=dict)
    outbox: dict[tuple[str, int, str], OutboxItem] = field(default_factory=dict)
    idempotency: dict[tuple[str, str], tuple[IdempotencyRecord, datetime]] = field(default_factory=dict)
    parked: dict[int, tuple[str, str, datetime]] = field(default_factory=dict)
    parked_id: int = 0
    inbound: dict[str, tuple[str | None, str, datetime]] = field(default_factory=dict)
    inbound_known: set[tuple[str, str]] = field(default_factory=set)  # carrier, its id
    parts: dict[tuple[PartKey, int], StoredPart] = field(default_factory=dict)  # by number; 0: the message is stored
    tenants: dict[str, Tenant] = field(default_factory=dict)
    keys: dict[str, ApiKey] = field(default_factory=dict)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    policies: dict[tuple[str, str], Policy] = field(default_factory=dict)
    templates: dict[tuple[str, str], dict[int, Template]] = field(default_factory=dict)  # by version
    usage: dict[tuple[str, str, date, str, str, str, str], list[int]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    watchers: list[tuple[str, Callable[[str | None], None]]] = field(default_factory=list)  # (worker, callback)
    news: list[tuple[str, Callable[[str, str], None]]] = field(default_factory=list)  # (worker, callback)
    errands: dict[int, Errand] = field(default_factory=dict)
    errand_id: int = 0
    nonces: dict[bytes, datetime] = field(default_factory=dict)  # until when
    leases: dict[str, CarrierLease] = field(default_factory=dict)
    handovers: dict[int, tuple[Handover, str | None]] = field(default_factory=dict)  # and who has taken it
    suppressions: dict[tuple[str | None, str | None, str], Suppression] = field(default_factory=dict)
    consents: dict[str, Consent] = field(default_factory=dict)
    erasures: dict[str, Erasure] = field(default_factory=dict)
    live_settings: dict[tuple[str, str], LiveSetting] = field(default_factory=dict)
    workers: dict[str, WorkerEntry] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)  # shard -> worker id, the last one ever
