"""/console: the operator's page, and its login (session.py). What it shows comes from the API, as for anybody else."""

from __future__ import annotations

from importlib import resources
from typing import Final

import msgspec

from gateway.auth import is_operator_key
from gateway.decode import decode_json
from gateway.edge import Call, Edge, Reply
from gateway.problems import Problem, not_found
from gateway.session import Session, find_session, may_change, new_session, set_cookie
from gateway.shapes import LoginBody, SessionView

LOGIN_LIMIT: Final = 4096  # octets
_TYPES: Final[dict[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
# The page loads its own scripts and style, and asks its own node; it can do nothing else, and nobody can frame it.
_POLICY: Final = (
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "Cross-Origin-Opener-Policy: same-origin\r\n"
)

_login = msgspec.json.Decoder(LoginBody)


class Console:
    """The handlers of /console."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._secure = edge.public_url.startswith("https:")
        folder = resources.files("gateway").joinpath("console")
        self._files = {file.name: file.read_bytes() for file in folder.iterdir() if file.name.endswith(tuple(_TYPES))}

    async def page(self, call: Call) -> Reply:
        """Show the console."""
        return self._file(call, "index.html")

    async def file(self, call: Call) -> Reply:
        """Serve what the console loads."""
        return self._file(call, call.params["file"])

    async def login(self, call: Call) -> Reply:
        """Begin a session: a cookie for the operator key."""
        asked = decode_json(_login, await call.json_body(LOGIN_LIMIT))
        edge = self._edge
        if not is_operator_key(edge, asked.key):
            raise Problem("unauthenticated", "This is not the operator key.")
        session = new_session(edge.operator_key, edge.clock.now().timestamp())
        return self._answer(call, session)

    async def session(self, call: Call) -> Reply:
        """Show the session of the request's cookie."""
        return self._answer(call, self._found(call))

    async def logout(self, call: Call) -> Reply:
        """End the browser's session."""
        if not may_change(self._found(call), call.request):
            raise Problem("scope_missing", "The session's token is missing: X-Hermes-CSRF.")
        taken_back = set_cookie(self._edge.operator_key, None, self._secure)
        return Reply(204, b"", call.request_id, headers=taken_back)

    # --- inside
    def _found(self, call: Call) -> Session:
        edge = self._edge
        session = find_session(edge.operator_key, call.request, edge.clock.now().timestamp())
        if session is None:
            raise Problem("unauthenticated", "There is no session, or it is over.")
        return session

    def _answer(self, call: Call, session: Session) -> Reply:
        given = set_cookie(self._edge.operator_key, session, self._secure)
        return call.reply(200, SessionView(session.csrf, session.expires), headers=given)

    def _file(self, call: Call, name: str) -> Reply:
        body = self._files.get(name)
        if body is None:
            raise not_found("file")
        kind = _TYPES[name[name.rindex(".") :]]
        return Reply(200, body, call.request_id, content_type=kind, headers=_POLICY)
