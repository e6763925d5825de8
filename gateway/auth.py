"""Who asks, and whether they may: bearer keys, scopes, addresses, suspended tenants.

What another tenant owns is not refused here: it does not exist for the caller (404), which the handlers see
to.
"""

from __future__ import annotations

import enum
import hmac
import ipaddress
from functools import lru_cache

from gateway.connection import Request
from gateway.edge import NOBODY, OPERATOR, Caller, Edge
from gateway.problems import Problem
from gateway.session import find_session, may_change


class Access(enum.Enum):
    """Who may use a route."""

    OPEN = "anybody"
    SEND = "a tenant key with messages:write", "messages:write"
    READ = "the operator, or a tenant key with messages:read", "messages:read"
    OWN = "the operator, or a key of this very tenant with tenant:manage", "tenant:manage"
    OPERATOR = "the operator"

    scope: str | None  # that a tenant's key needs; None: no key will do

    def __new__(cls, who: str, scope: str | None = None) -> Access:
        """Make one whose value is `who`."""
        access = object.__new__(cls)
        access._value_ = who
        access.scope = scope
        return access


def authenticate(edge: Edge, request: Request, access: Access) -> Caller:
    """Find out who asks and whether they may.

    Raises:
        Problem: unauthenticated, address_not_allowed, tenant_suspended, scope_missing.
    """
    if access is Access.OPEN:
        return NOBODY
    header = request.headers.get("Authorization")
    if header is None:
        if "Cookie" in request.headers:
            _check_session(edge, request, access)
            return OPERATOR
        raise _unauthenticated("Send the header Authorization: Bearer <key>.", challenge="")
    if not header.isascii():
        raise _unauthenticated("A key is printable ASCII.")
    token = header[7:].lstrip(" ") if header[:7] == "Bearer " else _bearer(header)
    key = edge.directory.find_key(token)
    if key is None:
        if not is_operator_key(edge, token):
            raise _unauthenticated("This key is unknown, or has expired.")
        if access is Access.SEND:
            raise Problem("scope_missing", "The operator key cannot send: use a key of the tenant.")
        return OPERATOR
    tenant = edge.directory.tenant(key.tenant)
    if tenant is None:
        raise _unauthenticated("This key is unknown, or has expired.")
    if key.allow_from and not _is_allowed(request.remote, key.allow_from):
        raise Problem("address_not_allowed", "This key may not be used from this address.")
    if tenant.status != "active":
        pending = tenant.stage == "pending"
        detail = "The operator has not let this tenant in yet." if pending else "The tenant is suspended."
        raise Problem("tenant_suspended", detail)
    scope = access.scope
    if scope is None:
        raise Problem("scope_missing", "This needs the operator key.")
    if scope not in key.scopes:
        raise Problem("scope_missing", f"This needs a key with the scope {scope}.")
    edge.directory.used_keys.add(key.id)
    return Caller(key, tenant)


def _check_session(edge: Edge, request: Request, access: Access) -> None:
    """Take a session of the console for the operator key.

    Raises:
        Problem: unauthenticated, scope_missing (it cannot send; or its token is missing, and something would change).
    """
    session = find_session(edge.operator_key, request, edge.clock.now().timestamp())
    if session is None:
        raise _unauthenticated("The session is over: log in again.", challenge="")
    if not may_change(session, request):
        raise Problem("scope_missing", "The session's token is missing: X-Hermes-CSRF.")
    if access is Access.SEND:
        raise Problem("scope_missing", "The operator key cannot send: use a key of the tenant.")


def is_operator_key(edge: Edge, token: str) -> bool:
    """Compare with the operator's key, in constant time."""
    return hmac.compare_digest(token.encode(), edge.operator_key.encode())


def bearer_token(request: Request) -> str | None:
    """Read the bearer token of a request; None when it sends none, or something else."""
    header = request.headers.get("Authorization")
    try:
        return _bearer(header) if header is not None and header.isascii() else None
    except Problem:
        return None


def _bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise _unauthenticated("Send the header Authorization: Bearer <key>.")
    return token


def _unauthenticated(detail: str, challenge: str = ', error="invalid_token"') -> Problem:
    return Problem("unauthenticated", detail, headers=f'WWW-Authenticate: Bearer realm="hermes"{challenge}\r\n')


@lru_cache(maxsize=4096)
def _networks(blocks: tuple[str, ...]) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(block, strict=False) for block in blocks)


@lru_cache(maxsize=4096)
def _is_allowed(peer: str | None, blocks: tuple[str, ...]) -> bool:
    """Tell whether the connection's other end is in a block. Forwarding headers are not believed."""
    if not peer:
        return False
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:  # a Unix socket
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in _networks(blocks) if network.version == address.version)
