"""What results look like: tables, a message's timeline, the tree of actors. Documents in, renderables out.

Everything from a document goes through `clean` and into `Text`, never into markup: a customer's reference
must not colour or steer an operator's terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from hermes.cli.client import clean

# How the type of an event, or a status, is shown: mark, the same in ASCII, style.
_MARKS: Final[dict[str, tuple[str, str, str]]] = {
    "accepted": ("●", "*", "bold"),
    "scheduled": ("◷", "@", "bold"),
    "in_progress": ("●", "*", "cyan"),
    "submitted": ("→", ">", "cyan"),
    "rejected": ("✗", "x", "red"),
    "undelivered": ("✗", "x", "red"),
    "timed_out": ("◌", "o", "yellow"),
    "ambiguous": ("?", "?", "magenta"),
    "fallback": ("↳", "\\", "yellow"),
    "receipt": ("·", ".", "dim"),
    "superseded": ("–", "-", "dim"),
    "delivered": ("✓", "+", "bold green"),
    "corrected": ("✓", "+", "bold green"),
    "failed": ("✗", "x", "bold red"),
    "expired": ("✗", "x", "bold yellow"),
    "cancelled": ("–", "-", "bold yellow"),
    "unknown": ("?", "?", "bold magenta"),
}
_STATES: Final[dict[str, str]] = {
    "init": "yellow",
    "sleep": "green",
    "running": "green",
    "wait": "cyan",
    "suspended": "magenta",
    "back_off": "red",
    "disabled": "magenta",
    "down": "red",
    "terminated": "red",
    "unreachable": "bold red",
    "starting": "yellow",
}
_PIPED_WIDTH: Final = 200  # columns where there is no terminal, so that no cell wraps


def console() -> Console:
    """Make the console of standard output: colour and broken lines on a terminal only."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _PIPED_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def unicode_ok(console: Console) -> bool:
    """Tell whether the console's encoding has our marks."""
    return console.encoding.lower().startswith("utf")


def text(value: object, style: str = "") -> Text:
    """Wrap a value of a document for the terminal; None is empty."""
    return Text("" if value is None else clean(value), style=style)


