"""Signed requests: who must sign, and whether a signature is right and new. The form is `hermes.domain.signing`."""

from __future__ import annotations

from datetime import timedelta
from hashlib import blake2b
from typing import Final

import msgspec

from gateway.decode import decode_json
from gateway.edge import Call, Edge, Reply, author, reading, writing
from gateway.problems import Problem
from gateway.shapes import SigningBody, SigningSecret, SigningView
from gateway.tenants import find_key, find_tenant
from hermes.domain.signing import WINDOW_S, BadSignature, check_signature

SIGNATURE: Final = "X-Hermes-Signature"
NONCE_WITHIN_S: Final = 1.0  # leaves time to answer within 2 s

_body = msgspec.json.Decoder(SigningBody)


class Signing:
    """Checks signatures, and the handlers of /v1/tenants/{id}/signing and a key's signing secret.

    Args:
        edge: what the gateway has.
        longest: octets of the longest body any route takes.
    """

    def __init__(self, edge: Edge, longest: int) -> None:
        self._edge = edge
        self._longest = longest
        self._limit = edge.settings.server.max_body_bytes

    def is_asked(self, call: Call) -> bool:
        """Tell whether `check` is to be asked of a request: a tenant's, that is signed or must be."""
        tenant = call.caller.tenant
        if tenant is None:
            return False
        return SIGNATURE in call.request.headers or self._edge.directory.rules(tenant).require_signed_requests

    async def check(self, call: Call) -> None:
        """Check the signature of a tenant's request.

        Raises:
            Problem: signature_invalid; journal_away (nobody can tell whether it was taken before); too_large,
                malformed_json, request_timeout (as the body is read).
        """
        key = call.caller.key
        assert key is not None
        headers = call.request.headers
        signature = headers.get(SIGNATURE)
        if signature is None:
            raise _refused(f"This tenant signs its requests: send {SIGNATURE}.")
        target = call.request.raw_path
        if target[:1] != "/":  # a proxy's form: http://host/path
            target = call.request.rel_url.raw_path_qs
        nonce = headers.get("X-Hermes-Nonce", "")
        timestamp = headers.get("X-Hermes-Timestamp", "")
        body = await call.raw_body(self._longest)
        secret = self._edge.directory.signing_secret(key)
        now = self._edge.clock.now()
        try:
            check_signature(secret, signature, timestamp, nonce, call.method, target, body, now.timestamp())
        except BadSignature as exc:
            raise _refused(str(exc)) from exc
        hash_ = blake2b(f"{key.id} {nonce}".encode(), digest_size=16).digest()
        until = now + timedelta(seconds=2 * WINDOW_S)  # its timestamp is too old then, whichever worker looks
        if not await reading(self._edge.journal.take_nonce(hash_, now, until), NONCE_WITHIN_S):
            raise _refused("This nonce was used before.")

    async def show(self, call: Call) -> Reply:
        """Tell whether a tenant's requests must be signed."""
        rules = self._edge.directory.rules(find_tenant(call))
        return call.reply(200, SigningView(rules.require_signed_requests))

    async def change(self, call: Call) -> Reply:
        """Say whether a tenant's requests must be signed."""
        tenant = find_tenant(call)
        asked = decode_json(_body, await call.json_body(self._limit))
        settings = {"require_signed_requests": asked.required}
        await writing(self._edge.directory.update_tenant(tenant.id, settings=settings, by=author(call)))
        return call.reply(200, SigningView(asked.required))

    async def secret(self, call: Call) -> Reply:
        """Show what requests with a key are signed with."""
        key = find_key(call, find_tenant(call))
        return call.reply(200, SigningSecret(key.id, self._edge.directory.signing_secret(key)))


def _refused(detail: str) -> Problem:
    challenge = 'WWW-Authenticate: Bearer realm="hermes", error="invalid_request"\r\n'
    return Problem("signature_invalid", detail, headers=challenge)
