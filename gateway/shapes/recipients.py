"""Whom a tenant may write to: do-not-contact lists, consents, and erasures."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from gateway.shapes.base import MOST_IN_PAGE, Instant, Shape
from hermes.domain.state import Category, Channel

MOST_ROWS: Final = 10_000  # of a CSV file in one request


class SuppressionBody(Shape, forbid_unknown_fields=True):
    """A recipient who must not be written to."""

    address: Annotated[
        str, Meta(min_length=1, max_length=4096, description="phone number, e-mail address or device token")
    ]
    channel: Annotated[Channel, Meta(description="every channel that reaches the address when left out")] | None = None
    reason: Annotated[str, Meta(min_length=1, max_length=200, description="default manual")] | None = None


class SuppressionView(Shape):
    """A recipient who must not be written to; `channel` null: on no channel."""

    id: str
    channel: Channel | None
    address: str
    reason: str
    created_at: str


class SuppressionPage(Shape):
    """Recipients who must not be written to, newest first."""

    data: list[SuppressionView]
    next_cursor: str | None


class ConsentProof(Shape, forbid_unknown_fields=True):
    """How it is known that somebody agreed."""

    source: Annotated[str, Meta(min_length=1, max_length=200, description="where, as in signup form")]
    ip: Annotated[str, Meta(min_length=1, max_length=64, description="from where")] | None = None
    text_version: Annotated[str, Meta(min_length=1, max_length=200, description="which wording")] | None = None
    at: Annotated[Instant, Meta(description="when; default now")] | None = None


class ConsentBody(Shape, forbid_unknown_fields=True):
    """A recipient who agreed to be written to."""

    channel: Channel
    address: Annotated[
        str, Meta(min_length=1, max_length=4096, description="phone number, e-mail address or device token")
    ]
    proof: ConsentProof
    category: Annotated[Category, Meta(description="default marketing")] | None = None


class ConsentProofView(Shape):
    """How it is known that somebody agreed; `ip` is null, too, once the recipient was erased."""

    source: str
    ip: str | None
    text_version: str | None
    at: str


class ConsentView(Shape):
    """A consent; `address` is null once the recipient was erased."""

    id: str
    channel: Channel
    category: Category
    address: str | None
    proof: ConsentProofView
    created_at: str
    withdrawn_at: Annotated[str | None, Meta(description="from when on it does not count")]


class ConsentPage(Shape):
    """Consents, newest first."""

    data: list[ConsentView]
    next_cursor: str | None


class ConsentQuery(Shape, forbid_unknown_fields=True):
    """Which consents."""

    address: Annotated[str, Meta(min_length=1, max_length=4096, description="of this recipient")] | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_IN_PAGE)] = 100
    cursor: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


class ErasureBody(Shape, forbid_unknown_fields=True):
    """A recipient who is to be forgotten."""

    address: Annotated[
        str, Meta(min_length=1, max_length=4096, description="phone number, e-mail address or device token")
    ]
    channel: Annotated[Channel, Meta(description="whose kind of address it is; else its form tells")] | None = None


class ErasureView(Shape):
    """How far the erasing of a recipient has come. `recipient` is a keyed hash: the same address, the same text."""

    id: str
    status: Literal["running", "done"]
    recipient: str
    asked_by: str
    messages: Annotated[int, Meta(description="erased so far")]
    inbound: Annotated[int, Meta(description="inbound messages erased so far")]
    created_at: str
    done_at: str | None


class ErasurePage(Shape):
    """Erasures, newest first."""

    data: list[ErasureView]
    next_cursor: str | None


class RefusedRow(Shape):
    """A row of the file that was left out. The line with the names is row 1."""

    row: int
    field: str
    why: str


class Imported(Shape):
    """What became of the rows: `added` are new, `known` were there, `refused` were left out (the first 100 of them)."""

    rows: int
    added: int
    known: int
    refused: int
    errors: list[RefusedRow]


class ExportQuery(Shape, forbid_unknown_fields=True):
    """Which part of the list."""

    limit: Annotated[int, Meta(ge=1, le=MOST_ROWS)] = MOST_ROWS
    cursor: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
