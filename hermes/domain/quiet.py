"""Keeps some fields of a struct out of logs and tracebacks."""

from __future__ import annotations

from typing import ClassVar


class Quiet:
    """Mixed into a struct with an address, a text or a carrier's words: its repr leaves out what `quiet` names."""

    __slots__ = ()
    __struct_fields__: ClassVar[tuple[str, ...]]

    quiet: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name not in self.quiet]
        return f"{type(self).__name__}({', '.join(shown)})"
