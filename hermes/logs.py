"""What Hermes says to its operator: one line an event on standard error, for people or as JSON, no secrets.

structlog's loggers and the standard library's (ours in the kernel, aiohttp's, asyncpg's) end in one handler.
There one processor, `redact`, stands between a value and the log: it looks at keys, at the shape of values,
and into tracebacks. It is a net, not a licence: what must not be known should not be logged.

At the default level there is no line per message: those belong in debug.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, ClassVar, Final, TextIO, cast

import structlog

HIDDEN: Final = "***"

# Keys, lower-cased and with _ for -, whose values are never shown; the tuple beside each list holds endings.
_SECRET_KEYS: Final = frozenset(
    [
        "authorization",
        "proxy_authorization",
        "cookie",
        "set_cookie",
        "password",
        "passwd",
        "secret",
        "token",
        "tokens",
        "apikey",
        "credentials",
        "signature",
        "push",
        "auth",
        "dsn",
        "service_account",
    ]
)
_SECRET_ENDS: Final = (
    *("_password", "_secret", "_token", "_key", "_signature"),
    *("_authorization", "_credentials"),
)
# What a customer wrote to a recipient.
_CONTENT_KEYS: Final = frozenset(
    ["text", "body", "html", "subject", "content", "short_message", "message_payload", "payload", "metadata"]
)
_CONTENT_ENDS: Final = ("_text", "_body", "_html", "_payload")
# Who it is to: the last two digits of a number may be shown, and the domain of an e-mail address.
_ADDRESS_KEYS: Final = frozenset(
    [
        "to",
        "address",
        "addresses",
        "phone",
        "email",
        "recipient",
        "recipients",
        "destination",
        "msisdn",
        "whatsapp",
        "destination_addr",
        "source_addr",
    ]
)
_ADDRESS_ENDS: Final = ("_address", "_phone", "_email", "_recipient", "_msisdn")
# Ours, and made of digits that are no number of anybody.
_PLAIN_KEYS: Final = frozenset({"timestamp", "level", "logger"})
_PLAIN_ENDS: Final = ("_id", "_ids", "_at", "_ms", "_s")

_DEEPEST: Final = 6  # nested tables; below, only that there is something
_LONGEST: Final = 8192  # characters of one value; a traceback is cut in the middle

# name=value in a text, as URLs, headers and reprs write it
_NAMED: Final = (
    r"\b((?:[\w-]*(?:password|passwd|secret|token|api_?key|authorization|signature)|sig)['\"]?\s*[:=]\s*)"
    r"(?!\*|Bearer|Basic|Digest)(\"[^\"]*\"|'[^']*'|[^\s,;&'\")\]}]+)"
)
_EMAIL: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+(?:@|%40)((?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,})"
# In order: each pattern sees what the ones before it left.
_SHAPES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"\b(hk_[a-z]+_|whsec_)[A-Za-z0-9_+/=-]+"), rf"\1{HIDDEN}"),
    (re.compile(r"\b(Bearer|Basic|Digest)\s+(?!\*)[^\s,;'\"]+", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"://[^/\s@'\"]+(?::[^/\s'\"]*)?@"), f"://{HIDDEN}@"),
    (re.compile(_NAMED, re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*"), HIDDEN),  # a JSON web token
    (re.compile(r"\b[\w-]{8,}:APA91[\w-]+"), HIDDEN),  # an FCM registration token
    (re.compile(_EMAIL), rf"{HIDDEN}@\1"),
)
# E.164 with its plus (URL-encoded or in groups too), and bare runs of 8 to 15 digits: many drop the plus.
_NUMBER: Final = re.compile(r"(?:\+|%2B)\d(?:[ ().-]{0,2}\d){6,14}|(?<![\w.+-])\d{8,15}(?![\w-])")

REMEMBERED: Final = 500  # lines kept for `recent`; a line is at most some kilobytes

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed: no terminal obeys a log

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
# They speak of every request or connection; an operator who sets debug gets them too.
_TALKATIVE: Final = ("aiohttp", "aiosmtplib", "asyncio", "asyncpg", "mail.log", "urllib3")


def configure(format: str, level: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to one place. Calling it again replaces what was set.

    Args:
        format: "console" (colour only on a terminal) or "json", one object a line.
        level: the lowest shown: debug, info, warning or error. Other packages begin at warning, or show all
            when it is debug.
        stream: standard error when None; standard output stays free for what a command prints.
    """
    out = sys.stderr if stream is None else stream
    number = _LEVELS[level]
    before: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_whose,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
    ]
    render: structlog.typing.Processor
    if format == "json":
        render = structlog.processors.JSONRenderer()
    else:
        colors = out.isatty() and "NO_COLOR" not in os.environ
        render = structlog.dev.ConsoleRenderer(
            colors=colors, exception_formatter=structlog.dev.plain_traceback, pad_event_to=30
        )
    handler = logging.StreamHandler(out)
    handler.addFilter(_wanted)
    _state.level = number
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*before, _without_leavings],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.StackInfoRenderer(),
                structlog.processors.format_exc_info,  # to a text, without locals, that redact can read
                redact,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _remember,
                render,
            ],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, structlog.stdlib.ProcessorFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(min(number, *_state.others))
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(number if number <= logging.DEBUG else max(number, logging.WARNING))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *before,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # a module's logger outlives a second configure()
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Name a logger that takes facts as keywords: `log.warning("carrier refused us", carrier=name)`.

    The standard library's `logging.getLogger` does as well; `extra={...}` are its keywords.
    """
    return cast(structlog.stdlib.BoundLogger, structlog.get_logger(name))


class Unshown:
    """A base for structs that hold what customers write, addresses or secrets: their repr names fields and no value.

    Reprs end in logs and in tracebacks; `redact` is a net below.
    """

    __slots__ = ()
    __struct_fields__: ClassVar[tuple[str, ...]]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(name for name, _ in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # msgspec would show every value to rich
        return [(name, HIDDEN) for name in self.__struct_fields__ if getattr(self, name, None) is not None]


Whose = Callable[[], tuple[Mapping[str, str], int | None]]


class _State:
    """What is set while the process runs."""

    def __init__(self) -> None:
        self.level = logging.INFO  # what `configure` said
        self.others: tuple[int, ...] = (logging.CRITICAL,)  # levels that hold for some actors
        self.whose: Whose = lambda: ({}, None)
        self.level_of: Callable[[str], int | None] = lambda actor: None
        self.seq = 0  # of the last line that was remembered, or the last answer of `recent`
        self.lines: deque[tuple[int, Mapping[str, Any]]] = deque(maxlen=REMEMBERED)


_state: Final = _State()


def follow(whose: Whose, level_of: Callable[[str], int | None] = lambda actor: None) -> None:
    """Ask, for each line, who is at work: facts to add to the line, and the level that holds for it (None: ours).

    `level_of` tells the level of an actor by name, for records with `actor` in their extra that are written when it
    is nobody's turn (a socket's callback).
    """
    _state.whose = whose
    _state.level_of = level_of


def allow(levels: Iterable[int]) -> None:
    """Say which levels hold for anybody beside the one of `configure`, so that their records are made at all."""
    _state.others = (logging.CRITICAL, *levels)
    logging.getLogger().setLevel(min(_state.level, *_state.others))


def recent(after: int = 0, most: int = 100) -> tuple[int, list[tuple[int, Mapping[str, Any]]]]:
    """Return the last lines that were written, oldest first, cleaned as they were; and a number none of them exceeds.

    Every later line has a greater number. Numbers are the time in microseconds since 1970, as far as it goes forward,
    so that lines of several processes can be put in order.

    Args:
        after: number of a line; only later ones.
        most: at most so many, the latest.
    """
    _state.seq = max(_state.seq, time.time_ns() // 1000)
    found = [line for line in _state.lines if line[0] > after]
    return _state.seq, found[-most:]


def _wanted(record: logging.LogRecord) -> bool:
    """Judge a record by the level of who is at work (a filter)."""
    level = _state.whose()[1]
    if level is None and (actor := getattr(record, "actor", None)) is not None:
        level = _state.level_of(actor)
    return record.levelno >= (_state.level if level is None else level)


def _add_whose(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add who is at work; what the line says itself wins."""
    for name, value in _state.whose()[0].items():
        event.setdefault(name, value)
    return event


