"""The console's session: what a browser holds instead of the operator key.

A session is a signed cookie (HttpOnly, SameSite=Strict), so it needs no store, holds over a restart and on every
worker, and ends with the operator key or after `SESSION_S`. What changes something must carry the session's token in
`X-Hermes-CSRF` as well: another site can make a browser send a cookie, but cannot read the token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final, NamedTuple

from gateway.connection import Request

SESSION_S: Final = 12 * 3600  # a shift; the browser asks for the key again
CSRF_HEADER: Final = "X-Hermes-CSRF"
_READS: Final = frozenset({"GET", "HEAD"})


class Session(NamedTuple):
    """A browser that has shown the operator key.

    Attributes:
        cookie: its value.
        csrf: what requests that change something carry in `CSRF_HEADER`.
        expires: Unix seconds.
    """

    cookie: str
    csrf: str
    expires: int


def cookie_name(operator_key: str) -> str:
    """Name the cookie; cookies do not tell ports apart, and a machine may run several nodes."""
    return "hermes_" + _sign(operator_key, "name")[:8]


def new_session(operator_key: str, now: float) -> Session:
    """Begin a session at `now` (Unix seconds)."""
    return _session(operator_key, int(now) + SESSION_S, secrets.token_urlsafe(16))


def find_session(operator_key: str, request: Request, now: float) -> Session | None:
    """Find the session of a request: None without a cookie, or when it is not ours, or over."""
    cookie = request.cookies.get(cookie_name(operator_key))
    if cookie is None:
        return None
    expires, _, rest = cookie.partition(".")
    nonce = rest.partition(".")[0]
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        return None
    session = _session(operator_key, int(expires), nonce)
    if not hmac.compare_digest(session.cookie.encode(), cookie.encode()) or session.expires <= now:
        return None
    return session


def may_change(session: Session, request: Request) -> bool:
    """Tell whether a request only reads, or carries the session's token."""
    if request.method in _READS:
        return True
    return hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), session.csrf.encode())


def set_cookie(operator_key: str, session: Session | None, secure: bool) -> str:
    """Write the header line that gives a browser its session, or takes it back (None)."""
    value, age = (session.cookie, SESSION_S) if session is not None else ("", 0)
    line = f"Set-Cookie: {cookie_name(operator_key)}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict"
    return line + ("; Secure\r\n" if secure else "\r\n")


def _session(operator_key: str, expires: int, nonce: str) -> Session:
    signed = f"{expires}.{nonce}"
    cookie = f"{signed}.{_sign(operator_key, 'session ' + signed)}"
    return Session(cookie, _sign(operator_key, "csrf " + signed), expires)


def _sign(operator_key: str, text: str) -> str:
    digest = hmac.digest(operator_key.encode(), b"hermes console " + text.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
