"""Every shape that crosses the HTTP edge, defined once: these structs decode, encode and document it.

What a type can say (ranges, lengths, vocabularies) is said here; what needs more than one field or a look
at the world is in `submission.py`. Unknown fields are refused by name. `null` means the same as leaving a
field out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from hermes.domain.message import Step
from hermes.domain.state import Category, Channel, MessageStatus, Mode, OnAmbiguous, Success
from hermes.settings import RouteSettings
from hermes.tenancy import LayersChange, LayersSettings, Quotas, QuotasChange, Rate, RetentionChange, RetentionSettings

Scope = Literal["messages:write", "messages:read", "tenant:manage"]
EventType = Literal[
    "message.submitted",
    "message.fallback",
    "message.delivered",
    "message.failed",
    "message.expired",
    "message.cancelled",
    "message.unknown",
    "message.corrected",
    "message.read",
    "inbound.received",
    "recipient.opted_out",
]
Instant = Annotated[datetime, Meta(tz=True)]

MOST_STEPS: Final = 8
MOST_IN_BATCH: Final = 1_000
MOST_IDS: Final = 1_000
MOST_IN_PAGE: Final = 1_000
MOST_ROWS: Final = 10_000  # of a CSV file in one request
SEND_AT_MOST_DAYS: Final = 90  # further ahead than this nobody's number, consent or price is certain


# --- problems
class FieldError(Struct):
    """One field that is wrong, named as the request names it."""

    field: str
    why: str


class ProblemBody(Struct, omit_defaults=True):
    """A refusal (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    layer: str | UnsetType = UNSET
    errors: list[FieldError] | UnsetType = UNSET


# --- sending
class To(Struct, forbid_unknown_fields=True):
    """Where to reach the recipient: one address for each channel the cascade uses."""

    phone: Annotated[str, Meta(description="E.164 with a plus sign, for sms", examples=["+4520123456"])] | None = None
    email: Annotated[str, Meta(max_length=254, examples=["anna@example.com"])] | None = None
    push: Annotated[str, Meta(min_length=1, max_length=4096, description="device token")] | None = None
    whatsapp: Annotated[str, Meta(description="E.164 with a plus sign")] | None = None


class StepBody(Struct, forbid_unknown_fields=True):
    """One step: a channel, how long to wait for its receipt, and what counts as success."""

    channel: Channel
    timeout_s: Annotated[float, Meta(ge=0.1, le=259_200, description="seconds; default 60, email 300")] | None = None
    success: Annotated[Success, Meta(description="default delivered; submitted where no receipts exist")] | None = None


class SmsContent(Struct, forbid_unknown_fields=True):
    """What SMS says instead of the common fields."""

    text: str | None = None


class EmailContent(Struct, forbid_unknown_fields=True):
    """What e-mail says instead of the common fields."""

    text: str | None = None
    subject: str | None = None
    html: str | None = None


class PushContent(Struct, forbid_unknown_fields=True):
    """What a push notification says instead of the common fields."""

    text: str | None = None
    title: str | None = None
    data: dict[str, Any] | None = None


class WhatsAppLanguage(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A language as Meta writes it."""

    code: Annotated[str, Meta(min_length=2, max_length=32, examples=["en_US"])]
    policy: Literal["deterministic"] | None = None


class WhatsAppTemplate(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A message template that Meta approved, filled in: the only thing to say more than 24 hours after an answer."""

    name: Annotated[str, Meta(min_length=1, max_length=512)]
    language: (
        Annotated[str, Meta(min_length=2, max_length=32, description="code, as in en_US", examples=["en_US"])]
        | WhatsAppLanguage
    )
    components: Annotated[list[dict[str, Any]], Meta(max_length=100, description="as Meta's API takes them")] | None = (
        None
    )


class WhatsAppMedia(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A file: uploaded to Meta before (`id`), or that Meta fetches (`link`)."""

    type: Literal["audio", "document", "image", "sticker", "video"]
    id: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    link: Annotated[str, Meta(min_length=1, max_length=2048, pattern=r"^https?://")] | None = None
    caption: Annotated[str, Meta(max_length=1024)] | None = None
    filename: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


class WhatsAppContent(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What WhatsApp says instead of the common fields: a text, a template or a file."""

    text: str | None = None
    template: WhatsAppTemplate | None = None
    media: WhatsAppMedia | None = None


class ContentBody(Struct, forbid_unknown_fields=True):
    """What to say. A channel's own block wins over the common fields."""

    text: Annotated[str, Meta(examples=["Your code is 123456"])] | None = None
    subject: str | None = None
    html: str | None = None
    title: str | None = None
    data: dict[str, Any] | None = None
    sms: SmsContent | None = None
    email: EmailContent | None = None
    push: PushContent | None = None
    whatsapp: WhatsAppContent | None = None


class TemplateUse(Struct, forbid_unknown_fields=True):
    """A stored template of the tenant, and what to put into it."""

    name: str
    version: Annotated[int, Meta(ge=1, description="default: the newest")] | None = None
    locale: Annotated[str, Meta(max_length=35, examples=["da-DK"], description="da-DK, else da, else the default")] | (
        None
    ) = None
    variables: dict[str, Any] | None = None


class From(Struct, forbid_unknown_fields=True):
    """Sender by channel; a carrier's own default when absent."""

    sms: Annotated[str, Meta(min_length=1, max_length=20)] | None = None
    email: Annotated[str, Meta(min_length=1, max_length=320)] | None = None
    push: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    whatsapp: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


Metadata = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=64)], Annotated[str, Meta(max_length=500)]],
    Meta(max_length=20),
]


