"""One logger per kind of actor, and a level of its own for the one actor an operator looks at."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hermes.runtime.ref import Ref

kernel_log = logging.getLogger("hermes.runtime")


class ActorLog(logging.LoggerAdapter[logging.Logger]):
    """A logger that names the actor, and obeys the actor's own level where one is set."""

    def __init__(self, logger: logging.Logger, ref: Ref, level: int | None) -> None:
        super().__init__(logger, {"actor": ref.name or str(ref)})
        self._level = level

    def isEnabledFor(self, level: int) -> bool:
        """Tell whether a record of this level would be written."""
        return self.logger.isEnabledFor(level) if self._level is None else level >= self._level

    def log(self, level: int, msg: object, *args: Any, **kwargs: Any) -> None:
        """Write one record; with a level of its own the actor does not ask the logger's."""
        if not self.isEnabledFor(level):
            return
        msg, kwargs = self.process(msg, kwargs)  # type: ignore[assignment]
        self.logger._log(level, msg, args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the actor's name to the record."""
        kwargs["extra"] = {**kwargs.get("extra", {}), "actor": self.extra["actor"] if self.extra else ""}
        return msg, kwargs
