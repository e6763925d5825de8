"""A tenant's stored cascades."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from gateway.shapes.base import PathName, Shape, SlugName
from gateway.shapes.messages import MOST_STEPS, StepBody
from hermes.domain.state import Category, Channel, OnAmbiguous


class PolicyFields(Shape, kw_only=True, forbid_unknown_fields=True):
    """A stored cascade: a message that names it gets what it does not say itself."""

    cascade: Annotated[list[StepBody | Channel], Meta(min_length=1, max_length=MOST_STEPS)]
    category: Category | None = None
    expires_in_s: Annotated[float, Meta(ge=1, le=604_800)] | None = None
    on_ambiguous: OnAmbiguous | None = None


class PolicyBody(PolicyFields, kw_only=True, forbid_unknown_fields=True):
    """A new policy."""

    name: SlugName


class PolicyChange(PolicyFields, kw_only=True, forbid_unknown_fields=True):
    """The whole of a policy."""

    name: PathName | None = None


class PolicyView(Shape):
    """A policy."""

    name: str
    cascade: list[StepBody | Channel]
    category: Category | None
    expires_in_s: float | None
    on_ambiguous: OnAmbiguous | None
    created_at: str
    updated_at: str


class PolicyPage(Shape):
    """A tenant's policies, by name."""

    data: list[PolicyView]
    next_cursor: str | None
