"""What an operator may set, and where it is read from.

A TOML file, then `HERMES_*` variables over it (`HERMES_SERVER__PORT=9000`), then the command line's options.
All of it is checked before anything starts, and everything that is wrong is told at once, by its full name.
What a carrier of one kind understands is left to `carriers.registry`: here those keys are only carried along.

`schema.py` is what there is, `described.py` what each setting takes, `entries.py` carriers, routes and numbers (which
the API changes, too), `reading.py` where all of it comes from.
"""

from __future__ import annotations

from hermes.settings.entries import check_carrier, check_route
from hermes.settings.reading import load
from hermes.settings.schema import (
    CarrierSettings,
    DatabaseSettings,
    GuestSettings,
    LogSettings,
    MatchSettings,
    NumberSettings,
    RedisSettings,
    RetentionSettings,
    RouteSettings,
    ServerSettings,
    Settings,
    SignupSettings,
    base_url,
)

__all__ = [
    "CarrierSettings",
    "DatabaseSettings",
    "GuestSettings",
    "LogSettings",
    "MatchSettings",
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
