"""The HTTP edge, put together: every route in one table, one way in, one way out.

Read `routes` first. A request's way: `Gateway.handle` finds its route, `auth` finds out who asks, the
handler answers or raises `Problem`; whatever else is raised is our bug, logged, and answered 500 without a
word about it.

aiohttp's router, middlewares and responses are left out: together they cost more than all of our own work
on a message (benchmarks/gateway.py).
"""

from __future__ import annotations

import logging
from typing import Final
from urllib.parse import unquote

from gateway import shapes as s
from gateway.actors import Actors
from gateway.auth import Access, authenticate
from gateway.callbacks import Callbacks
from gateway.carriers import Carriers
from gateway.connection import Request, new_request_id
from gateway.consents import ConsentRecords
from gateway.console import Console
from gateway.decode import decode_query
from gateway.docs import Docs
from gateway.edge import OPERATOR, Call, Edge, Reply, journal_away
from gateway.erasures import Erasures
from gateway.hosts import Hosts
from gateway.messages import BATCH_TIMES, Messages
from gateway.operate import Operate
from gateway.overview import OverviewPage
from gateway.policies import Policies
from gateway.problems import Problem
from gateway.routes import Route
from gateway.signing import Signing
from gateway.signup import Signup
from gateway.suppressions import SuppressionLists
from gateway.templates import Shelf, Templates
from gateway.tenants import Tenants
from gateway.usage import Usage
from hermes.journal.base import JournalAway

logger = logging.getLogger(__name__)

_LONGEST_REQUEST_ID: Final = 128  # characters
_SEND_CODES: Final = (
    "malformed_json",
    "too_large",
    "unsupported_media_type",
    "schema_invalid",
    "content_refused",
    "compliance_refused",
    "do_not_contact",
    "no_route",
    "callback_refused",
    "duplicate",
    "rate_limited",
    "quota_exceeded",
    "overloaded",
    "too_many_open",
    "outcome_unknown",
    "idempotency_running",
    "idempotency_mismatch",
)
_BODY_CODES: Final = ("malformed_json", "too_large", "unsupported_media_type", "schema_invalid")


