"""Settings: what is read, what wins, and that everything wrong is refused by its full name."""

import re
import tomllib
from io import StringIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from carriers import registry
from hermes import tenancy
from hermes.errors import SettingsError
from hermes.settings import (
    CarrierSettings,
    GuestSettings,
    MatchSettings,
    NumberSettings,
    RouteSettings,
    Settings,
    base_url,
    load,
)
from hermes.settings.schema import SECTIONS

EXAMPLE = Path(__file__).parents[2] / "config/hermes.example.toml"
SMS = 'name = "a"\nkind = "mock"\nchannel = "sms"\n'


def read(tmp_path: Path, toml: str, **environ: str) -> Settings:
    path = tmp_path / "hermes.toml"
    path.write_text(toml)
    return load(path, environ)


def refusal(tmp_path: Path, toml: str = "", **environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, toml, **environ)
    return str(caught.value)


# --- what is read


def test_nothing_set_gives_the_documented_defaults() -> None:
    settings = load(None, {})
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8080)
    assert settings.server.max_open_messages == 2_000_000
    assert settings.server.max_body_bytes == 256 * 1024
    assert settings.database.url is None
    assert not settings.server.allow_private_callbacks
    assert settings.carriers == ()


def test_variable_wins_over_file_and_option_wins_over_both(tmp_path: Path) -> None:
    path = tmp_path / "hermes.toml"
    path.write_text("[server]\nport = 1\nhost = '::1'\nmax_open_messages = 7")
    environ = {"HERMES_SERVER__PORT": "2", "HERMES_SERVER__HOST": "::2"}
    defaults = {"server": {"port": 0, "allow_private_callbacks": True}}
    server = load(path, environ, defaults=defaults, options={"server.port": 3}).server
    assert (server.port, server.host, server.max_open_messages, server.allow_private_callbacks) == (
        3,
        "::2",
        7,
        True,
    )


def test_carrier_keeps_the_keys_of_its_kind_as_options(tmp_path: Path) -> None:
    toml = f"[[carrier]]\n{SMS}cost = 1\nlatency_ms = 5\n[carrier.tlvs]\nx = 'env:TLV'"
    (carrier,) = read(tmp_path, toml, TLV="tag").carriers
    assert carrier.cost == 1.0
    assert carrier.options == {"latency_ms": 5, "tlvs": {"x": "tag"}}


def test_variables_that_are_no_settings_are_never_refused() -> None:
    environ = dict.fromkeys(("HERMES_URL", "HERMES_OPERATOR_KEY", "HERMES_API_KEY", "HERMES_DATA_DIR"), "x")
    assert load(None, environ) == Settings()


def test_empty_variable_unsets_what_may_be_unset(tmp_path: Path) -> None:
    assert read(tmp_path, "[database]\nurl = 'postgresql://h/d'", HERMES_DATABASE__URL="").database.url is None
    assert "HERMES_SERVER__PORT: expected an integer" in refusal(tmp_path, HERMES_SERVER__PORT="")


def test_public_url_loses_its_last_slash(tmp_path: Path) -> None:
    assert read(tmp_path, "[server]\npublic_url = 'https://h/x/'").server.public_url == "https://h/x"


# --- secrets


def test_secret_comes_from_a_variable_or_a_file_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from the file\n")
    toml = f"""
    [server]
    metrics_key = "file:key"
    [database]
    url = "env:DB"
    [[carrier]]
    {SMS}
    secret = "file:{tmp_path}/key"
    """
    settings = read(tmp_path, toml, DB="postgresql://u:p@h/d")
    assert settings.server.metrics_key == "from the file"
    assert settings.database.url == "postgresql://u:p@h/d"
    assert settings.carriers[0].options == {"secret": "from the file"}


