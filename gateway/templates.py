"""/v1/tenants/{id}/templates, and what a message that names one says.

Versions never change, so what was compiled once is right for ever; it is kept by the template's id, which a template
made anew under an old name does not share.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

import msgspec

from gateway.decode import decode_any, decode_json, decode_query, has_nul
from gateway.edge import Call, Edge, Reply, author, reading, writing
from gateway.problems import Problem, invalid, invalid_fields, not_found
from gateway.rendering import Compiled, TemplateRefused
from gateway.shapes import (
    ContentBody,
    FieldError,
    MessageBody,
    RenderBody,
    Rendered,
    TemplateBody,
    TemplateChange,
    TemplateFields,
    TemplatePage,
    TemplateQuery,
    TemplateSummary,
    TemplateUse,
    TemplateView,
)
from gateway.tenants import done, find_tenant
from hermes.domain.message import rfc3339
from hermes.journal.base import Conflict, Template

MOST_TEMPLATES: Final = 500  # of one tenant
MOST_COMPILED: Final = 256  # versions kept ready

_template_body = msgspec.json.Decoder(TemplateBody)
_template_change = msgspec.json.Decoder(TemplateChange)
_render_body = msgspec.json.Decoder(RenderBody)
_fields = msgspec.json.Decoder(TemplateFields)


class _Version:
    """A version, compiled: every locale."""

    def __init__(self, fields: TemplateFields) -> None:
        self.default_locale = fields.default_locale
        self._locales: dict[str, tuple[str, Compiled]] = {}  # by lower case
        for locale, content in fields.locales.items():
            try:
                self._locales[locale.lower()] = (locale, Compiled(_plain(content)))
            except TemplateRefused as exc:
                raise TemplateRefused(f"locales.{locale}.{exc.field}", exc.why) from exc

    def find(self, locale: str | None) -> tuple[str, Compiled]:
        """Find what comes nearest: da-DK, else da, else the default."""
        wanted = (locale or self.default_locale).lower()
        while wanted:
            found = self._locales.get(wanted)
            if found is not None:
                return found
            wanted = wanted.rpartition("-")[0]
        return self._locales[self.default_locale.lower()]

    @property
    def variables(self) -> list[str]:
        """Every variable that a locale names."""
        return sorted(set().union(*(compiled.variables for _, compiled in self._locales.values())))


class Shelf:
    """The compiled templates, and the one way to use them."""

    def __init__(self, edge: Edge) -> None:
        self._journal = edge.journal
        self._directory = edge.directory
        self._ready: OrderedDict[tuple[str, int], _Version] = OrderedDict()

    async def fill_in(self, body: MessageBody, tenant_id: str, errors: list[FieldError]) -> None:
        """Give a message its content from the template it names; the message's own fields win.

        Raises:
            Problem: journal_away.
        """
        use = body.template
        if use is None:
            return
        try:
            _, _, made = await self.render(tenant_id, use)
            own = {} if body.content is None else _plain(body.content)
            body.content = msgspec.convert({**made, **own}, ContentBody)
        except TemplateRefused as exc:
            errors.append(FieldError(f"template.{exc.field}", exc.why))

    async def render(self, tenant_id: str, use: TemplateUse) -> tuple[Template, str, dict[str, Any]]:
        """Make the content that a template's use asks for: with its version and its locale.

        Raises:
            TemplateRefused: there is no such template or version, or its variables do not do.
            Problem: journal_away.
        """
        found = await self.version(tenant_id, use.name, use.version)
        if found is None:
            if self._directory.template(tenant_id, use.name) is None:
                raise TemplateRefused("name", "is no template of this tenant")
            raise TemplateRefused("version", "is no version of this template, or is not kept any more")
        template, version = found
        locale, compiled = version.find(use.locale)
        return template, locale, compiled.render(use.variables or {})

    async def version(self, tenant_id: str, name: str, number: int | None) -> tuple[Template, _Version] | None:
        """Find a version, None the newest; compile it if it is not ready.

        Raises:
            Problem: journal_away.
        """
        head = self._directory.template(tenant_id, name)
        if head is None or (number is not None and not 0 < number <= head.version):
            return None
        key = (head.id, number or head.version)
        ready = self._ready.get(key)
        if ready is None:
            stored = await reading(self._journal.template(tenant_id, name, key[1]))
            if stored is None or stored.id != head.id:
                return None
            ready = self._ready[key] = _Version(_fields.decode(stored.body))
            if len(self._ready) > MOST_COMPILED:
                self._ready.popitem(last=False)
        else:
            self._ready.move_to_end(key)
        return head, ready


class Templates:
    """The handlers of /v1/tenants/{id}/templates."""

    def __init__(self, edge: Edge, shelf: Shelf) -> None:
        self._edge = edge
        self._directory = edge.directory
        self._shelf = shelf
        self._limit = edge.settings.server.max_body_bytes

    async def create(self, call: Call) -> Reply:
        """Store a template's first version."""
        tenant = find_tenant(call)
        asked = decode_json(_template_body, await self._body(call))
        if self._directory.template(tenant.id, asked.name) is not None:
            raise invalid("name", "is taken: PUT adds a version")
        if len(self._directory.templates(tenant.id)) >= MOST_TEMPLATES:
            raise invalid("name", f"a tenant has at most {MOST_TEMPLATES} templates")
        return await self._put(call, tenant.id, asked.name, asked, 201)

    async def change(self, call: Call) -> Reply:
        """Add a version of a template; what was sent with earlier ones stays as it is."""
        head = self._head(call)
        asked = decode_json(_template_change, await self._body(call))
        if asked.name is not None and asked.name != head.name:
            raise invalid("name", "is not the name of the path, and cannot be changed")
        return await self._put(call, head.tenant, head.name, asked, 200)

    async def list(self, call: Call) -> Reply:
        """List a tenant's templates, by name."""
        heads = self._directory.templates(find_tenant(call).id)
        data = [TemplateSummary(head.name, head.version, rfc3339(head.created_at)) for head in heads]
        return call.reply(200, TemplatePage(data, None))

    async def get(self, call: Call) -> Reply:
        """Show a template: its newest version, or the one asked for."""
        head = self._head(call)
        asked = decode_query(TemplateQuery, call.request.query.items())
        number = asked.version or head.version
        stored = await reading(self._edge.journal.template(head.tenant, head.name, number))
        if stored is None:
            raise not_found("version of this template")
        return call.reply(200, _view(stored))

    async def delete(self, call: Call) -> Reply:
        """Remove a template with all its versions; what was sent stays as it is."""
        tenant = find_tenant(call)
        if not await writing(self._directory.delete_template(tenant.id, call.params["template"], by=author(call))):
            raise not_found("template")
        return done(call)

    async def render(self, call: Call) -> Reply:
        """Show what a message would say; nothing is sent."""
        head = self._head(call)
        asked = decode_json(_render_body, await self._body(call))
        use = TemplateUse(head.name, asked.version, asked.locale, asked.variables)
        try:
            template, locale, made = await self._shelf.render(head.tenant, use)
        except TemplateRefused as exc:
            raise invalid(exc.field, exc.why) from exc
        return call.reply(200, Rendered(template.name, asked.version or template.version, locale, made))

    # --- inside
    async def _body(self, call: Call) -> bytes:
        raw = await call.json_body(self._limit)
        if b"\\u0000" in raw:
            nul = has_nul(decode_any(raw))
            if nul is not None:
                raise invalid(nul, "holds a NUL character")
        return raw

    def _head(self, call: Call) -> Template:
        template = self._directory.template(find_tenant(call).id, call.params["template"])
        if template is None:
            raise not_found("template")
        return template

    async def _put(self, call: Call, tenant_id: str, name: str, asked: TemplateFields, status: int) -> Reply:
        _check_locales(asked)
        body = msgspec.json.encode(
            {
                "default_locale": asked.default_locale,
                "locales": {locale: _plain(content) for locale, content in asked.locales.items()},
            }
        ).decode()
        try:
            stored = await writing(self._directory.put_template(tenant_id, name, body, by=author(call)))
        except Conflict as exc:
            raise Problem("overloaded", "This template is being changed by others, too; try again.") from exc
        location = f"Location: /v1/tenants/{tenant_id}/templates/{name}\r\n"
        return call.reply(status, _view(stored), headers=location if status == 201 else "")


def _check_locales(asked: TemplateFields) -> None:
    """Compile every text.

    Raises:
        Problem: schema_invalid.
    """
    lower = [locale.lower() for locale in asked.locales]
    if len(set(lower)) != len(lower):
        raise invalid("locales", "names one locale twice")
    if asked.default_locale.lower() not in lower:
        raise invalid("default_locale", "is none of the locales")
    for locale, content in asked.locales.items():
        if not _plain(content):
            raise invalid(f"locales.{locale}", "says nothing")
    try:
        _Version(asked)
    except TemplateRefused as exc:
        raise invalid_fields([FieldError(exc.field, exc.why)]) from exc


def _plain(content: ContentBody) -> dict[str, Any]:
    """Write a content as JSON values, without what is not said."""
    named: dict[str, Any] = msgspec.to_builtins(content)
    return {
        name: {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) and name != "data" else value
        for name, value in named.items()
        if value is not None
    }


def _view(template: Template) -> TemplateView:
    fields = _fields.decode(template.body)
    return TemplateView(
        template.name,
        template.version,
        fields.default_locale,
        {locale: _plain(content) for locale, content in fields.locales.items()},
        _Version(fields).variables,
        rfc3339(template.created_at),
    )