class MessageBody(Struct, forbid_unknown_fields=True):
    """A message to send: `to` by channel and a `cascade`, or in short `channel` and `to` as a text."""

    to: To | str
    content: Annotated[ContentBody, Meta(description="required, unless a template says all of it")] | None = None
    template: Annotated[TemplateUse, Meta(description="content's own fields win over it")] | None = None
    cascade: Annotated[list[StepBody | Channel], Meta(min_length=1, max_length=MOST_STEPS)] | None = None
    channel: Annotated[Channel, Meta(description="short form: the only step")] | None = None
    from_: From | None = field(default=None, name="from")
    category: Category | None = None
    expires_in_s: (
        Annotated[float, Meta(ge=1, le=604_800, description="counted from send_at; default 259200")] | None
    ) = None
    send_at: (
        Annotated[datetime, Meta(tz=True, description=f"at most {SEND_AT_MOST_DAYS} days ahead; past means now")] | None
    ) = None
    reference: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    metadata: Metadata | None = None
    callback_url: Annotated[str, Meta(max_length=2048)] | None = None
    on_ambiguous: OnAmbiguous | None = None
    policy: Annotated[str, Meta(description="one of the tenant's; the request's own fields win")] | None = None


class RescheduleBody(Struct, forbid_unknown_fields=True):
    """When to send instead; `expires_at` moves by as much."""

    send_at: Annotated[datetime, Meta(tz=True, description=f"at most {SEND_AT_MOST_DAYS} days ahead; past means now")]


class Links(Struct):
    """Where to look."""

    self: str


class Accepted(Struct):
    """The message is committed."""

    id: str
    status: Literal["accepted", "scheduled"]
    reference: str | None
    segments: int | None
    encoding: str | None
    expires_at: datetime
    cascade: tuple[Step, ...]
    links: Links


class BatchBody(Struct, forbid_unknown_fields=True):
    """Up to 1,000 messages, each judged for itself."""

    messages: Annotated[list[MessageBody], Meta(min_length=1, max_length=MOST_IN_BATCH)]


class BatchMessage(Struct):
    """An accepted item."""

    id: str
    status: str
    reference: str | None