def test_unset_variable_does_not_matter_where_another_source_wins(tmp_path: Path) -> None:
    settings = read(tmp_path, "[server]\nmetrics_key = 'env:NOPE'", HERMES_SERVER__METRICS_KEY="k")
    assert settings.server.metrics_key == "k"


def test_no_repr_shows_a_secret(tmp_path: Path) -> None:
    toml = (
        f"[server]\nmetrics_key = 'canary-1'\n[database]\nurl = 'postgresql://u:canary-2@h/d'\n"
        f"[[carrier]]\n{SMS}password = 'canary-3'"
    )
    settings = read(tmp_path, toml)
    pretty = StringIO()
    Console(file=pretty, width=200).print(settings)
    for shown in (repr(settings), str(settings), f"{settings.carriers}", pretty.getvalue()):
        assert "canary" not in shown
        assert "metrics_key=***" in shown or "options=***" in shown


@pytest.mark.parametrize(
    "toml",
    [
        "[database]\nurl = 'canary'",
        "[server]\nmetrics_key = ['canary']",
        f"[[carrier]]\n{SMS}password = 'env:canary_is_a_name'",
    ],
)
def test_no_error_repeats_a_secret(tmp_path: Path, toml: str) -> None:
    assert "canary" not in refusal(tmp_path, toml).replace("canary_is_a_name", "")


# --- what is refused


