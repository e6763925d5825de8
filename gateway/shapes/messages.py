"""/v1/messages: what is sent, and how messages are shown, listed and counted."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, UnsetType, field

from gateway.shapes.base import MOST_IN_PAGE, Instant, ProblemBody, Shape
from hermes.domain.message import Step
from hermes.domain.state import Category, Channel, MessageStatus, OnAmbiguous, Success

MOST_STEPS: Final = 8
MOST_IN_BATCH: Final = 1_000
MOST_IDS: Final = 1_000
SEND_AT_MOST_DAYS: Final = 90  # further ahead than this nobody's number, consent or price is certain


class To(Shape, forbid_unknown_fields=True):
    """Where to reach the recipient: one address for each channel the cascade uses."""

    phone: Annotated[str, Meta(description="E.164 with a plus sign, for sms", examples=["+4520123456"])] | None = None
    email: Annotated[str, Meta(max_length=254, examples=["anna@example.com"])] | None = None
    push: Annotated[str, Meta(min_length=1, max_length=4096, description="device token")] | None = None
    whatsapp: Annotated[str, Meta(description="E.164 with a plus sign")] | None = None


class StepBody(Shape, forbid_unknown_fields=True):
    """One step: a channel, how long to wait for its receipt, and what counts as success."""

    channel: Channel
    timeout_s: Annotated[float, Meta(ge=0.1, le=259_200, description="seconds; default 60, email 300")] | None = None
    success: Annotated[Success, Meta(description="default delivered; submitted where no receipts exist")] | None = None


class SmsContent(Shape, forbid_unknown_fields=True):
    """What SMS says instead of the common fields."""

    text: str | None = None


class EmailContent(Shape, forbid_unknown_fields=True):
    """What e-mail says instead of the common fields."""

    text: str | None = None
    subject: str | None = None
    html: str | None = None


class PushContent(Shape, forbid_unknown_fields=True):
    """What a push notification says instead of the common fields."""

    text: str | None = None
    title: str | None = None
    data: dict[str, Any] | None = None


class WhatsAppLanguage(Shape, forbid_unknown_fields=True, omit_defaults=True):
    """A language as Meta writes it."""

    code: Annotated[str, Meta(min_length=2, max_length=32, examples=["en_US"])]
    policy: Literal["deterministic"] | None = None


class WhatsAppTemplate(Shape, forbid_unknown_fields=True, omit_defaults=True):
    """A message template that Meta approved, filled in: the only thing to say more than 24 hours after an answer."""

    name: Annotated[str, Meta(min_length=1, max_length=512)]
    language: (
        Annotated[str, Meta(min_length=2, max_length=32, description="code, as in en_US", examples=["en_US"])]
        | WhatsAppLanguage
    )
    components: Annotated[list[dict[str, Any]], Meta(max_length=100, description="as Meta's API takes them")] | None = (
        None
    )


class WhatsAppMedia(Shape, forbid_unknown_fields=True, omit_defaults=True):
    """A file: uploaded to Meta before (`id`), or that Meta fetches (`link`)."""

    type: Literal["audio", "document", "image", "sticker", "video"]
    id: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    link: Annotated[str, Meta(min_length=1, max_length=2048, pattern=r"^https?://")] | None = None
    caption: Annotated[str, Meta(max_length=1024)] | None = None
    filename: Annotated[str, Meta(min_length=1, max_length=255)] | None = None


class WhatsAppContent(Shape, forbid_unknown_fields=True, omit_defaults=True):
    """What WhatsApp says instead of the common fields: a text, a template or a file."""

    text: str | None = None
    template: WhatsAppTemplate | None = None
    media: WhatsAppMedia | None = None


class ContentBody(Shape, forbid_unknown_fields=True):
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


class TemplateUse(Shape, forbid_unknown_fields=True):
    """A stored template of the tenant, and what to put into it."""

    name: str
    version: Annotated[int, Meta(ge=1, description="default: the newest")] | None = None
    locale: Annotated[str, Meta(max_length=35, examples=["da-DK"], description="da-DK, else da, else the default")] | (
        None
    ) = None
    variables: dict[str, Any] | None = None


class From(Shape, forbid_unknown_fields=True):
    """Sender by channel; a carrier's own default when absent."""

    sms: Annotated[str, Meta(min_length=1, max_length=20)] | None = None
    email: Annotated[str, Meta(min_length=1, max_length=320)] | None = None
    push: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    whatsapp: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


