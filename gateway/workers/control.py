"""The door for the other workers: an HTTP server of its own, on a Unix socket or on an address of the settings.

The socket is in the data folder; the address is for workers on other machines. It is never the public port. The key is
made anew by each process and stands in its row of the database (the URL in `WorkerRow.control`): whoever may read the
workers' table may ask, nobody else; the operator's key never passes here.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.connection import BodyBroken, BodyTooLarge, Handler, Reply, Request, Server, new_request_id
from gateway.workers.counts import COUNTS

LONGEST_COUNTS: Final = 1 << 20  # octets of what a worker leaves
LONGEST_PATH: Final = 100  # octets of a socket's path; the kernel takes 107 (unix(7))
SOCKET: Final = ".sock"

Take = Callable[[str, bytes], None]  # worker, what it has counted


class ControlServer:
    """Serves one worker's control channel. The address and the key stay the same when it is started again.

    Args:
        folder: for the socket; made, for its owner only.
        worker: its id.
        host: an address to listen on instead, so that workers on other machines reach this one; any free port.
    """

    def __init__(self, folder: Path, worker: str, host: str | None = None) -> None:
        self._key = secrets.token_urlsafe(32)
        self._expected = f"Bearer {self._key}".encode()
        self._folder = folder
        self._worker = worker
        self._host = host
        self._port = 0
        self._path: Path | None = None
        self._own_folder: Path | None = None
        self._handle: Handler | None = None
        self._take: Take | None = None
        self._server: Server | None = None
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where it listens, with its key; once it was started."""
        if self._host is not None:
            host = f"[{self._host}]" if ":" in self._host else self._host
            return f"http://:{self._key}@{host}:{self._port}"
        return f"http+unix://:{self._key}@{self._path}"

    async def start(self, handle: Handler, take: Take) -> None:
        """Listen, and hand `handle` every request that has the key, and `take` what other workers leave.

        Raises:
            OSError: the address is not ours, or the folder cannot be made.
        """
        self._handle, self._take = handle, take
        server = Server(self._let_in)
        loop = asyncio.get_running_loop()
        if self._host is not None:
            self._listener = await loop.create_server(server, self._host, self._port)
            self._port = self._listener.sockets[0].getsockname()[1]
        else:
            path = self._place()
            path.unlink(missing_ok=True)
            self._listener = await loop.create_unix_server(server, str(path))
            path.chmod(0o600)
        self._server = server

    async def stop(self, drain_s: float = 1.0) -> None:
        """Stop listening. Safe to call twice."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        server, self._server = self._server, None
        if server is not None:
            server.pre_shutdown()
            await server.shutdown(drain_s)
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        if self._own_folder is not None:
            shutil.rmtree(self._own_folder, ignore_errors=True)
            self._own_folder = self._path = None

    def _place(self) -> Path:
        """Choose the socket's path, and remove what killed workers left."""
        if self._path is None:
            path = self._folder / (self._worker + SOCKET)
            if len(str(path).encode()) > LONGEST_PATH:
                self._own_folder = Path(tempfile.mkdtemp(prefix="hermes-"))
                path = self._own_folder / (self._worker + SOCKET)
            else:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                remove_abandoned(self._folder)
            self._path = path.absolute()
        return self._path

    async def _let_in(self, request: Request) -> Reply:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(given, self._expected):
            return Reply(401, b"", new_request_id())
        assert self._handle is not None and self._take is not None
        path = request.rel_url.path
        if request.method != "POST" or not path.startswith(COUNTS):
            return await self._handle(request)
        try:
            counts = request.whole_body()
            if counts is None:
                counts = await request.slow_body(LONGEST_COUNTS)
        except (BodyTooLarge, BodyBroken):
            return Reply(400, b"", new_request_id())
        self._take(path.removeprefix(COUNTS), counts)
        return Reply(204, b"", new_request_id())


def remove_abandoned(folder: Path) -> None:
    """Remove the sockets that nobody listens on any more."""
    for path in folder.glob("*" + SOCKET):
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.settimeout(0.1)
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