@pytest.mark.parametrize(
    ("toml", "refused"),
    [
        ("[server]\nprot = 1", "server.prot: unknown setting; did you mean server.port?"),
        ("[server]\nlevel = 'info'", "server.level: unknown setting; did you mean log.level?"),
        ("[server]\nxyzzy = 1", "server.xyzzy: unknown setting"),
        ("[servr]\nport = 1", "servr: unknown section; did you mean server?"),
        ("port = 1", "port: unknown section"),
        ("server = 1", "server: expected a table, [server], got 1"),
        ("[server]\nport = '80'", 'server.port: expected an integer from 0 to 65535, got "80"'),
        ("[server]\nport = 65536", "server.port: expected an integer from 0 to 65535, got 65536"),
        ("[server]\nport = true", "server.port: expected an integer from 0 to 65535, got true"),
        ("[server]\nhost = ''", 'server.host: expected a text that is not empty, got ""'),
        ("[server]\nhost = 'a b'", "server.host: expected an IP address or a host name"),
        ("[server]\ncontrol_host = '0.0.0.0'", "server.control_host: expected the address that other machines"),
        ("[server]\nmax_body_bytes = 1", "server.max_body_bytes: expected an integer from 1024 to 67108864"),
        ("[server]\nmax_open_messages = -1", "server.max_open_messages: expected an integer from 0"),
        ("[server]\nallow_private_callbacks = 1", "server.allow_private_callbacks: expected true or false"),
        ("[server]\nmetrics_key = 5", "server.metrics_key: expected a text that is not empty, got 5"),
        ("[server]\nmetrics_key = 'env:NOPE'", "server.metrics_key: the variable NOPE is not set"),
        ("[server]\nmetrics_key = 'env:EMPTY'", "server.metrics_key: the variable EMPTY is empty"),
        ("[server]\nmetrics_key = 'file:nope'", "nope cannot be read: No such file or directory"),
        ("[server]\nmetrics_key = 'file:.'", "cannot be read: Is a directory"),
        ("[server]\nmetrics_key = 'file:empty'", "empty is empty"),
        *(
            (f"[server]\npublic_url = '{url}'", "server.public_url: expected an http or https URL")
            for url in ("x", "ftp://h", "http://", "http://u@h", "http://h?q", "http://h:99999", "http://h /")
        ),
        ("[database]\nurl = 'mysql://h'", "database.url: expected a URL that begins with postgresql://"),
        ("[database]\nbatch_window_ms = nan", "database.batch_window_ms: expected a number from 0 to 1000"),
        ("[database]\nbatch_window_ms = 1001", "database.batch_window_ms: expected a number from 0 to 1000"),
        ("[database]\nqueue_limit = 1", "database.queue_limit: expected an integer from 100 to 10000000"),
        ("[database]\nqueue_limit = 1000000000000000000000000000000", "database.queue_limit: expected"),
        ("[log]\nformat = 'xml'", 'log.format: expected one of "console", "json", got "xml"'),
        ("[log]\nlevel = 'loud'", "log.level: expected one of"),
        ("[retention]\nmessages_days = 0", "retention.messages_days: expected an integer from 1 to 3650"),
        ("[retention]\nmessages_days = 2024-01-01", "got a date or time"),
        ("[carrier]\nname = 'a'", "carrier: expected one [[carrier]] (two brackets) for each carrier"),
        ("carrier = [1]", "carrier: expected a table, [[carrier]], got 1"),
        ("[[carrier]]", "carrier 1.name: missing"),
        ("[[carrier]]\nname = 'a'\nkind = 'mock'", "carrier.a.channel: missing"),
        (f"[[carrier]]\n{SMS}[[carrier]]\n{SMS}", "carrier.a: two carriers have this name"),
        *(
            (f"[[carrier]]\nname = '{name}'", "carrier 1.name: expected 1 to 63 of a-z")
            for name in ("A", "-a", "a b", "a/b", "å", "a" * 64)
        ),
        ("[[carrier]]\nname = 'sandbox'", 'carrier.sandbox.name: "sandbox" is reserved'),
        ("[[carrier]]\nname = 'dlr'", 'carrier.dlr.name: "dlr" is reserved'),
        ("[[carrier]]\nname = 'a'\nkind = 'M O'", "carrier.a.kind: expected the kind of a carrier"),
        ("[[carrier]]\nname = 'a'\nchannel = 'fax'", "carrier.a.channel: expected one of"),
        (f"[[carrier]]\n{SMS}cost = -1", "carrier.a.cost: expected a number of at least 0"),
        (f"[[carrier]]\n{SMS}cost = inf", "carrier.a.cost: expected a number of at least 0"),
        (f"[[carrier]]\n{SMS}enabled = 'no'", "carrier.a.enabled: expected true or false"),
        (f"[[carrier]]\n{SMS}timeout_s = 601", "carrier.a.timeout_s: expected a number from 0 to 600"),
        (f"[[carrier]]\n{SMS}max_in_flight = 1.5", "carrier.a.max_in_flight: expected an integer from 0"),
        (f"[[carrier]]\n{SMS}throughput_per_s = -1", "carrier.a.throughput_per_s: expected a number"),
        (f"[[carrier]]\n{SMS}on_ambiguous = 'ask'", "carrier.a.on_ambiguous: expected one of"),
        (f"[[carrier]]\n{SMS}password = 'env:NOPE'", "carrier.a.password: the variable NOPE is not set"),
        (f"[[carrier]]\n{SMS}hosts = ['env:NOPE']", "carrier.a.hosts: the variable NOPE is not set"),
        (f"[[carrier]]\n{SMS}[carrier.options]\nx = 1", "carrier.a.options: unknown setting"),
        ("[nats]\nurl = 'nats://me:pw-7@h:x'", "nats.url: expected a URL that begins with nats:// or tls://"),
        ("[nats]\nurl = 'nats://a,http://b'", "nats.url: expected a URL that begins with nats:// or tls://"),
    ],
)  # fmt: skip
def test_file_is_refused_by_name_and_reason(tmp_path: Path, toml: str, refused: str) -> None:
    (tmp_path / "empty").write_text("\n")
    assert refused in refusal(tmp_path, toml, EMPTY="")


