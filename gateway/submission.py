"""From a decoded request to a `Message`: what more than one field decides, and every wrong field at once.

Pure. Where a callback_url leads is looked up by `hosts.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec

from gateway.layers.numbers import with_country_code
from gateway.problems import invalid_fields
from gateway.shapes import (
    SEND_AT_MOST_DAYS,
    ContentBody,
    FieldError,
    From,
    MessageBody,
    PolicyFields,
    StepBody,
    WhatsAppContent,
)
from hermes.domain.address import LONGEST_TOKEN, is_email, is_token, phone_number
from hermes.domain.callback_url import BadUrl, callback_host
from hermes.domain.lines import has_control
from hermes.domain.message import UTC, Content, Message, Step, new_message_id
from hermes.domain.segments import sms_segments
from hermes.domain.state import ADDRESS_FIELD
from hermes.journal.base import Policy

DEFAULT_TIMEOUT_S: Final[dict[str, float]] = {"email": 300.0, "sms": 60.0, "push": 60.0, "whatsapp": 60.0}
DEFAULT_EXPIRES_IN: Final = timedelta(hours=72)
MOST_SMS_PARTS: Final = 255  # the octet that counts them (3GPP TS 23.040, 9.2.3.24.1)
MOST_NESTING: Final = 32  # levels of content.data and of a template's components; no provider takes more
# What only some kinds of WhatsApp media have.
_ONLY_FOR: Final = {"caption": ("document", "image", "video"), "filename": ("document",)}

_policy_fields: Final = msgspec.json.Decoder(PolicyFields)
_steps: Final[dict[tuple[str, float, str], Step]] = {}
_MOST_STEPS_KEPT: Final = 4096


def build(
    body: MessageBody,
    tenant: str,
    mode: str,
    now: datetime,
    default_success: Callable[[str, str], str],
    policies: Callable[[str, str], Policy | None],
    errors: list[FieldError],
    default_country: str | None = None,
    new_message_id: Callable[[datetime], str] = new_message_id,
) -> Message:
    """Make the message a request asks for.

    `policies` finds one by tenant and name. `now` is when the request was read and becomes `created_at`. Every wrong
    field is appended to `errors`; the message is good only while that stays empty. `default_country` is that of phone
    numbers without a plus sign; None refuses them.
    """
    if body.policy is not None:
        _fill_in(body, policies(tenant, body.policy), errors)
    cascade = _cascade(body, mode, default_success, errors)
    to = _addresses(body, cascade, errors, default_country)
    content, segments, encoding = Content(), None, None
    if body.content is not None:
        content = _content(body.content)
        segments, encoding = _check_content(cascade, content, errors)
    elif body.template is None:
        errors.append(FieldError("content", "is required (or `template`)"))
    send_at = body.send_at
    start = now
    if send_at is not None:
        start, send_at = _start(send_at, now, errors)
    reference = body.reference
    if reference is not None and has_control(reference):
        errors.append(FieldError("reference", "holds a control character"))
    metadata = body.metadata
    expires_in_s = body.expires_in_s
    return Message(
        new_message_id(now),
        tenant,
        to,
        cascade,
        content,
        now,
        start + (DEFAULT_EXPIRES_IN if expires_in_s is None else timedelta(seconds=expires_in_s)),
        body.category or "transactional",
        mode,
        _senders(body.from_, errors) if body.from_ is not None else {},
        send_at,
        reference,
        metadata if metadata is not None else {},
        body.callback_url,
        body.on_ambiguous,
        segments,
        encoding,
    )


def _fill_in(body: MessageBody, policy: Policy | None, errors: list[FieldError]) -> None:
    """Give a request what it does not say itself from the policy it names."""
    if policy is None:
        errors.append(FieldError("policy", "is no policy of this tenant"))
        return
    stored = policy_fields(policy.body)
    if body.cascade is None and body.channel is None:
        body.cascade = stored.cascade
    if body.category is None:
        body.category = stored.category
    if body.expires_in_s is None:
        body.expires_in_s = stored.expires_in_s
    if body.on_ambiguous is None:
        body.on_ambiguous = stored.on_ambiguous


@lru_cache(maxsize=4096)
def policy_fields(body: str) -> PolicyFields:
    """Read a stored policy. The answer is shared: it must not be changed."""
    return _policy_fields.decode(body)


def check_callback_url(url: str, field: str) -> str:
    """Read the host of a webhook's address.

    Raises:
        Problem: schema_invalid.
    """
    try:
        return callback_host(url)
    except BadUrl as exc:
        raise invalid_fields([FieldError(field, str(exc))]) from exc


def step(channel: str, timeout_s: float, success: str) -> Step:
    """Make a step, or find the same one made before: most messages have one of a few."""
    key = (channel, timeout_s, success)
    found = _steps.get(key)
    if found is None:
        if len(_steps) >= _MOST_STEPS_KEPT:
            _steps.clear()
        found = _steps[key] = Step(channel, timeout_s, success)
    return found


def _cascade(
    body: MessageBody, mode: str, default_success: Callable[[str, str], str], errors: list[FieldError]
) -> tuple[Step, ...]:
    given: list[StepBody | Any] | None = body.cascade
    if given is None:
        if body.channel is None:
            errors.append(FieldError("cascade", "is required (or `channel`, in the short form)"))
            return ()
        given = [body.channel]
    elif body.channel is not None:
        errors.append(FieldError("channel", "is for the short form, which has no cascade"))
    steps = []
    for one in given:
        if isinstance(one, str):
            steps.append(step(one, DEFAULT_TIMEOUT_S[one], default_success(one, mode)))
        else:
            channel = one.channel
            timeout_s = one.timeout_s
            steps.append(
                step(
                    channel,
                    DEFAULT_TIMEOUT_S[channel] if timeout_s is None else timeout_s,
                    one.success or default_success(channel, mode),
                )
            )
    return tuple(steps)


def _addresses(
    body: MessageBody, cascade: tuple[Step, ...], errors: list[FieldError], country: str | None
) -> dict[str, str]:
    given = body.to
    if isinstance(given, str):
        if body.channel is None:
            errors.append(FieldError("to", "is a text only in the short form, with `channel`"))
            return {}
        name = ADDRESS_FIELD[body.channel]
        return {name: _address(name, given, "to", errors, country)}
    to: dict[str, str] = {}
    if given.phone is not None:
        to["phone"] = _address("phone", given.phone, "to.phone", errors, country)
    if given.email is not None:
        to["email"] = _address("email", given.email, "to.email", errors, country)
    if given.push is not None:
        to["push"] = _address("push", given.push, "to.push", errors, country)
    if given.whatsapp is not None:
        to["whatsapp"] = _address("whatsapp", given.whatsapp, "to.whatsapp", errors, country)
    for one in cascade:
        name = ADDRESS_FIELD[one.channel]
        if name not in to:
            _once(errors, f"to.{name}", f"is required: the cascade has a step of channel {one.channel}")
    return to


def _address(name: str, text: str, field: str, errors: list[FieldError], country: str | None) -> str:
    if name == "email":
        if not is_email(text):
            errors.append(FieldError(field, "is no e-mail address"))
    elif name == "push":
        if not is_token(text):
            errors.append(
                FieldError(field, f"is no device token: 1 to {LONGEST_TOKEN} printable characters, no spaces")
            )
    else:
        number = phone_number(text)
        if number is None and country is not None:
            number = with_country_code(text, country)
        if number is not None:
            return number
        errors.append(FieldError(field, "is no phone number in E.164 form, like +4520123456"))
    return text


def _content(given: ContentBody) -> Content:
    content = Content(given.text, given.subject, given.html, given.title, given.data)
    if given.sms is not None:
        content.sms = _own(given.sms)
    if given.email is not None:
        content.email = _own(given.email)
    if given.push is not None:
        content.push = _own(given.push)
    if given.whatsapp is not None:
        content.whatsapp = _whatsapp(given.whatsapp)
    return content


def _own(block: msgspec.Struct) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(block).items() if value is not None}


def _whatsapp(block: WhatsAppContent) -> dict[str, Any]:
    own: dict[str, Any] = msgspec.to_builtins(block)
    template = own.get("template")
    if template is not None and isinstance(template["language"], str):
        template["language"] = {"code": template["language"]}
    return own


def _check_content(
    cascade: tuple[Step, ...], content: Content, errors: list[FieldError]
) -> tuple[int | None, str | None]:
    segments: int | None = None
    encoding: str | None = None
    for one in cascade:
        channel = one.channel
        said = content if getattr(content, channel) is None else content.for_channel(channel)
        if channel == "sms":
            if not said.text:
                _once(errors, "content.text", "is required: the cascade has a step of channel sms")
            elif segments is None:
                encoding, segments = sms_segments(said.text)
                if segments > MOST_SMS_PARTS:
                    field = "content.sms.text" if content.sms and "text" in content.sms else "content.text"
                    errors.append(FieldError(field, f"needs {segments} SMS parts; at most {MOST_SMS_PARTS} go"))
        elif channel == "email":
            if not said.text and not said.html:
                _once(errors, "content.text", "is required (or `html`): the cascade has a step of channel email")
            if said.subject is not None and has_control(said.subject):
                field = "content.email.subject" if content.email and "subject" in content.email else "content.subject"
                _once(errors, field, "holds a control character")
        elif channel == "push":
            if not said.text and not said.title and not said.data:
                _once(errors, "content.text", "is required (or `title`, or `data`): the cascade has a push step")
            if said.data is not None and _is_deeper(said.data, MOST_NESTING):
                field = "content.push.data" if content.push and "data" in content.push else "content.data"
                _once(errors, field, f"is nested deeper than {MOST_NESTING} levels")
        else:
            _check_whatsapp(said, errors)
    return segments, encoding


def _check_whatsapp(said: Content, errors: list[FieldError]) -> None:
    own = said.whatsapp or {}
    given = [name for name in ("text", "template", "media") if name in own]
    if len(given) > 1:
        _once(errors, f"content.whatsapp.{given[1]}", f"goes not with `{given[0]}`: a message is one of them")
    elif "template" in own:
        if _is_deeper(own["template"].get("components", []), MOST_NESTING):
            _once(errors, "content.whatsapp.template.components", f"is nested deeper than {MOST_NESTING} levels")
    elif "media" in own:
        media = own["media"]
        if ("id" in media) == ("link" in media):
            _once(errors, "content.whatsapp.media", "needs either `id` or `link`")
        for name, kinds in _ONLY_FOR.items():
            if name in media and media["type"] not in kinds:
                _once(errors, f"content.whatsapp.media.{name}", f"is only for {' and '.join(kinds)}")
    elif not said.text:
        _once(errors, "content.text", "is required (or a `template` or `media`): the cascade has a whatsapp step")


def _is_deeper(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        return levels == 0 or any(_is_deeper(item, levels - 1) for item in value.values())
    if isinstance(value, list):
        return levels == 0 or any(_is_deeper(item, levels - 1) for item in value)
    return False


def _senders(given: From, errors: list[FieldError]) -> dict[str, str]:
    senders = {}
    for channel in ("sms", "email", "push", "whatsapp"):
        sender: str | None = getattr(given, channel)
        if sender is not None:
            if has_control(sender):
                errors.append(FieldError(f"from.{channel}", "holds a control character"))
            senders[channel] = sender
    return senders


def _start(send_at: datetime, now: datetime, errors: list[FieldError]) -> tuple[datetime, datetime | None]:
    """Tell from when `expires_in_s` counts, and when to send: (now, None) for a time that has passed."""
    try:
        send_at = send_at.astimezone(UTC)
    except OverflowError:  # the first and last hours of the calendar
        send_at = send_at.replace(tzinfo=UTC)
    if send_at <= now:
        return now, None
    if send_at - now > timedelta(days=SEND_AT_MOST_DAYS):
        errors.append(FieldError("send_at", f"is more than {SEND_AT_MOST_DAYS} days ahead"))
        return now, None
    return send_at, send_at


def _once(errors: list[FieldError], field: str, why: str) -> None:
    if all(error.field != field for error in errors):
        errors.append(FieldError(field, why))