def state(name: object) -> Text:
    """Write the state of an actor, in its colour."""
    shown = clean(name)
    return Text(shown, style=_STATES.get(shown, "yellow"))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Lay rows out under columns, without a frame."""
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else text(cell) for cell in row))
    return made


def facts(pairs: Iterable[tuple[str, object]]) -> Table:
    """Lay names and values out in two columns; what is None is left out."""
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None:
            made.add_row(name, value if isinstance(value, Text) else text(value))
    return made


# --- times


def duration(seconds: float) -> str:
    """Write a time span with two units at most: 12 ms, 3.2 s, 1 m 05 s, 2 h 03 m, 4 d 01 h."""
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if seconds < 0.9995:
        return f"{sign}{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{sign}{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{sign}{whole // 60} m {whole % 60:02d} s"
    if whole < 86400:
        return f"{sign}{whole // 3600} h {whole % 3600 // 60:02d} m"
    return f"{sign}{whole // 86400} d {whole % 86400 // 3600:02d} h"


def instant(value: object) -> datetime | None:
    """Read an RFC 3339 time of a document; None for what is none."""
    try:
        return datetime.fromisoformat(str(value))
    except ValueError:
        return None


def _between(start: object, end: object) -> float | None:
    first, last = instant(start), instant(end)
    return None if first is None or last is None else (last - first).total_seconds()


def _clock(value: object) -> str | None:
    at = instant(value)
    return None if at is None else at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"


# --- a message


def timeline(message: Mapping[str, Any], *, ascii_only: bool = False) -> RenderableType:
    """Draw a message as GET shows it: what it is, then each event with its time since the beginning."""
    cascade = [step for step in message.get("cascade") or () if isinstance(step, dict)]
    status = str(message.get("status"))
    mark, style = _mark(status, ascii_only)
    head = Text.assemble((clean(message.get("id")), "bold"), "  ", (f"{mark} {clean(status)}", style))
    by = message.get("delivered_by")
    if isinstance(by, int) and 0 <= by < len(cascade):
        head.append(f" by step {by}, {clean(cascade[by].get('channel'))}")
    took = _between(message.get("created_at"), message.get("final_at"))
    if took is not None:
        head.append(f", {duration(took)} after it was accepted", "dim")
    to = message.get("to")
    about = facts(
        (
            ("tenant", message.get("tenant")),
            ("reference", message.get("reference")),
            ("category", message.get("category")),
            ("to", ", ".join(f"{k} {v}" for k, v in to.items()) if isinstance(to, dict) else None),
            ("cascade", (" > " if ascii_only else " → ").join(_step_words(step) for step in cascade) or None),
            ("created", _clock(message.get("created_at"))),
            ("expires", None if message.get("final_at") else _clock(message.get("expires_at"))),
            ("cost", message.get("cost")),
        )
    )
    carriers = {
        (attempt.get("step"), attempt.get("attempt")): attempt.get("carrier")
        for attempt in message.get("attempts") or ()
    }
    lines = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    lines.add_column("after", justify="right", no_wrap=True)
    for column in ("", "event", "step", "try", "carrier"):
        lines.add_column(column, no_wrap=True)
    lines.add_column("what", overflow="fold")
    for event in message.get("events") or ():
        lines.add_row(*_event_cells(event, message, cascade, carriers, ascii_only))
    return Group(head, about, Text(), lines)


def _mark(type: str, ascii_only: bool) -> tuple[str, str]:
    mark, plain, style = _MARKS.get(type, ("·", ".", ""))
    return (plain if ascii_only else mark), style


def _step_words(step: Mapping[str, Any]) -> str:
    words = f"{step.get('channel')}"
    if step.get("timeout_s") is not None:
        words += f" {duration(float(step['timeout_s'])).replace('.0 s', ' s').replace(' m 00 s', ' m')}"
    return words if step.get("success") in (None, "delivered") else f"{words} ({step['success']})"


def _event_cells(
    event: Mapping[str, Any],
    message: Mapping[str, Any],
    cascade: Sequence[Mapping[str, Any]],
    carriers: Mapping[Any, Any],
    ascii_only: bool,
) -> Iterator[Text]:
    data = event.get("data")
    data = data if isinstance(data, dict) else {}
    type, step = str(event.get("type")), event.get("step")
    mark, style = _mark(type, ascii_only)
    after = _between(message.get("created_at"), event.get("at"))
    yield Text("" if after is None else duration(after), style="dim")
    yield Text(mark, style=style)
    yield text(type, style)
    channel = cascade[step].get("channel") if isinstance(step, int) and 0 <= step < len(cascade) else ""
    yield text("" if step is None else f"{step} {channel}")
    yield text(event.get("attempt"))
    nested = data.get("receipt") if isinstance(data.get("receipt"), dict) else {}
    intent = data.get("next") if isinstance(data.get("next"), dict) else {}
    carrier = data.get("carrier") or (nested or {}).get("carrier")
    if carrier is None and step is not None:  # a fallback names the carrier that is asked next
        carrier = (intent or {}).get("carrier") or carriers.get((step, event.get("attempt")))
    yield text(carrier)
    yield text(_what(type, data, message))


def _what(type: str, data: Mapping[str, Any], message: Mapping[str, Any]) -> str:
    """Say in words what an event's data tell."""
    said: list[str] = []
    error = data.get("error")
    receipt = data.get("receipt")
    receipt = receipt if isinstance(receipt, dict) else {}
    if isinstance(error, dict):
        known = [str(error[name]) for name in ("class", "code") if error.get(name)]
        said.append(" ".join(known) + (f": {error['detail']}" if error.get("detail") else ""))
    if type == "submitted":
        ids = data.get("carrier_message_ids") or []
        if ids:
            said.append(f"id {ids[0]}" + (f" and {len(ids) - 1} more" if len(ids) > 1 else ""))
        if (data.get("segments") or 0) > 1:
            said.append(f"{data['segments']} segments")
    elif type == "timed_out" and data.get("timeout_s") is not None:
        said.append(f"no receipt within {duration(float(data['timeout_s']))}")
    elif type == "receipt" and data.get("status"):
        said.append(str(data["status"]))
    elif type in ("fallback", "superseded") and data.get("reason"):
        said.append(str(data["reason"]).replace("_", " "))
    elif type == "ambiguous" and data.get("policy"):
        said.append(f"policy {data['policy']}")
    elif type == "scheduled" and data.get("send_at"):
        said.append(f"for {_clock(data['send_at'])}")
    elif type == "corrected" and data.get("from"):
        said.append(f"was {data['from']}")
    if receipt.get("status"):
        said.append(f"receipt {receipt['status']}")
    after = _between(message.get("created_at"), (data.get("next") or {}).get("not_before"))
    if after is not None and type in ("rejected", "ambiguous"):
        said.append(f"next try after {duration(after)}")
    return ", ".join(said)


# --- actors


def actor_table(root: Mapping[str, Any], *, ascii_only: bool = False) -> Table:
    """Draw a family of actors as /v1/actors shows it, one line an actor; what was left out is counted.

    Below a worker's line its actors go by their own names: `worker/<id>/` is left out there.
    """
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    made.add_column("actor", no_wrap=True)
    made.add_column("state", no_wrap=True)
    for column in ("since", "restarts", "mailbox", "messages in"):
        made.add_column(column, justify="right", no_wrap=True)
    made.add_column("how it is", overflow="fold")
    guides = ("|- ", "`- ", "|  ", "   ") if ascii_only else ("├─ ", "└─ ", "│  ", "   ")
    for prefix, actor, worker in _family(root, "", "", guides):
        if isinstance(actor, int):
            made.add_row(Text.assemble((prefix, "dim"), (f"... and {actor:,} more", "dim italic")))
            continue
        total = actor.get("children_total")
        name = Text.assemble((prefix, "dim"), clean(actor.get("name")).removeprefix(worker))
        if isinstance(total, int) and total > len(actor.get("children") or ()):
            name.append(f" ({total:,})", "dim")
        restarts, mailbox = actor.get("restarts") or 0, actor.get("mailbox") or 0
        state = clean(actor.get("state"))
        made.add_row(
            name,
            Text(state, style=_STATES.get(state, "yellow")),
            Text(_age(actor), style="dim"),
            Text(f"{restarts:,}", style="yellow" if restarts else "dim"),
            Text(f"{mailbox:,}", style="yellow" if mailbox else "dim"),
            Text(f"{actor.get('messages_in') or 0:,}", style="dim"),
            _said_of_itself(actor),
        )
    return made


