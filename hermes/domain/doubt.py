"""Which doubtful message a receipt may be about, when nobody knows its id (rule 9, policy `never`).

A connection that drops between a submit and its answer leaves a message of which only the carrier knows the id. Its
receipt still tells the destination, the sender, and most often when it was submitted. It is that message's when exactly
one fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from hermes.domain.events import Event
from hermes.domain.fold import fold
from hermes.domain.message import Message

# Receipts tell the time of the carrier's own zone, without naming it, most often without seconds. Zones differ by
# multiples of a quarter of an hour, so what is left within one must agree.
ZONE_STEP_S: Final = 900
SUBMITTED_WITHIN_S: Final = 150

Place = tuple[int, int]  # step, attempt


def the_one(
    found: Iterable[tuple[Message, Sequence[Event], Place]], carrier_message_id: str, submitted_at: datetime | None
) -> tuple[str, Place] | None:
    """Name the one doubtful message a receipt is about; None when none fits, or more than one.

    Args:
        found: messages with a doubtful attempt at this carrier, to and from whom the receipt says.
        carrier_message_id: the receipt's; a message that got it by an earlier receipt is the one.
        submitted_at: as the receipt says; None when it does not.
    """
    fitting: list[tuple[str, Place]] = []
    for message, events, place in found:
        known = _fits(message, events, place, carrier_message_id, submitted_at)
        if known:
            return message.message_id, place
        if known is not None:
            fitting.append((message.message_id, place))
    return fitting[0] if len(fitting) == 1 else None


def _fits(
    message: Message, events: Sequence[Event], place: Place, carrier_message_id: str, submitted_at: datetime | None
) -> bool | None:
    """True: it has this id already; False: it may be its; None: it is not."""
    attempt = fold(message, events).find(*place)
    if attempt is None or attempt.submitted_at is not None or attempt.status == "rejected":
        return None
    if attempt.parts:
        return True if attempt.parts[0].carrier_message_id == carrier_message_id else None
    if (message.segments or 1) > 1:
        return None  # each part has an id and receipts of its own: nobody could tell which is which
    sent_at = next((e.at for e in events if e.type == "sending" and (e.step, e.attempt) == place), None)
    if submitted_at is not None and sent_at is not None:
        apart = (submitted_at - sent_at).total_seconds()
        if abs((apart + ZONE_STEP_S / 2) % ZONE_STEP_S - ZONE_STEP_S / 2) > SUBMITTED_WITHIN_S:
            return None
    return False
