"""The first ten minutes of the README as a newcomer lives them: `hermes demo`, and what it asks to try."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.node.harness import (
    FINAL,
    FIRST_START_WITHIN_S,
    HERMES,
    REPOSITORY,
    SOON_S,
    STOP_WITHIN_S,
    copy_data,
    environment,
    until,
)

# ARCHITECTURE's tree, as far as it is built: a line names an actor by its way down.
TREE = {
    "root/journal",
    "root/carriers/providers/provider/mock-email",
    "root/carriers/providers/provider/mock-sms",
    "root/carriers/providers/provider/mock-push",
    "root/carriers/providers/provider/mock-whatsapp",
    "root/carriers/providers/provider/sandbox",
    "root/router",
    "root/dlr",
    "root/webhooks",
    "root/waker",
    "root/gateway",
}


class Demo:
    """`hermes demo` in a process of its own, as a user whose home is `home`."""

    def __init__(self, home: Path, *options: str) -> None:
        self.environ = environment(XDG_DATA_HOME=str(home), HOME=str(home), COLUMNS="100")
        self.errors = (home / f"demo{len(list(home.iterdir()))}.err").open("wb+")
        self.process = subprocess.Popen(
            [*HERMES, "demo", *options],
            cwd=REPOSITORY,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self.said = ""

    def listen(self) -> str:
        assert self.process.stdout is not None
        self.said += (self.process.stdout.read() or b"").decode()
        if self.process.poll() is not None:
            self.errors.seek(0)
            raise AssertionError(f"the demo ended with {self.process.returncode}: {self.errors.read().decode()}")
        return self.said

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code: int = await until(self.process.poll, STOP_WITHIN_S, "the demo ends after SIGTERM")
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()


@asynccontextmanager
async def demo(home: Path, *options: str) -> AsyncIterator[Demo]:
    started = Demo(home, *options)
    try:
        yield started
    finally:
        started.close()


async def facts(started: Demo) -> dict[str, str]:
    await until(lambda: "\n" in started.listen(), FIRST_START_WITHIN_S, "the demo prints its first line")
    found: dict[str, str] = json.loads(started.said.splitlines()[0])
    return found


async def hermes(environ: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """Run a command to its end: exit code, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *HERMES,
        *arguments,
        cwd=REPOSITORY,
        env=environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), SOON_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def paste(line: str) -> dict[str, Any]:
    """Do what a shell does with a curl line; by hand where there is no curl."""
    words = shlex.split(line)
    if shutil.which("curl"):
        process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        out, _ = await asyncio.wait_for(process.communicate(), SOON_S)
    else:
        headers = dict(words[n + 1].split(": ", 1) for n, word in enumerate(words) if word == "-H")
        url = next(word for word in words if word.startswith("http"))
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, data=words[words.index("-d") + 1], headers=headers) as answer,
        ):
            out = await answer.read()
    posted: dict[str, Any] = json.loads(out)
    return posted


async def ask(url: str, key: str, method: str = "GET", body: Any = None) -> tuple[int, Any]:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as session,
        session.request(method, url, json=body) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


async def final(environ: dict[str, str], message_id: str) -> dict[str, Any]:
    async def is_final() -> dict[str, Any] | None:
        code, out, err = await hermes(environ, "message", message_id, "--json")
        assert code == 0, err
        message: dict[str, Any] = json.loads(out)
        return message if message["status"] in FINAL else None

    message: dict[str, Any] = await until(is_final, SOON_S, f"{message_id} is final")
    return message


def names(actor: dict[str, Any], above: str = "") -> Iterator[str]:
    yield above + actor["name"]
    for child in actor["children"]:
        yield from names(child, f"{above}{actor['name']}/")


