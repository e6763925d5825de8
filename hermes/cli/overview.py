"""`hermes top`: what stands out in a node, again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from hermes.cli import client, show

_CARRIER_STYLES: Final = {
    "up": "green",
    "degraded": "yellow",
    "down": "bold red",
    "paused": "cyan",
    "draining": "cyan",
}
SORTS: Final = ("mailbox", "time", "restarts")


def run(
    environ: Mapping[str, str],
    data_dir: Path | None,
    every_s: float | None,
    limit: int,
    sort: str,
    *,
    as_json: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show the overview once (`every_s` None, or as JSON), or again and again until Ctrl-C."""
    node = client.connect(environ, data_dir)
    if as_json:
        client.print_json(node.get("/v1/overview", limit=limit))
        return
    out = show.console()
    if every_s is None:
        out.print(page(node.get("/v1/overview", limit=limit), None, sort, limit))
        return
    before: Mapping[str, Any] | None = None
    seen: RenderableType = Text()
    try:
        with Live(console=out, screen=out.is_terminal, auto_refresh=False) as live:
            while True:
                try:
                    found = node.get("/v1/overview", limit=limit)
                    seen = page(found, before, sort, limit)
                    before = found
                    live.update(seen, refresh=True)
                except client.NoAnswer as exc:
                    live.update(Group(Text(client.clean(exc), style="red"), seen), refresh=True)
                sleep(every_s)
    except KeyboardInterrupt:
        return


def page(found: Mapping[str, Any], before: Mapping[str, Any] | None, sort: str, limit: int) -> RenderableType:
    """Draw one look; `before` is the last one, for what happened since."""
    shares = time_shares(found, before)
    return Group(
        _head(found, before),
        Text(),
        _actors(found, shares, sort, limit),
        Text(),
        _carriers(found),
        Text(),
        _tenants(found),
        *_decisions(found),
    )


def time_shares(found: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the share of one core that each actor took since `before`; since its start without one."""
    then: dict[str, float] = {}
    passed = float(found["uptime_s"])
    if before is not None and before["uptime_s"] < found["uptime_s"]:
        passed -= float(before["uptime_s"])
        then = {actor["name"]: actor["time_spent_s"] for actor in before["actors"]}
    shares: dict[str, float] = {}
    for actor in found["actors"]:
        spent = actor["time_spent_s"] - then.get(actor["name"], 0.0)
        if spent >= 0 and (not then or actor["name"] in then):
            shares[actor["name"]] = spent / passed if passed > 0 else 0.0
    return shares


def _head(found: Mapping[str, Any], before: Mapping[str, Any] | None) -> Text:
    messages, journal = found["messages"], found["journal"]
    state = Text("ready", style="green") if found["ready"] else Text("NOT READY", style="bold red")
    ended = sum(found["final"].values())
    rate = ""
    if before is not None and found["uptime_s"] > before["uptime_s"]:
        passed = found["uptime_s"] - before["uptime_s"]
        rate = f", {(ended - sum(before['final'].values())) / passed:,.1f}/s"
    workers, unreachable = found.get("workers", 1), found.get("workers_unreachable", 0)
    return Text.assemble(
        f"hermes {client.clean(found['version'])}  ",
        state,
        f"  up {show.duration(found['uptime_s'])}  {found['actors_total']:,} actors",
        f" on {workers} workers" if workers > 1 else "",
        (f", {unreachable} UNREACHABLE" if unreachable else "", "bold red"),
        "\n",
        f"accepted {found['accepted']:,} ({found['accepted_per_s']:,.1f}/s)  ended {ended:,}{rate}  "
        f"open {messages.get('active', 0):,} + {messages.get('parked', 0):,} parked  "
        f"webhooks {found['webhooks_pending']:,}  journal ",
        ("up" if journal["up"] else "AWAY", "green" if journal["up"] else "bold red"),
        f", {journal['queue']:,} queued",
    )


def _actors(found: Mapping[str, Any], shares: Mapping[str, float], sort: str, limit: int) -> RenderableType:
    keys: dict[str, Callable[[Mapping[str, Any]], float]] = {
        "mailbox": lambda a: a["mailbox"],
        "time": lambda a: shares.get(a["name"], 0.0),
        "restarts": lambda a: a["restarts"],
    }
    first = [keys[sort], *(keys[name] for name in SORTS if name != sort)]
    actors = sorted(found["actors"], key=lambda a: tuple(key(a) for key in first), reverse=True)[:limit]
    return show.table(
        ("actor", "state", "mailbox", "cpu %", "restarts", "messages in", "last error"),
        [
            (
                a["name"],
                show.state(a["state"]),
                f"{a['mailbox']:,}",
                f"{shares[a['name']] * 100:.1f}" if a["name"] in shares else "",
                a["restarts"],
                f"{a['messages_in']:,}",
                show.text(a["last_error"], "red"),
            )
            for a in actors
        ],
    )


def _carriers(found: Mapping[str, Any]) -> RenderableType:
    return show.table(
        (f"carrier ({found['carriers_total']:,})", "state", "per s", "queue", "in flight", "sent", "failed", "why"),
        [
            (
                c["name"],
                show.text(c["state"], _CARRIER_STYLES.get(c["state"], "")),
                f"{c['rate_per_s']:,.1f}",
                f"{c['queue']:,} ({show.duration(c['queue_age_s'])})" if c["queue"] else "0",
                c["in_flight"],
                f"{c['sent']:,}",
                f"{c['failed']:,}",
                c["reason"] or "",
            )
            for c in found["carriers"]
        ],
    )


def _tenants(found: Mapping[str, Any]) -> RenderableType:
    return show.table(
        (f"tenant ({found['tenants_total']:,})", "name", "per s", "accepted"),
        [(t["id"], t["name"], f"{t['rate_per_s']:,.1f}", f"{t['accepted']:,}") for t in found["tenants"]],
    )


def _decisions(found: Mapping[str, Any]) -> list[RenderableType]:
    if not found["decisions"]:
        return []
    rows = [
        (d["at"][:19].replace("T", " "), d["supervisor"], d["child"], show.text(d["decision"], "yellow"), d["reason"])
        for d in found["decisions"][:5]
    ]
    return [Text(), show.table(("decided", "supervisor", "child", "what", "why"), rows)]
