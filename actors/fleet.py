"""The carriers and routes there are: those of the settings file, and those an operator set while the node runs.

What the file says cannot be changed here. What was set live is in the journal, secrets encrypted, and comes back at
the next start. A change is checked, stored, then in force: a provider actor is started, told, or drained and removed,
and the routing table is replaced whole. Other workers are told, and come to the same.

Invariant: what a method has returned is stored and in force.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from actors.context import CarrierPlan, Context
from actors.messages import GO_ON, NotTaken, Release, Retire, UseCarrier
from actors.routes import Match, Route
from actors.routing import SANDBOX, Observed, RoutingTable
from carriers.base import Carrier
from carriers.registry import WrongSetting, find_kind, make_carrier
from hermes.domain.commands import Listed, Refused, SettingRefused
from hermes.domain.health import CarrierHealth
from hermes.domain.quality import Quality
from hermes.domain.rates import WrongDeck, read_deck
from hermes.errors import SettingsError
from hermes.journal.base import LOST, NEWS_LIVE, Journal, JournalError, LiveSetting
from hermes.journal.sealing import CannotUnseal, Sealer
from hermes.logs import get_logger
from hermes.runtime import (
    AddChild,
    CallTimeout,
    ChildSpec,
    Clock,
    NotAlive,
    Ref,
    RemoveChild,
    RuntimeFault,
    UnknownChild,
)
from hermes.settings import CarrierSettings, MatchSettings, RouteSettings, check_carrier, check_route

log = get_logger("hermes.fleet")

START_WITHIN_S: Final = 1.5  # a carrier opens without reaching its other side
RETRY_S: Final = 0.5  # to come to what another worker stored
RELEASE_S: Final = 10.0  # for a carrier's answers, before it goes to another worker; else it stays
LOG_OUT_S: Final = 12.0  # for an SMPP carrier's binds to take their answers and leave
DRAIN_S: Final = 610.0  # the longest `timeout_s` there is, and some

_TOLD: Final = re.compile(r"(?s)carrier '[^']*': (?P<key>[^:\s]+): (?P<why>.*)")
_COMMON: Final = frozenset(f.name for f in msgspec.structs.fields(CarrierSettings)) - {"options"}


@dataclass(slots=True, frozen=True)
class _Stored:
    """A carrier of the journal. `broken`: why its settings cannot be used; None: they can."""

    settings: CarrierSettings
    broken: str | None = None


class Fleet:
    """See the module docstring.

    Args:
        fixed: the plans of the settings' carriers that are enabled, in order, and the sandbox's.
        off: the settings' carriers with `enabled = false`.
        routes: the settings' routes.
        workers: how many processes of this node share a carrier's limits.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        sealer: Sealer,
        fixed: Mapping[str, CarrierPlan],
        off: Sequence[CarrierSettings] = (),
        routes: Sequence[RouteSettings] = (),
        workers: int = 1,
    ) -> None:
        self._workers = workers
        self._journal = journal
        self._clock = clock
        self._sealer = sealer
        self._fixed = tuple(fixed)
        self._off = {c.name: c for c in off}
        self._fixed_routes = tuple(routes)
        self._stored: dict[str, _Stored] = {}
        self._context: Context | None = None
        self._place: Callable[[CarrierPlan], tuple[str, ChildSpec]] | None = None
        self._changing = asyncio.Lock()
        self._stale = False
        self._refreshing = False
        self._background: set[asyncio.Task[None]] = set()
        self.plans: dict[str, CarrierPlan] = dict(fixed)
        self.health: dict[str, CarrierHealth] = {}
        self.full: set[str] = set()
        self.quality: dict[str, Quality] = {}
        self._observed = Observed(self.health, self.full, self.quality, clock.monotonic, clock.now)
        self._live_routes: list[RouteSettings] = []
        # Whose callbacks are taken: also of carriers that were removed, while the node runs.
        self.callbacks: dict[str, Carrier] = {name: plan.carrier for name, plan in fixed.items()}

    async def load(self) -> None:
        """Read what was set live; call once, before the tree starts."""
        for row in await self._journal.live_settings():
            if row.kind == "carrier":
                self._load_carrier(row)
            elif row.kind == "routes":
                self._live_routes = msgspec.json.decode(row.body, type=list[RouteSettings])

    def _load_carrier(self, row: LiveSetting) -> None:
        name = row.name
        if name in self.plans or name in self._off:
            log.warning("the settings file has a carrier of the same name; the stored one is not used", carrier=name)
            return
        stored, plan = self._read(row)
        self._stored[name] = stored
        if plan is not None and stored.settings.enabled:
            self.plans[name] = plan
            self.callbacks[name] = plan.carrier

    def _read(self, row: LiveSetting) -> tuple[_Stored, CarrierPlan | None]:
        """Read a carrier of the journal; no plan: its settings cannot be used."""
        common: dict[str, Any] = msgspec.json.decode(row.body)
        try:
            options = {} if row.sealed is None else self._sealer.unseal(row.name, row.sealed)
            settings = _checked({**common, **options})
            return _Stored(settings), self._plan(settings)
        except (CannotUnseal, SettingRefused, SettingsError) as exc:
            why = f"its settings cannot be used: {exc}"
            log.error("stored carrier is off", carrier=row.name, reason=why)
            return _Stored(msgspec.convert({**common, "options": {}}, CarrierSettings), why), None

    # --- what other workers change
    def _told(self, topic: str, detail: str) -> None:
        if topic in (NEWS_LIVE, LOST):
            self._stale = True
            if not self._refreshing:
                self._refreshing = True
                self._run(self._refresh())

    async def _refresh(self) -> None:
        """Come to what is stored, whoever stored it."""
        try:
            while self._stale:
                self._stale = False
                try:
                    async with self._changing:
                        await self._take(await self._journal.live_settings())
                except (JournalError, Refused):
                    self._stale = True  # the journal is away, or a carrier's actor is being restarted
                    await asyncio.sleep(RETRY_S)
        finally:
            self._refreshing = False

    async def _take(self, rows: Sequence[LiveSetting]) -> None:
        mine = {*self._fixed, *self._off}
        carriers = {row.name: row for row in rows if row.kind == "carrier" and row.name not in mine}
        for name in [name for name in self._stored if name not in carriers]:
            del self._stored[name]
            if name in self.plans:
                self._retire(name)
        for name, row in carriers.items():
            stored, plan = self._read(row)
            if self._stored.get(name) == stored:
                continue
            if plan is not None and stored.settings.enabled:
                try:
                    await self._start(stored.settings, plan)
                except SettingRefused as exc:
                    log.error("a carrier that another worker took cannot be used here", carrier=name, reason=str(exc))
                    stored = _Stored(stored.settings, str(exc))
            elif name in self.plans:
                self._retire(name)
            self._stored[name] = stored
        routes = next((row.body for row in rows if row.kind == "routes"), "[]")
        self._live_routes = msgspec.json.decode(routes, type=list[RouteSettings])
        self._route()

    def attach(self, context: Context, place: Callable[[CarrierPlan], tuple[str, ChildSpec]]) -> None:
        """Keep the tree and the routing table up to date; `place` says where a carrier stands (`tree.place`)."""
        self._context = context
        self._place = place
        self._journal.on_news(self._told)

    # --- looking
    def table(self) -> RoutingTable:
        """Make the routing table: a tenant's own live carriers first, then the file's in order, then the others."""
        own = [n for n, s in self._stored.items() if s.settings.tenant is not None]
        others = [n for n in self._stored if n not in own]
        names = [n for n in (*own, *self._fixed, *others) if n in self.plans and n != SANDBOX]
        entries = [self.plans[name].entry() for name in names]
        routes = [route(r) for r in self.routes()]
        return RoutingTable(entries, routes, self._observed)

    def routes(self) -> list[RouteSettings]:
        """List the routes in order, the first that matches a message decides: the live ones, then the file's."""
        return [*self._live_routes, *self._fixed_routes]

    def listed(self) -> list[Listed]:
        """List all carriers but the sandbox: those of the file in its order, then the stored ones."""
        found: list[Listed] = []
        for name in self._fixed:
            carrier = self.plans[name].carrier
            if name != SANDBOX:
                found.append(Listed(name, carrier.kind, carrier.channel, self.plans[name].tenant))
        off = [(s, "enabled = false") for s in self._off.values()]
        off += [
            (s.settings, s.broken or ("" if s.settings.enabled else "enabled = false")) for s in self._stored.values()
        ]
        return found + [Listed(s.name, s.kind, s.channel, s.tenant, why or None) for s, why in off]

    @property
    def empty(self) -> bool:
        """Whether nothing can be sent but by test keys: no carrier is there, or none is enabled."""
        return not any(name != SANDBOX for name in self.plans)

    @property
    def unset(self) -> bool:
        """Whether no carrier is meant to be used: not one that is off for want of its key, either."""
        return self.empty and not any(stored.settings.enabled for stored in self._stored.values())

    def default_success(self, channel: str, mode: str) -> str:
        """`submitted` where none of the channel's carriers gives receipts."""
        if mode != "live":
            return "delivered"
        success = "delivered"
        for name, plan in self.plans.items():
            if plan.carrier.channel == channel and name != SANDBOX:
                if plan.carrier.receipts:
                    return "delivered"
                success = "submitted"
        return success

    def secret(self, name: str) -> str | None:
        """A carrier's `secret`, for /v1/webhooks/dlr; None when it has none, or does not exist."""
        carrier = self.callbacks.get(name)
        return carrier.receipt_secret if carrier is not None else None

    # --- changing
    async def add(self, entry: Mapping[str, Any]) -> str:
        """Add a carrier, as `[[carrier]]` would; returns its name.

        Raises:
            SettingRefused: names the key and the reason; nothing was changed.
            JournalAway: nothing was changed.
        """
        settings = _checked(entry)
        name = settings.name
        async with self._changing:
            if any(name == known.name for known in self.listed()):
                raise SettingRefused("name", "a carrier has this name; change it with PUT, or choose another")
            plan = await self._make(settings)
            await self._start(settings, plan)
            try:
                await self._store(settings)
            except BaseException:
                if settings.enabled:
                    self._retire(name)
                raise
            self._stored[name] = _Stored(settings)
            self._route()
        return name

    async def change(self, name: str, entry: Mapping[str, Any]) -> None:
        """Replace the settings that `entry` names; the others stay as they are, secrets too.

        Raises:
            KeyError: there is no such carrier.
            SettingRefused: names the key and the reason; nothing was changed.
            JournalAway: nothing was changed.
        """
        async with self._changing:
            former = self._mine(name)
            if former.broken is None:
                for key in ("name", "kind", "channel"):
                    if entry.get(key, getattr(former.settings, key)) != getattr(former.settings, key):
                        raise SettingRefused(key, "cannot be changed; remove the carrier and add another")
            settings = _checked({**_entry(former.settings), **entry, "name": name})
            plan = await self._make(settings)
            await self._store(settings)
            try:
                if settings.enabled:
                    await self._start(settings, plan)
                elif name in self.plans:
                    self._retire(name)
            except BaseException:
                if former.broken is None:
                    await self._store(former.settings)
                raise
            self._stored[name] = _Stored(settings)
            self._route()

    async def remove(self, name: str) -> None:
        """Remove a carrier: what waits for it moves to others, calls under way end, late receipts are still taken.

        Raises:
            KeyError: there is no such carrier.
            SettingRefused: it is set in the file.
            JournalAway: nothing was changed.
        """
        async with self._changing:
            self._mine(name)
            await self._journal.delete_live_setting("carrier", name)
            del self._stored[name]
            if name in self.plans:
                self._retire(name)
            self._route()

    async def set_routes(self, entries: Sequence[Any]) -> None:
        """Replace the live routes, which are looked at before the file's; those equal to one of the file are left out.

        Raises:
            SettingRefused: names the route and the key and the reason; nothing was changed.
            JournalAway: nothing was changed.
        """
        channels = {carrier.name: carrier.channel for carrier in self.listed()}
        try:
            routes = [check_route(entry, f"data[{n}]", channels) for n, entry in enumerate(entries)]
        except ValueError as exc:
            key, _, why = str(exc).partition(": ")
            raise SettingRefused(key, why) from exc
        live = [r for r in routes if r not in self._fixed_routes]
        async with self._changing:
            body = msgspec.json.encode(live).decode()
            await self._journal.put_live_setting(LiveSetting("routes", "", body, self._clock.now()))
            self._live_routes = live
            self._route()

    async def close(self) -> None:
        """Stop what is still going on in the background; the tree has ended."""
        for task in list(self._background):
            task.cancel()
        for name, carrier in self.callbacks.items():
            if name not in self.plans:
                await carrier.close()

    # --- inside
    def _mine(self, name: str) -> _Stored:
        if name in self._off or (name in self._fixed and name != SANDBOX):
            raise SettingRefused("name", "this carrier is set in the settings file; change it there")
        return self._stored[name]

    async def _make(self, settings: CarrierSettings) -> CarrierPlan:
        """Make the plan, which checks the kind's own settings."""
        context = self._context
        tenant = settings.tenant
        if context is not None and tenant is not None and context.directory.tenant(tenant) is None:
            raise SettingRefused("tenant", "is no tenant")
        await asyncio.to_thread(find_kind, settings.kind)  # the first import of a kind may take a while
        return self._plan(settings)

    def _plan(self, settings: CarrierSettings) -> CarrierPlan:
        try:
            return plan_of(settings, self._clock, self._workers)
        except WrongSetting as exc:
            raise SettingRefused(exc.key, exc.why) from exc
        except SettingsError as exc:
            told = _TOLD.fullmatch(str(exc))
            raise SettingRefused(told["key"] if told else "kind", told["why"] if told else str(exc)) from exc

    async def _store(self, settings: CarrierSettings) -> None:
        common = {key: value for key, value in _entry(settings).items() if key in _COMMON}
        sealed = self._sealer.seal(settings.name, settings.options) if settings.options else None
        body = msgspec.json.encode(common).decode()
        await self._journal.put_live_setting(
            LiveSetting("carrier", settings.name, body, self._clock.now(), sealed),
        )

    async def _start(self, settings: CarrierSettings, plan: CarrierPlan) -> None:
        """Have an actor serve this plan from now on; nothing is routed to a new one yet.

        Raises:
            SettingRefused: it cannot be opened.
            JournalAway: nobody can say who holds it.
        """
        name, context = settings.name, self._context
        if context is None or not settings.enabled:
            return
        if plan.carrier.kind == "smpp" and name not in context.held:
            context.held.update(await self._journal.claim_carriers([name]))
        former = self.plans.get(name)
        self.plans[name] = plan
        try:
            running = context.system.whereis(plan.actor)
            if running is not None and plan.carrier.kind != "smpp":
                await running.call(UseCarrier(plan), timeout_s=START_WITHIN_S)
            elif running is not None or former is None:
                supervisor, spec = self._stands(context, plan)
                if running is not None:  # binds log out and are made anew
                    await supervisor.call(RemoveChild(spec.name), timeout_s=LOG_OUT_S)
                await supervisor.call(AddChild(spec), timeout_s=START_WITHIN_S)
        except RuntimeFault as exc:
            self._put_back(name, former)
            raise Refused("overloaded", "the carrier's actor could not be started now") from exc
        except Exception as exc:  # whatever its `open` raised; the caller is told
            self._put_back(name, former)
            raise SettingRefused("kind", f"the carrier cannot be opened: {type(exc).__name__}") from exc
        retired = self.callbacks.get(name)
        self.callbacks[name] = plan.carrier
        if running is None and retired is not None and former is None:  # one of this name was removed before
            plan.carrier.succeed(retired)
            await retired.close()

    async def hold(self, name: str) -> None:
        """Serve a carrier with binds that this worker holds from now on: its courier ends, its binds log in.

        Raises:
            RuntimeFault: not now; to be called again.
        """
        context = self._context
        assert context is not None
        async with self._changing:
            plan = self.plans.get(name)
            if plan is None:
                return
            context.held.add(name)
            try:
                supervisor, spec = self._stands(context, plan)
                with suppress(UnknownChild):  # an earlier try got so far
                    await supervisor.call(RemoveChild(spec.name), timeout_s=LOG_OUT_S)
                await supervisor.call(AddChild(spec), timeout_s=START_WITHIN_S)
            except RuntimeFault:
                context.held.discard(name)
                raise

    async def give(self, name: str, pass_on: Callable[[], Awaitable[bool]]) -> str | None:
        """Leave a carrier with binds to another worker, so that nothing is in doubt and nothing is asked elsewhere.

        Nothing new is begun and what was is answered; then the binds log out, a courier takes what waits, and `pass_on`
        names the new holder (False: it could not).

        Returns:
            Why the carrier stays; None: it went.

        Raises:
            RuntimeFault: it stays.
            JournalError: it went or stays.

        What stays and is not in `Context.held` any more is to be held again.
        """
        context = self._context
        assert context is not None
        plan = self.plans.get(name)
        if plan is None:
            return "it is not set any more"
        actors = (plan.actor, f"smpp/{name}/intake")
        context.leaving.add(name)
        try:
            stays = await self._release(context, actors)
            async with self._changing:
                if stays is None and self.plans.get(name) is not plan:
                    stays = "its settings were changed"
                if stays is None:
                    supervisor, spec = self._stands(context, plan)
                    context.held.discard(name)
                    await supervisor.call(RemoveChild(spec.name), timeout_s=LOG_OUT_S)
                    await supervisor.call(AddChild(spec), timeout_s=START_WITHIN_S)
        finally:
            context.leaving.discard(name)
            for actor in actors:
                context.system.send(actor, GO_ON)  # to a courier, too: it does not mind
            for job in context.kept.pop(name, ()):
                job.cascade.send_system(NotTaken(job))
        if stays is None and not await pass_on():
            return "the other worker is gone"
        return stays

    async def _release(self, context: Context, actors: Sequence[str]) -> str | None:
        """Have the carrier's actors let go of it; says why not."""
        end = self._clock.monotonic() + RELEASE_S
        for actor in actors:
            try:
                left = max(end - self._clock.monotonic(), 0.0)
                stays: str | None = await context.system.call(actor, Release(), timeout_s=left)
            except CallTimeout:
                return "not all of its answers came in time"
            except RuntimeFault as exc:
                return f"its actor did not answer: {exc}"
            if stays is not None:
                return stays
        return None

    def _put_back(self, name: str, former: CarrierPlan | None) -> None:
        if former is not None:
            self.plans[name] = former
        else:
            del self.plans[name]

    def _route(self) -> None:
        if self._context is not None:
            self._context.routes = self.table()

    def _retire(self, name: str) -> None:
        """Take a carrier out of service; its actor ends once the calls under way have."""
        plan = self.plans.pop(name)
        self._route()
        if self._context is not None:
            self._run(self._drained(self._context, name, plan))

    def _stands(self, context: Context, plan: CarrierPlan) -> tuple[Ref, ChildSpec]:
        assert self._place is not None
        name, spec = self._place(plan)
        supervisor = context.system.whereis(name)
        if supervisor is None:
            raise NotAlive(name)
        return supervisor, spec

    async def _drained(self, context: Context, name: str, plan: CarrierPlan) -> None:
        actor = context.system.whereis(plan.actor)
        with suppress(RuntimeFault):  # it crashed, or a call without a limit does not end: it is stopped all the same
            if actor is not None:
                await actor.call(Retire(), timeout_s=DRAIN_S)
        async with self._changing:
            if name in self.plans:
                return  # added again meanwhile: the same actor serves it
            try:
                supervisor, spec = self._stands(context, plan)
                await supervisor.call(RemoveChild(spec.name), timeout_s=DRAIN_S)
            except RuntimeFault as exc:
                log.warning("a removed carrier's actor did not end", carrier=name, error=type(exc).__name__)
            for known in (context.health, context.queues, context.quality):
                known.pop(name, None)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def plan_of(settings: CarrierSettings, clock: Clock, workers: int = 1) -> CarrierPlan:
    """Make the carrier that these settings describe, and the limits its actor keeps: its part, with several workers.

    Raises:
        SettingsError: names the carrier, the key and the reason.
    """
    try:
        deck = read_deck(settings.rates) if settings.rates is not None else None
    except WrongDeck as exc:
        raise WrongSetting(settings.name, "rates", str(exc)) from None
    if settings.kind == "smpp":
        workers = 1  # one of them holds the whole carrier
    options = {"timeout_s": settings.timeout_s, **settings.options}
    carrier = make_carrier(settings.kind, settings.name, settings.channel, options, clock=clock, cost=settings.cost)
    return CarrierPlan(
        carrier,
        max_in_flight=-(-settings.max_in_flight // workers),
        throughput_per_s=settings.throughput_per_s / workers,
        timeout_s=settings.timeout_s,
        on_ambiguous=settings.on_ambiguous,
        tenant=settings.tenant,
        weight=settings.weight,
        breaker_failures=settings.breaker_failures,
        breaker_open_s=settings.breaker_open_s,
        deck=deck,
    )


def route(settings: RouteSettings) -> Route:
    """What the settings say, as the router takes it."""
    m: MatchSettings = settings.match
    match = Match(
        tenant=frozenset(_texts(m.tenant)),
        prefix=tuple(_texts(m.prefix)),
        mcc=frozenset(_texts(m.mcc)),
        mnc=frozenset(_texts(m.mnc)),
        sender=frozenset(_texts(m.sender)),
        category=frozenset(_texts(m.category)),
        from_hour=m.from_hour,
        to_hour=m.to_hour,
    )
    carriers = tuple(settings.carriers)
    return Route(settings.channel, carriers, match, settings.strategy, settings.on_ambiguous, settings.sticky)


def _texts(value: str | int | Sequence[str | int]) -> Sequence[str]:
    return (str(value),) if isinstance(value, str | int) else [str(one) for one in value]


def _checked(entry: Mapping[str, Any]) -> CarrierSettings:
    """Read a carrier that came over the API; null means the same as leaving a key out."""
    settings, wrong = check_carrier({k: v for k, v in entry.items() if v is not None}, _plain)
    if settings is None:
        raise SettingRefused(*wrong[0])
    return settings


def _plain(value: Any) -> Any:
    """Refuse what would read the node's own variables and files for whoever calls the API."""
    if isinstance(value, str) and value.startswith(("env:", "file:")):
        raise ValueError("env: and file: are for the settings file; send the secret itself, it is kept encrypted")
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _entry(settings: CarrierSettings) -> dict[str, Any]:
    """Write settings as `[[carrier]]` would."""
    common = {f: getattr(settings, f) for f in settings.__struct_fields__ if f != "options"}
    return {key: value for key, value in common.items() if value is not None} | settings.options
