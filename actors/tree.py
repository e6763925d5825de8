"""The tree: who is started by whom, in which order, and what happens when one ends. Read this first.

root                       rest_for_one: start order is dependency order; stop order its reverse
|- journal                 permanent: watches the group-commit writer and its database
|- guests                  one_for_one: guest/<name>, permanent; only where guests are set (docs/thespian.md)
|- carriers                one_for_one
|  |- providers            ProviderSupervisor, one_for_one: provider/<name>, permanent; added and removed live
|  `- smpp                 SMPPSupervisor, one_for_one: smpp/<name>, its dispatcher and its binds (smpp.py)
|- suppressions, router, dlr, mo  permanent
|- webhooks                simple_one_for_one, one per tenant
|- tenants                 one_for_one
|  `- tenant/<id>          TenantSupervisor, simple_one_for_one
|     `- cascade/<id>      temporary: a crash is journaled and resumed from the journal, with its own count
|- leases                  permanent: who holds which carrier with binds
|- errands                 permanent: what is for a message of another worker
|- waker                   permanent: brings cascades back from the journal
|- shards                  permanent: claims this worker's share of all messages, gives back what is more
`- gateway                 permanent: last to open, first to close
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from actors.context import CarrierPlan, Context
from actors.dlr import DLRProcessor
from actors.erasure import ErasureActor
from actors.errands import ErrandsActor
from actors.leases import Give, LeasesActor
from actors.mo import InboundActor
from actors.provider import ProviderActor
from actors.router import RouterActor
from actors.sharing import ShardsActor
from actors.smpp import INTENSITY as SMPP_INTENSITY
from actors.smpp import SMPPSupervisor, carrier_spec
from actors.suppression import SuppressionActor
from actors.tenant import TenantSupervisor
from actors.waker import WakerActor
from actors.webhook_supervisor import WebhookSupervisor
from hermes.runtime import Actor, Backoff, ChildSpec, Intensity, Strategy, Supervisor

# A carrier whose actor keeps failing is tried again more and more slowly, for ever: it must not take others down.
PROVIDER_BACKOFF: Final = Backoff(initial_s=0.2, factor=2.0, max_s=30.0, jitter=0.2, reset_after_s=60.0)
PROVIDER_INTENSITY: Final = Intensity(max_restarts=100, period_s=10.0)
# A guest costs its family a restart each time it fails; with these waits no supervisor gives up because of one.
GUEST_BACKOFF: Final = Backoff(initial_s=0.5, factor=2.0, max_s=60.0, jitter=0.2, reset_after_s=120.0)
TENANT_INTENSITY: Final = Intensity(max_restarts=50, period_s=10.0)
ROOT_INTENSITY: Final = Intensity(max_restarts=5, period_s=30.0)
STOP_S: Final = 10.0  # seconds a branch may take to end


class Root(Supervisor):
    """`root`: rest_for_one, because each child relies on those before it."""

    kind = "Root"


class CarriersSupervisor(Supervisor):
    """`carriers`: every way out, by kind of connection."""

    kind = "CarriersSupervisor"


class ProviderSupervisor(Supervisor):
    """`providers`: one permanent actor for each configured carrier."""

    kind = "ProviderSupervisor"


class GuestsSupervisor(Supervisor):
    """`guests`: the actors written for Thespian that were not put elsewhere."""

    kind = "GuestsSupervisor"


class TenantsSupervisor(Supervisor):
    """`tenants`: one supervisor for each tenant; a tenant that is created later is added."""

    kind = "TenantsSupervisor"

    def __init__(self, context: Context, guests: Sequence[ChildSpec] = ()) -> None:
        specs = [tenant_spec(context, tenant.id) for tenant in context.directory.tenants()]
        super().__init__(Strategy.ONE_FOR_ONE, [*guests, *specs], TENANT_INTENSITY)
        self._context = context

    def init(self) -> Any:
        """Start the tenants there are, and hear of new ones."""
        self._context.directory.on_tenant = self._on_tenant
        return super().init()

    def _on_tenant(self, tenant_id: str) -> None:
        if self.system.whereis("tenant/" + tenant_id) is None:
            self.add_child(tenant_spec(self._context, tenant_id))


def tenant_spec(context: Context, tenant_id: str) -> ChildSpec:
    """A tenant's supervisor. Permanent: what it was working on is resumed from the journal."""
    return ChildSpec("tenant/" + tenant_id, TenantSupervisor, (context, tenant_id), shutdown_s=STOP_S)


