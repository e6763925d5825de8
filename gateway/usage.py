"""/v1/tenants/{id}/usage: what a tenant used, by day, channel, carrier and status."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

from gateway.decode import decode_query
from gateway.edge import Call, Edge, Reply, reading
from gateway.problems import invalid
from gateway.shapes import UsageLine, UsagePage, UsageQuery
from gateway.tenants import find_tenant
from hermes.domain.message import UTC
from hermes.domain.usage import MICROS

DEFAULT_DAYS: Final = 30
MOST_DAYS: Final = 400


class Usage:
    """The handler of /v1/tenants/{id}/usage."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def get(self, call: Call) -> Reply:
        """Show what a tenant used; test messages are shown to test keys only."""
        tenant = find_tenant(call)
        asked = decode_query(UsageQuery, call.request.query.items())
        key = call.caller.key
        mode = asked.mode or (key.mode if key is not None else "live")
        if key is not None and mode != key.mode:
            raise invalid("mode", f"this key sees its own mode only, {key.mode}")
        last = self._edge.clock.now().date() if asked.last is None else _day("to", asked.last)
        default = last - timedelta(days=DEFAULT_DAYS) if last.toordinal() > DEFAULT_DAYS else last
        first = default if asked.first is None else _day("from", asked.first)
        if not 0 <= (last - first).days < MOST_DAYS:
            raise invalid("from", f"lies before `to`, by less than {MOST_DAYS} days")
        lines = await reading(self._edge.journal.usage(tenant.id, mode, first, last))
        page = UsagePage(
            [
                UsageLine(
                    line.day.isoformat(),
                    line.channel,
                    line.carrier or None,
                    line.status,
                    line.messages,
                    line.attempts,
                    line.segments,
                    line.cost_micros / MICROS,
                )
                for line in lines
            ]
        )
        return call.reply(200, page)


def _day(name: str, text: str) -> date:
    """Read a day: 2026-01-05, or an RFC 3339 time, whose day by UTC is meant."""
    try:
        if "T" not in text.upper():
            return date.fromisoformat(text)
        at = datetime.fromisoformat(text.replace(" ", "+"))
        return (at if at.tzinfo is None else at.astimezone(UTC)).date()
    except (ValueError, OverflowError):
        raise invalid(name, "is no day, like 2026-01-05") from None
