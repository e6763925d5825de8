"""The same durable cascade on Hermes, DBOS and Restate, on this machine: cascades per second and CPU per 1,000.

    python -m venv /tmp/peers && /tmp/peers/bin/pip install dbos restate-sdk hypercorn aiohttp
    npm install --prefix /tmp/peers @restatedev/restate-server
    python -m benchmarks.peers --python /tmp/peers/bin/python \
        --restate-server /tmp/peers/node_modules/.bin/restate-server

A cascade is three steps whose results survive kill -9: accepted, sent, delivered. The peers run them one after the
other in a workflow, asked for by 64 callers at a time, the most favourable way: no wait for a receipt between the
steps, no HTTP before DBOS. Hermes takes each by `POST /v1/messages`, with all its layers, waits for the receipt of a
mock carrier (200 ms) and is offered more than it can take. DBOS and Hermes use the same embedded PostgreSQL with fsync
on; Restate has its own store. Every cascade is counted only when it is over. Peers that are not installed are left out
and named.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

CALLERS = 64
READY_WITHIN_S = 60.0
CHILD_WITHIN_S = 600.0

# What the peers run. Their packages are installed where `--python` says, not beside Hermes.
DBOS_CHILD = """
import asyncio, json, sys, time
from dbos import DBOS

url, count, callers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

@DBOS.step()
async def accept(n): return n
@DBOS.step()
async def send(n): return f"carrier-{n}"
@DBOS.step()
async def deliver(carrier_id): return carrier_id

@DBOS.workflow()
async def cascade(n):
    return await deliver(await send(await accept(n)))

async def caller(numbers):
    for n in numbers:
        handle = await DBOS.start_workflow_async(cascade, n)
        assert await handle.get_result() == f"carrier-{n}"

async def main():
    await caller(iter(range(50)))
    print("begin", flush=True)
    began = time.perf_counter()
    numbers = iter(range(count))
    await asyncio.gather(*(caller(numbers) for _ in range(callers)))
    print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
    sys.stdin.readline()  # until its CPU has been read

DBOS(config={"name": "cascade", "system_database_url": url, "log_level": "ERROR", "sys_db_pool_size": 20})
DBOS.launch()
asyncio.run(main())
"""
RESTATE_CHILD = """
import asyncio, sys
import hypercorn.asyncio, hypercorn.config
import restate

service = restate.Service("Cascade")

@service.handler()
async def run(ctx: restate.Context, n: int) -> str:
    n = await ctx.run_typed("accept", lambda: n)
    carrier_id = await ctx.run_typed("send", lambda: f"carrier-{n}")
    return await ctx.run_typed("deliver", lambda: carrier_id)

config = hypercorn.config.Config()
config.bind = [f"127.0.0.1:{sys.argv[1]}"]
config.accesslog = config.errorlog = None
config.h2_max_concurrent_streams = 2**31 - 1
asyncio.run(hypercorn.asyncio.serve(restate.app(services=[service]), config))
"""


def main() -> int:
    """Measure what is there, print a line of JSON for each; exit 1 when a cascade was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--count", type=int, default=3000, help="cascades for DBOS and Restate; Hermes gets ten times as many"
    )
    parser.add_argument("--only", choices=["hermes", "dbos", "restate"], action="append")
    parser.add_argument("--python", default=sys.executable, help="an interpreter with dbos, restate-sdk and hypercorn")
    parser.add_argument("--restate-server", default=shutil.which("restate-server"))
    args = parser.parse_args()
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "hermes": lambda: hermes(args.count * 10),
        "dbos": lambda: asyncio.run(dbos(args.python, args.count)),
        "restate": lambda: restate(args.python, args.restate_server, args.count),
    }
    lost = False
    for name, measure in measures.items():
        if args.only and name not in args.only:
            continue
        try:
            result = {"name": name, **measure()}
        except NotInstalled as missing:
            result = {"name": name, "left_out": str(missing)}
        print(json.dumps(result), flush=True)
        lost |= bool(result.get("lost"))
    return 1 if lost else 0


class NotInstalled(Exception):
    """This peer is not on this machine."""


def require(python: str, *modules: str) -> None:
    """Raise NotInstalled unless the interpreter has these modules."""
    code = f"import {', '.join(modules)}"
    if subprocess.run([python, "-c", code], capture_output=True, check=False).returncode:
        raise NotInstalled(f"{python} has not all of {', '.join(modules)}")


def cpu_s(*roots: int) -> float:
    """CPU seconds of these processes and their living children."""
    total = 0.0
    for root in roots:
        process = psutil.Process(root)
        for one in (process, *process.children(recursive=True)):
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
    return total


def figures(count: int, seconds: float, engine_s: float, database_s: float, lost: int = 0) -> dict[str, Any]:
    """What is printed of a peer."""
    return {
        "cascades": count,
        "lost": lost,
        "cascades_per_s": round(count / seconds),
        "engine_cpu_s_per_1000": round(engine_s / count * 1000, 3),
        "database_cpu_s_per_1000": round(database_s / count * 1000, 3),
    }


