"""Collects the test modules that Thespian's wheel ships and runs them, unchanged, against our system base.

`unfit.toml` lists the tests that cannot pass, each with its reason; a test that is not listed has to pass, and a
listed one must not. Those whose own clock is too short for a busy machine have to pass in one of a few tries.
"""

import tomllib
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path

import pytest
import thespian.test
from thespian.actors import ActorSystem

from hermes.runtime.thespian import SystemBase

SHIPPED = Path(str(thespian.test.__file__)).parent
UNFIT = Path(__file__).with_name("unfit.toml")
TRIES = 5  # of a test that a clock of its own decides
CAPABILITIES = {"Foo Allowed": True, "Cows Allowed": True, "Dogs Allowed": True, "dog": "food"}  # thespian.test.asys


def make_system(capabilities):
    system = ActorSystem(SystemBase(capabilities=capabilities), dict(capabilities), transientUnique=True)
    system.base_name = "hermes"
    system.port_num = None
    system.txonly = False
    return system


@pytest.fixture
def asys(request, monkeypatch):
    """Stand in for `thespian.test.asys`, which starts a system on each of Thespian's own bases."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # test_runcommand counts on what a killed child never wrote
    system = make_system(CAPABILITIES)
    request.addfinalizer(system.shutdown)
    return system


def similar_asys(asys, in_convention=True, start_wait=True, capabilities=None):
    """Stand in for `thespian.test.similar_asys`: a second system, which here joins no convention."""
    return make_system(capabilities or {})


def refuse(*args, **options):
    raise RuntimeError("one of Thespian's network bases was asked for")


thespian.test.asys = asys
thespian.test.similar_asys = similar_asys
for name in ("multiprocTCPBase", "multiprocUDPBase", "multiprocQueueBase"):
    import_module("thespian.system." + name).ActorSystemBase.__init__ = refuse


class ShippedTests(pytest.File):
    """`unfit.toml`, collected as the modules it is about."""

    def collect(self):
        for path in sorted(SHIPPED.glob("test_*.py")):
            yield pytest.Module.from_parent(self, path=path)


def pytest_collect_file(file_path, parent):
    return ShippedTests.from_parent(parent, path=file_path) if file_path == UNFIT else None


def pytest_collection_modifyitems(items):
    listed = tomllib.loads(UNFIT.read_text())
    marks = [(pytest.mark.xfail(reason=e["reason"], strict=True), e["tests"]) for e in listed["unfit"]]
    marks += [(pytest.mark.flaky(reruns=TRIES - 1), e["tests"]) for e in listed["timed"]]
    shipped = [item for item in items if item.path.is_relative_to(SHIPPED)]
    for item in shipped:
        item.add_marker(pytest.mark.slow)
        module = item.path.name
        name = module + item.nodeid.partition(module)[2]  # what stands before it depends on where the wheel lies
        for mark, patterns in marks:
            if any(fnmatch(name, pattern) for pattern in patterns):
                item.add_marker(mark)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A shipped test that skips itself has not passed: it has to be listed too."""
    report = yield
    unlisted = item.path.is_relative_to(SHIPPED) and item.get_closest_marker("xfail") is None
    if report.skipped and unlisted:
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skipped itself and is not in unfit.toml"
    return report
