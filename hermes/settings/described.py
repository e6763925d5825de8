"""What a setting takes, told from its type: the one place where its range is written, for checks and for errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import msgspec


class Description(NamedTuple):
    """What a field takes."""

    what: str  # in words: "an integer from 1 to 65535"
    secret: bool  # not to be repeated in an error
    check: Callable[[str], str] | None  # of a text's form; raises ValueError
    base: type | None  # bool, int, float or str; None for a choice or anything else


def describe(kind: Any) -> Description:
    """Say what a field takes, from its type: the one place where the range is written."""
    info = msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.UnionType):
        info = next(part for part in info.types if not isinstance(part, msgspec.inspect.NoneType))
    extra: dict[str, Any] = {}
    if isinstance(info, msgspec.inspect.Metadata):
        extra, info = info.extra or {}, info.type
    base: type | None = None
    if isinstance(info, msgspec.inspect.BoolType):
        what, base = "true or false", bool
    elif isinstance(info, msgspec.inspect.IntType):
        what, base = "an integer" + _range(info.ge, info.le), int
    elif isinstance(info, msgspec.inspect.FloatType):
        what, base = "a number" + _range(info.ge, info.le), float
    elif isinstance(info, msgspec.inspect.LiteralType):
        what = "one of " + ", ".join(f'"{value}"' for value in info.values)
    elif isinstance(info, msgspec.inspect.StrType):
        what, base = "a text that is not empty" if info.min_length else "a text", str
    else:
        what = "something else"
    return Description(what, bool(extra.get("secret")), extra.get("check"), base)


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    return f" of at least {low:g}" if high is None else f" from {low or 0:.10g} to {high:.10g}"


def shown(value: Any) -> str:
    """Show a wrong value in an error, shortened."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 40 else f'"{value[:40]}..."'
    if isinstance(value, int | float):
        return str(value)[:40]
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else "a date or time"


def converted(value: Any, kind: Any, description: Description) -> Any:
    """Turn a value into what a field of this type holds.

    Raises:
        ValueError: says what was expected; a secret is not repeated.
    """
    try:
        value = msgspec.convert(value, kind)
    except msgspec.ValidationError:
        _refuse(value, description)
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(value, description)
    if description.check is not None and isinstance(value, str):
        value = description.check(value)
    return value


def _refuse(value: Any, description: Description) -> NoReturn:
    secret = description.secret and isinstance(value, str) and value
    raise ValueError(f"expected {description.what}, got {'something else' if secret else shown(value)}")