def routes(
    messages: Messages,
    tenants: Tenants,
    signup: Signup,
    suppressions: SuppressionLists,
    policies: Policies,
    templates: Templates,
    usage: Usage,
    signing: Signing,
    erasures: Erasures,
    consents: ConsentRecords,
    callbacks: Callbacks,
    actors: Actors,
    operate: Operate,
    overview: OverviewPage,
    carriers: Carriers,
    docs: Docs,
    console: Console,
) -> list[Route]:
    """List every route there is, in the order of the documentation."""
    R, nobody, send, read = Route, Access.OPEN, Access.SEND, Access.READ
    own, operator = Access.OWN, Access.OPERATOR
    body, known = _BODY_CODES, ("not_found",)
    change = ("not_found", "outcome_unknown", *_BODY_CODES)
    end = ("not_found", "outcome_unknown")
    order = ("not_found", "overloaded", *_BODY_CODES)
    m, t = "Messages", "/v1/tenants/{id}"
    return [
        R("POST", "/v1/messages", messages.send, send, m, {202: s.Accepted}, s.MessageBody,
          codes=_SEND_CODES),
        R("GET", "/v1/messages", messages.list, read, m, {200: s.MessagePage}, query=s.ListQuery),
        R("POST", "/v1/messages/batch", messages.send_batch, send, m, {200: s.BatchAnswer}, s.BatchBody,
          codes=(*body, "overloaded", "outcome_unknown")),
        R("POST", "/v1/messages/validate", messages.validate, send, m, {200: s.Verdict}, s.MessageBody,
          codes=("malformed_json", "too_large", "unsupported_media_type", "overloaded")),
        R("GET", "/v1/messages/counts", messages.counts, read, m, {200: s.Counts}, query=s.CountsQuery),
        R("POST", "/v1/messages/lookup", messages.lookup, read, m, {200: s.MessageList}, s.LookupBody,
          codes=body),
        R("GET", "/v1/messages/{id}", messages.get, read, m, {200: s.MessageView}, codes=known),
        R("POST", "/v1/messages/{id}/cancel", messages.cancel, send, m, {200: s.MessageView}, s.Nothing,
          codes=("already_final", "overloaded", *change), body_optional=True),
        R("POST", "/v1/messages/{id}/reschedule", messages.reschedule, send, m, {200: s.MessageView}, s.RescheduleBody,
          codes=("already_final", "already_begun", "overloaded", *change)),

        R("POST", "/v1/webhooks/dlr", callbacks.receipt, nobody, "Receipts",
          {200: s.ReceiptAnswer, 202: s.ReceiptAnswer}, s.ReceiptBody,
          codes=("unauthenticated", "overloaded", "journal_away", *body)),
        R("POST", "/v1/webhooks/{carrier}", callbacks.provider, nobody, "Receipts", {200: "*/*"}, query=None,
          codes=("unauthenticated", "scope_missing", "not_found", "too_large", "overloaded", "journal_away")),
        R("GET", "/v1/webhooks/{carrier}", callbacks.provider, nobody, "Receipts", {200: "*/*"}, query=None,
          codes=("unauthenticated", "scope_missing", "not_found", "overloaded", "journal_away")),

        R("POST", "/v1/tenants", tenants.create, operator, "Tenants", {201: s.TenantView}, s.TenantBody,
          codes=(*body, "outcome_unknown")),
        R("GET", "/v1/tenants", tenants.list, operator, "Tenants", {200: s.TenantPage}),
        R("GET", t, tenants.get, operator, "Tenants", {200: s.TenantView}, codes=known),
        R("PUT", t, tenants.change, operator, "Tenants", {200: s.TenantView}, s.TenantChange, codes=change),
        R("DELETE", t, tenants.delete, operator, "Tenants", {204: None}, codes=end),
        R("POST", "/v1/signup", signup.sign_up, nobody, "Tenants", {201: s.SignupView}, s.SignupBody,
          codes=("not_found", "overloaded", "journal_away", "outcome_unknown", *body)),
        R("POST", t + "/promote", signup.promote, own, "Tenants",
          {200: s.Promotion, 201: s.Promotion, 202: s.Promotion}, s.Nothing, codes=change, body_optional=True),
        R("POST", t + "/keys", tenants.create_key, operator, "Keys", {201: s.KeyCreated}, s.KeyBody,
          codes=change),
        R("GET", t + "/keys", tenants.list_keys, operator, "Keys", {200: s.KeyPage}, codes=known),
        R("POST", t + "/keys/{key}/rotate", tenants.rotate_key, operator, "Keys", {201: s.KeyRotated},
          s.RotateBody, codes=change, body_optional=True),
        R("DELETE", t + "/keys/{key}", tenants.delete_key, operator, "Keys", {204: None}, codes=end),
        R("GET", t + "/keys/{key}/signing-secret", signing.secret, own, "Keys", {200: s.SigningSecret}, codes=known),
        R("GET", t + "/signing", signing.show, own, "Keys", {200: s.SigningView}, codes=known),
        R("PUT", t + "/signing", signing.change, own, "Keys", {200: s.SigningView}, s.SigningBody, codes=change),
        R("GET", t + "/audit", tenants.list_changes, own, "Tenants", {200: s.ChangePage}, query=s.PageQuery,
          codes=known),
        R("GET", "/v1/audit", tenants.list_all_changes, operator, "Tenants", {200: s.ChangePage}, query=s.PageQuery),
        R("POST", t + "/templates", templates.create, own, "Templates", {201: s.TemplateView}, s.TemplateBody,
          codes=("overloaded", *change)),
        R("GET", t + "/templates", templates.list, own, "Templates", {200: s.TemplatePage}, codes=known),
        R("GET", t + "/templates/{template}", templates.get, own, "Templates", {200: s.TemplateView},
          query=s.TemplateQuery, codes=known),
        R("PUT", t + "/templates/{template}", templates.change, own, "Templates", {200: s.TemplateView},
          s.TemplateChange, codes=("overloaded", *change)),
        R("DELETE", t + "/templates/{template}", templates.delete, own, "Templates", {204: None}, codes=end),
        R("POST", t + "/templates/{template}/render", templates.render, own, "Templates", {200: s.Rendered},
          s.RenderBody, codes=(*known, *body)),
        R("GET", t + "/usage", usage.get, own, "Tenants", {200: s.UsagePage}, query=s.UsageQuery, codes=known),
        R("GET", t + "/quotas", usage.quotas, own, "Tenants", {200: s.QuotaPage}, query=s.QuotaQuery, codes=known),
        R("POST", t + "/consents", consents.create, own, "Privacy", {201: s.ConsentView}, s.ConsentBody, codes=change),
        R("GET", t + "/consents", consents.list, own, "Privacy", {200: s.ConsentPage}, query=s.ConsentQuery,
          codes=known),
        R("GET", t + "/consents/{consent}", consents.get, own, "Privacy", {200: s.ConsentView}, codes=known),
        R("POST", t + "/consents/{consent}/withdraw", consents.withdraw, own, "Privacy", {200: s.ConsentView},
          s.Nothing, codes=change, body_optional=True),
        R("POST", t + "/erasures", erasures.create, own, "Privacy", {202: s.ErasureView}, s.ErasureBody, codes=change),
        R("GET", t + "/erasures", erasures.list, own, "Privacy", {200: s.ErasurePage}, query=s.PageQuery, codes=known),
        R("GET", t + "/erasures/{erasure}", erasures.get, own, "Privacy", {200: s.ErasureView}, codes=known),
        R("POST", t + "/policies", policies.create, own, "Policies", {201: s.PolicyView}, s.PolicyBody, codes=change),
        R("GET", t + "/policies", policies.list, own, "Policies", {200: s.PolicyPage}, codes=known),
        R("GET", t + "/policies/{policy}", policies.get, own, "Policies", {200: s.PolicyView}, codes=known),
        R("PUT", t + "/policies/{policy}", policies.change, own, "Policies", {200: s.PolicyView}, s.PolicyChange,
          codes=change),
        R("DELETE", t + "/policies/{policy}", policies.delete, own, "Policies", {204: None}, codes=end),
        R("GET", t + "/secret", tenants.get_secret, own, "Events out", {200: s.SecretView}, codes=known),
        R("POST", t + "/secret", tenants.rotate_secret, own, "Events out", {200: s.SecretView}, s.RotateBody,
          codes=change, body_optional=True),
        R("POST", t + "/webhooks", tenants.create_endpoint, own, "Events out", {201: s.EndpointCreated},
          s.EndpointBody, codes=("callback_refused", *change)),
        R("GET", t + "/webhooks", tenants.list_endpoints, own, "Events out", {200: s.EndpointPage},
          codes=known),
        R("DELETE", t + "/webhooks/{endpoint}", tenants.delete_endpoint, own, "Events out", {204: None},
          codes=end),
        *suppression_routes(suppressions, t, own),
        *suppression_routes(suppressions, "/v1", operator),
        R("GET", t + "/dead-letters", tenants.list_dead_letters, own, "Events out", {200: s.DeadLetterPage},
          query=s.PageQuery, codes=known),
        R("POST", t + "/dead-letters/{letter}/replay", tenants.replay_dead_letter, own, "Events out",
          {202: s.Replayed}, s.Nothing, codes=change, body_optional=True),

        R("GET", "/v1/actors", actors.actors, operator, "Operate", {200: s.ActorView}, shared=True),
        R("GET", "/v1/actors/{name...}", actors.actor, operator, "Operate", {200: s.ActorView}, codes=known,
          shared=True),
        R("POST", "/v1/actors/{name...}/suspend", actors.suspend, operator, "Operate", {200: s.ActorView}, s.Nothing,
          codes=order, body_optional=True, shared=True),
        R("POST", "/v1/actors/{name...}/resume", actors.resume, operator, "Operate", {200: s.ActorView}, s.Nothing,
          codes=order, body_optional=True, shared=True),
        R("POST", "/v1/actors/{name...}/restart", actors.restart, operator, "Operate", {200: s.ActorView}, s.Nothing,
          codes=order, body_optional=True, shared=True),
        R("POST", "/v1/actors/{name...}/stop", actors.stop, operator, "Operate", {200: s.ActorView}, s.Nothing,
          codes=order, body_optional=True, shared=True),
        R("POST", "/v1/actors/{name...}/log-level", actors.log_level, operator, "Operate", {200: s.LogLevels},
          s.LogLevelBody, codes=order, shared=True),
        R("GET", "/v1/overview", overview.overview, operator, "Operate", {200: s.Overview}, query=s.OverviewQuery,
          shared=True),
        R("GET", "/v1/log", overview.log, operator, "Operate", {200: s.LogPage}, query=s.LogQuery, shared=True),
        R("GET", "/v1/carriers", carriers.list, operator, "Carriers", {200: s.CarrierPage}, shared=True),
        R("POST", "/v1/carriers", carriers.add, operator, "Carriers", {201: s.CarrierView}, s.CarrierBody,
          codes=(*body, "overloaded", "outcome_unknown")),
        R("GET", "/v1/carriers/{name}", carriers.get, operator, "Carriers", {200: s.CarrierView}, codes=known,
          shared=True),
        R("PUT", "/v1/carriers/{name}", carriers.change, operator, "Carriers", {200: s.CarrierView}, s.CarrierChange,
          codes=("overloaded", *change)),
        R("DELETE", "/v1/carriers/{name}", carriers.remove, operator, "Carriers", {204: None},
          codes=("schema_invalid", "overloaded", *end)),
        R("POST", "/v1/carriers/{name}/pause", carriers.pause, operator, "Carriers", {200: s.CarrierView}, s.Nothing,
          codes=change, body_optional=True, shared=True),
        R("POST", "/v1/carriers/{name}/resume", carriers.resume, operator, "Carriers", {200: s.CarrierView}, s.Nothing,
          codes=change, body_optional=True, shared=True),
        R("POST", "/v1/carriers/{name}/drain", carriers.drain, operator, "Carriers", {200: s.CarrierView}, s.Nothing,
          codes=change, body_optional=True, shared=True),
        R("GET", "/v1/routes", carriers.routes, operator, "Carriers", {200: s.RoutePage}),
        R("PUT", "/v1/routes", carriers.set_routes, operator, "Carriers", {200: s.RoutePage}, s.RouteBody,
          codes=(*body, "outcome_unknown")),
        R("POST", "/v1/routes/explain", carriers.explain, operator, "Carriers", {200: s.Explanation}, s.ExplainBody,
          codes=body),
        R("GET", "/v1/workers", operate.workers, operator, "Operate", {200: s.WorkerPage}, shared=True),
        R("GET", "/livez", operate.livez, nobody, "Health", {200: s.Health}, query=None),
        R("GET", "/readyz", operate.readyz, nobody, "Health", {200: s.Health}, query=None,
          codes=("journal_away", "overloaded")),
        R("GET", "/metrics", operate.metrics, nobody, "Health", {200: "text/plain"}, query=None,
          codes=("unauthenticated",), shared=True),
        R("GET", "/console", console.page, nobody, "Console", {200: "text/html"}, query=None),
        R("GET", "/console/session", console.session, nobody, "Console", {200: s.SessionView},
          codes=("unauthenticated",)),
        R("POST", "/console/login", console.login, nobody, "Console", {200: s.SessionView}, s.LoginBody,
          codes=("unauthenticated", *body)),
        R("POST", "/console/logout", console.logout, nobody, "Console", {204: None},
          codes=("unauthenticated", "scope_missing")),
        R("GET", "/console/{file}", console.file, nobody, "Console", {200: "*/*"}, query=None, codes=("not_found",)),
        R("GET", "/openapi.json", docs.openapi, nobody, "Documentation", {200: "application/json"}, query=None),
        R("GET", "/docs", docs.page, nobody, "Documentation", {200: "text/html"}, query=None),
        R("GET", "/docs/{file}", docs.file, nobody, "Documentation", {200: "*/*"}, query=None, codes=("not_found",)),
    ]  # fmt: skip


