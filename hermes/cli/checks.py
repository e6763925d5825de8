"""`hermes doctor`: look for what is wrong, from the settings to the running node; change nothing."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from hermes import settings
from hermes.cli import client
from hermes.errors import HermesError, SettingsError
from hermes.settings import Settings

FREE_BYTES: Final = 1 << 30  # arbitrary; an hour of 1,000 messages a second takes about as much
CLOCK_OFF_S: Final = 2.0  # receipts and webhooks' timestamps tolerate minutes; beyond this NTP is broken
PRIVATE: Final = ("operator.key", "demo.json", "key-hash.secret", "node.json")


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str
    ok: bool
    detail: str


def run(environ: Mapping[str, str], config: Path | None, data_dir: Path | None, *, as_json: bool) -> int:
    """Make all checks and print them; returns 1 if one failed, else 0."""
    checks = list(examine(environ, config, data_dir))
    well = all(check.ok for check in checks)
    if as_json:
        client.print_json({"ok": well, "checks": [check._asdict() for check in checks]})
        return 0 if well else 1
    from rich.text import Text

    from hermes.cli import show

    out = show.console()
    rows = [
        (
            Text("ok", "green") if check.ok else Text("FAILED", "bold red"),
            check.name,
            show.text(check.detail.replace("\n", "; ")),
        )
        for check in checks
    ]
    out.print(show.table(("", "check", ""), rows))
    if not well:
        failed = sum(not check.ok for check in checks)
        sys.stderr.write(f"hermes: {failed} of {len(checks)} checks failed\n")
    return 0 if well else 1


def examine(environ: Mapping[str, str], config: Path | None, data_dir: Path | None) -> Iterator[Check]:
    """Make the checks, one after the other; a failed one does not end the others."""
    loaded: Settings | None = None
    try:
        loaded = settings.load(config, environ)
        callers = _make_carriers(loaded)
        carriers = f"{len(loaded.carriers)} carriers" if config else "no --config named; the variables are well"
        yield Check("settings", True, f"{config}: {carriers}" if config else carriers)
        if callers:
            yield _public_url(loaded, callers)
    except SettingsError as exc:
        yield Check("settings", False, str(exc))
    try:
        place = client.find(environ, data_dir)
    except SettingsError as exc:
        yield Check("node", False, str(exc))
        return
    yield _key_files(place.folder)
    yield _disk(place.folder)
    yield from _node(place)
    url = loaded.database.url if loaded is not None else None
    if url is not None:
        yield from _database(url)


def _make_carriers(loaded: Settings) -> list[str]:
    """Make each carrier once; names those whose provider calls our webhook."""
    from carriers.http.common import HttpCarrier
    from carriers.registry import make_carrier
    from hermes.runtime.clock import SystemClock

    clock = SystemClock()
    callers = []
    for c in loaded.carriers:
        carrier = make_carrier(c.kind, c.name, c.channel, c.options, clock=clock, cost=c.cost)
        if isinstance(carrier, HttpCarrier) and type(carrier).on_callback is not HttpCarrier.on_callback:
            callers.append(c.name)
    return callers


def _public_url(loaded: Settings, callers: list[str]) -> Check:
    url = loaded.server.public_url
    if url is None:
        why = "[server] public_url is not set: their receipts and inbound messages cannot come, or are not believed"
        return Check("public URL", False, f"{', '.join(callers)}: {why}")
    return Check("public URL", True, f"{url}/v1/webhooks/... for {', '.join(callers)}")


def _key_files(folder: Path) -> Check:
    open_files = []
    found = 0
    for name in PRIVATE:
        try:
            mode = stat.S_IMODE((folder / name).stat().st_mode)
        except OSError:
            continue
        found += 1
        if mode & 0o077:
            open_files.append(f"{folder / name} has mode {mode:04o}; chmod 600 it")
    if open_files:
        return Check("key files", False, "\n".join(open_files))
    return Check("key files", True, f"{found} in {folder}, readable by their owner only" if found else "none yet")


def _disk(folder: Path) -> Check:
    there = next((f for f in (folder, *folder.parents) if f.exists()), Path("/"))
    try:
        free = shutil.disk_usage(there).free
    except OSError as exc:
        return Check("disk space", False, f"{there}: {exc.strerror or exc}")
    said = f"{free / (1 << 30):.1f} GiB free for {folder}"
    return Check("disk space", free >= FREE_BYTES, said if free >= FREE_BYTES else f"{said}; less than 1 GiB")


def _node(place: client.Place) -> Iterator[Check]:
    node = client.Client(place.url, place.key)
    try:
        status, headers, _ = node.exchange("GET", "/livez")
    except client.NoAnswer as exc:
        yield Check("node answers", False, str(exc))
        return
    yield Check("node answers", status == 200, f"{place.url}/livez: {status}")
    try:
        status, _, content = node.exchange("GET", "/readyz")
        said = client.clean(content.decode("utf-8", "replace").strip()[:200])
        ready = status == 200
        note = _note(content) if ready else ""
        if ready:
            yield Check("carriers", not note, note or "the node has some")
        yield Check("node is ready", ready, f"{place.url}/readyz: {status}" + ("" if ready else f" {said}"))
        yield Check("node's database", ready, "the node can store messages" if ready else "see readyz")
        node.get("/v1/tenants")
        yield Check("operator key", True, "accepted by the node")
    except client.Refused as exc:
        yield Check("operator key", False, str(exc))
    except client.NoAnswer as exc:
        yield Check("node is ready", False, str(exc))
    yield _clock(headers)


def _note(content: bytes) -> str:
    """Read what /readyz says beside "ok"."""
    try:
        said = json.loads(content)
    except ValueError:
        return ""
    return client.clean(str(said.get("note", ""))) if isinstance(said, dict) else ""


def _clock(headers: Mapping[str, str]) -> Check:
    try:
        theirs = parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, TypeError):
        return Check("clock", True, "the node does not tell its time")
    off = abs(time.time() - theirs)
    return Check("clock", off <= CLOCK_OFF_S + 1, f"{off:.0f} s from the node's")  # a Date has whole seconds


def _database(url: str) -> Iterator[Check]:
    try:
        facts: dict[str, Any] = asyncio.run(_ask_database(url))
    except HermesError as exc:
        yield Check("database", False, str(exc))
        return
    version = int(facts["version"])
    yield Check("database", version >= 150000, f"PostgreSQL {version // 10000}; Hermes needs 15 or newer")
    off = abs(time.time() - float(facts["now"]))
    yield Check("database's clock", off <= CLOCK_OFF_S, f"{off:.1f} s from ours")


async def _ask_database(url: str) -> dict[str, Any]:
    from hermes.journal.link import Link

    connection = await Link(url, "hermes doctor").open()
    try:
        row = await connection.fetchrow(
            "SELECT current_setting('server_version_num') AS version, extract(epoch FROM clock_timestamp()) AS now"
        )
        return dict(row)
    finally:
        connection.terminate()
