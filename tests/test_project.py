"""The project's own files agree with each other, and name no one's machine."""

import ast
import configparser
import importlib.metadata
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"]]
DEV = [Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]]

MACHINE = re.compile(
    r"--(?:(?:extra-)?index-url|trusted-host|find-links)"
    r'|"resolved":\s*"http'
    r"|pypi\.org|pythonhosted\.org|registry\.npmjs|deb\.debian"
    r"|(?<![\w.])/(?:root|home)/"
)


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.lstrip().startswith("#"))


def committed() -> list[Path]:
    git = ["git", "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.stdout.split("\0") if name)
    return [path for path in paths if path.is_file()]


def test_makefile_explains_the_targets_that_people_and_ci_call() -> None:
    explained = re.findall(r"^([a-z]+):.* ## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"run", "test", "quick", "lint", "bench", "lock", "clean", "help"} <= set(explained)


@pytest.mark.parametrize("wanted", RUNTIME + DEV, ids=lambda wanted: wanted.name)
def test_lock_pins_what_pyproject_asks_for(wanted: Requirement) -> None:
    assert wanted.specifier.contains(locked()[canonicalize_name(wanted.name)])


def test_npm_lock_pins_what_package_json_asks_for() -> None:
    wanted = json.loads((ROOT / "tests/npm/package.json").read_text())["dependencies"]
    packages = json.loads((ROOT / "tests/npm/package-lock.json").read_text())["packages"]
    assert wanted == {name: packages[f"node_modules/{name}"]["version"] for name in wanted}


def test_committed_files_name_no_package_host_and_no_folder_of_a_machine() -> None:
    found = []
    for path in committed():
        text = path.read_bytes().decode(errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in MACHINE.finditer(text)]
    assert found == []


def test_every_module_says_what_it_is_for() -> None:
    packages = (ROOT / name for name in ("hermes", "actors", "carriers", "gateway"))
    modules = (path for package in packages for path in package.rglob("*.py"))
    silent = [str(path) for path in modules if not ast.get_docstring(ast.parse(path.read_bytes()))]
    assert silent == []


def test_every_part_of_hermes_has_its_layer() -> None:
    layers = setup_cfg()["importlinter:contract:layers"]["layers"]
    inside = (ROOT / "hermes").glob("[!_]*")
    parts = {f"hermes.{path.stem}" for path in inside if path.is_dir() or path.suffix == ".py"}
    assert parts <= set(re.findall(r"[\w.]+", layers))


def test_kernel_contract_forbids_every_runtime_dependency() -> None:
    forbidden = set(setup_cfg()["importlinter:contract:kernel"]["forbidden_modules"].split())
    wanted = {canonicalize_name(requirement.name) for requirement in RUNTIME}
    allowed = {
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if wanted & {canonicalize_name(owner) for owner in owners} and not module.startswith("_")
    } - forbidden
    assert allowed == set()


def test_dockerfile_copies_what_exists_and_dockerignore_lets_through() -> None:
    dockerfile = (ROOT / "docker/Dockerfile").read_text()
    copied = set(" ".join(re.findall(r"^COPY (?!--)(.+) \S+$", dockerfile, re.MULTILINE)).split())
    let_through = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert copied == let_through
    assert {name for name in copied if not (ROOT / name).exists()} == set()


def test_compose_mounts_files_that_exist() -> None:
    compose = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (ROOT / "docker" / source).is_file()
