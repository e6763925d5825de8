"""What of the tree is measured at each scrape of /metrics: carriers, mailboxes, tenants.

A carrier's gauges are read from what its actor (`CarrierPlan.actor`) says of itself, the same figures that
`/v1/carriers` shows; one whose actor is being restarted counts as down. Nothing is counted between two scrapes.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Any, Final

from actors.context import Context

BUSIEST_TENANTS: Final = 20  # whose rate is shown; a scrape must not grow with the tenants
LOOK_S: Final = 0.5  # seconds for which one look at the carriers serves all their gauges
_BREAKER: Final = {"closed": 0.0, "half_open": 1.0, "open": 2.0}


def measure(context: Context) -> None:
    """Give the node's metrics their gauges."""
    metrics, journal = context.metrics, context.journal
    carriers = _Carriers(context)
    metrics.gauge("hermes_messages", lambda: _messages(context))
    metrics.gauge("hermes_carrier_queue", lambda: carriers.each("queue"))
    metrics.gauge("hermes_carrier_queue_age_seconds", lambda: carriers.each("queue_age_s"))
    metrics.gauge("hermes_carrier_window", lambda: carriers.each("in_flight"))
    metrics.gauge("hermes_carrier_up", carriers.up)
    metrics.gauge("hermes_breaker_state", carriers.breakers)
    metrics.gauge("hermes_binds", carriers.binds)
    metrics.gauge("hermes_mailbox_depth", lambda: mailboxes(context))
    metrics.gauge("hermes_tenant_accepted_per_second", lambda: busiest_tenants(context))
    metrics.gauge("hermes_journal_up", lambda: float(journal.available))
    metrics.gauge("hermes_journal_queue", lambda: journal.queued)
    metrics.gauge("hermes_webhooks_pending", lambda: context.webhooks_pending)


def _messages(context: Context) -> dict[str, float]:
    active = context.active
    return {"active": active, "parked": max(context.open_messages - active, 0)}


class _Carriers:
    """One look at all carriers, shared by the gauges of a scrape."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._looked_at: float | None = None  # monotonic
        self._figures: dict[str, Mapping[str, Any]] = {}

    def _look(self) -> dict[str, Mapping[str, Any]]:
        now = self._context.clock.monotonic()
        if self._looked_at is None or now - self._looked_at > LOOK_S:
            self._looked_at = now
            figures = self._context.system.figures
            self._figures = {name: figures(plan.actor) for name, plan in self._context.carriers.items()}
        return self._figures

    def each(self, figure: str) -> dict[str, float]:
        return {name: float(figures.get(figure) or 0) for name, figures in self._look().items()}

    def up(self) -> dict[str, float]:
        return {name: float(figures.get("state") in ("up", "degraded")) for name, figures in self._look().items()}

    def breakers(self) -> dict[str, float]:
        return {name: _BREAKER.get(figures.get("breaker", ""), 0.0) for name, figures in self._look().items()}

    def binds(self) -> dict[tuple[str, ...], float]:
        counted: dict[tuple[str, ...], float] = {}
        for name, figures in self._look().items():
            binds = figures.get("binds") or ()
            if binds:
                for state in ("connecting", "bound", "unbinding", "refused"):
                    counted[name, state] = float(sum(bind.get("state") == state for bind in binds))
        return counted


def mailboxes(context: Context) -> dict[str, float]:
    """Return the mail that waits for each child of the root; `tenants/*` and the like: the deepest below it."""
    system = context.system
    root = system.whereis("root")
    if root is None:
        return {}
    depths = {ref.name or repr(ref): float(ref.mailbox) for ref in system.info(root).children}
    for family in ("tenants", "providers", "smpp"):
        found = system.whereis(family)
        if found is not None:
            children = system.info(found, children_limit=100_000).children
            depths[family + "/*"] = float(max((ref.mailbox for ref in children), default=0))
    return depths


def busiest_tenants(context: Context) -> dict[str, float]:
    """Return the messages accepted per second of the tenants with the most, at most `BUSIEST_TENANTS`."""
    system = context.system
    rates: list[tuple[float, str]] = []
    for tenant in context.directory.tenants():
        rate = float(system.figures("tenant/" + tenant.id).get("rate_per_s") or 0)
        if rate > 0:
            rates.append((rate, tenant.id))
    return {tenant: rate for rate, tenant in heapq.nlargest(BUSIEST_TENANTS, rates)}
