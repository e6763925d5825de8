"""`hermes carrier` and `hermes route`: how the carriers are, orders to them, and why a message takes which."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from hermes.cli import client, show
from hermes.cli.client import path_of

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
