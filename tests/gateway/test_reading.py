"""Reading back: one message, pages, counts, look-ups; cancelling; batches and dry runs."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.submission import build
from hermes.domain.message import is_message_id, new_message_id
from tests.gateway.api import OPERATOR, SMS, Api

SILENT = {**SMS, "to": "+4520120004"}  # magic: submitted, no receipt ever
SUMMARY = {
    "id", "tenant", "status", "reference", "metadata", "category", "to", "cascade", "delivered_by", "cost",
    "created_at", "updated_at", "expires_at", "final_at",
}  # fmt: skip


async def ids(api: Api, query: str = "", key: str = "live") -> list[str]:
    answer = await api.call("GET", f"/v1/messages?{query}", key=key)
    assert answer.status == 200, answer.raw
    return [message["id"] for message in answer.json["data"]]


async def test_a_202_says_all_the_contract_names(api: Api) -> None:
    answer = await api.send({**SMS, "reference": "order-17", "content": {"text": "ß" * 200}})
    body = answer.json
    assert set(body) == {
        "id", "status", "reference", "segments", "encoding", "expires_at", "cascade", "links",
    }  # fmt: skip
    assert is_message_id(body["id"]) and body["status"] == "accepted" and body["reference"] == "order-17"
    assert (body["encoding"], body["segments"]) == ("gsm7", 2)
    assert answer.headers["Location"] == body["links"]["self"] == f"/v1/messages/{body['id']}"
    assert answer.headers["Content-Type"] == "application/json"


async def test_segments_mean_nothing_without_sms(api: Api) -> None:
    answer = await api.send({"channel": "email", "to": "a@example.com", "content": {"text": "x", "subject": "y"}})
    assert (answer.json["segments"], answer.json["encoding"]) == (None, None)


async def test_get_shows_what_was_sent_and_what_happened(api: Api) -> None:
    sent = {**SMS, "to": "+45 20 12 34 56", "reference": "r", "metadata": {"k": "v"}, "category": "otp"}
    message = await api.sent(sent)
    await api.node.final(message)
    shown = (await api.call("GET", f"/v1/messages/{message}")).json
    assert set(shown) == SUMMARY | {"attempts", "events"}
    assert shown["to"] == {"phone": "+4520123456"} and shown["metadata"] == {"k": "v"}
    assert (shown["status"], shown["delivered_by"], shown["category"]) == ("delivered", 0, "otp")
    assert shown["tenant"] == api.node.tenant
    assert shown["events"][0]["type"] == "accepted"
    assert shown["attempts"][0]["carrier"] == "mock-sms"


async def test_the_operator_reads_every_tenants_messages_of_both_modes(api: Api) -> None:
    other = await api.call("POST", "/v1/tenants", {"name": "other"}, key=OPERATOR)
    stranger = await api.new_key(tenant=other.json["id"])
    sent = {await api.sent(key=key) for key in ("live", "test", stranger)}
    assert set(await ids(api, key=OPERATOR)) == sent
    for message in sent:
        assert (await api.call("GET", f"/v1/messages/{message}", key=OPERATOR)).json["id"] == message
    assert (await api.call("GET", "/v1/messages/counts", key=OPERATOR)).status == 200


async def test_modes_are_apart_in_lists_counts_and_lookups(api: Api) -> None:
    live, test = await api.sent(), await api.sent(key="test")
    for key, own in (("live", live), ("test", test)):
        assert await ids(api, key=key) == [own]
        found = await api.call("POST", "/v1/messages/lookup", {"ids": [live, test]}, key=key)
        assert [message["id"] for message in found.json["data"]] == [own]
        counts = (await api.call("GET", "/v1/messages/counts", key=key)).json
        assert sum(counts.values()) == 1
    await api.node.final(test)
    attempts = (await api.call("GET", f"/v1/messages/{test}", key="test")).json["attempts"]
    assert [attempt["carrier"] for attempt in attempts] == ["sandbox"]


async def test_pages_go_back_in_time_without_repeating_or_skipping(api: Api) -> None:
    sent = [await api.sent(SILENT) for _ in range(7)]
    seen: list[str] = []
    cursor, sizes = "", []
    while True:
        page = (await api.call("GET", f"/v1/messages?limit=3{cursor}")).json
        assert set(page) == {"data", "next_cursor"}
        seen += [message["id"] for message in page["data"]]
        sizes.append(len(page["data"]))
        await api.sent(SILENT)  # newer ones do not disturb a walk that has begun
        if page["next_cursor"] is None:
            break
        cursor = "&cursor=" + page["next_cursor"]
    assert sizes == [3, 3, 1]
    assert sorted(seen) == sorted(sent) and seen == sorted(seen, reverse=True)


async def test_a_page_that_ends_exactly_has_no_next_one(api: Api) -> None:
    for _ in range(2):
        await api.sent(SILENT)
    assert (await api.call("GET", "/v1/messages?limit=2")).json["next_cursor"] is None
    assert (await api.call("GET", "/v1/messages?limit=1")).json["next_cursor"] is not None


async def test_filters(api: Api) -> None:
    first = await api.sent({**SILENT, "reference": "order-1"})
    mail = {"channel": "email", "to": "delivered@example.com", "content": {"text": "x", "subject": "y"}}
    second = await api.sent({**mail, "reference": "order-2"})
    third = await api.sent({**SMS, "reference": "öther %_"})
    await api.node.final(second)
    await api.node.final(third)
    await api.node.until(lambda: api.node.stored(first))
    middle = (await api.call("GET", f"/v1/messages/{second}")).json["created_at"]
    for query, wanted in (
        ("channel=email", [second]),
        ("channel=sms", [third, first]),
        ("channel=push", []),
        ("reference=order-1", [first]),
        ("reference=order", []),
        ("reference_prefix=order-", [second, first]),
        ("reference_prefix=%C3%B6ther%20%25", [third]),
        ("reference_prefix=%25", []),
        ("status=delivered", [third, second]),
        ("status=open", [first]),
        ("status=open&status=delivered", [third, second, first]),
        ("status=failed", []),
        (f"created_after={middle}", [third, second]),
        (f"created_before={middle}", [first]),
        (f"created_before={middle.replace('Z', '+00:00')}", [first]),  # a plus nobody encoded
        ("created_after=0001-01-01T00:00:00%2B14:00", [third, second, first]),
        ("created_before=9999-12-31T23:59:59-14:00", [third, second, first]),
    ):
        assert sorted(await ids(api, query)) == sorted(wanted), query  # those of one millisecond have no order


async def test_summaries_leave_out_attempts_and_events(api: Api) -> None:
    await api.sent()
    for query, keys in (("", SUMMARY), ("fields=summary", SUMMARY), ("fields=full", SUMMARY | {"attempts", "events"})):
        (message,) = (await api.call("GET", f"/v1/messages?{query}")).json["data"]
        assert set(message) == keys


async def test_counts_name_every_status(api: Api) -> None:
    message = await api.sent()
    await api.node.final(message)
    await api.call("POST", f"/v1/messages/{await api.sent(SILENT)}/cancel")
    counts = (await api.call("GET", "/v1/messages/counts")).json
    assert set(counts) == {
        "accepted", "scheduled", "in_progress", "delivered", "failed", "expired", "cancelled", "unknown",
    }  # fmt: skip
    assert (counts["delivered"], counts["cancelled"], sum(counts.values())) == (1, 1, 2)
    assert sum((await api.call("GET", "/v1/messages/counts?created_before=2020-01-01T00:00:00Z")).json.values()) == 0


async def test_lookup_keeps_the_order_and_leaves_out_the_unknown(api: Api) -> None:
    first, second = await api.sent(), await api.sent()
    asked = [second, new_message_id(), "nonsense", "", "msg_\0", first, second]
    found = await api.call("POST", "/v1/messages/lookup", {"ids": asked})
    assert [message["id"] for message in found.json["data"]] == [second, first]
    assert "events" in found.json["data"][0]
    assert (await api.call("POST", "/v1/messages/lookup", {"ids": []})).json == {"data": []}
    assert (await api.call("POST", "/v1/messages/lookup", {"ids": [first] * 1001})).fields == ["ids"]
    assert (await api.call("POST", "/v1/messages/lookup", {"ids": [1]})).fields == ["ids[0]"]


async def test_cancel_answers_with_the_message_and_takes_no_fields(api: Api) -> None:
    message = await api.sent(SILENT)
    refused = await api.call("POST", f"/v1/messages/{message}/cancel", {"why": "x"})
    assert (refused.status, refused.fields) == (422, ["why"])
    answer = await api.call("POST", f"/v1/messages/{message}/cancel")
    assert (answer.status, answer.json["id"], answer.json["status"]) == (200, message, "cancelled")
    assert answer.json["events"][-1]["type"] == "cancelled"


async def test_a_batch_judges_each_item_in_order(api: Api) -> None:
    items: list[Any] = [SMS, {**SMS, "to": "1"}, 1, None, {**SMS, "reference": "x"}, {**SMS, "colour": "red"}]
    answer = await api.call("POST", "/v1/messages/batch", {"messages": items})
    assert answer.status == 200
    results = answer.json["results"]
    assert [result["status"] for result in results] == [202, 422, 422, 422, 202, 422]
    for result in results:
        if result["status"] == 202:
            assert set(result) == {"status", "message"}
            assert set(result["message"]) == {"id", "status", "reference"}
        else:
            assert set(result) == {"status", "problem"}
            assert result["problem"]["code"] == "schema_invalid"
    accepted = [result["message"]["id"] for result in results if result["status"] == 202]
    assert sorted(await ids(api)) == sorted(accepted)
    assert results[4]["message"]["reference"] == "x"


async def test_a_batch_of_a_thousand_is_fine_and_one_more_is_not(api: Api) -> None:
    answer = await api.call("POST", "/v1/messages/batch", {"messages": [SMS] * 1000})
    assert [result["status"] for result in answer.json["results"]] == [202] * 1000
    for items in ([SMS] * 1001, []):
        answer = await api.call("POST", "/v1/messages/batch", {"messages": items})
        assert (answer.status, answer.fields) == (422, ["messages"])
    assert (await api.call("POST", "/v1/messages/batch", {"messages": [], "x": 1})).fields == ["x"]
    page = (await api.call("GET", "/v1/messages?limit=1000")).json
    assert (len(page["data"]), page["next_cursor"]) == (1000, None)


async def test_a_batch_is_503_whole_only_when_no_item_was_judged(api: Api) -> None:
    api.node.context.draining = True
    whole = await api.call("POST", "/v1/messages/batch", {"messages": [SMS, SMS]})
    assert (whole.status, whole.code) == (503, "overloaded")
    mixed = await api.call("POST", "/v1/messages/batch", {"messages": [SMS, {}]})
    assert [result["status"] for result in mixed.json["results"]] == [503, 422]
    api.node.context.draining = False


async def test_one_items_bug_does_not_hide_the_others(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(body: Any, *rest: Any) -> Any:
        if body.reference == "bug":
            raise RuntimeError("secret")
        return build(body, *rest)

    monkeypatch.setattr("gateway.messages.build", broken)
    answer = await api.call("POST", "/v1/messages/batch", {"messages": [SMS, {**SMS, "reference": "bug"}]})
    assert [result["status"] for result in answer.json["results"]] == [202, 500]
    assert b"secret" not in answer.raw
    alone = await api.send({**SMS, "reference": "bug"})
    assert (alone.status, alone.code) == (500, "internal")
    assert b"secret" not in alone.raw and b"Error" not in alone.raw


async def test_validate_tells_route_price_and_segments_and_sends_nothing(api: Api) -> None:
    body = {
        "to": {"phone": "+4520123456", "email": "a@example.com"},
        "cascade": ["sms", "email"],
        "content": {"text": "x" * 161, "subject": "y"},
    }
    verdict = (await api.call("POST", "/v1/messages/validate", body)).json
    assert verdict == {
        "accepted": True,
        "segments": 2,
        "encoding": "gsm7",
        "route": ["mock-sms", "mock-email"],
        "price": 0.02,
        "refusals": [],
    }
    assert await ids(api) == []
    test = (await api.call("POST", "/v1/messages/validate", body, key="test")).json
    assert test["route"] == ["sandbox"]


async def test_validate_lists_every_refusal_at_once(api: Api) -> None:
    body = {
        "to": {"phone": "1", "fax": "2"},
        "cascade": ["sms", "email"],
        "content": {"text": "x"},
        "expires_in_s": "soon",
        "callback_url": "http://127.0.0.1/",
    }
    verdict = (await api.call("POST", "/v1/messages/validate", body)).json
    assert verdict["accepted"] is False
    assert sorted((r["code"], r["field"]) for r in verdict["refusals"]) == [
        ("callback_refused", "callback_url"),
        ("schema_invalid", "expires_in_s"),
        ("schema_invalid", "to.email"),
        ("schema_invalid", "to.fax"),
        ("schema_invalid", "to.phone"),
    ]
    assert all(set(r) == {"layer", "code", "field", "detail"} for r in verdict["refusals"])
