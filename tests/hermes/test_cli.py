"""The command line: what each command asks of a node, what it prints, and its exit code."""

import asyncio
import errno
import json
import logging
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
import structlog
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import hermes
from hermes.cli import actors, carriers, checks, client, main, node, overview, show
from hermes.data_dir import write_node_file
from hermes.errors import HermesError, SettingsError
from hermes.journal.directory import Directory
from hermes.journal.embedded import EmbeddedPostgres
from hermes.journal.memory import MemoryJournal
from hermes.runtime.clock import SystemClock
from hermes.settings import Settings

KEY = "hk_op_operator"
ID = "msg_01JABCDEFGHJKMNPQRSTVWXYZ0"
RECEIPT = {
    "status": "delivered",
    "segment": 0,
    "carrier": "mock-sms",
    "carrier_message_id": "m2",
    "carrier_at": "2025-01-31T10:00:00.620000Z",
}
BOUNCE = {"class": "unreachable_handset", "code": "5.2.2", "detail": "mailbox full"}
MESSAGE: dict[str, Any] = {
    "id": ID,
    "tenant": "ten_1",
    "status": "delivered",
    "reference": "order-17",
    "metadata": {},
    "category": "otp",
    "to": {"email": "undelivered@example.com", "phone": "+4520120001"},
    "cascade": [
        {"channel": "email", "timeout_s": 30.0, "success": "delivered"},
        {"channel": "sms", "timeout_s": 60.0, "success": "delivered"},
    ],
    "delivered_by": 1,
    "cost": 0.04,
    "created_at": "2025-01-31T10:00:00.000000Z",
    "updated_at": "2025-01-31T10:00:00.650000Z",
    "expires_at": "2025-02-03T10:00:00.000000Z",
    "final_at": "2025-01-31T10:00:00.650000Z",
    "attempts": [
        {"step": 0, "attempt": 1, "channel": "email", "carrier": "mock-email", "status": "undelivered"},
        {"step": 1, "attempt": 1, "channel": "sms", "carrier": "mock-sms", "status": "delivered"},
    ],
    "events": [],
}
for _seq, (_ms, _type, _step, _try, _data) in enumerate(
    (
        (3, "accepted", None, None, {"next": {"step": 0, "attempt": 1, "carrier": "mock-email"}}),
        (12, "submitted", 0, 1, {"carrier": "mock-email", "carrier_message_ids": ["m1"]}),
        (214, "undelivered", 0, 1, {"status": "undelivered", "carrier": "mock-email", "error": BOUNCE}),
        (214, "fallback", 1, 1, {"from_step": 0, "reason": "undelivered", "next": {"carrier": "mock-sms"}}),
        (220, "submitted", 1, 1, {"carrier": "mock-sms", "carrier_message_ids": ["m2"], "segments": 1}),
        (650, "delivered", 1, 1, {"receipt": RECEIPT}),
    ),
    1,
):
    MESSAGE["events"].append(
        {
            "seq": _seq,
            "at": f"2025-01-31T10:00:00.{_ms:03d}000Z",
            "type": _type,
            "step": _step,
            "attempt": _try,
            "data": _data,
        }
    )


def actor(name: str, children: list[Any] | None = None, total: int | None = None, **facts: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "Actor",
        "state": "sleep",
        "since": "2025-01-31T10:00:00.000000Z",
        "restarts": 0,
        "mailbox": 0,
        "uptime_s": 61.0,
        "messages_in": 1234,
        "last_error": None,
        "detail": {},
        "children": children or [],
        "children_total": len(children or []) if total is None else total,
        **facts,
    }


OVERVIEW: dict[str, Any] = {
    "at": "2025-01-31T10:00:00.000000Z",
    "version": "1.2.3",
    "ready": False,
    "uptime_s": 10.0,
    "messages": {"active": 7, "parked": 100_000},
    "accepted": 5000,
    "accepted_per_s": 50.0,
    "final": {"delivered": 100, "failed": 20},
    "webhooks_pending": 3,
    "journal": {"up": False, "queue": 12},
    "actors_total": 2000,
    "actors": [
        {"name": "tenant/ten_1", "kind": "T", "state": "sleep", "mailbox": 0, "restarts": 0, "time_spent_s": 5.0,
         "messages_in": 9, "last_error": None},
        {"name": "provider/a", "kind": "P", "state": "suspended", "mailbox": 40, "restarts": 1, "time_spent_s": 1.0,
         "messages_in": 8, "last_error": "boom"},
        {"name": "router", "kind": "R", "state": "sleep", "mailbox": 0, "restarts": 9, "time_spent_s": 0.0,
         "messages_in": 7, "last_error": None},
    ],
    "carriers_total": 1000,
    "carriers_by_state": {"down": 1, "up": 999},
    "carriers": [
        {"name": "bulk", "state": "down", "rate_per_s": 1.5, "queue": 4, "queue_age_s": 61.0, "in_flight": 2,
         "sent": 6, "failed": 5, "reason": "5 failures in a row"}
    ],
    "tenants_total": 300,
    "tenants": [{"id": "ten_1", "name": "Ada", "rate_per_s": 50.0, "accepted": 5000}],
    "decisions": [
        {"at": "2025-01-31T10:00:00.000000Z", "supervisor": "root", "child": "router", "decision": "restart",
         "reason": "ValueError: bug", "delay_s": 0.0}
    ],
    "log_levels": {},
}  # fmt: skip
LOG: list[dict[str, Any]] = [
    {"seq": n, "at": "2025-01-31T10:00:00.123000Z", "level": "debug", "logger": "x", "event": event, "facts": facts}
    for n, (event, facts) in enumerate(
        (
            (
                "pdu",
                {"carrier": "tele", "bind": 2, "direction": "out", "pdu": "submit_sm(seq=7)", "actor": "smpp/tele"},
            ),
            ("pdu", {"carrier": "tele", "bind": 2, "direction": "in", "pdu": "submit_sm_resp(seq=7 \x1b[31m)"}),
            ("answer", {"carrier": "tele", "message_id": ID, "status": "rejected", "code": None}),
            ("pdu", {"carrier": "other", "bind": 1, "direction": "in", "pdu": "enquire_link(seq=1)"}),
        ),
        12,
    )
]
CASCADES = [actor(f"cascade/{n}", state="wait") for n in range(3)]
TREE = actor(
    "root",
    [
        actor("journal", state="running", mailbox=5),
        actor("carriers", [actor("provider/a", restarts=2, last_error="boom [red]x", state="suspended")]),
        actor("tenant/ten_1", CASCADES, 100_000),
    ],
)


def problem(status: int, code: str, detail: str, **more: Any) -> web.Response:
    body = {"type": f"/docs#{code}", "title": "No", "status": status, "detail": detail, "code": code, **more}
    return web.json_response(body, status=status, content_type="application/problem+json")


CARRIER: dict[str, Any] = {
    "name": "bulk", "kind": "mock", "channel": "sms", "tenant": None, "state": "down",
    "since": "2025-01-31T10:00:00.000000Z", "reason": "5 failures in a row", "breaker": "open", "queue": 7,
    "queue_age_s": 2.5, "in_flight": 0, "sent": 10, "failed": 5, "rate_per_s": 0.0, "binds": [],
}  # fmt: skip


