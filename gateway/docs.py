"""/openapi.json and the page that shows it: everything comes from this process, nothing from the network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import resources
from typing import Final

from gateway.edge import Call, Edge, Reply, encode
from gateway.openapi import document
from gateway.problems import not_found
from gateway.routes import Route

_TYPES: Final[dict[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
# The page loads its own script and style, and reads /openapi.json; it can do nothing else.
_POLICY: Final = (
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    "Referrer-Policy: no-referrer\r\n"
)


class Docs:
    """The handlers of /openapi.json and /docs."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._routes: Sequence[Route] = ()
        self._openapi: bytes | None = None
        self._files: dict[str, bytes] = {}
        for file in resources.files("gateway").joinpath("static").iterdir():
            if file.name.startswith("docs."):
                self._files[file.name] = file.read_bytes()

    def document(self, routes: Sequence[Route]) -> None:
        """Say what is to be described: all routes."""
        self._routes = routes

    async def openapi(self, call: Call) -> Reply:
        """Describe this API (OpenAPI 3.1)."""
        if self._openapi is None:  # a tenth of a second, which no start waits for and no other request
            self._openapi = await asyncio.to_thread(self._make)
        return Reply(200, self._openapi, call.request_id)

    def _make(self) -> bytes:
        return encode(document(self._routes, self._edge.public_url))

    async def page(self, call: Call) -> Reply:
        """Show this API to people."""
        return self._file(call, "docs.html")

    async def file(self, call: Call) -> Reply:
        """Serve what the page loads."""
        return self._file(call, call.params["file"])

    def _file(self, call: Call, name: str) -> Reply:
        body = self._files.get(name)
        if body is None:
            raise not_found("file")
        kind = _TYPES[name[name.rindex(".") :]]
        return Reply(200, body, call.request_id, content_type=kind, headers=_POLICY)
