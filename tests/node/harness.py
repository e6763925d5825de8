"""A real node for tests: `hermes serve` in a process of its own, its embedded PostgreSQL, HTTP.

A node keeps its port and its data folder over `kill` and `start`. The first start of a data folder takes
some seconds (initdb), so a session makes one and every node begins with a copy. Processes are ended by pid.
What is waited for is asked for until it is so: a deadline only makes a broken node fail by name.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import psutil  # type: ignore[import-untyped]

from hermes.testing.database import shared_cluster

REPOSITORY = Path(__file__).parents[2]
HERMES = (sys.executable, "-m", "hermes.cli")
POLL_S = 0.02
# The contract's limits, for a machine that has nothing else to do; here they are the most a test will bear.
READY_WITHIN_S = 60.0  # any start on a finished data folder, on a machine at its limits
READY_AGAIN_WITHIN_S = 10.0  # after kill -9 of the node or of its database: what we promise
STOP_WITHIN_S = 12.0  # SIGTERM
# No promise, only a deadline.
FIRST_START_WITHIN_S = 90.0  # initdb on a slow disk
SOON_S = 30.0  # anything that should happen at once, on a machine that does much else

FINAL = frozenset({"delivered", "failed", "expired", "cancelled", "unknown"})


def mock(channel: str, **settings: Any) -> str:
    """The settings of a mock carrier; it is called mock-<channel> and its secret is receipts-<channel>."""
    named = {"name": f"mock-{channel}", "kind": "mock", "channel": channel, "secret": f"receipts-{channel}"}
    return carrier(**(named | settings))


def carrier(**settings: Any) -> str:
    """One `[[carrier]]`, as TOML."""
    lines = (f"{name.rstrip('_')} = {json.dumps(value)}\n" for name, value in settings.items())
    return "[[carrier]]\n" + "".join(lines) + "\n"


MOCKS = "".join(mock(channel) for channel in ("email", "sms", "push", "whatsapp"))


class Answer(NamedTuple):
    """What the node answered; `body` is parsed when it is JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Tenant(NamedTuple):
    """A tenant and its keys."""

    id: str
    key: str
    test_key: str


class NodeFailed(AssertionError):
    """The node ended, or did not get ready; the text ends with what it said."""


