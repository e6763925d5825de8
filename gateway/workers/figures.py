"""What several workers say of carriers, of what goes on, and of their log, as one. Pure.

Counts and rates add up; of ages the greatest is shown, of states the worst.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from gateway import shapes as s
from gateway.workers import actors

# The first of these that any worker has is the carrier's.
_State = Literal["up", "degraded", "down", "paused", "draining"]
_WORST: Final[tuple[_State, ...]] = ("down", "paused", "draining", "degraded", "up")
_BREAKERS: Final = ("open", "half_open", "closed")

Page = tuple[str, s.Overview]  # with the worker's id
LogOf = tuple[str, s.LogPage]


def carrier(views: Sequence[s.CarrierView]) -> s.CarrierView:
    """Show one carrier, from how it is on each worker that has it."""
    holders = [view for view in views if view.binds] or views  # those without a bind only pass on what is to be sent
    state: _State = next(state for state in _WORST if any(view.state == state for view in holders))
    worst = [view for view in holders if view.state == state]
    reason = next((view.reason for view in worst if view.reason), None)
    if reason is not None and len(worst) < len(holders):
        reason = f"on {len(worst)} of {len(holders)} workers: {reason}"
    first = views[0]
    return s.CarrierView(
        first.name,
        first.kind,
        first.channel,
        first.tenant,
        state=state,
        since=min((view.since for view in worst if view.since), default=None),
        reason=reason,
        breaker=next(breaker for breaker in _BREAKERS if any(view.breaker == breaker for view in holders)),
        queue=sum(view.queue for view in views),
        queue_age_s=max(view.queue_age_s for view in views),
        in_flight=sum(view.in_flight for view in views),
        sent=sum(view.sent for view in views),
        failed=sum(view.failed for view in views),
        rate_per_s=round(sum(view.rate_per_s for view in views), 3),
        binds=sorted((bind for view in views for bind in view.binds), key=_bind_order),
    )


def _bind_order(bind: Mapping[str, Any]) -> tuple[int, str]:
    return int(bind.get("n") or 0), str(bind.get("mode"))


def carriers(parts: Sequence[Sequence[s.CarrierView]]) -> list[s.CarrierView]:
    """Show all carriers, in the order of the first worker that has each."""
    by_name: dict[str, list[s.CarrierView]] = {}
    for views in parts:
        for view in views:
            by_name.setdefault(view.name, []).append(view)
    return [carrier(views) for views in by_name.values()]


def overview(pages: Sequence[Page], living: int, most: int) -> s.Overview:
    """Join overviews; the first is that of the worker that was asked.

    Args:
        pages: with all carriers and all tenants that sent something.
        living: how many workers there are, also those that do not answer.
        most: how much of each list.
    """
    shown = [page for _, page in pages]
    first = shown[0]
    known = carriers([page.carriers for page in shown])
    return s.Overview(
        at=first.at,
        version=", ".join(sorted({page.version for page in shown})),
        ready=all(page.ready for page in shown),
        uptime_s=max(page.uptime_s for page in shown),
        messages=_summed(page.messages for page in shown),
        accepted=sum(page.accepted for page in shown),
        accepted_per_s=round(sum(page.accepted_per_s for page in shown), 1),
        final=_summed(page.final for page in shown),
        webhooks_pending=sum(page.webhooks_pending for page in shown),
        journal={
            "up": all(page.journal["up"] for page in shown),
            "queue": sum(page.journal["queue"] for page in shown),
        },
        actors_total=sum(page.actors_total for page in shown),
        actors=[_of(worker, actor) for worker, page in pages for actor in page.actors],
        carriers_total=len(known),
        carriers_by_state=dict(Counter(one.state for one in known)),
        carriers=heapq.nsmallest(most, known, key=worst_first),
        tenants_total=max(page.tenants_total for page in shown),
        tenants=heapq.nlargest(most, _tenants(shown), key=busiest_first),
        decisions=heapq.nlargest(most, (_by(w, d) for w, page in pages for d in page.decisions), key=lambda d: d.at),
        log_levels=actors.levels([(worker, page.log_levels) for worker, page in pages]),
        workers=living,
        workers_unreachable=living - len(pages),
    )


def worst_first(view: s.CarrierView) -> tuple[bool, int, float]:
    """Order carriers: those that are not up, then the longest queue, then the busiest."""
    return view.state == "up", -view.queue, -view.rate_per_s


def busiest_first(tenant: s.TenantRate) -> tuple[float, int]:
    """Order tenants by what they send, descending."""
    return tenant.rate_per_s, tenant.accepted


def _summed(parts: Any) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def _of(worker: str, actor: s.BusyActor) -> s.BusyActor:
    actor.name = actors.joined(worker, actor.name)
    return actor


def _by(worker: str, decision: s.Decision) -> s.Decision:
    decision.supervisor = actors.joined(worker, decision.supervisor)
    return decision


def _tenants(pages: Sequence[s.Overview]) -> list[s.TenantRate]:
    found: dict[str, s.TenantRate] = {}
    for page in pages:
        for one in page.tenants:
            known = found.get(one.id)
            if known is None:
                found[one.id] = one
            else:
                known.rate_per_s = round(known.rate_per_s + one.rate_per_s, 3)
                known.accepted += one.accepted
    return list(found.values())


def log(pages: Sequence[LogOf], most: int) -> s.LogPage:
    """Join pages of the log: lines by their time, each with its worker.

    A page's `last` promises that its worker writes no earlier line any more, so only lines up to the earliest of them
    are shown; the others come with the next page. So none is skipped, and none comes twice.
    """
    last = min(page.last for _, page in pages)
    lines: list[s.LogLine] = []
    for worker, page in pages:
        for line in page.data:
            if line.seq <= last:
                line.facts = {**line.facts, "worker": worker}
                lines.append(line)
    lines.sort(key=lambda line: line.seq)
    return s.LogPage(lines[-most:], last)
