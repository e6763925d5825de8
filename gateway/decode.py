"""From bytes and query strings to the structs of `shapes`, or to a refusal that names every wrong field.

The happy path is one call into msgspec. Only a request that failed there is looked at again, field by field.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, TypeVar, Union, cast, get_args, get_origin

import msgspec

from gateway.problems import MOST_ERRORS, Problem, invalid_fields
from gateway.shapes import FieldError

T = TypeVar("T")

_NUMBER: Final = re.compile(r"[-+ ]?[0-9.]+(?:[eE][-+ ]?[0-9]+)?")
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_WORDS: Final[dict[str, str]] = {
    "str": "text",
    "float": "a number",
    "int": "a whole number",
    "bool": "a boolean",
    "datetime": "an RFC 3339 time",
    "object": "an object",
    "array": "a list",
    "null": "null",
}
_TICKED = re.compile(r"`([^`]*)`")
_PATH = re.compile(r" - at `(\$.*|key in \$.*)`$", re.DOTALL)
_LONGEST_NAME: Final = 100  # characters of a field's name that go back to the caller


def decode_json(decoder: msgspec.json.Decoder[T], raw: bytes) -> T:
    """Decode a body.

    Raises:
        Problem: malformed_json, or schema_invalid with every wrong field.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as exc:
        errors, _ = _explain(decoder.type, raw, exc)
        raise invalid_fields(errors) from exc
    except _NOT_JSON as exc:
        raise _malformed(exc) from exc


def decode_leniently(decoder: msgspec.json.Decoder[T], raw: bytes) -> tuple[T | None, list[FieldError]]:
    """Decode a body as far as it goes: what is wrong is reported and left out.

    Returns:
        The value (None when what is left is not enough to make one) and every wrong field.

    Raises:
        Problem: malformed_json.
    """
    try:
        return decoder.decode(raw), []
    except msgspec.ValidationError as exc:
        errors, rest = _explain(decoder.type, raw, exc)
    except _NOT_JSON as exc:
        raise _malformed(exc) from exc
    try:
        return msgspec.convert(rest, decoder.type), errors
    except msgspec.ValidationError:
        return None, errors


def decode_any(raw: bytes) -> Any:
    """Decode JSON of any shape.

    Raises:
        Problem: malformed_json.
    """
    try:
        return msgspec.json.decode(raw)
    except _NOT_JSON as exc:  # ValidationError included: a number out of range
        raise _malformed(exc) from exc


def decode_query(kind: type[T], query: Iterable[tuple[str, str]]) -> T:
    """Decode query parameters. Those of a list type may be repeated, others not.

    Raises:
        Problem: schema_invalid, naming the parameter.
    """
    lists, times, texts = _special(cast(Any, kind))
    given: dict[str, Any] = {}
    for name, value in query:
        if value.lower() == "null" and name not in texts:  # which msgspec would take for leaving it out
            raise invalid_fields([FieldError(_short(name), "is null: leave it out instead")])
        if name in lists:
            given.setdefault(name, []).append(value)
        elif name in given:
            raise invalid_fields([FieldError(_short(name), "is given more than once")])
        else:
            if name in times and _NUMBER.fullmatch(value):  # which msgspec would take for seconds
                raise invalid_fields([FieldError(_short(name), "is no time, like 2026-01-05T09:00:00Z")])
            # A plus sign that nobody encoded arrives as a space: in a time it can only be that.
            given[name] = value.replace(" ", "+") if name in times and "T" in value else value
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as exc:
        errors: list[FieldError] = []
        _collect(kind, given, "", errors, strict=False)
        errors = [FieldError(e.field, "unknown query parameter" if e.why == "unknown field" else e.why) for e in errors]
        raise invalid_fields(errors or [FieldError("query", _why(exc))]) from exc


def has_nul(value: object, path: str = "") -> str | None:
    """Name the first field whose text (or key) holds a NUL, or None. No carrier can send one."""
    if isinstance(value, str):
        return path if "\0" in value else None
    if isinstance(value, dict):
        for key, item in value.items():
            name = f"{path}.{key}" if path else key
            if "\0" in key:
                return _short(name)
            found = has_nul(item, name)
            if found is not None:
                return found
    elif isinstance(value, list):
        for n, item in enumerate(value):
            found = has_nul(item, f"{path}[{n}]")
            if found is not None:
                return found
    return None


def _malformed(exc: Exception) -> Problem:
    if isinstance(exc, RecursionError):
        return Problem("malformed_json", "The body is nested too deeply.")
    if isinstance(exc, UnicodeDecodeError):
        return Problem("malformed_json", "The body is not UTF-8.")
    return Problem("malformed_json", f"The body cannot be read: {exc}.")


