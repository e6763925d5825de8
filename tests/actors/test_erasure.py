"""The erasure actor: one recipient who cannot be erased now holds up nobody else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from hermes.domain.commands import ErasureAsked
from hermes.domain.erasure import Erasure
from hermes.domain.message import ulid
from hermes.journal.base import JournalAway
from tests.actors.cast import message, start_cast


async def test_who_cannot_be_erased_now_holds_up_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    node = await start_cast()
    journal = node.journal
    erasable = journal.erasable
    stuck = [True]

    async def fails_for_one(tenant: str, *more: Any) -> Any:
        if tenant == "ten_stuck" and stuck[0]:
            raise JournalAway
        return await erasable(tenant, *more)

    monkeypatch.setattr(journal, "erasable", fails_for_one)
    now = node.context.clock.now()
    phone = message(node.tenant).to["phone"]
    tenants = ("ten_stuck", node.tenant)
    erasures = [
        Erasure("era_" + ulid(1_000 + n), tenant, "hash", phone, "test", now + timedelta(seconds=n))
        for n, tenant in enumerate(tenants)
    ]
    for erasure in erasures:
        await journal.put_erasure(erasure)
    assert [e.tenant for e in await journal.open_erasures()] == list(tenants)
    node.system.send("erasures", ErasureAsked())

    async def left() -> list[str]:
        return [e.tenant for e in await journal.open_erasures()]

    async def only_the_stuck_one() -> bool:
        return await left() == ["ten_stuck"]

    await node.until(only_the_stuck_one, 30.0)
    stuck[0] = False

    async def none() -> bool:
        return not await left()

    await node.until(none, 30.0)
    await node.stop()
