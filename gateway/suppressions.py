"""/v1/tenants/{id}/suppressions and /v1/suppressions: who must not be written to; one by one and as CSV.

The first are a tenant's own; the second are the operator's, and hold for every tenant and category.
"""

from __future__ import annotations

import builtins
import csv
import io
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from gateway.decode import decode_json
from gateway.edge import Call, Edge, Reply, reading, writing
from gateway.paging import asked_page, cut
from gateway.problems import Problem, invalid, not_found
from gateway.shapes import (
    MOST_ROWS,
    ExportQuery,
    Imported,
    PageQuery,
    RefusedRow,
    SuppressionBody,
    SuppressionPage,
    SuppressionView,
)
from gateway.tenants import done, find_tenant
from hermes.domain.lines import has_control
from hermes.domain.message import rfc3339
from hermes.domain.state import CHANNELS
from hermes.domain.suppression import Suppression
from hermes.journal.base import WriteRefused
from hermes.journal.suppressions import NoAddress

BY_HAND: Final = "manual"  # the reason where none is given
LONGEST_REASON: Final = 200  # characters
MOST_REFUSED_SHOWN: Final = 100  # rows of a file
SLICE: Final = 1_000  # rows stored at once, so that nobody else waits for a whole file
CSV_TIMES: Final = 32  # a file may be this many times as large as a single message
COLUMNS: Final = ("channel", "address", "reason", "created_at")

_body: Final = msgspec.json.Decoder(SuppressionBody)


class SuppressionLists:
    """The handlers of both lists; without a tenant in the path it is the operator's."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._suppressions = edge.suppressions
        self._limit = edge.settings.server.max_body_bytes

    async def add(self, call: Call) -> Reply:
        """Never write to a recipient again; what is queued for them ends at once."""
        tenant = self._tenant(call)
        asked = decode_json(_body, await call.json_body(self._limit))
        reason = BY_HAND if asked.reason is None else asked.reason
        if has_control(reason):
            raise invalid("reason", "holds a control character")
        try:
            entry = self._suppressions.entry(tenant, asked.channel, asked.address, reason)
            (stored,) = await writing(self._suppressions.put([entry]))
        except (NoAddress, WriteRefused) as exc:
            raise invalid("address", str(exc)) from exc
        return call.reply(201 if stored.id == entry.id else 200, _view(stored))

    async def remove(self, call: Call) -> Reply:
        """Take a recipient off the list."""
        tenant = self._tenant(call)
        if not await writing(self._suppressions.remove(tenant, call.params["suppression"])):
            raise not_found("suppression")
        return done(call)

    async def import_csv(self, call: Call) -> Reply:
        """Add the recipients of a CSV file: a line of names (address; channel and reason if wanted), then rows."""
        tenant = self._tenant(call)
        kind = call.request.headers.get("Content-Type", "text/csv").partition(";")[0].strip().lower()
        if kind != "text/csv":
            raise Problem("unsupported_media_type", "Send text/csv, in UTF-8.")
        raw = await call.body(self._limit * CSV_TIMES)
        errors: list[RefusedRow] = []
        entries = list(self._entries(tenant, raw, errors))
        return call.reply(200, await writing(self._store(entries, errors)))

    async def export_csv(self, call: Call) -> Reply:
        """Get the list as CSV, newest first; the header Link names the next part."""
        tenant = self._tenant(call)
        asked = asked_page(call, ExportQuery)
        found = await reading(self._suppressions.page(tenant, asked.cursor, asked.limit + 1))
        page, following = cut(found, asked.limit)
        file = io.StringIO()
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows((e.channel or "", e.address, e.reason, rfc3339(e.created_at)) for e in page)
        path = call.request.rel_url.raw_path
        headers = f'Link: <{path}?limit={asked.limit}&cursor={following}>; rel="next"\r\n' if following else ""
        return Reply(
            200, file.getvalue().encode(), call.request_id, content_type="text/csv; charset=utf-8", headers=headers
        )

    async def list(self, call: Call) -> Reply:
        """List who must not be written to, newest first."""
        tenant = self._tenant(call)
        asked = asked_page(call, PageQuery)
        found = await reading(self._suppressions.page(tenant, asked.cursor, asked.limit + 1))
        page, following = cut(found, asked.limit)
        return call.reply(200, SuppressionPage([_view(e) for e in page], following))

    # --- inside
    def _tenant(self, call: Call) -> str | None:
        """Name the tenant of the path; None for the operator's list.

        Raises:
            Problem: not_found, also when it is not the caller's own.
        """
        return find_tenant(call).id if "id" in call.params else None

    def _entries(self, tenant: str | None, raw: bytes, errors: builtins.list[RefusedRow]) -> Iterator[Suppression]:
        """Read a file. A row that is wrong is left out and told.

        Raises:
            Problem: schema_invalid: the file is none, or too long.
        """
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            raise invalid("body", "is not UTF-8") from exc
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        try:
            names = [name.strip().lower() for name in next(rows, [])]
            _check_names(names)
            for n, row in enumerate(rows, 2):
                if n > MOST_ROWS + 1:
                    raise invalid("body", f"has more than {MOST_ROWS} rows: send it in parts")
                if not any(row):
                    continue
                try:
                    yield self._entry(tenant, names, row)
                except _WrongRow as exc:
                    errors.append(RefusedRow(n, exc.field, exc.why))
        except csv.Error as exc:
            raise invalid("body", f"is no CSV: line {rows.line_num}: {exc}") from exc

    def _entry(self, tenant: str | None, names: Sequence[str], row: Sequence[str]) -> Suppression:
        if len(row) > len(names):
            raise _WrongRow("row", "has more fields than the line of names")
        values = dict(zip(names, row, strict=False))
        channel = values.get("channel", "").strip().lower() or None
        if channel is not None and channel not in CHANNELS:
            raise _WrongRow("channel", f"is none of {', '.join(CHANNELS)}; empty for all of them")
        reason = values.get("reason", "").strip() or BY_HAND
        if has_control(reason) or len(reason) > LONGEST_REASON:
            raise _WrongRow("reason", f"is longer than {LONGEST_REASON} characters, or holds a control character")
        try:
            return self._suppressions.entry(tenant, channel, values.get("address", ""), reason)
        except NoAddress as exc:
            raise _WrongRow("address", str(exc)) from exc

    async def _store(self, entries: Sequence[Suppression], errors: Sequence[RefusedRow]) -> Imported:
        added = 0
        for start in range(0, len(entries), SLICE):
            part = entries[start : start + SLICE]
            stored = await self._suppressions.put(part)
            added += sum(mine.id == theirs.id for mine, theirs in zip(part, stored, strict=True))
        return Imported(
            len(entries) + len(errors), added, len(entries) - added, len(errors), list(errors[:MOST_REFUSED_SHOWN])
        )


class _WrongRow(Exception):
    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field
        self.why = why


def _check_names(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise invalid("body", f"the first line names {unknown[0][:40]!r}; known are {', '.join(COLUMNS)}")
    if "address" not in names or len(set(names)) != len(names):
        raise invalid("body", "the first line names the columns, each once, address among them")


def _view(entry: Suppression) -> SuppressionView:
    return msgspec.convert(
        {
            "id": entry.id,
            "channel": entry.channel,
            "address": entry.address,
            "reason": entry.reason,
            "created_at": rfc3339(entry.created_at),
        },
        SuppressionView,
    )
