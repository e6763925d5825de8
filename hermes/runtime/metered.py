"""A handler's coroutine, each of its steps charged to its actor."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from hermes.runtime.ref import Ref


async def metered(steps: Metered) -> Any:
    """Run a handler's awaitable, charging its steps (not its waits) to the actor."""
    if isinstance(steps.coroutine, Coroutine):
        return await steps
    return await steps.coroutine


class Metered:
    """Steps a coroutine from inside its task, so that `current_task` and `asyncio.timeout` work as usual."""

    __slots__ = ("coroutine", "ref")

    def __init__(self, ref: Ref, coroutine: Awaitable[Any]) -> None:
        self.ref = ref
        self.coroutine = coroutine

    def __del__(self) -> None:
        # A task cancelled before its first step drops the coroutine unbegun; that is no oversight of anyone.
        if isinstance(self.coroutine, Coroutine):
            self.coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        ref = self.ref
        coroutine = cast("Coroutine[Any, Any, Any]", self.coroutine)
        system = ref._system
        step: Any = coroutine.send
        value: Any = None
        while True:
            sent = system._sent
            system._current = ref
            begun = perf_counter()
            try:
                wanted = step(value)
            except StopIteration as stop:
                return stop.value
            finally:
                system._current = None
                ref._spent += perf_counter() - begun
                ref._sent += system._sent - sent
            try:
                value = yield wanted
                step = coroutine.send
            except GeneratorExit:
                coroutine.close()
                raise
            except BaseException as exc:  # cancellation or an error: it belongs to the coroutine
                value = exc
                step = coroutine.throw