@dataclass
class FakeNode:
    """A node that answers as API.md says, and remembers what it was asked."""

    url: str = ""
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    ready: bool = True
    note: str = ""  # beside "ok", in /readyz
    letters: list[str] = field(default_factory=lambda: [f"{ID}.{n}.callback" for n in range(3)])
    stuck: str = ""  # a dead letter that cannot be replayed

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, str(request.rel_url), body))
        self.headers = dict(request.headers)
        path = request.path
        if path == "/livez":
            return web.Response()
        if path == "/readyz":
            text = json.dumps({"status": "ok", **({"note": self.note} if self.note else {})})
            return web.Response(status=200 if self.ready else 503, text=text if self.ready else "the database is away")
        if path == "/openapi.json":
            return web.json_response({"openapi": "3.1.0"})
        if path == "/broken":
            return web.Response(status=502, text="<html>Bad Gateway</html>")
        if path == "/v1/messages":
            if request.headers.get("Authorization") != "Bearer hk_live_1":
                return problem(401, "unauthenticated", "no valid key")
            if body is None or body["content"] == {}:
                errors = [
                    {"field": "content", "why": "is empty"},
                    {"field": "to.phone", "why": "\x1b[31mred"},
                ]
                return problem(422, "schema_invalid", "wrong form", errors=errors)
            return web.json_response({"id": ID, "status": "accepted", "reference": None}, status=202)
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return problem(401, "unauthenticated", "no valid key")
        return self.operate(request.method, path, request, body)

    def operate(self, method: str, path: str, request: web.Request, body: Any) -> web.Response:
        tenant = {"id": "ten_1", "name": "Ada", "status": "active"}
        match method, path.removeprefix("/v1/").split("/"):
            case "GET", ["messages", message_id]:
                return web.json_response(MESSAGE) if message_id == ID else problem(404, "not_found", "no message")
            case "GET", ["actors"]:
                return web.json_response(TREE)
            case "GET", ["actors", "tenant", "ten_1"]:
                detail = {"open": 3, "limits": {"rate_per_s": 5}, "names": ["a", "b"]}
                return web.json_response(actor("tenant/ten_1", CASCADES, 100_000, detail=detail))
            case "GET", ["carriers", "tele" as name] | ["carriers", "bulk" as name]:
                return web.json_response({**CARRIER, "name": name, "kind": "smpp" if name == "tele" else "mock"})
            case "POST", ["actors", "smpp" | "provider", "tele" | "bulk", "log-level"]:
                return web.json_response({"levels": {}})
            case "GET", ["log"]:
                after = int(request.query.get("after", 10))
                return web.json_response(
                    {
                        "data": LOG if after == 10 and "after" in request.query else [],
                        "last": 15 if "after" in request.query else 10,
                    }
                )
            case "POST", ["actors", "provider", "a", "log-level"]:
                return web.json_response({"levels": {"provider/a": body["level"]} if body["level"] else {}})
            case "POST", ["actors", "provider", "a", order]:
                state = {"suspend": "suspended", "resume": "sleep", "restart": "back_off", "stop": "disabled"}[order]
                return web.json_response(actor("provider/a", state=state, restarts=3, last_error="OSError: no route"))
            case "GET", ["overview"]:
                return web.json_response(OVERVIEW)
            case "GET", ["carriers"]:
                return web.json_response({"data": [CARRIER], "next_cursor": None})
            case "POST", ["carriers", "bulk", order]:
                state = {"pause": "paused", "resume": "up", "drain": "draining"}[order]
                return web.json_response({**CARRIER, "state": state, "reason": None})
            case "POST", ["routes", "explain"]:
                out = {"carrier": "bulk", "channel": "sms", "eligible": False, "reason": "paused", "price": 0.04}
                return web.json_response({"candidates": [out]})
            case "POST", ["tenants"]:
                return web.json_response({**tenant, "name": body["name"]}, status=201)
            case "GET", ["tenants"]:
                return web.json_response({"data": [tenant], "next_cursor": None})
            case "GET", ["tenants", "ten_1", "quotas"]:
                ends = "2026-03-16T00:00:00Z"
                lines = [("messages_per_day", 1000, 17), ("spend_per_month", 0, 0.5)]
                data = [{"quota": q, "limit": limit, "used": used, "resets_at": ends} for q, limit, used in lines]
                return web.json_response({"data": data})
            case "GET", ["tenants", "ten_1"]:
                return web.json_response(tenant)
            case "PUT", ["tenants", "ten_1"]:
                return web.json_response({**tenant, **body})
            case "DELETE", ["tenants", "ten_1"] | ["tenants", "ten_1", "keys", _]:
                return web.Response(status=204)
            case "POST", ["tenants", "ten_1", "promote"]:
                return web.json_response({"id": "ten_1", "stage": "promoted", "key": None})
            case "GET", ["tenants", "ten_1", "audit"] | ["audit"]:
                change = {"at": "2025-01-31T10:00:00.000000Z", "actor": "operator", "after": {"name": "Ada"}}
                return web.json_response({"data": [change], "next_cursor": None})
            case "POST", ["tenants", "ten_1", "webhooks"]:
                return web.json_response({"id": "whk_1", "secret": "whsec_made"}, status=201)
            case "POST", ["tenants", "ten_1", "keys"]:
                made = {
                    "id": "key_1",
                    "key": "hk_live_made",
                    "mode": body["mode"],
                    "scopes": body.get("scopes", []),
                }
                return web.json_response(made, status=201)
            case "GET", ["tenants", "ten_1", "keys"]:
                key = {"id": "key_1", "prefix": "hk_live_abcd", "mode": "live", "scopes": ["messages:read"]}
                return web.json_response({"data": [key], "next_cursor": None})
            case "POST", ["tenants", "ten_1", "keys", "key_1", "rotate"]:
                return web.json_response({"id": "key_2", "key": "hk_live_next"}, status=201)
            case "GET", ["tenants", "ten_1", "dead-letters"]:
                first = int(request.query.get("cursor", "0"))
                page = self.letters[first : first + min(int(request.query["limit"]), 2)]
                end = first + len(page)
                data = [{"id": name, "type": "message.failed", "target": "callback", "attempts": 9} for name in page]
                cursor = str(end) if end < len(self.letters) else None
                return web.json_response({"data": data, "next_cursor": cursor})
            case "POST", ["tenants", "ten_1", "dead-letters", letter, "replay"]:
                if letter == self.stuck:
                    return problem(404, "not_found", "no such dead letter")
                return web.json_response({"id": letter}, status=202)
        return problem(404, "not_found", "there is no such thing")


def in_thread(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Iterator[str]:
    """Serve HTTP from a thread: the command line waits for its answers in the test's own."""
    loop = asyncio.new_event_loop()

    async def start() -> tuple[web.ServerRunner, str]:
        runner = web.ServerRunner(web.Server(answer))  # type: ignore[arg-type]
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = cast(tuple[str, int], runner.addresses[0])
        return runner, f"http://{host}:{port}"

    runner, url = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield url
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[list[FakeNode], str]]:
    current: list[FakeNode] = []
    for url in in_thread(lambda request: current[0].answer(request)):
        yield current, url


