"""The router as an actor: holds the routing table and answers what it would choose."""

from __future__ import annotations

from typing import Any

from actors.context import Context
from hermes.domain.commands import ExplainRoute
from hermes.runtime import Actor, Reply


class RouterActor(Actor):
    """`router`: cascades read the table directly (it is a pure value); people ask here."""

    kind = "Router"

    def __init__(self, context: Context) -> None:
        self._context = context

    def handle_call(self, request: Any, reply: Reply) -> list[list[str]]:
        """Answer `ExplainRoute` with carrier names, per step, in order."""
        if not isinstance(request, ExplainRoute):
            raise TypeError(f"router does not understand {type(request).__name__}")
        message = request.message
        routes = self._context.routes
        return [[c.carrier for c in routes.candidates(message, n)] for n in range(len(message.cascade))]

    def inspect(self) -> dict[str, Any]:
        """Show the carriers by channel in order, the routes, and what is known of each carrier's deliveries."""
        context = self._context
        now = context.clock.monotonic()
        return {
            "carriers": context.routes.channels(),
            "routes": [
                {"channel": r.channel, "strategy": r.strategy, "carriers": r.carriers} for r in context.routes.routes
            ],
            "quality": {
                name: {"ratio": round(q.ratio(now), 3), "median_s": q.median_s(now), "score": round(q.score(now), 3)}
                for name, q in context.quality.items()
            },
        }