def _remember(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep the line for `recent`."""
    _state.seq = max(_state.seq + 1, time.time_ns() // 1000)
    _state.lines.append((_state.seq, dict(event)))
    return event


def _without_leavings(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop what another handler's formatter left on the record, which looks like `extra`."""
    event.pop("message", None)
    event.pop("asctime", None)
    return event


def redact(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take out of a log event what nobody should read there (a structlog processor).

    Secrets and content become `***`, numbers keep their last two digits, e-mail addresses their domain. A
    value that is no JSON value is replaced by its cleaned repr.
    """
    cleaned = {clean_text(key): value if key in _PLAIN_KEYS else clean(value, key) for key, value in event.items()}
    if isinstance(cleaned.get("event"), str):
        cleaned["event"] = cleaned["event"].replace("\n", "\\n")  # one line an event; tracebacks have their own
    return cleaned


def clean(value: Any, key: str = "", depth: int = 0) -> Any:
    """Clean one value as `redact` does, by its key and by its shape."""
    if value is None or isinstance(value, bool):
        return value
    kind = _kind(key)
    if kind == "hidden":
        return HIDDEN
    if isinstance(value, int | float) and kind != "address":
        return value
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        if depth >= _DEEPEST:
            return HIDDEN
        if not isinstance(value, Mapping):
            return [clean(item, key, depth + 1) for item in cast(Iterable[Any], value)]
        return {
            # {"to": {"anything": ...}} is an address too
            clean_text(str(k)): clean(v, key if kind == "address" and not _kind(str(k)) else str(k), depth + 1)
            for k, v in value.items()
        }
    text = value if isinstance(value, str) else _repr(value)
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 2 :]}"
    if kind == "address":
        return _clean_address(text)
    return _clean_shapes(text) if kind == "plain" else clean_text(text)


def _kind(key: str) -> str:
    """Say what a key tells of its value: hidden, address, plain (digits are no number), or nothing."""
    name = key.lower().replace("-", "_")
    if name in _SECRET_KEYS or name in _CONTENT_KEYS or name.endswith(_SECRET_ENDS + _CONTENT_ENDS):
        return "hidden"
    if name in _ADDRESS_KEYS or name.endswith(_ADDRESS_ENDS):
        return "address"
    return "plain" if name.endswith(_PLAIN_ENDS) else ""


def clean_text(text: str) -> str:
    """Clean a text without a key: whatever looks like a secret, an address or a number."""
    return _NUMBER.sub(_last_two, _clean_shapes(text))


def _clean_shapes(text: str) -> str:
    text = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    for pattern, instead in _SHAPES:
        text = pattern.sub(instead, text)
    return text


def _last_two(match: re.Match[str]) -> str:
    return HIDDEN + match[0][-2:]


def _clean_address(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if at and local:
        return f"{HIDDEN}@{domain}"
    digits = re.sub(r"\D", "", text)
    if len(digits) >= 7 and re.fullmatch(r"[+\d ().-]+", text):
        return HIDDEN + digits[-2:]
    return HIDDEN


def _repr(value: Any) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    try:
        return repr(value)
    except Exception as exc:  # whoever reads the log is told; a broken repr must not lose the line
        return f"<{type(value).__name__} whose repr raised {type(exc).__name__}>"
