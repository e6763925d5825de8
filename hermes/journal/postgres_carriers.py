"""Carriers that only one worker may send by, over one PostgreSQL: who holds each, and what others hand over to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from hermes.journal.base import CarrierLease, Errand, Fenced, Handover
from hermes.journal.postgres_workers import CLAIMING, NEWS_CHANNEL, PostgresWorkers
from hermes.journal.queries import QUERIES

_FIELDS: Final = ("carrier", "kind", "message_id", "step", "attempt", "once", "expires_at", "body", "worker", "id")


class PostgresCarriers(PostgresWorkers):
    """See `hermes.journal.base.Journal`; `PostgresJournal` is one."""

    _lease_until: float

    @property
    def lease_until(self) -> float:
        return self._lease_until

    async def claim_carriers(self, carriers: Sequence[str]) -> list[str]:
        if not carriers:
            return []
        async with self._link.borrow() as connection, connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", CLAIMING)
            rows = await connection.fetch(QUERIES["claim_carriers"], self.worker_id, list(carriers))
        dead = await self._link.fetch(QUERIES["is_dead"], self.worker_id)
        if not dead or dead[0]["dead"]:
            self._writer.fence()
            raise Fenced("this worker was declared dead")
        return sorted(row["carrier"] for row in rows)

    async def carrier_leases(self) -> list[CarrierLease]:
        rows = await self._link.fetch(QUERIES["carrier_leases"])
        return [CarrierLease(row["carrier"], row["owner"], row["state"], row["reason"], row["free"]) for row in rows]

    async def tell_carrier(self, carrier: str, state: str, reason: str | None) -> None:
        await self._link.fetch(QUERIES["tell_carrier"], self.worker_id, carrier, state, reason, NEWS_CHANNEL)

    async def give_carrier(self, carrier: str, to: str) -> bool:
        rows = await self._link.fetch(QUERIES["give_carrier"], self.worker_id, carrier, to, NEWS_CHANNEL)
        return bool(rows[0]["given"])

    async def hand_over(self, handovers: Sequence[Handover]) -> None:
        rows = await self._link.fetch(
            QUERIES["hand_over"],
            self.worker_id,
            [h.carrier for h in handovers],
            [h.kind for h in handovers],
            [h.message_id for h in handovers],
            [h.step for h in handovers],
            [h.attempt for h in handovers],
            [h.once for h in handovers],
            [h.expires_at for h in handovers],
            [h.body for h in handovers],
            self._clock.now(),
            NEWS_CHANNEL,
        )
        if handovers and not rows[0]["kept"]:
            self._writer.fence()
            raise Fenced("this worker was declared dead")

    async def take_handovers(self, carrier: str, limit: int, *, lasting_s: float = 0.0) -> list[Handover]:
        until = self._clock.now() + timedelta(seconds=lasting_s)
        rows = await self._link.fetch(QUERIES["take_handovers"], self.worker_id, carrier, limit, until)
        found = [Handover(*(row[name] for name in _FIELDS)) for row in rows]
        return sorted(found, key=lambda handover: handover.id)

    async def taken_handovers(self, carrier: str) -> list[Handover]:
        rows = await self._link.fetch(QUERIES["taken_handovers"], carrier)
        return [Handover(*(row[name] for name in _FIELDS)) for row in rows]

    async def give_back_handovers(self, carrier: str, ids: Sequence[int]) -> None:
        await self._link.fetch(QUERIES["give_back_handovers"], self.worker_id, carrier, list(ids))

    async def handed_over(self, carrier: str) -> set[str]:
        rows = await self._link.fetch(QUERIES["handed_over"], self.worker_id, carrier, list(self._shards))
        return {row["message_id"] for row in rows}

    async def recall_handovers(self, carrier: str, *, within_s: float | None = None) -> list[tuple[str, int, int]]:
        until = self._clock.now() + timedelta(seconds=within_s or 0.0)
        rows = await self._link.fetch(QUERIES["recall_handovers"], self.worker_id, carrier, within_s is None, until)
        return [(row["message_id"], row["step"], row["attempt"]) for row in rows]

    async def answer_handovers(self, errands: Sequence[Errand], done: Sequence[tuple[str, int]]) -> None:
        async with self._link.borrow() as connection, connection.transaction():
            if errands:
                await connection.fetch(QUERIES["send_errands"], *self._errand_rows(errands))
            if done:
                carriers, ids = [carrier for carrier, _ in done], [id_ for _, id_ in done]
                await connection.fetch(QUERIES["handovers_done"], carriers, ids)