@pytest.mark.parametrize(
    ("variable", "text", "refused"),
    [
        ("HERMES_SERVER__PROT", "1", ": unknown setting; did you mean HERMES_SERVER__PORT?"),
        ("HERMES_SRVER__PORT", "1", ": unknown setting; did you mean HERMES_SERVER__PORT?"),
        ("HERMES_PORT", "1", ": unknown setting"),
        ("HERMES_", "1", ": unknown setting"),
        ("HERMES_SERVER", "1", ": a section is no setting; write HERMES_SERVER__<key>"),
        ("HERMES_SERVER__PORT", "http", ': expected an integer from 0 to 65535, got "http"'),
        ("HERMES_SERVER__PORT", "1.0", ': expected an integer from 0 to 65535, got "1.0"'),
        ("HERMES_SERVER__PORT", "9" * 5000, ": expected an integer from 0 to 65535, got 9999"),
        ("HERMES_SERVER__ALLOW_PRIVATE_CALLBACKS", "yes", ': expected true or false, got "yes"'),
        ("HERMES_SERVER__METRICS_KEY", "env:NOPE", ": the variable NOPE is not set"),
        ("HERMES_DATABASE__BATCH_WINDOW_MS", "nan", ': expected a number from 0 to 1000, got "nan"'),
        ("HERMES_LOG__FORMAT", "xml", ': expected one of "console", "json", got "xml"'),
        ("HERMES_REDIS__URL", "http://h", ": expected a URL that begins with redis://"),
        ("HERMES_NATS__URL", "http://h", ": expected a URL that begins with nats:// or tls://"),
        ("HERMES_ROUTE__0__CHANNEL", "sms", ": a route is set in the file"),
        ("HERMES_CARRIER__A__PASSWORD", "x", ": a carrier is set in the file"),
    ],
)
def test_variable_is_refused_by_name_and_reason(variable: str, text: str, refused: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, {variable: text})
    assert str(caught.value).startswith(variable + refused)


def test_option_is_refused_by_its_own_name() -> None:
    with pytest.raises(SettingsError, match=r"^--port: expected an integer"):
        load(None, {}, options={"server.port": -1})