class BatchResult(Struct, omit_defaults=True):
    """What became of one item: the message, or the problem."""

    status: int
    message: BatchMessage | UnsetType = UNSET
    problem: ProblemBody | UnsetType = UNSET


class BatchAnswer(Struct):
    """One result for each item, in order."""

    results: list[BatchResult]


class Refusal(Struct):
    """Why a message would be refused."""

    layer: str | None
    code: str
    field: str | None
    detail: str


class Verdict(Struct):
    """What would become of a message."""

    accepted: bool
    segments: int | None
    encoding: str | None
    route: list[str]
    price: float | None
    refusals: list[Refusal]


# --- reading
class AttemptError(Struct):
    """Why a try failed."""

    class_: str = field(name="class")
    code: str | None
    detail: str | None


class SegmentDetail(Struct):
    """One radio part of a long SMS."""

    n: int
    carrier_message_id: str | None
    status: str
    error: AttemptError | None


class Attempt(Struct):
    """One try at one carrier."""

    step: int
    attempt: int
    channel: str
    carrier: str
    carrier_message_ids: list[str]
    segments: int | None
    segments_detail: list[SegmentDetail]
    status: str
    error: AttemptError | None
    recovered: bool
    cost: float | None
    queued_at: datetime | None
    submitted_at: datetime | None
    ended_at: datetime | None


class TimelineEvent(Struct):
    """One fact of the message's life."""

    seq: int
    at: datetime
    type: str
    step: int | None
    attempt: int | None
    data: dict[str, Any]


class MessageView(Struct, omit_defaults=True):
    """A message. Summaries leave out `attempts` and `events`."""

    id: str
    tenant: str
    status: MessageStatus
    reference: str | None
    metadata: dict[str, str]
    category: Category
    to: dict[str, str]
    cascade: list[Step]
    delivered_by: int | None
    cost: float | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    final_at: datetime | None
    attempts: list[Attempt] | UnsetType = UNSET
    events: list[TimelineEvent] | UnsetType = UNSET


class MessagePage(Struct):
    """A page of messages, newest first."""

    data: list[MessageView]
    next_cursor: str | None


class MessageList(Struct):
    """The messages that exist among those asked for, in the order asked."""

    data: list[MessageView]


class LookupBody(Struct, forbid_unknown_fields=True):
    """Which messages."""

    ids: Annotated[list[str], Meta(max_length=MOST_IDS)]


class ListQuery(Struct, forbid_unknown_fields=True):
    """Filters of the message list."""

    tenant: Annotated[str, Meta(max_length=64, description="for the operator: only this tenant's")] | None = None
    status: list[MessageStatus | Literal["open"]] = []
    channel: Channel | None = None
    reference: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    reference_prefix: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    created_after: Instant | None = None
    created_before: Instant | None = None
    fields: Literal["summary", "full"] = "summary"
    limit: Annotated[int, Meta(ge=1, le=MOST_IN_PAGE)] = 100
    cursor: str | None = None


class CountsQuery(Struct, forbid_unknown_fields=True):
    """Which messages to count."""

    tenant: Annotated[str, Meta(max_length=64, description="for the operator: only this tenant's")] | None = None

    created_after: Instant | None = None
    created_before: Instant | None = None


class Counts(Struct):
    """Messages by status."""

    accepted: int = 0
    scheduled: int = 0
    in_progress: int = 0
    delivered: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0
    unknown: int = 0


class Nothing(Struct, forbid_unknown_fields=True):
    """An empty object (or no body at all), or no query parameter."""


# --- tenants
Name = Annotated[str, Meta(min_length=1, max_length=200)]
TenantStatus = Literal["active", "suspended"]


Stage = Literal["pending", "sandbox", "requested", "promoted", "production"]


class TenantSettings(Struct, kw_only=True, forbid_unknown_fields=True):
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


