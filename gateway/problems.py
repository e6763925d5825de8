"""Refusals as the caller sees them: one table of codes, RFC 9457 bodies, one line of JSON each.

Every refusal of the HTTP edge is a `Problem`; `app.py` turns it into the answer. What a code means, and its
status, is in `CODES` and nowhere else; the OpenAPI document and /docs are made from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from gateway.shapes import FieldError, ProblemBody
from hermes.domain.commands import Refused
from hermes.errors import HermesError


class Code(NamedTuple):
    """What a problem code stands for.

    Attributes:
        retry_after: the answer says when to try again.
    """

    status: int
    title: str
    retry_after: bool = False


CODES: Final[dict[str, Code]] = {
    "malformed_json": Code(400, "The body is not JSON"),
    "unauthenticated": Code(401, "No valid key"),
    "signature_invalid": Code(401, "The request is not signed as it should be"),
    "tenant_suspended": Code(403, "The tenant is suspended"),
    "scope_missing": Code(403, "The key may not do this"),
    "address_not_allowed": Code(403, "The key may not be used from this address"),
    "not_found": Code(404, "There is no such thing"),
    "duplicate": Code(409, "The same message was sent a moment ago"),
    "idempotency_running": Code(409, "A request with this Idempotency-Key is running", retry_after=True),
    "already_final": Code(409, "The message has a final status"),
    "already_begun": Code(409, "The message waits for no time"),
    "too_large": Code(413, "The body is too large"),
    "unsupported_media_type": Code(415, "The body's type is not understood"),
    "schema_invalid": Code(422, "The request does not have the right form"),
    "content_refused": Code(422, "The content is refused"),
    "compliance_refused": Code(422, "The rules of the destination forbid this"),
    "do_not_contact": Code(422, "The recipient does not want this"),
    "no_route": Code(422, "No carrier can take this"),
    "callback_refused": Code(422, "The callback address is refused"),
    "idempotency_mismatch": Code(422, "This Idempotency-Key was used for another request"),
    "rate_limited": Code(429, "The tenant sends too fast", retry_after=True),
    "quota_exceeded": Code(429, "The tenant's quota is used up", retry_after=True),
    "overloaded": Code(503, "Too much to do", retry_after=True),
    "too_many_open": Code(503, "Too many messages are open", retry_after=True),
    "journal_away": Code(503, "The database is away", retry_after=True),
    "outcome_unknown": Code(503, "Nobody can tell yet whether it was done", retry_after=True),
    # What HTTP itself asks for, beside the contract's table.
    "method_not_allowed": Code(405, "This method is not for this path"),
    "request_timeout": Code(408, "The body did not arrive in time"),
    "internal": Code(500, "A mistake of ours"),
}

LAYERS: Final = (
    "auth",
    "tenant",
    "schema",
    "content",
    "compliance",
    "do_not_contact",
    "rate",
    "dedup",
    "enrich",
    "route",
)
# Which layer a refusal comes from when nobody said so.
_LAYER_OF: Final[dict[str, str]] = {
    "unauthenticated": "auth",
    "signature_invalid": "auth",
    "scope_missing": "auth",
    "address_not_allowed": "auth",
    "tenant_suspended": "tenant",
    "schema_invalid": "schema",
    "callback_refused": "schema",
    "do_not_contact": "do_not_contact",
    "no_route": "route",
}
MOST_ERRORS: Final = 50  # fields named in one answer; a body with thousands of mistakes gets no megabyte back

_encode = msgspec.json.Encoder().encode


class Problem(HermesError):
    """A request that is refused.

    Args:
        code: a key of `CODES`.
        detail: for people; holds nothing the caller did not send, and no secret.
        errors: the fields it is about, as the request names them.
        layer: which validation layer refused; found by the code when absent.
        retry_after_s: seconds; for codes with `retry_after`, 1 when absent.
        headers: further header lines of the answer, each ending in CR LF.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        layer: str | None = None,
        retry_after_s: float | None = None,
        headers: str = "",
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.counted = False  # True iff hermes_refused_total has it already
        self.layer = layer if layer is not None else _LAYER_OF.get(code)
        self.status, self.title, retry_after = CODES[code]
        if retry_after:
            headers += f"Retry-After: {max(1, math.ceil(retry_after_s or 1))}\r\n"
        self.headers = headers

    def body(self, request_id: str) -> ProblemBody:
        """Render it for the answer's body (or an item of a batch)."""
        return ProblemBody(
            type=f"/docs#problem-{self.code}",
            title=self.title,
            status=self.status,
            detail=self.detail,
            code=self.code,
            request_id=request_id,
            layer=self.layer if self.layer is not None else msgspec.UNSET,
            errors=list(self.errors[:MOST_ERRORS]) if self.errors else msgspec.UNSET,
        )

    def json(self, request_id: str) -> bytes:
        """Render it as JSON text."""
        return _encode(self.body(request_id))


def invalid(field: str, why: str) -> Problem:
    """Make the refusal of one field."""
    return invalid_fields([FieldError(field, why)])


def invalid_fields(errors: Sequence[FieldError]) -> Problem:
    """Make the refusal of several fields; the first one is told in the detail too."""
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem("schema_invalid", f"{first.field}: {first.why}{more}", errors=errors)


def not_found(what: str) -> Problem:
    """Make the answer for what does not exist, or is not the caller's to see."""
    return Problem("not_found", f"There is no such {what}.")


def from_refusal(refused: Refused) -> Problem:
    """Turn an actor's refusal into the answer. An unknown code is our bug: `internal`."""
    if refused.code not in CODES:
        return Problem("internal", "The refusal has no code of the public contract.")
    problem = Problem(
        refused.code,
        refused.detail,
        errors=[FieldError(refused.field, refused.detail)] if refused.field else (),
        layer=refused.layer,
        retry_after_s=refused.retry_after_s,
    )
    problem.counted = True
    return problem