class Node:
    """One node, dead or alive.

    Args:
        folder: for everything it writes; exists.
        carriers: TOML, the `[[carrier]]` tables.
        server: TOML, more keys of `[server]`; then other sections.
        data: a finished data folder to begin with a copy of.
    """

    def __init__(self, folder: Path, carriers: str = MOCKS, *, server: str = "", data: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.data_dir = folder / "data"
        self.log_path = folder / "node.log"
        self.config = folder / "hermes.toml"
        self.configure(carriers, server=server)
        if data is not None:
            copy_data(data, self.data_dir)
        self.process: subprocess.Popen[bytes] | None = None
        self._session: aiohttp.ClientSession | None = None

    def configure(self, carriers: str, *, server: str = "") -> None:
        """Write the settings that the next start reads."""
        self.config.write_text(f"[server]\nport = {self.port}\n{server}\n\n{carriers}", encoding="utf-8")

    # --- life

    async def start(self, within_s: float = READY_WITHIN_S) -> float:
        """Start, and wait until /readyz says so; returns the seconds that took.

        Raises:
            NodeFailed: it did not within `within_s`.
        """
        began = time.monotonic()
        self.launch()
        await self.wait_ready(within_s)
        return time.monotonic() - began

    def launch(self) -> None:
        """Start the process and do not wait."""
        assert self.process is None, "it runs already"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*HERMES, "serve", "--config", str(self.config), "--data-dir", str(self.data_dir)],
                cwd=REPOSITORY,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def wait_ready(self, within_s: float = READY_WITHIN_S) -> float:
        """Wait until /readyz says 200; returns the seconds that took."""
        began = time.monotonic()
        while time.monotonic() - began < within_s:
            self.check_alive()
            with suppress(aiohttp.ClientError, OSError, TimeoutError):
                answer = await self.ask("GET", "/readyz", timeout_s=2)
                if answer.status == 200:
                    return time.monotonic() - began
            await asyncio.sleep(POLL_S)
        raise NodeFailed(f"not ready within {within_s:g} s; it said:\n{self.log[-4000:]}")

    def check_alive(self) -> None:
        """Raise NodeFailed when the process has ended."""
        assert self.process is not None, "it was not started"
        code = self.process.poll()
        if code is not None:
            raise NodeFailed(f"the node ended with {code}; it said:\n{self.log[-4000:]}")

    def kill(self) -> None:
        """kill -9, and nothing else: its PostgreSQL is the next start's business."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    async def terminate(self, within_s: float = STOP_WITHIN_S) -> int:
        """SIGTERM; returns the exit code.

        Raises:
            NodeFailed: it did not end within `within_s`.
        """
        process = self.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        try:
            code: int = await until(process.poll, within_s, "the node ends after SIGTERM")
        except AssertionError as exc:
            raise NodeFailed(f"{exc}; it said:\n{self.log[-4000:]}") from None
        self.process = None
        return code

    async def close(self) -> None:
        """End everything that was started, and remove the data folder."""
        if self._session is not None:
            await self._session.close()
        servers = self.postgres()
        self.kill()
        for server in servers:
            with suppress(psutil.NoSuchProcess):
                server.kill()
        await until(lambda: not any(map(is_alive, servers)), SOON_S, "the database's processes end")
        shutil.rmtree(self.data_dir, ignore_errors=True)

    # --- its processes

    @property
    def pid(self) -> int:
        """Process id of the node."""
        assert self.process is not None
        return self.process.pid

    def postmaster(self) -> int | None:
        """Process id of the embedded server; None while there is none alive."""
        try:
            pid = int((self.data_dir / "postgres/postmaster.pid").read_text().splitlines()[0])
            return pid if is_alive(psutil.Process(pid)) else None
        except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
            return None

    def postgres(self) -> list[psutil.Process]:
        """Every process of the embedded server, the postmaster first."""
        pid = self.postmaster()
        if pid is None:
            return []
        try:
            postmaster = psutil.Process(pid)
            return [postmaster, *postmaster.children()]
        except psutil.NoSuchProcess:
            return []

    def rss_mb(self) -> float:
        """Resident memory of the node's process, MiB."""
        return float(psutil.Process(self.pid).memory_info().rss) / 2**20

    @property
    def log(self) -> str:
        """Everything it said so far."""
        with suppress(OSError):
            return self.log_path.read_text(encoding="utf-8", errors="replace")
        return ""

    # --- HTTP

    @property
    def operator_key(self) -> str:
        """The key of the operator."""
        return (self.data_dir / "operator.key").read_text().strip()

    @property
    def session(self) -> aiohttp.ClientSession:
        """Kept-open connections to the node."""
        if self._session is None:
            self._session = aiohttp.ClientSession(self.url, connector=aiohttp.TCPConnector(limit=0))
        return self._session

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = SOON_S,
    ) -> Answer:
        """Ask once, as the operator unless another key is given.

        Args:
            body: bytes go as they are, anything else as JSON.

        Raises:
            aiohttp.ClientError, TimeoutError: no answer.
        """
        sent = {"Content-Type": "application/json", **(headers or {})} if body is not None else dict(headers or {})
        if path.startswith("/v1/"):
            sent.setdefault("Authorization", f"Bearer {key or self.operator_key}")
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.request(
            method,
            path,
            data=data,
            headers=sent,
            timeout=aiohttp.ClientTimeout(timeout_s),
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
            try:
                parsed = json.loads(content) if content else None
            except ValueError:
                parsed = content.decode("utf-8", "replace")
            return Answer(answer.status, answer.headers, parsed)

    async def get(self, path: str, key: str | None = None) -> Any:
        """Get a document."""
        answer = await self.ask("GET", path, key=key)
        assert answer.status == 200, answer
        return answer.body

    async def tenant(self, name: str = "acme") -> Tenant:
        """Make a tenant with a live and a test key."""
        made = await self.ask("POST", "/v1/tenants", {"name": name})
        assert made.status == 201, made
        keys = [
            await self.ask("POST", f"/v1/tenants/{made.body['id']}/keys", {"mode": mode}) for mode in ("live", "test")
        ]
        return Tenant(made.body["id"], *(answer.body["key"] for answer in keys))

    async def send(self, key: str, body: Mapping[str, Any], idempotency_key: str | None = None) -> dict[str, Any]:
        """Post a message that must be accepted; returns the 202."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        answer = await self.ask("POST", "/v1/messages", body, key=key, headers=headers)
        assert answer.status == 202, answer
        accepted: dict[str, Any] = answer.body
        return accepted

    async def message(self, message_id: str, key: str | None = None) -> dict[str, Any]:
        """Get one message."""
        found: dict[str, Any] = await self.get(f"/v1/messages/{message_id}", key)
        return found

    async def messages(self, ids: Sequence[str], key: str | None = None) -> dict[str, dict[str, Any]]:
        """Look many messages up; unknown ids are left out."""
        found: dict[str, dict[str, Any]] = {}
        for n in range(0, len(ids), 1000):
            answer = await self.ask("POST", "/v1/messages/lookup", {"ids": list(ids[n : n + 1000])}, key=key)
            assert answer.status == 200, answer
            found |= {message["id"]: message for message in answer.body["data"]}
        return found

    async def listed(self, key: str | None = None) -> list[dict[str, Any]]:
        """Page through every message."""
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = await self.get(f"/v1/messages?limit=1000&fields=summary{cursor}", key)
            found += page["data"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"

    async def final(self, message_id: str, within_s: float = SOON_S) -> dict[str, Any]:
        """Wait until a message is final."""

        async def is_final() -> dict[str, Any] | None:
            message = await self.message(message_id)
            return message if message["status"] in FINAL else None

        message: dict[str, Any] = await until(is_final, within_s, f"{message_id} is final")
        return message

    async def all_final(self, ids: Sequence[str], within_s: float) -> dict[str, dict[str, Any]]:
        """Wait until all of these are final; an id that is not known fails at once."""
        done: dict[str, dict[str, Any]] = {}
        left = list(ids)
        end = time.monotonic() + within_s
        while left:
            found = await self.messages(left)
            lost = [one for one in left if one not in found]
            assert not lost, f"{len(lost)} accepted messages are lost: {lost[:5]}"
            done |= {one: message for one, message in found.items() if message["status"] in FINAL}
            left = [one for one in left if one not in done]
            if left and time.monotonic() > end:
                shown = "\n".join(timeline(found[one]) for one in left[:3])
                raise AssertionError(f"{len(left)} messages are not final after {within_s:g} s, such as\n{shown}")
            if left:
                await asyncio.sleep(0.2)
        return done


@asynccontextmanager
async def running(
    folder: Path, carriers: str = MOCKS, *, server: str = "", data: Path | None = None
) -> AsyncIterator[Node]:
    """A node that runs until the block ends, with all that belongs to it."""
    node = Node(folder, carriers, server=server, data=data)
    async with started(node, READY_WITHIN_S if data is not None else FIRST_START_WITHIN_S):
        yield node


@asynccontextmanager
async def started(node: Node, within_s: float) -> AsyncIterator[None]:
    """Start a node, and end it with the block, with all that belongs to it."""
    try:
        await node.start(within_s)
        yield
    except BaseException:
        print(f"what the node said:\n{node.log[-8000:]}")
        raise
    finally:
        await node.close()


@asynccontextmanager
async def two_of_one_database(folder: Path, carriers: str = MOCKS) -> AsyncIterator[tuple[Node, Node]]:
    """Two nodes with data folders of their own, one PostgreSQL, and one secret for the hashes of keys."""
    cluster = await shared_cluster()
    async with AsyncExitStack() as stack:
        connect = await stack.enter_async_context(cluster.database())
        url = f"postgresql://{connect['user']}@/{connect['database']}?host={connect['host']}&port={connect['port']}"
        nodes = []
        for name in ("a", "b"):
            data_dir = folder / name / "data"
            data_dir.mkdir(parents=True, mode=0o700)
            secret = data_dir / "key-hash.secret"
            secret.write_text("0f" * 32)
            secret.chmod(0o600)
            nodes.append(
                await stack.enter_async_context(running(folder / name, carriers, server=f'[database]\nurl = "{url}"\n'))
            )
        yield nodes[0], nodes[1]


async def receipt(
    node: Node, carrier_message_id: str, secret: str = "receipts-sms", carrier: str = "mock-sms"
) -> Answer:
    """Report a delivery, signed as the contract says."""
    raw = json.dumps({"carrier": carrier, "carrier_message_id": carrier_message_id, "status": "delivered"}).encode()
    signature = "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
    return await node.ask("POST", "/v1/webhooks/dlr", raw, headers={"X-Hermes-Signature": signature})


async def waiting_for_receipts(node: Node, key: str, count: int) -> list[dict[str, Any]]:
    """Send messages whose carrier never reports; returns them once submitted."""
    ids = [
        (await node.send(key, {"channel": "sms", "to": "+4520120004", "content": {"text": "hi"}}))["id"]
        for _ in range(count)
    ]

    async def submitted() -> list[dict[str, Any]] | None:
        found = list((await node.messages(ids)).values())
        return found if all(m["attempts"] and m["attempts"][0]["submitted_at"] for m in found) else None

    messages: list[dict[str, Any]] = await until(submitted, SOON_S, "the messages are submitted")
    return messages


def make_data(folder: Path) -> Path:
    """Make a data folder as a node's first start leaves it; nobody runs on it."""

    async def first_start() -> Path:
        node = Node(folder)
        try:
            await node.start(FIRST_START_WITHIN_S)
            assert await node.terminate() == 0, node.log
        except BaseException:
            await node.close()
            raise
        await node.session.close()
        return node.data_dir

    return asyncio.run(first_start())


def copy_data(source: Path, target: Path) -> None:
    """Copy a data folder with its owners: as root, the server's files belong to another user."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def environment(**more: str) -> dict[str, str]:
    """The environment of a command: this one without any settings of Hermes."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HERMES_")} | more


