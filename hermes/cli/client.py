"""The node, as a command sees it: where it is, which key opens it, one request at a time, results printed.

The standard library's HTTP client is enough for one request, and starts four times quicker than aiohttp's.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

from hermes import __version__
from hermes.data_dir import data_folder, node_file
from hermes.errors import HermesError, SettingsError

DEFAULT_URL: Final = "http://127.0.0.1:8080"
TIMEOUT_S: Final = 10.0  # every request is answered within 2 s; this is for a bad line
PAGE: Final = 1000  # the most a list gives at once


class Failed(HermesError):
    """The command could not do what it was asked; exit code 1."""


class NoAnswer(Failed):
    """No node answers."""


class Refused(Failed):
    """The node answered, and said no.

    Attributes:
        status: of HTTP.
        problem: the problem document; empty when the answer was none.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], text: str) -> None:
        super().__init__(text)
        self.status = status
        self.problem = problem


@dataclass(slots=True, frozen=True)
class Place:
    """Where a node was found.

    Attributes:
        folder: its data folder, as far as that is known here.
        key: the operator key; empty when none was found.
    """

    url: str
    folder: Path
    key: str


def find(environ: Mapping[str, str], data_dir: Path | None) -> Place:
    """Find the node that a command is about.

    `HERMES_URL` and `HERMES_OPERATOR_KEY` win. Else the data folder's `node.json` and `operator.key`, or
    those of the demo in it when only the demo runs. A key from a file is sent to this machine only, unless
    its folder was named.

    Raises:
        SettingsError: HERMES_URL is no URL.
    """
    folder = data_folder(data_dir, environ)
    named = data_dir is not None or bool(environ.get("HERMES_DATA_DIR"))
    url = environ.get("HERMES_URL", "").rstrip("/")
    for candidate in (folder, folder / "demo"):
        found = node_file(candidate)
        if found is not None and (is_alive(found.pid) or (named and candidate == folder)):
            folder = candidate
            url = url or found.url
            break
    url = url or DEFAULT_URL
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SettingsError("HERMES_URL: expected an http or https URL")
    key = environ.get("HERMES_OPERATOR_KEY", "")
    if not key and (named or _is_loopback(parts.hostname)):
        try:
            key = (folder / "operator.key").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            key = ""
    return Place(url, folder, key)


def connect(environ: Mapping[str, str], data_dir: Path | None) -> Client:
    """Make a client with the operator's key for the node that `find` finds; nothing is sent yet."""
    place = find(environ, data_dir)
    return Client(place.url, place.key)


def is_alive(pid: int) -> bool:
    """Tell whether a process of this number runs on this machine."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Client:
    """Asks a node, as the owner of one key."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._key = key

    def get(self, path: str, **query: Any) -> Any:
        """Get a document. Raises as `request` does."""
        given = {name: value for name, value in query.items() if value is not None}
        return self.request("GET", path + ("?" + urlencode(given) if given else ""))

    def pages(self, path: str, limit: int | None = None) -> Iterator[dict[str, Any]]:
        """Go through a list, page after page. Raises as `request` does."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            query = {"limit": PAGE if left is None else min(left, PAGE), "cursor": cursor}
            asked = urlencode({name: value for name, value in query.items() if value is not None})
            page = self.request("GET", f"{path}{'&' if '?' in path else '?'}{asked}")
            yield from page["data"]
            cursor = page.get("next_cursor")
            left = None if left is None else left - len(page["data"])
            if not cursor:
                return

    def request(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Any:
        """Ask once.

        Returns:
            The document of the answer; None when it had none.

        Raises:
            NoAnswer: nobody is there, or what is there speaks no HTTP.
            Refused: the answer is a refusal.
        """
        status, _, content = self.exchange(method, path, body, headers)
        try:
            document = json.loads(content) if content.strip() else None
        except ValueError:
            document = content.decode("utf-8", "replace")
        if 200 <= status < 300:
            return document
        raise _refused(status, document, bool(self._key))

    def exchange(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Ask once: status, headers (names lower-cased), body, whatever they are.

        Raises:
            NoAnswer: nobody is there, or what is there speaks no HTTP.
        """
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        sent = {"User-Agent": f"hermes/{__version__}", "Accept": "application/json", **(headers or {})}
        if self._key:
            sent["Authorization"] = f"Bearer {self._key}"
        content: bytes | None = None
        if isinstance(body, bytes):
            content = body  # `headers` say what it is
        elif body is not None:
            content = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        try:
            connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
            try:
                connection.request(method, parts.path + path, content, sent)
                answer = connection.getresponse()
                return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
            raise NoAnswer(f"no node answers at {self.url}: {reason}") from exc


def names(environ: Mapping[str, str], path: str, beginning: str) -> list[str]:
    """Return the names in a document of the node that begin so, for a shell's completion; [] when it cannot be had."""
    try:
        document = connect(environ, None).get(path)
    except HermesError:
        return []
    found: list[str] = []
    left: list[Any] = list(document.get("data") or [document])
    while left:
        entry = left.pop()
        found.append(str(entry["name"]))
        left.extend(entry.get("children") or ())
    return sorted(name for name in found if name.startswith(beginning))


def _refused(status: int, document: Any, had_key: bool) -> Refused:
    problem: dict[str, Any] = document if isinstance(document, dict) else {}
    detail = problem.get("detail") or problem.get("title") or http.client.responses.get(status, "")
    code = problem.get("code")
    lines = [clean(f"refused: {status} {code or ''}".rstrip() + (f": {detail}" if detail else ""))]
    for error in problem.get("errors") or ():
        if isinstance(error, dict):
            lines.append(clean(f"  {error.get('field')}: {error.get('why')}"))
    if status == 401 and not had_key:
        lines.append("no key was sent: set HERMES_OPERATOR_KEY, or name the node's data folder with --data-dir")
    return Refused(status, problem, "\n".join(lines))


def path_of(*parts: str) -> str:
    """Write a path of the API from its parts, each escaped whole."""
    return "/v1/" + "/".join(quote(part, safe="") for part in parts)


def clean(text: object) -> str:
    """Make a text from outside safe for a terminal: no control characters, no line breaks."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def print_json(document: Any) -> None:
    """Print a document as JSON, for machines and patient people."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=not _speaks_unicode()) + "\n")


def _speaks_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
