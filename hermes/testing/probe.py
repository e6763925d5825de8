"""An actor that remembers: the other end in a test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

from hermes.runtime import Actor, Down, Exit, Ref, Reply, System


class ProbeActor(Actor):
    """Keeps whatever it is sent, answers calls from a script, and can be told what to do.

    Attributes:
        messages: what came to `handle`, in order.
        requests: what came to `handle_call`, in order.
        downs, exits: what came from monitors and links.
    """

    kind: ClassVar[str] = "ProbeActor"
    trap_exits: ClassVar[bool] = True

    def __init__(self, answer: Callable[[Any], Any] | Any = None) -> None:
        """Answer calls with `answer(request)`, or with `answer` itself when it is not callable."""
        self.answer = answer
        self.messages: list[Any] = []
        self.requests: list[Any] = []
        self.downs: list[Down] = []
        self.exits: list[Exit] = []
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def handle(self, message: Any) -> None:
        """Remember; run it in the actor if it is a `Do`."""
        if isinstance(message, Do):
            message.action(self)
            return
        self.messages.append(message)
        self._tell()

    def handle_call(self, request: Any, reply: Reply) -> Any:
        """Remember and answer."""
        self.requests.append(request)
        self._tell()
        return self.answer(request) if callable(self.answer) else self.answer

    def handle_down(self, down: Down) -> None:
        """Remember."""
        self.downs.append(down)
        self._tell()

    def handle_exit(self, exit: Exit) -> None:
        """Remember."""
        self.exits.append(exit)
        self._tell()

    @property
    def received(self) -> int:
        """How many things came, of any sort."""
        return len(self.messages) + len(self.requests) + len(self.downs) + len(self.exits)

    async def wait_for(self, count: int) -> None:
        """Wait until `received` has reached `count`; in real time, so give the test a time limit."""
        if self.received < count:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((count, waiter))
            await waiter

    def _tell(self) -> None:
        for count, waiter in self._waiters:
            if self.received >= count and not waiter.done():
                waiter.set_result(None)


class Do:
    """Sent to a `ProbeActor`: call `action(probe)` inside it (to link, monitor, spawn, stop, raise)."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[Any], object]) -> None:
        self.action = action


def start_probe(system: System, name: str | None = None, answer: Any = None) -> tuple[Ref, ProbeActor]:
    """Start a probe as a root actor; return its ref and the actor itself, to look at."""
    probe = ProbeActor(answer)
    return system.spawn(lambda: probe, name=name), probe