def free_port() -> int:
    """Find a port nobody listens on, outside the range the kernel gives to outgoing connections.

    A node that is dead for a moment must not find its port taken, nor its callers be connected to themselves.
    """
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        lowest = 32768
    first, last = (10_000, lowest - 1) if lowest > 12_000 else (61_000, 65_535)
    for _ in range(1000):
        port = random.randint(first, last)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs; one that is dead stays a zombie where nobody asks how it ended."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def until(condition: Callable[[], Any], within_s: float, what: str) -> Any:
    """Ask again and again until the answer, awaited if need be, is neither None nor False; return it."""
    end = time.monotonic() + within_s
    while True:
        answer = condition()
        if isinstance(answer, Awaitable):
            answer = await answer
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"it did not happen within {within_s:g} s: {what}")
        await asyncio.sleep(POLL_S)


def timeline(message: Mapping[str, Any]) -> str:
    """A message's life in a few lines, for a failed assertion."""
    lines = [f"{message['id']} {message['status']} {message['metadata']} expires {message['expires_at']}"]
    for e in message["events"]:
        lines.append(f"  {e['at']} {e['seq']:>2} {e['type']} {e['step']}/{e['attempt']} {json.dumps(e['data'])}")
    for a in message["attempts"]:
        lines.append(f"  {a['step']}/{a['attempt']} {a['carrier']} {a['status']} recovered={a['recovered']}")
    return "\n".join(lines)
