"""/v1/tenants and sign-up: tenants, their keys and secrets, what they use, and what was changed of them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta

from gateway.shapes.base import Instant, Name, Shape
from hermes.domain.state import Channel, Mode
from hermes.tenancy import LayersChange, LayersSettings, Quotas, QuotasChange, Rate, RetentionChange, RetentionSettings

Scope = Literal["messages:write", "messages:read", "tenant:manage"]
TenantStatus = Literal["active", "suspended"]
Stage = Literal["pending", "sandbox", "requested", "promoted", "production"]


class TenantSettings(Shape, kw_only=True, forbid_unknown_fields=True):
    """What may be set of a tenant, beside its name and how it stands. Stored as it is named here."""

    numbers: (
        Annotated[
            list[Annotated[str, Meta(min_length=1, max_length=20)]],
            Meta(max_length=1000, description="its own: inbound messages to them are its", examples=[["+4520123456"]]),
        ]
        | None
    ) = None
    rate_per_s: Annotated[Rate, Meta(description="messages in any second; 0: no limit")] | None = None
    burst: Annotated[Rate, Meta(description="as many more at once after a rest")] | None = None
    channel_rates: (
        Annotated[dict[Channel, Rate], Meta(description="messages in any second, by channel of the first step")] | None
    ) = None
    quotas: QuotasChange | None = None
    require_signed_requests: bool | None = None
    layers: LayersChange | None = None
    retention: RetentionChange | None = None


class TenantBody(TenantSettings, kw_only=True, forbid_unknown_fields=True):
    """A new tenant."""

    name: Name
    status: TenantStatus | None = None
    stage: Stage | None = None
    email: Annotated[str, Meta(max_length=254, description="whom to write to")] | None = None


class TenantChange(TenantSettings, kw_only=True, forbid_unknown_fields=True):
    """What to replace; what is left out stays."""

    id: Annotated[str, Meta(description="when given, the id of the path")] | None = None
    name: Name | None = None
    status: TenantStatus | None = None
    stage: Stage | None = None
    email: Annotated[str, Meta(max_length=254, description="whom to write to")] | None = None


class TenantView(Shape, kw_only=True):
    """A tenant."""

    id: str
    name: str
    status: TenantStatus
    stage: Annotated[
        Stage,
        Meta(
            description="pending: waits for the operator; sandbox: test keys only; requested: asks for production; "
            "promoted: may collect its first live key"
        ),
    ]
    email: str | None
    numbers: list[str]
    rate_per_s: int
    burst: int
    channel_rates: dict[Channel, int]
    quotas: Quotas
    require_signed_requests: bool
    layers: Annotated[LayersSettings, Meta(description="all of it: what was not set has its default")]
    retention: RetentionSettings


class SignupBody(Shape, forbid_unknown_fields=True):
    """Who wants to become a tenant."""

    name: Name
    email: Annotated[str, Meta(max_length=254, examples=["anna@example.com"])]


class SignupView(Shape):
    """The new tenant, and its key for the sandbox, shown this once. While it is pending, the key is refused."""

    id: str
    name: str
    stage: Stage
    key: KeyCreated


class Promotion(Shape):
    """How far the tenant has come; `key` is its first live key, shown this once."""

    id: str
    stage: Stage
    key: KeyCreated | None


class TenantPage(Shape):
    """All tenants, oldest first."""

    data: list[TenantView]
    next_cursor: str | None


class KeyBody(Shape, forbid_unknown_fields=True):
    """A new key."""

    mode: Mode
    scopes: Annotated[list[Scope], Meta(description="none named means all")] | None = None
    expires_at: Instant | None = None
    allow_from: (
        Annotated[list[str], Meta(max_length=64, description="CIDR blocks", examples=[["192.0.2.0/24"]])] | None
    ) = None


class KeyCreated(Shape):
    """The key, shown this once."""

    id: str
    key: str
    mode: Mode
    scopes: list[str]


class KeyView(Shape):
    """A key, without the key."""

    id: str
    prefix: str
    mode: str
    scopes: list[str]
    allow_from: list[str]
    created_at: str
    expires_at: str | None
    last_used_at: Annotated[str, Meta(description="to the minute")] | None


class KeyPage(Shape):
    """A tenant's keys, oldest first."""

    data: list[KeyView]
    next_cursor: str | None


class ChangeView(Shape):
    """One change: who did what to which thing, and what differs. Secrets are never shown."""

    id: str
    at: str
    actor: Annotated[str, Meta(description="operator, a key's id, signup, or hermes")]
    request_id: str | None
    tenant: str
    action: Annotated[str, Meta(examples=["tenant.updated", "key.revoked"])]
    target: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class ChangePage(Shape):
    """Changes, newest first."""

    data: list[ChangeView]
    next_cursor: str | None


class RotateBody(Shape, forbid_unknown_fields=True):
    """How long the old one stays valid beside the new one."""

    overlap_s: Annotated[float, Meta(ge=0, le=2_592_000)] | None = None


class KeyRotated(Shape):
    """The successor, shown this once."""

    id: str
    key: str


class SecretView(Shape):
    """What signs the webhooks to a callback_url."""

    secret: str


_DAY: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"


class UsageQuery(Shape, kw_only=True, forbid_unknown_fields=True, rename={"first": "from", "last": "to"}):
    """Which days, both included."""

    first: (
        Annotated[str, Meta(description="2026-01-05, or a time of that day; default: 30 days ago", pattern=_DAY)] | None
    ) = None
    last: Annotated[str, Meta(description="default: today, by UTC", pattern=_DAY)] | None = None
    mode: Annotated[Mode, Meta(description="default: the key's own; live for the operator")] | None = None


class UsageLine(Shape):
    """What messages of one day that ended alike used at one carrier. The day is the one they were created (UTC)."""

    day: str
    channel: str
    carrier: Annotated[str, Meta(description="null: no carrier was asked")] | None
    status: Annotated[str, Meta(description="how the messages ended")]
    messages: Annotated[int, Meta(description="each once, where it was decided: their sum is the day's messages")]
    attempts: Annotated[int, Meta(description="tries at the carrier, refused ones included")]
    segments: Annotated[int, Meta(description="radio parts of SMS that the carrier took")]
    cost: float


class UsagePage(Shape):
    """A tenant's usage, by day."""

    data: list[UsageLine]


class QuotaLine(Shape):
    """One quota, and what is used of it."""

    quota: Annotated[str, Meta(description="as the tenant's setting is called")]
    limit: Annotated[float, Meta(description="0: no limit")]
    used: float
    resets_at: Annotated[str, Meta(description="when the next day or month begins, by UTC")]


class QuotaPage(Shape):
    """A tenant's quotas now."""

    data: list[QuotaLine]


class QuotaQuery(Shape, kw_only=True, forbid_unknown_fields=True):
    """Which messages."""

    mode: Annotated[Mode, Meta(description="default: the key's own; live for the operator")] | None = None


class SigningBody(Shape, forbid_unknown_fields=True):
    """Whether requests must be signed."""

    required: bool


class SigningView(Shape):
    """Whether requests must be signed."""

    required: bool


class SigningSecret(Shape):
    """What requests with this key are signed with."""

    id: str
    signing_secret: str
