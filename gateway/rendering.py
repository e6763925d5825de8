"""Message templates: jinja2's sandboxed environment, cut down to what a message needs, and bounded.

A template comes from a tenant, so it must not reach anything but its variables, and must end soon whatever it says:
- only the constructs in `_ALLOWED`, the filters in `_FILTERS` and the tests in `_TESTS`; no calls, no arithmetic, no
  assignments, no attributes of Python objects;
- loops over lists of at most `MOST_ITEMS`, at most `DEEPEST_LOOP` in each other;
- each step looks at the clock, and no text gets longer than `LONGEST_TEXT`.

Text in `html` fields is escaped for HTML, elsewhere it stands as it is.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, Final, NoReturn
from urllib.parse import quote

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, Undefined, meta, nodes
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

WITHIN_S: Final = 0.05  # for all fields of one message together; a usual one takes 0.05 ms
LONGEST_TEXT: Final = 65_536  # characters of a field, as a template and as a result
MOST_ITEMS: Final = 1_000  # of a list that is looped over
DEEPEST_LOOP: Final = 2
DEEPEST_NESTING: Final = 30  # of anything in anything

_ALLOWED: Final = {
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.If, nodes.For, nodes.CondExpr),
    *(nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.Filter, nodes.Test, nodes.And, nodes.Or, nodes.Not),
    *(nodes.Compare, nodes.Operand, nodes.Tuple, nodes.List),
}
_LOOP_WORDS: Final = frozenset({"index", "index0", "first", "last", "length", "revindex", "revindex0"})
_FAILS: Final = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


class TemplateRefused(ValueError):
    """A template, or what is to be made of it, is refused.

    Attributes:
        field: where, as `html` or `sms.text`, or `variables.name`.
        why: for people; holds nothing of the variables' values.
    """

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class _Missing(TemplateError):
    """A variable that was not given."""


class _Limit(TemplateError):
    """Too long, too much or too slow; the text says which."""


class _Undefined(StrictUndefined):
    """What is not there: asking whether it is defined is fine, using it is not."""

    def _fail_with_undefined_error(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise _Missing(str(self._undefined_name))

    __iter__ = __str__ = __len__ = __bool__ = __contains__ = _fail_with_undefined_error
    __eq__ = __ne__ = __hash__ = _fail_with_undefined_error


_deadline: ContextVar[float] = ContextVar("deadline", default=0.0)


def _tick() -> None:
    if time.monotonic() > _deadline.get():
        raise _Limit(f"takes longer than {WITHIN_S * 1000:g} ms")


def _bounded(text: str) -> str:
    _tick()
    if len(text) > LONGEST_TEXT:
        raise _Limit(f"has more than {LONGEST_TEXT} characters")
    return text


def _text(value: Any) -> str:
    """Take a text or a number; anything else is a mistake in the template, or in the variables."""
    if isinstance(value, Undefined):
        str(value)  # raises
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _Limit("uses a list, an object, a boolean or null where a text is needed")
    return _bounded(str(value))


def _joined(value: Any, separator: Any = "") -> str:
    parts, between = [_text(item) for item in _counted(value)], _text(separator)
    if sum(map(len, parts)) + len(between) * len(parts) > LONGEST_TEXT:
        raise _Limit(f"has more than {LONGEST_TEXT} characters")
    return between.join(parts)


def _replaced(value: Any, old: Any, new: Any) -> str:
    text, old, new = _text(value), _text(old), _text(new)
    if not old or len(text) + text.count(old) * max(0, len(new) - len(old)) > LONGEST_TEXT:
        raise _Limit(f"replaces nothing, or makes more than {LONGEST_TEXT} characters")
    return text.replace(old, new)


def _default(value: Any, instead: Any = "", also_empty: bool = False) -> Any:
    return instead if isinstance(value, Undefined) or value is None or (also_empty and not value) else value


def _truncated(value: Any, length: Any = 255, end: Any = "...") -> str:
    text, end = _text(value), _text(end)
    return text if len(text) <= int(length) else text[: max(0, int(length) - len(end))] + end


def _rounded(value: Any, digits: Any = 0) -> str:
    return f"{float(value):.{min(max(int(digits), 0), 9)}f}"


def _counted(value: Any) -> Iterator[Any]:
    """Loop over a list, looking at the clock."""
    if isinstance(value, Undefined):
        str(value)  # raises
    if not isinstance(value, list | tuple):
        raise _Limit("loops over what is no list")
    if len(value) > MOST_ITEMS:
        raise _Limit(f"loops over more than {MOST_ITEMS} items")
    for item in value:
        _tick()
        yield item


_FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "upper": lambda value: _text(value).upper(),
    "lower": lambda value: _text(value).lower(),
    "capitalize": lambda value: _text(value).capitalize(),
    "title": lambda value: _text(value).title(),
    "trim": lambda value: _text(value).strip(),
    "urlencode": lambda value: _bounded(quote(_text(value), safe="")),
    "length": len,
    "first": lambda value: next(_counted(value), ""),
    "last": lambda value: [*_counted(value), ""][-2] if value else "",
    "join": _joined,
    "replace": _replaced,
    "default": _default,
    "truncate": _truncated,
    "round": _rounded,
    "counted": _counted,
}
_TESTS: Final = ("defined", "undefined", "none", "string", "number", "sequence", "mapping", "true", "false", "in")


def _shown(value: Any) -> Any:
    """Say what an expression becomes in the text."""
    _tick()
    return "" if value is None else value if isinstance(value, Undefined) else _text(value)


class _Environment(ImmutableSandboxedEnvironment):
    """jinja2 without its globals: names are the template's variables and nothing else."""

    def __init__(self, *, autoescape: bool) -> None:
        super().__init__(
            autoescape=autoescape, undefined=_Undefined, finalize=_shown, keep_trailing_newline=True, cache_size=0
        )
        self.globals.clear()
        self.filters = dict(_FILTERS)
        self.tests = {name: self.tests[name] for name in _TESTS}

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Look up `a.b`: a member of an object of the variables, or a word about the loop."""
        if isinstance(obj, dict):
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if isinstance(obj, LoopContext) and attribute in _LOOP_WORDS:
            return getattr(obj, attribute)
        return self.undefined(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Look up `a[b]`: a member of an object, an item of a list, a part of a text."""
        if isinstance(obj, dict | list | tuple | str):
            try:
                return obj[argument]
            except LookupError:
                pass
        return self.undefined(obj=obj, name=argument)


