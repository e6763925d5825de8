"""The kinds of carrier there are, and how a configured one is made from its settings.

A kind lives in a module of its own, which ends in `KIND = Kind(...)`, and is imported when the first carrier
of it is made. Other packages add kinds by an entry point of the group `hermes.carriers`: its name is the
kind, its value such a `Kind`. A built-in kind cannot be replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final, Protocol

import msgspec

from carriers.base import Carrier
from hermes.errors import SettingsError
from hermes.runtime.clock import Clock

ENTRY_POINT_GROUP: Final = "hermes.carriers"

# Kind -> where its `Kind` is. A new carrier adds a line here.
KINDS: Final[dict[str, str]] = {
    "fcm": "carriers.http.fcm:KIND",
    "guest": "carriers.guest:KIND",
    "messente": "carriers.http.messente:KIND",
    "mock": "carriers.mock:KIND",
    "ses": "carriers.http.ses:KIND",
    "smpp": "carriers.smpp_carrier:KIND",
    "smtp": "carriers.smtp:KIND",
    "twilio": "carriers.http.twilio:KIND",
    "vonage": "carriers.http.vonage:KIND",
    "whatsapp": "carriers.http.whatsapp:KIND",
}

# Keys every carrier may have that only some kinds use; the others need not declare them.
_OPTIONAL_FOR_A_KIND: Final = ("timeout_s",)

_PATH: Final = re.compile(r"(?s)(?P<reason>.*) - at `\$\.?(?P<key>[^`]*)`")


class CarrierSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a kind can be told. Its text form names no value, because some are secrets."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # msgspec would show every field to rich
        return []


class WrongSetting(SettingsError):
    """A carrier cannot be made from its settings.

    Attributes:
        key: the setting it is about.
        why: for people; never a value that may be secret.
    """

    def __init__(self, name: str, key: str, why: str) -> None:
        super().__init__(f"carrier {name!r}: {key}: {why}")
        self.key = key
        self.why = why


class Factory(Protocol):
    """What makes a carrier of a kind; a `Carrier` subclass is one."""

    def __call__(self, name: str, channel: str, settings: Any, /, *, clock: Clock, cost: float) -> Carrier:
        """Make the carrier; nothing is opened yet."""


@dataclass(slots=True, frozen=True)
class Kind:
    """A way to send that can be configured.

    Attributes:
        settings: its own keys; those of all kinds (`name`, `weight`, ...) are not among them.
        channels: the channels it can serve; None for all.
    """

    name: str
    settings: type[CarrierSettings]
    make: Factory
    channels: frozenset[str] | None = None


def kinds() -> list[str]:
    """List the kinds that can be made, those of other packages included, sorted."""
    return sorted({*KINDS, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))})


def find_kind(kind: str) -> Kind | None:
    """Load a kind; None when there is none of that name."""
    where = KINDS.get(kind)
    if where is not None:
        module, _, attribute = where.partition(":")
        built_in: Kind = getattr(import_module(module), attribute)
        return built_in
    for point in entry_points(group=ENTRY_POINT_GROUP, name=kind):
        found = point.load()
        if not isinstance(found, Kind):
            raise SettingsError(f"kind {kind!r}: entry point {point.value} is no carriers.registry.Kind")
        return found
    return None


def make_carrier(
    kind: str,
    name: str,
    channel: str,
    options: Mapping[str, Any],
    *,
    clock: Clock,
    cost: float = 0.0,
) -> Carrier:
    """Make a configured carrier; nothing is opened yet.

    `options` are the kind's own keys, secrets resolved; `timeout_s` may be among them for any kind. `cost`
    is per segment or message, in the operator's currency.

    Raises:
        WrongSetting: names the carrier, the key and the reason; never a value that may be secret.
    """
    found = find_kind(kind)
    if found is None:
        known = ", ".join(kinds())
        raise WrongSetting(name, "kind", f"there is no kind {kind!r}; there are {known}")
    if found.channels is not None and channel not in found.channels:
        only = ", ".join(sorted(found.channels))
        raise WrongSetting(name, "channel", f"kind {kind!r} serves {only}, not {channel!r}")
    return found.make(name, channel, _settings(found, name, options), clock=clock, cost=cost)


def _settings(kind: Kind, name: str, options: Mapping[str, Any]) -> CarrierSettings:
    keys = {field.encode_name for field in msgspec.structs.fields(kind.settings)}
    own = {key: value for key, value in options.items() if key in keys or key not in _OPTIONAL_FOR_A_KIND}
    for key in own:
        if key not in keys:
            known = ", ".join(sorted(keys))
            raise WrongSetting(name, key, f"no setting of kind {kind.name!r}; there are {known}")
    try:
        return msgspec.convert(own, kind.settings)
    except msgspec.ValidationError as exc:
        at = _PATH.fullmatch(str(exc))
        key, why = (at["key"], at["reason"]) if at and at["key"] else _missing(str(exc))
        raise WrongSetting(name, key, why) from None


def _missing(text: str) -> tuple[str, str]:
    """Name the key of "Object missing required field `x`"."""
    _, tick, rest = text.partition("`")
    return (rest.partition("`")[0], "missing") if tick else ("kind", text)
