"""Which of the 64 shards this worker holds, and how many are its share. A message belongs to the shard its id says.

Only a shard's owner has cascades of its messages. Ids are chosen so that what a worker accepts is its own: accepting
and the whole cascade stay in one process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final

from hermes.domain.commands import Refused
from hermes.domain.message import new_inbound_id, new_message_id
from hermes.journal.base import SHARDS, shard_of

NEVER: Final = datetime.min.replace(tzinfo=UTC)
RETRY_AFTER_S: Final = 1.0


def quota(worker: str, living: Sequence[str], expected: int = 1) -> int:
    """Say how many shards are a worker's fair share.

    Everybody who knows the same workers comes to the same answer, and the answers add up to 64.

    Args:
        worker: its id.
        living: the ids of all that live, this one's among them, in any order.
        expected: so many will live soon; the share is not larger than it will be then.
    """
    count = max(len(living), expected)
    rank = sorted(living).index(worker)
    return SHARDS // count + (rank < SHARDS % count)


def surplus(held: Collection[int], share: int) -> list[int]:
    """Name the shards to give back: those beyond the share, the last first."""
    return sorted(held, reverse=True)[: max(len(held) - share, 0)]


class Shards:
    """What this worker holds.

    Attributes:
        held: each with the latest moment its former owner may have acted. Messages of these are this worker's.
        open: those of them in which new messages are accepted: everything their former owner left is known.
        recovering: held, and what their former owner had in its hands is still being read back.
        leaving: about to be given back: what is left of them in memory is on its way out.
        accepting: set once there was an open one.
        workers: the ids of those that lived at the last look, this one's included; none: this process is alone.
    """

    def __init__(self, held: dict[int, datetime] | None = None) -> None:
        self.held: dict[int, datetime] = {} if held is None else held
        self.open: frozenset[int] = frozenset()
        self.recovering: set[int] = set()
        self.leaving: frozenset[int] = frozenset()
        self.workers: tuple[str, ...] = ()
        self._all_open = False
        self.accepting = asyncio.Event()

    @classmethod
    def alone(cls) -> Shards:
        """Make those of a process that has the journal to itself."""
        shards = cls(dict.fromkeys(range(SHARDS), NEVER))
        shards.set_open(range(SHARDS))
        return shards

    def set_open(self, shards: Collection[int]) -> None:
        """Say in which new messages are accepted."""
        self.open = frozenset(shards)
        self._all_open = len(self.open) == SHARDS
        if shards:
            self.accepting.set()

    def owns(self, message_id: str) -> bool:
        """Tell whether a message is this worker's."""
        return len(self.held) == SHARDS or shard_of(message_id) in self.held

    @property
    def living(self) -> int:
        """How many workers there were at the last look, this one included."""
        return len(self.workers) or 1

    @property
    def part(self) -> float:
        """The share of all messages that is this worker's, 0..1."""
        return len(self.held) / SHARDS

    def new_message_id(self, at: datetime) -> str:
        """Make an id for a message that this worker accepts; with n workers it takes n tries of a microsecond or two.

        Raises:
            Refused: this worker holds no shard in which it may accept.
        """
        if self._all_open:
            return new_message_id(at)
        if not self.open:
            raise Refused("overloaded", "this worker is about to start, or to stop", retry_after_s=RETRY_AFTER_S)
        while True:
            message_id = new_message_id(at)
            if shard_of(message_id) in self.open:
                return message_id

    def new_inbound_id(self, at: datetime) -> str:
        """Make an id for an inbound message, whose webhooks are then this worker's, if it holds any shard."""
        while True:
            inbound_id = new_inbound_id(at)
            if self._all_open or not self.open or shard_of(inbound_id) in self.open:
                return inbound_id
