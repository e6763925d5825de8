"""The same request twice is one message: what an Idempotency-Key stands for, here and in the journal.

The journal holds the truth (24 h, over restarts and workers); this remembers the latest answers and which
requests run right now in this process. A refused request leaves no trace.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any, Final

import msgspec

from gateway.edge import reading
from gateway.problems import Problem, invalid
from hermes.journal.base import Journal
from hermes.runtime import Clock

LONGEST: Final = 255  # characters of a key
LOOK_UP_WITHIN_S: Final = 0.8  # leaves time to send within the 2 s of an answer
_KEPT_S: Final = 86_400.0
_MOST_KEPT: Final = 10_000  # answers in memory, about 600 octets each

_encode = msgspec.json.Encoder(order="sorted").encode


def check_key(key: str) -> None:
    """Refuse what is no key.

    Raises:
        Problem: schema_invalid.
    """
    if not 0 < len(key) <= LONGEST or not key.isascii() or not key.isprintable():
        raise invalid("Idempotency-Key", f"has 1 to {LONGEST} printable ASCII characters")


def stored_key(key: str, mode: str) -> str:
    """Name a key in the journal. Test keys see test messages only, so their idempotency keys are apart.

    A live key is printable ASCII: the arrow keeps it from ever being equal to a test key's.
    """
    return key if mode == "live" else f"test→{key}"


def request_hash(value: Any) -> bytes:
    """Hash parsed JSON: the order of members does not matter, and 1 is 1.0."""
    return hashlib.sha256(_encode(_canonical(value))).digest()


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


class Idempotency:
    """Answers given, and requests running, by (tenant, stored key)."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._running: set[tuple[str, str]] = set()
        self._answers: OrderedDict[tuple[str, str], tuple[bytes, str, float]] = OrderedDict()

    async def begin(self, tenant: str, key: str, hash_: bytes) -> str | None:
        """Take up a request: returns the stored answer, or None when it has to be carried out.

        After None the caller calls `end` exactly once.

        Raises:
            Problem: idempotency_running, idempotency_mismatch, journal_away.
        """
        name = (tenant, key)
        if name in self._running:
            raise running()
        answer = self._answers.get(name)
        if answer is not None and answer[2] > self._clock.monotonic():
            return _same(answer[0], hash_, answer[1])
        self._running.add(name)
        try:
            record = await reading(self._journal.find_idempotent(tenant, key), LOOK_UP_WITHIN_S)
        except BaseException:
            self._running.discard(name)
            raise
        if record is None:
            return None
        self._running.discard(name)
        return _same(record.request_hash, hash_, record.response)

    def end(self, tenant: str, key: str, hash_: bytes, answer: str | None) -> None:
        """Close a request: with its 202 body, or None when it was refused or its outcome is unknown."""
        name = (tenant, key)
        self._running.discard(name)
        if answer is not None:
            self._answers[name] = (hash_, answer, self._clock.monotonic() + _KEPT_S)
            self._answers.move_to_end(name)
            if len(self._answers) > _MOST_KEPT:
                self._answers.popitem(last=False)

    async def settled(self, tenant: str, key: str, hash_: bytes) -> str:
        """Find the answer of the request that was first, after the journal told of one.

        Raises:
            Problem: idempotency_running (it is not visible yet), idempotency_mismatch, journal_away.
        """
        record = await reading(self._journal.find_idempotent(tenant, key))
        if record is None:
            raise running()
        return _same(record.request_hash, hash_, record.response)


def running() -> Problem:
    """Make the answer while the first request with this key is not over."""
    return Problem("idempotency_running", "Another request with this Idempotency-Key is running.")


def _same(stored: bytes, asked: bytes, answer: str) -> str:
    if stored != asked:
        raise Problem("idempotency_mismatch", "This Idempotency-Key was used with another body.")
    return answer
