"""The data folder: where it is, and the files in it that hold keys or say where its node is reached.

A node makes these files itself; none is a setting. The embedded database beside them is `hermes.journal.embedded`'s.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from hermes.errors import SettingsError


def data_folder(option: Path | str | None, environ: Mapping[str, str]) -> Path:
    """Name the folder that holds the embedded database and the keys; it need not exist.

    `--data-dir`, else `HERMES_DATA_DIR`, else `$XDG_DATA_HOME/hermes`, else `~/.local/share/hermes`.
    """
    chosen = str(option or "") or environ.get("HERMES_DATA_DIR", "")
    if chosen:
        return Path(chosen).expanduser().absolute()
    # XDG Base Directory Specification: a relative path there is to be ignored
    shared = environ.get("XDG_DATA_HOME", "")
    if not shared.startswith("/"):
        shared = os.path.join(environ.get("HOME", "") or os.path.expanduser("~"), ".local", "share")
    return Path(shared, "hermes").absolute()


def make_data_dir(folder: Path) -> Path:
    """Make the data folder, for its owner only; one that exists stays as it is.

    Raises:
        SettingsError: it cannot be made, or is no folder.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsError(f"--data-dir: {folder} cannot be made: {exc.strerror or exc}") from exc
    return folder


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read (0600), whole or not at all.

    Raises:
        SettingsError: it cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=path.name + ".", dir=path.parent)  # made 0600
        try:
            with open(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be written: {exc.strerror or exc}") from exc


def kept_secret(path: Path, make: Callable[[], str]) -> str:
    """Read a secret of this installation; at first start make it and keep it (0600).

    Raises:
        SettingsError: the file cannot be read or written, or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        text = make()
        write_private(path, text + "\n")
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"{path}: cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    if not text:
        raise SettingsError(f"{path}: is empty; remove it, and a new one is made at the next start")
    return text


def key_hash_secret(data_dir: Path) -> str:
    """Read the secret under which API keys are hashed; nodes over one database need the same."""
    return kept_secret(data_dir / "key-hash.secret", lambda: secrets.token_hex(32))


def operator_key(data_dir: Path, environ: Mapping[str, str]) -> str:
    """Read the operator key: `HERMES_OPERATOR_KEY`, else `operator.key` (0600, made at first start).

    Raises:
        SettingsError: the variable cannot stand in an HTTP header, or the file cannot be used.
    """
    key = environ.get("HERMES_OPERATOR_KEY", "")
    if key:
        if not re.fullmatch(r"[!-~]+", key):
            raise SettingsError("HERMES_OPERATOR_KEY: expected printable ASCII without spaces")
        return key
    return kept_secret(data_dir / "operator.key", lambda: "hk_op_" + secrets.token_urlsafe(32))


class NodeFile(NamedTuple):
    """What a running node says of itself in `node.json`."""

    url: str
    pid: int


def write_node_file(data_dir: Path, url: str, pid: int | None = None) -> None:
    """Say in `<data_dir>/node.json` where this node is reached; call once it listens.

    Raises:
        SettingsError: it cannot be written.
    """
    write_private(data_dir / "node.json", json.dumps({"url": url, "pid": pid or os.getpid()}) + "\n")


def remove_node_file(data_dir: Path) -> None:
    """Take `node.json` away, if it is this process's; never raises."""
    found = node_file(data_dir)
    if found is not None and found.pid == os.getpid():
        with suppress(OSError):
            (data_dir / "node.json").unlink()


def node_file(data_dir: Path) -> NodeFile | None:
    """Read `node.json`; None when there is none that can be used. Its node may be dead (kill -9)."""
    try:
        document = json.loads((data_dir / "node.json").read_text(encoding="utf-8"))
        return NodeFile(str(document["url"]), int(document["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
