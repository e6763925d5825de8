"""What operators and monitors look at: actors, workers, health, metrics."""

from __future__ import annotations

import hmac
from typing import Any, Final

import msgspec

from gateway.auth import bearer_token, is_operator_key
from gateway.decode import decode_json
from gateway.edge import Call, Edge, Reply, reading
from gateway.overview import level_names, level_number
from gateway.problems import Problem, invalid, not_found
from gateway.shapes import ActorView, Health, LogLevelBody, LogLevels, Nothing, WorkerPage, WorkerView
from hermes import logs
from hermes.domain.message import rfc3339
from hermes.logs import get_logger
from hermes.metrics import CONTENT_TYPE
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

ORDER_WITHIN_S: Final = 1.5  # an order to a supervisor; what takes longer goes on, and the answer shows how far it is
HELD: Final = frozenset({"root", "gateway"})  # what their end would cut off is the answer itself
CASCADE: Final = "cascade/"

_nothing = msgspec.json.Decoder(Nothing)
_log_level = msgspec.json.Decoder(LogLevelBody)


class Operate:
    """The handlers of /v1/actors and orders to them, /v1/workers, /livez, /readyz and /metrics."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def actors(self, call: Call) -> Reply:
        """Show the whole tree: big families as a count and a first page."""
        system = self._edge.system
        return call.reply(200, _shown(system.tree("root" if system.whereis("root") is not None else None)))

    async def actor(self, call: Call) -> Reply:
        """Show one actor and what is below it. Names hold slashes, plain or as %2F."""
        try:
            tree = self._edge.system.tree(call.params["name"])
        except NotAlive as exc:
            raise not_found("actor") from exc
        return call.reply(200, _shown(tree))

    async def suspend(self, call: Call) -> Reply:
        """Let an actor serve urgent mail only; the rest waits in its mailbox until it is resumed."""
        ref = await self._ordered(call, "suspend")
        ref.suspend()
        return self._answer(call)

    async def resume(self, call: Call) -> Reply:
        """Let a suspended actor take up its mailbox again."""
        ref = await self._ordered(call, "resume")
        ref.resume()
        return self._answer(call)

    async def restart(self, call: Call) -> Reply:
        """Stop an actor and start it again; also starts one that is stopped, or that waits for its back-off."""
        name, supervisor = await self._supervised(call, "restart")
        if supervisor is None:
            _kill_cascade(self._edge.system, name)
            return self._answer(call)
        try:
            await supervisor.call(RestartChild(name), timeout_s=ORDER_WITHIN_S)
        except ChildDisabled:
            await self._obeyed(supervisor, EnableChild(name))
        except UnknownChild:
            _kill_cascade(self._edge.system, name)
        except Exception as exc:  # the caller sees in the answer how the actor is now
            log.warning("restart by an operator is not done", actor=name, error=type(exc).__name__)
        return self._answer(call)

    async def stop(self, call: Call) -> Reply:
        """Stop an actor and leave it down until it is restarted."""
        name, supervisor = await self._supervised(call, "stop")
        if supervisor is None or name.startswith(CASCADE):
            raise invalid("name", "is no actor that could be started again; a message is stopped with its cancel")
        await self._obeyed(supervisor, DisableChild(name))
        return self._answer(call)

    async def log_level(self, call: Call) -> Reply:
        """Set the log level of an actor and all below it, over restarts; null takes it back."""
        raw = await call.json_body(self._edge.settings.server.max_body_bytes)
        asked = decode_json(_log_level, raw)
        system, name = self._edge.system, call.params["name"]
        if system.whereis(name) is None:
            raise not_found("actor")
        system.set_log_level(name, level_number(asked.level))
        levels = system.log_levels()
        logs.allow(levels.values())
        log.warning("log level set by an operator", target=name, to=asked.level, request_id=call.request_id)
        return call.reply(200, LogLevels(level_names(levels)))

    async def workers(self, call: Call) -> Reply:
        """List living workers, and dead ones of the last day."""
        journal = self._edge.journal
        rows = await reading(journal.workers(), 0.9)
        living = [row for row in rows if not row.dead]
        # The journal counts open messages over all shards: with one worker they are all its own.
        open_ = await reading(journal.count_open(), 0.9) if len(living) == 1 else None
        workers = [
            WorkerView(
                row.id,
                row.pid,
                rfc3339(row.started_at),
                "dead" if row.dead else "alive",
                row.shards,
                0 if row.dead else open_,
                rfc3339(row.lease_until),
            )
            for row in rows
        ]
        return call.reply(200, WorkerPage(workers, None))

    async def livez(self, call: Call) -> Reply:
        """Say that the process answers."""
        return call.reply(200, Health())

    async def readyz(self, call: Call) -> Reply:
        """Say whether messages can be accepted now. Depends on no carrier."""
        if self._edge.ready():
            return call.reply(200, Health())
        if self._edge.journal.available:
            raise Problem("overloaded", "Messages cannot be accepted now: starting or stopping.")
        raise Problem("journal_away", "Messages cannot be accepted now: the database is away.")

    async def metrics(self, call: Call) -> Reply:
        """Show the metrics, in Prometheus' text format."""
        wanted = self._edge.settings.server.metrics_key
        if wanted is not None:
            token = bearer_token(call.request)
            if token is None or not (
                hmac.compare_digest(token.encode(), wanted.encode()) or is_operator_key(self._edge, token)
            ):
                raise Problem(
                    "unauthenticated",
                    "Send the metrics key as a bearer token.",
                    headers='WWW-Authenticate: Bearer realm="hermes metrics"\r\n',
                )
        return Reply(200, self._edge.metrics.render(), call.request_id, content_type=CONTENT_TYPE)

    # --- inside
    async def _ordered(self, call: Call, order: str) -> Ref:
        """Find whom an order is for, and note it in the log.

        Raises:
            Problem: not_found, or what is wrong with the body.
        """
        await self._no_body(call)
        name = call.params["name"]
        ref = self._edge.system.whereis(name)
        if ref is None:
            raise not_found("actor")
        log.warning("order of an operator", order=order, actor=name, request_id=call.request_id)
        return ref

    async def _supervised(self, call: Call, order: str) -> tuple[str, Ref | None]:
        """Find an actor, running or not, and its supervisor; None: nobody would start it again."""
        await self._no_body(call)
        name = call.params["name"]
        system = self._edge.system
        supervisor = system.supervisor_of(name)
        if supervisor is None and system.whereis(name) is None:
            raise not_found("actor")
        if name in HELD:
            raise invalid("name", "holds this very connection: stop the process instead (SIGTERM)")
        log.warning("order of an operator", order=order, actor=name, request_id=call.request_id)
        return name, supervisor

    async def _no_body(self, call: Call) -> None:
        raw = await call.optional_body(self._edge.settings.server.max_body_bytes)
        if raw:
            decode_json(_nothing, raw)

    async def _obeyed(self, supervisor: Ref, order: Control) -> None:
        """Have a supervisor carry out an order; one that takes long is under way, as the answer shows.

        Raises:
            Problem: invalid (no such child to it), overloaded.
        """
        try:
            await supervisor.call(order, timeout_s=ORDER_WITHIN_S)
        except CallTimeout:
            return
        except UnknownChild as exc:
            raise invalid("name", "is no actor that its supervisor could start again") from exc
        except RuntimeFault as exc:
            raise Problem("overloaded", "The actor's supervisor does not answer now.") from exc

    def _answer(self, call: Call) -> Reply:
        name = call.params["name"]
        try:
            return call.reply(200, _shown(self._edge.system.tree(name)))
        except NotAlive:  # a message's actor that is brought back from the journal in a moment
            return call.reply(200, ActorView(name, "", "down", None, 0, 0, 0.0, 0, None, {}, [], 0))


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
