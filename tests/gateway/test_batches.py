"""Batches: each item is judged for itself, whoever else is in the batch and whatever becomes of its tenant."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway import messages
from hermes.domain.commands import Admitted, Refused, Submit, SubmitAll
from hermes.runtime import NO_REPLY, Actor
from tests.gateway.api import SMS, Api

Start = Callable[..., Awaitable[Api]]


async def sent(api: Api, items: list[Any]) -> list[Any]:
    answer = await api.call("POST", "/v1/messages/batch", {"messages": items})
    assert answer.status == 200, answer.raw
    return list(answer.json["results"])


def codes(results: list[Any]) -> list[str]:
    return [result["problem"]["code"] if "problem" in result else result["message"]["status"] for result in results]


async def test_a_batch_of_many_parts_keeps_its_order(api: Api) -> None:
    count = 3 * messages.ITEMS_AT_ONCE + 7
    items = [{**SMS, "reference": f"r{n}", "to": "1" if n % 10 == 3 else SMS["to"]} for n in range(count)]
    results = await sent(api, items)
    for n, result in enumerate(results):
        if n % 10 == 3:
            assert result["status"] == 422
        else:
            assert (result["status"], result["message"]["reference"]) == (202, f"r{n}")
    assert len(results) == count
    assert api.edge.metrics.accept_seconds.count == sum(result["status"] == 202 for result in results)


async def test_what_is_wrong_beside_the_items_is_named_and_no_item_is(api: Api) -> None:
    answer = await api.call("POST", "/v1/messages/batch", {"messages": [SMS] * 60, "dry_run": True})
    assert (answer.status, answer.code, answer.fields) == (422, "schema_invalid", ["dry_run"])
    others: list[Any] = [{"messages": {}}, {"messages": "x"}, {"messages": None}, {}]
    for wrong in others:
        answer = await api.call("POST", "/v1/messages/batch", wrong)
        assert (answer.status, answer.fields) == (422, ["messages"])


async def test_items_that_wait_for_more_than_their_tenant_keep_their_places(start: Start) -> None:
    looked_up = asyncio.Event()

    async def resolve(host: str) -> list[str]:
        await looked_up.wait()
        return ["10.0.0.1"] if host == "inside.example" else ["93.184.216.34"]

    api = await start(resolve=resolve)
    outside, inside = ({**SMS, "callback_url": f"https://{name}.example/h"} for name in ("outside", "inside"))
    stranger = {"channel": "sms", "to": SMS["to"], "template": {"name": "nobody"}}
    later = {**SMS, "send_at": "2099-01-05T09:00:00Z"}
    batch = asyncio.create_task(sent(api, [outside, SMS, stranger, inside, {**SMS, "channel": "fax"}, SMS, later]))
    async with asyncio.timeout(5):
        while api.edge.metrics.accepted.value < 2:  # noqa: ASYNC110 - they wait for nobody's host
            await asyncio.sleep(0)
    looked_up.set()
    assert codes(await batch) == [
        "accepted", "accepted", "schema_invalid", "callback_refused", "schema_invalid", "accepted", "schema_invalid",
    ]  # fmt: skip


class Half(Actor):
    """A tenant that knows what became of the first two items, and then ends, or falls silent."""

    ends = True
    withdrawn = True
    asked: list[int]

    def handle_call(self, request: Any, reply: Any) -> Any:
        assert type(request) is SubmitAll
        self.asked.append(len(request.submits))
        first, second, third, *_ = request.submits
        first.outcome = Admitted("accepted")
        second.outcome = Refused("no_route", "no carrier serves channel sms")
        third.withdraw = lambda: self.withdrawn
        if self.ends:
            raise RuntimeError("a secret")
        return NO_REPLY


@pytest.mark.parametrize(
    ("ends", "withdrawn", "third", "fourth"),
    [
        (True, True, "overloaded", "overloaded"),
        (True, False, "outcome_unknown", "overloaded"),
        (False, True, "journal_away", "outcome_unknown"),
        (False, False, "outcome_unknown", "outcome_unknown"),
    ],
)
async def test_what_became_known_before_the_tenant_ended_or_fell_silent_is_told(
    api: Api, monkeypatch: pytest.MonkeyPatch, ends: bool, withdrawn: bool, third: str, fourth: str
) -> None:
    monkeypatch.setattr(Half, "asked", [], raising=False)
    monkeypatch.setattr(Half, "ends", ends)
    monkeypatch.setattr(Half, "withdrawn", withdrawn)
    monkeypatch.setattr(messages, "ANSWER_WITHIN_S", 0.3)
    ref = api.node.system.spawn(Half, name="half")
    monkeypatch.setattr(api.node.system, "whereis", lambda name: ref)
    results = await sent(api, [SMS] * 4)
    assert Half.asked == [4]
    assert codes(results) == ["accepted", "no_route", third, fourth]
    assert b"secret" not in str(results).encode()


async def test_a_batch_whose_tenant_is_not_there_is_503_whole(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.node.system, "whereis", lambda name: None)
    answer = await api.call("POST", "/v1/messages/batch", {"messages": [SMS, SMS]})
    assert (answer.status, answer.code) == (503, "overloaded")


async def test_other_callers_have_their_turn_while_batches_are_taken_up(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    submit_all = messages.Messages._submit_all

    async def counted(self: Any, submits: list[Submit], started: float) -> Any:
        taken.append(len(submits))
        return await submit_all(self, submits, started)

    monkeypatch.setattr(messages.Messages, "_submit_all", counted)
    await api.call("GET", "/livez", key=None)
    batches = [asyncio.create_task(sent(api, [SMS] * 500)) for _ in range(3)]
    seen = []
    while not all(batch.done() for batch in batches):
        await api.call("GET", "/livez", key=None)
        seen.append(len(taken))
    assert sum(taken) == 1500 and max(taken) == messages.ITEMS_AT_ONCE
    assert len({count for count in seen if 0 < count < len(taken)}) > 1  # answered in between, more than once
