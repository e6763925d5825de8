"""What the actor kernel costs: CPU time of one core, each figure beside its target.

    python -m benchmarks.runtime [--scale 1.0] [--check]

The collector is on, with everything made before a measurement frozen, as after boot. Each figure is the best
of several rounds: the rest of the machine can only add. `--check` ends with status 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import Any

from hermes.runtime import (
    NO_REPLY,
    Actor,
    ChildSpec,
    Ref,
    Reply,
    Restart,
    Strategy,
    Supervisor,
    System,
    Timer,
)
from hermes.runtime.intensity import Intensity

ROUNDS = 5
TARGETS = {
    "spawn + one message + stop": (2.5, "us"),
    "warm message": (0.5, "us"),
    "idle actor": (300.0, "bytes"),
    "100,000 idle actors in a full collection": (35.0, "ms"),
    "supervised restart": (20.0, "us"),
    "tenant -> cascade -> two steps -> exit": (45.0, "us"),
}


class OneShot(Actor):
    """Ends with its first message."""

    __slots__ = ("seen",)

    def __init__(self) -> None:
        self.seen = 0

    def handle(self, message: Any) -> None:
        self.seen += 1
        self.stop()


class Idle(Actor):
    """Counts; the smallest useful actor."""

    __slots__ = ("seen",)
    mailbox_limit = 1_000_000

    def __init__(self) -> None:
        self.seen = 0

    def handle(self, message: Any) -> None:
        self.seen += 1

    def handle_call(self, request: Any, reply: Reply) -> Any:
        return request


class Crasher(Actor):
    """Raises at every message."""

    __slots__ = ()

    def handle(self, message: Any) -> None:
        raise ValueError("on purpose")


class Family(Supervisor):
    """One temporary child per message, as a tenant has cascades."""

    __slots__ = ()

    def __init__(self, factory: Callable[..., Actor]) -> None:
        spec = ChildSpec("child", factory, restart=Restart.TEMPORARY)
        super().__init__(Strategy.SIMPLE_ONE_FOR_ONE, [spec])


class Provider(Actor):
    """Takes a step and answers: the first one is refused, the second one done."""

    mailbox_limit = 1_000_000

    def handle(self, message: Any) -> None:
        sender, step = message
        sender.send_system("delivered" if step else "refused")


class Cascade(Actor):
    """Two steps, each with a receipt timeout in the wheel, then the end."""

    __slots__ = ("message_id", "provider", "step", "timer")

    def __init__(self, message_id: int, provider: Ref) -> None:
        self.message_id = message_id
        self.provider = provider
        self.step = 0
        self.timer: Timer | None = None

    def handle(self, message: Any) -> None:
        if message == "delivered":
            if self.timer is not None:
                self.timer.cancel()
            self.stop()
            return
        if message == "refused":
            self.step += 1
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.send_after(60.0, "timeout")
        self.provider.send((self.ref, self.step))


class Tenant(Family):
    """Starts a named cascade per call and answers when it ended."""

    mailbox_limit = 1_000_000

    def __init__(self, provider: Ref) -> None:
        super().__init__(Cascade)
        self.provider = provider
        self.waiting: dict[Ref, Reply] = {}

    def handle_call(self, request: int, reply: Reply) -> Any:
        ref = self.start_child(request, self.provider, name=f"cascade/{request}")
        self.waiting[ref] = reply
        ref.send("begin")
        return NO_REPLY

    def child_ended(self, ref: Ref, reason: Any) -> None:
        self.waiting.pop(ref).ok()


async def quiet(system: System) -> None:
    while system._awake:  # noqa: ASYNC110 (an event would be one more thing measured)
        await asyncio.sleep(0)


async def best(measure: Callable[[], Awaitable[float]]) -> float:
    results = []
    for _ in range(ROUNDS):
        gc.collect()
        gc.freeze()
        results.append(await measure())
        gc.unfreeze()
    return min(results)


async def spawn_message_stop(count: int) -> float:
    system = System()

    async def measure() -> float:
        begun = time.process_time()
        for _ in range(count // 100):  # a hundred alive at a time
            for _ in range(100):
                system.spawn(OneShot).send(None)
            await asyncio.sleep(0)
        await quiet(system)
        return (time.process_time() - begun) / count * 1e6

    return await best(measure)


async def warm_message(count: int) -> float:
    system = System()
    ref = system.spawn(Idle)

    async def measure() -> float:
        begun = time.process_time()
        for _ in range(count // 500):
            for _ in range(500):
                ref.send(1)
            await quiet(system)
        return (time.process_time() - begun) / count * 1e6

    return await best(measure)


async def idle_actors(count: int, named: bool = False) -> tuple[float, float]:
    """Return bytes each, and milliseconds they add to a full collection."""
    system = System()
    family = Family(Idle)
    system.spawn(lambda: family)

    def collection() -> float:
        gc.collect()
        times = []
        for _ in range(ROUNDS):
            begun = time.process_time()
            gc.collect()
            times.append(time.process_time() - begun)
        return min(times) * 1e3

    before = collection()
    tracemalloc.start()
    start = tracemalloc.get_traced_memory()[0]
    for n in range(count):
        family.start_child(name=f"cascade/{n:032}" if named else None)
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - start
    tracemalloc.stop()
    after = collection()
    await system.shutdown()
    return used / count, after - before


async def supervised_restart(count: int) -> float:
    system = System()
    children = [ChildSpec(f"child/{n}", Crasher) for n in range(10)]
    system.spawn(Supervisor, Strategy.ONE_FOR_ONE, children, Intensity(50, 1e-6))

    async def measure() -> float:
        begun = time.process_time()
        for n in range(count):
            system.send(f"child/{n % 10}", "crash")
            if n % 10 == 9:
                await quiet(system)
        return (time.process_time() - begun) / count * 1e6

    figure = await best(measure)
    await system.shutdown()
    return figure


async def cascades(count: int) -> float:
    system = System()
    tenant = system.spawn(Tenant, system.spawn(Provider))
    numbers = iter(range(10**9))

    async def customer(share: int) -> None:
        for _ in range(share):
            await tenant.call(next(numbers))

    async def measure() -> float:
        begun = time.process_time()
        await asyncio.gather(*(customer(count // 100) for _ in range(100)))
        return (time.process_time() - begun) / count * 1e6

    figure = await best(measure)
    await system.shutdown()
    return figure


async def calls(count: int) -> float:
    system = System()
    ref = system.spawn(Idle)

    async def caller() -> None:
        for _ in range(count // 100):
            await ref.call(1)

    async def measure() -> float:
        begun = time.process_time()
        await asyncio.gather(*(caller() for _ in range(100)))
        return (time.process_time() - begun) / count * 1e6

    return await best(measure)


async def timers(count: int) -> float:
    system = System()

    async def measure() -> float:
        begun = time.process_time()
        for n in range(count):
            system.wheel.after(5.0 + n % 100, print, None).cancel()
        return (time.process_time() - begun) / count * 1e6

    figure = await best(measure)
    system.wheel.close()
    return figure


def report(name: str, figure: float, unit: str = "us") -> bool:
    target, unit = TARGETS.get(name, (None, unit))
    verdict = "" if target is None else f"target <= {target:g}  {'ok' if figure <= target else 'MISSED'}"
    print(f"{name:<44}{figure:>9.2f} {unit:<6}{verdict}")
    return target is None or figure <= target


async def main(scale: float) -> bool:
    logging.getLogger("hermes.runtime").setLevel(logging.CRITICAL)  # crashes on purpose; logs are not measured
    many = max(1000, int(50_000 * scale) // 1000 * 1000)
    # First, in a process that has not been stirred yet: the collector's time depends on where things lie.
    size, pause = await idle_actors(100_000)
    held = [report("spawn + one message + stop", await spawn_message_stop(many))]
    held.append(report("warm message", await warm_message(many)))
    held.append(report("idle actor", size))
    held.append(report("100,000 idle actors in a full collection", pause))
    held.append(report("supervised restart", await supervised_restart(many // 10)))
    held.append(report("tenant -> cascade -> two steps -> exit", await cascades(many // 10)))
    size, _ = await idle_actors(100_000, named=True)
    report("idle actor with a registered name (40 letters)", size, "bytes")
    report("call and answer, 100 callers", await calls(many))
    report("timer set and cancelled", await timers(many))
    return all(held)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of repetitions")
    parser.add_argument("--check", action="store_true", help="status 1 if a target is missed")
    options = parser.parse_args()
    all_held = asyncio.run(main(options.scale))
    sys.exit(1 if options.check and not all_held else 0)
