"""What a message may say: its length, its words, where its links lead, and the form of its sender."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gateway.layers.base import said
from gateway.shapes import FieldError
from hermes.domain.message import Message
from hermes.tenancy import ContentSettings

# An SMS sender is a number (E.164, a short code, or a national one) or a name. 3GPP TS 23.040, 9.1.2.5: a name is at
# most 11 characters of the GSM 7-bit alphabet. What it may hold beside letters and digits is each network's business.
LONGEST_NAME: Final = 11
LONGEST_NUMBER: Final = 20  # digits of the address field (3GPP TS 23.040, 9.1.2.5)

_is_number: Final = re.compile(r"\+?[0-9]{1,20}").fullmatch
# http://, https:// or www. in any case (ſ is an s). It begins with a set of letters, which the engine looks for
# quickly: a quarter of the time of re.IGNORECASE.
_link: Final = re.compile(
    r"[hHwW](?:(?<=[hH])[tT][tT][pP][sSſ]?://|(?<=[wW])(?<![\w.@-][wW])[wW]{2}\.)([^\s/?#\"'<>()\[\]]+)"
)


class ContentLayer:
    """`content`: see the module."""

    name = "content"
    code = "content_refused"

    def __init__(self, settings: ContentSettings) -> None:
        self._most_segments = settings.max_segments
        self._longest = settings.max_length
        self._blocked = _words(settings.blocked_words) if settings.blocked_words else None
        self._hosts = frozenset(host.lower().strip(".") for host in settings.link_hosts)
        self._below = tuple("." + host for host in self._hosts)
        self._reads = bool(self._longest or self._blocked or self._hosts)

    def check(self, message: Message) -> Sequence[FieldError]:
        """See `Layer`."""
        if not (message.sender or self._most_segments or self._reads):
            return ()
        errors: list[FieldError] = []
        sender = message.sender.get("sms")
        if sender is not None and not _is_sms_sender(sender):
            why = f"is no sender of SMS: a number, or a name of at most {LONGEST_NAME} characters"
            errors.append(FieldError("from.sms", why))
        if self._most_segments and message.segments is not None and message.segments > self._most_segments:
            ((field, _), *_) = said(message, "sms")
            errors.append(FieldError(field, f"needs {message.segments} SMS parts; at most {self._most_segments} go"))
        if self._reads:
            self._read(message, errors)
        return errors

    def _read(self, message: Message, errors: list[FieldError]) -> None:
        read: set[str] = set()
        for step in message.cascade:
            for field, text in said(message, step.channel):
                if field in read:
                    continue
                read.add(field)
                if self._longest and len(text) > self._longest:
                    errors.append(FieldError(field, f"has {len(text)} characters; at most {self._longest} go"))
                if self._blocked is not None and self._blocked.search(text.casefold()) is not None:
                    errors.append(FieldError(field, "holds a word that may not be used"))
                if self._hosts and not all(self._may_lead_to(host) for host in _link.findall(text)):
                    errors.append(FieldError(field, "holds a link to a host that may not be linked to"))

    def _may_lead_to(self, authority: str) -> bool:
        host = authority.rpartition("@")[2].partition(":")[0].lower().rstrip(".,;!")
        return host in self._hosts or host.endswith(self._below)


def _words(words: Sequence[str]) -> re.Pattern[str]:
    """Match any of the words, as whole words; blanks between them may be any."""
    each = (r"\s+".join(re.escape(part) for part in word.casefold().split()) for word in words)
    return re.compile(rf"(?<!\w)(?:{'|'.join(sorted(filter(None, each), key=len, reverse=True)) or '(?!)'})(?!\w)")


def _is_sms_sender(sender: str) -> bool:
    return len(sender) <= LONGEST_NAME or (len(sender) <= LONGEST_NUMBER + 1 and _is_number(sender) is not None)