@pytest.fixture
def fake(running: tuple[list[FakeNode], str]) -> FakeNode:
    current, url = running
    current[:] = [FakeNode(url)]
    return current[0]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No variable of whoever runs the tests, a data folder of our own, and logging as it was."""
    for name in [*(n for n in os.environ if n.startswith("HERMES_")), "FORCE_COLOR", "COLUMNS"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    logging.captureWarnings(False)
    structlog.reset_defaults()


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def call(*argv: str) -> Result:
        code = main(argv)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def told(fake: FakeNode, monkeypatch: pytest.MonkeyPatch) -> FakeNode:
    """The fake node, with the variables that lead to it."""
    monkeypatch.setenv("HERMES_URL", fake.url)
    monkeypatch.setenv("HERMES_OPERATOR_KEY", KEY)
    monkeypatch.setenv("HERMES_API_KEY", "hk_live_1")
    return fake


Run = Callable[..., Result]


# --- usage


@pytest.mark.parametrize("command", ["nope"])
def test_command_that_is_not_there_is_a_usage_error(run: Run, command: str) -> None:
    result = run(command)
    assert (result.code, result.out) == (2, "")
    assert f"No such command '{command}'" in result.err


@pytest.mark.parametrize(
    "argv",
    [
        ["serve", "--nope"],
        ["serve", "--port", "x"],
        ["serve", "--port", "65536"],
        ["serve", "--workers", "0"],
        ["message"],
        ["tenant", "show"],
        ["key", "rotate", "ten_1"],
        ["tree", "--interval-s", "0"],
        ["dead-letters", "replay", "ten_1"],
        ["dead-letters", "replay", "ten_1", "x", "--all"],
        ["send", "--text", "x"],
        ["send", "--to", "nobody", "--text", "x"],
        ["send", "--to", "fax=1", "--text", "x"],
        ["send", "--to", "sms=+4520120001", "--to", "sms=+4520120002", "--text", "x"],
        ["send", "--body", "no-such-file"],
        ["send", "--body", "x", "--text", "y"],
        ["smsc", "--control-port", "70000"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2_and_says_why_on_standard_error(run: Run, argv: list[str]) -> None:
    result = run(*argv)
    assert (result.code, result.out) == (2, "")
    assert "Error" in result.err and "Traceback" not in result.err


def test_help_and_version_exit_0(run: Run) -> None:
    commands = (
        "serve", "demo", "send", "message", "tree", "inspect", "tenant", "key", "dead-letters", "migrate",
        "doctor", "openapi", "smsc", "suppression", "consent", "erase", "usage",
    )  # fmt: skip
    result = run("--help")
    assert result.code == 0
    assert all(f" {command} " in result.out for command in commands)
    for command in commands:
        assert run(command, "-h").code == 0
    assert run("--version").out == f"hermes {hermes.__version__}\n"


def test_help_imports_nothing_slow() -> None:
    code = (
        "import sys; from hermes.cli import main; main(['--help']); "
        "slow = {'aiohttp', 'asyncpg', 'structlog', 'msgspec', 'prometheus_client', 'hermes.boot'}; "
        "sys.exit(', '.join(slow & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("library", ["redis", "nats"])
def test_a_library_is_imported_only_where_its_server_is_set(library: str) -> None:
    code = f"import sys, hermes.boot; sys.exit({library!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- asking a node


def test_no_node_is_a_failure_that_names_the_address(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("HERMES_URL", url)
        for argv in (["tree"], ["message", ID], ["tenant", "list"], ["openapi"], ["doctor"]):
            result = run(*argv)
            assert result.code == 1
            assert f"no node answers at {url}: Connection refused" in result.err + result.out
            assert "Traceback" not in result.err


@pytest.mark.parametrize("url", ["nonsense", "ftp://h", "http://"])
def test_url_that_is_none_is_wrong_settings(run: Run, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("HERMES_URL", url)
    assert run("tree") == Result(2, "", "hermes: HERMES_URL: expected an http or https URL\n")


def test_refusal_is_told_with_its_fields_and_exits_1(told: FakeNode, run: Run) -> None:
    result = run("send", "--to", "+4520120001")
    assert result.code == 1
    assert result.err == (
        "hermes: refused: 422 schema_invalid: wrong form\n"
        "hermes:   content: is empty\n"
        "hermes:   to.phone: \N{REPLACEMENT CHARACTER}[31mred\n"
    )
    assert run("send", "--to", "+4520120001", "--json").document["code"] == "schema_invalid"


def test_unknown_id_exits_1(told: FakeNode, run: Run) -> None:
    assert run("message", "msg_nope") == Result(1, "", "hermes: refused: 404 not_found: no message\n")


def test_missing_key_is_explained(fake: FakeNode, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_URL", fake.url)
    result = run("tree")
    assert result.code == 1
    assert "set HERMES_OPERATOR_KEY, or name the node's data folder with --data-dir" in result.err


def test_answer_that_is_no_json_is_a_refusal_too(told: FakeNode) -> None:
    with pytest.raises(client.Refused, match="refused: 502: Bad Gateway"):
        client.Client(told.url, KEY).get("/broken")


def test_node_and_key_are_found_in_the_data_folder(fake: FakeNode, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    write_node_file(folder, fake.url)
    (folder / "operator.key").write_text(KEY + "\n")
    assert run("tree", "--json", "--data-dir", str(folder)).document == TREE
    assert fake.headers["User-Agent"] == f"hermes/{hermes.__version__}"


def test_demo_is_found_when_no_other_node_runs(fake: FakeNode, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "hermes/demo"
    folder.mkdir(parents=True)
    write_node_file(folder, fake.url)
    (folder / "operator.key").write_text(KEY)
    (folder / "demo.json").write_text('{"api_key": "hk_live_1"}')
    write_node_file(folder.parent, "http://127.0.0.1:1", pid=2**22 + 1)  # a node that was killed
    assert run("tree", "--json").code == 0
    assert run("send", "--to", "+4520120001", "--text", "x", "--json").document["id"] == ID


def test_key_of_a_file_does_not_leave_this_machine_unasked(tmp_path: Path) -> None:
    folder = tmp_path / "hermes"
    folder.mkdir()
    (folder / "operator.key").write_text(KEY)
    environ = {"XDG_DATA_HOME": str(tmp_path), "HERMES_URL": "https://hermes.example.com"}
    assert client.find(environ, None).key == ""
    assert client.find(environ, folder).key == KEY
    assert client.find(environ | {"HERMES_DATA_DIR": str(folder)}, None).key == KEY
    for url in ("http://127.0.0.1:1", "http://localhost", "http://[::1]:1"):
        assert client.find(environ | {"HERMES_URL": url}, None).key == KEY


# --- messages


@pytest.mark.parametrize(
    ("argv", "request_body"),
    [
        (
            ["--to", "+4520120001", "--text", "Hi"],
            {"to": {"phone": "+4520120001"}, "cascade": [{"channel": "sms"}], "content": {"text": "Hi"}},
        ),
        (
            [
                *("--to", "email=a@example.com", "--to", "sms=+4520120001", "--to", "push=tok=1"),
                *("--text", "Hi", "--subject", "S", "--from", "sms=Hermes", "--timeout-s", "5"),
                *("--category", "otp", "--expires-in-s", "60", "--reference", "r"),
                *("--callback-url", "https://h/x", "--html", "<p>", "--title", "T"),
            ],
            {
                "to": {"email": "a@example.com", "phone": "+4520120001", "push": "tok=1"},
                "cascade": [{"channel": channel, "timeout_s": 5.0} for channel in ("email", "sms", "push")],
                "content": {"text": "Hi", "subject": "S", "html": "<p>", "title": "T"},
                "from": {"sms": "Hermes"},
                "category": "otp",
                "expires_in_s": 60.0,
                "reference": "r",
                "callback_url": "https://h/x",
            },
        ),
    ],
    ids=["short", "everything"],
)
def test_send_asks_as_its_options_say(told: FakeNode, run: Run, argv: list[str], request_body: dict[str, Any]) -> None:
    result = run("send", *argv)
    assert result.code == 0
    assert result.out == f"{ID} accepted\nhermes message {ID}\n"
    assert told.asked == [("POST", "/v1/messages", request_body)]


def test_send_takes_a_whole_request_from_a_file(told: FakeNode, run: Run, tmp_path: Path) -> None:
    body = {"channel": "sms", "to": "+4520120001", "content": {"text": "Hi"}}
    (tmp_path / "message.json").write_text(json.dumps(body))
    result = run("send", "--body", str(tmp_path / "message.json"), "--idempotency-key", "k", "--json")
    assert result.document["id"] == ID
    assert told.asked[0][2] == body
    assert told.headers["Idempotency-Key"] == "k"


def test_send_needs_a_tenant_key(fake: FakeNode, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_URL", fake.url)
    monkeypatch.setenv("HERMES_OPERATOR_KEY", KEY)
    result = run("send", "--to", "+4520120001", "--text", "x")
    assert (result.code, fake.asked) == (2, [])
    assert "set HERMES_API_KEY or use --key" in result.err
    assert run("send", "--to", "+4520120001", "--text", "x", "--key", "hk_live_1").code == 0


def test_message_as_json_is_the_get(told: FakeNode, run: Run) -> None:
    assert run("message", ID, "--json").document == MESSAGE


def test_message_is_drawn_as_a_timeline(told: FakeNode, run: Run) -> None:
    lines = [" ".join(line.split()) for line in run("message", ID).out.splitlines()]
    assert lines[0] == f"{ID} ✓ delivered by step 1, sms, 650 ms after it was accepted"
    assert "reference order-17" in lines
    assert "to email undelivered@example.com, phone +4520120001" in lines
    assert "cascade email 30 s → sms 1 m" in lines
    assert lines[-6:] == [
        "3 ms ● accepted",
        "12 ms → submitted 0 email 1 mock-email id m1",
        "214 ms ✗ undelivered 0 email 1 mock-email unreachable_handset 5.2.2: mailbox full",
        "214 ms ↳ fallback 1 sms 1 mock-sms undelivered",
        "220 ms → submitted 1 sms 1 mock-sms id m2",
        "650 ms ✓ delivered 1 sms 1 mock-sms receipt delivered",
    ]


@pytest.mark.parametrize(
    ("type", "data", "said"),
    [
        ("rejected", {"error": {"class": "throttled", "code": None, "detail": ""},
                      "next": {"not_before": "2025-01-31T10:00:01.500000Z"}},
         "throttled, next try after 1.5 s"),
        ("submitted", {"carrier_message_ids": ["a", "b", "c"], "segments": 3}, "id a and 2 more, 3 segments"),
        ("timed_out", {"timeout_s": 30.0}, "no receipt within 30.0 s"),
        ("superseded", {"reason": "step_timed_out"}, "step timed out"),
        ("receipt", {"status": "read"}, "read"),
        ("ambiguous", {"error": {"class": "unknown"}, "policy": "never"}, "unknown, policy never"),
        ("scheduled", {"send_at": "2025-01-31T12:00:00.000000Z"}, "for 2025-01-31 12:00:00.000 UTC"),
        ("corrected", {"from": "failed", "receipt": {"status": "read"}}, "was failed, receipt read"),
        ("failed", {"error": {"class": "provider_config", "code": "no_route", "detail": "no carrier"}},
         "provider_config no_route: no carrier"),
        ("something new", {"x": 1}, ""),
    ],
)  # fmt: skip
def test_event_is_told_in_words(type: str, data: dict[str, Any], said: str) -> None:
    event = {"seq": 1, "at": MESSAGE["created_at"], "type": type, "step": 0, "attempt": 1, "data": data}
    lines = drawn(show.timeline(MESSAGE | {"events": [event]})).splitlines()
    assert lines[-1].endswith(said)
    assert type in lines[-1] and "mock-email" in lines[-1]


def drawn(what: Any) -> str:
    out = StringIO()
    Console(file=out, width=200, highlight=False, markup=False).print(what)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


@given(st.recursive(st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
def test_event_of_any_data_can_be_drawn(data: Any) -> None:
    event = {"seq": 1, "at": "x", "type": "receipt", "step": 9, "attempt": None, "data": data}
    drawn(show.timeline(MESSAGE | {"events": [event], "attempts": []}))


def test_nothing_of_a_message_steers_the_terminal() -> None:
    evil = "\x1b[2J\x07[bold]\u202e"
    document = json.loads(json.dumps(MESSAGE).replace("order-17", json.dumps(evil)[1:-1]))
    document["events"][2]["data"]["error"] = {"class": evil, "code": evil, "detail": evil}
    shown = drawn(show.timeline(document))
    assert not set("\x1b\x07\u202e") & set(shown)
    assert "[bold]" in shown


def test_plain_marks_are_all_ascii() -> None:
    drawn(show.timeline(MESSAGE, ascii_only=True)).encode("ascii")
    drawn(show.actor_table(TREE, ascii_only=True)).encode("ascii")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 ms"), (0.0124, "12 ms"), (0.9994, "999 ms"), (0.9996, "1.0 s"), (3.24, "3.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 m 00 s"), (65, "1 m 05 s"), (3599.4, "59 m 59 s"), (3600, "1 h 00 m"), (7380, "2 h 03 m"),
        (90000, "1 d 01 h"), (-0.2, "-200 ms"),
    ],
)  # fmt: skip
def test_duration_has_two_units_at_most(seconds: float, words: str) -> None:
    assert show.duration(seconds) == words


# --- actors


def test_tree_shows_families_and_counts_what_it_leaves_out(told: FakeNode, run: Run) -> None:
    lines = [line.rstrip() for line in run("tree").out.splitlines()]
    assert lines[0].split() == [
        "actor",
        "state",
        "since",
        "restarts",
        "mailbox",
        "messages",
        "in",
        "how",
        "it",
        "is",
    ]
    assert [line.split("  ")[0] for line in lines[1:]] == [
        "root",
        "├─ journal",
        "├─ carriers",
        "│",
        "└─ tenant/ten_1 (100,000)",
        "",
        "",
        "",
        "",
    ]
    assert "│  └─ provider/a" in lines[4]
    assert lines[4].split()[3] == "suspended" and lines[4].endswith("boom [red]x")
    assert lines[-1] == "   └─ ... and 99,997 more"


def test_tree_says_which_bind_is_down_since_when_and_why() -> None:
    since = (datetime.now(UTC) - timedelta(seconds=90)).isoformat()
    bind = {"state": "refused", "since": since, "last_error": "ESME_RINVPASWD", "reason": "bind refused"}
    carrier = {"state": "down", "since": since, "reason": "ESME_RINVPASWD", "queue": 1_200}
    well = {"state": "up", "since": since, "reason": None, "queue": 0}
    elsewhere = {**well, "held_by": "01W2", "moved": "given to worker 01W2 at noon: it held 2 fewer"}
    children: list[dict[str, Any]] = [
        {"name": name, "state": "sleep", "detail": detail, "children": [], "children_total": 0}
        for name, detail in (("bind", bind), ("dispatcher", carrier), ("other", well), ("courier", elsewhere))
    ]
    root = {"name": "root", "state": "sleep", "detail": {}, "children": children, "children_total": 4}
    console = Console(width=160, file=StringIO())
    console.print(show.actor_table(root))
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
    assert lines[2].endswith("refused for 1 m 30 s: ESME_RINVPASWD")
    assert lines[3].endswith("down for 1 m 30 s: ESME_RINVPASWD, 1,200 wait")
    assert lines[4].endswith("  up")
    assert lines[5].endswith("  up, held by worker 01W2, given to worker 01W2 at noon: it held 2 fewer")


def test_tree_of_several_workers_has_a_line_for_each_and_says_their_prefix_once() -> None:
    def node(name: str, kind: str, *children: Any, state: str = "sleep", **detail: Any) -> dict[str, Any]:
        shown = {"name": name, "kind": kind, "state": state, "detail": detail}
        return {**shown, "children": list(children), "children_total": len(children)}

    root = node("worker/w1/root", "Root", node("worker/w1/router", "Router"))
    first = node("worker/w1", "Worker", root, pid=7, host="alpha", shards=32, open=1200)
    second = node("worker/w2", "Worker", state="unreachable", pid=8, host="alpha", shards=32, open=None)
    lines = [line.rstrip() for line in drawn(show.actor_table(node("workers", "Workers", first, second))).splitlines()]
    assert [line.split("  ")[0] for line in lines[1:4]] == ["workers", "├─ worker/w1", "│"]
    assert lines[2].endswith("pid 7 on alpha, 32 shards, 1,200 open")
    assert "└─ root" in lines[3] and "└─ router" in lines[4]
    assert "unreachable" in lines[5] and lines[5].endswith("pid 8 on alpha, 32 shards")
    family = node("router", "Router", node("worker/w1/router", "Router"))
    assert "worker/w1/router" in drawn(show.actor_table(family))


def test_tree_as_json_is_what_the_node_says(told: FakeNode, run: Run) -> None:
    assert run("tree", "--json").document == TREE


def test_watching_shows_the_tree_until_it_is_interrupted(told: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            told.asked.clear()
            raise KeyboardInterrupt

    actors.show_tree(os.environ, None, 0.5, as_json=False, sleep=sleep)
    assert looks == [0.5, 0.5]
    assert "provider/a" in capsys.readouterr().out
    looks.clear()
    actors.show_tree(os.environ, None, 0.5, as_json=True, sleep=sleep)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [TREE, TREE]


def test_watching_goes_on_while_the_node_is_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv("HERMES_URL", "http://127.0.0.1:1")
    actors.show_tree(os.environ, None, 1, as_json=False, sleep=sleep)
    assert "no node answers" in capsys.readouterr().out


def test_inspect_shows_one_actor_by_its_name_with_slashes(told: FakeNode, run: Run) -> None:
    result = run("inspect", "tenant/ten_1")
    assert told.asked == [("GET", "/v1/actors/tenant/ten_1", None)]
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert "name tenant/ten_1" in lines and "uptime 1 m 01 s" in lines
    assert "limits rate_per_s 5" in lines and "names a, b" in lines
    assert "... and 99,997 more" in result.out
    assert run("inspect", "tenant/ten_1", "--json").document["name"] == "tenant/ten_1"


@pytest.mark.parametrize(("name", "actor"), [("tele", "smpp/tele"), ("bulk", "provider/bulk")])
def test_tracing_a_carrier_shows_its_lines_and_takes_the_level_back(
    told: FakeNode, capsys: pytest.CaptureFixture[str], name: str, actor: str
) -> None:
    times = iter([0.0, 0.0, 1.0, 61.0])
    carriers.trace(os.environ, None, name, 60.0, as_json=False, sleep=lambda s: None, now=lambda: next(times))
    level = f"/v1/actors/{actor}/log-level"
    assert [ask for ask in told.asked if ask[0] == "POST"] == [
        ("POST", level, {"level": "debug"}),
        ("POST", level, {"level": None}),
    ]
    out, err = capsys.readouterr()
    if name == "tele":
        assert out.splitlines() == [
            "10:00:00.123 > bind 2 submit_sm(seq=7)",
            "10:00:00.123 < bind 2 submit_sm_resp(seq=7 \N{REPLACEMENT CHARACTER}[31m)",
            f"10:00:00.123 answer  message_id={ID}  status=rejected",
        ]
    else:
        assert out == ""
    assert err == ""


def test_trace_says_when_lines_came_faster_than_it_looked(
    told: FakeNode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carriers, "LINES", len(LOG))
    times = iter([0.0, 0.0, 1.0, 61.0])
    carriers.trace(os.environ, None, "tele", 60.0, as_json=False, sleep=lambda s: None, now=lambda: next(times))
    assert capsys.readouterr().err == f"hermes: {len(LOG)} lines or more came at once; only the last are here\n"


def test_interrupted_trace_takes_the_level_back(told: FakeNode, capsys: pytest.CaptureFixture[str]) -> None:
    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    carriers.trace(os.environ, None, "tele", 60.0, as_json=True, sleep=sleep)
    assert told.asked[-1] == ("POST", "/v1/actors/smpp/tele/log-level", {"level": None})


def test_every_command_that_asks_a_node_speaks_json() -> None:
    import typer

    from hermes.cli import app

    def leaves(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        for name, child in getattr(command, "commands", {}).items():
            yield from leaves(child, f"{path} {name}")
        if not hasattr(command, "commands"):
            yield path, command

    silent = {
        path
        for path, command in leaves(typer.main.get_command(app), "hermes")
        if not any("--json" in parameter.opts for parameter in command.params)
    }
    assert silent == {"hermes serve"}


@pytest.mark.parametrize(
    ("sort", "first"), [("mailbox", "provider/a"), ("time", "tenant/ten_1"), ("restarts", "router")]
)
def test_top_shows_what_stands_out_in_the_order_asked_for(told: FakeNode, run: Run, sort: str, first: str) -> None:
    result = run("top", "--once", "--limit", "5", "--sort", sort)
    assert told.asked == [("GET", "/v1/overview?limit=5", None)]
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert "NOT READY" in lines[0] and "2,000 actors" in lines[0]
    assert "accepted 5,000 (50.0/s) ended 120 open 7 + 100,000 parked" in lines[1] and "AWAY, 12 queued" in lines[1]
    assert next(line for line in lines if line.startswith(("tenant/", "provider/", "router"))).startswith(first)
    assert "bulk down 1.5 4 (1 m 01 s) 2 6 5 5 failures in a row" in lines
    assert "ten_1 Ada 50.0 5,000" in lines
    assert any("root router restart ValueError: bug" in line for line in lines)


def test_top_says_how_many_workers_there_are_and_that_one_does_not_answer() -> None:
    several = {**OVERVIEW, "workers": 3, "workers_unreachable": 1}
    assert "2,000 actors on 3 workers, 1 UNREACHABLE" in drawn(overview.page(several, None, "mailbox", 5))
    assert "workers" not in drawn(overview.page(OVERVIEW, None, "mailbox", 5)).splitlines()[0]


def test_top_as_json_is_what_the_node_says(told: FakeNode, run: Run) -> None:
    assert run("top", "--json").document == OVERVIEW
    assert run("top", "--sort", "name").code == 2


def test_top_goes_on_while_the_node_is_away_until_it_is_interrupted(
    told: FakeNode, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 1:
            monkeypatch.setattr(client.Client, "get", away)
        elif len(looks) == 2:
            raise KeyboardInterrupt

    def away(*args: Any, **query: Any) -> Any:
        raise client.NoAnswer("no node answers at all")

    overview.run(os.environ, None, 2.0, 10, "mailbox", as_json=False, sleep=sleep)
    out = capsys.readouterr().out
    assert looks == [2.0, 2.0] and "no node answers" in out and "provider/a" in out


def test_share_of_a_core_is_of_the_time_since_the_last_look() -> None:
    later = json.loads(json.dumps(OVERVIEW))
    later["uptime_s"] = 12.0
    later["actors"][0]["time_spent_s"] = 6.0
    assert overview.time_shares(later, OVERVIEW)["tenant/ten_1"] == 0.5
    assert overview.time_shares(OVERVIEW, None)["tenant/ten_1"] == 0.5
    restarted = {**OVERVIEW, "uptime_s": 2.0}
    assert overview.time_shares(restarted, OVERVIEW)["provider/a"] == 0.5


@pytest.mark.parametrize(
    ("path", "beginning", "names"), [("/v1/actors", "j", ["journal"]), ("/v1/carriers", "b", ["bulk"])]
)
def test_a_shell_is_offered_the_names_there_are(told: FakeNode, path: str, beginning: str, names: list[str]) -> None:
    assert client.names(os.environ, path, beginning) == names
    assert client.names({}, path, beginning) == []


@pytest.mark.parametrize("argv", ["--rate 0", "--seconds 0", "--rate 1000000 --seconds 1000"])
def test_bench_is_bounded(told: FakeNode, run: Run, argv: str) -> None:
    assert run("bench", *argv.split()).code in (1, 2)
    assert told.asked == []


def test_openapi_prints_the_nodes_document(told: FakeNode, run: Run) -> None:
    assert run("openapi").document == run("openapi", "--json").document == {"openapi": "3.1.0"}


# --- tenants, keys, dead letters


@pytest.mark.parametrize(
    ("argv", "asked", "said"),
    [
        ("tenant create Ada", ("POST", "/v1/tenants", {"name": "Ada"}), "ten_1"),
        ("tenant list", ("GET", "/v1/tenants", None), "Ada"),
        ("tenant suspend ten_1", ("PUT", "/v1/tenants/ten_1", {"status": "suspended"}), "suspended"),
        ("tenant resume ten_1", ("PUT", "/v1/tenants/ten_1", {"status": "active"}), "active"),
        ("tenant approve ten_1", ("PUT", "/v1/tenants/ten_1", {"stage": "sandbox", "status": "active"}), "sandbox"),
        ("tenant promote ten_1", ("POST", "/v1/tenants/ten_1/promote", None), "promoted"),
        ("tenant audit ten_1", ("GET", "/v1/tenants/ten_1/audit?limit=50", None), "operator"),
        ("tenant audit", ("GET", "/v1/audit?limit=50", None), "operator"),
        ("tenant delete ten_1 --yes", ("DELETE", "/v1/tenants/ten_1", None), "tenant ten_1 is deleted"),
        ("key create ten_1", ("POST", "/v1/tenants/ten_1/keys", {"mode": "live"}), "hk_live_made"),
        ("key create ten_1 --mode test --scope messages:read",
         ("POST", "/v1/tenants/ten_1/keys", {"mode": "test", "scopes": ["messages:read"]}), "hk_live_made"),
        ("key list ten_1", ("GET", "/v1/tenants/ten_1/keys", None), "hk_live_abcd"),
        ("key rotate ten_1 key_1 --overlap-s 5",
         ("POST", "/v1/tenants/ten_1/keys/key_1/rotate", {"overlap_s": 5.0}), "hk_live_next"),
        ("key revoke ten_1 key_1", ("DELETE", "/v1/tenants/ten_1/keys/key_1", None), "key key_1 is revoked"),
        ("actor suspend provider/a", ("POST", "/v1/actors/provider/a/suspend", None), "provider/a is suspended"),
        ("actor resume provider/a", ("POST", "/v1/actors/provider/a/resume", None), "provider/a is sleep"),
        ("actor restart provider/a", ("POST", "/v1/actors/provider/a/restart", None), "last error: OSError: no route"),
        ("actor stop provider/a", ("POST", "/v1/actors/provider/a/stop", None), "provider/a is disabled, 3 restarts"),
        ("actor log-level provider/a debug",
         ("POST", "/v1/actors/provider/a/log-level", {"level": "debug"}), "debug"),
        ("actor log-level provider/a default",
         ("POST", "/v1/actors/provider/a/log-level", {"level": None}), "no actor has"),
        ("carrier list", ("GET", "/v1/carriers", None), "5 failures in a row"),
        ("carrier pause bulk", ("POST", "/v1/carriers/bulk/pause", None), "carrier bulk is paused"),
        ("carrier resume bulk", ("POST", "/v1/carriers/bulk/resume", None), "carrier bulk is up"),
        ("carrier drain bulk", ("POST", "/v1/carriers/bulk/drain", None), "carrier bulk is draining"),
        ("route explain --tenant ten_1 --to +4520123456",
         ("POST", "/v1/routes/explain", {"to": {"phone": "+4520123456"}, "cascade": [{"channel": "sms"}],
                                         "content": {"text": "x"}, "tenant": "ten_1"}), "0.04"),
        ("dead-letters list ten_1 --limit 1",
         ("GET", "/v1/tenants/ten_1/dead-letters?limit=1", None), ".0.callback"),
    ],
)  # fmt: skip
def test_operators_command_asks_and_tells(told: FakeNode, run: Run, argv: str, asked: Any, said: str) -> None:
    result = run(*argv.split())
    assert (result.code, result.err) == (0, "")
    assert told.asked == [asked]
    assert said in result.out
    json.loads(run(*argv.split(), "--json").out)


def test_a_tenant_is_shown_with_what_is_used_of_its_quotas(told: FakeNode, run: Run) -> None:
    result = run("tenant", "show", "ten_1")
    assert told.asked == [("GET", "/v1/tenants/ten_1", None), ("GET", "/v1/tenants/ten_1/quotas", None)]
    assert "active" in result.out and "spend_per_month" not in result.out
    line = next(line for line in result.out.splitlines() if "messages_per_day" in line)
    assert line.split() == ["messages_per_day", "1000", "17", "2026-03-16T00:00:00Z"]
    assert run("tenant", "show", "ten_1", "--json").document["quotas_used"]["messages_per_day"] == 17


def test_onboarding_makes_a_tenant_its_keys_and_its_webhook(told: FakeNode, run: Run) -> None:
    result = run("tenant", "onboard", "Ada", "--email", "a@example.com", "--webhook", "https://x.example/", "--json")
    assert told.asked == [
        ("POST", "/v1/tenants", {"name": "Ada", "stage": "sandbox", "email": "a@example.com"}),
        ("POST", "/v1/tenants/ten_1/keys", {"mode": "test"}),
        ("POST", "/v1/tenants/ten_1/webhooks", {"url": "https://x.example/"}),
    ]
    made = result.document
    assert (made["tenant"], made["test_key"], made["webhook_secret"]) == ("ten_1", "hk_live_made", "whsec_made")
    assert "api_key" not in made
    told.asked.clear()
    assert run("tenant", "onboard", "Ada", "--production", "--json").document["api_key"] == "hk_live_made"
    assert told.asked[-1] == ("POST", "/v1/tenants/ten_1/keys", {"mode": "live"})


def test_name_of_a_tenant_cannot_change_the_path(told: FakeNode, run: Run) -> None:
    assert run("tenant", "show", "../../livez?x=#").code == 1
    assert told.asked == [("GET", "/v1/tenants/..%2F..%2Flivez%3Fx%3D%23", None)]


def test_dead_letters_are_listed_over_pages_up_to_the_limit(told: FakeNode, run: Run) -> None:
    listed = run("dead-letters", "list", "ten_1", "--json").document["data"]
    assert [letter["id"] for letter in listed] == told.letters
    assert len(run("dead-letters", "list", "ten_1", "--limit", "2", "--json").document["data"]) == 2
    told.letters = []
    assert run("dead-letters", "list", "ten_1").out == "no dead letters\n"


def test_replaying_all_dead_letters_tells_which_could_not_be(told: FakeNode, run: Run) -> None:
    assert run("dead-letters", "replay", "ten_1", told.letters[0]).out == "1 dead letter will be sent again\n"
    assert run("dead-letters", "replay", "ten_1", "--all").out == "3 dead letters will be sent again\n"
    told.stuck = told.letters[1]
    result = run("dead-letters", "replay", "ten_1", "--all", "--json")
    assert result.code == 1
    assert result.document["replayed"] == [told.letters[0], told.letters[2]]
    assert f"hermes: {told.stuck}: refused: 404 not_found" in result.err


# --- doctor


def check(result: Result) -> dict[str, bool]:
    return {entry["name"]: entry["ok"] for entry in result.document["checks"]}


def test_doctor_finds_everything_well(told: FakeNode, run: Run, tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "config/hermes.example.toml"
    result = run("doctor", "--config", str(example), "--json")
    assert result.code == 0, result.out
    assert result.document["ok"]
    assert set(check(result)) == {
        "settings",
        "key files",
        "disk space",
        "node answers",
        "node is ready",
        "node's database",
        "carriers",
        "operator key",
        "clock",
    }
    assert run("doctor").code == 0


def test_doctor_says_what_the_node_says_of_its_carriers(told: FakeNode, run: Run) -> None:
    told.note = "no carriers left: \x1b[31mred"
    result = run("doctor", "--json")
    assert result.code == 1
    (said,) = [entry for entry in result.document["checks"] if not entry["ok"]]
    assert said["name"] == "carriers" and said["detail"].startswith("no carriers left") and "\x1b" not in said["detail"]


def test_doctor_finds_each_thing_that_is_wrong(
    told: FakeNode, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.ready = False
    folder = tmp_path / "hermes"
    folder.mkdir()
    (folder / "operator.key").write_text("k")
    (folder / "operator.key").chmod(0o644)
    (tmp_path / "hermes.toml").write_text('[[carrier]]\nname = "a"\nkind = "mock"\nchannel = "sms"\nlatncy_ms = 1\n')
    monkeypatch.setenv("HERMES_OPERATOR_KEY", "wrong")
    monkeypatch.setattr(checks, "FREE_BYTES", 1 << 62)
    monkeypatch.setattr(checks, "CLOCK_OFF_S", -10.0)
    result = run("doctor", "--config", str(tmp_path / "hermes.toml"), "--json")
    assert result.code == 1 and not result.document["ok"]
    assert [name for name, ok in check(result).items() if ok] == ["node answers"]
    assert "latncy_ms" in result.out and "mode 0644" in result.out and "the database is away" in result.out
    told.ready = True
    shown = run("doctor")
    assert "FAILED" in shown.out and "checks failed" in shown.err


@pytest.mark.parametrize("public_url", ["", 'public_url = "https://hermes.example"'])
def test_doctor_wants_a_public_url_for_providers_that_call_back(
    told: FakeNode, run: Run, tmp_path: Path, public_url: str
) -> None:
    file = tmp_path / "hermes.toml"
    twilio = 'kind = "twilio"\nchannel = "sms"\naccount_sid = "AC1"\nauth_token = "canary"\nfrom = "x"\n'
    other = '[[carrier]]\nname = "mock"\nkind = "mock"\nchannel = "sms"\n'
    file.write_text(f'[server]\n{public_url}\n[[carrier]]\nname = "tw"\n{twilio}{other}')
    result = run("doctor", "--config", str(file), "--json")
    assert check(result)["public URL"] is bool(public_url)
    assert "tw" in result.out and "canary" not in result.out


def test_doctor_fails_when_the_database_cannot_be_reached(
    told: FakeNode, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERMES_DATABASE__URL", "postgresql://u:canary@127.0.0.1:1/d")
    result = run("doctor", "--json")
    assert result.code == 1
    assert check(result)["database"] is False
    assert "canary" not in result.out + result.err


# --- serve and demo, with a boot of our own


class FakeBoot(ModuleType):
    """Stands for `hermes.boot`: remembers what it was started with and is ready at once."""

    def __init__(self) -> None:
        super().__init__("hermes.boot")
        self.settings: Settings | None = None
        self.folder: Path | None = None
        self.embedded: EmbeddedPostgres | None = None
        self.error: BaseException | None = None
        self.code = 0
        self.journal = MemoryJournal(SystemClock())

    async def serve(
        self, settings: Settings, folder: Path, *, on_ready: Callable[[Any], Any], embedded: EmbeddedPostgres | None
    ) -> int:
        self.settings, self.folder, self.embedded = settings, folder, embedded
        if self.error is not None:
            raise self.error
        directory = Directory(self.journal, SystemClock(), b"secret")
        await directory.load()
        url = f"http://127.0.0.1:{settings.server.port}"
        told = on_ready(SimpleNamespace(url=url, operator_key=KEY, directory=directory))
        if told is not None:
            await told
        return self.code


@pytest.fixture
def boot(monkeypatch: pytest.MonkeyPatch) -> FakeBoot:
    made = FakeBoot()
    monkeypatch.setitem(sys.modules, "hermes.boot", made)
    monkeypatch.setattr(hermes, "boot", made, raising=False)
    return made


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the data folder's database, which is only played."""
    asked: list[str] = []

    async def start(embedded: EmbeddedPostgres) -> None:
        asked.append("start")

    async def stop(embedded: EmbeddedPostgres) -> None:
        asked.append("stop")

    monkeypatch.setattr(EmbeddedPostgres, "start", start)
    monkeypatch.setattr(EmbeddedPostgres, "stop", stop)
    return asked


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "hermes.toml"
    path.write_text('[server]\nport = 1\n[[carrier]]\nname = "a"\nkind = "mock"\nchannel = "sms"\n')
    return str(path)


