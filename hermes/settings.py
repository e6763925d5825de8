"""What an operator may set, and where it is read from.

A TOML file, then `HERMES_*` variables over it (`HERMES_SERVER__PORT=9000`), then the command line's options.
All of it is checked before anything starts, and everything that is wrong is told at once, by its full name.
What a carrier of one kind understands is left to `carriers.registry`: here those keys are only carried along.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, NoReturn
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from hermes import tenancy
from hermes.errors import SettingsError

__all__ = [
    "CarrierSettings",
    "DatabaseSettings",
    "GuestSettings",
    "LogSettings",
    "NumberSettings",
    "RedisSettings",
    "RetentionSettings",
    "RouteSettings",
    "ServerSettings",
    "Settings",
    "SignupSettings",
    "base_url",
    "check_carrier",
    "check_route",
    "load",
]

PREFIX: Final = "HERMES_"
# Read by the command line or for one key; never settings, so never refused.
NOT_SETTINGS: Final = frozenset({"HERMES_URL", "HERMES_OPERATOR_KEY", "HERMES_API_KEY", "HERMES_DATA_DIR"})

# Names that mean something else where a carrier's name stands: the built-in carrier, /v1/webhooks/dlr.
RESERVED_CARRIER_NAMES: Final = frozenset({"sandbox", "dlr"})

# Parts of the public contract that this version does not build yet, and what holds until then.
NOT_YET: Final[dict[str, str]] = {
    "nats": "there is no bus yet: workers and nodes talk through the database",
}

_SECRET_FILE_BYTES: Final = 1 << 20  # a service account's JSON takes 2 KiB; more is surely the wrong file
_CARRIER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_DOTTED_NAME: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")


def _http_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        good = False
    if not good or "@" in parts.netloc or parts.query or parts.fragment or re.search(r"\s", text):
        raise ValueError("expected an http or https URL without user, query and fragment")
    return text.rstrip("/")


def _database_url(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError("expected a URL that begins with postgresql://")
    return text


def _redis_url(text: str) -> str:
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("expected a URL that begins with redis://, rediss:// or unix://")
    return text


def _host(text: str) -> str:
    if re.search(r"[\s/]", text):
        raise ValueError("expected an IP address or a host name")
    return text


def _own_host(text: str) -> str:
    if text in ("0.0.0.0", "::"):
        raise ValueError("expected the address that other machines reach this one by, not all addresses")
    return _host(text)


def _carrier_name(text: str) -> str:
    if not _CARRIER_NAME.fullmatch(text):
        raise ValueError("expected 1 to 63 of a-z, 0-9, _ and -, beginning with a letter or digit")
    if text in RESERVED_CARRIER_NAMES:
        raise ValueError(f'"{text}" is reserved, choose another name')
    return text


def _guest_name(text: str) -> str:
    if not _CARRIER_NAME.fullmatch(text):
        raise ValueError("expected 1 to 63 of a-z, 0-9, _ and -, beginning with a letter or digit")
    return text


def _dotted_name(text: str) -> str:
    if not _DOTTED_NAME.fullmatch(text):
        raise ValueError('expected a dotted name, such as "package.module.Class"')
    return text


def _kind(text: str) -> str:
    if not _KIND.fullmatch(text):
        raise ValueError('expected the kind of a carrier, such as "smtp"')
    return text


def _text(check: Callable[[str], str] | None = None, *, secret: bool = False) -> Meta:
    return Meta(min_length=1, extra={"check": check, "secret": secret})


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the settings. Its repr shows that a secret is set, never which."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown: list[tuple[str, Any]] = []
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            hidden = value is not None and _describe(field.type).secret
            shown.append((field.name, _Hidden() if hidden else value))
        return shown


class _Hidden:
    def __repr__(self) -> str:
        return "***"


class ServerSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[server]`: the HTTP API.

    Attributes:
        port: 0 takes any free one.
        workers: processes that share the port; 1: no parent process.
        control_host: where workers on other machines reach this one; None: nowhere, those of this machine use a socket.
        public_url: how the world reaches this node, without a slash at the end; None: http://host:port.
        max_body_bytes: of one message; a batch may have 32 times as many.
        metrics_key: what /metrics asks for as a bearer key; None: nothing.
        max_open_messages: messages without a final status before new ones are refused; 0: no limit.
        allow_private_callbacks: let webhooks go to private and loopback addresses.
    """

    host: Annotated[str, _text(_host)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8080
    workers: Annotated[int, Meta(ge=1, le=32)] = 1
    control_host: Annotated[str, _text(_own_host)] | None = None
    public_url: Annotated[str, _text(_http_url)] | None = None
    max_body_bytes: Annotated[int, Meta(ge=1024, le=64 << 20)] = 256 << 10
    metrics_key: Annotated[str, _text(secret=True)] | None = None
    max_open_messages: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 2_000_000
    allow_private_callbacks: bool = False


class DatabaseSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[database]`: the journal.

    Attributes:
        url: a PostgreSQL 15 or newer; None: the embedded one in the data folder.
        batch_window_ms: how long the writer waits for company when load is low, in milliseconds.
        queue_limit: writes not yet committed before new messages are refused.
        secrets_key_file: what encrypts the secrets of carriers that were added while the node ran; None:
            `secrets.key` in the data folder, made when it is needed.
    """

    url: Annotated[str, _text(_database_url, secret=True)] | None = None
    batch_window_ms: Annotated[float, Meta(ge=0, le=1000)] = 5.0
    queue_limit: Annotated[int, Meta(ge=100, le=10_000_000)] = 20_000
    secrets_key_file: Annotated[str, _text()] | None = None


class RedisSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[redis]`: where workers count tenants' limits together; None: each process counts for itself."""

    url: Annotated[str, _text(_redis_url, secret=True)] | None = None


class LogSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[log]`: what is said on standard error."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"


class RetentionSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[retention]`: how many days a message stays readable."""

    messages_days: Annotated[int, Meta(ge=1, le=3650)] = 30


class TelemetrySettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[telemetry]`: traces for OpenTelemetry.

    Attributes:
        otlp_endpoint: base URL of a collector (OTLP over HTTP); None: no traces.
        sample_ratio: share of the messages without a traceparent whose traces are recorded.
    """

    otlp_endpoint: Annotated[str, _text(_http_url)] | None = None
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0


class SignupSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[signup]`: may a stranger become a tenant by `POST /v1/signup`.

    Attributes:
        mode: "off"; "approval": the operator lets each one into the sandbox; "open": at once.
        promotion: from the sandbox to production: "approval" by the operator, or "open".
        per_hour: sign-ups taken in any hour, by this process.
    """

    mode: Literal["off", "approval", "open"] = "off"
    promotion: Literal["approval", "open"] = "approval"
    per_hour: Annotated[int, Meta(ge=1, le=1_000_000)] = 20


class CarrierSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[carrier]]`: the keys that every kind has, and the kind's own in `options`.

    Attributes:
        cost: per segment or message, in the operator's currency.
        timeout_s: of one call to the carrier, in seconds; 0: no limit.
        max_in_flight: calls not yet answered; 0: no limit.
        throughput_per_s: messages handed to the carrier each second; 0: no limit.
        on_ambiguous: what follows when nobody knows whether the carrier took a message.
        tenant: the only tenant it serves; None: every tenant.
        weight: share of a weighted route's messages, relative to the others'.
        breaker_failures: failures in a row after which it is set aside; 0: never.
        breaker_open_s: seconds until it is tried again.
        rates: its prices by destination, CSV (`hermes.domain.rates`); `cost` where it names none.
        options: not checked here, `env:` and `file:` replaced; never shown in the repr.
    """

    name: Annotated[str, _text(_carrier_name)]
    kind: Annotated[str, _text(_kind)]
    channel: Literal["email", "sms", "push", "whatsapp"]
    enabled: bool = True
    cost: Annotated[float, Meta(ge=0)] = 0.0
    timeout_s: Annotated[float, Meta(ge=0, le=600)] = 30.0
    max_in_flight: Annotated[int, Meta(ge=0, le=1_000_000)] = 1000
    throughput_per_s: Annotated[float, Meta(ge=0)] = 0.0
    on_ambiguous: Literal["resend", "never"] = "resend"
    tenant: Annotated[str, _text()] | None = None
    weight: Annotated[float, Meta(ge=0)] = 1.0
    breaker_failures: Annotated[int, Meta(ge=0, le=1_000_000)] = 5
    breaker_open_s: Annotated[float, Meta(ge=0, le=86400)] = 10.0
    rates: Annotated[str, _text(secret=True)] | None = None
    options: Annotated[dict[str, Any], Meta(extra={"secret": True})] = msgspec.field(default_factory=dict)


Texts = str | list[str]
Codes = str | int | list[str | int]
Categories = Literal["otp", "transactional", "marketing"] | list[Literal["otp", "transactional", "marketing"]]
Channel = Literal["email", "sms", "push", "whatsapp"]


class MatchSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a message must be for a route to apply: one value or a list; nothing named matches everything.

    Attributes:
        prefix: beginnings of the number, with `+`.
        mcc: mobile country codes of the number's country.
        mnc: its network, where a rate deck tells which numbers are whose.
        from_hour, to_hour: UTC hours, from inclusive, to exclusive; may run over midnight; both or none.
    """

    tenant: Texts = ()  # type: ignore[assignment]
    prefix: Texts = ()  # type: ignore[assignment]
    mcc: Codes = ()  # type: ignore[assignment]
    mnc: Texts = ()  # type: ignore[assignment]
    sender: Texts = ()  # type: ignore[assignment]
    category: Categories = ()  # type: ignore[assignment]
    from_hour: Annotated[int, Meta(ge=0, le=23)] | None = None
    to_hour: Annotated[int, Meta(ge=0, le=24)] | None = None


class RouteSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[route]]`: which carriers, in which order, for the messages it matches. The first that matches decides.

    Attributes:
        sticky: of a weighted route: draw by recipient, so that each keeps its carrier (and so its sender).
    """

    channel: Channel
    carriers: Annotated[list[str], Meta(min_length=1, max_length=100)]
    match: MatchSettings = MatchSettings()
    strategy: Literal["fixed", "weighted", "least_cost", "quality"] = "fixed"
    on_ambiguous: Literal["resend", "never"] | None = None
    sticky: bool = False


_MATCH_FORMS: Final = {
    "prefix": re.compile(r"\+[1-9][0-9]{0,14}"),  # E.164
    "mcc": re.compile(r"[2-79][0-9]{2}"),  # E.212
    "mnc": re.compile(r"[0-9]{2,3}"),
}
_MATCH_LIKE: Final = {"prefix": 'as "+45"', "mcc": 'as "238"', "mnc": 'as "01"'}


def check_route(entry: Any, label: str, carriers: Mapping[str, str]) -> RouteSettings:
    """Read one route.

    Args:
        entry: as the file or the API gives it.
        label: how errors name it.
        carriers: channel by carrier name.

    Raises:
        ValueError: says what is wrong with it.
    """
    try:
        route = msgspec.convert(entry, RouteSettings)
    except msgspec.ValidationError as exc:
        why, _, where = str(exc).partition(" - at `$")
        raise ValueError(f"{label}{where.rstrip('`')}: {why[0].lower() + why[1:]}") from exc
    for name in route.carriers:
        if name not in carriers:
            raise ValueError(f"{label}.carriers: no carrier is called {_shown(name)}")
        if carriers[name] != route.channel:
            raise ValueError(f"{label}.carriers: {name} serves channel {carriers[name]}, not {route.channel}")
    if (route.match.from_hour is None) != (route.match.to_hour is None):
        raise ValueError(f"{label}.match: from_hour and to_hour go together")
    if route.sticky and route.strategy != "weighted":
        raise ValueError(f'{label}.sticky: goes with strategy "weighted"; the others do not draw')
    for key, form in _MATCH_FORMS.items():
        given = getattr(route.match, key)
        for value in (given,) if isinstance(given, str | int) else given:
            if not form.fullmatch(str(value)):
                raise ValueError(f"{label}.match.{key}: {_shown(value)} is none; expected {_MATCH_LIKE[key]}")
    if route.match.mnc and not route.match.mcc:
        raise ValueError(f"{label}.match.mnc: goes with an mcc")
    return route


class NumberSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[number]]`: whose messages to one of our numbers are. `keyword` is their first word, in any case."""

    number: Annotated[str, Meta(min_length=1, max_length=64)]
    tenant: Annotated[str, Meta(min_length=1, max_length=64)]
    carrier: str | None = None
    keyword: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


def check_number(entry: Any, label: str, carriers: Collection[str]) -> NumberSettings:
    """Read one `[[number]]`.

    Args:
        entry: as the file gives it.
        label: how errors name it.
        carriers: the names there are.

    Raises:
        ValueError: says what is wrong with it.
    """
    try:
        number = msgspec.convert(entry, NumberSettings)
    except msgspec.ValidationError as exc:
        why, _, where = str(exc).partition(" - at `$")
        raise ValueError(f"{label}{where.rstrip('`')}: {why[0].lower() + why[1:]}") from exc
    if number.carrier is not None and number.carrier not in carriers:
        raise ValueError(f"{label}.carrier: no carrier is called {_shown(number.carrier)}")
    if number.keyword is not None and len(number.keyword.split()) != 1:
        raise ValueError(f"{label}.keyword: expected one word")
    return number


class GuestSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[guest]]`: an actor written for Thespian, hosted in the tree as `guest/<name>`.

    Attributes:
        name: also the global name under which other guests find it.
        class_: `class` in the file: where it can be imported from, package.module.Class.
        supervisor: whose child it is.
        handler_timeout_s: seconds it may take over one message before it is started anew; 0: no limit.
    """

    name: Annotated[str, _text(_guest_name)]
    class_: Annotated[str, _text(_dotted_name)] = msgspec.field(name="class")
    supervisor: Literal["guests", "carriers", "providers", "smpp", "tenants"] = "guests"
    handler_timeout_s: Annotated[float, Meta(ge=0, le=86400)] = 60.0


class Settings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that is set."""

    server: ServerSettings = ServerSettings()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    log: LogSettings = LogSettings()
    retention: RetentionSettings = RetentionSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    signup: SignupSettings = SignupSettings()
    carriers: tuple[CarrierSettings, ...] = ()
    routes: tuple[RouteSettings, ...] = ()
    numbers: tuple[NumberSettings, ...] = ()
    guests: tuple[GuestSettings, ...] = ()
    tenant_defaults: Mapping[str, Any] = msgspec.field(default_factory=dict)

    @property
    def names_carrier(self) -> bool:
        """Whether the file has a carrier that is enabled; others may be in the journal."""
        return any(carrier.enabled for carrier in self.carriers)

    def refuse_no_carrier(self) -> NoReturn:
        """Refuse to start: neither here nor in the journal is a carrier.

        Raises:
            SettingsError: always.
        """
        why = "every carrier has enabled = false" if self.carriers else "no carrier is set, so nothing could be sent"
        raise SettingsError(
            f"carrier: {why}; add a [[carrier]] to the file named with --config, or try `hermes demo`, "
            "which needs no settings"
        )


SECTIONS: Final[dict[str, type[Section]]] = {
    "server": ServerSettings,
    "database": DatabaseSettings,
    "redis": RedisSettings,
    "log": LogSettings,
    "retention": RetentionSettings,
    "telemetry": TelemetrySettings,
    "signup": SignupSettings,
}


# --- reading


class _Given(NamedTuple):
    """One value as somebody wrote it."""

    value: Any
    label: str  # how it is named in an error: server.port, HERMES_SERVER__PORT, --port
    folder: Path  # what a relative file:PATH is relative to
    is_text: bool  # from a variable: the field says what the text means


class _Description(NamedTuple):
    what: str
    secret: bool
    check: Callable[[str], str] | None
    base: type | None  # bool, int, float or str; None for a choice or anything else


def load(
    path: Path | str | None,
    environ: Mapping[str, str],
    *,
    defaults: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Settings:
    """Read and check the settings.

    Args:
        path: the TOML file; None when there is none.
        environ: where `HERMES_*` variables and `env:NAME` are looked up.
        defaults: weaker than the file, of the shape of a parsed one (`{"carrier": [...]}`).
        options: of the command line, stronger than all, `{"server.port": 9000}`; the key names the option.

    Raises:
        SettingsError: a line for each thing that is wrong.
    """
    reader = _Reader(environ)
    reader.tables(defaults or {}, Path.cwd())
    if path is not None:
        reader.tables(_read_toml(Path(path)), Path(path).absolute().parent)
    reader.variables()
    for name, value in (options or {}).items():
        section, _, key = name.partition(".")
        reader.given[section, key] = _Given(value, "--" + key.replace("_", "-"), Path.cwd(), False)
    return reader.settings()


class _Reader:
    """Collects what was given, then what is wrong with it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.given: dict[tuple[str, str], _Given] = {}
        self.carriers: list[tuple[Any, Path]] = []
        self.routes: list[Any] = []
        self.numbers: list[Any] = []
        self.guests: list[Any] = []
        self.tenant_defaults: dict[str, Any] = {}
        self.errors: list[str] = []

    def tables(self, document: Mapping[str, Any], folder: Path) -> None:
        for section, table in document.items():
            if section in NOT_YET:
                self.errors.append(f"{section}: not available yet; {NOT_YET[section]}")
            elif section == "carrier":
                if isinstance(table, list):
                    self.carriers = [(entry, folder) for entry in table]
                else:
                    self.errors.append("carrier: expected one [[carrier]] (two brackets) for each carrier")
            elif section == "route":
                if isinstance(table, list):
                    self.routes = table
                else:
                    self.errors.append("route: expected one [[route]] (two brackets) for each route")
            elif section == "number":
                if isinstance(table, list):
                    self.numbers = table
                else:
                    self.errors.append("number: expected one [[number]] (two brackets) for each number")
            elif section == "guest":
                if isinstance(table, list):
                    self.guests = table
                else:
                    self.errors.append("guest: expected one [[guest]] (two brackets) for each guest")
            elif section not in SECTIONS and section != "tenant_defaults":
                self.errors.append(_unknown(section, "", ""))
            elif not isinstance(table, dict):
                self.errors.append(f"{section}: expected a table, [{section}], got {_shown(table)}")
            elif section == "tenant_defaults":
                self.tenant_defaults = tenancy.merged(self.tenant_defaults, table)
            else:
                known = SECTIONS[section].__struct_fields__
                for key, value in table.items():
                    name = f"{section}.{key}"
                    if key in known:
                        self.given[section, key] = _Given(value, name, folder, False)
                    else:
                        self.errors.append(_unknown(name, section, key))

    def variables(self) -> None:
        for variable, text in sorted(self.environ.items()):
            if not variable.startswith(PREFIX) or variable in NOT_SETTINGS:
                continue
            section, *rest = variable[len(PREFIX) :].lower().split("__")
            key = "__".join(rest)
            if section in NOT_YET:
                self.errors.append(f"{variable}: not available yet; {NOT_YET[section]}")
            elif section in ("route", "number", "guest"):
                self.errors.append(f"{variable}: a {section} is set in the file")
            elif section == "tenant_defaults" and rest:
                value: Any = text
                with suppress(ValueError):  # a text that is no JSON is a text
                    value = json.loads(text)
                for part in reversed(rest):
                    value = {part: value}
                self.tenant_defaults = tenancy.merged(self.tenant_defaults, value)
            elif section == "carrier":
                self.errors.append(
                    f"{variable}: a carrier is set in the file; a secret of it may be a variable (password = "
                    '"env:NAME")'
                )
            elif section in SECTIONS and key in SECTIONS[section].__struct_fields__:
                self.given[section, key] = _Given(text, variable, Path.cwd(), True)
            elif section in SECTIONS and not key:
                self.errors.append(f"{variable}: a section is no setting; write {variable}__<key>")
            else:
                self.errors.append(_unknown(variable, section, key))

    def settings(self) -> Settings:
        built: dict[str, Any] = {}
        for section, kind in SECTIONS.items():
            values = {
                field.name: value
                for field in msgspec.structs.fields(kind)
                for given in [self.given.get((section, field.name))]
                if given is not None
                for value in self.checked(given, field.type)
            }
            built[section] = kind(**values)
        built["carriers"] = tuple(self.all_carriers())
        built["routes"] = tuple(self.all_routes(built["carriers"]))
        built["numbers"] = tuple(self.all_numbers(built["carriers"]))
        built["guests"] = tuple(self.all_guests())
        try:
            tenancy.check(self.tenant_defaults)
        except ValueError as exc:
            self.errors.append(f"tenant_defaults{exc}")
        built["tenant_defaults"] = self.tenant_defaults
        if self.errors:
            raise SettingsError("\n".join(self.errors))
        return Settings(**built)

    def checked(self, given: _Given, kind: Any) -> Iterator[Any]:
        """Yield the value once it is of its type and in its range; else nothing, and the error is noted."""
        try:
            yield _convert(given, kind, self.environ)
        except ValueError as exc:
            self.errors.append(f"{given.label}: {exc}")

    def all_carriers(self) -> Iterator[CarrierSettings]:
        names: set[str] = set()
        for n, (entry, folder) in enumerate(self.carriers, 1):
            if not isinstance(entry, dict):
                self.errors.append(f"carrier: expected a table, [[carrier]], got {_shown(entry)}")
                continue
            name = entry.get("name")
            label = f"carrier.{name}" if isinstance(name, str) and _CARRIER_NAME.fullmatch(name) else f"carrier {n}"
            if isinstance(name, str) and name in names:
                self.errors.append(f"{label}: two carriers have this name")
            names.add(str(name))
            carrier, wrong = check_carrier(entry, partial(_resolved, folder=folder, environ=self.environ))
            self.errors += [f"{label}.{key}: {why}" for key, why in wrong]
            if carrier is not None:
                yield carrier

    def all_routes(self, carriers: tuple[CarrierSettings, ...]) -> Iterator[RouteSettings]:
        channels = {carrier.name: carrier.channel for carrier in carriers}
        for n, entry in enumerate(self.routes, 1):
            try:
                yield check_route(entry, f"route {n}", channels)
            except ValueError as exc:
                self.errors.append(str(exc))

    def all_numbers(self, carriers: tuple[CarrierSettings, ...]) -> Iterator[NumberSettings]:
        names = {carrier.name for carrier in carriers}
        for n, entry in enumerate(self.numbers, 1):
            try:
                yield check_number(entry, f"number {n}", names)
            except ValueError as exc:
                self.errors.append(str(exc))

    def all_guests(self) -> Iterator[GuestSettings]:
        names: set[str] = set()
        fields = {field.encode_name: field for field in msgspec.structs.fields(GuestSettings)}
        for n, entry in enumerate(self.guests, 1):
            if not isinstance(entry, dict):
                self.errors.append(f"guest: expected a table, [[guest]], got {_shown(entry)}")
                continue
            name = entry.get("name")
            label = f"guest.{name}" if isinstance(name, str) and _CARRIER_NAME.fullmatch(name) else f"guest {n}"
            before = len(self.errors)
            if isinstance(name, str) and name in names:
                self.errors.append(f"{label}: two guests have this name")
            names.add(str(name))
            self.errors += [f"{label}.{key}: missing" for key in ("name", "class") if key not in entry]
            values: dict[str, Any] = {}
            for key, value in entry.items():
                if key not in fields:
                    self.errors.append(f"{label}.{key}: unknown setting; there are {', '.join(sorted(fields))}")
                    continue
                given = _Given(value, f"{label}.{key}", Path.cwd(), False)
                for checked in self.checked(given, fields[key].type):
                    values[fields[key].name] = checked
            if len(self.errors) == before:
                yield GuestSettings(**values)


def check_carrier(
    entry: Mapping[str, Any], resolve: Callable[[Any], Any]
) -> tuple[CarrierSettings | None, list[tuple[str, str]]]:
    """Read one carrier.

    Args:
        entry: as the file or the API gives it.
        resolve: replaces `env:` and `file:` in a value, or raises ValueError.

    Returns:
        The carrier, None when something is wrong; each wrong key and the reason.
    """
    values: dict[str, Any] = {}
    options: dict[str, Any] = {}
    errors: list[tuple[str, str]] = []
    fields = {field.name: field for field in msgspec.structs.fields(CarrierSettings)}
    for key, value in entry.items():
        try:
            if f"carrier.{key}" in NOT_YET:
                errors.append((key, f"not available yet; {NOT_YET[f'carrier.{key}']}"))
            elif key == "options":
                errors.append((key, "unknown setting; a kind's own keys stand beside the others"))
            elif key in fields:
                description = _describe(fields[key].type)
                value = resolve(value) if description.base is str else value
                values[key] = _converted(value, fields[key].type, description)
            else:
                options[key] = resolve(value)
        except ValueError as exc:
            errors.append((key, str(exc)))
    errors += [(key, "missing") for key in ("name", "kind", "channel") if key not in entry]
    return (None if errors else CarrierSettings(**values, options=options)), errors


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as exc:
        raise SettingsError(f"{path}: cannot be read: {exc.strerror or exc}") from exc
    except UnicodeDecodeError as exc:
        raise SettingsError(f"{path}: is not UTF-8 (byte {exc.start})") from exc
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError(f"{path}: is not TOML: {exc}") from exc


def _convert(given: _Given, kind: Any, environ: Mapping[str, str]) -> Any:
    """Turn what was written into what the field holds.

    Raises:
        ValueError: says what was expected; a secret is not repeated.
    """
    description = _describe(kind)
    value: Any = given.value
    if given.is_text:
        if value == "" and type(None) in getattr(kind, "__args__", ()):
            return None
        value = _typed(value, description.base)
    if description.base is str:
        value = _resolved(value, given.folder, environ)
    return _converted(value, kind, description)


def _converted(value: Any, kind: Any, description: _Description) -> Any:
    try:
        value = msgspec.convert(value, kind)
    except msgspec.ValidationError:
        _refuse(value, description)
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(value, description)
    if description.check is not None and isinstance(value, str):
        value = description.check(value)
    return value


def _refuse(value: Any, description: _Description) -> NoReturn:
    secret = description.secret and isinstance(value, str) and value
    raise ValueError(f"expected {description.what}, got {'something else' if secret else _shown(value)}")


def _typed(text: str, base: type | None) -> Any:
    """Read a variable's text as its field's type; a text that is none of it stays a text, to be refused."""
    if base is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if base is int and re.fullmatch(r"[+-]?[0-9]+(_[0-9]+)*", text):
        return int(text[:40])  # longer ones are out of every range; int() of a huge text takes seconds
    if base is float and re.fullmatch(r"[+-]?[0-9]+(_[0-9]+)*(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?", text):
        return float(text)
    return text


def _resolved(value: Any, folder: Path, environ: Mapping[str, str]) -> Any:
    """Replace `env:NAME` and `file:PATH`, in nested tables and lists too.

    Raises:
        ValueError: the variable is not set, or the file cannot be read.
    """
    if isinstance(value, dict):
        return {key: _resolved(item, folder, environ) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, folder, environ) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith("env:"):
        name = value[4:]
        text = environ.get(name, "")
        if not text:
            raise ValueError(f"the variable {name} is {'empty' if name in environ else 'not set'}")
        return text
    if value.startswith("file:"):
        return _read_secret_file(folder / Path(value[5:]).expanduser())
    return value


def _read_secret_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_SECRET_FILE_BYTES + 1)
        text = content.decode().removesuffix("\n").removesuffix("\r")
    except OSError as exc:
        raise ValueError(f"the file {path} cannot be read: {exc.strerror or exc}") from exc
    except (UnicodeDecodeError, RuntimeError) as exc:
        raise ValueError(f"the file {path} does not hold UTF-8 text") from exc
    if not text or len(content) > _SECRET_FILE_BYTES:
        raise ValueError(f"the file {path} is {'larger than 1 MiB' if text else 'empty'}")
    return text


# --- words for errors


def _describe(kind: Any) -> _Description:
    """Say what a field takes, from its type: the one place where the range is written."""
    info = msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.UnionType):
        info = next(part for part in info.types if not isinstance(part, msgspec.inspect.NoneType))
    extra: dict[str, Any] = {}
    if isinstance(info, msgspec.inspect.Metadata):
        extra, info = info.extra or {}, info.type
    base: type | None = None
    if isinstance(info, msgspec.inspect.BoolType):
        what, base = "true or false", bool
    elif isinstance(info, msgspec.inspect.IntType):
        what, base = "an integer" + _range(info.ge, info.le), int
    elif isinstance(info, msgspec.inspect.FloatType):
        what, base = "a number" + _range(info.ge, info.le), float
    elif isinstance(info, msgspec.inspect.LiteralType):
        what = "one of " + ", ".join(f'"{value}"' for value in info.values)
    elif isinstance(info, msgspec.inspect.StrType):
        what, base = "a text that is not empty" if info.min_length else "a text", str
    else:
        what = "something else"
    return _Description(what, bool(extra.get("secret")), extra.get("check"), base)


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    return f" of at least {low:g}" if high is None else f" from {low or 0:.10g} to {high:.10g}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 40 else f'"{value[:40]}..."'
    if isinstance(value, int | float):
        return str(value)[:40]
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else "a date or time"


def _unknown(label: str, section: str, key: str) -> str:
    """Say that nobody knows this name, and which one was probably meant."""
    import difflib  # only a wrong name needs it, and it is slow to load

    names = {f"{name}.{field}": field for name, kind in SECTIONS.items() for field in kind.__struct_fields__}
    if section in SECTIONS:
        inside = [name for name in names if name.startswith(section + ".")]
        meant = [name for name, field in names.items() if field == key]
        meant = meant or difflib.get_close_matches(f"{section}.{key}", inside, 1, 0.7)
    elif key:
        meant = difflib.get_close_matches(f"{section}.{key}", names, 1, 0.7)
    else:
        meant = difflib.get_close_matches(section or label, [*SECTIONS, "carrier"], 1, 0.7)
    if meant and label.startswith(PREFIX):
        meant = [PREFIX + meant[0].upper().replace(".", "__")]
    what = "setting" if key or label.startswith(PREFIX) else "section"
    return f"{label}: unknown {what}" + (f"; did you mean {meant[0]}?" if meant else "")


# --- where a node is reached


def base_url(host: str, port: int) -> str:
    """Write the URL under which a server on this address is reached from its own machine."""
    if host in {"", "0.0.0.0", "::", "*"}:
        host = "127.0.0.1" if host != "::" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
