"""SMPP carriers: their supervisors, and the dispatcher that feeds their binds.

smpp                             SMPPSupervisor, one_for_one
`- smpp/<carrier>                CarrierSupervisor, one_for_one
   |- smpp/<carrier>/intake      what other workers have for the carrier
   |- smpp/<carrier>/dispatcher  the carrier's queue, its pace, its answers
   `- smpp/<carrier>/connection/<n>

Of several workers one holds the carrier (leases.py) and has these; on the others the dispatcher's place is a courier's.

A message leaves the queue when a bind has a free place in its window, and both buckets (bind, account) a token. All its
parts go by one bind, in order. What a carrier throttled goes back to the front; what was in a window when a connection
was lost is in doubt, and everything else certainly was not sent.
"""

from __future__ import annotations

from dataclasses import replace
from heapq import heappop, heappush
from typing import Any, Final

from actors.carrier import CarrierActor
from actors.context import CarrierPlan, Context
from actors.courier import CourierActor
from actors.handover import Desk
from actors.intake import IntakeActor
from actors.messages import CancelSubmitted, ChooseAgain, GoOn, Job, NotTaken, Release
from actors.shipment import Shipment
from actors.smpp_connection import ConnectionActor, Line
from carriers.base import SendError, SendResult
from carriers.smpp.session import Answered
from carriers.smpp_carrier import SmppCarrier
from hermes.runtime import NO_REPLY, Backoff, ChildSpec, Intensity, Reply, Strategy, Supervisor

CONNECTION_BACKOFF: Final = Backoff(initial_s=0.2, factor=2.0, max_s=30.0, jitter=0.2, reset_after_s=60.0)
INTENSITY: Final = Intensity(max_restarts=100, period_s=10.0)
STOP_S: Final = 10.0
LOOK_AGAIN_S: Final = 0.5  # whether the lease was extended, while the database does not answer
AWAY_AFTER_S: Final = 1.0  # without a bind, before the carrier counts as down


class SMPPSupervisor(Supervisor):
    """`smpp`: one supervisor for each SMPP carrier."""

    kind = "SMPPSupervisor"


class CarrierSupervisor(Supervisor):
    """`smpp/<carrier>`: its dispatcher and its binds. A bug in one of them leaves the others as they are.

    Where another worker holds the carrier: its courier.
    """

    kind = "CarrierSupervisor"

    def __init__(self, context: Context, name: str) -> None:
        plan = context.carriers[name]
        carrier = plan.carrier
        assert isinstance(carrier, SmppCarrier)
        self._line: Line | None = None
        if name not in context.held:
            courier = ChildSpec(plan.actor, CourierActor, (context, name), shutdown_s=STOP_S)
            super().__init__(Strategy.ONE_FOR_ONE, [courier], INTENSITY)
            return
        self._line = line = Line(context, carrier, plan.throughput_per_s)
        modes = ("transmitter", "receiver") if carrier.settings.bind == "pair" else ("transceiver",)
        binds = [mode for _ in range(carrier.settings.binds) for mode in modes]
        desk = Desk(name)
        specs = [
            ChildSpec(f"smpp/{name}/intake", IntakeActor, (context, name, plan.actor, desk), shutdown_s=STOP_S),
            ChildSpec(plan.actor, SMPPDispatcher, (context, name, line), shutdown_s=STOP_S),
        ]
        specs += [
            ChildSpec(
                f"smpp/{name}/connection/{n}",
                ConnectionActor,
                (context, line, n, mode),
                backoff=CONNECTION_BACKOFF,
                shutdown_s=STOP_S,
            )
            for n, mode in enumerate(binds, 1)
        ]
        super().__init__(Strategy.ONE_FOR_ONE, specs, INTENSITY)

    def terminate(self, reason: Any) -> None:
        """Leave the parts of messages from handsets to whoever serves the carrier next."""
        if self._line is not None:
            self._line.inbound.close()