def test_serve_starts_a_node_as_settings_and_options_say(boot: FakeBoot, run: Run, config: str, tmp_path: Path) -> None:
    result = run("serve", "--config", config, "--host", "0.0.0.0", "--data-dir", str(tmp_path / "d"), "--workers", "1")
    assert (result.code, result.out) == (0, "")
    assert boot.settings is not None
    assert (boot.settings.server.host, boot.settings.server.port) == ("0.0.0.0", 1)
    assert boot.folder == tmp_path / "d"
    assert stat.S_IMODE(boot.folder.stat().st_mode) == 0o700
    assert "ready" in result.err


def test_serve_returns_the_nodes_exit_code(boot: FakeBoot, run: Run, config: str) -> None:
    boot.code = 1
    assert run("serve", "--config", config).code == 1


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SettingsError("carrier 'a': x: no setting"), 2, "hermes: carrier 'a': x: no setting\n"),
        (HermesError("another node holds the folder"), 1, "hermes: another node holds the folder\n"),
        (
            OSError(errno.EADDRINUSE, "taken"),
            1,
            f"hermes: cannot listen on 127.0.0.1 port 1: {os.strerror(errno.EADDRINUSE)}\n",
        ),
        (
            socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
            1,
            "hermes: cannot listen on 127.0.0.1 port 1: Name or service not known\n",
        ),
    ],
)  # fmt: skip
def test_node_that_cannot_start_says_why(
    boot: FakeBoot, run: Run, config: str, error: Exception, code: int, said: str
) -> None:
    boot.error = error
    assert run("serve", "--config", config) == Result(code, "", said)


