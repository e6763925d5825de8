"""Two tenants on one node: whatever one asks, over every route there is, it sees and changes nothing of the other's.

The requests are made from the OpenAPI document: any method of any path, with the other tenant's ids, its own, and
nonsense in every parameter, query and field. What is looked for in the answers is everything that only the other
tenant, or the operator, may know. What must not change is every row of the database that names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from typing import Any, cast
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.auth import Access
from gateway.routes import Route
from hermes.domain.message import new_message_id
from hermes.journal.base import OutboxEntry, OutboxResult, Write
from hermes.journal.memory import MemoryJournal
from tests.gateway.api import OPERATOR, Answer, Api, start_api, stop_api

MARK = "zqx7mark"  # in every text of the other tenant, and never in what we send
MINE = "http://127.0.0.1:1/mine"
SCOPES = ("messages:write", "messages:read", "tenant:manage")


class Tenant:
    """A tenant with some of everything; `own` are the values of its parts by the name of a path's parameter."""

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.keys: dict[str, str] = {}
        self.own: dict[str, list[str]] = {"id": [id_]}
        self.secrets: list[str] = []

    def note(self, name: str, value: Any) -> str:
        self.own.setdefault(name, []).append(str(value))
        return str(value)

    @property
    def tokens(self) -> set[str]:
        """What nobody else may be shown, and nobody else can know: ids we send ourselves."""
        return {MARK, *self.secrets, *self.keys.values()}


async def settle(api: Api, name: str, mark: str) -> Tenant:
    """Make a tenant, and one of everything it can have."""

    async def ask(method: str, path: str, body: Any = None, key: str = OPERATOR) -> Any:
        answer = await api.call(method, path, body, key=key)
        assert answer.status in (200, 201, 202), answer.raw
        return answer.json

    tenant = Tenant((await ask("POST", "/v1/tenants", {"name": f"{name} {mark}"}))["id"])
    path = f"/v1/tenants/{tenant.id}"
    for mode in ("live", "test"):
        made = await ask("POST", path + "/keys", {"mode": mode})
        tenant.keys[mode] = made["key"]
        tenant.note("key", made["id"])
    for scope in SCOPES:
        made = await ask("POST", path + "/keys", {"mode": "live", "scopes": [scope]})
        tenant.keys[scope] = made["key"]
        tenant.note("key", made["id"])
    endpoint = await ask("POST", path + "/webhooks", {"url": f"http://127.0.0.1:1/{mark}"})
    tenant.note("endpoint", endpoint["id"])
    tenant.secrets += [endpoint["secret"], (await ask("GET", path + "/secret"))["secret"]]
    policy = await ask("POST", path + "/policies", {"name": f"otp-{name}", "cascade": ["sms"]})
    tenant.note("policy", policy["name"])
    texts = {"locales": {"en": {"text": mark}}}
    tenant.note("template", (await ask("POST", path + "/templates", {"name": f"hi-{name}", **texts}))["name"])
    await ask("POST", path + "/templates", {"name": f"kept-{mark}", **texts})
    await ask("POST", path + "/policies", {"name": f"kept-{mark}", "cascade": ["email"]})
    entry = {"channel": "email", "address": f"{mark}@example.com", "reason": mark}
    tenant.note("suppression", (await ask("POST", path + "/suppressions", entry))["id"])
    agreed = {"channel": "email", "address": f"{mark}@example.com", "proof": {"source": mark}}
    tenant.note("consent", (await ask("POST", path + "/consents", agreed))["id"])
    erasure = await ask("POST", path + "/erasures", {"address": f"{mark}@nobody.example"})
    tenant.note("erasure", erasure["id"])
    tenant.secrets.append(erasure["recipient"])
    body = {
        "to": {"phone": "+4520120004", "email": "delivered@example.com"},
        "cascade": ["email", "sms"],
        "content": {"text": mark, "subject": mark},
        "reference": mark,
        "metadata": {"k": mark},
    }
    for key in ("live", "test"):
        for more in ({}, {"callback_url": f"http://127.0.0.1:1/{mark}"}, {"send_at": "2026-12-30T00:00:00Z"}):
            tenant.note("message", (await ask("POST", "/v1/messages", {**body, **more}, tenant.keys[key]))["id"])
    for message_id in tenant.own["message"][:2]:
        await api.node.final(message_id)
    message_id = tenant.own["message"][0]
    seq = (await api.node.stored(message_id)).events[-1].seq + 40
    far = api.node.context.clock.now() + timedelta(days=1)
    journal = api.node.journal
    journal.append(Write(message_id, tenant.id, [], outbox=[OutboxEntry(seq, "whk_gone", "message.failed", far)]))
    await api.node.until(lambda: not journal.queued)
    await journal.outbox_results([OutboxResult(message_id, seq, "whk_gone", "dead", attempts=9, error=mark)])
    tenant.note("letter", f"{message_id}.{seq}.whk_gone")
    return tenant


