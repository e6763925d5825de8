"""The routing table: which carriers, in which order, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from actors.routing import CarrierEntry, Match, Route, RoutingTable, explained
from hermes.domain.health import CarrierHealth
from hermes.domain.message import Content, Message, Step, new_message_id

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
    ],
)
def test_a_route_applies_to_what_it_matches(match: Match, message: Message, applies: bool) -> None:
    table = RoutingTable([A, B], [Route("sms", ("b",), match)], now=lambda: NOW)
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
    table = RoutingTable([A, B], (), health)
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
    table = RoutingTable([A, B, C, other, MAIL], [Route("sms", ("a", "b"), strategy="least_cost")], health)
    told = explained(table, msg())
    assert [(t["carrier"], t["eligible"], t["price"]) for t in told] == [
        ("b", True, 0.04),
        ("a", False, 0.1),
        ("c", False, 0.06),
        ("theirs", False, 0.0),
        ("mail", False, 0.0),
    ]
    assert [t["reason"] for t in told] == [
        "route, least_cost",
        "paused: paused by an operator",
        "not named by the route that matches",
        "belongs to another tenant",
        "serves channel email",
    ]
