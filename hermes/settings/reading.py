"""From a file, `HERMES_*` variables and options to `Settings`, or to all that is wrong with them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from hermes import tenancy
from hermes.errors import SettingsError
from hermes.settings.described import converted, describe, shown
from hermes.settings.entries import check_carrier, check_number, check_route
from hermes.settings.schema import (
    CARRIER_NAME,
    SECTIONS,
    CarrierSettings,
    GuestSettings,
    NumberSettings,
    RouteSettings,
    Settings,
)

PREFIX: Final = "HERMES_"
# Read by the command line or for one key; never settings, so never refused.
NOT_SETTINGS: Final = frozenset({"HERMES_URL", "HERMES_OPERATOR_KEY", "HERMES_API_KEY", "HERMES_DATA_DIR"})

_SECRET_FILE_BYTES: Final = 1 << 20  # a service account's JSON takes 2 KiB; more is surely the wrong file


class _Given(NamedTuple):
    """One value as somebody wrote it."""

    value: Any
    label: str  # how it is named in an error: server.port, HERMES_SERVER__PORT, --port
    folder: Path  # what a relative file:PATH is relative to
    is_text: bool  # from a variable: the field says what the text means


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
        if (section, key) in reader.given:
            reader.overruled[section, key] = reader.given[section, key]
        reader.given[section, key] = _Given(value, "--" + key.replace("_", "-"), Path.cwd(), False)
    return reader.settings()


class _Reader:
    """Collects what was given, then what is wrong with it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.given: dict[tuple[str, str], _Given] = {}
        self.overruled: dict[tuple[str, str], _Given] = {}  # by the command line; what is wrong with it is told too
        self.carriers: list[tuple[Any, Path]] = []
        self.routes: list[Any] = []
        self.numbers: list[Any] = []
        self.guests: list[Any] = []
        self.tenant_defaults: dict[str, Any] = {}
        self.errors: list[str] = []

    def tables(self, document: Mapping[str, Any], folder: Path) -> None:
        for section, table in document.items():
            if section == "carrier":
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
                self.errors.append(f"{section}: expected a table, [{section}], got {shown(table)}")
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
            if section in ("route", "number", "guest"):
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
            for field in msgspec.structs.fields(kind):
                overruled = self.overruled.get((section, field.name))
                if overruled is not None:
                    list(self.checked(overruled, field.type))
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
                self.errors.append(f"carrier: expected a table, [[carrier]], got {shown(entry)}")
                continue
            name = entry.get("name")
            label = f"carrier.{name}" if isinstance(name, str) and CARRIER_NAME.fullmatch(name) else f"carrier {n}"
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
                self.errors.append(f"guest: expected a table, [[guest]], got {shown(entry)}")
                continue
            name = entry.get("name")
            label = f"guest.{name}" if isinstance(name, str) and CARRIER_NAME.fullmatch(name) else f"guest {n}"
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
    description = describe(kind)
    value: Any = given.value
    if given.is_text:
        if value == "" and type(None) in getattr(kind, "__args__", ()):
            return None
        value = _typed(value, description.base)
    if description.base is str:
        value = _resolved(value, given.folder, environ)
    return converted(value, kind, description)


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
