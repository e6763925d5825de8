"""Actors of several workers: how they are named, and how the trees become one. Pure.

With one worker an actor's name is its own. With more, the tree's top is `workers`, below it is a line `worker/<id>` for
each, and an actor is `worker/<id>/<name>`. A name without a worker means the actors of that name on all workers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from hermes.domain.message import rfc3339
from hermes.journal.base import WorkerRow

TOP: Final = "workers"
PREFIX: Final = "worker/"

# Of equal actors, the family is in the state of the one that is worst off: the first of these that one is in.
_WORST: Final = (
    "unreachable",
    "starting",
    "terminated",
    "down",
    "back_off",
    "disabled",
    "suspended",
    "init",
    "wait",
    "running",
)

Node = dict[str, Any]


def split(name: str) -> tuple[str | None, str]:
    """Say of which worker a name speaks, None for none, and the actor's own name, empty for the worker itself."""
    if not name.startswith(PREFIX):
        return None, name
    worker, _, rest = name[len(PREFIX) :].partition("/")
    return worker, rest


def joined(worker: str, name: str) -> str:
    """Name an actor of one worker among several."""
    return f"{PREFIX}{worker}/{name}"


def named(node: Node, worker: str) -> Node:
    """Name a family as that of one worker among several. Changes the node in place."""
    node["name"] = joined(worker, node["name"])
    for child in node["children"]:
        named(child, worker)
    return node


def worker_node(worker: str, tree: Node | None, open_: int | None = None) -> Node:
    """Make a worker's line in the tree.

    Args:
        worker: its id.
        tree: its own, named already; None: it does not answer.
        open_: its messages without a final status; None: nobody knows.
    """
    trees = [] if tree is None else [tree]
    node = _sum(PREFIX + worker, "Worker", trees)
    if tree is None:
        node["state"] = "unreachable"
    node |= {"restarts": 0, "detail": {"open": open_}, "children": trees, "children_total": len(trees)}
    return node


def registered(node: Node, row: WorkerRow) -> Node:
    """Add to a worker's line what the database says of it. Changes the node in place."""
    if node["state"] == "unreachable" and row.control is None:
        node["state"] = "starting"  # it has not opened yet
    node["since"] = rfc3339(row.started_at)
    node["detail"] = {
        "pid": row.pid,
        "host": row.host.partition(" ")[0],
        "shards": row.shards,
        "lease_until": rfc3339(row.lease_until),
        **node["detail"],
    }
    return node


def top(workers: Sequence[Node]) -> Node:
    """Make the root of several workers' trees."""
    node = _sum(TOP, "Workers", workers)
    node |= {"children": list(workers), "children_total": len(workers)}
    return node


def family(name: str, nodes: Sequence[Node]) -> Node:
    """Show the actors of one name on several workers as one, with each of them below it."""
    node = _sum(name, nodes[0]["kind"], nodes)
    node |= {"children": list(nodes), "children_total": len(nodes)}
    return node


def _sum(name: str, kind: str, nodes: Sequence[Node]) -> Node:
    states = {node["state"] for node in nodes}
    worst = next((state for state in _WORST if state in states), "sleep")
    return {
        "name": name,
        "kind": kind,
        "state": worst,
        "since": min((node["since"] for node in nodes if node["since"]), default=None),
        "restarts": sum(node["restarts"] for node in nodes),
        "mailbox": sum(node["mailbox"] for node in nodes),
        "uptime_s": max((node["uptime_s"] for node in nodes), default=0.0),
        "messages_in": sum(node["messages_in"] for node in nodes),
        "last_error": next((node["last_error"] for node in nodes if node["last_error"]), None),
        "detail": {},
        "children": [],
        "children_total": 0,
    }


def levels(parts: Sequence[tuple[str, Mapping[str, str]]]) -> dict[str, str]:
    """Join the log levels of workers: under the actor's own name where all that have one agree, else under each's."""
    found: dict[str, dict[str, str]] = {}
    for worker, own in parts:
        for name, level in own.items():
            found.setdefault(name, {})[worker] = level
    shown: dict[str, str] = {}
    for name, by_worker in found.items():
        if len(set(by_worker.values())) == 1 and len(by_worker) == len(parts):
            shown[name] = next(iter(by_worker.values()))
        else:
            shown |= {joined(worker, name): level for worker, level in by_worker.items()}
    return shown
