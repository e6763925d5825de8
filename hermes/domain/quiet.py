"""Keeps some fields of a struct out of logs and tracebacks."""

from __future__ import annotations

from typing import Any, ClassVar


class Quiet:
    """Mixed into a struct with an address, a text or a carrier's words: its repr leaves out what `quiet` names."""

    __slots__ = ()
    __struct_fields__: ClassVar[tuple[str, ...]]

    quiet: ClassVar[frozenset[str]] = frozenset()

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in self.__rich_repr__()]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Tell rich the same: a struct's own tells all."""
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in self.quiet]
