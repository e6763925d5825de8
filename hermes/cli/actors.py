"""`hermes tree`, `hermes inspect` and `hermes actor`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import quote

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from hermes.cli import client, show


def show_tree(
    environ: Mapping[str, str],
    data_dir: Path | None,
    every_s: float | None,
    *,
    as_json: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show the actors once, or every `every_s` seconds until Ctrl-C.

    While watching, a node that does not answer is no error: it may be restarting.
    """
    node = client.connect(environ, data_dir)
    if every_s is None:
        tree = node.get("/v1/actors")
        if as_json:
            client.print_json(tree)
            return
        out = show.console()
        out.print(show.actor_table(tree, ascii_only=not show.unicode_ok(out)))
        return
    try:
        if as_json:
            while True:
                sys.stdout.write(json.dumps(node.get("/v1/actors")) + "\n")
                sys.stdout.flush()
                sleep(every_s)
        _watch(node, every_s, sleep)
    except KeyboardInterrupt:
        return


def _watch(node: client.Client, every_s: float, sleep: Callable[[float], None]) -> None:
    out = show.console()
    seen: RenderableType = Text()
    with Live(console=out, screen=out.is_terminal, auto_refresh=False) as live:
        while True:
            try:
                seen = show.actor_table(node.get("/v1/actors"), ascii_only=not show.unicode_ok(out))
                live.update(seen, refresh=True)
            except client.NoAnswer as exc:
                live.update(Group(Text(client.clean(exc), style="red"), seen), refresh=True)
            sleep(every_s)


def inspect(environ: Mapping[str, str], data_dir: Path | None, name: str, *, as_json: bool) -> None:
    """Show one actor."""
    actor = client.connect(environ, data_dir).get("/v1/actors/" + quote(name, safe="/"))
    if as_json:
        client.print_json(actor)
        return
    out = show.console()
    out.print(show.actor_facts(actor, ascii_only=not show.unicode_ok(out)))


def order(environ: Mapping[str, str], data_dir: Path | None, name: str, what: str, *, as_json: bool) -> None:
    """Suspend, resume, restart or stop an actor, and say how it is now."""
    node = client.connect(environ, data_dir)
    actor = node.request("POST", f"/v1/actors/{quote(name, safe='/')}/{what}")
    if as_json:
        client.print_json(actor)
        return
    why = f", last error: {actor['last_error']}" if actor["last_error"] and actor["state"] == "back_off" else ""
    sys.stdout.write(client.clean(f"actor {name} is {actor['state']}, {actor['restarts']} restarts{why}") + "\n")


def log_level(environ: Mapping[str, str], data_dir: Path | None, name: str, level: str, *, as_json: bool) -> None:
    """Set the log level of an actor and all below it, or take it back, and list what is set."""
    body = {"level": None if level == "default" else level}
    path = f"/v1/actors/{quote(name, safe='/')}/log-level"
    levels = client.connect(environ, data_dir).request("POST", path, body)
    if as_json:
        client.print_json(levels)
    elif not levels["levels"]:
        sys.stdout.write("no actor has a log level of its own\n")
    else:
        show.console().print(show.table(("actor", "log level"), levels["levels"].items()))
