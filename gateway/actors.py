"""The tree of actors for operators: looking, and orders. With several workers, all of them are looked at and obey.

An actor on one worker is named `worker/<id>/<name>`; a plain name means the actors of that name on all workers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from gateway.decode import decode_json
from gateway.edge import Call, Edge, Reply
from gateway.operate import open_messages
from gateway.overview import level_names, level_number
from gateway.problems import Problem, invalid, not_found
from gateway.shapes import ActorView, LogLevelBody, LogLevels
from gateway.workers import actors as names
from gateway.workers.peers import ASK_WITHIN_S, ORDER_WITHIN_S, Told
from hermes import logs
from hermes.domain.message import rfc3339
from hermes.logs import get_logger
from hermes.runtime import (
    CallTimeout,
    ChildDisabled,
    DisableChild,
    EnableChild,
    NotAlive,
    Ref,
    RestartChild,
    RuntimeFault,
    System,
    UnknownChild,
)
from hermes.runtime.ref import Control

log = get_logger("hermes.operator")

OBEY_WITHIN_S: Final = 1.5  # an order to a supervisor; what takes longer goes on, and the answer shows how far it is
HELD: Final = frozenset({"root", "gateway"})  # what their end would cut off is the answer itself
CASCADE: Final = "cascade/"

Node = dict[str, Any]
T = TypeVar("T")
Act = Callable[[Call, str], Awaitable[Node]]  # on the actor of this name in this process

_log_level = msgspec.json.Decoder(LogLevelBody)


class Actors:
    """The handlers of /v1/actors and orders to them."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def actors(self, call: Call) -> Reply:
        """Show the whole tree: big families as a count and a first page; with several workers, a line for each."""
        others = await call.others()
        if not others:
            return call.reply(200, self._worker() if call.local else self._root())
        nodes = {self._edge.peers.own: self._worker()}
        for told in await self._edge.peers.ask_all(others, "GET", "/v1/actors"):
            nodes[told.worker.id] = told.read(dict) or names.worker_node(told.worker.id, None)
        rows = [row for row in await self._edge.peers.rows() if row.id in nodes]
        return call.reply(200, names.top([names.registered(nodes[row.id], row) for row in rows]))

    async def actor(self, call: Call) -> Reply:
        """Show one actor and what is below it. Names hold slashes, plain or as %2F."""
        if call.params["name"] == names.TOP:
            return await self.actors(call)
        return await self._each(call, self._look)

    async def suspend(self, call: Call) -> Reply:
        """Let an actor serve urgent mail only; the rest waits in its mailbox until it is resumed."""
        return await self._ordered(call, self._suspend)

    async def resume(self, call: Call) -> Reply:
        """Let a suspended actor take up its mailbox again."""
        return await self._ordered(call, self._resume)

    async def restart(self, call: Call) -> Reply:
        """Stop an actor and start it again; also starts one that is stopped, or that waits for its back-off."""
        return await self._ordered(call, self._restart)

    async def stop(self, call: Call) -> Reply:
        """Stop an actor and leave it down until it is restarted."""
        return await self._ordered(call, self._stop)

    async def log_level(self, call: Call) -> Reply:
        """Set the log level of an actor and all below it, over restarts; null takes it back."""
        raw = await call.json_body(self._edge.settings.server.max_body_bytes)
        asked = decode_json(_log_level, raw)

        async def act(call: Call, name: str) -> Node:
            return {"levels": self._set_level(call, name, asked.level)}

        done = await self._everywhere(call, act, raw, ORDER_WITHIN_S)
        if isinstance(done, Reply):
            return done
        parts = [(worker, found["levels"]) for worker, found in done]
        if names.split(call.params["name"])[0] is not None and not call.local:  # of the one worker that was named
            levels = {names.joined(worker, name): level for worker, own in parts for name, level in own.items()}
        else:
            levels = names.levels(parts)
        return call.reply(200, LogLevels(levels))

    # --- over all workers
    async def _ordered(self, call: Call, act: Act) -> Reply:
        await call.no_body(self._edge.settings.server.max_body_bytes)
        return await self._each(call, act, ORDER_WITHIN_S)

    async def _each(self, call: Call, act: Act, within_s: float = ASK_WITHIN_S) -> Reply:
        """Act on an actor wherever it is, and show it."""
        found = await self._everywhere(call, act, b"", within_s)
        if isinstance(found, Reply):
            return found
        if len(found) == 1:
            return call.reply(200, found[0][1])
        return call.reply(200, names.family(call.params["name"], [node for _, node in found]))

    async def _everywhere(
        self, call: Call, act: Act, body: bytes, within_s: float
    ) -> Sequence[tuple[str, Node]] | Reply:
        """Act on the actor that the path names, on the worker it names or on all that have one.

        Returns:
            What each that has one shows, by its worker; or a refusal of another worker, to be handed on.

        Raises:
            Problem: not_found: nobody has one; overloaded: nobody has one, but not all were heard; what `act` raises.
        """
        own = self._edge.peers.own
        worker, name = names.split(call.params["name"])
        others = await call.others()
        if worker is not None and worker != own:
            chosen = [row for row in others if row.id == worker]
            if not chosen:
                raise not_found("worker")
            return self._sole(call, await self._edge.peers.ask(chosen[0], *_request(call), body, within_s))
        if worker == own or not others:
            node = await act(call, name)
            if call.local or worker is not None:
                _name(node, own)
            return [(own, node)]
        asked = self._edge.peers.ask_all(others, *_request(call), body, within_s)
        return await self._joined(call, act, name, asked)

    async def _joined(
        self, call: Call, act: Act, name: str, asked: Awaitable[list[Told]]
    ) -> Sequence[tuple[str, Node]] | Reply:
        found: list[tuple[str, Node]] = []
        problem: Problem | None = None
        task = asyncio.ensure_future(asked)
        try:
            node = await act(call, name)
            _name(node, self._edge.peers.own)
            found.append((self._edge.peers.own, node))
        except Problem as exc:
            problem = exc
        finally:
            told = await task
        for one in told:
            other = one.read(dict)
            if other is not None:
                found.append((one.worker.id, other))
        if problem is not None and problem.code != "not_found":
            raise problem
        for one in told:
            if one.status not in (0, 200, 404):
                return _handed_on(call, one)
        if found:
            return sorted(found, key=lambda each: each[0])
        if any(one.status == 0 for one in told):
            raise Problem("overloaded", "No worker that answers has this actor, and not all answer now.")
        raise not_found("actor")

    def _sole(self, call: Call, told: Told) -> Sequence[tuple[str, Node]] | Reply:
        node = told.read(dict)
        if node is not None:
            return [(told.worker.id, node)]
        if told.status in (0, 200):
            raise Problem("overloaded", "This worker does not answer now.")
        return _handed_on(call, told)

    # --- in this process
    def _root(self) -> Node:
        system = self._edge.system
        return _shown(system.tree("root" if system.whereis("root") is not None else None))

    def _worker(self) -> Node:
        """Show this worker as a line of the tree of several."""
        own = self._edge.peers.own
        return names.worker_node(own, names.named(self._root(), own), open_messages(self._edge.metrics))

    async def _look(self, call: Call, name: str) -> Node:
        if not name:  # `worker/<id>`
            return self._worker()
        try:
            return _shown(self._edge.system.tree(name))
        except NotAlive as exc:
            raise not_found("actor") from exc

    async def _suspend(self, call: Call, name: str) -> Node:
        self._known(call, "suspend", name).suspend()
        return self._now(name)

    async def _resume(self, call: Call, name: str) -> Node:
        self._known(call, "resume", name).resume()
        return self._now(name)

    async def _restart(self, call: Call, name: str) -> Node:
        supervisor = self._supervised(call, "restart", name)
        if supervisor is None:
            _kill_cascade(self._edge.system, name)
            return self._now(name)
        try:
            await supervisor.call(RestartChild(name), timeout_s=OBEY_WITHIN_S)
        except ChildDisabled:
            await self._obeyed(supervisor, EnableChild(name))
        except UnknownChild:
            _kill_cascade(self._edge.system, name)
        except Exception as exc:  # the caller sees in the answer how the actor is now
            log.warning("restart by an operator is not done", actor=name, error=type(exc).__name__)
        return self._now(name)

    async def _stop(self, call: Call, name: str) -> Node:
        supervisor = self._supervised(call, "stop", name)
        if supervisor is None or name.startswith(CASCADE):
            raise invalid("name", "is no actor that could be started again; a message is stopped with its cancel")
        await self._obeyed(supervisor, DisableChild(name))
        return self._now(name)

    def _set_level(self, call: Call, name: str, level: str | None) -> dict[str, str]:
        system = self._edge.system
        if system.whereis(name) is None:
            raise not_found("actor")
        system.set_log_level(name, level_number(level))
        levels = system.log_levels()
        logs.allow(levels.values())
        log.warning("log level set by an operator", target=name, to=level, request_id=call.request_id)
        return level_names(levels)

    def _known(self, call: Call, order: str, name: str) -> Ref:
        """Find whom an order is for, and note it in the log.

        Raises:
            Problem: not_found.
        """
        ref = self._edge.system.whereis(name)
        if ref is None:
            raise not_found("actor")
        log.warning("order of an operator", order=order, actor=name, request_id=call.request_id)
        return ref

    def _supervised(self, call: Call, order: str, name: str) -> Ref | None:
        """Find the supervisor of an actor, running or not; None: nobody would start it again."""
        system = self._edge.system
        supervisor = system.supervisor_of(name)
        if supervisor is None and system.whereis(name) is None:
            raise not_found("actor")
        if name in HELD:
            raise invalid("name", "holds this very connection: stop the process instead (SIGTERM)")
        log.warning("order of an operator", order=order, actor=name, request_id=call.request_id)
        return supervisor

    async def _obeyed(self, supervisor: Ref, order: Control) -> None:
        """Have a supervisor carry out an order; one that takes long is under way, as the answer shows.

        Raises:
            Problem: invalid (no such child to it), overloaded.
        """
        try:
            await supervisor.call(order, timeout_s=OBEY_WITHIN_S)
        except CallTimeout:
            return
        except UnknownChild as exc:
            raise invalid("name", "is no actor that its supervisor could start again") from exc
        except RuntimeFault as exc:
            raise Problem("overloaded", "The actor's supervisor does not answer now.") from exc

    def _now(self, name: str) -> Node:
        try:
            return _shown(self._edge.system.tree(name))
        except NotAlive:  # a message's actor that is brought back from the journal in a moment
            gone: Node = msgspec.to_builtins(ActorView(name, "", "down", None, 0, 0, 0.0, 0, None, {}, [], 0))
            return gone


def _kill_cascade(system: System, name: str) -> None:
    """End a message's actor; it is brought back from the journal, and the crash is counted there.

    Raises:
        Problem: invalid: it is no cascade, so nobody would bring it back.
    """
    ref = system.whereis(name)
    if ref is None or not name.startswith(CASCADE):
        raise invalid("name", "is no actor that its supervisor could start again")
    ref.kill()


def _shown(node: dict[str, Any]) -> dict[str, Any]:
    """Write times as the contract does. Changes the node in place: the kernel made it for us."""
    since = node.get("since")
    if since is not None:
        node["since"] = rfc3339(since)
    for child in node["children"]:
        _shown(child)
    return node


def _name(node: Node, worker: str) -> None:
    if "name" in node and node["kind"] != "Worker":  # levels are none
        names.named(node, worker)


def _request(call: Call) -> tuple[str, str]:
    return call.method, call.request.raw_path


def _handed_on(call: Call, told: Told) -> Reply:
    """Answer with another worker's refusal."""
    return Reply(told.status, told.body, call.request_id, content_type="application/problem+json")
