"""What operators and monitors look at: workers, health, metrics."""

from __future__ import annotations

import hmac
from typing import Final

from gateway.auth import bearer_token, is_operator_key
from gateway.edge import Call, Edge, Reply, reading
from gateway.problems import Problem
from gateway.shapes import Health, WorkerPage, WorkerView
from gateway.workers.counts import Figures
from hermes.domain.message import rfc3339
from hermes.metrics import CONTENT_TYPE, OVER, Metrics
from hermes.samples import Samples, added, encoded, told_apart

NO_CARRIERS: Final = (
    "no carriers left: only test keys can send; add a [[carrier]] to the settings, or POST /v1/carriers"
)


class Operate:
    """The handlers of /v1/workers, /livez, /readyz and /metrics."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._gone = edge.gone

    async def workers(self, call: Call) -> Reply:
        """List living workers, and dead ones of the last day; `open` is null of one that does not answer."""
        edge, peers = self._edge, self._edge.peers
        rows = await reading(edge.journal.workers(), 0.9)
        living = [row for row in rows if not row.dead]
        known: dict[str, int | None] = {peers.own: open_messages(edge.metrics)}
        if len(living) == 1 and not call.local:  # of all shards
            known = {living[0].id: await reading(edge.journal.count_open(), 0.9)}
        others = [row for row in living if row.id != peers.own]
        if not call.local:
            for told in await peers.ask_all(others, "GET", "/v1/workers"):
                page = told.read(WorkerPage)
                known |= {view.id: view.open for view in page.data if view.id == told.worker.id} if page else {}
        workers = [
            WorkerView(
                row.id,
                row.pid,
                rfc3339(row.started_at),
                "dead" if row.dead else "alive",
                row.shards,
                0 if row.dead else known.get(row.id),
                rfc3339(row.lease_until),
            )
            for row in rows
        ]
        return call.reply(200, WorkerPage(workers, None))

    async def livez(self, call: Call) -> Reply:
        """Say that the process answers."""
        return call.reply(200, Health())

    async def readyz(self, call: Call) -> Reply:
        """Say whether messages can be accepted now. Depends on no carrier; that there is none at all is told."""
        if self._edge.ready():
            return call.reply(200, Health(note=NO_CARRIERS) if self._edge.fleet.empty else Health())
        if self._edge.journal.available:
            raise Problem("overloaded", "Messages cannot be accepted now: starting or stopping.")
        raise Problem("journal_away", "Messages cannot be accepted now: the database is away.")

    async def metrics(self, call: Call) -> Reply:
        """Show the metrics of all workers, in Prometheus' text format."""
        if call.local:
            own = self._edge.metrics.samples()
            figures = encoded(Figures(own, self._gone.besides({self._edge.peers.own: own})))
            return Reply(200, figures, call.request_id, content_type="application/msgpack")
        wanted = self._edge.settings.server.metrics_key
        if wanted is not None:
            token = bearer_token(call.request)
            if token is None or not (
                hmac.compare_digest(token.encode(), wanted.encode()) or is_operator_key(self._edge, token)
            ):
                raise Problem(
                    "unauthenticated",
                    "Send the metrics key as a bearer token.",
                    headers='WWW-Authenticate: Bearer realm="hermes metrics"\r\n',
                )
        page = self._edge.metrics.render(await self._samples(call))
        return Reply(200, page, call.request_id, content_type=CONTENT_TYPE)

    async def _samples(self, call: Call) -> Samples:
        """Ask all workers what they have counted and measured, and add it up."""
        edge, peers = self._edge, self._edge.peers
        others = await call.others()
        told = {peers.own: edge.metrics.samples()}
        for one in await peers.ask_all(others, "GET", "/metrics"):
            figures = one.read_packed(Figures)
            if figures is None:
                continue
            told[one.worker.id] = figures.own
            for worker, samples in figures.gone.items():
                self._gone.hear(worker, samples)
        unreachable = len(others) + 1 - len(told)
        own = told[peers.own]
        own.gauges["hermes_workers"] = {(): len(others) + 1.0}
        own.gauges["hermes_workers_unreachable"] = {(): float(unreachable)}
        for worker, samples in told.items():
            if worker != peers.own:
                self._gone.hear(worker, samples)
        gone = self._gone.besides(told)
        if not others and not gone:
            return own
        of_asked = {name: own.gauges[name] for name, over in OVER.items() if over == "asked" and name in own.gauges}
        parts = [told_apart(samples, worker, OVER) for worker, samples in told.items()]
        return added([*parts, *gone.values(), Samples(gauges=of_asked)], OVER)


def open_messages(metrics: Metrics) -> int | None:
    """Count the messages without a final status of this process's shards; None: they are not counted."""
    counted = metrics.read("hermes_messages")
    return int(sum(counted.values())) if counted else None
