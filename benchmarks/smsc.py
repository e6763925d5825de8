"""What the simulated message centre costs a message, so that it does not dominate what is measured against it.

    python -m benchmarks.smsc [--messages 20000] [--window 50] [--rounds 5]

`hermes smsc` runs in a process of its own; a client as cheap as can be sends submit_sm with a window and acknowledges
every receipt. Counted is the CPU of the centre's process alone, from the first submit to the last acknowledged receipt.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time

import psutil

from carriers.smpp import constants as c
from carriers.smpp.framer import Framer
from carriers.smpp.pdu import BindTransceiver, SubmitSm, encode_answer

TARGET_US = 60.0  # docs/smsc.md
TEXT = b"Your code is 123456. It is valid for five minutes."


class Client(asyncio.Protocol):
    """Sends `messages` submits, `window` of them unanswered at most; acknowledges receipts."""

    def __init__(self, messages: int, window: int) -> None:
        pdu = SubmitSm(0, 0, (), "", 5, 0, "Hermes", 1, 1, "4520999999", registered_delivery=1, short_message=TEXT)
        self._frame = pdu.encode()
        self._left = messages
        self._window = window
        self._sequence = 0
        self._framer = Framer()
        self.bound = asyncio.get_running_loop().create_future()
        self.done = asyncio.get_running_loop().create_future()
        self.receipts = 0
        self._messages = messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(BindTransceiver(0, 1, system_id="hermes", password="secret").encode())

    def start(self) -> None:
        self.transport.write(b"".join(self._submit() for _ in range(min(self._window, self._left))))

    def _submit(self) -> bytes:
        self._left -= 1
        self._sequence += 1
        return self._frame[:12] + self._sequence.to_bytes(4, "big") + self._frame[16:]

    def data_received(self, data: bytes) -> None:
        out = []
        for frame in self._framer.feed(data):
            command = int.from_bytes(frame[4:8], "big")
            if command == c.SUBMIT_SM_RESP and self._left > 0:
                out.append(self._submit())
            elif command == c.DELIVER_SM:
                out.append(encode_answer(c.DELIVER_SM_RESP, 0, int.from_bytes(frame[12:16], "big")))
                self.receipts += 1
            elif command == c.BIND_TRANSCEIVER_RESP:
                self.bound.set_result(None)
        if out:
            self.transport.write(b"".join(out))
        if self.receipts == self._messages and not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the centre closed"))


async def one_round(port: int, centre: psutil.Process, messages: int, window: int) -> tuple[float, float]:
    """Give microseconds of the centre's CPU a message, and messages a second."""
    loop = asyncio.get_running_loop()
    _, client = await loop.create_connection(lambda: Client(messages, window), "127.0.0.1", port)
    await client.bound
    before, started = centre.cpu_times(), time.perf_counter()
    client.start()
    await client.done
    after, took = centre.cpu_times(), time.perf_counter() - started
    client.transport.close()
    used = after.user + after.system - before.user - before.system
    return used / messages * 1e6, messages / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--window", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    options = ["--json", "--port", "0", "--control-port", "0", "--set", "magic=false", "--set", "receipt_delay_s=0.05"]
    command = [sys.executable, "-m", "hermes.cli", "smsc", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        port = json.loads(child.stdout.readline())["port"]
        process = psutil.Process(child.pid)
        try:
            rounds = [asyncio.run(one_round(port, process, args.messages, args.window)) for _ in range(args.rounds)]
        finally:
            child.terminate()
    costs = sorted(cost for cost, _ in rounds)
    rates = [rate for _, rate in rounds]
    print(f"{args.messages} messages, window {args.window}, {args.rounds} rounds")
    print(f"CPU of the centre: {costs[0]:.1f} - {costs[-1]:.1f} us a message, median {statistics.median(costs):.1f}")
    print(f"messages a second: {min(rates):,.0f} - {max(rates):,.0f}")
    print(f"aim: {TARGET_US:g} us: {'held' if statistics.median(costs) <= TARGET_US else 'MISSED'}")


if __name__ == "__main__":
    main()
