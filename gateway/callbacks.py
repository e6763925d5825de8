"""/v1/webhooks: what providers report. Nothing is acknowledged before it is stored.

A provider's own format and signature are its carrier's business (`Carrier.on_callback`); /v1/webhooks/dlr
is ours, for mock and in-house carriers.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from carriers.base import CallbackRefused, CallbackRequest
from gateway.decode import decode_any, decode_json
from gateway.edge import ANSWER_WITHIN_S, Call, Edge, Reply, journal_away
from gateway.problems import Problem, invalid, not_found
from gateway.shapes import ReceiptAnswer, ReceiptBody
from hermes.domain.commands import ReceiptArrived
from hermes.domain.inbound import InboundReceived
from hermes.domain.message import UTC
from hermes.domain.receipt import DeliveryReceipt
from hermes.journal.base import JournalError
from hermes.runtime.reasons import CallTimeout, RuntimeFault

SIGNATURE_HEADER: Final = "X-Hermes-Signature"

_receipt_body = msgspec.json.Decoder(ReceiptBody)


class Callbacks:
    """The handlers of /v1/webhooks."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._limit = edge.settings.server.max_body_bytes

    async def receipt(self, call: Call) -> Reply:
        """Take a delivery receipt signed under the carrier's secret; 202 when nobody knows its id yet."""
        raw = await call.json_body(self._limit)
        signature = call.request.headers.get(SIGNATURE_HEADER)
        if signature is None:
            raise _unsigned()
        said = decode_any(raw)
        name = said.get("carrier") if isinstance(said, dict) else None
        secret = self._edge.fleet.secret(name) if isinstance(name, str) else None
        if secret is None or not is_signed(raw, signature, secret):
            raise _unsigned()
        body = decode_json(_receipt_body, raw)
        for field in ("carrier_message_id", "error_code"):
            text: str | None = getattr(body, field)
            if text is not None and not text.isprintable():
                raise invalid(field, "holds a control character")
        at = None
        if body.at is not None:
            try:
                at = body.at.astimezone(UTC)
            except OverflowError:
                raise invalid("at", "is out of range") from None
        receipt = DeliveryReceipt(body.carrier, body.carrier_message_id, body.status, None, body.error_code, None, at)
        (result,) = await self._store([receipt])
        return call.reply(202 if result == "parked" else 200, ReceiptAnswer(result))

    async def provider(self, call: Call) -> Reply:
        """Take a provider's call: status, inbound message or challenge, in its own format and signature."""
        carrier = self._edge.carriers.get(call.params["carrier"])
        if carrier is None:
            raise not_found("carrier")
        request = call.request
        body = await call.body(self._limit)
        # What was signed is the target as it came, to the letter; only a proxy sends one with a host in it.
        target = request.raw_path if request.raw_path[:1] == "/" else request.rel_url.raw_path_qs
        asked = CallbackRequest(
            call.method,
            self._edge.public_url + target,
            dict(request.query),
            {name.lower(): value for name, value in request.headers.items()},
            body,
        )
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                answer = await carrier.on_callback(asked)
                await self._store(answer.receipts)
                await self._hand_over("mo", [InboundReceived(inbound) for inbound in answer.inbound])
        except CallbackRefused as exc:
            code = {401: "unauthenticated", 404: "not_found"}.get(exc.status, "scope_missing")
            headers = 'WWW-Authenticate: Signature realm="hermes"\r\n' if code == "unauthenticated" else ""
            raise Problem(code, str(exc), headers=headers) from exc
        except TimeoutError as exc:
            raise Problem("overloaded", "This could not be stored in time; send it again.") from exc
        return Reply(answer.status, answer.body, call.request_id, content_type=answer.content_type)

    async def _store(self, receipts: Sequence[DeliveryReceipt]) -> list[Any]:
        """Hand receipts to `dlr`, in order, and wait until all are stored; as `_hand_over`."""
        return await self._hand_over("dlr", [ReceiptArrived(receipt) for receipt in receipts])

    async def _hand_over(self, actor: str, facts: Sequence[ReceiptArrived | InboundReceived]) -> list[Any]:
        """Hand what a provider said to an actor, in order, and wait until all of it is stored.

        Raises:
            Problem: at least one is not stored.
        """
        if not facts:
            return []
        ref = self._edge.system.whereis(actor)
        if ref is None:
            raise Problem("overloaded", "This cannot be stored now; send it again.")
        results = await asyncio.gather(
            *(ref.call(fact, timeout_s=ANSWER_WITHIN_S) for fact in facts), return_exceptions=True
        )
        for result in results:
            if isinstance(result, JournalError | CallTimeout):
                raise journal_away() from result
            if isinstance(result, RuntimeFault):
                raise Problem("overloaded", "This cannot be stored now; send it again.") from result
            if isinstance(result, BaseException):
                raise result
        return results


def is_signed(body: bytes, signature: str, secret: str) -> bool:
    """Tell whether `signature` is `sha256=` and the hex HMAC-SHA256 of the raw body under the secret."""
    wanted = "sha256=" + hmac.digest(secret.encode(), body, hashlib.sha256).hex()
    return signature.isascii() and hmac.compare_digest(wanted, signature.strip().lower())


def _unsigned() -> Problem:
    return Problem(
        "unauthenticated",
        f"{SIGNATURE_HEADER} is missing or wrong: sha256= and the hex HMAC-SHA256 of the body.",
        headers='WWW-Authenticate: Signature realm="hermes"\r\n',
    )
