"""Which cascade waits for which carrier id: the memory in front of the journal's carrier_ref table.

Kept by the cascades (they say what they wait for) and read by `dlr`. Everything happens in one event loop without
waiting in between, so a receipt either finds its cascade here, or is noted as unmatched before the submit answer
that names its id is taken.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from actors.messages import ReceiptMail
from carriers.smpp.ids import canonical as canonical
from hermes.runtime import Ref

UNMATCHED_LIMIT: Final = 100_000  # receipts kept in memory for a submit answer that may still come


@dataclass(slots=True, eq=False)
class Unmatched:
    """A receipt nobody waits for yet.

    Attributes:
        row: its parked row once stored; None while that is under way.
        claimed: somebody has taken it.
        keys: (carrier, canonical id): under which it is held; one id has many spellings.
    """

    mail: ReceiptMail
    row: int | None = None
    claimed: bool = False
    keys: tuple[tuple[str, str], ...] = ()


class ReceiptIndex:
    """(carrier, canonical id) -> waiting cascade, and the receipts that came before they were waited for."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], tuple[Ref, int, int, int]] = {}
        self._early: dict[tuple[str, str], list[Unmatched]] = {}
        self._unmatched: OrderedDict[Unmatched, None] = OrderedDict()  # all those in `_early`, once; oldest first

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def unmatched(self) -> int:
        """Receipts that nobody waits for, each counted once however many ids it is held under."""
        return len(self._unmatched)

    def expect(self, key: tuple[str, str], cascade: Ref, step: int, attempt: int, segment: int) -> list[Unmatched]:
        """Wait for receipts of this id; returns those that are here already, which are then the caller's."""
        self._waiting[key] = (cascade, step, attempt, segment)
        early = self._early.get(key) if self._early else None
        if early is None:
            return []
        mine = list(early)
        for unmatched in mine:
            self.claim(unmatched)
        return mine

    def claim(self, unmatched: Unmatched) -> None:
        """Take a receipt: nobody else will find it."""
        unmatched.claimed = True
        self._release(unmatched)

    def forget(self, key: tuple[str, str], cascade: Ref) -> None:
        """Stop waiting, unless another cascade waits for the same id by now."""
        found = self._waiting.get(key)
        if found is not None and found[0] is cascade:
            del self._waiting[key]

    def find(self, key: tuple[str, str]) -> tuple[Ref, int, int, int] | None:
        """Find who waits for this id: cascade, step, attempt, segment."""
        return self._waiting.get(key)

    def hold(self, unmatched: Unmatched, keys: Iterable[tuple[str, str]]) -> None:
        """Keep a receipt nobody waits for; the oldest goes when there are too many (its row stays)."""
        unmatched.keys = tuple(dict.fromkeys(keys))
        for key in unmatched.keys:
            self._early.setdefault(key, []).append(unmatched)
        self._unmatched[unmatched] = None
        if len(self._unmatched) > UNMATCHED_LIMIT:
            self._release(next(iter(self._unmatched)))

    def release_all(self) -> None:
        """Keep none: their rows are about to be read back."""
        self._early.clear()
        self._unmatched.clear()

    def _release(self, unmatched: Unmatched) -> None:
        self._unmatched.pop(unmatched, None)
        for key in unmatched.keys:
            held = self._early.get(key, [])
            if unmatched in held:
                held.remove(unmatched)
            if not held:
                self._early.pop(key, None)
        unmatched.keys = ()