def carrier_spec(context: Context, plan: CarrierPlan) -> ChildSpec:
    """An SMPP carrier's supervisor."""
    return ChildSpec("smpp/" + plan.carrier.name, CarrierSupervisor, (context, plan.carrier.name), shutdown_s=STOP_S)


class _LookAway:
    """To itself: is there still no bind?"""

    __slots__ = ()


class SMPPDispatcher(CarrierActor):
    """`smpp/<carrier>/dispatcher`: gives messages to binds as these have room.

    Args:
        line: what it shares with the binds.
    """

    kind = "Dispatcher"

    def __init__(self, context: Context, name: str, line: Line) -> None:
        super().__init__(context, name)
        self._line = line
        self._smpp = line.carrier
        self._again: list[Shipment] = []  # a heap: not sent or throttled, to go before what is queued
        self._order = 0
        self._looking_away = False
        self._no_bind_since: float | None = None  # monotonic
        self._releasing: list[Reply] = []
        self._released = False  # nothing is in the carrier's hands, and the binds may log out

    def init(self) -> None:
        """Take over the binds there are, and the answers that waited."""
        self._context.queues[self._name] = self._queue
        self._line.dispatcher = self
        held, self._line.held = self._line.held, []
        for connection, answer in held:
            self.answered(connection, answer)
        self.binds_changed()
        self._take_kept()

    def handle(self, message: Any) -> None:
        """Look whether the carrier is away, or take what every carrier takes."""
        kind = type(message)
        if kind is _LookAway:
            self._looking_away = False
            self._look_for_binds()
        elif kind is GoOn:
            self._releasing.clear()
            self._released = False
            self.binds_changed()
        else:
            super().handle(message)

    # --- room -----------------------------------------------------------------------------------------------------

    def _bind_with_room(self) -> ConnectionActor | None:
        """Choose the bind for a new message: of those that may send now, the one with most room (behaviour 45)."""
        best: ConnectionActor | None = None
        most = 0
        now = self._context.clock.monotonic()
        if not self._holds(now):
            return None
        for bind in self._line.binds:
            room = bind.session.room
            if room > most and bind.unfinished is None and bind.pacer.wait(now) <= 0:
                best, most = bind, room
        return best

    def _holds(self, now: float) -> bool:
        """Tell whether nobody can have taken the carrier: a process that was stopped may wake up too late."""
        return self._context.alone or now < self._context.journal.lease_until

    def _has_room(self) -> bool:
        if self._again or self._name in self._context.leaving or self._bind_with_room() is None:
            return False
        # What was asked for will need a place: written ahead and not sent, it would be doubtful after a crash.
        return not self._asked or sum(bind.session.room for bind in self._line.binds) > len(self._asked)

    def _room_at(self) -> float | None:
        now = self._context.clock.monotonic()
        if not self._holds(now):
            return now + LOOK_AGAIN_S
        waits = [bind.pacer.wait(now) for bind in self._line.binds if bind.session.room > 0]
        return now + min(waits) if waits else None

    def _has_work(self) -> bool:
        return bool(self._queue or self._again or any(bind.unfinished is not None for bind in self._line.binds))

    def room(self) -> None:
        """Send what waits, if anything does."""
        if self._has_work():
            self._pump()
        if self._releasing:
            self._tell_released()

    def _pump(self) -> None:
        """First the parts that follow others, then what waits again, then the queue."""
        for bind in self._line.binds:
            if bind.unfinished is not None:
                self._send_parts(bind, bind.unfinished)
        while self._again and self._is_fit():
            free = self._bind_with_room()
            if free is None:
                break
            shipment = heappop(self._again)
            if not (shipment.job.withdrawn and shipment.untouched):
                shipment.job.left = True
                self._send_parts(free, shipment)
        super()._pump()
        self._tell_pacers()

    def _tell_pacers(self) -> None:
        """Say whether something waits: it keeps turns that pass while loop, windows or cascades are late."""
        binds = self._line.binds
        now = self._context.clock.monotonic()
        waits = self._has_work() or bool(self._asked)
        if waits and any(bind.pacer.controller.throttled_lately(now) for bind in binds):
            waits = False
        for bind in binds:
            bind.pacer.waits(waits, now)

    def _enqueue(self, job: Job) -> None:
        if not (job.by and self._name in self._context.leaving):
            super()._enqueue(job)
        elif not job.withdrawn:  # the intake was taking it just then
            job.cascade.send_system(NotTaken(job))

    # --- sending --------------------------------------------------------------------------------------------------

    def _send(self, job: Job) -> None:
        if job.by and job.submission.expires_at <= self._context.clock.now():  # nobody here withdraws it
            job.cascade.send(NotTaken(job))
            return
        try:
            submits = self._smpp.submits(job.submission)
        except SendError as error:
            self._answer(job, error)
            return
        self._order += 1
        shipment = Shipment(job, self._order, submits)
        bind = None if self._again else self._bind_with_room()
        if bind is None:  # it was asked for when there was room, and allowed now
            job.left = False
            heappush(self._again, shipment)
        else:
            self._send_parts(bind, shipment)

    def _send_parts(self, bind: ConnectionActor, shipment: Shipment) -> None:
        """Send parts while the bind takes them; those that remain are its next."""
        clock = self._context.clock
        bind.unfinished = None
        while shipment.waiting:
            now = clock.monotonic()
            if bind.session.room <= 0 or bind.pacer.wait(now) > 0 or not self._holds(now):
                if bind.session.state == "bound":
                    bind.unfinished = shipment
                else:
                    self._wait_again(shipment)
                return
            bind.submit(shipment)

    def _wait_again(self, shipment: Shipment) -> None:
        if shipment.untouched:
            shipment.job.left = False  # it may be withdrawn, or go to another carrier
        if shipment not in self._again:
            heappush(self._again, shipment)

    def answered(self, connection: ConnectionActor, answer: Answered) -> None:
        """Take in what became of a part, and tell the cascade once the whole message is over."""
        handle: Any = answer.handle  # as ConnectionActor.submit made it
        shipment: Shipment = handle[0]
        now = self._context.clock.monotonic()
        if answer.outcome == "accepted":
            connection.pacer.controller.accepted(now)
            self._smpp.ids.key(answer.carrier_message_id)  # it learns from the form
        elif answer.outcome == "refused" and self._smpp.errors.status(answer.command_status).pressure:
            answer.outcome = "throttled"
        if answer.outcome == "throttled" and not answer.late:
            connection.pacer.controller.throttled_at(now, answer.sent_at, connection.session.random)
        shipment.take(handle[1], answer, self._smpp.refusal)
        if shipment is connection.unfinished and not shipment.waiting:
            connection.unfinished = None
        verdict = shipment.verdict()
        if verdict is not None:
            self._answer(shipment.job, verdict)
        elif shipment.waiting and not any(bind.unfinished is shipment for bind in self._line.binds):
            self._wait_again(shipment)

    def _learn(self, outcome: SendResult | BaseException) -> None:
        """A lost connection is the bind's health, which is looked at by itself: it opens no breaker."""
        if not (isinstance(outcome, SendError) and outcome.ambiguous):
            super()._learn(outcome)

    def _drop_suppressed(self) -> None:
        super()._drop_suppressed()
        for shipment in self._again:
            if shipment.untouched:
                self._is_suppressed(shipment.job)  # then it is skipped when its turn comes

    def _cancel(self, message: CancelSubmitted) -> None:
        pdu = self._smpp.cancellation(message.submission)
        for carrier_message_id in message.carrier_message_ids:
            bind = self._bind_with_room()
            if bind is not None and pdu is not None:
                bind.cancel(replace(pdu, message_id=carrier_message_id))

    # --- health ---------------------------------------------------------------------------------------------------

    def binds_changed(self) -> None:
        """A bind came up or went down."""
        for bind in self._line.binds:
            if bind.unfinished is not None and bind.session.state != "bound":
                shipment, bind.unfinished = bind.unfinished, None
                self._wait_again(shipment)
        self._look_for_binds()

    def _look_for_binds(self) -> None:
        """The carrier is away when no bind can send: at once when it refuses us, else after a second."""
        if self._released:
            return  # they log out because we want them to
        now = self._context.clock.monotonic()
        senders = [bind for bind in self._line.binds if bind.mode != "receiver"]
        if any(bind.session.state == "bound" for bind in senders):
            self._health.away = None
            self._no_bind_since = None
        else:
            if self._no_bind_since is None:
                self._no_bind_since = now
            left = self._no_bind_since + AWAY_AFTER_S - now
            if left <= 0 or self._health.away is not None or any(bind.refused for bind in senders):
                why = next((bind for bind in senders if bind.refused), senders[0] if senders else None)
                self._health.away = "no bind" if why is None else why.why_down()
            elif not self._looking_away:
                self._looking_away = True
                self.send_after(left, _LookAway(), coarse=False)
        self._look_at_health()
        self.room()

    def _offer_elsewhere(self) -> None:
        again = sorted(self._again)
        self._again = [shipment for shipment in again if shipment.untouched]  # in order, so a heap
        for shipment in again:
            if not shipment.untouched:
                self._give_up(shipment)
            elif not shipment.job.withdrawn:
                shipment.job.cascade.send_system(ChooseAgain(shipment.job))
        super()._offer_elsewhere()

    def _give_back(self, *, at_once: bool) -> None:
        again, self._again = self._again, []
        for shipment in sorted(again):
            job = shipment.job
            if not shipment.untouched:
                self._give_up(shipment)
            elif not job.withdrawn:
                job.cascade.send_system(NotTaken(job, at_once))
        super()._give_back(at_once=at_once)

    def _give_up(self, shipment: Shipment) -> None:
        shipment.give_up("some parts were taken before the carrier was lost")
        verdict = shipment.verdict()
        if verdict is not None:
            self._answer(shipment.job, verdict)

    # --- giving the carrier to another worker ---------------------------------------------------------------------

    def handle_call(self, request: Any, reply: Reply) -> Any:
        """Let the carrier go, or carry out an operator's order."""
        if type(request) is not Release:
            return super().handle_call(request, reply)
        stays = self._why_stay()
        if stays is not None:
            return stays
        for entry in list(self._queue.entries()):
            job: Job = entry.item
            if job.by:
                self._queue.remove(entry)
                job.entry = None
                job.cascade.send_system(NotTaken(job))
        self._releasing.append(reply)
        self._tell_released()
        return NO_REPLY

    def _why_stay(self) -> str | None:
        """Say what would be lost with the binds as they are."""
        now = self._context.clock.monotonic()
        binds = self._line.binds
        state = self._health.state(now)
        if state != "up":
            return f"it is {state}"
        if not binds or any(bind.session.state != "bound" for bind in binds):
            return "a bind is not up"
        if any(bind.session.awaits_late(now) for bind in binds):
            return "answers that are late may still come"
        return None

    def _tell_released(self) -> None:
        """Answer once all that left is answered; what waits may still be kept."""
        busy = any(bind.unfinished is not None or bind.session.in_flight for bind in self._line.binds)
        if self._again or self._in_flight or busy:
            return
        stays = self._why_stay()
        if stays is None:
            self._released = True
            self._context.kept[self._name] = []
        releasing, self._releasing = self._releasing, []
        for reply in releasing:
            reply.ok(stays)

    # --- ending and showing ---------------------------------------------------------------------------------------

    def terminate(self, reason: Any) -> None:
        """Give back what has not left. What is in the windows is answered to the next dispatcher."""
        self._line.dispatcher = None
        if self._released and self._name in self._context.leaving:
            self._keep()
        self._give_back_all()

    def inspect(self) -> dict[str, Any]:
        """Show the queue, the carrier's fitness, and its binds."""
        shown = super().inspect()
        binds = [bind.view() for bind in self._line.binds]
        shown["in_flight"] += sum(bind["in_flight"] for bind in binds)
        shown["waiting_again"] = len(self._again)
        shown["binds"] = binds
        shown["moved"] = self._context.moved.get(self._name)
        return shown
