"""`hermes suppression`, `consent`, `erase` and `usage`: who may be written to, and how much was."""

from __future__ import annotations

import contextlib
import csv
import io
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlencode

import typer
from rich.console import Console
from rich.progress import Progress, track

from hermes.cli import client
from hermes.cli.client import path_of
from hermes.cli.tenants import show_done, show_list, show_one

ROWS_AT_ONCE: Final = 10_000  # of a file in one request; the node takes no more
REFUSED_SHOWN: Final = 20
LOOK_EVERY_S: Final = 0.5
EVERYBODY: Final = "all"  # instead of a tenant: the operator's list, which holds for every tenant


def add(
    environ: Mapping[str, str],
    data_dir: Path | None,
    tenant: str,
    address: str,
    channel: str | None,
    reason: str | None,
    *,
    as_json: bool,
) -> None:
    """Put a recipient on a do-not-contact list."""
    body = {"address": _address(address), "channel": channel, "reason": reason}
    given = {name: value for name, value in body.items() if value is not None}
    show_one(client.connect(environ, data_dir).request("POST", _list_of(tenant), given), as_json)


def list_all(environ: Mapping[str, str], data_dir: Path | None, tenant: str, limit: int, *, as_json: bool) -> None:
    """List who is on a do-not-contact list."""
    entries = list(client.connect(environ, data_dir).pages(_list_of(tenant), limit))
    columns = ("id", "channel", "address", "reason", "created_at")
    show_list({"data": entries}, columns, "nobody is on the list", as_json)


def remove(
    environ: Mapping[str, str], data_dir: Path | None, tenant: str, ids: Sequence[str], *, as_json: bool
) -> None:
    """Take recipients off a do-not-contact list.

    Raises:
        Failed: some were not on it; the others are off it.
    """
    node = client.connect(environ, data_dir)
    errors: list[str] = []
    for entry in ids:
        try:
            node.request("DELETE", _list_of(tenant) + path_of(entry).removeprefix("/v1"))
        except client.Refused as exc:
            errors.append(f"{client.clean(entry)}: {exc}")
    gone = len(ids) - len(errors)
    said = f"{gone} {'entry is' if gone == 1 else 'entries are'} off the list"
    show_done(said, {"removed": gone, "errors": errors}, as_json)
    if errors:
        raise client.Failed("\n".join(errors))


def import_file(environ: Mapping[str, str], data_dir: Path | None, tenant: str, file: str, *, as_json: bool) -> None:
    """Put the recipients of a CSV file on a do-not-contact list, in parts; once more is harmless.

    Raises:
        typer.BadParameter: the file cannot be read, or is no CSV.
        Failed: some rows were refused; the others are on the list.
    """
    node = client.connect(environ, data_dir)
    names, rows = _rows(file)
    total: dict[str, int] = dict.fromkeys(("rows", "added", "known", "refused"), 0)
    refused: list[dict[str, Any]] = []
    shown = Console(stderr=True)
    parts = range(0, len(rows), ROWS_AT_ONCE)
    for start in track(parts, "Importing", console=shown, disable=not shown.is_terminal or len(parts) < 2):
        text = io.StringIO()
        csv.writer(text).writerows([names, *rows[start : start + ROWS_AT_ONCE]])
        told = node.request(
            "POST", _list_of(tenant) + "/import", text.getvalue().encode(), {"Content-Type": "text/csv"}
        )
        for name in total:
            total[name] += told[name]
        refused += [{**row, "row": row["row"] + start} for row in told["errors"]]
    said = f"{total['added']} added, {total['known']} known, {total['refused']} refused"
    show_done(said, {**total, "errors": refused}, as_json)
    if total["refused"]:
        lines = [f"row {row['row']}: {row['field']} {row['why']}" for row in refused[:REFUSED_SHOWN]]
        more = total["refused"] - len(lines)
        raise client.Failed("\n".join([*map(client.clean, lines), *([f"and {more} more"] if more else [])]))


def export_file(
    environ: Mapping[str, str], data_dir: Path | None, tenant: str, file: str | None, *, as_json: bool
) -> None:
    """Write a do-not-contact list as CSV, the form that `import` takes."""
    node = client.connect(environ, data_dir)
    shown = Console(stderr=True)
    count = 0
    quiet = not shown.is_terminal or file is None
    opened = contextlib.nullcontext(sys.stdout) if file is None else _opened(file)
    with Progress(console=shown, disable=quiet) as progress, opened as out:
        task = progress.add_task("Exporting", total=None)
        for n, part in enumerate(_parts(node, _list_of(tenant) + "/export")):
            out.write(part if n == 0 else part.partition("\n")[2])  # one line of names
            count += sum(1 for _ in csv.reader(io.StringIO(part, newline=""))) - 1
            progress.update(task, description=f"Exporting: {count}")
    if file is not None:
        show_done(f"{count} entries are in {file}", {"entries": count, "file": file}, as_json)


