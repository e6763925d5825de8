"""The OpenAPI 3.1 document, made from the routes and the shapes: what is served is what is described."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

import hermes
from gateway.auth import Access
from gateway.problems import CODES, LAYERS
from gateway.routes import Route
from gateway.shapes import SEND_AT_MOST_DAYS, Nothing, ProblemBody

_REF: Final = "#/components/schemas/{name}"
_PROBLEM: Final = "application/problem+json"

_ABOUT: Final = """\
Post a message once; Hermes walks its cascade over channels until one has delivered it, and tells you.

Times are RFC 3339, UTC, with microseconds and `Z`. Unknown fields and query parameters are refused by name;
`null` means the same as leaving a field out. Every request is answered within 2 seconds. Every answer has
`X-Request-Id`: yours, when you send one of 1 to 128 printable ASCII characters. `traceparent` (W3C Trace
Context) is accepted. Refusals are `application/problem+json` (RFC 9457); Problems lists their codes.
"""
_TAGS: Final[dict[str, str]] = {
    "Messages": "Send, read and cancel. A 202 means that the message is committed.",
    "Receipts": "What carriers report. Answered only after it is stored.",
    "Tenants": "Customers. For the operator.",
    "Keys": "What customers authenticate with; shown once, kept as a keyed hash. For the operator.",
    "Do not contact": "Recipients who must not be written to: a tenant's, and the operator's for all tenants.",
    "Templates": "Texts a tenant stored, with variables, by locale, in versions; named by its messages.",
    "Privacy": "Who agreed to be written to, with the proof; and recipients who are to be forgotten.",
    "Policies": "Cascades a tenant stored, named by its messages.",
    "Events out": "Where a tenant hears of its messages: Standard Webhooks, and those that were given up.",
    "Operate": "The actor tree and the processes. For the operator.",
    "Console": "The operator's page, and the session that its browser holds instead of the key.",
    "Health": "For load balancers and monitors.",
    "Documentation": "This page and what it is made from.",
}

_ID: Final = "msg_01JDG8T4C2V7Q9Z3XKB5N6M8RA"
_SEND: Final[dict[str, Any]] = {
    "a cascade": {
        "to": {"phone": "+4520123456", "email": "anna@example.com"},
        "cascade": [
            {"channel": "email", "timeout_s": 30, "success": "delivered"},
            {"channel": "sms", "timeout_s": 60},
        ],
        "content": {"text": "Your code is 123456", "subject": "Code", "sms": {"text": "123456"}},
        "from": {"sms": "Hermes", "email": "no-reply@example.com"},
        "category": "otp",
        "expires_in_s": 600,
        "reference": "order-17",
        "metadata": {"shop": "north"},
        "callback_url": "https://customer.example/hook",
        "on_ambiguous": "resend",
    },
    "short form": {"channel": "sms", "to": "+4520123456", "content": {"text": "Hi"}},
    "steps by name": {
        "to": {"push": "device-token", "phone": "+4520123456"},
        "cascade": ["push", "sms"],
        "content": {"title": "Parcel", "text": "Your parcel is here"},
    },
}
_ACCEPTED: Final[dict[str, Any]] = {
    "id": _ID,
    "status": "accepted",
    "reference": "order-17",
    "segments": 1,
    "encoding": "gsm7",
    "expires_at": "2026-01-05T09:10:00.000000Z",
    "cascade": [
        {"channel": "email", "timeout_s": 30.0, "success": "delivered"},
        {"channel": "sms", "timeout_s": 60.0, "success": "delivered"},
    ],
    "links": {"self": f"/v1/messages/{_ID}"},
}
_TENANT: Final[dict[str, Any]] = {
    "id": "ten_01JDG8SZ6W4T0B2RHYV9QK3M5P",
    "name": "Acme",
    "status": "active",
    "stage": "production",
    "email": None,
    "numbers": [],
}
_KEY_ID: Final = "key_01JDG8T0N3E5C7X9Z1AB2D4F6G"
# (method, path) -> name -> example of the body.
_BODIES: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("POST", "/v1/messages"): _SEND,
    ("POST", "/v1/messages/validate"): _SEND,
    ("POST", "/v1/messages/batch"): {"two": {"messages": [_SEND["short form"], _SEND["steps by name"]]}},
    ("POST", "/v1/messages/lookup"): {"two": {"ids": [_ID, "msg_01JDG8T4C2V7Q9Z3XKB5N6M8RB"]}},
    ("POST", "/v1/webhooks/dlr"): {
        "delivered": {
            "carrier": "mock-sms",
            "carrier_message_id": "mock-1-7",
            "status": "delivered",
            "at": "2026-01-05T09:00:01Z",
        }
    },
    ("POST", "/v1/tenants"): {"a tenant": {"name": "Acme"}},
    ("POST", "/v1/signup"): {"a customer": {"name": "Acme", "email": "anna@example.com"}},
    ("PUT", "/v1/tenants/{id}"): {"suspend": {"status": "suspended"}},
    ("POST", "/v1/tenants/{id}/keys"): {
        "all rights": {"mode": "live"},
        "sending, from one network": {
            "mode": "live",
            "scopes": ["messages:write"],
            "allow_from": ["192.0.2.0/24"],
        },
    },
    ("POST", "/v1/tenants/{id}/keys/{key}/rotate"): {"an hour for both": {"overlap_s": 3600}},
    ("POST", "/v1/tenants/{id}/templates"): {
        "two languages": {
            "name": "welcome",
            "default_locale": "en",
            "locales": {
                "en": {"text": "Hi {{ name }}", "subject": "Welcome"},
                "da": {"text": "Hej {{ name }}", "subject": "Velkommen"},
            },
        },
    },
    ("PUT", "/v1/tenants/{id}/templates/{template}"): {"one text": {"locales": {"en": {"text": "Hello {{ name }}"}}}},
    ("POST", "/v1/tenants/{id}/templates/{template}/render"): {
        "Danish": {"locale": "da-DK", "variables": {"name": "Anna"}}
    },
    ("POST", "/v1/tenants/{id}/policies"): {
        "one-time codes": {
            "name": "otp",
            "cascade": [{"channel": "push", "timeout_s": 10}, "sms"],
            "category": "otp",
            "expires_in_s": 300,
        },
    },
    ("PUT", "/v1/tenants/{id}/policies/{policy}"): {"one step": {"cascade": ["sms"]}},
    ("POST", "/v1/tenants/{id}/secret"): {"a day for both": {"overlap_s": 86400}},
    ("POST", "/v1/tenants/{id}/suppressions"): {
        "one channel": {"channel": "sms", "address": "+4520123456", "reason": "asked us on the phone"},
        "every channel": {"address": "+4520123456"},
    },
    ("POST", "/v1/tenants/{id}/consents"): {
        "a newsletter": {
            "channel": "sms",
            "address": "+4520123456",
            "proof": {"source": "signup form", "ip": "192.0.2.1", "text_version": "2026-01"},
        },
    },
    ("POST", "/v1/tenants/{id}/erasures"): {"a recipient": {"address": "+4520123456"}},
    ("POST", "/v1/tenants/{id}/webhooks"): {
        "final statuses": {"url": "https://customer.example/hook"},
        "chosen": {"url": "https://customer.example/hook", "events": ["message.delivered", "message.read"]},
    },
}
# (method, path, status) -> example of the answer.
_ANSWERS: Final[dict[tuple[str, str, int], Any]] = {
    ("POST", "/v1/messages", 202): _ACCEPTED,
    ("POST", "/v1/messages/batch", 200): {
        "results": [
            {"message": {"id": _ID, "status": "accepted", "reference": None}, "status": 202},
            {
                "status": 422,
                "problem": {
                    "type": "/docs#problem-no_route",
                    "title": CODES["no_route"].title,
                    "status": 422,
                    "detail": "no carrier serves channel push",
                    "code": "no_route",
                    "request_id": "req_5f0c",
                    "layer": "route",
                },
            },
        ]
    },
    ("POST", "/v1/messages/validate", 200): {
        "accepted": False,
        "segments": 1,
        "encoding": "gsm7",
        "route": [],
        "price": None,
        "refusals": [{"layer": "schema", "code": "schema_invalid", "field": "to.phone", "detail": "is required"}],
    },
    ("GET", "/v1/messages/counts", 200): {
        "accepted": 3,
        "scheduled": 0,
        "in_progress": 12,
        "delivered": 9801,
        "failed": 40,
        "expired": 7,
        "cancelled": 1,
        "unknown": 2,
    },
    ("POST", "/v1/tenants", 201): _TENANT,
    ("GET", "/v1/tenants/{id}", 200): _TENANT,
    ("POST", "/v1/tenants/{id}/keys", 201): {
        "id": _KEY_ID,
        "key": "hk_live_...",
        "mode": "live",
        "scopes": ["messages:write", "messages:read", "tenant:manage"],
    },
    ("POST", "/v1/tenants/{id}/webhooks", 201): {"id": "whk_01JDG8T1...", "secret": "whsec_..."},
}

_LOCATED: Final = (  # answers with a header Location, beside POST /v1/messages
    (201, "/v1/tenants"),
    (201, "/v1/tenants/{id}/consents"),
    (202, "/v1/tenants/{id}/erasures"),
)
_EVERYWHERE: Final = ("internal", "method_not_allowed")
_AUTHENTICATED: Final = ("unauthenticated", "scope_missing", "address_not_allowed", "journal_away")
_PARAMETERS: Final[dict[str, str]] = {
    "id": "the tenant's or message's id",
    "key": "the key's id",
    "endpoint": "the endpoint's id",
    "policy": "the policy's name",
    "template": "the template's name",
    "letter": "the dead letter's id",
    "suppression": "the entry's id",
    "erasure": "the erasure's id",
    "consent": "the record's id",
    "carrier": "the carrier's configured name",
    "name": "the actor's name; it holds slashes, plain or as %2F",
    "file": "a part of the page",
}
_QUERY: Final[dict[str, str]] = {
    "status": "repeatable; `open` stands for accepted, scheduled and in_progress",
    "channel": "messages with a step of this channel",
    "reference": "exactly this reference",
    "reference_prefix": "references that begin with this",
    "created_after": "inclusive",
    "created_before": "exclusive",
    "fields": "full has attempts and events",
    "cursor": "`next_cursor` of the page before",
}
_HEADERS: Final[dict[str, Any]] = {
    "X-Request-Id": {
        "description": "yours, or one made for this request",
        "required": True,
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 1}},
    "RateLimit": {"description": "what is left of the tenant's rate", "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": "the tenant's rate", "schema": {"type": "string"}},
    "Location": {"description": "where it can be read", "schema": {"type": "string"}},
    "Idempotent-Replayed": {"description": "a stored answer is repeated", "schema": {"const": "true"}},
    "WWW-Authenticate": {"description": "how to authenticate", "schema": {"type": "string"}},
    "Link": {"description": "where the next part is, when there is one", "schema": {"type": "string"}},
    "Allow": {"description": "the methods of this path", "schema": {"type": "string"}},
}


def document(routes: Sequence[Route], server_url: str) -> dict[str, Any]:
    """Describe all routes.

    Args:
        routes: in the order they should be shown.
        server_url: how the world reaches this node.

    Returns:
        An OpenAPI 3.1 document, JSON values only.
    """
    shapes: list[type] = [ProblemBody]
    for route in routes:
        shapes += [shape for shape in (route.body, route.query) if isinstance(shape, type)]
        shapes += [shape for shape in route.answers.values() if isinstance(shape, type)]
    unique = list(dict.fromkeys(shapes))
    schemas, components = msgspec.json.schema_components(unique, ref_template=_REF)
    by_shape = dict(zip(unique, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    refusals: dict[str, Any] = {}
    for route in routes:
        for status, codes in _codes(route).items():
            refusals[_refusal_name(status, codes)] = _refusal(codes, by_shape[ProblemBody])
        path = route.path.replace("...}", "}")
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, path, by_shape, components)
    queries = {route.query.__name__ for route in routes if route.query not in (None, Nothing)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hermes",
            "version": hermes.__version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server_url}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            # The structs of queries are shown as parameters.
            "schemas": {name: schema for name, schema in components.items() if name not in queries},
            "examples": {code: {"value": _example(code)} for code in CODES},
            "headers": _HEADERS,
            "responses": refusals,
            "securitySchemes": {
                "tenant_key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "hk_live_... or hk_test_...",
                },
                "operator_key": {"type": "http", "scheme": "bearer", "description": "HERMES_OPERATOR_KEY"},
                "carrier_signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Hermes-Signature",
                    "description": "sha256=<hex HMAC-SHA256 of the raw body under the carrier's secret>",
                },
            },
        },
        "x-problems": {
            code: {"status": known.status, "title": known.title, "retry_after": known.retry_after}
            for code, known in CODES.items()
        },
        "x-layers": list(LAYERS),
    }


def _operation(route: Route, path: str, by_shape: Mapping[type, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _operation_id(route),
        "tags": [route.tag],
        "summary": route.summary,
        "description": f"For {route.access.value}.",
        "responses": {},
    }
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PARAMETERS[name],
            "schema": {"type": "string", "pattern": _pattern(path, name)},
        }
        for name in (part[1:-1] for part in path.split("/") if part.startswith("{"))
    ]
    if route.query not in (None, Nothing):
        assert route.query is not None
        parameters += _query(components[route.query.__name__])
    if (route.method, path) == ("POST", "/v1/messages"):
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "the same key and body within 24 h is one message",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
            }
        )
        operation["description"] += f" `send_at` lies at most {SEND_AT_MOST_DAYS} days ahead."
    if parameters:
        operation["parameters"] = parameters
    if isinstance(route.body, str):
        operation["requestBody"] = {"required": True, "content": {route.body: {"schema": {"type": "string"}}}}
    elif route.body is not None:
        media: dict[str, Any] = {"schema": by_shape[route.body]}
        examples = _BODIES.get((route.method, path))
        if examples is not None:
            media["examples"] = {name.replace(" ", "_"): {"summary": name, "value": v} for name, v in examples.items()}
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": {"application/json": media},
        }
    operation["security"] = _security(route)
    for status, shape in route.answers.items():
        operation["responses"][str(status)] = _answer(route, path, status, shape, by_shape)
    for status, codes in _codes(route).items():
        operation["responses"][str(status)] = {"$ref": f"#/components/responses/{_refusal_name(status, codes)}"}
    return operation


def _pattern(path: str, name: str) -> str:
    """Say what a parameter of the path looks like; what does not is unknown (404)."""
    if name != "id":
        return "^[^/.]"  # clients resolve `.` and `..` before they send
    return "^msg_[0-7][0-9A-HJKMNP-TV-Z]{25}$" if path.startswith("/v1/messages") else "^ten_[0-9A-Za-z]+$"


def _refusal_name(status: int, codes: Sequence[str]) -> str:
    return ".".join((str(status), *codes))


def _operation_id(route: Route) -> str:
    owner, _, name = route.handler.__qualname__.rpartition(".")
    suffix = "_get" if route.method == "GET" and name == "provider" else ""
    if route.path.startswith("/v1/suppressions"):
        suffix = "_for_all"
    return f"{owner.lower()}_{name}{suffix}"


def _query(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    parameters = []
    for name, given in schema["properties"].items():
        # `null` cannot be written in a query: leaving it out is meant.
        options = [one for one in given.get("anyOf", ()) if one != {"type": "null"}]
        known = {key: value for key, value in given.items() if key not in ("anyOf", "default")}
        if options:
            known |= options[0] if len(options) == 1 else {"anyOf": options}
        if given.get("default") not in (None, []):
            known["default"] = given["default"]
        parameter = {"name": name, "in": "query", "schema": known}
        if name in _QUERY:
            parameter["description"] = _QUERY[name]
        parameters.append(parameter)
    return parameters


def _security(route: Route) -> list[dict[str, list[str]]]:
    if route.path == "/v1/webhooks/dlr":
        return [{"carrier_signature": []}]
    if route.access is Access.OPEN:
        return []
    if route.access is Access.OPERATOR:
        return [{"operator_key": []}]
    tenant: list[dict[str, list[str]]] = [{"tenant_key": []}]
    return tenant if route.access is Access.SEND else [*tenant, {"operator_key": []}]


def _answer(
    route: Route, path: str, status: int, shape: type | str | None, by_shape: Mapping[type, Any]
) -> dict[str, Any]:
    headers = {"X-Request-Id": _header("X-Request-Id")}
    answer: dict[str, Any] = {
        "description": shape.__doc__ if isinstance(shape, type) else "Done.",
        "headers": headers,
    }
    if status == 202 and path == "/v1/messages":
        headers["Location"] = _header("Location")
        headers["Idempotent-Replayed"] = _header("Idempotent-Replayed")
        headers |= {name: _header(name) for name in ("RateLimit", "RateLimit-Policy")}
    elif (status, path) in _LOCATED:
        headers["Location"] = _header("Location")
    elif path.endswith("/export"):
        headers["Link"] = _header("Link")
    if isinstance(shape, str):
        answer["content"] = {shape: {}}
    elif shape is not None:
        media: dict[str, Any] = {"schema": by_shape[shape]}
        example = _ANSWERS.get((route.method, path, status))
        if example is not None:
            media["example"] = example
        answer["content"] = {"application/json": media}
    return answer


def _codes(route: Route) -> dict[int, list[str]]:
    codes = [*route.codes, *_EVERYWHERE]
    if route.query is not None:
        codes.append("schema_invalid")
    if route.access is not Access.OPEN:
        codes += _AUTHENTICATED
        if route.access is not Access.OPERATOR:
            codes += ("tenant_suspended", "signature_invalid")
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(CODES[code].status, []).append(code)
    return dict(sorted(by_status.items()))


def _refusal(codes: Sequence[str], schema: Any) -> dict[str, Any]:
    headers = {"X-Request-Id": _header("X-Request-Id")}
    if any(CODES[code].retry_after for code in codes):
        headers["Retry-After"] = _header("Retry-After")
    if "rate_limited" in codes:
        headers |= {name: _header(name) for name in ("RateLimit", "RateLimit-Policy")}
    if "unauthenticated" in codes:
        headers["WWW-Authenticate"] = _header("WWW-Authenticate")
    if "method_not_allowed" in codes:
        headers["Allow"] = _header("Allow")
    return {
        "description": ", ".join(codes),
        "headers": headers,
        "content": {_PROBLEM: {"schema": schema, "examples": {code: {"value": _example(code)} for code in codes}}},
    }


def _header(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/headers/{name}"}


def _example(code: str) -> dict[str, Any]:
    known = CODES[code]
    example: dict[str, Any] = {
        "type": f"/docs#problem-{code}",
        "title": known.title,
        "status": known.status,
        "detail": known.title + ".",
        "code": code,
        "request_id": "req_5f0c",
    }
    if code == "schema_invalid":
        why = "expected a number >= 0.1"
        example["detail"] = f"cascade[0].timeout_s: {why}"
        example["layer"] = "schema"
        example["errors"] = [{"field": "cascade[0].timeout_s", "why": why}]
    return example
