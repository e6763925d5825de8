"""What no text of one line may hold: a subject, a name, a reference, a header's value."""

from __future__ import annotations

import re
from typing import Final

CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")  # control characters and ends of lines, in a row


def has_control(text: str) -> bool:
    """Tell whether a text of one line holds a control character or the end of a line.

    What else is not printable to Python is fine: no-break spaces, and the joiners within emoji and Indic words.
    """
    return not text.isprintable() and CONTROLS.search(text) is not None
