"""What a type cannot say of the layers' settings: names of countries and time zones that exist."""

from __future__ import annotations

from gateway.layers.numbers import is_country, time_zone
from gateway.shapes import FieldError
from hermes.tenancy import LayersChange


def wrong_layers(change: LayersChange | None) -> list[FieldError]:
    """Say what is wrong with the settings that a change names, field by field."""
    errors: list[FieldError] = []
    if change is None:
        return errors
    compliance = change.compliance
    if compliance is not None:
        for n, country in enumerate(compliance.countries or ()):
            if not is_country(country):
                errors.append(FieldError(f"layers.compliance.countries[{n}]", "is no country with phone numbers"))
        quiet = compliance.quiet_hours
        if quiet is not None and quiet.zone is not None and time_zone(quiet.zone) is None:
            errors.append(FieldError("layers.compliance.quiet_hours.zone", "is no time zone, like Europe/Copenhagen"))
    enrich = change.enrich
    if enrich is not None and enrich.default_country is not None and not is_country(enrich.default_country):
        errors.append(FieldError("layers.enrich.default_country", "is no country with phone numbers"))
    return errors
