"""What does not apply to a guest, as errors a Thespian program can catch by Thespian's own root class."""

from __future__ import annotations

from thespian.actors import ActorSystemException


class NotHosted(ActorSystemException):  # type: ignore[misc]
    """The guest asked for something Thespian offers and Hermes does not: the text names it and the reason."""


class SourceLoadingNotHosted(NotHosted):
    """Loading code into a running node is refused: what a node runs is what was installed."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: Hermes loads no actor source at run time; install the package and restart")


class ConventionsNotHosted(NotHosted):
    """There is one actor system and no convention: nothing to register with, nothing to be told of."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}: Hermes hosts one actor system; it joins no convention and opens no port for one")


class WouldBlock(NotHosted):
    """The node's own thread asked for something that waits; there, use `System.call` or mount the actor."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} waits, and was called on the event loop's own thread, which must not")


class HandlerOverdue(Exception):
    """A guest's handler ran longer than it may; its threads are left behind and the mounted guest starts anew."""

    def __init__(self, who: str, limit_s: float) -> None:
        super().__init__(f"{who} has been handling one message for more than {limit_s:g} s")


class StuckThreads(Exception):
    """A mounted guest is not started again while so many threads of earlier lives are stuck in its handlers."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{number} threads of earlier lives have not come back from a handler")


class Poisoned(Exception):
    """A guest failed twice on the same message. Raised in whoever called it; ends a mounted guest."""