class World:
    """A node with two tenants, that outlives the examples, on a loop of its own."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        server = {"metrics_key": "metrics", "allow_private_callbacks": True}
        self.api = self.run(start_api(server=server, linger_s=3600.0))  # what waits is not parked meanwhile
        self.me = self.run(settle(self.api, "me", "mine"))
        self.them = self.run(settle(self.api, "them", MARK))
        self.document = self.run(self.api.call("GET", "/openapi.json", key=None)).json

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def rows(self) -> list[str]:
        """Every row of the database that names the other tenant or what is its own, but for what is ours."""
        them = self.them
        named = {*them.own["id"], *them.own["message"], *them.own["key"], *them.own["endpoint"], MARK}
        store = cast(MemoryJournal, self.api.node.journal)._store
        found = []
        for field in fields(store):
            value = getattr(store, field.name)
            rows = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
            found += [
                f"{field.name} {row!r}"
                for row in rows
                if self.me.id not in repr(row) and any(n in repr(row) for n in named)
            ]
        return sorted(found)

    async def settled(self) -> list[str]:
        """The other tenant's rows, once nothing is on its way any more: its webhooks are tried, and tried again."""
        node = self.api.node
        name = f"webhook/{self.them.id}"
        webhooks = node.system.whereis(name)
        if webhooks is not None:
            webhooks.resume()
            await node.until(lambda: not node.system.info(name).detail["in_flight"])
            webhooks.suspend()
            await node.until(lambda: not node.system.info("webhooks").detail["results_to_write"])
        await node.context.directory.note_use()  # or the minute that is waited for may end between two looks
        return self.rows()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.run(stop_api(made.api))
    made.runner.close()


def all_routes() -> list[Route]:
    """Every route of the gateway, made without a node."""
    made: list[Route] = []

    async def read() -> None:
        api = await start_api()
        made.extend(api.server.gateway.routes)
        await stop_api(api)

    asyncio.run(read())
    return made


ROUTES = [(route.method, route.path.replace("...}", "}")) for route in all_routes()]
EXAMPLES = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


# --- requests from the document
class Maker:
    """Draws values for a schema: mostly right ones, with both tenants' own where a text can be anything."""

    def __init__(self, draw: Any, world: World) -> None:
        self.draw = draw
        self.schemas = world.document["components"]["schemas"]
        self.texts = [
            *(v for values in world.them.own.values() for v in values),
            *(v for values in world.me.own.values() for v in values),
            *("mine", MINE, "+4520120001", "a@example.com", "x", "2026-12-30T00:00:00Z", "otp"),
        ]

    def value(self, schema: dict[str, Any], depth: int = 0) -> Any:
        if "$ref" in schema:
            return self.value(self.schemas[schema["$ref"].rsplit("/", 1)[1]], depth)
        if "anyOf" in schema:
            return self.value(self.draw(st.sampled_from(schema["anyOf"])), depth)
        if "enum" in schema:
            return self.draw(st.sampled_from(schema["enum"]))
        kind = schema.get("type")
        if kind == "object":
            known = schema.get("properties", {})
            required = set(schema.get("required", ()))
            names = [n for n in known if n in required or self.draw(st.integers(0, 2)) == 0]
            made = {name: self.value(known[name], depth + 1) for name in names}
            extra = schema.get("additionalProperties")
            if isinstance(extra, dict) and depth < 4 and self.draw(st.booleans()):
                made[self.draw(st.sampled_from(self.texts))] = self.value(extra, depth + 1)
            return made
        if kind == "array":
            size = self.draw(st.integers(schema.get("minItems", 0), 3)) if depth < 5 else 0
            items = schema.get("items", {})
            return [self.value(items, depth + 1) for _ in range(size)] if isinstance(items, dict) else []
        if kind in ("number", "integer"):
            return self.draw(st.sampled_from([schema.get("minimum", 1), 1, 5, 60]))
        if kind == "boolean":
            return self.draw(st.booleans())
        if kind == "null":
            return None
        return self.draw(st.sampled_from(self.texts))


def parameter(draw: Any, world: World, path: str, name: str) -> str:
    """Draw a path's parameter: most often the other tenant's."""
    kind = "message" if name == "id" and path.startswith("/v1/messages") else name
    theirs, mine = world.them.own.get(kind, ["theirs"]), world.me.own.get(kind, ["mine"])
    if kind == "name":
        theirs = [f"tenant/{world.them.id}", f"cascade/{world.them.own['message'][0]}", "mock-sms"]
    pools = [theirs, theirs, theirs, mine, [new_message_id(), "x", "../" + world.them.id]]
    return quote(draw(st.sampled_from(draw(st.sampled_from(pools)))), safe="")