def test_bug_is_told_in_one_line_and_its_traceback_is_logged(boot: FakeBoot, run: Run, config: str) -> None:
    boot.error = ZeroDivisionError("no\nway to +4520123456")
    result = run("serve", "--config", config)
    assert result.code == 1
    told = result.err.splitlines()
    assert told[-1].startswith("hermes: this is a bug in Hermes: ZeroDivisionError: no way to ***56 (")
    assert "the node failed" in told[0] and "Traceback" in told[1]


def test_address_error_is_found_where_it_is_wrapped(boot: FakeBoot, run: Run, config: str) -> None:
    boot.error = HermesError("init of gateway failed")
    boot.error.__cause__ = PermissionError(13, "Permission denied")
    result = run("serve", "--config", config)
    assert (result.code, "cannot listen on" in result.err) == (1, True)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "hermes: carrier: no carrier is set"),
        (["--config", "no-such-file.toml"], "hermes: no-such-file.toml: cannot be read: No such file"),
    ],
)
def test_serve_with_wrong_settings_exits_2(boot: FakeBoot, run: Run, argv: list[str], said: str) -> None:
    result = run("serve", *argv)
    assert (result.code, result.out, boot.settings) == (2, "", None)
    assert result.err.startswith(said)


def test_serve_leaves_it_to_the_journal_whether_there_is_a_carrier(
    boot: FakeBoot, database: list[str], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "postgres").mkdir()
    assert run("serve", "--data-dir", str(tmp_path)).code == 0 and boot.settings is not None


