"""`hermes carrier` and `hermes route`: how the carriers are, orders to them, and why a message takes which."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from hermes.cli import client, show
from hermes.cli.client import path_of

LINES: Final = 500  # what a node keeps of its log, and gives at once
TRACE_EVERY_S: Final = 0.5
_STYLES: Final = {"up": "green", "degraded": "yellow", "down": "bold red", "paused": "cyan", "draining": "cyan"}


def list_all(environ: Mapping[str, str], data_dir: Path | None, *, as_json: bool) -> None:
    """List the carriers."""
    page = client.connect(environ, data_dir).get(path_of("carriers"))
    if as_json:
        client.print_json(page)
        return
    columns = ("carrier", "kind", "channel", "state", "since", "breaker", "queue", "in flight", "sent", "failed", "why")
    rows = [
        (
            c["name"],
            c["kind"],
            c["channel"],
            show.text(c["state"], _STYLES.get(c["state"], "")),
            (c["since"] or "")[:19].replace("T", " "),
            c["breaker"],
            f"{c['queue']} ({show.duration(c['queue_age_s'])})" if c["queue"] else "0",
            c["in_flight"],
            c["sent"],
            c["failed"],
            c["reason"] or "",
        )
        for c in page["data"]
    ]
    show.console().print(show.table(columns, rows))


def order(environ: Mapping[str, str], data_dir: Path | None, name: str, what: str, *, as_json: bool) -> None:
    """Pause, resume or drain a carrier."""
    carrier = client.connect(environ, data_dir).request("POST", path_of("carriers", name, what))
    if as_json:
        client.print_json(carrier)
    else:
        why = f" ({carrier['reason']})" if carrier["reason"] else ""
        sys.stdout.write(f"carrier {name} is {carrier['state']}{why}\n")


def explain(
    environ: Mapping[str, str], data_dir: Path | None, tenant: str, request: Mapping[str, Any], *, as_json: bool
) -> None:
    """Show every candidate for a message, in order, with the reason it is in or out."""
    node = client.connect(environ, data_dir)
    answer = node.request("POST", path_of("routes", "explain"), {**request, "tenant": tenant})
    if as_json:
        client.print_json(answer)
        return
    rows = [
        (
            c["channel"],
            c["carrier"],
            show.text("yes", "green") if c["eligible"] else show.text("no", "red"),
            "" if c["price"] is None else f"{c['price']:g}",
            c["reason"],
        )
        for c in answer["candidates"]
    ]
    show.console().print(show.table(("channel", "carrier", "asked", "price", "why"), rows))


def trace(
    environ: Mapping[str, str],
    data_dir: Path | None,
    name: str,
    seconds: float,
    *,
    as_json: bool,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> None:
    """Follow one carrier: its actors log at level debug meanwhile, and its lines are shown.

    The node keeps the last 500 lines of its log; when more come between two looks, that is told.
    """
    node = client.connect(environ, data_dir)
    carrier = node.get(path_of("carriers", name))
    actor = f"smpp/{name}" if carrier["kind"] == "smpp" else f"provider/{name}"
    level = f"/v1/actors/{quote(actor, safe='/')}/log-level"
    node.request("POST", level, {"level": "debug"})
    end = now() + seconds
    last = node.get("/v1/log", limit=1)["last"]
    try:
        while now() < end:
            sleep(TRACE_EVERY_S)
            page = node.get("/v1/log", after=last, limit=LINES)
            if len(page["data"]) == LINES:
                sys.stderr.write(f"hermes: {LINES} lines or more came at once; only the last are here\n")
            last = page["last"]
            for line in page["data"]:
                if line["facts"].get("carrier") == name:
                    _show_line(line, as_json)
            sys.stdout.flush()
    except KeyboardInterrupt:
        return
    finally:
        node.request("POST", level, {"level": None})


def _show_line(line: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(line) + "\n")
        return
    facts = {
        key: value for key, value in line["facts"].items() if key not in ("actor", "carrier") and value is not None
    }
    if line["event"] == "pdu":
        mark = {"out": ">", "in": "<"}.get(str(facts.get("direction")), " ")
        said = f"{mark} bind {facts.get('bind')} {facts.get('pdu')}"
    else:
        said = line["event"] + "".join(f"  {key}={value}" for key, value in facts.items())
    sys.stdout.write(client.clean(f"{line['at'][11:23]} {said}") + "\n")