@pytest.mark.timeout(300)
async def test_newcomer_sees_a_message_fall_from_email_to_sms_in_ten_minutes(tmp_path: Path) -> None:
    async with demo(tmp_path) as started:
        await until(lambda: "every carrier is a mock" in started.listen(), FIRST_START_WITHIN_S, "the welcome")
        said = started.said
        curl = next(line for line in said.splitlines() if line.startswith("curl "))
        posted = await paste(curl)
        assert posted["status"] == "accepted"

        # The other lines of the welcome are commands, too.
        assert "hermes message <id>" in said
        assert "hermes tree" in said
        message = await final(started.environ, posted["id"])
        assert message["status"] == "delivered"
        assert message["delivered_by"] == 1
        kinds = [event["type"] for event in message["events"]]
        assert kinds == ["accepted", "submitted", "undelivered", "fallback", "submitted", "delivered"]
        code, out, err = await hermes(started.environ, "message", posted["id"])
        assert code == 0, err
        for word in ("email", "undelivered", "fallback", "sms", "mock-sms", "delivered"):
            assert word in out

        code, out, err = await hermes(started.environ, "tree")
        assert code == 0, err
        assert "provider/mock-sms" in out
        code, out, err = await hermes(started.environ, "tree", "--json")
        assert code == 0, err
        tree = {name.removeprefix("system/") for name in names(json.loads(out))}
        assert tree >= TREE, TREE - tree
        assert any(re.fullmatch(r"root/tenants/tenant/ten_\w+", name) for name in tree)

        code, out, err = await hermes(started.environ, "doctor", "--json")
        assert (code, json.loads(out)["ok"]) == (0, True), out
        assert await started.stop() == 0
    code, out, _ = await hermes(started.environ, "doctor", "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)


async def test_two_demos_at_once_take_different_ports_and_folders(tmp_path: Path, data: Path) -> None:
    for name in ("demo", "demo-2"):
        (tmp_path / "hermes").mkdir(mode=0o700, exist_ok=True)
        copy_data(data, tmp_path / "hermes" / name)
    async with demo(tmp_path, "--json") as one, demo(tmp_path, "--json") as two:
        first, second = await asyncio.gather(facts(one), facts(two))
        assert set(first) == {"url", "operator_key", "tenant", "api_key", "test_key"}
        assert first["url"] != second["url"]
        for there in (first, second):
            status, _ = await ask(f"{there['url']}/v1/tenants/{there['tenant']}", there["operator_key"])
            assert status == 200
        assert await one.stop() == 0
        assert await two.stop() == 0
    for file in ("operator.key", "demo.json", "key-hash.secret"):
        assert stat.S_IMODE((tmp_path / "hermes/demo" / file).stat().st_mode) == 0o600


async def test_demo_keeps_its_keys_and_test_messages_stay_in_the_sandbox(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "data"
    copy_data(data, folder)
    async with demo(tmp_path, "--json", "--data-dir", str(folder)) as started:
        first = await facts(started)
        environ = environment(HERMES_URL=first["url"], HERMES_OPERATOR_KEY=first["operator_key"])
        url = f"{first['url']}/v1/messages"
        body = {"channel": "sms", "to": "+4520120001", "content": {"text": "hi"}}
        status, posted = await ask(url, first["test_key"], "POST", body)
        assert status == 202
        message = await final(environ, posted["id"])
        assert message["status"] == "delivered"
        assert [attempt["carrier"] for attempt in message["attempts"]] == ["sandbox"]
        assert (await ask(f"{url}/{posted['id']}", first["test_key"]))[0] == 200
        assert (await ask(f"{url}/{posted['id']}", first["api_key"]))[0] == 404
        assert (await ask(url, first["api_key"]))[1]["data"] == []
        assert [m["id"] for m in (await ask(url, first["test_key"]))[1]["data"]] == [posted["id"]]

        status, posted = await ask(url, first["api_key"], "POST", body)
        assert [a["carrier"] for a in (await final(environ, posted["id"]))["attempts"]] == ["mock-sms"]
        assert (await ask(f"{url}/{posted['id']}", first["test_key"]))[0] == 404
        assert await started.stop() == 0

    async with demo(tmp_path, "--json", "--data-dir", str(folder)) as again:
        second = await facts(again)
        assert {**second, "url": ""} == {**first, "url": ""}
        code, out, err = await hermes(
            again.environ | {"HERMES_DATA_DIR": str(folder)}, "message", posted["id"], "--json"
        )
        assert code == 0, err
        assert json.loads(out)["status"] == "delivered"
        assert await again.stop() == 0