Metadata = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=64)], Annotated[str, Meta(max_length=500)]],
    Meta(max_length=20),
]


class MessageBody(Shape, forbid_unknown_fields=True):
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


class RescheduleBody(Shape, forbid_unknown_fields=True):
    """When to send instead; `expires_at` moves by as much."""

    send_at: Annotated[datetime, Meta(tz=True, description=f"at most {SEND_AT_MOST_DAYS} days ahead; past means now")]


class Links(Shape):
    """Where to look."""

    self: str


class Accepted(Shape):
    """The message is committed."""

    id: str
    status: Literal["accepted", "scheduled"]
    reference: str | None
    segments: int | None
    encoding: str | None
    expires_at: datetime
    cascade: tuple[Step, ...]
    links: Links


class BatchBody(Shape, forbid_unknown_fields=True):
    """Up to 1,000 messages, each judged for itself."""

    messages: Annotated[list[MessageBody], Meta(min_length=1, max_length=MOST_IN_BATCH)]


class BatchMessage(Shape):
    """An accepted item."""

    id: str
    status: str
    reference: str | None


class BatchResult(Shape, omit_defaults=True):
    """What became of one item: the message, or the problem."""

    status: int
    message: BatchMessage | UnsetType = UNSET
    problem: ProblemBody | UnsetType = UNSET


class BatchAnswer(Shape):
    """One result for each item, in order."""

    results: list[BatchResult]


class Refusal(Shape):
    """Why a message would be refused."""

    layer: str | None
    code: str
    field: str | None
    detail: str


class Verdict(Shape):
    """What would become of a message."""

    accepted: bool
    segments: int | None
    encoding: str | None
    route: list[str]
    price: float | None
    refusals: list[Refusal]


class AttemptError(Shape):
    """Why a try failed."""

    class_: str = field(name="class")
    code: str | None
    detail: str | None


class SegmentDetail(Shape):
    """One radio part of a long SMS."""

    n: int
    carrier_message_id: str | None
    status: str
    error: AttemptError | None


class Attempt(Shape):
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


class TimelineEvent(Shape):
    """One fact of the message's life."""

    seq: int
    at: datetime
    type: str
    step: int | None
    attempt: int | None
    data: dict[str, Any]


class MessageView(Shape, omit_defaults=True):
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


class MessagePage(Shape):
    """A page of messages, newest first."""

    data: list[MessageView]
    next_cursor: str | None


class MessageList(Shape):
    """The messages that exist among those asked for, in the order asked."""

    data: list[MessageView]


class LookupBody(Shape, forbid_unknown_fields=True):
    """Which messages."""

    ids: Annotated[list[str], Meta(max_length=MOST_IDS)]


class ListQuery(Shape, forbid_unknown_fields=True):
    """Filters of the message list."""

    tenant: Annotated[str, Meta(max_length=64, description="for the operator: only this tenant's")] | None = None
    status: list[MessageStatus | Literal["open"]] = field(default_factory=list)
    channel: Channel | None = None
    reference: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    reference_prefix: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    created_after: Instant | None = None
    created_before: Instant | None = None
    fields: Literal["summary", "full"] = "summary"
    limit: Annotated[int, Meta(ge=1, le=MOST_IN_PAGE)] = 100
    cursor: str | None = None


class CountsQuery(Shape, forbid_unknown_fields=True):
    """Which messages to count."""

    tenant: Annotated[str, Meta(max_length=64, description="for the operator: only this tenant's")] | None = None

    created_after: Instant | None = None
    created_before: Instant | None = None


class Counts(Shape):
    """Messages by status."""

    accepted: int = 0
    scheduled: int = 0
    in_progress: int = 0
    delivered: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0
    unknown: int = 0
