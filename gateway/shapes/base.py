"""What every shape is, what several of them share, and how a refusal looks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from hermes.logs import Unshown

Instant = Annotated[datetime, Meta(tz=True)]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
SlugName = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_.-]{0,63}$", examples=["otp"])]
PathName = Annotated[str, Meta(description="when given, the name of the path")]  # of what is written to its own path
MOST_IN_PAGE: Final = 1_000


class Shape(Unshown, Struct):
    """What all of them are."""


class FieldError(Shape):
    """One field that is wrong, named as the request names it."""

    field: str
    why: str


class ProblemBody(Shape, omit_defaults=True):
    """A refusal (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    layer: str | UnsetType = UNSET
    errors: list[FieldError] | UnsetType = UNSET


class Nothing(Shape, forbid_unknown_fields=True):
    """An empty object (or no body at all), or no query parameter."""


class PageQuery(Shape, forbid_unknown_fields=True):
    """Which page."""

    limit: Annotated[int, Meta(ge=1, le=MOST_IN_PAGE)] = 100
    cursor: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
