"""What a Thespian actor costs on our kernel: CPU time of the whole process, each figure beside its target.

    python -m benchmarks.guests [--scale 1.0] [--check] [--base simpleSystemBase]

Everything is done as a Thespian program does it: through `ActorSystem`, on threads. Each figure is the best of several
rounds. `--base simpleSystemBase` measures Thespian's own base the same way. `--check` ends with status 1 if a target is
missed. (Not called thespian.py: run as a file, it would stand in the way of the library of that name.)
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable
from typing import Any

from thespian.actors import Actor, ActorExitRequest, ActorSystem, ChildActorExited

ROUNDS = 5
WAIT_S = 120
TARGETS = {
    "createActor from outside": (15.0, "us"),
    "createActor by an actor": (15.0, "us"),
    "tell": (5.0, "us"),
    "objects left of 100,000 that ended": (100.0, ""),
}


class Counter(Actor):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.count = 0

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        """Count, or tell the count."""
        if msg == "count?":
            self.send(sender, self.count)
        else:
            self.count += 1


class Maker(Actor):
    """Makes children; a negative number: and lets each exit."""

    def receiveMessage(self, msg: Any, sender: Any) -> None:
        """Answer when the children are made, or gone."""
        if isinstance(msg, int):
            self.left, self.asker = -msg, sender
            children = [self.createActor(Counter) for _ in range(abs(msg))]
            if msg >= 0:
                self.send(children[-1], "x")
                self.send(sender, children[-1])
            else:
                for child in children:
                    self.send(child, ActorExitRequest())
        elif isinstance(msg, ChildActorExited):
            self.left -= 1
            if not self.left:
                self.send(self.asker, "gone")


def best(measure: Callable[[], float]) -> float:
    """Return the best of several rounds."""
    return min(measure() for _ in range(ROUNDS))


def cost(count: int, work: Callable[[], object]) -> float:
    """Return microseconds of CPU time, all threads together, for each of `count` pieces of work."""
    gc.collect()
    begun = time.process_time()
    work()
    return (time.process_time() - begun) / count * 1e6


def tell(system: Any, count: int) -> float:
    """Tell one actor much; measured until it has handled it all."""
    counter = system.createActor(Counter)

    def work() -> None:
        for _ in range(count):
            system.tell(counter, "x")
        assert system.ask(counter, "count?", WAIT_S) == count

    figure = cost(count, work)
    system.tell(counter, ActorExitRequest())
    return figure


def create_outside(system: Any, count: int) -> float:
    """Create actors from outside; measured until the last one answers."""
    made: list[Any] = []

    def work() -> None:
        for _ in range(count):
            made.append(system.createActor(Counter))
        assert system.ask(made[-1], "count?", WAIT_S) == 0

    figure = cost(count, work)
    for address in made:
        system.tell(address, ActorExitRequest())
    for address in made[-10:]:
        while system.ask(address, "count?", 0.05) is not None:
            pass
    return figure


def create_inside(system: Any, count: int) -> float:
    """Let an actor create children; measured until the last one answers."""
    maker = system.createActor(Maker)

    def work() -> None:
        last = system.ask(maker, count, WAIT_S)
        assert system.ask(last, "count?", WAIT_S) == 1

    figure = cost(count, work)
    system.tell(maker, ActorExitRequest())
    return figure


def left_over(system: Any, rounds: int) -> int:
    """Let ten thousand actors a round come and go; return how many objects the rounds after the first leave."""
    maker = system.createActor(Maker)
    assert system.ask(maker, -10_000, WAIT_S) == "gone"
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(rounds):
        assert system.ask(maker, -10_000, WAIT_S) == "gone"
    gc.collect()
    return len(gc.get_objects()) - before


def report(name: str, figure: float) -> bool:
    """Print one figure; return whether it is within its target."""
    target, unit = TARGETS[name]
    print(f"{name:<40}{figure:>9.2f} {unit:<4}target <= {target:g}  {'ok' if figure <= target else 'MISSED'}")
    return figure <= target


def main(scale: float, base: str) -> bool:
    """Measure everything; return whether every target holds."""
    if base == "hermes":
        from hermes.runtime.thespian import SystemBase

        system = ActorSystem(SystemBase(), logDefs=False, transientUnique=True)
    else:
        system = ActorSystem(base, logDefs=False, transientUnique=True)
    many = max(1000, int(20_000 * scale))
    held = [
        report("tell", best(lambda: tell(system, many))),
        report("createActor from outside", best(lambda: create_outside(system, many // 2))),
        report("createActor by an actor", best(lambda: create_inside(system, many // 2))),
        report("objects left of 100,000 that ended", left_over(system, max(1, int(10 * scale)))),
    ]
    system.shutdown()
    return all(held)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of repetitions")
    parser.add_argument("--check", action="store_true", help="status 1 if a target is missed")
    parser.add_argument("--base", default="hermes", choices=["hermes", "simpleSystemBase"])
    options = parser.parse_args()
    all_held = main(options.scale, options.base)
    sys.exit(1 if options.check and not all_held else 0)
