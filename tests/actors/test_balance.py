"""Which carrier moves from which worker to which; and that such moves come to an end, whoever looks when."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.balance import Seen, Steady, Wish, to_give, wish_of
from actors.leases import to_claim

ONE_TWO = ("w1", "w2")


def of(**held: str) -> dict[str, str]:
    """Who holds what, from `w1="a b c"`."""
    return {carrier: worker for worker, carriers in held.items() for carrier in carriers.split()}


@pytest.mark.parametrize(
    ("holders", "workers", "taker", "wish"),
    [
        (of(w1="a b"), ONE_TWO, "w2", Wish("w1", 2, ("a", "b"))),
        (of(w1="a b"), ONE_TWO, "w1", None),  # it has most
        (of(w1="a"), ONE_TWO, "w2", None),  # a move would change the sides and nothing else
        (of(w1="a b", w2="c"), ONE_TWO, "w2", None),
        (of(w1="a b c", w2="d"), ONE_TWO, "w2", Wish("w1", 2, ("a", "b", "c"))),
        (of(w1="a b c"), ("w1", "w2", "w3"), "w2", Wish("w1", 3, ("a", "b", "c"))),
        (of(w1="a b c"), ("w1", "w2", "w3"), "w3", None),  # of two with as few, the first
        (of(w1="a b", w2="c d"), ("w1", "w2", "w3"), "w3", Wish("w1", 2, ("a", "b"))),  # ... with as many
        (of(w1="a b", w2="c d e"), ("w1", "w2", "w3"), "w3", Wish("w2", 3, ("c", "d", "e"))),
        (of(w1="a b c", w2="d e f", w3="g"), ("w1", "w2", "w3"), "w3", Wish("w1", 2, ("a", "b", "c"))),
        (of(w1="a b"), ("w1",), "w1", None),
        (of(w1="a b"), ("w1",), "w2", None),  # it does not live
        ({}, ONE_TWO, "w1", None),
        ({}, (), "w1", None),
    ],
)
def test_the_worker_with_fewest_asks_the_one_with_most(
    holders: dict[str, str], workers: tuple[str, ...], taker: str, wish: Wish | None
) -> None:
    assert wish_of(taker, Seen(workers, holders, holders)) == wish
    assert wish_of(taker, Seen(workers[::-1], holders, holders)) == wish


@pytest.mark.parametrize(
    ("ready", "wish"),
    [
        ("bcdefg", Wish("w1", 4, ("b", "c", "d"))),
        ("efg", Wish("w2", 3, ("e", "f", "g"))),  # what w1 has is down: whoever is next
        ("", None),
    ],
)
def test_only_carriers_that_are_well_are_asked_for(ready: str, wish: Wish | None) -> None:
    holders = of(w1="a b c d", w2="e f g")
    assert wish_of("w3", Seen(("w1", "w2", "w3"), holders, ready)) == wish


@pytest.mark.parametrize(
    ("giver", "taker", "wanted", "ready", "given_"),
    [
        ("w1", "w2", "abc", "abc", "a"),
        ("w1", "w2", "c", "abc", "c"),  # the others it does not know
        ("w1", "w2", "abc", "bc", "b"),
        ("w1", "w2", "x", "abc", None),
        ("w1", "w2", "abc", "", None),
        ("w1", "w3", "abc", "abc", None),  # w2 has as few and comes first
        ("w2", "w1", "abc", "abc", None),
        ("w1", "w9", "abc", "abc", None),  # who asked has died since
    ],
)
def test_the_giver_looks_for_itself_whether_there_is_need(
    giver: str, taker: str, wanted: str, ready: str, given_: str | None
) -> None:
    holders = of(w1="a b c")
    assert to_give(giver, taker, wanted, Seen(("w1", "w2", "w3"), holders, ready)) == given_


def test_what_is_seen_is_steady_since_it_last_changed() -> None:
    steady = Steady()
    seen = [("w1", 0.0), ("w1", 7.0), ("w2", 8.0), ("w2", 30.0), ("w1", 31.0), ("w1", 31.5)]
    assert [steady.for_s(who, now) for who, now in seen] == [0.0, 7.0, 0.0, 22.0, 0.0, 0.5]


# --- what comes of it, whoever looks when
WORKERS = ("w1", "w2", "w3", "w4", "w5")
CARRIERS = tuple("abcdefghij")


class World:
    """The table of leases, and wishes on their way. What a worker decides it decides by the table as it is then."""

    def __init__(self, workers: set[str], holders: dict[str, str]) -> None:
        self.workers = workers
        self.holders = holders
        self.wishes: dict[str, tuple[str, Wish]] = {}  # by giver: the last that came
        self.moves: list[tuple[str, str, str]] = []

    def seen(self) -> Seen:
        return Seen(self.workers, self.holders, CARRIERS)

    def unevenness(self) -> int:
        counts = Counter(self.holders.values())
        return sum(counts[worker] ** 2 for worker in self.workers)

    def asks(self, taker: str) -> None:
        wish = wish_of(taker, self.seen())
        if wish is not None:
            self.wishes[wish.giver] = (taker, wish)

    def gives(self, giver: str) -> None:
        taker, wish = self.wishes.pop(giver, ("", None))
        if wish is None or giver not in self.workers:
            return
        carrier = to_give(giver, taker, wish.carriers, self.seen())
        if carrier is not None:
            before = self.unevenness()
            assert self.holders[carrier] == giver
            self.holders[carrier] = taker
            self.moves.append((carrier, giver, taker))
            assert self.unevenness() < before

    def dies(self, worker: str) -> None:
        if len(self.workers) > 1:
            self.workers.discard(worker)
            for carrier in [name for name, holder in self.holders.items() if holder == worker]:
                del self.holders[carrier]
            for other in sorted(self.workers):  # as leases do with what is free
                held = sum(holder == other for holder in self.holders.values())
                free = [name for name in CARRIERS if name not in self.holders]
                claimed = to_claim(free, held, len(CARRIERS), len(self.workers), free)
                self.holders |= dict.fromkeys(claimed, other)

    def settle(self) -> None:
        """Let all look in turn until nobody moves anything."""
        del self.moves[:]
        self.wishes.clear()
        for _ in range(len(CARRIERS) + 1):
            before = len(self.moves)
            for worker in sorted(self.workers):
                self.asks(worker)
            for worker in sorted(self.workers):
                self.gives(worker)
            if len(self.moves) == before:
                return
        raise AssertionError("moves do not come to an end")


@given(
    st.sets(st.sampled_from(WORKERS), min_size=1).flatmap(
        lambda workers: st.tuples(
            st.just(workers), st.fixed_dictionaries({c: st.sampled_from(sorted(workers)) for c in CARRIERS})
        )
    )
)
def test_moves_end_in_balance_and_no_worker_gives_what_it_was_given(start: tuple[set[str], dict[str, str]]) -> None:
    workers, holders = start
    world = World(set(workers), dict(holders))
    world.settle()
    counts = Counter(world.holders.values())
    held = [counts[worker] for worker in workers]
    assert max(held) - min(held) <= 1
    assert not {giver for _, giver, _ in world.moves} & {taker for _, _, taker in world.moves}
    moved = [carrier for carrier, _, _ in world.moves]
    assert len(moved) == len(set(moved))
    share = len(CARRIERS) // len(workers)
    assert len(moved) <= sum(max(n - share, 0) for n in Counter(holders.values()).values())


STEPS = st.tuples(st.sampled_from(("asks", "gives", "dies", "joins")), st.sampled_from(WORKERS))


@given(st.lists(STEPS, max_size=60))
def test_whatever_dies_and_joins_and_however_late_a_wish_comes_a_move_evens_out(steps: list[tuple[str, str]]) -> None:
    world = World({"w1"}, dict.fromkeys(CARRIERS, "w1"))
    for what, worker in steps:
        if what == "joins":
            world.workers.add(worker)
        elif worker in world.workers:
            getattr(world, what)(worker)
        assert set(world.holders) == set(CARRIERS)  # each has one holder
        assert set(world.holders.values()) <= world.workers
    world.settle()
    counts = Counter(world.holders.values())
    held = [counts[worker] for worker in world.workers]
    assert max(held) - min(held) <= 1
