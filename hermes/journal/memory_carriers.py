"""Carriers that only one worker may send by, in memory: the same as `postgres_carriers.py`, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from hermes.journal.base import NEWS_CARRIERS, NEWS_HANDOVER, CarrierLease, Errand, Fenced, Handover
from hermes.journal.memory_workers import MemoryWorkers


class MemoryCarriers(MemoryWorkers):
    """See `hermes.journal.base.Journal`; `MemoryJournal` is one."""

    @property
    def lease_until(self) -> float:
        return float("-inf") if self._dead(self.worker_id) else float("inf")

    def _dead(self, worker_id: str) -> bool:
        worker = self._store.workers.get(worker_id)
        return worker is None or worker.row.dead

    async def claim_carriers(self, carriers: Sequence[str]) -> list[str]:
        self._reach()
        if self._dead(self.worker_id):
            raise Fenced("this worker was declared dead")
        taken = []
        for carrier in carriers:
            lease = self._store.leases.get(carrier)
            if lease is None or self._dead(lease.owner):
                known = CarrierLease(carrier, self.worker_id) if lease is None else replace(lease, owner=self.worker_id)
                self._store.leases[carrier] = known
                taken.append(carrier)
        return sorted(taken)

    async def carrier_leases(self) -> list[CarrierLease]:
        self._reach()
        return [replace(lease, free=self._dead(lease.owner)) for _, lease in sorted(self._store.leases.items())]

    async def tell_carrier(self, carrier: str, state: str, reason: str | None) -> None:
        self._reach()
        lease = self._store.leases.get(carrier)
        if lease is not None and lease.owner == self.worker_id:
            self._store.leases[carrier] = replace(lease, state=state, reason=reason)
            self._tell_others(NEWS_CARRIERS)

    async def give_carrier(self, carrier: str, to: str) -> bool:
        self._reach()
        lease = self._store.leases.get(carrier)
        if lease is None or lease.owner != self.worker_id or to == self.worker_id:
            return False
        if self._dead(self.worker_id) or self._dead(to):
            return False
        self._store.leases[carrier] = replace(lease, owner=to)
        self._tell_others(NEWS_CARRIERS)
        return True

    async def hand_over(self, handovers: Sequence[Handover]) -> None:
        self._reach()
        if self._dead(self.worker_id):
            raise Fenced("this worker was declared dead")
        store = self._store
        for handover in handovers:
            store.errand_id += 1
            store.handovers[store.errand_id] = (replace(handover, worker=self.worker_id, id=store.errand_id), None)
        owners = {lease.owner for h in handovers if (lease := store.leases.get(h.carrier)) is not None}
        for owner in sorted(owners):
            self._tell_others(NEWS_HANDOVER, owner)

    async def take_handovers(self, carrier: str, limit: int, *, lasting_s: float = 0.0) -> list[Handover]:
        self._reach()
        store, until = self._store, self._clock.now() + timedelta(seconds=lasting_s)
        lease = store.leases.get(carrier)
        if lease is None or lease.owner != self.worker_id or self._dead(self.worker_id):
            return []
        taken: list[Handover] = []
        for id_, (handover, taken_by) in list(store.handovers.items()):
            if handover.carrier != carrier or taken_by is not None:
                continue
            orphan, expired = self._dead(handover.worker), handover.expires_at <= until
            if orphan and (expired or not handover.once):
                del store.handovers[id_]
            elif not expired and len(taken) < limit:
                store.handovers[id_] = (handover, self.worker_id)
                taken.append(handover)
        return taken

    async def taken_handovers(self, carrier: str) -> list[Handover]:
        self._reach()
        return [h for h, taken_by in self._store.handovers.values() if h.carrier == carrier and taken_by is not None]

    async def give_back_handovers(self, carrier: str, ids: Sequence[int]) -> None:
        self._reach()
        for id_ in ids:
            known = self._store.handovers.get(id_)
            if known is not None and known[1] == self.worker_id:
                self._store.handovers[id_] = (known[0], None)

    async def handed_over(self, carrier: str) -> set[str]:
        self._reach()
        rows = {
            h.message_id
            for h, _ in self._store.handovers.values()
            if h.carrier == carrier and h.worker == self.worker_id
        }
        return rows | {e.message_id for e in self._store.errands.values() if e.kind == "answer"}

    async def recall_handovers(self, carrier: str, *, within_s: float | None = None) -> list[tuple[str, int, int]]:
        self._reach()
        until = self._clock.now() + timedelta(seconds=within_s or 0.0)
        recalled: list[tuple[str, int, int]] = []
        for id_, (handover, taken_by) in list(self._store.handovers.items()):
            mine = handover.carrier == carrier and handover.worker == self.worker_id and taken_by is None
            if mine and (within_s is None or handover.expires_at <= until):
                del self._store.handovers[id_]
                recalled.append((handover.message_id, handover.step, handover.attempt))
        return recalled

    async def answer_handovers(self, errands: Sequence[Errand], done: Sequence[tuple[str, int]]) -> None:
        self._reach()
        await self.send_errands(errands)
        for _, id_ in done:
            self._store.handovers.pop(id_, None)
