"""`hermes smsc` as a process: what it prints, how it ends; and its page in docs/."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from hermes.cli import main
from hermes.smsc.malformed import MALFORMED
from hermes.smsc.outcomes import MAGIC
from hermes.smsc.settings import SmscSettings
from tests.hermes.smsc.peer import BINDS, Esme

DOCS = (Path(__file__).parents[3] / "docs/smsc.md").read_text()


@asynccontextmanager
async def command(*argv: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hermes.cli",
        "smsc",
        "--port",
        "0",
        "--control-port",
        "0",
        *argv,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def line(process: Process) -> bytes:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return await process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_takes_and_prints_messages_until_it_is_told_to_stop(number: int, tmp_path: Path) -> None:
    config = tmp_path / "smsc.toml"
    config.write_text('tps = 1\ntps_burst_s = 1\n[accounts]\nbank = "pa55word"\n')
    async with command("--json", "--print", "--config", str(config), "--set", "receipt_forms=tlvs,payload") as process:
        facts: dict[str, Any] = json.loads(await line(process))
        assert facts["system_ids"] == ["bank"]
        esme = Esme(*await asyncio.open_connection(facts["host"], facts["port"]))
        assert (await esme.request(BINDS["transceiver"](system_id="bank", password="pa55word"))).command_status == 0
        assert (await esme.submit(short_message=b"hello")).command_status == 0
        assert (await esme.submit()).command_status == 0x58
        assert json.loads(await line(process))["text"] == "hello"
        process.send_signal(number)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
        await esme.ended()


async def test_it_says_how_to_reach_it_and_shows_no_password_of_yours() -> None:
    async with command("--account", "bank:pa55word", "--print") as process:
        said = b"".join([await line(process) for _ in range(4)]).decode()
        assert "127.0.0.1" in said and "bank" in said and "/stats" in said
        assert "pa55word" not in said


def test_a_taken_port_is_a_failure_that_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["smsc", "--port", str(port)]) == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--set", "error_rate=2"], "error_rate"),
        (["--set", "nonsense=2"], "nonsense"),
        (["--set", "nonsense"], "NAME=VALUE"),
        (["--set", "statuses={"], "JSON"),
        (["--account", "bank:much too long"], "accounts"),
        (["--config", "/nowhere/smsc.toml"], "/nowhere/smsc.toml"),
        (["--set", "tls_cert=/nowhere", "--set", "tls_key=/nowhere"], "TLS"),
    ],
)
def test_a_wrong_setting_exits_2_and_is_named(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smsc", *argv]) == 2
    told = capsys.readouterr()
    assert said in told.err and told.out == ""


def test_the_numbers_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smsc", "--numbers", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {digits: magic.says for digits, magic in MAGIC.items()}


def test_its_page_has_every_number_setting_and_malformed_pdu() -> None:
    for digits, magic in MAGIC.items():
        assert digits.startswith("09") or f"| {digits} | {magic.says} |" in DOCS
    assert set(SmscSettings.__struct_fields__) <= set(re.findall(r"`(\w+)`", DOCS))
    assert set(MALFORMED) <= set(re.findall(r"`(\w+)`", DOCS))
