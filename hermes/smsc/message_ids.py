"""One message id in the many spellings centres use."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Final

from hermes.smsc.settings import IdForm


def _uuid(number: int) -> str:
    # The number is spread over all 128 bits, reversibly, and the result marked as a version 4 UUID, whose
    # six fixed bits lie outside the low 62 that hold the number.
    return str(uuid.UUID(int=(number * 0x9E3779B97F4A7C15 & (1 << 48) - 1) << 80 | number & (1 << 62) - 1, version=4))


_FORMS: Final[dict[IdForm, Callable[[int], str]]] = {
    "dec": str,
    "dec_padded": "{:020d}".format,
    "hex": "{:x}".format,
    "hex_padded": "{:016x}".format,
    "hex_upper": "{:X}".format,
    "uuid": _uuid,
    "uuid_upper": lambda number: _uuid(number).upper(),
}


def write_id(number: int, form: IdForm) -> str:
    """Write a message's number, 0..2**62-1, as an id of at most 64 characters."""
    return _FORMS[form](number)
