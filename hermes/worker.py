"""One worker process of a node with several: what `hermes.parent` starts. Not for people."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvloop

from hermes import boot, logs, settings
from hermes.errors import HermesError, SettingsError


async def run(given: Mapping[str, Any], channel: socket.socket) -> int:
    """Be a worker until told to stop; returns the exit code."""
    loaded = settings.load(
        Path(given["config"]) if given["config"] is not None else None, os.environ, options=given["options"]
    )
    logs.configure(loaded.log.format, loaded.log.level)
    place = boot.Place(
        given["worker_id"], given["workers"], given["connect"], socket.socket(fileno=given["listener"]), given["first"]
    )
    node = boot.Node(loaded, Path(given["data_dir"]), place=place)
    loop = asyncio.get_running_loop()

    def parent_ended() -> None:
        loop.remove_reader(channel)
        if place.connect is not None:
            os._exit(1)  # its database went with it: as after kill -9, everything committed is there
        node.request_stop()

    loop.add_reader(channel, parent_ended)
    loop.add_signal_handler(signal.SIGUSR2, node.leave)
    return await boot.run(node, on_ready=lambda _: channel.sendall(b"ready\n"))


def main() -> int:
    """Run; `sys.argv[1]` is our end of the parent's socket pair."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    with channel.makefile("r", encoding="utf-8") as said:
        line = said.readline()
    if not line:
        return 1
    channel.setblocking(False)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(run(json.loads(line), channel))
    except HermesError as exc:
        sys.stderr.write(f"hermes worker: {exc}\n")
        return 2 if isinstance(exc, SettingsError) else 1


if __name__ == "__main__":
    sys.exit(main())
