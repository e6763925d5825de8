"""Names of living actors. A name is reserved before `init` and released after `terminate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hermes.runtime.reasons import NameTaken

if TYPE_CHECKING:
    from hermes.runtime.ref import Ref


class Registry(dict[str, "Ref"]):
    """Name to ref. Invariant: a name here belongs to an actor that has not ended."""

    __slots__ = ()

    def reserve(self, name: str, ref: Ref) -> None:
        """Give the name to the ref.

        Raises:
            NameTaken: another living actor holds it.
        """
        if self.setdefault(name, ref) is not ref:
            raise NameTaken(f"the name {name!r} is taken by {self[name]}")

    def release(self, name: str, ref: Ref) -> None:
        """Free the name, if this ref still holds it."""
        if self.get(name) is ref:
            del self[name]