def request(draw: Any, world: World, method: str, path: str) -> tuple[str, Any]:
    """Draw a request for one operation."""
    operation = world.document["paths"][path][method.lower()]
    maker = Maker(draw, world)
    target = path
    query: list[tuple[str, str]] = []
    for one in operation.get("parameters", ()):
        if one["in"] == "path":
            target = target.replace("{" + one["name"] + "}", parameter(draw, world, path, one["name"]))
        elif one["in"] == "query" and draw(st.booleans()):
            value = maker.value(one["schema"])
            query += [(one["name"], str(v)) for v in (value if isinstance(value, list) else [value])]
    body = None
    content = operation.get("requestBody", {}).get("content", {})
    if "application/json" in content:
        body = maker.value(content["application/json"]["schema"])
    elif content:
        body = b"channel,address,reason\nemail,a@example.com,mine\n"
    return target + ("?" + urlencode(query) if query else ""), body


def leaked(world: World, answer: Answer) -> list[str]:
    """What the answer holds of the other tenant's."""
    told = answer.raw.decode("utf-8", "replace") + repr(answer.headers)
    return sorted(token for token in world.them.tokens if token in told)


def test_the_routes_are_those_of_the_document(world: World) -> None:
    documented = {(method.upper(), path) for path, item in world.document["paths"].items() for method in item}
    assert documented == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=[f"{method} {path}" for method, path in ROUTES])
def test_no_call_with_ones_key_shows_or_changes_anothers_data(world: World, method: str, path: str) -> None:
    before = world.run(world.settled())
    assert before

    @EXAMPLES
    @given(st.data())
    def tried(data: st.DataObject) -> None:
        target, body = request(data.draw, world, method, path)
        key = data.draw(st.sampled_from(sorted(world.me.keys)))
        raw = body if isinstance(body, bytes) else None
        headers = {} if raw is None else {"Content_Type": "text/csv"}
        sent = world.api.call(
            method, target, None if raw is not None else body, key=world.me.keys[key], raw=raw, **headers
        )
        answer = world.run(sent)
        assert answer.status < 500 or answer.code in ("overloaded", "journal_away", "outcome_unknown"), answer.raw
        assert leaked(world, answer) == []

    tried()
    if path.endswith("/signing"):  # the keys of this test do not sign
        world.run(world.api.call("PUT", f"/v1/tenants/{world.me.id}/signing", {"required": False}, key=OPERATOR))
    assert world.rows() == before


SHOWN_TO_ITS_OWNER = [
    route
    for route in all_routes()
    if route.method == "GET" and route.access in (Access.READ, Access.OWN) and "{" not in route.path.replace("{id}", "")
]


@pytest.mark.parametrize("route", SHOWN_TO_ITS_OWNER, ids=[route.path for route in SHOWN_TO_ITS_OWNER])
def test_the_same_calls_show_the_owner_what_is_its_own(world: World, route: Route) -> None:
    """Or the test above would look for what nobody is ever shown."""
    kind = "message" if route.path.startswith("/v1/messages") else "id"
    target = route.path.replace("{id}", world.them.own[kind][0])
    theirs = world.run(world.api.call("GET", target, key=world.them.keys["live"]))
    assert theirs.status == 200, theirs.raw
    if not target.endswith(("/counts", "/usage", "/quotas", "/signing")):  # which are numbers, or yes and no
        assert leaked(world, theirs) != []


def test_another_tenants_id_answers_exactly_as_an_unknown_one(world: World) -> None:
    for method, path in ROUTES:
        if "/{id}" not in path:
            continue
        kind = "message" if path.startswith("/v1/messages") else "id"
        nobodys = new_message_id() if kind == "message" else "ten_nobody"
        answers = []
        for value in (world.them.own[kind][0], nobodys):
            target = path.replace("{id}", value)
            for name in ("key", "endpoint", "policy", "template", "suppression", "letter", "erasure", "consent"):
                target = target.replace("{" + name + "}", quote(world.them.own[name][0], safe=""))
            answer = world.run(world.api.call(method, target, {}, key=world.me.keys["live"]))
            problem = answer.json
            answers.append((answer.status, {**problem, "request_id": ""}))
        assert answers[0] == answers[1], (method, path)
        assert answers[0][0] in (403, 404), (method, path)  # 403: the route is the operator's alone


def test_ones_list_and_counts_hold_ones_own_messages_only(world: World) -> None:
    for mode in ("live", "test"):
        page = world.run(world.api.call("GET", "/v1/messages?limit=1000", key=world.me.keys[mode])).json["data"]
        assert page and {message["tenant"] for message in page} == {world.me.id}
        counts = world.run(world.api.call("GET", "/v1/messages/counts", key=world.me.keys[mode])).json
        assert sum(counts.values()) == len(page)
