"""What operators and monitors look at: actors, workers, health, metrics."""

from __future__ import annotations

import hmac
from typing import Any

from gateway.auth import bearer_token, is_operator_key
from gateway.edge import Call, Edge, Reply, reading
from gateway.problems import Problem, not_found
from gateway.shapes import Health, WorkerPage, WorkerView
from hermes.domain.message import rfc3339
from hermes.metrics import CONTENT_TYPE
from hermes.runtime.reasons import NotAlive


class Operate:
    """The handlers of /v1/actors, /v1/workers, /livez, /readyz and /metrics."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def actors(self, call: Call) -> Reply:
        """Show the whole tree: big families as a count and a first page."""
        system = self._edge.system
        return call.reply(200, _shown(system.tree("root" if system.whereis("root") is not None else None)))

    async def actor(self, call: Call) -> Reply:
        """Show one actor and what is below it. Names hold slashes, plain or as %2F."""
        try:
            tree = self._edge.system.tree(call.params["name"])
        except NotAlive as exc:
            raise not_found("actor") from exc
        return call.reply(200, _shown(tree))

    async def workers(self, call: Call) -> Reply:
        """List living workers, and dead ones of the last day."""
        journal = self._edge.journal
        rows = await reading(journal.workers(), 0.9)
        living = [row for row in rows if not row.dead]
        # The journal counts open messages over all shards: with one worker they are all its own.
        open_ = await reading(journal.count_open(), 0.9) if len(living) == 1 else None
        workers = [
            WorkerView(
                row.id,
                row.pid,
                rfc3339(row.started_at),
                "dead" if row.dead else "alive",
                row.shards,
                0 if row.dead else open_,
                rfc3339(row.lease_until),
            )
            for row in rows
        ]
        return call.reply(200, WorkerPage(workers, None))

    async def livez(self, call: Call) -> Reply:
        """Say that the process answers."""
        return call.reply(200, Health())

    async def readyz(self, call: Call) -> Reply:
        """Say whether messages can be accepted now. Depends on no carrier."""
        if self._edge.ready():
            return call.reply(200, Health())
        if self._edge.journal.available:
            raise Problem("overloaded", "Messages cannot be accepted now: starting or stopping.")
        raise Problem("journal_away", "Messages cannot be accepted now: the database is away.")

    async def metrics(self, call: Call) -> Reply:
        """Show the metrics, in Prometheus' text format."""
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
        return Reply(200, self._edge.metrics.render(), call.request_id, content_type=CONTENT_TYPE)


def _shown(node: dict[str, Any]) -> dict[str, Any]:
    """Write times as the contract does. Changes the node in place: the kernel made it for us."""
    since = node.get("since")
    if since is not None:
        node["since"] = rfc3339(since)
    for child in node["children"]:
        _shown(child)
    return node