class TenantView(Struct, kw_only=True):
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


class SignupBody(Struct, forbid_unknown_fields=True):
    """Who wants to become a tenant."""

    name: Name
    email: Annotated[str, Meta(max_length=254, examples=["anna@example.com"])]


class SignupView(Struct):
    """The new tenant, and its key for the sandbox, shown this once. While it is pending, the key is refused."""

    id: str
    name: str
    stage: Stage
    key: KeyCreated


class Promotion(Struct):
    """How far the tenant has come; `key` is its first live key, shown this once."""

    id: str
    stage: Stage
    key: KeyCreated | None


class TenantPage(Struct):
    """All tenants, oldest first."""

    data: list[TenantView]
    next_cursor: str | None


class KeyBody(Struct, forbid_unknown_fields=True):
    """A new key."""

    mode: Mode
    scopes: Annotated[list[Scope], Meta(description="none named means all")] | None = None
    expires_at: Instant | None = None
    allow_from: (
        Annotated[list[str], Meta(max_length=64, description="CIDR blocks", examples=[["192.0.2.0/24"]])] | None
    ) = None


class KeyCreated(Struct):
    """The key, shown this once."""

    id: str
    key: str
    mode: Mode
    scopes: list[str]


class KeyView(Struct):
    """A key, without the key."""

    id: str
    prefix: str
    mode: str
    scopes: list[str]
    allow_from: list[str]
    created_at: str
    expires_at: str | None
    last_used_at: Annotated[str, Meta(description="to the minute")] | None


class KeyPage(Struct):
    """A tenant's keys, oldest first."""

    data: list[KeyView]
    next_cursor: str | None


class ChangeView(Struct):
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


class ChangePage(Struct):
    """Changes, newest first."""

    data: list[ChangeView]
    next_cursor: str | None


class RotateBody(Struct, forbid_unknown_fields=True):
    """How long the old one stays valid beside the new one."""

    overlap_s: Annotated[float, Meta(ge=0, le=2_592_000)] | None = None


class KeyRotated(Struct):
    """The successor, shown this once."""

    id: str
    key: str


class SecretView(Struct):
    """What signs the webhooks to a callback_url."""

    secret: str


class EndpointBody(Struct, forbid_unknown_fields=True):
    """Where a tenant wants to hear of its messages."""

    url: Annotated[str, Meta(max_length=2048)]
    events: Annotated[list[EventType], Meta(description="default: the final ones and message.corrected")] | None = None


class EndpointCreated(Struct):
    """The endpoint's secret, shown this once."""

    id: str
    secret: str


class EndpointView(Struct):
    """An endpoint."""

    id: str
    url: str
    events: list[str]
    created_at: str
    disabled_at: str | None


class EndpointPage(Struct):
    """A tenant's endpoints, oldest first."""

    data: list[EndpointView]
    next_cursor: str | None


class SuppressionBody(Struct, forbid_unknown_fields=True):
    """A recipient who must not be written to."""

    address: Annotated[
        str, Meta(min_length=1, max_length=4096, description="phone number, e-mail address or device token")
    ]
    channel: Annotated[Channel, Meta(description="every channel that reaches the address when left out")] | None = None
    reason: Annotated[str, Meta(min_length=1, max_length=200, description="default manual")] | None = None


class SuppressionView(Struct):
    """A recipient who must not be written to; `channel` null: on no channel."""

    id: str
    channel: Channel | None
    address: str
    reason: str
    created_at: str


class SuppressionPage(Struct):
    """Recipients who must not be written to, newest first."""

    data: list[SuppressionView]
    next_cursor: str | None


class ConsentProof(Struct, forbid_unknown_fields=True):
    """How it is known that somebody agreed."""

    source: Annotated[str, Meta(min_length=1, max_length=200, description="where, as in signup form")]
    ip: Annotated[str, Meta(min_length=1, max_length=64, description="from where")] | None = None
    text_version: Annotated[str, Meta(min_length=1, max_length=200, description="which wording")] | None = None
    at: Annotated[Instant, Meta(description="when; default now")] | None = None


