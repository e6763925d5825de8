"""`hermes serve`, `hermes demo` and `hermes migrate`: the commands that are a node, or touch its database."""

from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import shlex
import socket
import sys
from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from hermes import logs, settings
from hermes.cli import client
from hermes.data_dir import data_folder, make_data_dir, node_file, write_private
from hermes.errors import HermesError
from hermes.settings import Settings

if TYPE_CHECKING:
    from hermes.boot import Node
    from hermes.journal.directory import Directory

DEMO_TENANT: Final = "demo"
DEMO_PORTS: Final = 200  # ports tried after the default one
DEMO_TRIES: Final = 5  # another demo may take the port, or the folder, between the look and the start
# The e-mail bounces (API.md, "Sandbox: magic recipients"), the SMS arrives.
DEMO_REQUEST: Final = {
    "to": {"email": "undelivered@example.com", "phone": "+4520120001"},
    "cascade": ["email", "sms"],
    "content": {"subject": "Hello", "text": "Hello from Hermes"},
}
DEMO_CARRIERS: Final = tuple(
    {"name": f"mock-{channel}", "kind": "mock", "channel": channel} for channel in ("email", "sms", "push", "whatsapp")
)


class AddressTaken(client.Failed):
    """Somebody else listens on the address."""


def serve(
    environ: Mapping[str, str],
    config: Path | None,
    host: str | None,
    port: int | None,
    data_dir: Path | None,
    workers: int | None,
) -> int:
    """Run a node until it is told to stop; returns the exit code.

    Raises:
        SettingsError: the settings are wrong.
        HermesError: the node could not start.
    """
    options = _address(host, port) | ({} if workers is None else {"server.workers": workers})
    loaded = settings.load(config, environ, options=options)
    folder = data_folder(data_dir, environ)
    if not loaded.names_carrier and loaded.database.url is None and not (folder / "postgres").exists():
        loaded.refuse_no_carrier()  # before a database is made in which there can be none
    if loaded.server.workers > 1:
        return _run_workers(loaded, folder, config, options, environ)
    return _run(loaded, folder, _ready)


def _run_workers(
    loaded: Settings, folder: Path, config: Path | None, options: dict[str, Any], environ: Mapping[str, str]
) -> int:
    from hermes.parent import Parent

    logs.configure(loaded.log.format, loaded.log.level)
    if loaded.redis.url is None:
        logs.get_logger("hermes.node").warning(
            "without [redis] each worker counts tenants' limits for itself", workers=loaded.server.workers
        )
    source = {"config": None if config is None else str(config.absolute()), "options": options}
    try:
        return asyncio.run(Parent(loaded, folder, source, environ).run())
    except OSError as exc:
        reason = _address_error(exc)
        if reason is None:
            raise
        server = loaded.server
        raise client.Failed(f"cannot listen on {server.host} port {server.port}: {reason}") from exc


def _ready(node: Node) -> None:
    logs.get_logger("hermes.node").info("ready", url=node.url)


def demo(
    environ: Mapping[str, str], host: str | None, port: int | None, data_dir: Path | None, *, as_json: bool
) -> int:
    """Run a node with mock carriers, a tenant and its keys, and say how to use it; returns the exit code.

    Raises:
        HermesError: the node could not start.
    """
    from hermes.journal.embedded import DataFolderInUse  # not needed by the commands that are no node

    defaults = {
        "server": {"allow_private_callbacks": True},
        "log": {"level": "warning"},  # so that the line to paste stays in sight
        "carrier": list(DEMO_CARRIERS),
    }
    named_port = port is not None or "HERMES_SERVER__PORT" in environ
    in_use: set[Path] = set()
    for left in reversed(range(DEMO_TRIES)):
        loaded = settings.load(None, environ, defaults=defaults, options=_address(host, port))
        if not named_port:
            free = free_port(loaded.server.host, loaded.server.port)
            loaded = settings.load(
                None, environ, defaults=defaults, options=_address(host, None) | {"server.port": free}
            )
        folder = demo_folder(environ, data_dir, in_use)
        if sys.stderr.isatty() and not (folder / "demo.json").exists():
            sys.stderr.write("Making a database: this takes some seconds, the first time only.\n")
        try:
            return _run(loaded, folder, partial(_demo_ready, environ, folder, as_json))
        except AddressTaken:
            if named_port or not left:
                raise
        except DataFolderInUse:
            if data_dir is not None or not left:
                raise
            in_use.add(folder)
    raise AssertionError("the last try returns or raises")


