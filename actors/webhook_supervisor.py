"""Starts the actor of each tenant with something to deliver, again after a crash, and passes it the news.

The news come from the cascades (`context.webhook_due`, after the commit). Whoever has deliveries left from earlier,
the journal tells: at start, and every `LOOK_EVERY_S`. The delivering itself is `webhook.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from actors.background import Background
from actors.context import Context
from actors.webhook import LOOK_EVERY_S, Shared, Signal, WebhookActor, WebhooksDue
from actors.webhook_client import WebhookClient
from actors.webhook_results import ResultWriter
from hermes.domain.webhooks import ReplayDue
from hermes.journal.base import JournalError, OutboxEntry
from hermes.runtime import NORMAL, SHUTDOWN, Actor, ChildSpec, Ref, Restart, SendResult, Strategy, Supervisor

RESTART_S: Final = 5.0  # before the actor of a tenant is started again after a crash

_TICK: Final = Signal()  # to the supervisor: ask who has deliveries left


class _TenantsLeft:
    """To the supervisor, from itself: who has deliveries left in the outbox."""

    __slots__ = ("tenants",)

    def __init__(self, tenants: list[str]) -> None:
        self.tenants = tenants


class _Restart:
    """To the supervisor, from itself: a tenant's actor crashed a while ago."""

    __slots__ = ("tenant",)

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant


class WebhookSupervisor(Supervisor):
    """`webhooks`: simple_one_for_one over `webhook/<tenant id>`, started when there is something to deliver.

    They are temporary, because restart intensity is shared: one tenant's crash must not stop other tenants'.
    A crashed one is started again after `RESTART_S`, and reads its deliveries back from the outbox.
    """

    kind = "WebhookSupervisor"
    mailbox_limit = 10_000

    def __init__(self, context: Context, client: WebhookClient | None = None) -> None:
        super().__init__(
            Strategy.SIMPLE_ONE_FOR_ONE,
            [ChildSpec("webhook", self._make, restart=Restart.TEMPORARY)],
        )
        self._context = context
        self._client = client
        self._shared: Shared | None = None
        self._tasks: Background | None = None
        self._crashes = 0

    def init(self) -> Any:
        """Take the news of the cascades from now on, and ask the journal who has deliveries left."""
        context = self._context
        client = self._client or WebhookClient(context.clock, context.allow_private_callbacks)
        self._shared = Shared(client, ResultWriter(context, self.ref))
        self._tasks = Background(self.ref)
        self._tasks.run(self._ask_tenants())
        context.webhook_due = self.webhook_due
        return super().init()

    def webhook_due(self, tenant: str, message_id: str, entries: Sequence[OutboxEntry]) -> None:
        """Pass news on: `context.webhook_due`. What finds no room in a mailbox is found in the outbox."""
        due = WebhooksDue(tenant, message_id, entries)
        child = self.system.whereis("webhook/" + tenant)
        sent = SendResult.UNKNOWN if child is None else child.send(due)
        if sent is SendResult.FULL and self._shared is not None:
            self._shared.overflowed.add(tenant)
        elif sent:
            self.ref.send(due)

    def handle(self, message: Any) -> None:
        """Start the actor a message is for, and pass the message on."""
        kind = type(message)
        if kind is WebhooksDue or kind is ReplayDue:
            self._wake(message.tenant, message)
        elif kind is _TenantsLeft:
            for tenant in message.tenants:
                self._wake(tenant, None)
            self.send_after(LOOK_EVERY_S, _TICK)
        elif message is _TICK:
            assert self._tasks is not None
            self._tasks.run(self._ask_tenants())
        elif kind is _Restart:
            self._wake(message.tenant, None)
        else:
            raise TypeError(f"webhooks do not understand {kind.__name__}")

    def _wake(self, tenant: str, message: object | None) -> None:
        name = "webhook/" + tenant
        child = self.system.whereis(name)
        if child is None:
            self.start_child(tenant, name=name)  # reads the outbox first: the news are in it
        elif message is not None:
            child.send(message)  # one that is ending refuses it: the next tick finds the tenant in the outbox

    def _make(self, tenant: str) -> Actor:
        assert self._shared is not None
        return WebhookActor(self._context, self._shared, tenant)

    async def _ask_tenants(self) -> None:
        context = self._context
        try:
            tenants = await context.journal.outbox_tenants()
            context.webhooks_pending = await context.journal.outbox_pending() if tenants else 0
        except JournalError:
            tenants = []
        self.ref.send_system(_TenantsLeft(tenants))

    def child_ended(self, ref: Ref, reason: Any) -> None:
        """Start a crashed one again, a while later."""
        if reason is not NORMAL and reason is not SHUTDOWN:
            self._crashes += 1
            self.send_after(RESTART_S, _Restart((ref.name or "").removeprefix("webhook/")))

    async def terminate(self, reason: Any) -> None:
        """The children are gone: write their last results, close the connections."""
        if self._tasks is not None:
            self._tasks.cancel()
        if self._shared is not None:
            await self._shared.results.finish()
            await self._shared.client.close()

    def inspect(self) -> dict[str, Any]:
        """Count the tenants with something to deliver."""
        return {
            "tenants": self._shared.actors if self._shared is not None else 0,
            "results_to_write": len(self._shared.results) if self._shared is not None else 0,
            "crashes": self._crashes,
        }
