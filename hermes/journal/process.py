"""Who a process is, so that another can tell whether it still lives: host, pid and start time.

A pid alone is used again; with the time the kernel started it, it names one process for ever. `host` names
the pid namespace: two containers on one machine must not look for each other's pids.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")


@lru_cache(maxsize=1)
def this_host() -> str:
    """Name this machine, boot and pid namespace."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append((_PROC / "sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink(_PROC / "self/ns/pid"))
    return " ".join(parts)


def started_at(pid: int) -> str | None:
    """Tell when the kernel started a process of this host; None when there is no such process.

    A zombie is none: it will never do anything again. "" when this system cannot tell.
    """
    if (_PROC / "self/stat").exists():
        try:
            stat = (_PROC / str(pid) / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return None
        except OSError:
            return ""
        fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
        return None if fields[0] in "ZXx" else fields[19]
    try:
        told = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    stat, _, started = told.stdout.strip().partition(" ")
    if not stat or stat.startswith("Z"):
        return None
    return started.strip()


def is_gone(pid: int, started: str) -> bool:
    """True iff the process is certainly no more. False also when this system cannot tell."""
    now = started_at(pid)
    return now is None or (now != "" and started != "" and now != started)
