"""Where and when a tenant may send, and as whom: countries, registered senders, consent, quiet hours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from gateway.layers.numbers import number_facts, time_zone, zones_of
from gateway.shapes import FieldError
from hermes.domain.message import UTC, Message
from hermes.domain.state import ADDRESS_FIELD
from hermes.tenancy import ComplianceSettings, QuietHours

_NUMBERS: Final = ("phone", "whatsapp")


class ComplianceLayer:
    """`compliance`: see the module.

    Attributes:
        asks: whether the tenant set any of it.

    Args:
        settings: the tenant's.
        consented: (tenant, channel, address, category) -> whether the recipient agreed.
    """

    name = "compliance"
    code = "compliance_refused"

    def __init__(self, settings: ComplianceSettings, consented: Callable[[str, str, str, str], bool]) -> None:
        self._consented = consented
        self._require_consent = frozenset(settings.require_consent)
        self._countries = frozenset(settings.countries)
        self._senders = frozenset(settings.senders)
        quiet = settings.quiet_hours
        self._quiet = _Quiet(quiet) if quiet is not None and quiet.categories else None
        self.asks = bool(self._countries or self._senders or self._require_consent or self._quiet is not None)

    def check(self, message: Message) -> Sequence[FieldError]:
        """See `Layer`. A message that would disturb is put off, where the settings say so."""
        errors: list[FieldError] = []
        if self._countries:
            for name in _NUMBERS:
                number = message.to.get(name)
                if number is not None:
                    country = number_facts(number).country
                    if country not in self._countries:
                        where = f"is in {country}" if country is not None else "is in no country"
                        errors.append(FieldError(f"to.{name}", f"{where}, to which this tenant may not send"))
        if self._senders:
            for channel, sender in message.sender.items():
                if sender not in self._senders:
                    errors.append(FieldError(f"from.{channel}", "is not registered as a sender of this tenant"))
        if message.category in self._require_consent:
            self._check_consent(message, errors)
        if self._quiet is not None:
            self._quiet.check(message, errors)
        return errors

    def _check_consent(self, message: Message, errors: list[FieldError]) -> None:
        """Refuse what nobody agreed to on any channel; a step without consent, among others, is passed over."""
        for step in message.cascade:
            to = message.to[ADDRESS_FIELD[step.channel]]
            if self._consented(message.tenant, step.channel, to, message.category):
                return
        field = f"to.{ADDRESS_FIELD[message.cascade[0].channel]}"
        errors.append(FieldError(field, f"gave no consent to {message.category} messages on a channel of the cascade"))


class _Quiet:
    def __init__(self, settings: QuietHours) -> None:
        self._from = time.fromisoformat(settings.from_)
        self._to = time.fromisoformat(settings.to)
        self._categories = frozenset(settings.categories)
        self._refuses = settings.action == "refuse"
        self._zone = time_zone(settings.zone) or ZoneInfo("UTC")
        self._minute = 0
        self._awake: set[tuple[ZoneInfo, ...]] = set()  # where nobody is disturbed in that minute

    def check(self, message: Message, errors: list[FieldError]) -> None:
        if message.category not in self._categories:
            return
        start = message.send_at or message.created_at
        zones = self._zones(message)
        minute = int(start.timestamp()) // 60
        if minute != self._minute:
            self._minute = minute
            self._awake.clear()
        elif zones in self._awake:
            return
        awake = awake_at(start, self._from, self._to, zones)
        if awake == start:
            self._awake.add(zones)
            return
        if self._refuses:
            field = f"to.{ADDRESS_FIELD[message.cascade[0].channel]}"
            errors.append(FieldError(field, "must not be disturbed now: it is within the quiet hours"))
        else:
            message.expires_at += awake - start
            message.send_at = awake

    def _zones(self, message: Message) -> tuple[ZoneInfo, ...]:
        for name in _NUMBERS:
            number = message.to.get(name)
            if number is not None:
                return zones_of(number) or (self._zone,)
        return (self._zone,)


def awake_at(at: datetime, quiet_from: time, quiet_to: time, zones: Sequence[ZoneInfo]) -> datetime:
    """Find the first moment, `at` or later, that is within the quiet hours in none of the zones.

    When the zones leave no such moment (the quiet hours of all of them cover the day), those of the first one count.

    Args:
        at: aware, UTC.
        quiet_from: inclusive, by the clock where the recipient is.
        quiet_to: exclusive; before `quiet_from` when the quiet hours run over midnight; equal: there are none.
        zones: where the recipient may be; at least one.
    """
    if quiet_from == quiet_to:
        return at
    for candidates in (zones, zones[:1]):
        moment = at
        for _ in range(2 * len(candidates) + 2):
            ends = [end for zone in candidates if (end := _quiet_end(moment, quiet_from, quiet_to, zone)) is not None]
            if not ends:
                return moment
            moment = max(ends)
    return at


def _quiet_end(at: datetime, quiet_from: time, quiet_to: time, zone: ZoneInfo) -> datetime | None:
    """Tell when the quiet hours that hold at this moment end; None when none do."""
    local = at.astimezone(zone)
    clock = local.time()
    over_midnight = quiet_to < quiet_from
    inside = clock >= quiet_from or clock < quiet_to if over_midnight else quiet_from <= clock < quiet_to
    if not inside:
        return None
    day = local.date() + timedelta(days=1) if over_midnight and clock >= quiet_from else local.date()
    end = datetime.combine(day, quiet_to, zone).astimezone(UTC)
    return end if end > at else at + timedelta(hours=1)  # the clock was put back: that hour comes twice
