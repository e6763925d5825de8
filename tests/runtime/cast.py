"""Actors for the kernel's tests: they keep a diary of their lives."""

import asyncio

from hermes.runtime import Actor


class Boom(Exception):
    """Raised on purpose."""


class Worker(Actor):
    """Writes (what, name) into a diary; does what it is told."""

    def __init__(self, diary, *args):
        self.diary = diary
        self.args = args

    @property
    def label(self):
        return self.args[0] if self.args else self.ref.name

    def init(self):
        self.diary.append(("init", self.label))

    def handle(self, message):
        if message == "crash":
            raise Boom(self.label)
        if message == "stop":
            self.stop()
            return
        self.diary.append((message, self.label))

    def handle_call(self, request, reply):
        if request == "crash":
            raise Boom(self.label)
        return (request, *self.args)

    def terminate(self, reason):
        self.diary.append(("end", self.label))


class SlowEnd(Worker):
    """Its terminate waits until the test opens the gate."""

    def __init__(self, diary, *args):
        super().__init__(diary, *args)
        self.gate = asyncio.Event()

    async def terminate(self, reason):
        self.diary.append(("ending", self.label))
        await self.gate.wait()
        self.diary.append(("end", self.label))


class SlowStart(Worker):
    """Its init waits until the test opens the gate (args[1])."""

    async def init(self):
        self.diary.append(("starting", self.label))
        await self.args[1].wait()
        self.diary.append(("init", self.label))


class Stubborn(Worker):
    """Ignores to be cancelled twice: by a stop and by a kill. The third time (the loop's end) it gives in."""

    async def handle(self, message):
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.diary.append(("ignored", self.label))
        await asyncio.Event().wait()


def lives(diary, what):
    """Return who did it, in order."""
    return [label for did, label in diary if did == what]