def suppression_routes(lists: SuppressionLists, base: str, access: Access) -> list[Route]:
    """List the routes of one do-not-contact list: a tenant's own, or the operator's."""
    R, path, tag = Route, base + "/suppressions", "Do not contact"
    known = ("not_found",) if "{id}" in base else ()
    return [
        R("GET", path, lists.list, access, tag, {200: s.SuppressionPage}, query=s.PageQuery, codes=known),
        R("POST", path, lists.add, access, tag, {200: s.SuppressionView, 201: s.SuppressionView}, s.SuppressionBody,
          codes=("outcome_unknown", *known, *_BODY_CODES)),
        R("POST", path + "/import", lists.import_csv, access, tag, {200: s.Imported}, "text/csv",
          codes=("outcome_unknown", "too_large", "unsupported_media_type", "malformed_json", "schema_invalid", *known)),
        R("GET", path + "/export", lists.export_csv, access, tag, {200: "text/csv"}, query=s.ExportQuery, codes=known),
        R("DELETE", path + "/{suppression}", lists.remove, access, tag, {204: None},
          codes=("not_found", "outcome_unknown")),
    ]  # fmt: skip


class _Methods:
    """The routes of one path, by method; HEAD is GET without its body."""

    __slots__ = ("allow", "routes")

    def __init__(self) -> None:
        self.routes: dict[str, Route] = {}
        self.allow = ""

    def add(self, route: Route) -> None:
        self.routes[route.method] = route
        if route.method == "GET":
            self.routes["HEAD"] = route
        self.allow = ", ".join(sorted(self.routes))


