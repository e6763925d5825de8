"""`hermes tenant`, `hermes key` and `hermes dead-letters`: the operator's part of the API."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.progress import track

from hermes.cli import client, show
from hermes.cli.client import path_of


def create(environ: Mapping[str, str], data_dir: Path | None, name: str, *, as_json: bool) -> None:
    """Make a tenant."""
    tenant = client.connect(environ, data_dir).request("POST", path_of("tenants"), {"name": name})
    show_one(tenant, as_json)


def list_all(environ: Mapping[str, str], data_dir: Path | None, *, as_json: bool) -> None:
    """List the tenants."""
    page = client.connect(environ, data_dir).get(path_of("tenants"))
    show_list(page, ("id", "name", "status"), "no tenants", as_json)


def show_tenant(environ: Mapping[str, str], data_dir: Path | None, tenant: str, *, as_json: bool) -> None:
    """Show a tenant, and what is used of its quotas."""
    node = client.connect(environ, data_dir)
    found = node.get(path_of("tenants", tenant))
    quotas = node.get(path_of("tenants", tenant, "quotas"))["data"]
    if as_json:
        client.print_json({**found, "quotas_used": {line["quota"]: line["used"] for line in quotas}})
        return
    show_one(found | {"quotas": None}, as_json)
    limited = [line for line in quotas if line["limit"]]
    if limited:
        show_list({"data": limited}, ("quota", "limit", "used", "resets_at"), "", as_json)


def suspend(environ: Mapping[str, str], data_dir: Path | None, tenant: str, *, as_json: bool) -> None:
    """Take no more messages from a tenant."""
    node = client.connect(environ, data_dir)
    show_one(node.request("PUT", path_of("tenants", tenant), {"status": "suspended"}), as_json)


def resume(environ: Mapping[str, str], data_dir: Path | None, tenant: str, *, as_json: bool) -> None:
    """Take messages from a suspended tenant again."""
    node = client.connect(environ, data_dir)
    show_one(node.request("PUT", path_of("tenants", tenant), {"status": "active"}), as_json)


def approve(environ: Mapping[str, str], data_dir: Path | None, tenant: str, *, as_json: bool) -> None:
    """Let a tenant that signed up into the sandbox."""
    node = client.connect(environ, data_dir)
    show_one(node.request("PUT", path_of("tenants", tenant), {"stage": "sandbox", "status": "active"}), as_json)


def promote(environ: Mapping[str, str], data_dir: Path | None, tenant: str, *, as_json: bool) -> None:
    """Let a tenant collect its first live key."""
    node = client.connect(environ, data_dir)
    show_one(node.request("POST", path_of("tenants", tenant, "promote")), as_json)


def onboard(
    environ: Mapping[str, str],
    data_dir: Path | None,
    name: str,
    email: str | None,
    webhook: str | None,
    *,
    production: bool,
    as_json: bool,
) -> None:
    """Make a tenant with a test key, and a webhook endpoint and a live key where they are asked for."""
    node = client.connect(environ, data_dir)
    body = {"name": name, "stage": "production" if production else "sandbox"}
    if email is not None:
        body["email"] = email
    tenant = node.request("POST", path_of("tenants"), body)
    path = ("tenants", str(tenant["id"]))
    made: dict[str, Any] = {"tenant": tenant["id"], "stage": body["stage"]}
    made["test_key"] = node.request("POST", path_of(*path, "keys"), {"mode": "test"})["key"]
    if production:
        made["api_key"] = node.request("POST", path_of(*path, "keys"), {"mode": "live"})["key"]
    if webhook is not None:
        made["webhook_secret"] = node.request("POST", path_of(*path, "webhooks"), {"url": webhook})["secret"]
    made["url"] = node.url
    show_one(made, as_json)


def audit(environ: Mapping[str, str], data_dir: Path | None, tenant: str | None, limit: int, *, as_json: bool) -> None:
    """List what was changed, newest first."""
    node = client.connect(environ, data_dir)
    path = path_of("audit") if tenant is None else path_of("tenants", tenant, "audit")
    changes = list(node.pages(path, limit))
    columns = ("at", "actor", "tenant", "action", "target", "before", "after")
    show_list({"data": changes}, columns, "no changes", as_json)


def delete(environ: Mapping[str, str], data_dir: Path | None, tenant: str, *, as_json: bool) -> None:
    """End a tenant and its keys."""
    client.connect(environ, data_dir).request("DELETE", path_of("tenants", tenant))
    show_done(f"tenant {tenant} is deleted", {"id": tenant, "deleted": True}, as_json)


def create_key(
    environ: Mapping[str, str],
    data_dir: Path | None,
    tenant: str,
    mode: str,
    scopes: Sequence[str],
    *,
    as_json: bool,
) -> None:
    """Make a key, and show it this once."""
    body: dict[str, Any] = {"mode": mode}
    if scopes:
        body["scopes"] = list(scopes)
    show_one(client.connect(environ, data_dir).request("POST", path_of("tenants", tenant, "keys"), body), as_json)


def list_keys(environ: Mapping[str, str], data_dir: Path | None, tenant: str, *, as_json: bool) -> None:
    """List a tenant's keys."""
    page = client.connect(environ, data_dir).get(path_of("tenants", tenant, "keys"))
    columns = ("id", "prefix", "mode", "scopes", "allow_from", "created_at", "expires_at")
    show_list(page, columns, "no keys", as_json)


