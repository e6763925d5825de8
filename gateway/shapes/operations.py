"""What the operator sees and does: actors, carriers, routes, workers, log levels, the console."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType, field

from gateway.shapes.base import Shape
from gateway.shapes.messages import MessageBody
from hermes.domain.state import Channel, OnAmbiguous
from hermes.settings import RouteSettings


class ActorView(Shape):
    """An actor and the first of its children; one that does not run is in state down, back_off or disabled."""

    name: str
    kind: str
    state: str
    since: datetime | None
    restarts: int
    mailbox: int
    uptime_s: float
    messages_in: int
    last_error: str | None
    detail: dict[str, Any]
    children: list[ActorView]
    children_total: int


class CarrierView(Shape):
    """A carrier as it is now; `reason` says why it is not simply up."""

    name: str
    kind: str
    channel: str
    tenant: str | None = None
    state: Literal["up", "degraded", "down", "paused", "draining"] = "up"
    since: str | None = None
    reason: str | None = None
    breaker: Literal["closed", "open", "half_open"] = "closed"
    queue: int = 0
    queue_age_s: float = 0.0
    in_flight: int = 0
    sent: int = 0
    failed: int = 0
    rate_per_s: float = 0.0
    binds: list[dict[str, Any]] = field(default_factory=list)


Level = Literal["debug", "info", "warning", "error"]


class LogLevelBody(Shape, forbid_unknown_fields=True):
    """The level for an actor and all below it; null takes it back."""

    level: Level | None


class LogLevels(Shape):
    """The levels that were set, by the actor they were set for; where none is set, `[log] level` holds."""

    levels: dict[str, str]


class LogQuery(Shape, forbid_unknown_fields=True):
    """Which lines."""

    after: Annotated[int, Meta(ge=0, description="`last` of an earlier answer: only later lines")] = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    level: Annotated[Level, Meta(description="the lowest")] = "debug"


class LogLine(Shape):
    """A line of the log, without secrets, as everywhere."""

    seq: int
    at: str
    level: str
    logger: str
    event: str
    facts: dict[str, Any]


class LogPage(Shape):
    """The last lines of all workers, oldest first. `last` is what to ask for next time."""

    data: list[LogLine]
    last: int


class OverviewQuery(Shape, forbid_unknown_fields=True):
    """How much of each list."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class LoginBody(Shape, forbid_unknown_fields=True):
    """What opens the console."""

    key: Annotated[str, Meta(max_length=512, description="the operator key")]


class SessionView(Shape):
    """A session of the console; what changes something carries `csrf` in X-Hermes-CSRF."""

    csrf: str
    expires: Annotated[int, Meta(description="Unix seconds")]


class BusyActor(Shape):
    """An actor that stands out."""

    name: str
    kind: str
    state: str
    mailbox: int
    restarts: int
    time_spent_s: float
    messages_in: int
    last_error: str | None


class TenantRate(Shape):
    """A tenant that sends."""

    id: str
    name: str
    rate_per_s: float
    accepted: int


class Decision(Shape):
    """What a supervisor decided."""

    at: str
    supervisor: str
    child: str
    decision: str
    reason: str
    delay_s: float


class Overview(Shape):
    """All workers on one page: counts of everything, and the first of what stands out.

    `workers_unreachable` of the living `workers` did not answer in time: the page is without them. `actors` are those
    with most mail, most time spent and most restarts; `carriers` those that are not up, then those with the longest
    queue, then the busiest; `decisions` the last of all supervisors, newest first.
    """

    at: str
    version: str
    ready: bool
    uptime_s: float
    messages: dict[str, int]
    accepted: int
    accepted_per_s: float
    final: dict[str, int]
    webhooks_pending: int
    journal: dict[str, Any]
    actors_total: int
    actors: list[BusyActor]
    carriers_total: int
    carriers_by_state: dict[str, int]
    carriers: list[CarrierView]
    tenants_total: int
    tenants: list[TenantRate]
    decisions: list[Decision]
    log_levels: dict[str, str]
    workers: int
    workers_unreachable: int


class WorkerView(Shape):
    """One process."""

    id: str
    pid: int
    started_at: str
    state: Literal["alive", "dead"]
    shards: int
    open: int | None
    lease_until: str


class WorkerPage(Shape):
    """Living workers, and dead ones of the last day."""

    data: list[WorkerView]
    next_cursor: str | None


class Health(Shape):
    """All is well. `note`: what an operator should know nonetheless."""

    status: Literal["ok"] = "ok"
    note: str | UnsetType = UNSET


class CarrierChange(Shape):
    """What to replace of a carrier: keys of `[[carrier]]`, the kind's own included; what is left out stays."""

    enabled: bool | None = None
    tenant: Annotated[str, Meta(min_length=1, description="the only tenant it serves")] | None = None
    cost: Annotated[float, Meta(ge=0, description="per segment or message")] | None = None
    timeout_s: Annotated[float, Meta(ge=0, le=600)] | None = None
    max_in_flight: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    throughput_per_s: Annotated[float, Meta(ge=0)] | None = None
    on_ambiguous: OnAmbiguous | None = None
    weight: Annotated[float, Meta(ge=0)] | None = None
    breaker_failures: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    breaker_open_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None


class CarrierBody(CarrierChange, kw_only=True):
    """A carrier to add: keys of `[[carrier]]`, the kind's own included; secrets as they are, no `env:` or `file:`."""

    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,62}$")]
    kind: Annotated[str, Meta(examples=["mock", "smtp"])]
    channel: Channel


class CarrierPage(Shape):
    """Carriers in the order of the settings, then those added while the node runs."""

    data: list[CarrierView]
    next_cursor: str | None


class RoutePage(Shape):
    """Routes in order: the first that matches decides."""

    data: list[RouteSettings]
    next_cursor: str | None


class RouteBody(Shape, forbid_unknown_fields=True):
    """Routes in order; a bare list of them is taken too."""

    data: list[RouteSettings]
    next_cursor: None = None


class ExplainBody(MessageBody, kw_only=True, forbid_unknown_fields=True):
    """A message as it would be sent, and the tenant that would send it."""

    tenant: str


class CandidateView(Shape):
    """A carrier, whether it would be asked, and why (not); `price` is for the whole message."""

    carrier: str
    channel: str
    eligible: bool
    reason: str
    price: float | None


class Explanation(Shape):
    """Every carrier of each step, those that would be asked first, in order."""

    candidates: list[CandidateView]