class ConsentBody(Struct, forbid_unknown_fields=True):
    """A recipient who agreed to be written to."""

    channel: Channel
    address: Annotated[
        str, Meta(min_length=1, max_length=4096, description="phone number, e-mail address or device token")
    ]
    proof: ConsentProof
    category: Annotated[Category, Meta(description="default marketing")] | None = None


class ConsentProofView(Struct):
    """How it is known that somebody agreed; `ip` is null, too, once the recipient was erased."""

    source: str
    ip: str | None
    text_version: str | None
    at: str


class ConsentView(Struct):
    """A consent; `address` is null once the recipient was erased."""

    id: str
    channel: Channel
    category: Category
    address: str | None
    proof: ConsentProofView
    created_at: str
    withdrawn_at: Annotated[str | None, Meta(description="from when on it does not count")]


class ConsentPage(Struct):
    """Consents, newest first."""

    data: list[ConsentView]
    next_cursor: str | None


class ConsentQuery(Struct, forbid_unknown_fields=True):
    """Which consents."""

    address: Annotated[str, Meta(min_length=1, max_length=4096, description="of this recipient")] | None = None
    limit: Annotated[int, Meta(ge=1, le=MOST_IN_PAGE)] = 100
    cursor: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


class ErasureBody(Struct, forbid_unknown_fields=True):
    """A recipient who is to be forgotten."""

    address: Annotated[
        str, Meta(min_length=1, max_length=4096, description="phone number, e-mail address or device token")
    ]
    channel: Annotated[Channel, Meta(description="whose kind of address it is; else its form tells")] | None = None


class ErasureView(Struct):
    """How far the erasing of a recipient has come. `recipient` is a keyed hash: the same address, the same text."""

    id: str
    status: Literal["running", "done"]
    recipient: str
    asked_by: str
    messages: Annotated[int, Meta(description="erased so far")]
    inbound: Annotated[int, Meta(description="inbound messages erased so far")]
    created_at: str
    done_at: str | None


class ErasurePage(Struct):
    """Erasures, newest first."""

    data: list[ErasureView]
    next_cursor: str | None


class RefusedRow(Struct):
    """A row of the file that was left out. The line with the names is row 1."""

    row: int
    field: str
    why: str


class Imported(Struct):
    """What became of the rows: `added` are new, `known` were there, `refused` were left out (the first 100 of them)."""

    rows: int
    added: int
    known: int
    refused: int
    errors: list[RefusedRow]


class PageQuery(Struct, forbid_unknown_fields=True):
    """Which page."""

    limit: Annotated[int, Meta(ge=1, le=MOST_IN_PAGE)] = 100
    cursor: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


class ExportQuery(Struct, forbid_unknown_fields=True):
    """Which part of the list."""

    limit: Annotated[int, Meta(ge=1, le=MOST_ROWS)] = MOST_ROWS
    cursor: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


class DeadLetter(Struct):
    """A webhook that was given up."""

    id: str
    message_id: str
    seq: int
    type: str
    target: str
    attempts: int
    last_error: str | None
    created_at: str
    dead_at: str | None


class DeadLetterPage(Struct):
    """Dead letters, newest first."""

    data: list[DeadLetter]
    next_cursor: str | None


class Replayed(Struct):
    """The dead letter is due again."""

    id: str
    due: str


# --- usage
_DAY: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"


class UsageQuery(Struct, kw_only=True, forbid_unknown_fields=True, rename={"first": "from", "last": "to"}):
    """Which days, both included."""

    first: (
        Annotated[str, Meta(description="2026-01-05, or a time of that day; default: 30 days ago", pattern=_DAY)] | None
    ) = None
    last: Annotated[str, Meta(description="default: today, by UTC", pattern=_DAY)] | None = None
    mode: Annotated[Mode, Meta(description="default: the key's own; live for the operator")] | None = None


