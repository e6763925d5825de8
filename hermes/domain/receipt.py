"""What a carrier reports about a message it took: one shape for every protocol."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from msgspec import Struct

from hermes.domain.quiet import Quiet


class DeliveryReceipt(Quiet, Struct, gc=False):
    """A carrier's word on a message, whatever protocol brought it (webhook, deliver_sm, mock).

    Attributes:
        carrier: the configured name of the carrier that says so.
        carrier_message_id: its id for the message or segment, as the carrier wrote it.
        status: submitted, undelivered, delivered or read.
        error_class: class of errors.yaml when the status is undelivered and the code is known.
        error_code: the carrier's raw code, as text.
        at: when the carrier says it happened; None when it does not say.
        about: a digest of whom and from whom, where the carrier says it: should nobody know the id (`domain.doubt`).
        submitted_at: when the carrier says it took the message; its zone is not known.
        cost: what it says the message (or segment) costs, in its own currency; None when it does not say.
    """

    quiet: ClassVar[frozenset[str]] = frozenset({"error_detail", "about"})

    carrier: str
    carrier_message_id: str
    status: str
    error_class: str | None = None
    error_code: str | None = None
    error_detail: str | None = None
    at: datetime | None = None
    about: str | None = None
    submitted_at: datetime | None = None
    cost: float | None = None
