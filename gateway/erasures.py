"""/v1/tenants/{id}/erasures: a recipient asked to be forgotten. The work is `actors/erasure.py`'s; here it is ordered.

The address comes in the body: paths are written into the logs of proxies.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.decode import decode_json
from gateway.edge import Call, Edge, Reply, author, reading, writing
from gateway.paging import asked_page, cut
from gateway.problems import invalid, not_found
from gateway.shapes import ErasureBody, ErasurePage, ErasureView, PageQuery
from gateway.tenants import find_tenant
from hermes.domain.address import same_recipient
from hermes.domain.commands import ErasureAsked
from hermes.domain.erasure import Erasure
from hermes.domain.message import rfc3339, ulid
from hermes.journal.base import Change, WriteRefused

_body: Final = msgspec.json.Decoder(ErasureBody)


class Erasures:
    """The handlers of /v1/tenants/{id}/erasures."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._journal = edge.journal
        self._limit = edge.settings.server.max_body_bytes

    async def create(self, call: Call) -> Reply:
        """Erase a recipient: open messages are cancelled, addresses and content go, the facts of sending stay."""
        tenant = find_tenant(call)
        asked = decode_json(_body, await call.json_body(self._limit))
        address = same_recipient(asked.channel, asked.address)
        if address is None:
            what = "is no address" if asked.channel is None else f"is no address of channel {asked.channel}"
            raise invalid("address", what)
        by = author(call)
        now = self._edge.clock.now()
        recipient = self._edge.directory.hash_recipient(tenant.id, address)
        erasure = Erasure("era_" + ulid(), tenant.id, recipient, address, by.name, now)
        after = {"erasure": erasure.id}
        change = Change(now, by.name, tenant.id, "recipient.erased", recipient, None, after, by.request_id)
        try:
            await writing(self._journal.put_erasure(erasure, change))
        except WriteRefused as exc:
            raise invalid("address", str(exc)) from exc
        self._edge.system.send("erasures", ErasureAsked())
        location = f"Location: /v1/tenants/{tenant.id}/erasures/{erasure.id}\r\n"
        return call.reply(202, _view(erasure), headers=location)

    async def get(self, call: Call) -> Reply:
        """Show how far an erasure has come."""
        tenant = find_tenant(call)
        erasure = await reading(self._journal.erasure(tenant.id, call.params["erasure"]))
        if erasure is None:
            raise not_found("erasure")
        return call.reply(200, _view(erasure))

    async def list(self, call: Call) -> Reply:
        """List a tenant's erasures, newest first; of those that are done nobody knows whom they were for."""
        tenant = find_tenant(call)
        asked = asked_page(call, PageQuery)
        found = await reading(self._journal.erasures(tenant.id, asked.cursor, asked.limit + 1))
        page, following = cut(found, asked.limit)
        return call.reply(200, ErasurePage([_view(erasure) for erasure in page], following))


def _view(erasure: Erasure) -> ErasureView:
    return ErasureView(
        erasure.id,
        "running" if erasure.done_at is None else "done",
        erasure.recipient,
        erasure.asked_by,
        erasure.messages,
        erasure.inbound,
        rfc3339(erasure.created_at),
        None if erasure.done_at is None else rfc3339(erasure.done_at),
    )