class UsageLine(Struct):
    """What messages of one day that ended alike used at one carrier. The day is the one they were created (UTC)."""

    day: str
    channel: str
    carrier: Annotated[str, Meta(description="null: no carrier was asked")] | None
    status: Annotated[str, Meta(description="how the messages ended")]
    messages: Annotated[int, Meta(description="each once, where it was decided: their sum is the day's messages")]
    attempts: Annotated[int, Meta(description="tries at the carrier, refused ones included")]
    segments: Annotated[int, Meta(description="radio parts of SMS that the carrier took")]
    cost: float


class UsagePage(Struct):
    """A tenant's usage, by day."""

    data: list[UsageLine]


class QuotaLine(Struct):
    """One quota, and what is used of it."""

    quota: Annotated[str, Meta(description="as the tenant's setting is called")]
    limit: Annotated[float, Meta(description="0: no limit")]
    used: float
    resets_at: Annotated[str, Meta(description="when the next day or month begins, by UTC")]


class QuotaPage(Struct):
    """A tenant's quotas now."""

    data: list[QuotaLine]


class QuotaQuery(Struct, kw_only=True, forbid_unknown_fields=True):
    """Which messages."""

    mode: Annotated[Mode, Meta(description="default: the key's own; live for the operator")] | None = None


# --- signed requests
class SigningBody(Struct, forbid_unknown_fields=True):
    """Whether requests must be signed."""

    required: bool


class SigningView(Struct):
    """Whether requests must be signed."""

    required: bool


class SigningSecret(Struct):
    """What requests with this key are signed with."""

    id: str
    signing_secret: str


# --- policies
SlugName = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_.-]{0,63}$", examples=["otp"])]


class PolicyFields(Struct, kw_only=True, forbid_unknown_fields=True):
    """A stored cascade: a message that names it gets what it does not say itself."""

    cascade: Annotated[list[StepBody | Channel], Meta(min_length=1, max_length=MOST_STEPS)]
    category: Category | None = None
    expires_in_s: Annotated[float, Meta(ge=1, le=604_800)] | None = None
    on_ambiguous: OnAmbiguous | None = None


class PolicyBody(PolicyFields, kw_only=True, forbid_unknown_fields=True):
    """A new policy."""

    name: SlugName


class PolicyChange(PolicyFields, kw_only=True, forbid_unknown_fields=True):
    """The whole of a policy."""

    name: Annotated[str, Meta(description="when given, the name of the path")] | None = None


class PolicyView(Struct):
    """A policy."""

    name: str
    cascade: list[StepBody | Channel]
    category: Category | None
    expires_in_s: float | None
    on_ambiguous: OnAmbiguous | None
    created_at: str
    updated_at: str


class PolicyPage(Struct):
    """A tenant's policies, by name."""

    data: list[PolicyView]
    next_cursor: str | None


# --- templates
Locale = Annotated[str, Meta(pattern="^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}$")]


class TemplateFields(Struct, kw_only=True, forbid_unknown_fields=True):
    """A template: what to say, by locale, with variables as in `Hi {{ name }}`."""

    locales: Annotated[dict[Locale, ContentBody], Meta(min_length=1, max_length=100)]
    default_locale: Annotated[str, Meta(description="one of the locales, for those that are not there")] = "en"


class TemplateBody(TemplateFields, kw_only=True, forbid_unknown_fields=True):
    """A new template."""

    name: SlugName


class TemplateChange(TemplateFields, kw_only=True, forbid_unknown_fields=True):
    """A new version of a template."""

    name: Annotated[str, Meta(description="when given, the name of the path")] | None = None


class TemplateView(Struct):
    """One version of a template, and the variables its texts name."""

    name: str
    version: int
    default_locale: str
    locales: dict[str, dict[str, Any]]
    variables: list[str]
    created_at: str