def _explain(kind: Any, raw: bytes, exc: msgspec.ValidationError) -> tuple[list[FieldError], Any]:
    """Find every wrong field, and what is left without them."""
    try:
        value = msgspec.json.decode(raw)
    except msgspec.ValidationError:  # a number out of range: JSON all the same
        return [FieldError(_path_of(exc), _why(exc))], None
    except _NOT_JSON as worse:
        raise _malformed(worse) from worse
    errors: list[FieldError] = []
    try:
        rest = _collect(kind, value, "", errors)
    except RecursionError as worse:
        raise _malformed(worse) from worse
    return errors or [FieldError(_path_of(exc), _why(exc))], rest


_LEFT_OUT: Final = object()


def _collect(kind: Any, value: Any, path: str, errors: list[FieldError], strict: bool = True) -> Any:
    """Append what is wrong with `value`; return it without the wrong parts, or `_LEFT_OUT`."""
    try:
        msgspec.convert(value, kind, strict=strict)
        return value
    except msgspec.ValidationError as exc:
        why = _why(exc)
    if len(errors) > MOST_ERRORS:
        return _LEFT_OUT
    before = len(errors)
    for part in _alternatives(kind):
        if isinstance(value, dict) and isinstance(part, type) and issubclass(part, msgspec.Struct):
            fields = {field.encode_name: field for field in msgspec.structs.fields(part)}
            rest = {}
            for name, item in value.items():
                known = fields.get(name)
                if known is None:
                    errors.append(FieldError(_join(path, name), "unknown field"))
                    continue
                kept = _collect(known.type, item, _join(path, name), errors, strict)
                if kept is not _LEFT_OUT:
                    rest[name] = kept
            for name, field in fields.items():
                if field.required and name not in value:
                    errors.append(FieldError(_join(path, name), "is required"))
            if len(errors) > before:
                return rest
        elif isinstance(value, list) and get_origin(part) in (list, tuple):  # tuple[item, ...]
            item_kind = get_args(part)[0]
            if item_kind is msgspec.Raw:  # any will do, though `convert` takes none for it
                return value
            kept_items = [_collect(item_kind, item, f"{path}[{n}]", errors, strict) for n, item in enumerate(value)]
            if len(errors) > before:
                return [item for item in kept_items if item is not _LEFT_OUT]
        elif isinstance(value, dict) and get_origin(part) is dict:
            key_kind, item_kind = get_args(part)
            rest = {}
            for name, item in value.items():
                if _collect(key_kind, name, _join(path, name), errors, strict) is _LEFT_OUT:
                    continue
                kept = _collect(item_kind, item, _join(path, name), errors, strict)
                if kept is not _LEFT_OUT:
                    rest[name] = kept
            if len(errors) > before:
                return rest
    errors.append(FieldError(path or "body", why))
    return _LEFT_OUT


def _alternatives(kind: Any) -> Sequence[Any]:
    """Take a type apart: what it may be, without annotations."""
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [part for option in get_args(kind) for part in _alternatives(option)]
    return (kind,)


@lru_cache(maxsize=64)
def _special(kind: Any) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Name the parameters that may be repeated, those that are times, and those that are any text."""
    lists, times, texts = set(), set(), set()
    for field in msgspec.structs.fields(kind):
        for part in _alternatives(field.type):
            if get_origin(part) is list:
                lists.add(field.encode_name)
            elif getattr(part, "__name__", "") == "datetime":
                times.add(field.encode_name)
            elif part is str:
                texts.add(field.encode_name)
    return frozenset(lists), frozenset(times), frozenset(texts)


def _join(path: str, name: str) -> str:
    return f"{path}.{_short(name)}" if path else _short(name)


def _short(name: str) -> str:
    if not name:
        return '""'
    return name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "…"


def _path_of(exc: msgspec.ValidationError) -> str:
    found = _PATH.search(str(exc))
    return found[1].removeprefix("$").removeprefix(".") or "body" if found else "body"


def _why(exc: msgspec.ValidationError) -> str:
    """Say what msgspec found, in words of JSON instead of Python's."""
    text = _PATH.sub("", str(exc))
    text = _TICKED.sub(_translate, text)
    return text[:1].lower() + text[1:]


def _translate(match: re.Match[str]) -> str:
    parts = [_WORDS.get(part, part) for part in match[1].split(" | ")]
    named = [part for part in parts if part != "null"] or parts
    return " or ".join(named)
