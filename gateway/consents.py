"""/v1/tenants/{id}/consents: who agreed to be written to, with the proof; nothing is ever removed, only withdrawn."""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.decode import decode_json
from gateway.edge import Call, Edge, Reply, author, reading, writing
from gateway.messages import utc
from gateway.paging import asked_page, cut
from gateway.problems import invalid, not_found
from gateway.shapes import ConsentBody, ConsentPage, ConsentProofView, ConsentQuery, ConsentView
from gateway.tenants import find_tenant
from hermes.domain.address import NoAddress, same_recipient
from hermes.domain.consent import Consent
from hermes.domain.lines import has_control
from hermes.domain.message import rfc3339
from hermes.journal.base import WriteRefused

_body: Final = msgspec.json.Decoder(ConsentBody)


class ConsentRecords:
    """The handlers of /v1/tenants/{id}/consents."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._consents = edge.suppressions.consents
        self._limit = edge.settings.server.max_body_bytes

    async def create(self, call: Call) -> Reply:
        """Store that a recipient agreed; it counts from the answer on."""
        tenant = find_tenant(call)
        asked = decode_json(_body, await call.json_body(self._limit))
        proof = asked.proof
        for name, text in (("source", proof.source), ("ip", proof.ip), ("text_version", proof.text_version)):
            if text is not None and has_control(text):
                raise invalid(f"proof.{name}", "holds a control character")
        given_at = None if proof.at is None else utc(proof.at)
        if given_at is not None and given_at > self._edge.clock.now():
            raise invalid("proof.at", "is in the future")
        try:
            consent = await writing(
                self._consents.add(
                    tenant.id,
                    asked.channel,
                    asked.category or "marketing",
                    asked.address,
                    proof.source,
                    proof.ip,
                    proof.text_version,
                    given_at,
                    by=author(call),
                )
            )
        except (NoAddress, WriteRefused) as exc:
            raise invalid("address", str(exc)) from exc
        location = f"Location: /v1/tenants/{tenant.id}/consents/{consent.id}\r\n"
        return call.reply(201, _view(consent), headers=location)

    async def get(self, call: Call) -> Reply:
        """Show a record."""
        found = await reading(self._consents.get(find_tenant(call).id, call.params["consent"]))
        if found is None:
            raise not_found("consent")
        return call.reply(200, _view(found))

    async def withdraw(self, call: Call) -> Reply:
        """Let a recipient's consent for a channel and category count no more, for what is queued too."""
        tenant = find_tenant(call)
        await call.no_body(self._limit)
        found = await writing(self._consents.withdraw(tenant.id, call.params["consent"], by=author(call)))
        if found is None:
            raise not_found("consent")
        return call.reply(200, _view(found))

    async def list(self, call: Call) -> Reply:
        """List the records, newest first; of one recipient with `address`."""
        tenant = find_tenant(call)
        asked = asked_page(call, ConsentQuery)
        address = None
        if asked.address is not None:
            # A plus sign that nobody encoded arrives as a space.
            text = "+" + asked.address[1:] if asked.address.startswith(" ") else asked.address
            address = same_recipient(None, text)
            if address is None:
                raise invalid("address", "is no address")
        found = await reading(self._consents.page(tenant.id, address, asked.cursor, asked.limit + 1))
        page, following = cut(found, asked.limit)
        return call.reply(200, ConsentPage([_view(consent) for consent in page], following))


def _view(consent: Consent) -> ConsentView:
    return msgspec.convert(
        {
            "id": consent.id,
            "channel": consent.channel,
            "category": consent.category,
            "address": consent.address,
            "proof": ConsentProofView(consent.source, consent.ip, consent.text_version, rfc3339(consent.given_at)),
            "created_at": rfc3339(consent.created_at),
            "withdrawn_at": None if consent.withdrawn_at is None else rfc3339(consent.withdrawn_at),
        },
        ConsentView,
    )