def rotate_key(
    environ: Mapping[str, str],
    data_dir: Path | None,
    tenant: str,
    key_id: str,
    overlap_s: float,
    *,
    as_json: bool,
) -> None:
    """Make a key's successor, and show it this once."""
    path = path_of("tenants", tenant, "keys", key_id, "rotate")
    show_one(client.connect(environ, data_dir).request("POST", path, {"overlap_s": overlap_s}), as_json)


def revoke_key(environ: Mapping[str, str], data_dir: Path | None, tenant: str, key_id: str, *, as_json: bool) -> None:
    """End a key."""
    client.connect(environ, data_dir).request("DELETE", path_of("tenants", tenant, "keys", key_id))
    show_done(f"key {key_id} is revoked", {"id": key_id, "revoked": True}, as_json)


def list_dead_letters(
    environ: Mapping[str, str], data_dir: Path | None, tenant: str, limit: int, *, as_json: bool
) -> None:
    """List a tenant's dead letters."""
    node = client.connect(environ, data_dir)
    letters = list(node.pages(path_of("tenants", tenant, "dead-letters"), limit))
    columns = ("id", "type", "target", "attempts", "dead_at", "last_error")
    show_list({"data": letters}, columns, "no dead letters", as_json)


def replay(
    environ: Mapping[str, str],
    data_dir: Path | None,
    tenant: str,
    ids: Iterable[str] | None,
    *,
    as_json: bool,
) -> None:
    """Send dead letters again; None: all there are now.

    Raises:
        Failed: some could not be; the others were.
    """
    node = client.connect(environ, data_dir)
    path = path_of("tenants", tenant, "dead-letters")
    wanted = list(ids) if ids is not None else [str(letter["id"]) for letter in node.pages(path)]
    errors: list[str] = []
    replayed: list[str] = []
    shown = Console(stderr=True)
    for letter in track(wanted, "Replaying", console=shown, disable=not shown.is_terminal or len(wanted) < 2):
        try:
            node.request("POST", f"{path}/{quote(letter, safe='')}/replay")
            replayed.append(letter)
        except client.Refused as exc:
            errors.append(f"{client.clean(letter)}: {exc}")
    said = f"{len(replayed)} dead letter{'' if len(replayed) == 1 else 's'} will be sent again"
    show_done(said, {"replayed": replayed, "errors": errors}, as_json)
    if errors:
        raise client.Failed("\n".join(errors))


def show_one(document: Mapping[str, Any], as_json: bool) -> None:
    """Print the facts of one thing."""
    if as_json:
        client.print_json(document)
    else:
        show.console().print(show.facts((name, _words(value)) for name, value in document.items()))


def show_list(page: Mapping[str, Any], columns: Sequence[str], nothing: str, as_json: bool) -> None:
    """Print a table of a list; `nothing` when it is empty."""
    if as_json:
        client.print_json(page)
    elif not page["data"]:
        sys.stdout.write(nothing + "\n")
    else:
        rows = ([_words(item.get(name)) for name in columns] for item in page["data"])
        show.console().print(show.table([name.replace("_", " ") for name in columns], rows))


def show_done(said: str, document: Mapping[str, Any], as_json: bool) -> None:
    """Print what was done: a sentence, or a document."""
    if as_json:
        client.print_json(document)
    else:
        sys.stdout.write(client.clean(said) + "\n")


def _words(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_words(item)}" for name, item in value.items())
    return ", ".join(str(item) for item in value) if isinstance(value, list) else value