_plain: Final = _Environment(autoescape=False)
_html: Final = _Environment(autoescape=True)
_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")


def _check(node: nodes.Node, loops: int, depth: int) -> None:
    """Refuse what a template may not say; count each loop's turns.

    Raises:
        _Limit: it is refused.
    """
    if type(node) not in _ALLOWED:
        raise _Limit(f"line {node.lineno}: {_WORD.sub(' ', type(node).__name__).lower()} is not available")
    if depth > DEEPEST_NESTING:
        raise _Limit(f"line {node.lineno}: is nested too deeply")
    if isinstance(node, nodes.Filter) and (node.name not in _FILTERS or node.name == "counted"):
        raise _Limit(f"line {node.lineno}: there is no filter {node.name}")
    if isinstance(node, nodes.For):
        loops += 1
        if loops > DEEPEST_LOOP:
            raise _Limit(f"line {node.lineno}: more than {DEEPEST_LOOP} loops in each other")
        if node.recursive or node.test is not None:
            raise _Limit(f"line {node.lineno}: this kind of loop is not available")
    for child in node.iter_child_nodes():
        _check(child, loops, depth + 1)
    if isinstance(node, nodes.For):
        node.iter = nodes.Filter(node.iter, "counted", [], [], None, None, lineno=node.lineno)


class Compiled:
    """One locale of a template, ready to be rendered.

    Args:
        content: fields as in a message's content; each text in it is a template.

    Raises:
        TemplateRefused: with every field's name.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.variables: set[str] = set()
        self._content = {name: self._compile(value, name) for name, value in content.items()}

    def _compile(self, value: Any, field: str) -> Any:
        if isinstance(value, dict):
            return {name: self._compile(item, f"{field}.{name}") for name, item in value.items()}
        if isinstance(value, list):
            return [self._compile(item, f"{field}[{n}]") for n, item in enumerate(value)]
        if not isinstance(value, str):
            return value
        if len(value) > LONGEST_TEXT:
            raise TemplateRefused(field, f"has more than {LONGEST_TEXT} characters")
        environment = _html if field.rpartition(".")[2] == "html" else _plain
        try:
            tree = environment.parse(value)
            _check(tree, 0, 0)
            self.variables |= meta.find_undeclared_variables(tree)
            return environment.from_string(tree)
        except TemplateSyntaxError as exc:
            raise TemplateRefused(field, f"line {exc.lineno}: {exc.message}") from None
        except _Limit as exc:
            raise TemplateRefused(field, str(exc)) from None
        except (*_FAILS, SyntaxError, MemoryError) as exc:
            raise TemplateRefused(field, "cannot be read") from exc

    def render(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Fill in the variables.

        Raises:
            TemplateRefused: a variable is missing, or is not what the template needs; or a limit was reached.
        """
        token = _deadline.set(time.monotonic() + WITHIN_S)
        try:
            return {name: self._render(item, name, variables) for name, item in self._content.items()}
        finally:
            _deadline.reset(token)

    def _render(self, part: Any, field: str, variables: Mapping[str, Any]) -> Any:
        if isinstance(part, dict):
            return {name: self._render(item, f"{field}.{name}", variables) for name, item in part.items()}
        if isinstance(part, list):
            return [self._render(item, f"{field}[{n}]", variables) for n, item in enumerate(part)]
        if not hasattr(part, "generate"):
            return part
        pieces: list[str] = []
        size = 0
        try:
            for piece in part.generate(variables):
                _tick()
                size += len(piece)
                if size > LONGEST_TEXT:
                    raise _Limit(f"has more than {LONGEST_TEXT} characters")
                pieces.append(piece)
        except _Missing as exc:
            raise TemplateRefused(f"variables.{exc.message}", f"is needed by {field}") from None
        except _Limit as exc:
            raise TemplateRefused(field, str(exc)) from None
        except _FAILS as exc:
            raise TemplateRefused(field, "cannot be made of these variables") from exc
        return "".join(pieces)
