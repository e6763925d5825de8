"""Start a real node for a measurement, and read what its processes used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
MOCKS = "".join(
    f'[[carrier]]\nname = "mock-{channel}"\nkind = "mock"\nchannel = "{channel}"\n\n'
    for channel in ("email", "sms", "push", "whatsapp")
)


@dataclass
class BenchNode:
    """A running node.

    Attributes:
        pid: of the Python process; with several workers, of their parent.
        operator_key: for /v1/tenants and the like.
        workers: how many processes do the work.
    """

    process: subprocess.Popen[bytes]
    data_dir: Path
    host: str
    port: int
    operator_key: str
    workers: int = 1

    @property
    def pid(self) -> int:
        """Process id of the node."""
        return self.process.pid

    def ask(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        """Call the API once and return the parsed answer."""
        request = urllib.request.Request(
            f"http://{self.host}:{self.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {key or self.operator_key}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def tenant(self) -> tuple[str, str]:
        """Make a tenant; returns its id and a live key."""
        tenant = self.ask("POST", "/v1/tenants", {"name": "bench"})
        key = self.ask("POST", f"/v1/tenants/{tenant['id']}/keys", {"mode": "live"})
        return tenant["id"], key["key"]

    def cpu_python_s(self) -> float:
        """CPU seconds the node's processes have used; those of workers that ended are left out."""
        return sum(map(used_s, self._pythons()))

    def _pythons(self) -> list[int]:
        if self.workers == 1:
            return [self.pid]
        database = self.postmaster()
        return [self.pid, *(child for child in _children(self.pid) if child != database)]

    def cpu_postgres_s(self) -> float:
        """CPU seconds the embedded server's processes have used, ended ones included."""
        postmaster = self.postmaster()
        total = used_s(postmaster) + _reaped(postmaster)
        for child in _children(postmaster):
            total += used_s(child)
        return total

    def postmaster(self) -> int:
        """Process id of the embedded server."""
        found = sorted(self.data_dir.rglob("postmaster.pid"))
        return int(found[0].read_text().splitlines()[0])

    def rss_mb(self) -> float:
        """Resident memory of the node's processes together, MiB."""
        total = 0.0
        for pid in self._pythons():
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS"):
                    total += int(line.split()[1]) / 1024
        return total


def _fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def used_s(pid: int) -> float:
    """CPU seconds a process has used; 0 for one that is gone."""
    try:
        fields = _fields(pid)
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def _reaped(pid: int) -> float:
    fields = _fields(pid)
    return (int(fields[13]) + int(fields[14])) / TICKS


def _children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if int(_fields(int(entry.name))[1]) == pid:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


@contextmanager
def node(
    carriers: str = MOCKS,
    data_dir: Path | None = None,
    extra: str = "",
    workers: int = 1,
    python: str = sys.executable,
) -> Iterator[BenchNode]:
    """Run `hermes serve` with these carriers until the block ends; the data folder goes with it unless given."""
    with tempfile.TemporaryDirectory(prefix="hermes-bench-") as folder:
        config = Path(folder, "hermes.toml")
        config.write_text(f"[server]\nport = 0\n{extra}\n\n{carriers}")
        data = data_dir or Path(folder, "data")
        process = subprocess.Popen(
            [python, "-m", "hermes.cli", "serve", "--config", str(config), "--data-dir", str(data)]
            + (["--workers", str(workers)] if workers > 1 else []),
            # As it is installed: with byte code, which a second start finds.
            env={k: v for k, v in os.environ.items() if not k.startswith("HERMES_") and k != "PYTHONDONTWRITEBYTECODE"},
        )
        try:
            yield replace(_ready(process, data), workers=workers)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(process: subprocess.Popen[bytes], data: Path) -> BenchNode:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the node ended with {process.returncode}")
        try:
            said = json.loads((data / "node.json").read_text())
            if said["pid"] == process.pid:
                host, _, port = said["url"].removeprefix("http://").rpartition(":")
                key = (data / "operator.key").read_text().strip()
                return BenchNode(process, data, host, int(port), key)
        except (OSError, ValueError, KeyError):
            pass
        time.sleep(0.05)
    raise SystemExit("the node did not get ready within 60 s")