class TemplateSummary(Struct):
    """The newest version of a template."""

    name: str
    version: int
    created_at: str


class TemplatePage(Struct):
    """A tenant's templates, by name."""

    data: list[TemplateSummary]
    next_cursor: str | None


class TemplateQuery(Struct, forbid_unknown_fields=True):
    """Which version."""

    version: Annotated[int, Meta(ge=1, le=2_147_483_647, description="default: the newest")] | None = None


class RenderBody(Struct, forbid_unknown_fields=True):
    """What to put into a template."""

    version: Annotated[int, Meta(ge=1, description="default: the newest")] | None = None
    locale: Annotated[str, Meta(max_length=35)] | None = None
    variables: dict[str, Any] | None = None


class Rendered(Struct):
    """What a message would say."""

    name: str
    version: int
    locale: str
    content: dict[str, Any]


# --- receipts
class ReceiptBody(Struct, forbid_unknown_fields=True):
    """A delivery receipt of a mock or in-house carrier."""

    carrier: Annotated[str, Meta(min_length=1, max_length=128)]
    carrier_message_id: Annotated[str, Meta(min_length=1, max_length=255)]
    status: Literal["submitted", "delivered", "read", "undelivered"]
    error_code: Annotated[str, Meta(max_length=128)] | None = None
    at: Instant | None = None


class ReceiptAnswer(Struct):
    """What became of the receipt, once stored."""

    result: Literal["matched", "duplicate", "parked"]


# --- operating
class ActorView(Struct):
    """An actor and the first of its children; one that does not run is in state down, back_off or disabled."""

    name: str
    kind: str
    state: str
    since: datetime | None
    restarts: int
    mailbox: int
    uptime_s: float
    messages_in: int
    last_error: str | None
    detail: dict[str, Any]
    children: list[ActorView]
    children_total: int


class CarrierView(Struct):
    """A carrier as it is now; `reason` says why it is not simply up."""

    name: str
    kind: str
    channel: str
    tenant: str | None = None
    state: Literal["up", "degraded", "down", "paused", "draining"] = "up"
    since: str | None = None
    reason: str | None = None
    breaker: Literal["closed", "open", "half_open"] = "closed"
    queue: int = 0
    queue_age_s: float = 0.0
    in_flight: int = 0
    sent: int = 0
    failed: int = 0
    rate_per_s: float = 0.0
    binds: list[dict[str, Any]] = []


Level = Literal["debug", "info", "warning", "error"]


class LogLevelBody(Struct, forbid_unknown_fields=True):
    """The level for an actor and all below it; null takes it back."""

    level: Level | None


class LogLevels(Struct):
    """The levels that were set, by the actor they were set for; where none is set, `[log] level` holds."""

    levels: dict[str, str]


class LogQuery(Struct, forbid_unknown_fields=True):
    """Which lines."""

    after: Annotated[int, Meta(ge=0, description="`last` of an earlier answer: only later lines")] = 0
    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    level: Annotated[Level, Meta(description="the lowest")] = "debug"


class LogLine(Struct):
    """A line of the log, without secrets, as everywhere."""

    seq: int
    at: str
    level: str
    logger: str
    event: str
    facts: dict[str, Any]


class LogPage(Struct):
    """The last lines of all workers, oldest first. `last` is what to ask for next time."""

    data: list[LogLine]
    last: int