def test_what_the_command_line_overrules_is_checked_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "hermes.toml"
    path.write_text('[server]\nport = "many"\n')
    with pytest.raises(SettingsError, match=r"server\.port"):
        load(path, {}, options={"server.port": 3})
    with pytest.raises(SettingsError, match="HERMES_SERVER__PORT"):
        load(None, {"HERMES_SERVER__PORT": "many"}, options={"server.port": 3})


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    toml = "[server]\nprot = 1\nport = -1\n[nuts]\n[[carrier]]\nname = 'dlr'"
    names = [line.split(":")[0] for line in refusal(tmp_path, toml, HERMES_X="1").splitlines()]
    assert names == [
        "server.prot",
        "nuts",
        "HERMES_X",
        "server.port",
        "carrier.dlr.name",
        "carrier.dlr.kind",
        "carrier.dlr.channel",
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[server\n", "is not TOML: "),
        (b"\xff", "is not UTF-8 (byte 0)"),
        (None, "cannot be read: No such file"),
    ],
)
def test_file_that_cannot_be_used_is_refused_with_its_path(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "hermes.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        load(path, {})
    assert str(caught.value).startswith(f"{path}: {reason}")


def test_without_an_enabled_carrier_the_way_to_the_demo_is_shown() -> None:
    disabled = CarrierSettings(name="a", kind="mock", channel="sms", enabled=False)
    for settings in (Settings(), Settings(carriers=(disabled,))):
        assert not settings.names_carrier
        with pytest.raises(SettingsError, match=r"^carrier: .*`hermes demo`"):
            settings.refuse_no_carrier()


# --- variables are typed by their field


def value_of(settings: Settings, variable: str) -> Any:
    section, key = variable.removeprefix("HERMES_").lower().split("__")
    return getattr(getattr(settings, section), key)


@given(st.integers(0, 65535), st.sampled_from(["{}", "+{}", "{:_}"]))
def test_integer_is_read_from_a_variable(number: int, form: str) -> None:
    assert load(None, {"HERMES_SERVER__PORT": form.format(number)}).server.port == number


@given(st.floats(0, 1000, allow_nan=False))
def test_number_is_read_from_a_variable(number: float) -> None:
    assert load(None, {"HERMES_DATABASE__BATCH_WINDOW_MS": repr(number)}).database.batch_window_ms == number


@given(st.booleans(), st.sampled_from([str.lower, str.upper, str.title]))
def test_true_and_false_are_read_from_a_variable(flag: bool, case: Any) -> None:
    settings = load(None, {"HERMES_SERVER__ALLOW_PRIVATE_CALLBACKS": case(str(flag))})
    assert settings.server.allow_private_callbacks is flag


@given(st.text(min_size=1).filter(lambda text: not text.startswith(("env:", "file:"))))
def test_text_is_read_from_a_variable_as_it_is(text: str) -> None:
    assert load(None, {"HERMES_SERVER__METRICS_KEY": text}).server.metrics_key == text


VARIABLES = [f"HERMES_{name}__{key}".upper() for name in SECTIONS for key in SECTIONS[name].__struct_fields__]


@given(st.sampled_from(VARIABLES), st.text(max_size=30))
def test_any_text_of_a_variable_is_used_or_refused_by_name(variable: str, text: str) -> None:
    try:
        settings = load(None, {variable: text})
    except SettingsError as exc:
        assert str(exc).startswith(variable + ": ")
    else:
        assert value_of(settings, variable) is not None or text == ""


def test_defaults_of_tenants_come_from_the_file_and_from_variables(tmp_path: Path) -> None:
    toml = "[tenant_defaults]\nrate_per_s = 5\n[tenant_defaults.layers.content]\nblocked_words = ['casino']"
    more = {
        "HERMES_TENANT_DEFAULTS__LAYERS__CONTENT__MAX_SEGMENTS": "3",
        "HERMES_TENANT_DEFAULTS__LAYERS__ENRICH__DEFAULT_COUNTRY": "DK",
    }
    rules = tenancy.rules(read(tmp_path, toml, **more).tenant_defaults)
    assert (rules.rate_per_s, rules.layers.content.max_segments) == (5, 3)
    assert (rules.layers.content.blocked_words, rules.layers.enrich.default_country) == (("casino",), "DK")


@pytest.mark.parametrize(
    ("toml", "why"),
    [
        ("[tenant_defaults]\nburst = -1", "tenant_defaults.burst: expected `int` >= 0"),
        ("[tenant_defaults]\ncolour = 1", "tenant_defaults: object contains unknown field `colour`"),
        ("[tenant_defaults.layers.auth]", "tenant_defaults.layers: object contains unknown field `auth`"),
        ("tenant_defaults = 1", "tenant_defaults: expected a table"),
    ],
)
def test_wrong_defaults_of_tenants_are_named(tmp_path: Path, toml: str, why: str) -> None:
    assert refusal(tmp_path, toml).startswith(why)


# --- the example


def example_with_everything() -> dict[str, Any]:
    """The example with the settings that are only shown (`# key = value`) set too."""
    lines = EXAMPLE.read_text().splitlines()
    shown = [re.sub(r"^# (?=[a-z_]+ = |\[\[)", "", line) for line in lines]
    return tomllib.loads("\n".join(shown))


def test_example_loads_and_its_carriers_can_be_made() -> None:
    from hermes.runtime.clock import SystemClock

    settings = load(EXAMPLE, {})
    assert settings.names_carrier
    for carrier in settings.carriers:
        registry.make_carrier(carrier.kind, carrier.name, carrier.channel, carrier.options, clock=SystemClock())


def test_example_shows_the_defaults() -> None:
    settings = load(EXAMPLE, {})
    assert tenancy.rules(settings.tenant_defaults) == tenancy.Rules()
    assert msgspec.structs.replace(settings, carriers=(), tenant_defaults={}) == Settings()
    first = settings.carriers[0]
    assert msgspec.structs.replace(first, options={}) == CarrierSettings(
        name=first.name, kind=first.kind, channel=first.channel
    )
    kind = registry.find_kind("mock")
    assert kind is not None
    assert msgspec.convert(first.options, kind.settings) == kind.settings()


def test_example_shows_every_setting_and_no_other() -> None:
    document = example_with_everything()
    shown = {(section, key) for section in SECTIONS for key in document[section]}
    assert shown == {(section, key) for section, kind in SECTIONS.items() for key in kind.__struct_fields__}
    assert set(document) == {*SECTIONS, "carrier", "route", "number", "guest", "tenant_defaults"}


def test_example_shows_every_key_of_a_route() -> None:
    (route,) = example_with_everything()["route"]
    assert set(route) == set(RouteSettings.__struct_fields__)
    assert set(route["match"]) == set(MatchSettings.__struct_fields__)


def test_example_shows_every_key_of_a_number() -> None:
    (number,) = example_with_everything()["number"]
    assert set(number) == set(NumberSettings.__struct_fields__)


def test_example_shows_every_key_of_a_guest() -> None:
    (guest,) = example_with_everything()["guest"]
    assert set(guest) == {field.encode_name for field in msgspec.structs.fields(GuestSettings)}


def test_a_guest_has_a_name_a_class_and_a_supervisor(tmp_path: Path) -> None:
    file = tmp_path / "hermes.toml"
    file.write_text('[[guest]]\nname = "fraud"\nclass = "acme.FraudCheck"\nsupervisor = "providers"\n')
    assert load(file, {}).guests == (GuestSettings(name="fraud", class_="acme.FraudCheck", supervisor="providers"),)


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ('guest = "x"', "guest: expected one [[guest]] (two brackets) for each guest"),
        ('[[guest]]\nname = "a"', "guest.a.class: missing"),
        ('[[guest]]\nclass = "a.B"', "guest 1.name: missing"),
        ('[[guest]]\nname = "a/b"\nclass = "a.B"', "guest 1.name: expected 1 to 63 of"),
        ('[[guest]]\nname = "a"\nclass = "a b"', "guest.a.class: expected a dotted name"),
        ('[[guest]]\nname = "a"\nclass = "a.B"\nsupervisor = "root"', "guest.a.supervisor: expected one of"),
        (
            '[[guest]]\nname = "a"\nclass = "a.B"\nhandler_timeout_s = -1',
            "guest.a.handler_timeout_s: expected a number",
        ),
        ('[[guest]]\nname = "a"\nclass = "a.B"\nextra = 1', "guest.a.extra: unknown setting"),
        ('[[guest]]\nname = "a"\nclass = "a.B"\n' * 2, "guest.a: two guests have this name"),
    ],
)
def test_a_wrong_guest_is_refused_by_name(tmp_path: Path, table: str, error: str) -> None:
    file = tmp_path / "hermes.toml"
    file.write_text(table + "\n")
    with pytest.raises(SettingsError, match=re.escape(error)):
        load(file, {})


