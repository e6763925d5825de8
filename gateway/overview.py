"""One page of what goes on, in all workers: for `hermes top`, the console, and whoever is called at night.

It stays small however many tenants, carriers and messages there are: counts, and the first of what stands out. Big
families of equal actors (the messages of a tenant) are counted by their supervisor and not looked through.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

import hermes
from gateway import shapes as s
from gateway.carriers import Carriers
from gateway.decode import decode_query
from gateway.edge import Call, Edge, Reply
from gateway.workers import figures
from hermes import logs
from hermes.domain.message import rfc3339
from hermes.runtime import ActorInfo, SupervisorEvent

DECISIONS: Final = 200  # of supervisors, remembered
_NUMBERS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_NAMES: Final = {number: name for name, number in _NUMBERS.items()}


class OverviewPage:
    """The handlers of /v1/overview and /v1/log."""

    def __init__(self, edge: Edge, carriers: Carriers) -> None:
        self._edge = edge
        self._carriers = carriers
        self._began = edge.clock.monotonic()
        self._decisions: deque[SupervisorEvent] = deque(maxlen=DECISIONS)
        self.close: Callable[[], None] = edge.system.on_event(self._decisions.append)

    async def overview(self, call: Call) -> Reply:
        """Show what goes on: counts, and the actors, carriers and tenants that stand out."""
        most = decode_query(s.OverviewQuery, call.request.query.items()).limit
        others = await call.others()
        if not others:
            return call.reply(200, self._page(most, whole=call.local))
        peers = self._edge.peers
        pages = [(peers.own, self._page(most, whole=True))]
        for told in await peers.ask_all(others, "GET", call.request.raw_path):
            page = told.read(s.Overview)
            if page is not None:
                pages.append((told.worker.id, page))
        return call.reply(200, figures.overview(pages, len(others) + 1, most))

    def _page(self, most: int, *, whole: bool) -> s.Overview:
        """Look at this process; `whole`: with all carriers, and all tenants that sent something."""
        edge, metrics = self._edge, self._edge.metrics
        carriers = [self._carriers.view(carrier) for carrier in self._edge.fleet.listed()]
        tenants = self._tenants()
        final: Counter[str] = Counter()
        for (status, _), count in metrics.final.values.items():
            final[status] += count
        busy = [tenant for tenant in tenants if tenant.accepted]
        return s.Overview(
            at=rfc3339(edge.clock.now()),
            version=hermes.__version__,
            ready=edge.ready(),
            uptime_s=round(edge.clock.monotonic() - self._began, 3),
            messages={state: int(count) for state, count in metrics.read("hermes_messages").items()},
            accepted=metrics.accepted.value,
            accepted_per_s=round(sum(tenant.rate_per_s for tenant in tenants), 1),
            final=dict(final),
            webhooks_pending=int(metrics.read("hermes_webhooks_pending").get("", 0)),
            journal={"up": edge.journal.available, "queue": edge.journal.queued},
            actors_total=len(edge.system.registry),
            actors=[_busy(info) for info in edge.system.standing_out(most)],
            carriers_total=len(carriers),
            carriers_by_state=dict(Counter(carrier.state for carrier in carriers)),
            carriers=carriers if whole else heapq.nsmallest(most, carriers, key=figures.worst_first),
            tenants_total=len(tenants),
            tenants=busy if whole else heapq.nlargest(most, busy, key=figures.busiest_first),
            decisions=[_decision(event) for event in list(self._decisions)[: -most - 1 : -1]],
            log_levels=level_names(edge.system.log_levels()),
            workers=1,
            workers_unreachable=0,
        )

    async def log(self, call: Call) -> Reply:
        """Show the last lines of the log; with several workers, each names its own."""
        asked = decode_query(s.LogQuery, call.request.query.items())
        others = await call.others()
        if not others:
            return call.reply(200, self._lines(asked))
        peers = self._edge.peers
        told = await peers.ask_all(others, "GET", call.request.raw_path)
        pages = [(peers.own, self._lines(asked))]
        for one in told:
            page = one.read(s.LogPage)
            if page is not None:
                pages.append((one.worker.id, page))
        return call.reply(200, figures.log(pages, asked.limit))

    def _lines(self, asked: s.LogQuery) -> s.LogPage:
        lowest = _NUMBERS[asked.level]
        last, lines = logs.recent(asked.after, logs.REMEMBERED)
        shown = [
            s.LogLine(
                seq,
                str(line.get("timestamp")),
                str(line.get("level")),
                str(line.get("logger")),
                str(line.get("event")),
                {key: value for key, value in line.items() if key not in ("timestamp", "level", "logger", "event")},
            )
            for seq, line in lines
            if _NUMBERS.get(str(line.get("level")), 50) >= lowest
        ]
        return s.LogPage(shown[-asked.limit :], last)

    # --- inside
    def _tenants(self) -> list[s.TenantRate]:
        system = self._edge.system
        found: list[s.TenantRate] = []
        for tenant in self._edge.directory.tenants():
            figures = system.figures("tenant/" + tenant.id)
            found.append(
                s.TenantRate(tenant.id, tenant.name, figures.get("rate_per_s", 0.0), figures.get("accepted", 0))
            )
        return found


def _busy(info: ActorInfo) -> s.BusyActor:
    return s.BusyActor(
        info.name or f"#{info.id}",
        info.kind,
        info.state,
        sum(info.mailbox.values()),
        info.restarts,
        round(info.time_spent_s, 6),
        info.messages_in,
        info.last_error,
    )


def _decision(event: SupervisorEvent) -> s.Decision:
    at = rfc3339(event.at)
    return s.Decision(at, event.supervisor, event.child, event.decision, event.reason, round(event.delay_s, 3))


def level_number(name: str | None) -> int | None:
    """Turn the word for a log level into its number."""
    return None if name is None else _NUMBERS[name]


def level_names(levels: dict[str, int]) -> dict[str, str]:
    """Write log levels as words."""
    return {name: _NAMES.get(number, str(number)) for name, number in levels.items()}
