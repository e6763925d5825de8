"""The named queries of `queries.sql`."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

_MARK: Final = "-- name: "


def _read() -> dict[str, str]:
    queries: dict[str, str] = {}
    for part in ("\n" + files(__package__).joinpath("queries.sql").read_text("utf-8")).split("\n" + _MARK)[1:]:
        name, _, text = part.partition("\n")
        queries[name.strip()] = text.strip()
    return queries


QUERIES: Final[dict[str, str]] = _read()
