"""What may be set of a tenant: its rates, quotas and layers. One definition for the API and the stored settings.

A tenant's own settings are stored as they were named; what is not named has the default said here. `rules` reads
them into a `Rules`; nobody else interprets them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct, field

__all__ = [
    "ComplianceSettings",
    "ContentSettings",
    "DedupSettings",
    "DoNotContactSettings",
    "EnrichSettings",
    "LayersChange",
    "LayersSettings",
    "QuietHours",
    "Quotas",
    "QuotasChange",
    "RateSettings",
    "RetentionChange",
    "RetentionSettings",
    "Rules",
    "check",
    "merged",
    "named",
    "rules",
]

Category = Literal["otp", "transactional", "marketing"]
Channel = Literal["email", "sms", "push", "whatsapp"]
Rate = Annotated[int, Meta(ge=0, le=1_000_000)]
Country = Annotated[str, Meta(pattern="^[A-Z]{2}$", description="ISO 3166-1 alpha-2")]
TimeOfDay = Annotated[str, Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$", examples=["21:00"])]
Host = Annotated[str, Meta(min_length=1, max_length=253)]

MOST_WORDS: Final = 1000


class ContentSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a message may say."""

    enabled: bool = True
    max_segments: Annotated[int, Meta(ge=0, le=255, description="radio parts of an SMS; 0: no limit")] = 0
    max_length: Annotated[int, Meta(ge=0, description="characters of a text; 0: no limit")] = 0
    blocked_words: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=100)], ...],
        Meta(max_length=MOST_WORDS, description="whole words or phrases, without regard to case"),
    ] = ()
    link_hosts: Annotated[
        tuple[Host, ...],
        Meta(max_length=MOST_WORDS, description="links may lead to these hosts and those below them; none named: any"),
    ] = ()


class QuietHours(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a recipient is not to be disturbed, by the clock where they are; may run over midnight."""

    from_: TimeOfDay = field(default="21:00", name="from")
    to: TimeOfDay = "08:00"
    categories: Annotated[tuple[Category, ...], Meta(description="of messages that must not disturb")] = ("marketing",)
    action: Annotated[Literal["defer", "refuse"], Meta(description="defer: sent when the quiet hours end")] = "defer"
    zone: Annotated[
        str, Meta(min_length=1, max_length=64, description="where a recipient without a phone number is")
    ] = "UTC"


class ComplianceSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and when a tenant may send, and as whom."""

    enabled: bool = True
    countries: Annotated[
        tuple[Country, ...], Meta(max_length=300, description="of phone numbers; none named: any")
    ] = ()
    senders: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=320)], ...],
        Meta(max_length=MOST_WORDS, description="what `from` may say (registered senders); none named: anything"),
    ] = ()
    quiet_hours: QuietHours | None = None
    require_consent: Annotated[
        tuple[Category, ...], Meta(description="of messages that only who agreed to them gets (consents)")
    ] = ()


class DoNotContactSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether do-not-contact lists count."""

    enabled: bool = True
    exempt_categories: Annotated[
        tuple[Category, ...],
        Meta(description="sent whatever the tenant's own list says; the operator's list always counts"),
    ] = ("otp",)


class RateSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the tenant's rates count."""

    enabled: bool = True


class DedupSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the same message soon after is refused."""

    enabled: bool = False
    window_s: Annotated[float, Meta(gt=0, le=86_400, description="same recipient, content and reference within")] = 60.0


class EnrichSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is added to a message."""

    enabled: bool = True
    default_country: Annotated[
        Country | None, Meta(description="of phone numbers written without `+`; none: they are refused")
    ] = None


class LayersSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The validation layers that can be set. auth, tenant and schema cannot be switched off."""

    content: ContentSettings = ContentSettings()
    compliance: ComplianceSettings = ComplianceSettings()
    do_not_contact: DoNotContactSettings = DoNotContactSettings()
    rate: RateSettings = RateSettings()
    dedup: DedupSettings = DedupSettings()
    enrich: EnrichSettings = EnrichSettings()


Amount = Annotated[int, Meta(ge=0, le=1_000_000_000_000)]
Money = Annotated[float, Meta(ge=0, le=1_000_000_000)]


class Quotas(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much a tenant may have accepted in a day and in a calendar month, by UTC; 0: no limit."""

    messages_per_day: Amount = 0
    messages_per_month: Amount = 0
    segments_per_day: Annotated[Amount, Meta(description="radio parts of SMS")] = 0
    segments_per_month: Amount = 0
    spend_per_day: Annotated[Money, Meta(description="in the operator's currency, as usage counts it")] = 0.0
    spend_per_month: Money = 0.0


class RetentionSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long what a message says, and to whom, is kept; the facts of sending stay as long as messages do."""

    content_days: Annotated[
        int, Meta(ge=0, le=3650, description="after it was created, once it is final; 0: as long as the message")
    ] = 0


class Rules(Struct, frozen=True, kw_only=True):
    """Everything that holds for a tenant's messages; see `gateway.shapes.TenantSettings`."""

    rate_per_s: Rate = 0
    burst: Rate = 0
    channel_rates: dict[Channel, Rate] = {}
    quotas: Quotas = Quotas()
    require_signed_requests: bool = False
    layers: LayersSettings = LayersSettings()
    retention: RetentionSettings = RetentionSettings()


DEFAULT: Final = Rules()


def _change_of(kind: Any) -> Any:
    """Make the struct of a change: the same fields, each of which may be left out, at every depth."""
    fields = []
    for one in msgspec.structs.fields(kind):
        options = getattr(one.type, "__args__", ())
        inner = next((t for t in (one.type, *options) if isinstance(t, type) and issubclass(t, Struct)), None)
        changed = one.type if inner is None else _change_of(inner)
        fields.append((one.name, changed | None, field(default=None, name=one.encode_name)))
    name = kind.__name__.removesuffix("Settings") + "Change"
    return msgspec.defstruct(
        name, fields, kw_only=True, forbid_unknown_fields=True, namespace={"__doc__": kind.__doc__}, module=__name__
    )


if TYPE_CHECKING:
    LayersChange = LayersSettings
    QuotasChange = Quotas
    RetentionChange = RetentionSettings
else:
    LayersChange = _change_of(LayersSettings)
    QuotasChange = _change_of(Quotas)
    RetentionChange = _change_of(RetentionSettings)


def named(change: Any) -> dict[str, Any]:
    """Tell what a change names, as it is stored."""
    return {
        one.encode_name: named(value) if isinstance(value, Struct) else value
        for one in msgspec.structs.fields(change)
        if (value := getattr(change, one.name)) is not None
    }


def merged(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Lay what a change names over what was there, at every depth."""
    both = dict(old)
    for key, value in new.items():
        before = both.get(key)
        both[key] = merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return both


def rules(settings: Mapping[str, Any]) -> Rules:
    """Read a tenant's stored settings. What this version does not know is left out."""
    own = {one.encode_name: settings[one.encode_name] for one in msgspec.structs.fields(Rules) if one.name in settings}
    return msgspec.convert(own, Rules) if own else DEFAULT


class _Defaults(Rules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tenant_defaults]`: as a tenant, unknown names refused."""


def check(defaults: Mapping[str, Any]) -> None:
    """Look whether these can be the defaults of tenants.

    Raises:
        ValueError: names the wrong setting, as it follows `tenant_defaults`, and why.
    """
    try:
        msgspec.convert(defaults, _Defaults)
    except msgspec.ValidationError as exc:
        why, _, where = str(exc).partition(" - at `$")
        raise ValueError(f"{where.rstrip('`')}: {why[0].lower() + why[1:]}") from exc