async def _demo_ready(environ: Mapping[str, str], folder: Path, as_json: bool, node: Node) -> None:
    made = await demo_keys(node.directory, folder)
    if as_json:
        facts = {"url": node.url, "operator_key": node.operator_key, **made}
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
    else:
        welcome(node.url, node.operator_key, made, _hint(environ, folder))


def _address(host: str | None, port: int | None) -> dict[str, Any]:
    given = {"server.host": host, "server.port": port}
    return {name: value for name, value in given.items() if value is not None}


def _run(loaded: Settings, folder: Path, ready: Callable[[Node], Any]) -> int:
    import uvloop

    logs.configure(loaded.log.format, loaded.log.level)
    make_data_dir(folder)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve(loaded, folder, ready))
    except Exception as exc:
        reason = _address_error(exc)
        if reason is None:
            if not isinstance(exc, HermesError):
                logs.get_logger("hermes.node").exception("the node failed")  # with the traceback, cleaned
            raise
        server = loaded.server
        kind = AddressTaken if reason == os.strerror(errno.EADDRINUSE) else client.Failed
        raise kind(f"cannot listen on {server.host} port {server.port}: {reason}") from exc


async def _serve(loaded: Settings, folder: Path, ready: Callable[[Node], Any]) -> int:
    """Run a node. Its database comes up, or recovers, while the rest of Hermes is imported: both take a while."""
    from hermes.journal.embedded import EmbeddedPostgres

    # One is made only when the node finds nothing wrong with its settings.
    there = loaded.database.url is None and (folder / "postgres").is_dir()
    embedded = EmbeddedPostgres(folder) if there else None
    importing = asyncio.to_thread(_import_boot)
    try:
        if embedded is None:
            boot = await importing
        else:
            boot, _ = await asyncio.gather(importing, embedded.start())
        return int(await boot.serve(loaded, folder, on_ready=ready, embedded=embedded))
    finally:
        if embedded is not None:
            await embedded.stop()  # if there is no node that did


def _import_boot() -> ModuleType:
    """Import every part of Hermes. None of that is garbage; to look for some would be a twelfth of the time."""
    gc.disable()
    try:
        return import_module("hermes.boot")
    finally:
        gc.enable()