def test_a_number_names_its_tenant(tmp_path: Path) -> None:
    carrier = '[[carrier]]\nname = "a"\nkind = "mock"\nchannel = "sms"\n'
    file = tmp_path / "hermes.toml"
    file.write_text(f'{carrier}[[number]]\nnumber = "1234"\ntenant = "ten_1"\ncarrier = "a"\nkeyword = "ACME"\n')
    assert load(file, {}).numbers == (NumberSettings(number="1234", tenant="ten_1", carrier="a", keyword="ACME"),)


@pytest.mark.parametrize(
    ("number", "refused"),
    [
        ('number = "1"', "number 1: object missing required field `tenant`"),
        ('number = 1\ntenant = "t"', "number 1.number: expected `str`"),
        ('number = "1"\ntenant = "t"\ncarrier = "nobody"', 'number 1.carrier: no carrier is called "nobody"'),
        ('number = "1"\ntenant = "t"\nkeyword = "two words"', "number 1.keyword: expected one word"),
        ('number = "1"\ntenant = "t"\nzip = 1', "number 1: object contains unknown field"),
    ],
)
def test_a_number_is_refused_by_name_and_reason(tmp_path: Path, number: str, refused: str) -> None:
    carrier = '[[carrier]]\nname = "a"\nkind = "mock"\nchannel = "sms"\n'
    assert refused in refusal(tmp_path, f"{carrier}[[number]]\n{number}\n")
    assert "number: expected one [[number]]" in refusal(tmp_path, f'{carrier}[number]\nnumber = "1"\n')