def test_database_that_is_there_comes_up_while_hermes_is_imported(
    boot: FakeBoot, database: list[str], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "postgres").mkdir()
    coming_up = threading.Event()

    def import_module(name: str) -> ModuleType:
        assert coming_up.wait(30), "the database was to be started first"
        return boot

    async def start(embedded: EmbeddedPostgres) -> None:
        coming_up.set()

    monkeypatch.setattr(node, "import_module", import_module)
    monkeypatch.setattr(EmbeddedPostgres, "start", start)
    assert run("serve", "--data-dir", str(tmp_path)).code == 0
    assert boot.embedded is not None and boot.embedded.data_dir == tmp_path


def test_database_is_made_only_by_the_node_that_has_checked_its_settings(
    boot: FakeBoot, database: list[str], run: Run, config: str, tmp_path: Path
) -> None:
    assert run("serve", "--config", config, "--data-dir", str(tmp_path)).code == 0
    assert database == [] and boot.embedded is None


def test_node_that_cannot_start_leaves_no_database_running(
    boot: FakeBoot, database: list[str], run: Run, config: str, tmp_path: Path
) -> None:
    (tmp_path / "postgres").mkdir()
    boot.error = SettingsError("carrier 'a': x: no setting")
    assert run("serve", "--config", config, "--data-dir", str(tmp_path)).code == 2
    assert database == ["start", "stop"]