class _Branch:
    """The paths below one part of a path: by the next part, or by a parameter."""

    __slots__ = ("by_name", "ends", "methods", "parameter", "rest", "rest_orders")

    def __init__(self) -> None:
        self.methods: _Methods | None = None
        self.by_name: dict[str, _Branch] = {}
        self.parameter: _Branch | None = None
        self.rest: _Methods | None = None  # `{name...}`: all parts that are left
        self.rest_orders: dict[str, _Methods] = {}  # `{name...}/order`: all but the last part
        self.ends: tuple[str, ...] = ()  # the parameters' names, in order


class Gateway:
    """Answers every request of the HTTP edge."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self.closing = False  # no connection is to be used for another request
        self._hosts = Hosts(edge.clock, edge.settings.server.allow_private_callbacks, edge.resolve)
        self._signing = Signing(edge, edge.settings.server.max_body_bytes * BATCH_TIMES)
        docs = Docs(edge)
        shelf = Shelf(edge)
        self.carriers = carriers = Carriers(edge, shelf)
        self._overview = OverviewPage(edge, carriers)
        self.routes = routes(
            Messages(edge, self._hosts, shelf),
            Tenants(edge, self._hosts),
            Signup(edge),
            SuppressionLists(edge),
            Policies(edge),
            Templates(edge, shelf),
            Usage(edge),
            self._signing,
            Erasures(edge),
            ConsentRecords(edge),
            Callbacks(edge),
            Actors(edge),
            Operate(edge),
            self._overview,
            carriers,
            docs,
            Console(edge),
        )
        docs.document(self.routes)
        self._exact: dict[str, _Methods] = {}
        self._root = _Branch()
        for route in self.routes:
            self._add(route)

    def close(self) -> None:
        """Let go of what is no memory."""
        self._hosts.close()
        self._overview.close()

    async def handle(self, request: Request, *, local: bool = False) -> Reply:
        """Answer one request. Raises nothing but cancellation.

        Args:
            request: what was read.
            local: another worker asks, about this one only; it came by the control channel.
        """
        given = request.headers.get("X-Request-Id")
        call = Call(self._edge, request, given if given is not None and _is_request_id(given) else new_request_id())
        try:
            methods = self._exact.get(request.raw_path)
            if methods is None:
                methods = self._find(call, request.rel_url.raw_path)
            route = methods.routes.get(call.method)
            if route is None:
                raise Problem(
                    "method_not_allowed",
                    f"{call.method[:40]} is not for this path.",
                    headers=f"Allow: {methods.allow}\r\n",
                )
            if local:
                if not route.shared:
                    raise _no_path()
                call.local, call.caller = True, OPERATOR
            else:
                call.caller = authenticate(self._edge, request, route.access)
                if self._signing.is_asked(call):
                    await self._signing.check(call)
            if "?" in request.raw_path and route.query is s.Nothing and request.rel_url.raw_query_string:
                decode_query(s.Nothing, request.query.items())
            reply = await route.handler(call)
        except Problem as problem:
            reply = call.problem(problem)
        except JournalAway:
            reply = call.problem(journal_away())
        except Exception:  # the operator is told, in the log; the caller only that it was us
            logger.exception("a request failed", extra={"request_id": call.request_id})
            reply = call.problem(Problem("internal", "This is a mistake of ours; the log tells more."))
        if self.closing and not local:
            reply.close = True
        return reply

    def _find(self, call: Call, raw_path: str) -> _Methods:
        """Find the path, and read its parameters into `call.params`.

        Raises:
            Problem: not_found.
        """
        exact = self._exact.get(raw_path)
        if exact is not None:
            return exact
        branch = self._root
        values: list[str] = []
        parts = raw_path.split("/")
        for n, part in enumerate(parts[1:], 1):
            if branch.rest is not None and part:
                order = branch.rest_orders.get(parts[-1]) if n < len(parts) - 1 else None
                if order is not None and call.method in order.routes:
                    values.append("/".join(parts[n:-1]))
                    return self._found(call, order, branch, values)
                values.append("/".join(parts[n:]))
                return self._found(call, branch.rest, branch, values)
            below = branch.by_name.get(part)
            if below is None:
                below = branch.parameter
                if below is None or not part:
                    raise _no_path()
                values.append(part)
            branch = below
        if branch.methods is None:
            raise _no_path()
        return self._found(call, branch.methods, branch, values)

    @staticmethod
    def _found(call: Call, methods: _Methods, branch: _Branch, values: list[str]) -> _Methods:
        call.params = {name: unquote(value) for name, value in zip(branch.ends, values, strict=True)}
        return methods

    def _add(self, route: Route) -> None:
        if "{" not in route.path:
            self._exact.setdefault(route.path, _Methods()).add(route)
        branch = self._root
        names: list[str] = []
        parts = route.path.split("/")[1:]
        for n, part in enumerate(parts):
            if part.endswith("...}"):
                branch.ends = (*names, part[1:-4])
                branch.rest = branch.rest or _Methods()
                last = branch.rest if n == len(parts) - 1 else branch.rest_orders.setdefault(parts[-1], _Methods())
                last.add(route)
                return
            if part.startswith("{"):
                names.append(part[1:-1])
                branch.parameter = branch = branch.parameter or _Branch()
            else:
                branch = branch.by_name.setdefault(part, _Branch())
        branch.ends = tuple(names)
        branch.methods = branch.methods or _Methods()
        branch.methods.add(route)


def _is_request_id(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_REQUEST_ID and text.isascii() and text.isprintable()


def _no_path() -> Problem:
    return Problem("not_found", "There is no such path.")


__all__ = ["Edge", "Gateway", "Reply", "routes"]
