from importlib.metadata import EntryPoint, EntryPoints

import pytest

from carriers import registry
from carriers.mock import MockCarrier
from carriers.registry import KINDS, kinds, make_carrier
from hermes.errors import SettingsError
from hermes.testing import ManualClock


def make(kind="mock", channel="sms", **options):
    return make_carrier(kind, "alpha", channel, options, clock=ManualClock(), cost=0.5)


def test_a_carrier_is_made_with_its_name_channel_cost_and_settings():
    carrier = make(latency_ms=5, magic=False, secret="s3cret")
    assert isinstance(carrier, MockCarrier)
    assert (carrier.name, carrier.channel, carrier.cost) == ("alpha", "sms", 0.5)
    assert (carrier.settings.latency_ms, carrier.settings.magic) == (5, False)


def test_every_kind_of_ours_loads_under_its_own_name():
    assert set(KINDS) <= set(kinds())
    for name in KINDS:
        found = registry.find_kind(name)
        assert found is not None
        assert found.name == name


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"latency": 5}, ["latency", "no setting", "latency_ms"]),
        ({"latency_ms": "fast"}, ["latency_ms", "str"]),
        ({"latency_ms": -1}, ["latency_ms", ">= 0"]),
        ({"success_rate": 1.5}, ["success_rate", "<= 1"]),
        ({"magic": "yes"}, ["magic", "bool"]),
        ({"secret": 5}, ["secret", "str"]),
    ],
)
def test_wrong_setting_is_refused_by_carrier_key_and_reason(options, names):
    with pytest.raises(SettingsError) as refused:
        make(**options)
    for name in ["alpha", *names]:
        assert name in str(refused.value)


def test_timeout_s_is_accepted_for_a_kind_that_does_not_use_it():
    assert make(timeout_s=3.0).name == "alpha"


def test_kind_nobody_knows_is_refused_with_the_kinds_there_are():
    with pytest.raises(SettingsError, match=r"kind: there is no kind 'pigeon'.*mock"):
        make("pigeon")


def test_channel_a_kind_cannot_serve_is_refused():
    with pytest.raises(SettingsError, match="channel: kind 'smtp' serves email, not 'sms'"):
        make("smtp", channel="sms", host="localhost")


def test_settings_show_no_value_in_their_text_form():
    assert "s3cret" not in f"{make(secret='s3cret').settings!r}{make(secret='s3cret').settings}"


def test_other_packages_add_kinds_by_entry_point_but_replace_none(monkeypatch):
    ours = EntryPoint("pigeon", "carriers.mock:KIND", registry.ENTRY_POINT_GROUP)
    theirs = EntryPoint("mock", "os:sep", registry.ENTRY_POINT_GROUP)
    wrong = EntryPoint("crow", "os:sep", registry.ENTRY_POINT_GROUP)
    points = EntryPoints([ours, theirs, wrong])
    monkeypatch.setattr(registry, "entry_points", lambda **wanted: points.select(**wanted))
    assert isinstance(make("pigeon"), MockCarrier)
    assert isinstance(make("mock"), MockCarrier)
    assert kinds() == sorted({*KINDS, "pigeon", "crow"})
    with pytest.raises(SettingsError, match="crow"):
        make("crow")