# --- consent
def agree(
    environ: Mapping[str, str],
    data_dir: Path | None,
    tenant: str,
    address: str,
    channel: str,
    category: str,
    proof: Mapping[str, str | None],
    *,
    as_json: bool,
) -> None:
    """Store that a recipient agreed."""
    given = {name: value for name, value in proof.items() if value is not None}
    body = {"channel": channel, "address": _address(address), "category": category, "proof": given}
    show_one(client.connect(environ, data_dir).request("POST", path_of("tenants", tenant, "consents"), body), as_json)


def list_consents(
    environ: Mapping[str, str], data_dir: Path | None, tenant: str, address: str | None, limit: int, *, as_json: bool
) -> None:
    """List a tenant's consents: all, or those of one recipient."""
    query = "" if address is None else "?" + urlencode({"address": _address(address)})
    path = path_of("tenants", tenant, "consents") + query
    consents = list(client.connect(environ, data_dir).pages(path, limit))
    columns = ("id", "channel", "category", "address", "proof", "created_at", "withdrawn_at")
    show_list({"data": consents}, columns, "no consents", as_json)


def withdraw(environ: Mapping[str, str], data_dir: Path | None, tenant: str, consent: str, *, as_json: bool) -> None:
    """Let a recipient's consent count no more."""
    path = path_of("tenants", tenant, "consents", consent, "withdraw")
    show_one(client.connect(environ, data_dir).request("POST", path), as_json)


# --- erasing
def erase(
    environ: Mapping[str, str],
    data_dir: Path | None,
    tenant: str,
    address: str,
    channel: str | None,
    *,
    wait: bool,
    as_json: bool,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Erase a recipient, and wait until it is done."""
    node = client.connect(environ, data_dir)
    body = {"address": _address(address)} | ({"channel": channel} if channel is not None else {})
    erasure = node.request("POST", path_of("tenants", tenant, "erasures"), body)
    shown = Console(stderr=True)
    with Progress(console=shown, disable=not shown.is_terminal or not wait) as progress:
        task = progress.add_task("Erasing", total=None)
        while wait and erasure["status"] == "running":
            progress.update(task, description=f"Erasing: {erasure['messages']} messages")
            pause(LOOK_EVERY_S)
            erasure = node.get(path_of("tenants", tenant, "erasures", str(erasure["id"])))
    show_one(erasure, as_json)


# --- usage
def usage(
    environ: Mapping[str, str],
    data_dir: Path | None,
    tenant: str,
    first: str | None,
    last: str | None,
    mode: str,
    *,
    as_json: bool,
) -> None:
    """Show what a tenant used, by day, channel, carrier and status."""
    query = {"from": first, "to": last, "mode": mode}
    page = client.connect(environ, data_dir).get(path_of("tenants", tenant, "usage"), **query)
    columns = ("day", "channel", "carrier", "status", "messages", "attempts", "segments", "cost")
    show_list(page, columns, "nothing was used", as_json)


# --- inside
def _list_of(tenant: str) -> str:
    return path_of("suppressions") if tenant == EVERYBODY else path_of("tenants", tenant, "suppressions")


def _address(given: str) -> str:
    """Take the address from the command line, or with `-` from standard input, where no other user can see it."""
    return sys.stdin.readline().strip() if given == "-" else given


def _rows(file: str) -> tuple[list[str], list[list[str]]]:
    """Read a CSV file: its line of names, and the rows."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
        names, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    except OSError as exc:
        raise typer.BadParameter(f"{file}: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise typer.BadParameter(f"{file}: is not UTF-8") from exc
    except csv.Error as exc:
        raise typer.BadParameter(f"{file}: is no CSV: {exc}") from exc
    except ValueError as exc:
        raise typer.BadParameter(f"{file}: is empty") from exc
    return names, rows


def _parts(node: client.Client, path: str) -> Iterator[str]:
    """Go through an export, part after part."""
    target: str | None = path
    while target is not None:
        status, headers, content = node.exchange("GET", target)
        if status != 200:
            node.request("GET", target)  # which says what was refused
            return
        yield content.decode()
        link = headers.get("link", "")
        target = link[1:].partition(">")[0] if link.startswith("<") else None


def _opened(file: str) -> IO[str]:
    try:
        return open(file, "w", encoding="utf-8", newline="")
    except OSError as exc:
        raise typer.BadParameter(f"{file}: {exc.strerror or exc}") from exc