@pytest.mark.parametrize(
    ("route", "refused"),
    [
        ('carriers = ["nobody"]\nchannel = "sms"', 'route 1.carriers: no carrier is called "nobody"'),
        ('carriers = ["a"]\nchannel = "email"', "route 1.carriers: a serves channel sms, not email"),
        ('carriers = ["a"]\nchannel = "sms"\nstrategy = "best"', "route 1.strategy: invalid enum value 'best'"),
        ('carriers = ["a"]\nchannel = "sms"\nsticky = true', 'route 1.sticky: goes with strategy "weighted"'),
        (
            'carriers = ["a"]\nchannel = "sms"\nmatch = {mcc = "45"}',
            'route 1.match.mcc: "45" is none; expected as "238"',
        ),
        ('carriers = ["a"]\nchannel = "sms"\nmatch = {mcc = [1]}', "route 1.match.mcc: 1 is none"),
        ('carriers = ["a"]\nchannel = "sms"\nmatch = {mnc = "01"}', "route 1.match.mnc: goes with an mcc"),
        (
            'carriers = ["a"]\nchannel = "sms"\nmatch = {prefix = "45"}',
            'route 1.match.prefix: "45" is none; expected as',
        ),
        ('carriers = ["a"]\nchannel = "sms"\nmatch = {zip = "1"}', "route 1.match: object contains unknown field"),
        ('carriers = ["a"]\nchannel = "sms"\nmatch = {from_hour = 1}', "route 1.match: from_hour and to_hour"),
        ('carriers = []\nchannel = "sms"', "route 1.carriers: expected `array` of length >= 1"),
        ('channel = "sms"', "route 1: object missing required field `carriers`"),
    ],
)
def test_route_is_refused_by_name_and_reason(tmp_path: Path, route: str, refused: str) -> None:
    carrier = '[[carrier]]\nname = "a"\nkind = "mock"\nchannel = "sms"\n'
    assert refused in refusal(tmp_path, f"{carrier}[[route]]\n{route}\n")


def test_example_shows_every_key_of_a_carrier() -> None:
    carriers = example_with_everything()["carrier"]
    common = set(CarrierSettings.__struct_fields__) - {"options"}
    shown = {carrier["kind"]: set(carrier) for carrier in reversed(carriers)}
    assert common <= shown["mock"]
    for name in registry.KINDS:
        if name in shown:
            kind = registry.find_kind(name)
            assert kind is not None
            keys = {field.encode_name for field in msgspec.structs.fields(kind.settings)}
            assert keys - common == shown[name] - common


def test_example_says_what_each_setting_means() -> None:
    before_second_carrier = EXAMPLE.read_text().split('name = "mock-email"')[0]
    lines = re.findall(r"^(?:# )?[a-z_]+ = .*", before_second_carrier, re.MULTILINE)
    assert [line for line in lines if not re.search(r" # *\S", line[2:])] == []


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("::2", "http://[::2]:1"),
        ("h", "http://h:1"),
    ],
)
def test_base_url_can_be_asked_from_this_machine(host: str, url: str) -> None:
    assert base_url(host, 1) == url
