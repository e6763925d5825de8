"""Stored texts: versions, locales, variables, and the messages that name them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.api import OPERATOR, Api

WELCOME: dict[str, Any] = {
    "name": "welcome",
    "locales": {
        "en": {"text": "Hi {{ name }}", "subject": "Welcome {{ name }}", "html": "<p>Hi {{ name }}</p>"},
        "da": {"text": "Hej {{ name }}", "sms": {"text": "Hej!"}},
        "pt-BR": {"text": "Oi {{ name|default('você') }}"},
    },
}
TO = {"phone": "+4520120001", "email": "delivered@example.com"}


def path(api: Api, tail: str = "") -> str:
    return f"/v1/tenants/{api.node.tenant}/templates{tail}"


async def make(api: Api, **fields: Any) -> Any:
    answer = await api.call("POST", path(api), {**WELCOME, **fields})
    assert answer.status == 201, answer.raw
    return answer.json


async def said(api: Api, template: Any, *channels: str, **more: Any) -> dict[str, Any]:
    """Send a message by a template; returns the content that was accepted."""
    body = {"to": TO, "cascade": list(channels or ("sms",)), "template": template, **more}
    message_id = await api.sent(body)
    content = (await api.node.stored(message_id)).message.content
    return {name: getattr(content, name) for name in ("text", "subject", "html", "sms") if getattr(content, name)}


async def test_a_templates_life(api: Api) -> None:
    answer = await api.call("POST", path(api), WELCOME)
    assert answer.status == 201 and answer.headers["Location"] == path(api, "/welcome")
    made = answer.json
    assert (made["name"], made["version"], made["default_locale"]) == ("welcome", 1, "en")
    assert made["locales"] == WELCOME["locales"] and made["variables"] == ["name"]
    second = await api.call("PUT", path(api, "/welcome"), {"locales": {"en": {"text": "Hello {{ who }}"}}})
    assert (second.status, second.json["version"], second.json["variables"]) == (200, 2, ["who"])
    assert (await api.call("GET", path(api, "/welcome"))).json == second.json
    assert (await api.call("GET", path(api, "/welcome?version=1"))).json == made
    assert (await api.call("GET", path(api, "/welcome?version=3"))).status == 404
    listed = (await api.call("GET", path(api))).json["data"]
    assert [(t["name"], t["version"]) for t in listed] == [("welcome", 2)]
    assert (await api.call("DELETE", path(api, "/welcome"))).status == 204
    for method, tail in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/render")):
        body = {"locales": {"en": {"text": "x"}}} if method == "PUT" else {} if method == "POST" else None
        assert (await api.call(method, path(api, "/welcome" + tail), body)).code == "not_found"


async def test_a_message_says_what_its_template_says(api: Api) -> None:
    await make(api)
    use = {"name": "welcome", "variables": {"name": "Anna & Bo"}}
    assert await said(api, use, "email") == {
        "text": "Hi Anna & Bo",
        "subject": "Welcome Anna & Bo",
        "html": "<p>Hi Anna &amp; Bo</p>",
    }


@pytest.mark.parametrize(
    ("locale", "text"),
    [
        ("da", "Hej A"),
        ("da-DK", "Hej A"),
        ("DA-dk", "Hej A"),
        ("pt-br", "Oi A"),
        ("pt", "Hi A"),
        ("sv", "Hi A"),
        (None, "Hi A"),
    ],
)
async def test_the_nearest_locale_is_taken(api: Api, locale: str | None, text: str) -> None:
    await make(api)
    use = {"name": "welcome", "locale": locale, "variables": {"name": "A"}}
    assert (await said(api, use))["text"] == text


async def test_a_version_can_be_named_and_never_changes(api: Api) -> None:
    await make(api)
    variables = {"name": "A"}
    assert (await said(api, {"name": "welcome", "variables": variables}))["text"] == "Hi A"
    await api.call("PUT", path(api, "/welcome"), {"locales": {"en": {"text": "Hello {{ name }}"}}})
    assert (await said(api, {"name": "welcome", "variables": variables}))["text"] == "Hello A"
    assert (await said(api, {"name": "welcome", "version": 1, "variables": variables}))["text"] == "Hi A"
    await api.call("DELETE", path(api, "/welcome"))
    await make(api, locales={"en": {"text": "anew"}})
    assert (await said(api, {"name": "welcome", "version": 1})) == {"text": "anew"}


async def test_the_messages_own_content_wins(api: Api) -> None:
    await make(api)
    use = {"name": "welcome", "variables": {"name": "A"}}
    made = await said(api, use, "email", content={"subject": "Mine"})
    assert (made["subject"], made["text"]) == ("Mine", "Hi A")


async def test_the_parts_of_an_sms_are_counted_as_it_was_made(api: Api) -> None:
    await make(api, locales={"en": {"text": "{{ text }}"}})
    use = {"name": "welcome", "variables": {"text": "x" * 161}}
    answer = await api.send({"to": TO, "cascade": ["sms"], "template": use})
    assert (answer.status, answer.json["segments"]) == (202, 2)
    verdict = await api.call("POST", "/v1/messages/validate", {"to": TO, "cascade": ["sms"], "template": use})
    assert verdict.json["accepted"] and verdict.json["segments"] == 2


@pytest.mark.parametrize(
    ("use", "field"),
    [
        ({"name": "nobodys"}, "template.name"),
        ({"name": "theirs"}, "template.name"),
        ({"name": "welcome", "version": 2}, "template.version"),
        ({"name": "welcome"}, "template.variables.name"),
        ({"name": "welcome", "variables": {"name": [1]}}, "template.text"),
        ({"name": "welcome", "variables": {"name": "x" * 70_000}}, "template.text"),
        ({"name": "welcome", "variables": 1}, "template.variables"),
        ({"name": "welcome", "x": 1, "variables": {"name": "A"}}, "template.x"),
        ({}, "template.name"),
    ],
)
async def test_a_wrong_use_of_a_template_is_named_everywhere(api: Api, use: Any, field: str) -> None:
    await make(api)
    other = (await api.call("POST", "/v1/tenants", {"name": "other"}, key=OPERATOR)).json["id"]
    theirs = {**WELCOME, "name": "theirs"}
    assert (await api.call("POST", f"/v1/tenants/{other}/templates", theirs, key=OPERATOR)).status == 201
    body = {"to": TO, "cascade": ["sms"], "template": use}
    answer = await api.send(body)
    assert (answer.status, answer.code, answer.fields) == (422, "schema_invalid", [field])
    verdict = await api.call("POST", "/v1/messages/validate", body)
    assert [refusal["field"] for refusal in verdict.json["refusals"]] == [field]
    batch = await api.call("POST", "/v1/messages/batch", {"messages": [body]})
    assert [e["field"] for e in batch.json["results"][0]["problem"]["errors"]] == [field]


async def test_a_message_needs_a_content_or_a_template(api: Api) -> None:
    answer = await api.send({"to": TO, "cascade": ["sms"]})
    assert (answer.status, answer.fields) == (422, ["content"])


async def test_rendering_shows_what_would_be_said(api: Api) -> None:
    await make(api)
    shown = await api.call("POST", path(api, "/welcome/render"), {"locale": "da-DK", "variables": {"name": "A"}})
    assert shown.json == {
        "name": "welcome",
        "version": 1,
        "locale": "da",
        "content": {"text": "Hej A", "sms": {"text": "Hej!"}},
    }
    refused = await api.call("POST", path(api, "/welcome/render"), {})
    assert (refused.status, refused.fields) == (422, ["variables.name"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**WELCOME, "name": "A b"}, "name"),
        ({**WELCOME, "default_locale": "fr"}, "default_locale"),
        ({"name": "x", "locales": {}}, "locales"),
        ({"name": "x", "locales": {"en": {}}}, "locales.en"),
        ({"name": "x", "locales": {"en": {"text": "a"}, "EN": {"text": "b"}}}, "locales"),
        ({"name": "x", "locales": {"english language": {"text": "a"}}}, "locales.english language"),
        ({"name": "x", "locales": {"en": {"text": "{{ a"}}}, "locales.en.text"),
        ({"name": "x", "locales": {"en": {"email": {"html": "{{ a() }}"}}}}, "locales.en.email.html"),
        ({"name": "x", "locales": {"en": {"text": "a\0"}}}, "locales.en.text"),
        ({"name": "x", "locales": {"en": {"body": "a"}}}, "locales.en.body"),
        ({"name": "x"}, "locales"),
    ],
)
async def test_a_wrong_field_of_a_template_is_named(api: Api, body: dict[str, Any], field: str) -> None:
    answer = await api.call("POST", path(api), body)
    assert (answer.status, answer.fields) == (422, [field])
    assert (await api.call("GET", path(api))).json["data"] == []


async def test_a_name_is_taken_once_and_cannot_be_changed(api: Api) -> None:
    await make(api)
    assert (await api.call("POST", path(api), WELCOME)).fields == ["name"]
    assert (await api.call("PUT", path(api, "/welcome"), {**WELCOME, "name": "x"})).fields == ["name"]


async def test_while_the_database_is_away_a_template_not_yet_read_is_no_mistake_of_the_caller(api: Api) -> None:
    await make(api)
    api.node.journal.set_available(False)  # type: ignore[attr-defined]
    answer = await api.send({"to": TO, "cascade": ["sms"], "template": {"name": "welcome"}})
    assert (answer.status, answer.code) == (503, "journal_away")
    api.node.journal.set_available(True)  # type: ignore[attr-defined]
