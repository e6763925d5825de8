"""A tenant's templates and their versions."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from gateway.shapes.base import PathName, Shape, SlugName
from gateway.shapes.messages import ContentBody

Locale = Annotated[str, Meta(pattern="^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}$")]


class TemplateFields(Shape, kw_only=True, forbid_unknown_fields=True):
    """A template: what to say, by locale, with variables as in `Hi {{ name }}`."""

    locales: Annotated[dict[Locale, ContentBody], Meta(min_length=1, max_length=100)]
    default_locale: Annotated[str, Meta(description="one of the locales, for those that are not there")] = "en"


class TemplateBody(TemplateFields, kw_only=True, forbid_unknown_fields=True):
    """A new template."""

    name: SlugName


class TemplateChange(TemplateFields, kw_only=True, forbid_unknown_fields=True):
    """A new version of a template."""

    name: PathName | None = None


class TemplateView(Shape):
    """One version of a template, and the variables its texts name."""

    name: str
    version: int
    default_locale: str
    locales: dict[str, dict[str, Any]]
    variables: list[str]
    created_at: str


class TemplateSummary(Shape):
    """The newest version of a template."""

    name: str
    version: int
    created_at: str


class TemplatePage(Shape):
    """A tenant's templates, by name."""

    data: list[TemplateSummary]
    next_cursor: str | None


class TemplateQuery(Shape, forbid_unknown_fields=True):
    """Which version."""

    version: Annotated[int, Meta(ge=1, le=2_147_483_647, description="default: the newest")] | None = None


class RenderBody(Shape, forbid_unknown_fields=True):
    """What to put into a template."""

    version: Annotated[int, Meta(ge=1, description="default: the newest")] | None = None
    locale: Annotated[str, Meta(max_length=35)] | None = None
    variables: dict[str, Any] | None = None


class Rendered(Shape):
    """What a message would say."""

    name: str
    version: int
    locale: str
    content: dict[str, Any]
