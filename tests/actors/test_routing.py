"""The routing table: which carriers, in which order, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.routes import CarrierEntry, Match, Route
from actors.routing import Observed, RoutingTable, explained
from hermes.domain.health import CarrierHealth
from hermes.domain.message import Content, Message, Step, new_message_id
from hermes.domain.quality import Quality
from hermes.domain.rates import read_deck

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
A = CarrierEntry("a", "sms", cost=0.05)
B = CarrierEntry("b", "sms", cost=0.02)
C = CarrierEntry("c", "sms", cost=0.03)
MAIL = CarrierEntry("mail", "email")


def msg(**fields: Any) -> Message:
    given: dict[str, Any] = {
        "to": {"phone": "+4520120001", "email": "a@example.com"},
        "cascade": (Step("sms", 60, "delivered"),),
        "content": Content(text="x"),
        "created_at": NOW,
        "expires_at": NOW + timedelta(hours=1),
        "segments": 2,
    }
    return Message(new_message_id(), fields.pop("tenant", "ten_1"), **{**given, **fields})


def names(table: RoutingTable, message: Message) -> list[str]:
    return [c.carrier for c in table.candidates(message, 0)]


def test_without_a_route_the_channels_carriers_are_asked_in_order() -> None:
    assert names(RoutingTable([A, MAIL, B, C]), msg()) == ["a", "b", "c"]


def test_a_carrier_of_one_tenant_serves_nobody_else() -> None:
    table = RoutingTable([CarrierEntry("own", "sms", tenant="ten_1"), A])
    assert names(table, msg()) == ["own", "a"]
    assert names(table, msg(tenant="ten_2")) == ["a"]


@pytest.mark.parametrize(
    ("match", "message", "applies"),
    [
        (Match(), msg(), True),
        (Match(tenant=frozenset({"ten_1"})), msg(), True),
        (Match(tenant=frozenset({"ten_2"})), msg(), False),
        (Match(prefix=("+46", "+45")), msg(), True),
        (Match(prefix=("+46",)), msg(), False),
        (Match(sender=frozenset({"Hermes"})), msg(sender={"sms": "Hermes"}), True),
        (Match(sender=frozenset({"Hermes"})), msg(), False),
        (Match(category=frozenset({"otp"})), msg(category="otp"), True),
        (Match(category=frozenset({"otp"})), msg(), False),
        (Match(from_hour=9, to_hour=17), msg(), True),
        (Match(from_hour=13, to_hour=17), msg(), False),
        (Match(from_hour=22, to_hour=13), msg(), True),
        (Match(from_hour=22, to_hour=6), msg(), False),
        (Match(prefix=("+45",), category=frozenset({"otp"})), msg(), False),
        (Match(mcc=frozenset({"238", "240"})), msg(), True),
        (Match(mcc=frozenset({"240"})), msg(), False),
        (Match(mcc=frozenset({"310"})), msg(to={"phone": "+12025550123"}), True),
        (Match(mcc=frozenset({"238"}), mnc=frozenset({"01"})), msg(), False),
    ],
)
def test_a_route_applies_to_what_it_matches(match: Match, message: Message, applies: bool) -> None:
    table = RoutingTable([A, B], [Route("sms", ("b",), match)], Observed({}, now=lambda: NOW))
    assert names(table, message) == (["b"] if applies else ["a", "b"])


def test_the_first_route_that_matches_decides() -> None:
    routes = [Route("sms", ("c",), Match(prefix=("+45",))), Route("sms", ("b",))]
    table = RoutingTable([A, B, C], routes)
    assert names(table, msg()) == ["c"]
    assert names(table, msg(to={"phone": "+46701234567"})) == ["b"]


def test_least_cost_asks_the_cheapest_first() -> None:
    table = RoutingTable([A, B, C], [Route("sms", ("a", "b", "c"), strategy="least_cost")])
    assert names(table, msg()) == ["b", "c", "a"]


def test_weighted_shares_by_weight_and_a_message_keeps_its_order() -> None:
    heavy, light = CarrierEntry("heavy", "sms", weight=3), CarrierEntry("light", "sms", weight=1)
    table = RoutingTable([heavy, light], [Route("sms", ("light", "heavy"), strategy="weighted")])
    messages = [msg() for _ in range(2000)]
    first = [names(table, m) for m in messages]
    share = sum(order[0] == "heavy" for order in first) / 2000
    assert 0.7 < share < 0.8
    assert [names(table, m) for m in messages] == first


def test_a_weight_of_zero_comes_last() -> None:
    none = CarrierEntry("none", "sms", weight=0)
    table = RoutingTable([none, A], [Route("sms", ("none", "a"), strategy="weighted")])
    assert all(names(table, msg()) == ["a", "none"] for _ in range(50))


def test_an_unfit_carrier_is_no_candidate_while_another_is_left() -> None:
    health = {"a": CarrierHealth(NOW, order="paused"), "b": CarrierHealth(NOW)}
    table = RoutingTable([A, B], (), Observed(health))
    assert names(table, msg()) == ["b"]
    health["b"].away = "no bind"
    assert names(table, msg()) == ["a", "b"]


def test_the_routes_policy_wins_over_the_carriers() -> None:
    never = CarrierEntry("n", "sms", on_ambiguous="never")
    assert RoutingTable([never]).candidates(msg(), 0)[0].on_ambiguous == "never"
    table = RoutingTable([never], [Route("sms", ("n",), on_ambiguous="resend")])
    assert table.candidates(msg(), 0)[0].on_ambiguous == "resend"


def test_a_test_message_goes_to_the_sandbox() -> None:
    assert names(RoutingTable([A]), msg(mode="test")) == ["sandbox"]


def test_explain_tells_of_every_carrier_why_and_its_price() -> None:
    other = CarrierEntry("theirs", "sms", tenant="ten_2")
    health = {"a": CarrierHealth(NOW, order="paused")}
    table = RoutingTable([A, B, C, other, MAIL], [Route("sms", ("a", "b"), strategy="least_cost")], Observed(health))
    told = explained(table, msg())
    assert [(t["carrier"], t["eligible"], t["price"]) for t in told] == [
        ("b", True, 0.04),
        ("a", False, 0.1),
        ("c", False, 0.06),
        ("theirs", False, 0.0),
        ("mail", False, 0.0),
    ]
    assert [t["reason"] for t in told] == [
        "route 1, least_cost",
        "paused: paused by an operator",
        "not named by route 1, which matches",
        "belongs to another tenant",
        "serves channel email",
    ]


DK = read_deck("mcc,mnc,prefix,price,valid_from\n238,01,+452012,0.001,\n238,,,0.2,\n238,,,0.01,2026-06-01")


def test_a_network_matches_where_a_deck_tells_whose_the_number_is() -> None:
    decked = CarrierEntry("d", "sms", deck=DK)
    table = RoutingTable([A, decked], [Route("sms", ("d",), Match(mcc=frozenset({"238"}), mnc=frozenset({"01"})))])
    assert names(table, msg()) == ["d"]
    assert names(table, msg(to={"phone": "+4530123456"})) == ["a", "d"]


@pytest.mark.parametrize(
    ("number", "now", "order", "price"),
    [
        ("+4520120001", NOW, ["d", "b", "a"], 0.002),
        ("+4530120001", NOW, ["b", "a", "d"], 0.04),
        ("+4530120001", datetime(2026, 7, 1, tzinfo=UTC), ["d", "b", "a"], 0.02),
        ("+46701234567", NOW, ["b", "a", "d"], 0.04),
    ],
)
def test_least_cost_goes_by_the_decks_at_this_moment(
    number: str, now: datetime, order: list[str], price: float
) -> None:
    decked = CarrierEntry("d", "sms", cost=0.3, deck=DK)
    table = RoutingTable(
        [A, B, decked], [Route("sms", ("a", "b", "d"), strategy="least_cost")], Observed({}, now=lambda: now)
    )
    m = msg(to={"phone": number})
    assert names(table, m) == order
    assert table.explain(m, 0)[0].price == price


def test_quality_asks_the_best_first_and_forgets() -> None:
    now = 0.0
    quality = {"a": Quality(), "b": Quality(), "c": Quality()}
    observed = Observed({}, quality=quality, monotonic=lambda: now)
    table = RoutingTable([A, B, C], [Route("sms", ("a", "b", "c"), strategy="quality")], observed)
    assert names(table, msg()) == ["a", "b", "c"]
    for _ in range(100):
        quality["a"].failed(now, heard=False)
        quality["c"].delivered(now, 1.0)
    assert names(table, msg()) == ["c", "b", "a"]
    assert table.explain(msg(), 0)[0].reason == f"route 1, quality, score {quality['c'].score(now):.2f}"
    now = 1000.0
    assert names(table, msg()) == ["a", "b", "c"]


def test_a_sticky_route_keeps_a_recipients_carrier_and_shares_recipients_by_weight() -> None:
    heavy, light = CarrierEntry("heavy", "sms", weight=3), CarrierEntry("light", "sms", weight=1)
    table = RoutingTable([heavy, light], [Route("sms", ("light", "heavy"), strategy="weighted", sticky=True)])
    people = [{"phone": f"+45201{n:05}"} for n in range(1000)]
    first = [names(table, msg(to=to)) for to in people]
    assert [names(table, msg(to=to)) for to in people] == first
    assert 650 < sum(order[0] == "heavy" for order in first) < 850


def test_a_carrier_whose_queue_is_full_is_skipped_while_another_has_room() -> None:
    full: set[str] = {"a"}
    health: dict[str, CarrierHealth] = {}
    table = RoutingTable([A, B], (), Observed(health, full))
    assert names(table, msg()) == ["b"]
    told = explained(table, msg())
    assert (told[1]["carrier"], told[1]["eligible"], told[1]["reason"]) == ("a", False, "its queue is full")
    health["b"] = CarrierHealth(NOW, order="paused")
    assert names(table, msg()) == ["a", "b"]  # it will have room again; b may stay paused for ever
    full.clear()
    assert names(table, msg()) == ["a"]


def test_a_candidate_says_how_it_was_chosen_and_who_was_skipped() -> None:
    health = {"a": CarrierHealth(NOW, order="paused")}
    table = RoutingTable([A, B], [Route("sms", ("a", "b"))], Observed(health))
    (chosen,) = table.candidates(msg(), 0)
    assert chosen.why == {
        "route": 1,
        "strategy": "fixed",
        "skipped": {"a": "paused: paused by an operator"},
    }
    assert RoutingTable([A, B]).candidates(msg(), 0)[0].why is None


ENTRIES = st.lists(
    st.builds(
        CarrierEntry,
        st.sampled_from("abcdef"),
        st.sampled_from(["sms", "email"]),
        tenant=st.sampled_from([None, "ten_1", "ten_2"]),
        weight=st.floats(0, 5),
        cost=st.floats(0, 1),
    ),
    unique_by=lambda e: e.name,
    max_size=6,
)
ROUTES = st.lists(
    st.builds(
        Route,
        st.just("sms"),
        st.lists(st.sampled_from("abcdefg"), unique=True, max_size=6).map(tuple),
        st.builds(Match, tenant=st.sampled_from([frozenset(), frozenset({"ten_1"}), frozenset({"ten_2"})])),
        st.sampled_from(["fixed", "weighted", "least_cost", "quality"]),
    ),
    max_size=3,
)


@given(ENTRIES, ROUTES, st.sets(st.sampled_from("abcdef")), st.sets(st.sampled_from("abcdef")))
def test_candidates_serve_the_message_are_asked_once_and_explain_tells_of_all(
    entries: list[CarrierEntry], routes: list[Route], paused: set[str], full: set[str]
) -> None:
    health = {name: CarrierHealth(NOW, order="paused") for name in paused}
    table = RoutingTable(entries, routes, Observed(health, full))
    m = msg()
    chosen = names(table, m)
    known = {e.name: e for e in entries}
    assert len(set(chosen)) == len(chosen)
    assert all(known[c].channel == "sms" and known[c].tenant in (None, "ten_1") for c in chosen)
    serving = [
        e.name
        for e in entries
        if e.channel == "sms"
        and e.tenant in (None, "ten_1")
        and next((e.name in r.carriers for r in routes if r.match.tenant in (frozenset(), {"ten_1"})), True)
    ]
    assert bool(chosen) == bool(serving)
    fit = [c for c in serving if c not in paused and c not in full]
    assert set(chosen) == set(fit or serving)
    told = table.explain(m, 0)
    assert [t.carrier for t in told if t.eligible] == chosen
    assert sorted(t.carrier for t in told) == sorted(known)
