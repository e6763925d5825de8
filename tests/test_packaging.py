"""What setuptools ships: exactly our four packages, under names nobody else owns."""

import importlib.metadata
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"hermes", "actors", "carriers", "gateway"}
DATA = {".sql", ".lua", ".yaml", ".html", ".js", ".css"}
NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "node_modules", "build", "dist", "*.egg-info", "*.pyc")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout: a build leaves build/ behind, and a stale build/ ships deleted modules."""
    copy = tmp_path_factory.mktemp("wheel") / "source"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCE)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path) -> Iterator[zipfile.ZipFile]:
    """The wheel, built without a network: setuptools is in the lock."""
    out = source.parent / "out"
    command = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps", "--no-build-isolation"]
    built = subprocess.run([*command, "--wheel-dir", out, source], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def metadata_of(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = (entry for entry in wheel.namelist() if entry.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


def test_wheel_ships_every_file_of_the_four_packages_and_nothing_else(source: Path, wheel: zipfile.ZipFile) -> None:
    written = {
        path.relative_to(source).as_posix()
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if path.is_file()
    }
    shipped = {entry for entry in wheel.namelist() if ".dist-info/" not in entry}
    assert shipped == written


def test_packages_hold_only_python_and_the_kinds_of_data_we_ship(source: Path) -> None:
    strangers = {
        str(path.relative_to(source))
        for package in PACKAGES
        for path in (source / package).rglob("*")
        if path.is_file() and path.suffix not in {".py", *DATA} and path.name != "py.typed"
    }
    assert strangers == set()


def test_wheel_has_our_licence_and_the_hermes_command(wheel: zipfile.ZipFile) -> None:
    assert "hermes = hermes.cli:main" in metadata_of(wheel, "entry_points.txt").splitlines()
    assert "License-Expression: Apache-2.0" in metadata_of(wheel, "METADATA").splitlines()
    assert "Apache License" in metadata_of(wheel, "licenses/LICENSE")


def test_wheel_claims_only_the_four_names(wheel: zipfile.ZipFile) -> None:
    assert set(metadata_of(wheel, "top_level.txt").split()) == PACKAGES


def test_no_other_installed_distribution_owns_our_names() -> None:
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    owners = importlib.metadata.packages_distributions()
    assert {owner for name in PACKAGES for owner in owners.get(name, [])} <= {ours}
