"""What Hermes adds to a message: the country and kind of its number. It refuses nothing.

A number without its country code is completed while the addresses are read (`submission.py`), because every other
layer needs it; encoding and segments are counted there too. The price is the router's.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.layers.numbers import number_facts
from gateway.shapes import FieldError
from hermes.domain.message import Message


class EnrichLayer:
    """`enrich`: see the module."""

    name = "enrich"
    code = "schema_invalid"

    def check(self, message: Message) -> Sequence[FieldError]:
        """See `Layer`."""
        to = message.to
        number = to.get("phone") or to.get("whatsapp")
        if number is not None:
            message.country, message.number_type = number_facts(number)
        return ()
