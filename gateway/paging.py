"""Lists in pages, newest first: which page is asked for, and where the next one begins. A cursor is an entry's id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from gateway.decode import decode_query
from gateway.edge import Call
from gateway.problems import invalid
from gateway.shapes import ConsentQuery, ExportQuery, PageQuery


class _Entry(Protocol):
    @property
    def id(self) -> str: ...


_Asked = TypeVar("_Asked", ConsentQuery, ExportQuery, PageQuery)
_T = TypeVar("_T", bound=_Entry)


def asked_page(call: Call, kind: type[_Asked]) -> _Asked:
    """Read which page is asked for.

    Raises:
        Problem: schema_invalid, naming the parameter.
    """
    asked = decode_query(kind, call.request.query.items())
    if asked.cursor is not None and not asked.cursor.isprintable():
        raise invalid("cursor", "is no cursor of this list")
    return asked


def cut(found: Sequence[_T], limit: int) -> tuple[Sequence[_T], str | None]:
    """Give a page, and the cursor of the next one; None when there is none.

    Args:
        found: what was read, one more than the page holds if there is more.
        limit: of the page.
    """
    page = found[:limit]
    return page, page[-1].id if len(found) > len(page) else None
