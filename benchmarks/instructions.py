"""How many instructions a message costs on the whole path: the same on a busy machine as on a quiet one.

    apt-get install valgrind
    python -m benchmarks.instructions [--together 16] [--messages 160]

A node on mock carriers runs under callgrind, which counts what its Python process executes (its database is not
counted), and slows it down fifty times. A fixed number of messages is under way at once (closed loop), so that as much
is done together in each run; what the node does by itself meanwhile is counted too. Good to about 1 %: enough to see
what a change brings where CPU seconds, which depend on the host's other guests, are not. Exit 1 when a message is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks._node import BenchNode, node
from benchmarks.load import Load, reconcile

BODY = b'{"channel": "sms", "to": "+4520120001", "content": {"text": "Your code is 123456"}}'
SETTLED_S = 3.0  # until receipts (200 ms) are taken and what they caused is stored


class ClosedLoad(Load):
    """Sends the next message when one is accepted."""

    async def run(self) -> None:
        """Send everything and wait for every answer."""
        self.left = self.count - self.connections
        await self.connect()
        for _ in range(self.connections):
            self.send(time.perf_counter())
        await asyncio.wait_for(self.done.wait(), 120)
        self.over = True

    def answered(self, connection: object, status: int, body: bytes) -> None:
        """Take an answer, and send the next."""
        super().answered(connection, status, body)  # type: ignore[arg-type]
        if self.left > 0:
            self.left -= 1
            self.send(time.perf_counter())


@contextmanager
def counted() -> Iterator[tuple[BenchNode, Path]]:
    """Run a node under callgrind, not counting yet; and the folder for its counts."""
    with tempfile.TemporaryDirectory(prefix="hermes-callgrind-") as folder:
        counts, wrapper = Path(folder), Path(folder, "python")
        callgrind = f"valgrind --quiet --tool=callgrind --instr-atstart=no --callgrind-out-file={counts}/out.%p"
        wrapper.write_text(f'#!/bin/sh\nexec {callgrind} {sys.executable} "$@"\n')
        wrapper.chmod(0o755)
        with node(python=str(wrapper)) as target:
            yield target, counts


def control(target: BenchNode, *order: str) -> None:
    """Tell callgrind what to do, as its `callgrind_control` does."""
    subprocess.run(["callgrind_control", *order, str(target.pid)], check=True, stdout=subprocess.DEVNULL)


def measure(together: int, messages: int) -> tuple[float, bool]:
    """Return the instructions a message took, and whether none was lost."""
    with counted() as (target, counts):
        _, key = target.tenant()
        asyncio.run(ClosedLoad(target, key, 1.0, messages, BODY, connections=together).run())  # warm-up
        time.sleep(SETTLED_S)
        control(target, "-i", "on")
        control(target, "-z")
        load = ClosedLoad(target, key, 1.0, messages, BODY, connections=together)
        asyncio.run(load.run())
        time.sleep(SETTLED_S)
        control(target, "-d")
        control(target, "-i", "off")
        well = reconcile(target, key, load.ids)["statuses"] == {"delivered": messages}
        totals = [
            int(line.split()[1])
            for file in counts.glob("out.*")
            for line in file.read_text().splitlines()
            if line.startswith("totals:")
        ]
    return max(totals) / messages, well


def main() -> int:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--together", type=int, default=16, help="messages under way at once")
    parser.add_argument("--messages", type=int, default=160)
    args = parser.parse_args()
    if shutil.which("callgrind_control") is None:
        print("valgrind is not installed: nothing was counted")
        return 0
    instructions, well = measure(args.together, args.messages)
    print(f"{instructions / 1000:,.0f} thousand instructions a message, {args.together} at a time")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
