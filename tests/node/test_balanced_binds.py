"""SMPP carriers over several workers: who has none gets its share from who has most, with messages under way."""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp
import pytest

from actors.leases import STEADY_S
from tests.node.harness import FIRST_START_WITHIN_S, SOON_S, Node, carrier, two_of_one_database, until
from tests.node.test_shared_binds import IN_HANDS, Flow, _names, taken
from tests.node.test_smpp import Centre, hermes_smsc
from tests.node.test_workers import FINAL_WITHIN_S, MOVED_WITHIN_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

NAMES = ("alpha", "beta", "gamma")
BALANCED_WITHIN_S = 2 * STEADY_S + MOVED_WITHIN_S


def carriers(centre: Centre, *names: str) -> str:
    """These carriers with an account and a bind each: a receipt comes by any bind of its account."""
    common = {"kind": "smpp", "channel": "sms", "host": "127.0.0.1", "port": centre.port, "password": "secret"}
    tables = "".join(carrier(name=name, system_id=name, from_="Hermes", **common) for name in names)
    listed = ", ".join(f'"{name}"' for name in names)
    return f'{tables}\n[[route]]\nchannel = "sms"\ncarriers = [{listed}]\nstrategy = "weighted"\n'


async def holders(node: Node) -> dict[str, str] | None:
    """The worker that has each carrier's bind; None while somebody does not say."""
    try:
        tree = await node.ask("GET", "/v1/actors", timeout_s=5)
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None
    if tree.status != 200:
        return None
    found = [name.split("/") for name in _names(tree.body) if name.endswith("/connection/1")]
    # worker/<id>/smpp/<carrier>/connection/1, or without the worker while there is one
    return {parts[-3]: parts[1] if parts[0] == "worker" else "" for parts in found}


async def shares(node: Node) -> list[int]:
    """How many carriers each worker that has any holds."""
    return sorted(Counter((await holders(node) or {}).values()).values())


async def all_bound(centre: Centre, count: int) -> bool:
    bound: int = sum(bind["bound"] for bind in (await centre.get("/stats"))["binds"])
    return bound == count


def trickle(flow: Flow) -> AbstractAsyncContextManager[None]:
    """Messages all the time, fewer than the centre lists."""
    return flow.coming_in(customers=2, pause_s=0.1)


async def sent_once_and_delivered(node: Node, centre: Centre, flow: Flow) -> None:
    """All were delivered, at the first attempt."""
    done = await node.all_final(flow.ids, FINAL_WITHIN_S)
    assert {message["status"] for message in done.values()} == {"delivered"}
    assert {len(message["attempts"]) for message in done.values()} == {1}
    used = Counter(message["attempts"][0]["carrier"] for message in done.values())
    assert len(used) > 1, used
    found = await taken(centre)
    ids = set(flow.ids)
    assert {found[text] for text, id_ in flow.texts.items() if id_ in ids} == {1}
    print(f"{len(done)} delivered, by carrier: {dict(used)}")


async def test_who_joins_and_who_comes_back_gets_its_share_with_messages_under_way(tmp_path: Path) -> None:
    accounts = [argument for name in NAMES for argument in ("--account", f"{name}:secret")]
    async with hermes_smsc(*accounts) as centre, two_of_one_database(tmp_path, carriers(centre, *NAMES)) as (a, b):
        key = (await a.tenant()).key

        async def share(*held: int) -> bool:
            return await shares(a) == list(held) and await all_bound(centre, len(NAMES))

        joins = Flow(a, key, on_ambiguous="never")
        async with trickle(joins):
            await joins.goes_on()
            await until(lambda: share(3), SOON_S, "the first had taken all when the second came")
            await until(lambda: share(1, 2), BALANCED_WITHIN_S, "the second has one")
            await joins.goes_on()
        await sent_once_and_delivered(a, centre, joins)
        assert "it held 3 fewer" in a.log and "it held 3 more" in b.log

        dies = Flow(a, key, on_ambiguous="never")
        dies.texts = dict(joins.texts)
        async with trickle(dies):
            await dies.goes_on()
            b.kill()
            await until(lambda: share(3), MOVED_WITHIN_S, "the survivor has all")
            await dies.goes_on()

        comes_back = Flow(a, key, on_ambiguous="never")
        comes_back.texts = dict(dies.texts)
        async with trickle(comes_back):
            await comes_back.goes_on()
            await b.start(FIRST_START_WITHIN_S)
            await until(lambda: share(1, 2), BALANCED_WITHIN_S, "who came back has one again")
            await comes_back.goes_on()
        await sent_once_and_delivered(a, centre, comes_back)

        found = await taken(centre)
        assert max(found.values()) == 1
        ended = await a.messages(dies.ids)
        doubtful = [id_ for id_, message in ended.items() if message["status"] != "delivered"]
        print(f"{len(ended)} around the death, {len(doubtful)} of them in doubt")
        assert len(doubtful) <= IN_HANDS  # what the one that was killed had in its hands: nobody sends it
