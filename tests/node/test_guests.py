"""Guests on a real node: the example of docs/thespian.md as it stands, and two that misbehave beside it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hermes.boot import mount_guests
from hermes.errors import SettingsError
from hermes.runtime import System
from hermes.settings import GuestSettings
from tests.node.harness import REPOSITORY, SOON_S, Node, environment, running, until

EXAMPLE = REPOSITORY / "examples" / "thespian"
MISBEHAVING = """
[[guest]]
name = "stuck"
class = "tests.runtime.thespian.guests.Stuck"
supervisor = "providers"
handler_timeout_s = 0.5

[[guest]]
name = "clumsy"
class = "tests.runtime.thespian.guests.Clumsy"

[[carrier]]
name = "stuck"
kind = "guest"
channel = "push"
guest = "stuck"
breaker_failures = 0

[[carrier]]
name = "clumsy"
kind = "guest"
channel = "whatsapp"
guest = "clumsy"
on_ambiguous = "never"
"""


@pytest.fixture
async def node(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Node]:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(EXAMPLE), str(REPOSITORY))))
    monkeypatch.setenv("PAGER_FOLDER", str(tmp_path / "pages"))
    async with running(tmp_path, (EXAMPLE / "hermes.toml").read_text() + MISBEHAVING, data=data) as node:
        yield node


def sms(text: str, to: str = "+4520123456") -> dict[str, Any]:
    return {"channel": "sms", "to": to, "content": {"text": text}}


async def test_actors_written_for_thespian_check_and_carry_messages(node: Node, tmp_path: Path) -> None:
    tenant = await node.tenant()
    good = await node.send(tenant.key, sms("Dinner is ready"))
    bad = await node.send(tenant.key, sms("Buy a gift card", "+4520654321"))
    delivered = await node.final(good["id"])
    assert delivered["status"] == "delivered"
    [page] = (tmp_path / "pages").iterdir()
    assert delivered["attempts"][0]["carrier_message_ids"] == [page.stem]
    assert json.loads(page.read_text()) == {"to": "+4520123456", "text": "Dinner is ready"}
    refused = await node.final(bad["id"])
    assert refused["status"] == "failed"
    assert refused["attempts"][0]["error"] | {"detail": ""} == {
        "class": "content_rejected",
        "code": "words",
        "detail": "",
    }


async def test_guests_are_in_the_tree_and_are_restarted_by_hand_like_any_actor(node: Node) -> None:
    guests = await node.get("/v1/actors/guests")
    assert [child["name"] for child in guests["children"]] == ["guest/fraud", "guest/pager", "guest/clumsy"]
    fraud = await node.get("/v1/actors/guest/fraud")
    assert (fraud["kind"], fraud["detail"]["class"]) == ("MountedGuest", "acme.FraudCheck")
    assert (await node.ask("POST", "/v1/actors/guest/fraud/restart")).status == 200
    assert (await node.get("/v1/actors/guest/fraud"))["restarts"] == 1
    tenant = await node.tenant()
    accepted = await node.send(tenant.key, sms("Still there?"))
    assert (await node.final(accepted["id"]))["status"] == "delivered"


async def test_a_guest_that_blocks_and_one_that_raises_are_restarted_and_the_node_goes_on(node: Node) -> None:
    tenant = await node.tenant()
    push = {"channel": "push", "to": "token", "content": {"text": "x"}}
    chat = {"channel": "whatsapp", "to": "+4520123456", "content": {"text": "x"}}
    await node.send(tenant.key, push)
    doubtful = await node.send(tenant.key, chat)
    for _ in range(20):
        assert (await node.ask("GET", "/livez", timeout_s=5)).status == 200
    sent = [await node.send(tenant.key, sms("on we go", f"+45201234{n:02}")) for n in range(20)]
    done = await node.all_final([one["id"] for one in sent], SOON_S)
    assert {message["status"] for message in done.values()} == {"delivered"}

    async def restarted() -> bool:
        shown = [await node.ask("GET", f"/v1/actors/guest/{name}") for name in ("stuck", "clumsy")]
        return all(one.status == 200 and one.body["restarts"] for one in shown)  # 404 between its end and its start

    await until(restarted, SOON_S, "both guests have been started anew")
    told = {event["type"] for event in (await node.message(doubtful["id"]))["events"]}
    assert "ambiguous" in told  # the guest failed twice on it: nobody can tell whether it went out
    assert (await node.get("/v1/actors/root"))["restarts"] == 0
    assert await node.terminate() == 0, node.log


async def test_a_node_with_guests_takes_the_interpreter_back_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[float] = []
    monkeypatch.setattr(sys, "setswitchinterval", set_to.append)
    assert mount_guests([], System()) == {} and set_to == []
    guest = GuestSettings(name="a", class_="tests.runtime.thespian.guests.Echo", supervisor="providers")
    specs = mount_guests([guest], System())
    assert [spec.name for spec in specs["providers"]] == ["guest/a"]
    assert set_to == [0.001]


async def test_without_the_extra_the_operator_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "thespian.actors", None)
    with pytest.raises(SettingsError, match=r"pip install 'hermes-messaging\[thespian\]'"):
        mount_guests([GuestSettings(name="a", class_="a.B")], System())


@pytest.mark.parametrize(
    ("guest", "wrong"),
    [
        ('name = "a"\nclass = "no.such.Thing"', "guest.a.class: no.such.Thing: No module named 'no'"),
        ('name = "a"\nclass = "json.JSONDecoder"', "guest.a.class: json.JSONDecoder: is no subclass"),
        ('name = "a"\nclass = "Thing"', 'guest.a.class: expected a dotted name, such as "package.module.Class"'),
        ('name = "a"', "guest.a.class: missing"),
        ('name = "a"\nclass = "json.decoder.X"\nsuperviser = "guests"', "guest.a.superviser: unknown setting"),
        (
            'name = "a"\nclass = "json.decoder.X"\nsupervisor = "root"',
            'guest.a.supervisor: expected one of "carriers", "guests"',
        ),
    ],
)
async def test_a_guest_that_cannot_be_is_told_at_start_and_exits_2(tmp_path: Path, guest: str, wrong: str) -> None:
    config = tmp_path / "hermes.toml"
    config.write_text(
        f'[[guest]]\n{guest}\n[[carrier]]\nname = "m"\nkind = "mock"\nchannel = "sms"\n', encoding="utf-8"
    )
    command = [sys.executable, "-m", "hermes.cli", "serve", "--config", str(config), "--data-dir", str(tmp_path / "d")]
    run = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2, run.stderr
    assert wrong in re.sub(r"\s+", " ", run.stderr)
