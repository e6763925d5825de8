"""/v1/tenants/{id}/usage and quotas: what a tenant used, by day, channel, carrier and status, and what is left."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final

from gateway.decode import decode_query
from gateway.edge import Call, Edge, Reply, reading
from gateway.problems import invalid
from gateway.shapes import QuotaLine, QuotaPage, QuotaQuery, UsageLine, UsagePage, UsageQuery
from gateway.tenants import find_tenant
from hermes.domain.message import UTC, rfc3339
from hermes.domain.quotas import QUOTAS, period_of
from hermes.domain.usage import MICROS, used_of
from hermes.tenancy import Quotas

DEFAULT_DAYS: Final = 30
MOST_DAYS: Final = 400


class Usage:
    """The handlers of /v1/tenants/{id}/usage and quotas."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def get(self, call: Call) -> Reply:
        """Show what a tenant used; test messages are shown to test keys only."""
        tenant = find_tenant(call)
        asked = decode_query(UsageQuery, call.request.query.items())
        mode = _mode(call, asked.mode)
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

    async def quotas(self, call: Call) -> Reply:
        """Show a tenant's quotas, and what is used of them; test messages are counted apart."""
        tenant = find_tenant(call)
        mode = _mode(call, decode_query(QuotaQuery, call.request.query.items()).mode)
        limits = self._edge.directory.rules(tenant).quotas
        today = self._edge.clock.now().date()
        lines = await reading(self._edge.journal.accepted([(tenant.id, mode)], today))
        used = dict(zip(QUOTAS, used_of(lines), strict=True))
        page = QuotaPage(
            [
                QuotaLine(
                    name,
                    getattr(limits, name),
                    used[name] / MICROS if name.startswith("spend") else used[name],
                    rfc3339(period_of(name, today)[1]),
                )
                for name in Quotas.__struct_fields__
            ]
        )
        return call.reply(200, page)


def _mode(call: Call, asked: str | None) -> str:
    """Tell whose figures are meant: live or test.

    Raises:
        Problem: schema_invalid: a key asks for the other mode's.
    """
    key = call.caller.key
    mode = asked or (key.mode if key is not None else "live")
    if key is not None and mode != key.mode:
        raise invalid("mode", f"this key sees its own mode only, {key.mode}")
    return mode


def _day(name: str, text: str) -> date:
    """Read a day: 2026-01-05, or an RFC 3339 time, whose day by UTC is meant."""
    try:
        if "T" not in text.upper():
            return date.fromisoformat(text)
        at = datetime.fromisoformat(text.replace(" ", "+"))
        return (at if at.tzinfo is None else at.astimezone(UTC)).date()
    except (ValueError, OverflowError):
        raise invalid(name, "is no day, like 2026-01-05") from None
