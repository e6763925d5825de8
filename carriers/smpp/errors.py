"""What a carrier's refusal means: command_status, and the `err` of its receipts, as error classes.

The general table is `errors.yaml`; a carrier's `error_classes` setting lies over it, because vendors give
their own meanings to statuses (0x400-0x4FF are theirs, SMPP v3.4, 5.1.3) and `err` has no standard at all
(Appendix B).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final, NamedTuple, get_args

from carriers.smpp.constants import STATUS_NAMES, status_name
from hermes.domain.state import ErrorClass

CLASSES: Final = frozenset(get_args(ErrorClass))
_RETRYABLE: Final = frozenset({"retryable_transient", "throttled"})  # without a row of their own
_SPAN: Final = re.compile(r"(0x[0-9a-f]+|\d+)\s*-\s*(0x[0-9a-f]+|\d+)", re.IGNORECASE).fullmatch
_NUMBERS: Final = {name: status for status, name in STATUS_NAMES.items()}


class StatusFact(NamedTuple):
    """What a command_status means; see errors.yaml."""

    name: str
    error_class: str
    retryable: bool
    pressure: bool = False
    alarm: bool = False


@cache
def _default() -> dict[int, StatusFact]:
    import yaml  # 20 ms, which only a start with such a carrier takes

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    document = yaml.load(files("carriers.smpp").joinpath("errors.yaml").read_bytes(), Loader=loader)
    return {
        row["status"]: StatusFact(
            row["name"], row["class"], row["retryable"], row.get("pressure", False), row.get("alarm", False)
        )
        for row in document["default"]
    }


class ErrorTable:
    """One carrier's table."""

    __slots__ = ("_receipts", "_spans", "_statuses")

    def __init__(self, error_classes: Mapping[str, str] | None = None) -> None:
        """Lay the carrier's own classes over the general ones.

        Args:
            error_classes: key -> class. Keys: `0x45`, `69`, `ESME_RSUBMITFAIL`, a span `0x400-0x4FF`; and for
                receipts `err:027`, as the carrier writes it.

        Raises:
            ValueError: names the key or class that is none.
        """
        self._statuses = dict(_default())
        self._spans: list[tuple[range, str]] = []
        self._receipts: dict[str, str] = {}
        for key, error_class in (error_classes or {}).items():
            if error_class not in CLASSES:
                raise ValueError(f"{key}: there is no error class {error_class!r}")
            self._lay(key.strip(), error_class)

    def _lay(self, key: str, error_class: str) -> None:
        if key.lower().startswith("err:"):
            self._receipts[_err(key[4:])] = error_class
            return
        span = _SPAN(key)
        if span is not None:
            self._spans.append((range(int(span[1], 0), int(span[2], 0) + 1), error_class))
            return
        status = _NUMBERS.get(key.upper())
        if status is None:
            try:
                status = int(key, 0)
            except ValueError:
                raise ValueError(f"{key}: a key is a status, a span of them, or err: and a code") from None
        self._statuses[status] = _fact(status, error_class)

    def status(self, command_status: int) -> StatusFact:
        """Look up a command_status; `unknown`, not retryable, for one nobody listed."""
        fact = self._statuses.get(command_status)
        if fact is not None:
            return fact
        for span, error_class in self._spans:
            if command_status in span:
                return _fact(command_status, error_class)
        return _fact(command_status, "unknown")

    def receipt(self, error_code: str | None) -> str | None:
        """Look up a receipt's `err`; None for one nobody listed."""
        return None if error_code is None else self._receipts.get(_err(error_code))


def _fact(status: int, error_class: str) -> StatusFact:
    # Throttled by a vendor's own status is pressure like any other; all else is a verdict on the message.
    return StatusFact(status_name(status), error_class, error_class in _RETRYABLE, pressure=error_class == "throttled")


def _err(code: str) -> str:
    return code.strip().casefold().lstrip("0") or "0"