def hermes(count: int) -> dict[str, Any]:
    """Hermes, by its own load benchmark, offered more than it can take."""
    from benchmarks._node import MOCKS, node
    from benchmarks.load import measure

    body = json.dumps({"channel": "sms", "to": "+4520120001", "content": {"text": "Your code is 123456"}}).encode()
    with node(MOCKS) as target:
        _, key = target.tenant()
        measure(target, key, 500, 2, body)
        found = measure(target, key, 20_000, count / 20_000, body)
    done = found["final"].get("delivered", 0)
    return {
        "cascades": done,
        "lost": found["accepted"] - done,
        "cascades_per_s": found["reached_per_s"],
        "engine_cpu_s_per_1000": found["python_cpu_s_per_1000"],
        "database_cpu_s_per_1000": found["postgres_cpu_s_per_1000"],
    }


async def dbos(python: str, count: int) -> dict[str, Any]:
    """DBOS: its workflow in one process, on the embedded PostgreSQL."""
    from hermes.journal.embedded import DATABASE, EmbeddedPostgres

    require(python, "dbos")
    with tempfile.TemporaryDirectory(prefix="hermes-peers-") as folder:
        server = EmbeddedPostgres(Path(folder, "data"))
        await server.start()
        try:
            url = server.dsn().replace(f"/{DATABASE}?", "/dbos_peer?")
            return _dbos([python, "-c", DBOS_CHILD, url, str(count), str(CALLERS)], count, _postmaster(Path(folder)))
        finally:
            await server.stop()


def _dbos(command: list[str], count: int, postmaster: int) -> dict[str, Any]:
    with _child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        if child.stdout.readline() != "begin\n":
            raise SystemExit("DBOS did not begin")
        engine, database = cpu_s(child.pid), cpu_s(postmaster)
        said = json.loads(child.stdout.readline())
        return figures(count, said["seconds"], cpu_s(child.pid) - engine, cpu_s(postmaster) - database)


def _postmaster(folder: Path) -> int:
    found = sorted(folder.rglob("postmaster.pid"))
    return int(found[0].read_text().splitlines()[0])


def restate(python: str, server: str | None, count: int) -> dict[str, Any]:
    """Restate: its server, and a service of its Python SDK; asked over its HTTP ingress."""
    require(python, "restate", "hypercorn")
    if server is None or not Path(server).exists():
        raise NotInstalled("no restate-server; name it by --restate-server")
    ports = _free_ports(5)
    service_port, ingress, admin, node_port, _ = ports
    with tempfile.TemporaryDirectory(prefix="hermes-peers-") as folder:
        env = os.environ | {
            "RESTATE_BASE_DIR": folder,
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{node_port}",
            "RESTATE_ADVERTISED_ADDRESS": f"http://127.0.0.1:{node_port}",
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_LOG_FILTER": "error",
            "DO_NOT_TRACK": "1",
        }
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with (
            _child([python, "-c", RESTATE_CHILD, str(service_port)], **quiet) as service,
            _child([server], env=env, cwd=folder, **quiet) as engine,
        ):
            _post_until(f"http://127.0.0.1:{admin}/deployments", {"uri": f"http://127.0.0.1:{service_port}"})
            _post_until(f"http://127.0.0.1:{ingress}/Cascade/run", 0)
            before = cpu_s(engine.pid, service.pid)
            seconds, wrong = asyncio.run(_ask_restate(f"http://127.0.0.1:{ingress}/Cascade/run", count))
            return figures(count, seconds, cpu_s(engine.pid, service.pid) - before, 0.0, wrong)


async def _ask_restate(url: str, count: int) -> tuple[float, int]:
    import aiohttp

    numbers = iter(range(count))
    wrong = 0

    async def caller(session: aiohttp.ClientSession) -> None:
        nonlocal wrong
        for n in numbers:
            async with session.post(url, json=n, headers={"idempotency-key": f"key-{n}"}) as answer:
                wrong += await answer.json() != f"carrier-{n}"

    timeout = aiohttp.ClientTimeout(total=CHILD_WITHIN_S)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CALLERS), timeout=timeout) as session:
        began = time.perf_counter()
        await asyncio.gather(*(caller(session) for _ in range(CALLERS)))
        return time.perf_counter() - began, wrong


@contextmanager
def _child(command: list[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Run a child until the block ends."""
    child = subprocess.Popen(command, **options)
    try:
        yield child
    finally:
        for one in (*psutil.Process(child.pid).children(recursive=True), child):
            one.kill()
        child.wait(30)


def _free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in taken]
    finally:
        for one in taken:
            one.close()


def _post_until(url: str, body: Any) -> None:
    """POST until it is taken, for at most READY_WITHIN_S."""
    end = time.monotonic() + READY_WITHIN_S
    while True:
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=10):
                return
        except (OSError, urllib.error.HTTPError) as exc:
            if time.monotonic() > end:
                raise SystemExit(f"{url} did not answer: {exc}") from None
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
