"""Who must not be written to. The lists are `hermes.journal.suppressions`; dispatch asks them again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gateway.shapes import FieldError
from hermes.domain.message import Message
from hermes.domain.state import ADDRESS_FIELD


class DoNotContactLayer:
    """`do_not_contact`: refuses what no step could send.

    Args:
        blocks: (tenant, channel, address, category) -> whether a list stands in the way.
    """

    name = "do_not_contact"
    code = "do_not_contact"

    def __init__(self, blocks: Callable[[str, str, str, str], bool]) -> None:
        self._blocks = blocks

    def check(self, message: Message) -> Sequence[FieldError]:
        """See `Layer`. A step that may not be sent, among others that may, is passed over when its turn comes."""
        to = message.to
        for step in message.cascade:
            channel = step.channel
            if not self._blocks(message.tenant, channel, to[ADDRESS_FIELD[channel]], message.category):
                return ()
        field = f"to.{ADDRESS_FIELD[message.cascade[0].channel]}"
        return (FieldError(field, "is on a do-not-contact list for every channel of the cascade"),)
