"""Following one carrier by the log level of its actors: PDUs and answers, of it and no other, without texts."""

from __future__ import annotations

import io
import json
import logging
from typing import Any

from hermes import logs
from hermes.domain.commands import ControlCarrier
from tests.actors.cast import CastNode, message, mock, start_cast
from tests.actors.test_smpp import centre, ends, node_of, send, smpp


def debug_for(node: CastNode, actor: str) -> None:
    system = node.system
    logs.follow(system.whose_log, system.log_level_by_name)
    system.set_log_level(actor, logging.DEBUG)
    logs.allow(system.log_levels().values())


def lines(out: io.StringIO, event: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, out.getvalue().splitlines()) if line["event"] == event]


async def test_pdus_of_a_carrier_are_shown_while_it_is_traced(log: io.StringIO) -> None:
    async with centre() as smsc, node_of(smpp(smsc), smpp(smsc, "other")) as node:
        await ends(node, await send(node, 1))
        assert lines(log, "pdu") == []
        debug_for(node, "smpp/tele")
        (id_,) = await send(node, 1)
        await ends(node, [id_])
        await node.until(lambda: len(lines(log, "pdu")) >= 4)  # its receipt is acknowledged once it is stored
        shown = lines(log, "pdu")
        assert {line["carrier"] for line in shown} == {"tele"}
        names = [(line["direction"], line["pdu"].split("(")[0]) for line in shown]
        assert names == [
            ("out", "submit_sm"),
            ("in", "submit_sm_resp"),
            ("in", "deliver_sm"),
            ("out", "deliver_sm_resp"),
        ]
        assert shown[1]["carrier_message_id"]
        (answer,) = lines(log, "answer")
        assert (answer["carrier"], answer["message_id"], answer["status"]) == ("tele", id_, "submitted")
        assert "4520100000" not in log.getvalue()
        node.system.set_log_level("smpp/tele", None)
        logs.allow(node.system.log_levels().values())
        await ends(node, await send(node, 1))
        assert len(lines(log, "pdu")) == len(shown)


async def test_answers_of_any_carrier_are_shown_while_it_is_traced(log: io.StringIO) -> None:
    node = await start_cast([mock("a", "sms", receipt_delay_ms=1), mock("b", "email", receipt_delay_ms=1)])
    debug_for(node, "provider/a")
    good = message(node.tenant)
    bad = message(node.tenant, to={"phone": "+4520120002"})
    for sent in (good, bad, message(node.tenant, "email")):
        await node.submit(sent)
        await node.final(sent.message_id)
    answers = {line["message_id"]: line for line in lines(log, "answer")}
    assert set(answers) == {good.message_id, bad.message_id}
    assert answers[bad.message_id]["status"] == "rejected"
    assert answers[bad.message_id]["error_class"] == "invalid_destination"
    actor = node.system.whereis("provider/a")
    assert actor is not None
    await actor.call(ControlCarrier("pause"))
    assert lines(log, "carrier state")
    await node.stop()
