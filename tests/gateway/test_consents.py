"""Consent with proof: what it lets through, what its withdrawal stops, what is left of it after an erasure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from hermes.journal.memory import MemoryJournal
from tests.actors.cast import mock
from tests.gateway.api import OPERATOR, SMS, Api

PHONE = SMS["to"]
NEWS = {**SMS, "category": "marketing"}
PROOF = {"source": "signup form", "ip": "192.0.2.1", "text_version": "2026-01", "at": "2026-01-05T09:00:00Z"}


def path(api: Api, tail: str = "") -> str:
    return f"/v1/tenants/{api.node.tenant}/consents{tail}"


async def require(api: Api, *categories: str) -> None:
    layers = {"compliance": {"require_consent": categories}}
    changed = await api.call("PUT", f"/v1/tenants/{api.node.tenant}", {"layers": layers}, key=OPERATOR)
    assert changed.status == 200, changed.raw


async def agree(api: Api, **more: Any) -> Any:
    body = {"channel": "sms", "address": PHONE, "proof": PROOF, **more}
    answer = await api.call("POST", path(api), body)
    assert answer.status == 201, answer.raw
    assert answer.headers["Location"] == path(api, "/" + answer.json["id"])
    return answer.json


async def test_who_did_not_agree_is_not_written_to_where_the_tenant_requires_it(api: Api) -> None:
    assert (await api.send(NEWS)).status == 202, "nothing is required yet"
    await require(api, "marketing")
    refused = await api.send(NEWS)
    assert (refused.status, refused.code, refused.json["layer"]) == (422, "compliance_refused", "compliance")
    assert refused.fields == ["to.phone"]
    verdict = (await api.call("POST", "/v1/messages/validate", NEWS)).json
    assert [r["layer"] for r in verdict["refusals"]] == ["compliance"]
    assert (await api.send()).status == 202, "another category"
    made = await agree(api)
    assert (made["category"], made["proof"]["ip"], made["proof"]["at"]) == (
        "marketing",
        "192.0.2.1",
        "2026-01-05T09:00:00.000000Z",
    )
    sent = await api.sent(NEWS)
    assert (await api.node.final(sent)).status == "delivered"


@pytest.mark.parametrize(
    "other", [{"channel": "whatsapp"}, {"address": "+4520123457"}, {"category": "transactional"}], ids=str
)
async def test_consent_is_for_one_recipient_channel_and_category(api: Api, other: dict[str, Any]) -> None:
    await require(api, "marketing")
    await agree(api, **other)
    assert (await api.send(NEWS)).code == "compliance_refused"


async def test_any_spelling_of_the_recipient_agrees(api: Api) -> None:
    await require(api, "marketing")
    await agree(api, address="+45 20 12-34.56")
    await agree(api, address="Anna@Example.com", channel="email")
    assert (await api.send(NEWS)).status == 202
    mail = {"channel": "email", "to": "anna@EXAMPLE.com", "category": "marketing", "content": {"text": "Hi"}}
    assert (await api.send(mail)).status == 202


async def test_withdrawn_counts_at_once_however_often_it_was_given(api: Api) -> None:
    await require(api, "marketing")
    first, second = await agree(api), await agree(api)
    gone = await api.call("POST", path(api, f"/{first['id']}/withdraw"))
    assert gone.status == 200 and gone.json["withdrawn_at"].endswith("Z")
    assert (await api.send(NEWS)).code == "compliance_refused"
    again = await api.call("POST", path(api, f"/{first['id']}/withdraw"))
    assert again.json == gone.json, "once more is harmless"
    listed = (await api.call("GET", path(api))).json["data"]
    newest_first = sorted((first["id"], second["id"]), reverse=True)  # of one millisecond, in any order
    assert [c["id"] for c in listed] == newest_first and all(c["withdrawn_at"] for c in listed)
    await agree(api)
    assert (await api.send(NEWS)).status == 202, "who agrees again is written to again"


async def test_what_is_scheduled_is_not_sent_once_consent_is_withdrawn(
    start: Callable[..., Awaitable[Api]],
) -> None:
    api = await start([mock("mock-sms", "sms")])
    await require(api, "marketing")
    made = await agree(api)
    soon = (await api.call("POST", "/v1/messages/validate", NEWS)).json
    assert soon["accepted"]
    later = api.node.context.clock.now().isoformat()
    carrier = api.node.system.whereis("provider/mock-sms")
    assert carrier is not None
    await api.call("POST", "/v1/carriers/mock-sms/pause", key=OPERATOR)
    waiting = await api.sent({**NEWS, "send_at": later})
    await api.call("POST", path(api, f"/{made['id']}/withdraw"))
    ended = await api.node.final(waiting)
    assert ended.status == "failed"
    assert [e.data["error"]["class"] for e in ended.events if e.type == "failed"] == ["blocked_or_opted_out"]


async def test_a_recipients_records_are_found_by_any_spelling(api: Api) -> None:
    made = await agree(api)
    await agree(api, address="+4520123457")
    for asked in ("%2B4520123456", "+45%2020123456", "+4520123456"):
        assert (await api.call("GET", path(api, f"?address={asked}"))).json["data"] == [made], asked
    assert (await api.call("GET", path(api, f"/{made['id']}"))).json == made
    assert (await api.call("GET", path(api, "?address=x%20y"))).fields == ["address"]


async def test_an_erased_recipient_no_longer_agrees_and_that_they_had_is_kept(api: Api) -> None:
    await require(api, "marketing")
    made = await agree(api)
    erasures = f"/v1/tenants/{api.node.tenant}/erasures"
    asked = (await api.call("POST", erasures, {"address": PHONE})).json

    async def done() -> bool:
        return bool((await api.call("GET", f"{erasures}/{asked['id']}")).json["done_at"])

    await api.node.until(done)
    left = (await api.call("GET", path(api, f"/{made['id']}"))).json
    assert (left["address"], left["proof"]["ip"], left["proof"]["source"]) == (None, None, "signup form")
    assert left["withdrawn_at"] is not None
    assert (await api.send(NEWS)).code == "compliance_refused"


async def test_what_one_worker_is_told_another_heeds(start: Callable[..., Awaitable[Api]]) -> None:
    first = MemoryJournal()
    await first.start()
    api = await start(journal=first)
    await require(api, "marketing")
    second = first.peer("w2")
    await second.start()
    other = await start(journal=second)
    made = await agree(api)
    key = await api.new_key()

    async def answered(status: int) -> bool:
        return (await other.call("POST", "/v1/messages/validate", NEWS, key=key)).json["accepted"] is (status == 202)

    await api.node.until(lambda: answered(202))
    await api.call("POST", path(api, f"/{made['id']}/withdraw"))
    await api.node.until(lambda: answered(422))


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"address": "x"}, "address"),
    ({"channel": "fax"}, "channel"),
    ({"category": "news"}, "category"),
    ({"proof": {"source": "a\nb"}}, "proof.source"),
    ({"proof": {}}, "proof.source"),
    ({"proof": {"source": "x", "at": "2999-01-01T00:00:00Z"}}, "proof.at"),
]


@pytest.mark.parametrize(("wrong", "field"), WRONG, ids=str)
async def test_what_proves_nothing_is_refused_by_name(api: Api, wrong: dict[str, Any], field: str) -> None:
    answer = await api.call("POST", path(api), {"channel": "sms", "address": PHONE, "proof": PROOF, **wrong})
    assert (answer.status, answer.fields) == (422, [field]), answer.raw


async def test_consents_are_still_there_after_a_restart(start: Callable[..., Awaitable[Api]]) -> None:
    first = MemoryJournal()
    await first.start()
    api = await start(journal=first)
    await require(api, "marketing")
    await agree(api)
    again = first.copy()
    await again.start()
    other = await start(journal=again)
    key = await other.new_key(tenant=api.node.tenant)
    assert (await other.send(NEWS, key=key)).status == 202
