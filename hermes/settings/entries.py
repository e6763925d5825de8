"""Carriers, routes and numbers, one by one: as the file gives them, or the API."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeVar

import msgspec

from hermes.settings.described import converted, describe, shown
from hermes.settings.schema import CarrierSettings, NumberSettings, RouteSettings

T = TypeVar("T")

_MATCH_FORMS: Final = {
    "prefix": re.compile(r"\+[1-9][0-9]{0,14}"),  # E.164
    "mcc": re.compile(r"[2-79][0-9]{2}"),  # E.212
    "mnc": re.compile(r"[0-9]{2,3}"),
}
_MATCH_LIKE: Final = {"prefix": 'as "+45"', "mcc": 'as "238"', "mnc": 'as "01"'}


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
            if key == "options":
                errors.append((key, "unknown setting; a kind's own keys stand beside the others"))
            elif key in fields:
                description = describe(fields[key].type)
                value = resolve(value) if description.base is str else value
                values[key] = converted(value, fields[key].type, description)
            else:
                options[key] = resolve(value)
        except ValueError as exc:
            errors.append((key, str(exc)))
    errors += [(key, "missing") for key in ("name", "kind", "channel") if key not in entry]
    return (None if errors else CarrierSettings(**values, options=options)), errors


def _read(entry: Any, kind: type[T], label: str) -> T:
    try:
        return msgspec.convert(entry, kind)
    except msgspec.ValidationError as exc:
        why, _, where = str(exc).partition(" - at `$")
        raise ValueError(f"{label}{where.rstrip('`')}: {why[0].lower() + why[1:]}") from exc


def check_route(entry: Any, label: str, carriers: Mapping[str, str]) -> RouteSettings:
    """Read one route.

    Args:
        entry: as the file or the API gives it.
        label: how errors name it.
        carriers: channel by carrier name.

    Raises:
        ValueError: says what is wrong with it.
    """
    route = _read(entry, RouteSettings, label)
    for name in route.carriers:
        if name not in carriers:
            raise ValueError(f"{label}.carriers: no carrier is called {shown(name)}")
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
                raise ValueError(f"{label}.match.{key}: {shown(value)} is none; expected {_MATCH_LIKE[key]}")
    if route.match.mnc and not route.match.mcc:
        raise ValueError(f"{label}.match.mnc: goes with an mcc")
    return route


def check_number(entry: Any, label: str, carriers: Collection[str]) -> NumberSettings:
    """Read one `[[number]]`.

    Args:
        entry: as the file gives it.
        label: how errors name it.
        carriers: the names there are.

    Raises:
        ValueError: says what is wrong with it.
    """
    number = _read(entry, NumberSettings, label)
    if number.carrier is not None and number.carrier not in carriers:
        raise ValueError(f"{label}.carrier: no carrier is called {shown(number.carrier)}")
    if number.keyword is not None and len(number.keyword.split()) != 1:
        raise ValueError(f"{label}.keyword: expected one word")
    return number
