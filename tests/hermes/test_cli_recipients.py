"""The commands about recipients, against a node: lists and files, consent, erasing, usage."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from hermes.cli import client, main, recipients
from tests.gateway.api import OPERATOR, Api, start_api, stop_api

pytestmark = pytest.mark.slow

Run = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    made = await start_api()
    yield made
    await stop_api(made)


@pytest.fixture
def run(api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in a thread, as the operator of the node; `said` goes to its standard input."""
    monkeypatch.setenv("HERMES_URL", api.url)
    monkeypatch.setenv("HERMES_OPERATOR_KEY", OPERATOR)

    async def command(*argv: str, said: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        capsys.readouterr()
        code = await asyncio.to_thread(main, argv)
        told = capsys.readouterr()
        return code, told.out, told.err

    return command


async def document(run: Run, *argv: str, **more: str) -> Any:
    code, out, err = await run(*argv, "--json", **more)
    assert (code, err) == (0, "")
    return json.loads(out[out.index("{\n") :])  # the node logs to the same standard output


async def test_a_recipient_is_put_on_the_list_and_taken_off(api: Api, run: Run) -> None:
    tenant = api.node.tenant
    made = await document(run, "suppression", "add", tenant, "+45 20123456", "--channel", "sms", "--reason", "asked")
    assert (made["address"], made["reason"]) == ("+4520123456", "asked")
    assert (await api.send()).code == "do_not_contact"
    code, out, _ = await run("suppression", "list", tenant)
    assert code == 0 and "+4520123456" in out
    assert (await run("suppression", "remove", tenant, made["id"]))[:2] == (0, "1 entry is off the list\n")
    assert (await api.send()).status == 202
    assert (await run("suppression", "list", tenant))[1] == "nobody is on the list\n"
    code, _, err = await run("suppression", "remove", tenant, made["id"])
    assert code == 1 and made["id"] in err


async def test_all_is_the_operators_list(api: Api, run: Run) -> None:
    made = await document(run, "suppression", "add", "all", "-", said="+4520123456\n")
    assert made["channel"] is None
    assert [e["id"] for e in (await document(run, "suppression", "list", "all"))["data"]] == [made["id"]]
    assert (await document(run, "suppression", "list", api.node.tenant))["data"] == []


async def test_a_long_file_goes_in_parts_and_comes_back_whole(
    api: Api, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipients, "ROWS_AT_ONCE", 40)
    file = tmp_path / "list.csv"
    rows = [["sms", f"+45201234{n:02d}", 'said "no", loudly'] for n in range(90)] + [["fax", "+4520123499", "x"]]
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([["channel", "address", "reason"], *rows])
    code, said, err = await run("suppression", "import", api.node.tenant, str(file))
    assert (code, said) == (1, "90 added, 0 known, 1 refused\n")
    assert "row 92: channel is none of" in err
    again = await run("suppression", "import", api.node.tenant, "-", said=file.read_text())
    assert again[1] == "0 added, 90 known, 1 refused\n"

    target = tmp_path / "out.csv"
    _, said, _ = await run("suppression", "export", api.node.tenant, str(target))
    assert said == f"90 entries are in {target}\n"
    written = list(csv.DictReader(target.open(newline="")))
    assert sorted([r["channel"], r["address"], r["reason"]] for r in written) == rows[:90]
    _, piped, _ = await run("suppression", "export", api.node.tenant)
    assert piped.replace("\r\n", "\n") == target.read_text().replace("\r\n", "\n")


async def test_parts_of_an_export_are_joined(api: Api) -> None:
    for n in range(5):
        path = f"/v1/tenants/{api.node.tenant}/suppressions"
        await api.call("POST", path, {"address": f"+452012345{n}"})
    node = client.Client(api.url, OPERATOR)
    parts = await asyncio.to_thread(list, recipients._parts(node, f"{path}/export?limit=2"))
    assert [len(list(csv.reader(io.StringIO(part)))) for part in parts] == [3, 3, 2]


@pytest.mark.parametrize(("text", "why"), [("", "is empty"), ('a,"b', "is no CSV"), (None, "No such file")])
async def test_a_file_that_is_none_is_wrong_usage(api: Api, run: Run, tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "list.csv"
    if text is not None:
        file.write_text(text)
    code, out, err = await run("suppression", "import", api.node.tenant, str(file))
    assert (code, out) == (2, "") and why in " ".join(err.replace("│", " ").split())


async def test_consent_is_given_found_and_withdrawn(api: Api, run: Run) -> None:
    tenant = api.node.tenant
    given = ("--channel", "sms", "--source", "signup form", "--ip", "192.0.2.1", "--text-version", "2026-01")
    made = await document(run, "consent", "add", tenant, "+4520123456", *given)
    assert (made["category"], made["proof"]["text_version"]) == ("marketing", "2026-01")
    await document(run, "consent", "add", tenant, "+4520123457", *given)
    found = await document(run, "consent", "list", tenant, "+45 20 12 34 56")
    assert [c["id"] for c in found["data"]] == [made["id"]]
    code, out, _ = await run("consent", "withdraw", tenant, made["id"])
    assert code == 0 and "withdrawn_at" in out
    assert (await run("consent", "list", tenant, "+4520123450"))[1] == "no consents\n"


async def test_a_recipient_is_erased_and_the_command_waits_for_it(api: Api, run: Run) -> None:
    message_id = await api.sent()
    await api.node.final(message_id)
    done = await document(run, "erase", api.node.tenant, "-", said="+4520123456\n")
    assert (done["status"], done["messages"]) == ("done", 1)
    assert not (await api.node.stored(message_id)).message.to
    code, out, _ = await run("erase", api.node.tenant, "+4520123456", "--no-wait", "--yes")
    assert code == 0 and "running" in out


async def test_usage_is_shown_by_day(api: Api, run: Run) -> None:
    assert (await run("usage", api.node.tenant))[1] == "nothing was used\n"
    await api.node.final(await api.sent())
    code, out, _ = await run("usage", api.node.tenant)
    assert code == 0 and "mock-sms" in out
    lines = (await document(run, "usage", api.node.tenant, "--from", "2020-01-01", "--to", "2020-01-02"))["data"]
    assert lines == []
