"""The message as it was accepted: everything the customer asked for, immutable from then on.

What happened to it afterwards is in its events (`events.py`), never here.
"""

from __future__ import annotations

import os
import time
from datetime import UTC as UTC  # from here for the whole domain
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar, Final

from msgspec import Struct

from hermes.domain.quiet import Quiet

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS: Final = [a + b for a in _CROCKFORD for b in _CROCKFORD]  # 1,024 pairs: ten bits at a time
_DECODE: Final = {c: i for i, c in enumerate(_CROCKFORD)}
_LETTER: Final = (_CROCKFORD * 8).encode()  # of an octet: each letter for 8 of the 256, so all are as likely
_DRAWN_AT_ONCE: Final = 400  # ids; a system call for each would cost more than the rest of an id


class _Random:
    """80 random bits at a time from the operating system, written as 16 letters. A forked child draws its own."""

    __slots__ = ("_block", "_next")

    def __init__(self) -> None:
        self.forget()
        os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Drop what was drawn: nobody may use it twice."""
        self._block = ""
        self._next = 0

    def take(self) -> str:
        """Give 16 letters that were never given before."""
        start = self._next
        if start >= len(self._block):
            self._block = os.urandom(16 * _DRAWN_AT_ONCE).translate(_LETTER).decode("ascii")
            start = 0
        self._next = end = start + 16
        return self._block[start:end]


_random: Final = _Random()


def ulid(at_ms: int | None = None) -> str:
    """Make 26 characters that sort by time: 48 bits of Unix milliseconds, 80 random bits.

    A ULID in Crockford's base32 (https://github.com/ulid/spec). Ids of one millisecond have no order.

    Args:
        at_ms: Unix time in milliseconds; now when absent.
    """
    ms = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    pairs = _PAIRS
    time_ = (
        pairs[(ms >> 40) & 255]  # 48 bits: two zeros before them, or eight letters and two bits
        + pairs[(ms >> 30) & 1023]
        + pairs[(ms >> 20) & 1023]
        + pairs[(ms >> 10) & 1023]
        + pairs[ms & 1023]
    )
    return time_ + _random.take()


def new_message_id(at: datetime | None = None) -> str:
    """Make a message id: `msg_` and 26 characters that sort by creation time."""
    return "msg_" + ulid(None if at is None else int(at.timestamp() * 1000))


def new_inbound_id(at: datetime) -> str:
    """Make an inbound message's id: `inb_` and 26 characters that sort by the time it was received."""
    return "inb_" + ulid(int(at.timestamp() * 1000))


def is_message_id(text: str) -> bool:
    """Tell whether `text` has the form of a message id (and so a creation time that can be read)."""
    if len(text) != 30 or not text.startswith("msg_") or text[4] not in "01234567":
        return False
    return all(c in _DECODE for c in text[4:])


def message_created_ms(message_id: str) -> int:
    """Read the creation time out of a message id, in Unix milliseconds.

    Raises:
        KeyError: a character that no message id has; check with `is_message_id` first.
    """
    value = 0
    for c in message_id[4:14]:
        value = value * 32 + _DECODE[c]
    return value


class Step(Struct, frozen=True, gc=False):
    """One step of a cascade: a channel, how long to wait for its receipt, and what counts as success."""

    channel: str
    timeout_s: float
    success: str


class Content(Quiet, Struct, gc=False):
    """What to say. A channel's own block (`sms`, `email`, `push`, `whatsapp`) wins over the common fields.

    Its repr tells nothing of it: reprs end in logs.
    """

    quiet: ClassVar[frozenset[str]] = frozenset(
        {"text", "subject", "html", "title", "data", "sms", "email", "push", "whatsapp"}
    )

    text: str | None = None
    subject: str | None = None
    html: str | None = None
    title: str | None = None
    data: dict[str, Any] | None = None
    sms: dict[str, Any] | None = None
    email: dict[str, Any] | None = None
    push: dict[str, Any] | None = None
    whatsapp: dict[str, Any] | None = None

    def for_channel(self, channel: str) -> Content:
        """Resolve the content for one channel: the common fields with the channel's own laid over them.

        What only WhatsApp has (`template`, `media`) stays in `whatsapp`.
        """
        own: dict[str, Any] | None = getattr(self, channel)
        if not own:
            return self
        return Content(
            text=own.get("text", self.text),
            subject=own.get("subject", self.subject),
            html=own.get("html", self.html),
            title=own.get("title", self.title),
            data=own.get("data", self.data),
            whatsapp=own if channel == "whatsapp" else None,
        )


class Message(Quiet, Struct, gc=False):
    """An accepted message. Times are aware and UTC. Its repr names no address and nothing a customer wrote.

    Attributes:
        message_id: `msg_` and 26 characters.
        mode: "test" when a test key sent it; such messages go to the built-in sandbox carrier only.
        to: address by field (`phone`, `email`, `push`, `whatsapp`), normalised.
        sender: sender by channel (the request's `from`).
        segments: radio parts of the SMS text; None when no step is SMS.
        country: of the phone number, ISO 3166-1 alpha-2; None when there is none, or nobody asked.
        number_type: mobile, fixed_line, ... as the country's numbering plan tells; as `country`.
        traceparent: of the request, where traces are made and it had one.
        erased_at: when addresses and content were erased (`erasure.py`); None: they were not.
    """

    quiet: ClassVar[frozenset[str]] = frozenset({"to", "reference", "metadata", "callback_url"})

    message_id: str
    tenant: str
    to: dict[str, str]
    cascade: tuple[Step, ...]
    content: Content
    created_at: datetime
    expires_at: datetime
    category: str = "transactional"
    mode: str = "live"
    sender: dict[str, str] = {}
    send_at: datetime | None = None
    reference: str | None = None
    metadata: dict[str, str] = {}
    callback_url: str | None = None
    on_ambiguous: str | None = None
    segments: int | None = None
    encoding: str | None = None
    country: str | None = None
    number_type: str | None = None
    traceparent: str | None = None
    erased_at: datetime | None = None


@lru_cache(512)  # a message shows some twelve times, three of them different: 1.3 us each, 0.1 us again
def rfc3339(at: datetime) -> str:
    """Write an aware UTC datetime as RFC 3339 with microseconds and `Z`, the form of the public contract."""
    # `isoformat` takes twice as long, since it asks for the offset; an f-string nearly so.
    date = (at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond)
    return "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ" % date  # noqa: UP031
