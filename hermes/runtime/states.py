"""The states of an actor, in the order that the kernel's comparisons rely on."""

from __future__ import annotations

from typing import Final

INIT: Final = 0
SLEEP: Final = 1
READY: Final = 2
READY_UP: Final = 3
RUNNING: Final = 4  # READY + 2
ATTEND: Final = 5  # READY_UP + 2
WAIT: Final = 6
SUSPENDED: Final = 7
HELD: Final = 8  # asleep with the main lane left alone: `hold_mailbox`
ENDING: Final = 9
TERMINATED: Final = 10

STATE_NAMES: Final = (
    "init",
    "sleep",
    "running",
    "running",
    "running",
    "running",
    "wait",
    "suspended",
    "wait",
    "terminated",
    "terminated",
)