def _said_of_itself(actor: Mapping[str, Any]) -> Text:
    """Say how a carrier or a bind is, since when and why; of every other actor its last error."""
    detail = actor.get("detail") or {}
    if actor.get("kind") == "Worker":
        return _registered(detail)
    state, last_error = detail.get("state"), actor.get("last_error")
    said: list[str | tuple[str, str]] = []
    if isinstance(state, str) and detail.get("since"):
        well = state in ("up", "bound")
        since = instant(detail["since"])
        age = ""
        if not well and since is not None and since.tzinfo is not None:
            age = f" for {duration(max((datetime.now(since.tzinfo) - since).total_seconds(), 0.0))}"
        said.append((clean(state) + age, "dim" if well else "red"))
        why = None if well else detail.get("last_error") if state in ("connecting", "refused") else detail.get("reason")
        if why:
            said.append((f": {clean(why)}", "red"))
        if detail.get("held_by"):
            said.append((f", held by worker {clean(detail['held_by'])}", "dim"))
        if detail.get("moved"):
            said.append((f", {clean(detail['moved'])}", "dim"))
        if detail.get("queue"):
            said.append((f", {detail['queue']:,} wait", "yellow"))
    if last_error:
        said.append(((" / " if said else "") + clean(last_error), "red"))
    return Text.assemble(*said)


def _registered(detail: Mapping[str, Any]) -> Text:
    """Say what the database knows of a worker, and how many messages are open on it."""
    open_ = detail.get("open")
    said = f"pid {detail.get('pid')} on {clean(detail.get('host'))}, {detail.get('shards')} shards"
    return Text(said + (f", {open_:,} open" if isinstance(open_, int) else ""), style="dim")


def _family(
    actor: Mapping[str, Any], here: str, below: str, guides: tuple[str, str, str, str], worker: str = ""
) -> Iterator[tuple[str, Mapping[str, Any] | int, str]]:
    """Walk a family in order: the guides before a name, the actor or how many are not shown, the worker's prefix."""
    branch, last, pipe, space = guides
    yield here, actor, worker
    if actor.get("kind") == "Worker":
        worker = f"{actor.get('name')}/"
    children = [child for child in actor.get("children") or () if isinstance(child, dict)]
    total = actor.get("children_total")
    more = total - len(children) if isinstance(total, int) else 0
    for n, child in enumerate(children, 1):
        is_last = n == len(children) and more <= 0
        end, beside = (last, space) if is_last else (branch, pipe)
        yield from _family(child, below + end, below + beside, guides, worker)
    if more > 0:
        yield below + last, more, worker


def _age(actor: Mapping[str, Any]) -> str:
    """Say how long the actor has been in its state, by this machine's clock; by its own count without one."""
    since = instant(actor.get("since"))
    if since is not None and since.tzinfo is not None:
        return duration(max((datetime.now(since.tzinfo) - since).total_seconds(), 0.0))
    uptime = actor.get("uptime_s")
    return duration(float(uptime)) if isinstance(uptime, int | float) and uptime > 0 else ""


def actor_facts(actor: Mapping[str, Any], *, ascii_only: bool = False) -> RenderableType:
    """Draw one actor: its counters, what it says of itself, its children."""
    state = clean(actor.get("state"))
    shown = facts(
        (
            ("name", text(actor.get("name"), "bold")),
            ("kind", actor.get("kind")),
            ("state", Text(state, style=_STATES.get(state, "yellow"))),
            ("since", _clock(actor.get("since"))),
            ("uptime", duration(float(actor.get("uptime_s") or 0))),
            ("restarts", actor.get("restarts")),
            ("mailbox", actor.get("mailbox")),
            ("messages in", actor.get("messages_in")),
            ("last error", text(actor["last_error"], "red") if actor.get("last_error") else None),
        )
    )
    parts: list[RenderableType] = [shown]
    detail = actor.get("detail")
    if isinstance(detail, dict) and detail:
        parts += [Text(), facts((clean(name), _flat(value)) for name, value in detail.items())]
    if actor.get("children"):
        parts += [Text(), actor_table(actor, ascii_only=ascii_only)]
    return Group(*parts)


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_flat(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(_flat(item) for item in value)
    return "" if value is None else str(value)
