"""`hermes send` and `hermes message`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import typer

from hermes.cli import client, show
from hermes.errors import SettingsError

# The field of `to` that holds a channel's address.
_FIELDS: Final = {"email": "email", "sms": "phone", "push": "push", "whatsapp": "whatsapp"}
_CONTENT: Final = ("text", "subject", "html", "title")


def request_body(options: Mapping[str, Any], body: str | None) -> dict[str, Any]:
    """Make the request that `hermes send`'s options describe.

    Args:
        options: those that were given, by the names of the request's fields.
        body: a file that holds the whole request, `-` for standard input; then no option may be given.

    Raises:
        typer.BadParameter: they do not make a request.
    """
    if body is not None:
        if options:
            raise typer.BadParameter("--body holds the whole request; leave the other options out")
        return _read_request(body)
    if not options.get("to"):
        raise typer.BadParameter("--to is missing: to whom?")
    to: dict[str, str] = {}
    steps: list[dict[str, Any]] = []
    for entry in options["to"]:
        channel, address = _channel_and_address(entry)
        if to.setdefault(_FIELDS[channel], address) != address:
            raise typer.BadParameter(f"--to: two addresses for {channel}")
        step: dict[str, Any] = {"channel": channel}
        if "timeout_s" in options:
            step["timeout_s"] = options["timeout_s"]
        steps.append(step)
    content = {name: options[name] for name in _CONTENT if name in options}
    request: dict[str, Any] = {"to": to, "cascade": steps, "content": content}
    senders = dict(_channel_and_address(entry) for entry in options.get("from", ()))
    if senders:
        request["from"] = senders
    others = ("category", "expires_in_s", "reference", "callback_url")
    return request | {name: options[name] for name in others if name in options}


def _channel_and_address(entry: str) -> tuple[str, str]:
    channel, equals, address = entry.partition("=")
    if not equals or channel not in _FIELDS:
        if entry.startswith("+"):
            return "sms", entry
        if "@" in entry:
            return "email", entry
        raise typer.BadParameter(f'expected CHANNEL=ADDRESS with email, sms, push or whatsapp, got "{entry}"')
    return channel, address


def _read_request(body: str) -> dict[str, Any]:
    try:
        content = sys.stdin.read() if body == "-" else Path(body).read_text(encoding="utf-8")
        request = json.loads(content)
    except (OSError, ValueError) as exc:
        raise typer.BadParameter(f"--body: {getattr(exc, 'strerror', None) or exc}") from exc
    if not isinstance(request, dict):
        raise typer.BadParameter("--body: expected a JSON object")
    return request


def send(
    environ: Mapping[str, str],
    data_dir: Path | None,
    key: str | None,
    request: Mapping[str, Any],
    idempotency_key: str | None,
    *,
    as_json: bool,
) -> None:
    """Send a message as a tenant: `--key`, else HERMES_API_KEY, else the demo's key if the demo is meant."""
    place = client.find(environ, data_dir)
    used = key or environ.get("HERMES_API_KEY") or _demo_key(place)
    if not used:
        raise SettingsError("a tenant's API key is needed: set HERMES_API_KEY or use --key")
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    try:
        accepted = client.Client(place.url, used).request("POST", "/v1/messages", request, headers)
    except client.Refused as exc:
        if as_json and exc.problem:
            client.print_json(exc.problem)
        raise
    if as_json:
        client.print_json(accepted)
        return
    out = show.console()
    out.print(show.text(accepted["id"], "bold"), show.text(accepted["status"], "green"))
    out.print(f"hermes message {client.clean(accepted['id'])}", style="dim")


def _demo_key(place: client.Place) -> str | None:
    try:
        kept = json.loads((place.folder / "demo.json").read_text(encoding="utf-8"))
        return str(kept["api_key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def show_message(environ: Mapping[str, str], data_dir: Path | None, message_id: str, *, as_json: bool) -> None:
    """Show a message: its timeline, or the document of GET."""
    document = client.connect(environ, data_dir).get(client.path_of("messages", message_id))
    if as_json:
        client.print_json(document)
        return
    out = show.console()
    out.print(show.timeline(document, ascii_only=not show.unicode_ok(out)))