class OverviewQuery(Struct, forbid_unknown_fields=True):
    """How much of each list."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class LoginBody(Struct, forbid_unknown_fields=True):
    """What opens the console."""

    key: Annotated[str, Meta(max_length=512, description="the operator key")]


class SessionView(Struct):
    """A session of the console; what changes something carries `csrf` in X-Hermes-CSRF."""

    csrf: str
    expires: Annotated[int, Meta(description="Unix seconds")]


class BusyActor(Struct):
    """An actor that stands out."""

    name: str
    kind: str
    state: str
    mailbox: int
    restarts: int
    time_spent_s: float
    messages_in: int
    last_error: str | None


class TenantRate(Struct):
    """A tenant that sends."""

    id: str
    name: str
    rate_per_s: float
    accepted: int


class Decision(Struct):
    """What a supervisor decided."""

    at: str
    supervisor: str
    child: str
    decision: str
    reason: str
    delay_s: float


class Overview(Struct):
    """All workers on one page: counts of everything, and the first of what stands out.

    `workers_unreachable` of the living `workers` did not answer in time: the page is without them. `actors` are those
    with most mail, most time spent and most restarts; `carriers` those that are not up, then those with the longest
    queue, then the busiest; `decisions` the last of all supervisors, newest first.
    """

    at: str
    version: str
    ready: bool
    uptime_s: float
    messages: dict[str, int]
    accepted: int
    accepted_per_s: float
    final: dict[str, int]
    webhooks_pending: int
    journal: dict[str, Any]
    actors_total: int
    actors: list[BusyActor]
    carriers_total: int
    carriers_by_state: dict[str, int]
    carriers: list[CarrierView]
    tenants_total: int
    tenants: list[TenantRate]
    decisions: list[Decision]
    log_levels: dict[str, str]
    workers: int
    workers_unreachable: int


class WorkerView(Struct):
    """One process."""

    id: str
    pid: int
    started_at: str
    state: Literal["alive", "dead"]
    shards: int
    open: int | None
    lease_until: str


class WorkerPage(Struct):
    """Living workers, and dead ones of the last day."""

    data: list[WorkerView]
    next_cursor: str | None


class Health(Struct):
    """All is well. `note`: what an operator should know nonetheless."""

    status: Literal["ok"] = "ok"
    note: str | UnsetType = UNSET


class CarrierChange(Struct):
    """What to replace of a carrier: keys of `[[carrier]]`, the kind's own included; what is left out stays."""

    enabled: bool | None = None
    tenant: Annotated[str, Meta(min_length=1, description="the only tenant it serves")] | None = None
    cost: Annotated[float, Meta(ge=0, description="per segment or message")] | None = None
    timeout_s: Annotated[float, Meta(ge=0, le=600)] | None = None
    max_in_flight: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    throughput_per_s: Annotated[float, Meta(ge=0)] | None = None
    on_ambiguous: OnAmbiguous | None = None
    weight: Annotated[float, Meta(ge=0)] | None = None
    breaker_failures: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    breaker_open_s: Annotated[float, Meta(ge=0, le=86_400)] | None = None


class CarrierBody(CarrierChange, kw_only=True):
    """A carrier to add: keys of `[[carrier]]`, the kind's own included; secrets as they are, no `env:` or `file:`."""

    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9_-]{0,62}$")]
    kind: Annotated[str, Meta(examples=["mock", "smtp"])]
    channel: Channel


class CarrierPage(Struct):
    """Carriers in the order of the settings, then those added while the node runs."""

    data: list[CarrierView]
    next_cursor: str | None


class RoutePage(Struct):
    """Routes in order: the first that matches decides."""

    data: list[RouteSettings]
    next_cursor: str | None


class RouteBody(Struct, forbid_unknown_fields=True):
    """Routes in order; a bare list of them is taken too."""

    data: list[RouteSettings]
    next_cursor: None = None


class ExplainBody(MessageBody, kw_only=True, forbid_unknown_fields=True):
    """A message as it would be sent, and the tenant that would send it."""

    tenant: str


class CandidateView(Struct):
    """A carrier, whether it would be asked, and why (not); `price` is for the whole message."""

    carrier: str
    channel: str
    eligible: bool
    reason: str
    price: float | None


class Explanation(Struct):
    """Every carrier of each step, those that would be asked first, in order."""

    candidates: list[CandidateView]
