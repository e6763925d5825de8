"""The public surface is itself tested."""

import ast
import sys
from pathlib import Path

import hermes.runtime
from hermes.runtime import Actor

PACKAGE = Path(str(hermes.runtime.__file__)).parent


def test_everything_exported_exists_once():
    assert len(set(hermes.runtime.__all__)) == len(hermes.runtime.__all__)
    assert all(getattr(hermes.runtime, name, None) is not None for name in hermes.runtime.__all__)


def test_kernel_imports_the_standard_library_and_itself_only():
    for path in PACKAGE.glob("*.py"):  # not thespian/: the guests' base knows another library
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            else:
                continue
            for name in names:
                assert name.startswith("hermes.runtime") or name.split(".")[0] in sys.stdlib_module_names, path


def test_names_an_actor_may_not_use_are_few_and_known():
    """A new method of Actor can break a subclass that has an attribute of that name: add here on purpose."""
    assert {name for name in vars(Actor) if not name.startswith("_")} == {
        *("kind", "mailbox_limit", "trap_exits", "ref", "system", "trace_id"),
        *(
            "init",
            "handle",
            "handle_call",
            "handle_down",
            "handle_exit",
            "terminate",
            "unserved",
            "inspect",
            "log_facts",
        ),
        *("spawn", "spawn_link", "spawn_async", "link", "unlink", "monitor", "demonitor"),
        *("stop", "send_after", "hold_mailbox", "release_mailbox"),
    }
