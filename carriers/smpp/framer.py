"""Cuts a TCP stream into PDUs. However the stream is split, the frames are the same."""

from __future__ import annotations

from typing import Final

from carriers.smpp.constants import ESME_RINVCMDLEN
from carriers.smpp.pdu import HEADER_OCTETS, PduError

MAX_FRAME: Final = 65_536  # octets; room for any text, and no header can ask for more


class Framer:
    """Holds at most one unfinished frame: what came of it, never what its header promises.

    After a wrong length the borders are lost and nothing more is read. Make a new one for a new connection.
    """

    __slots__ = ("_max_frame", "_needed", "_rest", "broken")

    def __init__(self, max_frame: int = MAX_FRAME) -> None:
        self._max_frame = max_frame
        self._rest = bytearray()
        self._needed = 4  # octets before `_rest` can say anything new
        self.broken: PduError | None = None  # why nothing more can be read

    @property
    def buffered(self) -> int:
        """Octets of the unfinished frame held now."""
        return len(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """Take what came and give the frames it completes, in order; none once `broken`.

        Frames before a wrong command_length (below 16 or above the limit) are given: look at `broken` after
        handling them.
        """
        frames: list[bytes] = []
        if self.broken is not None:
            return frames
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._needed:
                return frames
            data = bytes(rest)
            rest.clear()
        size = len(data)
        at = 0
        needed = 4
        while size - at >= 4:
            length = int.from_bytes(data[at : at + 4], "big")
            if not HEADER_OCTETS <= length <= self._max_frame:
                self.broken = PduError(f"command_length {length}", ESME_RINVCMDLEN, broken=True)
                return frames
            end = at + length
            if end > size:
                needed = length
                break
            frames.append(data[at:end])
            at = end
        if at < size:
            rest += data[at:]
        self._needed = needed
        return frames
