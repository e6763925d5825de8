"""Actors that wait, those that have waited longest first: one timer for all of them instead of one each."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from hermes.runtime import Clock, Ref

NEARLY_S: Final = 0.001  # so much too early is not waited for: sums of times are rounded


class AgeQueue:
    """Tells whoever is still in it after a time, and the oldest when there are too many.

    Joining and leaving cost two dictionary operations: what most actors wait for comes long before their time is over.

    Args:
        limit_s: how long an actor may be in it, in seconds.
        mail: what it gets then (system lane); it is out when that is sent.
        most: how many may be in it; beyond, the oldest are told early. None: any number.
    """

    __slots__ = ("_armed", "_clock", "_mail", "_most", "_since", "limit_s")

    def __init__(self, clock: Clock, limit_s: float, mail: object, most: int | None = None) -> None:
        self._clock = clock
        self.limit_s = limit_s
        self._mail = mail
        self._most = most
        self._since: OrderedDict[Ref, float] = OrderedDict()  # monotonic
        self._armed = False

    def __len__(self) -> int:
        return len(self._since)

    def join(self, ref: Ref) -> None:
        """Begin to wait; again: from now on."""
        since = self._since
        since.pop(ref, None)
        since[ref] = self._clock.monotonic()
        if not self._armed:
            self._arm(self.limit_s)
        if self._most is not None and len(since) > self._most:
            since.popitem(last=False)[0].send_system(self._mail)

    def leave(self, ref: Ref) -> None:
        """Wait no more."""
        self._since.pop(ref, None)

    def _arm(self, delay_s: float) -> None:
        self._armed = True
        self._clock.call_later(delay_s, self._look)

    def _look(self) -> None:
        """Tell those whose time is over, and come back for the next."""
        self._armed = False
        since = self._since
        now = self._clock.monotonic()
        while since:
            ref, began = next(iter(since.items()))
            left_s = began + self.limit_s - now
            if left_s > NEARLY_S:
                self._arm(left_s)
                return
            del since[ref]
            ref.send_system(self._mail)