def test_node_whose_database_does_not_come_up_says_why(boot: FakeBoot, run: Run, config: str, tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    result = run("serve", "--config", config, "--data-dir", str(tmp_path))
    assert result.code == 1 and str(tmp_path / "postgres") in result.err
    assert boot.settings is None


def test_serve_tells_every_wrong_setting_on_a_line(boot: FakeBoot, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_SERVER__PROT", "1")
    monkeypatch.setenv("HERMES_SERVER__PORT", "x")
    result = run("serve")
    assert result.code == 2
    assert [line.split(":")[1] for line in result.err.splitlines()] == [
        " HERMES_SERVER__PROT",
        " HERMES_SERVER__PORT",
    ]


def test_demo_as_json_begins_with_one_line_of_what_is_needed(boot: FakeBoot, run: Run, tmp_path: Path) -> None:
    result = run("demo", "--json", "--port", "1")
    made = json.loads(result.out.splitlines()[0])
    assert list(made) == ["url", "operator_key", "tenant", "api_key", "test_key"]
    assert made["url"] == "http://127.0.0.1:1" and made["operator_key"] == KEY
    assert made["api_key"].startswith("hk_live_") and made["test_key"].startswith("hk_test_")
    assert boot.settings is not None
    assert {(c.kind, c.channel) for c in boot.settings.carriers} == {
        ("mock", channel) for channel in ("email", "sms", "push", "whatsapp")
    }
    assert boot.settings.server.allow_private_callbacks
    assert boot.folder == tmp_path / "hermes/demo"
    assert stat.S_IMODE((boot.folder / "demo.json").stat().st_mode) == 0o600


def test_demo_keeps_its_tenant_and_keys_over_restarts(boot: FakeBoot, run: Run, tmp_path: Path) -> None:
    first = run("demo", "--json", "--port", "1").document
    assert run("demo", "--json", "--port", "1").document == first
    (tmp_path / "hermes/demo/demo.json").unlink()
    again = run("demo", "--json", "--port", "1").document
    assert again["tenant"] == first["tenant"] and again["api_key"] != first["api_key"]
    boot.journal = MemoryJournal(SystemClock())  # the database was removed
    assert run("demo", "--json", "--port", "1").document["tenant"] != first["tenant"]


def test_demo_prints_a_line_to_paste_that_no_terminal_breaks(boot: FakeBoot, run: Run) -> None:
    result = run("demo", "--port", "1")
    assert result.code == 0 and "\x1b" not in result.out
    (line,) = [line for line in result.out.splitlines() if line.startswith("curl ")]
    words = shlex.split(line)
    assert "http://127.0.0.1:1/v1/messages" in words
    assert any(word.startswith("Authorization: Bearer hk_live_") for word in words)
    body = json.loads(words[words.index("-d") + 1])
    assert body["cascade"] == ["email", "sms"]
    assert body["to"]["email"].startswith("undelivered@") and body["to"]["phone"].endswith("0001")
    assert "hermes message" in result.out and "hermes tree" in result.out


def test_demo_takes_the_next_free_port_unless_one_is_named(boot: FakeBoot, run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert node.free_port("127.0.0.1", port) > port
        run("demo", "--port", str(port))
        assert boot.settings is not None and boot.settings.server.port == port
    run("demo")
    assert boot.settings.server.port >= 8080


def test_second_demo_has_a_folder_of_its_own_and_says_so(boot: FakeBoot, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "hermes/demo"
    folder.mkdir(parents=True)
    write_node_file(folder, "http://127.0.0.1:1")
    result = run("demo", "--port", "1")
    assert boot.folder == tmp_path / "hermes/demo-2"
    assert f"hermes tree --data-dir {boot.folder}" in result.out
    run("demo", "--port", "1", "--data-dir", str(tmp_path / "own"))
    assert boot.folder == tmp_path / "own"


def test_demo_obeys_variables(boot: FakeBoot, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERMES_SERVER__PORT", "7")
    monkeypatch.setenv("HERMES_SERVER__ALLOW_PRIVATE_CALLBACKS", "false")
    run("demo", "--json")
    assert boot.settings is not None
    assert boot.settings.server.port == 7
    assert not boot.settings.server.allow_private_callbacks


def test_migrate_tells_what_it_applied(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from hermes.journal import postgres

    async def migrate(connect: Any) -> list[str]:
        return ["0001_first.sql"] if connect == "postgresql://h/new" else []

    monkeypatch.setattr(postgres, "migrate", migrate)
    monkeypatch.setenv("HERMES_DATABASE__URL", "postgresql://h/new")
    assert run("migrate").out == "applied 0001_first.sql\n"
    assert run("migrate", "--json").document == {"applied": ["0001_first.sql"]}
    monkeypatch.setenv("HERMES_DATABASE__URL", "postgresql://h/old")
    assert run("migrate").out == "nothing to do\n"


def test_interrupt_while_asking_ends_quietly(told: FakeNode, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(client.Client, "get", interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite run in the background ignores it
    try:
        result = run("tree")
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.code == 130 and "Traceback" not in result.err