def _address_error(error: BaseException | None) -> str | None:
    """Say why an address could not be had, if that is what an error came from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (
            errno.EADDRINUSE,
            errno.EADDRNOTAVAIL,
            errno.EACCES,
        ):
            return os.strerror(error.errno)  # asyncio's own text repeats the address
        if isinstance(error, socket.gaierror):
            return error.strerror or str(error)
        error = error.__cause__ or error.__context__
    return None


# --- the demo


def free_port(host: str, first: int) -> int:
    """Find the first port from `first` on that nobody listens on; `first` itself when none is free."""
    for port in range(first, min(first + DEMO_PORTS, 65535) + 1):
        try:
            family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE:
                break  # another port would not help; the node says why
        else:
            return port
    return first


def demo_folder(environ: Mapping[str, str], data_dir: Path | None, in_use: Collection[Path] = ()) -> Path:
    """Choose the demo's data folder: the named one, else `demo` in the default one, or the next free one.

    `in_use` are those known to be taken, though nobody answers there yet.
    """
    if data_dir is not None:
        return data_folder(data_dir, environ)
    folder = data_folder(None, environ)
    chosen = folder / "demo"
    n = 1
    while chosen in in_use or ((found := node_file(chosen)) is not None and client.is_alive(found.pid)):
        n += 1
        chosen = folder / f"demo-{n}"
    return chosen


async def demo_keys(directory: Directory, folder: Path) -> dict[str, str]:
    """Give the demo's tenant and its two keys, the same as last time if they still are; kept in `demo.json`.

    Raises:
        SettingsError: the file cannot be written.
        JournalAway: the database is away.
    """
    path = folder / "demo.json"
    try:
        kept = {name: str(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, AttributeError):
        kept = {}
    tenant = directory.tenant(kept.get("tenant", ""))
    if tenant is None:
        tenant = next((t for t in directory.tenants() if t.name == DEMO_TENANT), None)
    if tenant is None:
        tenant = await directory.create_tenant(DEMO_TENANT)
    made = {"tenant": tenant.id}
    for name, mode in (("api_key", "live"), ("test_key", "test")):
        text = kept.get(name, "")
        key = directory.find_key(text) if text else None
        if key is None or key.tenant != tenant.id or key.mode != mode:
            _, text = await directory.create_key(tenant.id, mode)
        made[name] = text
    if made != kept:
        write_private(path, json.dumps(made) + "\n")
    return made


def curl_line(url: str, api_key: str) -> str:
    """Write the line to paste: one message that falls from e-mail to SMS."""
    return " ".join(
        [
            f"curl -sS {shlex.quote(url + '/v1/messages')}",
            f"-H {shlex.quote('Authorization: Bearer ' + api_key)}",
            "-H 'Content-Type: application/json'",
            f"-d {shlex.quote(json.dumps(DEMO_REQUEST))}",
        ]
    )


def _hint(environ: Mapping[str, str], folder: Path) -> str:
    """Say which option the other commands need to find this node: none if they find it by themselves."""
    found = client.find({k: v for k, v in environ.items() if k != "HERMES_URL"}, None)
    return "" if found.folder == folder else f" --data-dir {shlex.quote(str(folder))}"


def welcome(url: str, operator_key: str, made: Mapping[str, str], hint: str) -> None:
    """Print what a newcomer needs, plain or coloured, and nothing broken by a line's end."""
    from rich.text import Text

    from hermes.cli import show

    out = show.console()

    def say(*parts: str | tuple[str, str]) -> None:
        out.print(Text.assemble(*parts), soft_wrap=True)

    say(("Hermes is running at ", "bold"), (url, "bold cyan"), ("   Ctrl-C stops it", "dim"))
    say()
    for name, value in (
        ("tenant", made["tenant"]),
        ("API key", made["api_key"]),
        ("test key", made["test_key"]),
        ("operator key", operator_key),
    ):
        say((f"  {name:<14}", "dim"), value)
    say()
    say("Paste this. The e-mail bounces, so the message falls to SMS, which arrives:")
    say()
    say((curl_line(url, made["api_key"]), "green"))
    say()
    say("Then look:")
    say()
    commands = (
        (f"hermes message{hint} <id>", "what happened to it, step by step"),
        (f"hermes tree{hint}", "the actors at work"),
        (f"{url}/docs", "the whole API"),
    )
    width = max(len(command) for command, _ in commands) + 3
    for command, what in commands:
        say("  ", (command.ljust(width), "cyan"), (what, "dim"))
    say()
    say(("Nothing leaves this machine: every carrier is a mock.", "dim"))
    out.file.flush()


# --- the schema


def migrate(environ: Mapping[str, str], config: Path | None, data_dir: Path | None, *, as_json: bool) -> None:
    """Bring the database's schema up to date.

    Raises:
        SettingsError: the settings are wrong.
        HermesError: the database cannot be reached, or its schema is not one we may change.
    """
    loaded = settings.load(config, environ)
    logs.configure(loaded.log.format, loaded.log.level)
    applied = asyncio.run(_migrate(loaded, data_folder(data_dir, environ)))
    if as_json:
        client.print_json({"applied": applied})
    else:
        sys.stdout.write("".join(f"applied {name}\n" for name in applied) or "nothing to do\n")


async def _migrate(loaded: Settings, folder: Path) -> list[str]:
    from hermes.journal import postgres

    if loaded.database.url is not None:
        return await postgres.migrate(loaded.database.url)
    from hermes.journal.embedded import EmbeddedPostgres

    server = EmbeddedPostgres(make_data_dir(folder))
    await server.start()
    try:
        return await postgres.migrate(server.connect_kwargs())
    finally:
        await server.stop()