def place(context: Context, plan: CarrierPlan) -> tuple[str, ChildSpec]:
    """Say where a carrier stands: the name of its supervisor, and its child spec; `context.carriers` has its plan."""
    name = plan.carrier.name
    if plan.carrier.kind == "smpp":
        return "smpp", carrier_spec(context, plan)
    return "providers", ChildSpec(
        plan.actor, ProviderActor, (context, name), backoff=PROVIDER_BACKOFF, shutdown_s=STOP_S
    )


def root(
    context: Context,
    *,
    journal: Callable[[], Actor],
    gateway: Callable[[], Actor],
    hold: Callable[[str], Awaitable[None]],
    give: Give,
    workers: int = 1,
    guests: Mapping[str, Sequence[ChildSpec]] = MappingProxyType({}),
) -> Supervisor:
    """The whole tree.

    `journal` and `gateway` make the actors that only boot can wire, `hold` and `give` are the fleet's. `workers` is how
    many processes this node is to have. `guests` are actors written for Thespian, by the name of the
    supervisor that is to keep them.
    """
    places = [place(context, plan) for plan in context.carriers.values()]
    places += [(where, spec) for where, specs in guests.items() for spec in specs]
    providers = [spec for where, spec in places if where == "providers"]
    smpp = [spec for where, spec in places if where == "smpp"]
    carriers = [
        ChildSpec(
            "providers",
            ProviderSupervisor,
            (Strategy.ONE_FOR_ONE, providers, PROVIDER_INTENSITY),
            shutdown_s=STOP_S,
        ),
        ChildSpec("smpp", SMPPSupervisor, (Strategy.ONE_FOR_ONE, smpp, SMPP_INTENSITY), shutdown_s=STOP_S),
        *guests.get("carriers", ()),
    ]
    mounted = guests.get("guests", ())
    guests_spec = ChildSpec(
        "guests", GuestsSupervisor, (Strategy.ONE_FOR_ONE, mounted, PROVIDER_INTENSITY), shutdown_s=STOP_S
    )
    return Root(
        Strategy.REST_FOR_ONE,
        [
            ChildSpec("journal", journal, shutdown_s=STOP_S),
            *([guests_spec] if mounted else ()),
            ChildSpec(
                "carriers", CarriersSupervisor, (Strategy.ONE_FOR_ONE, carriers, PROVIDER_INTENSITY), shutdown_s=STOP_S
            ),
            ChildSpec("suppressions", SuppressionActor, (context,)),
            ChildSpec("router", RouterActor, (context,)),
            ChildSpec("dlr", DLRProcessor, (context,)),
            ChildSpec("mo", InboundActor, (context,)),
            ChildSpec("webhooks", WebhookSupervisor, (context,), shutdown_s=STOP_S),
            ChildSpec("tenants", TenantsSupervisor, (context, guests.get("tenants", ())), shutdown_s=STOP_S),
            ChildSpec("leases", LeasesActor, (context, hold, give, workers)),
            ChildSpec("errands", ErrandsActor, (context,)),
            ChildSpec("waker", WakerActor, (context,)),
            ChildSpec("shards", ShardsActor, (context, workers)),
            ChildSpec("erasures", ErasureActor, (context,)),
            ChildSpec("gateway", gateway, shutdown_s=STOP_S),
        ],
        ROOT_INTENSITY,
    )
