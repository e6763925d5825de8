"""SIGTERM under load: exit 0 in time, nothing lost, nothing in doubt but what a carrier really held."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from tests.node.harness import SOON_S, STOP_WITHIN_S, running, until
from tests.node.load import SWIFT, Load, check_kept, mail_server

STOPS = 2


async def test_sigterm_under_load_exits_0_and_leaves_nothing_in_doubt(tmp_path: Path, data: Path) -> None:
    async with mail_server() as (carriers, mail), running(tmp_path, carriers, data=data) as node:
        mail.slowest_answer_s = 0.5  # so that something is in the carrier's hands at every stop
        load = Load(node, (await node.tenant()).key, kinds=SWIFT)
        async with load.coming_in():
            for _ in range(STOPS):
                await load.goes_on(SOON_S)
                await asyncio.sleep(random.uniform(0.5, 1.5))  # a random moment under load
                began = time.monotonic()
                assert await node.terminate(STOP_WITHIN_S) == 0
                print(f"ended after {time.monotonic() - began:.2f} s")
                assert "Traceback" not in node.log
                assert node.postmaster() is None, "its database outlived it"
                assert not (node.data_dir / "node.json").exists()
                await node.start()
        messages = await check_kept(load, mail, within_s=60.0)
        doubtful = [
            message["id"]
            for message in messages.values()
            if any(attempt["recovered"] for attempt in message["attempts"])
            or any(event["type"] == "ambiguous" for event in message["events"])
        ]
        assert not doubtful, f"{len(doubtful)} of {len(messages)} were in doubt"
        assert set(mail.taken.values()) == {1}


async def test_what_waited_at_sigterm_goes_on_at_once_after_the_next_start(tmp_path: Path, data: Path) -> None:
    async with mail_server() as (carriers, _), running(tmp_path, carriers, data=data) as node:
        key = (await node.tenant()).key
        late = await node.send(key, {"channel": "sms", "to": "+4520120006", "content": {"text": "hi"}})
        falls = await node.send(
            key,
            {
                "to": {"phone": "+4520120004", "push": "tok-delivered"},
                "cascade": [{"channel": "sms", "timeout_s": 3}, "push"],
                "content": {"text": "hi"},
            },
        )
        assert await node.terminate() == 0
        await node.start()
        for accepted, delivered_by in ((late, 0), (falls, 1)):
            message = await node.final(accepted["id"])
            assert (message["status"], message["delivered_by"]) == ("delivered", delivered_by)
            assert not any(attempt["recovered"] for attempt in message["attempts"])


async def test_sigterm_does_not_wait_for_a_carrier_that_never_answers(tmp_path: Path, data: Path) -> None:
    async with mail_server() as (carriers, mail), running(tmp_path, carriers, data=data) as node:
        key = (await node.tenant()).key
        mail.slowest_answer_s = 0.0
        sent = {}
        # What may be sent again still has time after a slow start; what may not falls to SMS at the end of its time.
        for policy, timeout_s in (("resend", 300), ("never", 12)):
            body = {
                "to": {"email": f"hold-{policy}@example.test", "phone": "+4520120001"},
                "cascade": [{"channel": "email", "timeout_s": timeout_s, "success": "submitted"}, "sms"],
                "content": {"text": "hi"},
                "on_ambiguous": policy,
            }
            sent[policy] = (await node.send(key, body))["id"]
        await until(lambda: len(mail.taken) == 2, SOON_S, "the mail server holds both")
        began = time.monotonic()
        assert await node.terminate() == 0
        assert time.monotonic() - began > 5, "it did not wait for the carrier"
        mail.holding = False
        await node.start()
        message = await node.final(sent["resend"])
        assert [(a["step"], a["status"], a["recovered"]) for a in message["attempts"]] == [
            (0, "ambiguous", False),
            (0, "submitted", True),
        ]
        assert mail.taken[sent["resend"], 0] == 2
        message = await node.final(sent["never"])
        assert (message["status"], message["delivered_by"]) == ("delivered", 1)
        assert mail.taken[sent["never"], 0] == 1
