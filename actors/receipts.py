"""Which cascade waits for which carrier id: the memory in front of the journal's carrier_ref table.

Kept by the cascades (they say what they wait for) and read by `dlr`. Everything happens in one event loop without
waiting in between, so a receipt either finds its cascade here, or is noted as unmatched before the submit answer
that names its id is taken.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from actors.messages import ReceiptMail
from carriers.smpp.ids import canonical as canonical
from hermes.runtime import Ref

UNMATCHED_LIMIT: Final = 100_000  # receipts kept in memory for a submit answer that may still come


@dataclass(slots=True, eq=False)
class Unmatched:
    """A receipt nobody waits for yet. `row` is its parked row once stored; None while that is under way."""

    mail: ReceiptMail
    row: int | None = None
    claimed: bool = False


class ReceiptIndex:
    """(carrier, canonical id) -> waiting cascade, and the receipts that came before they were waited for."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], tuple[Ref, int, int, int]] = {}
        self._unmatched: OrderedDict[tuple[str, str], list[Unmatched]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def unmatched(self) -> int:
        """Carrier ids with receipts that nobody waits for."""
        return len(self._unmatched)

    def expect(self, key: tuple[str, str], cascade: Ref, step: int, attempt: int, segment: int) -> list[Unmatched]:
        """Wait for receipts of this id; returns those that are here already, which are then the caller's."""
        self._waiting[key] = (cascade, step, attempt, segment)
        early = self._unmatched.pop(key, None) if self._unmatched else None
        if early is None:
            return []
        mine = [unmatched for unmatched in early if not unmatched.claimed]  # it may be held under other ids, too
        for unmatched in mine:
            unmatched.claimed = True
        return mine

    def forget(self, key: tuple[str, str], cascade: Ref) -> None:
        """Stop waiting, unless another cascade waits for the same id by now."""
        found = self._waiting.get(key)
        if found is not None and found[0] is cascade:
            del self._waiting[key]

    def find(self, key: tuple[str, str]) -> tuple[Ref, int, int, int] | None:
        """Find who waits for this id: cascade, step, attempt, segment."""
        return self._waiting.get(key)

    def hold(self, key: tuple[str, str], unmatched: Unmatched) -> None:
        """Keep a receipt nobody waits for; the oldest goes when there are too many (its row stays)."""
        self._unmatched.setdefault(key, []).append(unmatched)
        if len(self._unmatched) > UNMATCHED_LIMIT:
            self._unmatched.popitem(last=False)
