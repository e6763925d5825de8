"""The simulated centre: listens, judges binds, takes messages, reports on them, and misbehaves on demand."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from carriers.smpp import constants as c
from carriers.smpp.pdu import (
    AlertNotification,
    BindReceiver,
    BindTransceiver,
    BindTransmitter,
    DataSm,
    DeliverSm,
    Outbind,
)
from hermes.errors import HermesError, SettingsError
from hermes.smsc.agenda import Agenda
from hermes.smsc.connection import Connection
from hermes.smsc.deliveries import Account, Delivery, delivery_counts
from hermes.smsc.intake import Intake
from hermes.smsc.malformed import MALFORMED
from hermes.smsc.settings import Drop, SmscSettings, changed, status_of
from hermes.smsc.texts import Concatenation, Message, Submit, write_inbound

MAX_TICK: Final = 0.5  # seconds between two looks at what is due on connections
MIN_TICK: Final = 0.01
KEPT_BINDS: Final = 1_000
CLOSE_TIMEOUT: Final = 1.0  # seconds for connections to close before they are reset


class NotBound(HermesError):
    """What should be sent to an ESME has no bind to go to."""


@dataclass(slots=True)
class Bind:
    """A bind that was made: kept after its end.

    Attributes:
        n: from 1, in the order they were made.
        at, ended_at: the event loop's clock; ended_at None while it stands.
    """

    n: int
    system_id: str
    mode: str
    peer: str
    at: float
    connection: Connection
    ended_at: float | None = None


class Smsc:
    """A message centre on a TCP port. One event loop's; not for threads.

    Attributes:
        port: where it listens, once started; the same after `go_away` and `come_back`.
        settings: change them by `configure`.
        counts: connections, refused_connections, malformed, unsupported, unknown_answers, inactive, dead.
        bind_statuses: how many binds were answered with which command_status.
        intake: takes messages.
        deliveries: by kind ("receipt", "inbound"): sent, acknowledged, refused, again, dropped.
        binds: the newest 1,000, oldest first.
    """

    def __init__(self, settings: SmscSettings | None = None) -> None:
        self.settings = changed(settings or SmscSettings(), {})  # an out of range value is told here
        self.port = self.settings.port
        self.counts: Counter[str] = Counter()
        self.bind_statuses: Counter[int] = Counter()
        self.deliveries = delivery_counts()
        self.binds: deque[Bind] = deque(maxlen=KEPT_BINDS)
        self._made_binds = 0
        self._next_reference = 0
        self.intake = Intake(self)
        self._accounts: dict[str, Account] = {}
        self._connections: set[Connection] = set()
        self._tls = _tls_context(self.settings)
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    # --- life

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be had.
        """
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        self.agenda = Agenda(self.loop, self.happened)
        await self._listen(None)
        self._tick()

    async def stop(self) -> None:
        """Reset every connection and free the port. What waits is forgotten."""
        await self.go_away()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        self.agenda.close()
        if self._ticker is not None:
            self._ticker.cancel()
        for account in self._accounts.values():
            for delivery in account.waiting:
                if delivery.answered is not None:
                    delivery.answered.cancel()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _listen(self, sock: socket.socket | None) -> None:
        settings = self.settings
        address: dict[str, Any] = {"sock": sock} if sock is not None else {"host": settings.host, "port": self.port}
        if self._tls is not None:
            address |= {"ssl": self._tls, "ssl_shutdown_timeout": CLOSE_TIMEOUT}
        self._server = await self.loop.create_server(lambda: Connection(self), backlog=512, **address)
        self.port = self._server.sockets[0].getsockname()[1]
        self.happened()

    async def go_away(self, how: Drop = "reset") -> None:
        """Be gone: refuse connections and end those there are. The port stays ours until `come_back`."""
        if self._server is not None:
            family, address = self._server.sockets[0].family, self._server.sockets[0].getsockname()
            self._server.close()
            self._server = None
            self._reserved = socket.socket(family, socket.SOCK_STREAM)  # bound, not listening: connects are refused
            self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._reserved.bind(address)
        self.drop(how)
        try:
            await self.wait_until(lambda: not self._connections, CLOSE_TIMEOUT)
        except TimeoutError:  # an ESME that does not read keeps its connection from closing
            self.drop("reset")
            await self.wait_until(lambda: not self._connections)

    async def come_back(self) -> None:
        """Listen again on the same port; what waits for accounts is delivered when they bind."""
        reserved, self._reserved = self._reserved, None
        if reserved is not None:
            await self._listen(reserved)

    def configure(self, **changes: Any) -> None:
        """Change settings from now on.

        Raises:
            SettingsError: see `settings.changed`; nothing has changed.
        """
        self.settings = changed(self.settings, changes)
        self.intake.joiner.default_alphabet = self.settings.default_alphabet

    def _tick(self) -> None:
        now = self.now()
        for connection in list(self._connections):
            connection.tick(now)
        settings = self.settings
        timers = (settings.enquire_link_s, settings.inactivity_s, settings.bind_timeout_s, settings.deliver_timeout_s)
        shortest = min((timer for timer in timers if timer), default=MAX_TICK)
        self._ticker = self.loop.call_later(min(max(shortest / 4, MIN_TICK), MAX_TICK), self._tick)

    # --- waiting for what happens

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Wait until a condition on this centre holds; it is looked at whenever something happened.

        Raises:
            TimeoutError: it did not come to that; says what there was.
        """
        if condition():
            return
        waiter = (condition, self.loop.create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter[1]
        except TimeoutError as exc:
            raise TimeoutError(f"not within {timeout_s:g} s; there are {self._summary()}") from exc
        finally:
            self._waiters.remove(waiter)

    async def wait_for_binds(self, n: int = 1, timeout_s: float = 10.0) -> list[Bind]:
        """Wait until at least `n` binds stand at once; gives them in the order they were made."""
        await self.wait_until(lambda: len(self.bound_now()) >= n, timeout_s)
        return self.bound_now()

    async def wait_for_messages(self, n: int = 1, timeout_s: float = 10.0) -> list[Message]:
        """Wait until `n` whole messages were taken in all; gives those remembered."""
        await self.wait_until(lambda: self.taken >= n, timeout_s)
        return list(self.messages)

    async def wait_for_receipts(self, n: int = 1, timeout_s: float = 10.0) -> None:
        """Wait until `n` receipts in all were acknowledged with ESME_ROK."""
        await self.wait_until(lambda: self.deliveries["receipt"]["acknowledged"] >= n, timeout_s)

    def happened(self) -> None:
        """Look whether what is waited for has come."""
        for condition, waiter in self._waiters:
            if not waiter.done() and condition():
                waiter.set_result(None)

    def _summary(self) -> str:
        return (
            f"{len(self._connections)} connections, {len(self.bound_now())} binds, {self.submitted} submits, "
            f"{self.taken} messages, {self.deliveries['receipt']['acknowledged']} receipts acknowledged"
        )

    # --- connections and binds

    def bound_now(self) -> list[Bind]:
        """Give the binds that stand, in the order they were made."""
        return [bind for bind in self.binds if bind.ended_at is None]

    def opened(self, connection: Connection, address: str) -> None:
        """Take a connection in, or close it at once."""
        self._connections.add(connection)
        self.counts["connections"] += 1
        allowed = self.settings.allowed_addresses
        if self._server is None:
            connection.reset()  # its TLS handshake ended after we had gone
        elif allowed and address not in allowed:
            self.counts["refused_connections"] += 1
            connection.close()
        self.happened()

    def closed(self, connection: Connection) -> None:
        """Let a connection go."""
        self._connections.discard(connection)
        if connection.account is not None:
            connection.account.binds.remove(connection)
            for bind in self.binds:
                if bind.connection is connection:
                    bind.ended_at = self.now()
        self.happened()

    def judge_bind(self, pdu: BindReceiver | BindTransmitter | BindTransceiver) -> int:
        """Give the status a bind is answered with."""
        settings = self.settings
        if settings.bind_status:
            status = status_of(settings.bind_status)
        elif settings.accounts and pdu.system_id not in settings.accounts:
            status = c.ESME_RINVSYSID
        elif settings.accounts and settings.accounts[pdu.system_id] != pdu.password:
            status = c.ESME_RINVPASWD
        elif settings.max_binds and len(self.account(pdu.system_id).binds) >= settings.max_binds:
            status = c.ESME_RALYBND
        else:
            status = c.ESME_ROK
        self.bind_statuses[status] += 1
        return status

    def bound(self, connection: Connection, system_id: str) -> Account:
        """Take a bind in."""
        account = self.account(system_id)
        account.binds.append(connection)
        self._made_binds += 1
        connection.n = self._made_binds
        self.binds.append(
            Bind(connection.n, system_id, connection.mode, connection.peer, self.now(), connection=connection)
        )
        return account

    def account(self, system_id: str) -> Account:
        """Give an account, known or new."""
        account = self._accounts.get(system_id)
        if account is None:
            account = self._accounts[system_id] = Account(self, system_id)
        return account

    def _chosen(self, bind: int | None) -> list[Connection]:
        """Give the connection of a bind's number, or all of them."""
        return [each for each in self._connections if bind is None or each.n == bind]

    @property
    def submits(self) -> deque[Submit]:
        """The newest `keep` submits, oldest first, as they came."""
        return self.intake.submits

    @property
    def messages(self) -> deque[Message]:
        """The newest `keep` messages taken, oldest first, their parts put together."""
        return self.intake.messages

    @property
    def submitted(self) -> int:
        """How many submits came in all."""
        return self.intake.submitted

    @property
    def taken(self) -> int:
        """How many whole messages were taken in all."""
        return self.intake.taken

    # --- what is done to ESMEs on demand

    def inject_mo(
        self,
        source: str,
        destination: str,
        text: str | bytes,
        *,
        system_id: str | None = None,
        data_coding: int | None = None,
        concatenation: Concatenation = "udh8",
        reference: int | None = None,
        source_ton: int | None = None,
        dest_ton: int = c.TON_UNKNOWN,
        order: list[int] | None = None,
    ) -> asyncio.Future[list[int]]:
        """Send a message from a handset; see `texts.write_inbound`.

        It goes to the account `system_id`, by default the only one there is. `reference` ties the parts, by
        default the next number. `order` says which parts are sent, by number from 1, and in which order.

        Returns:
            The status each part was acknowledged with, once all were. It need not be awaited.

        Raises:
            ValueError: the text cannot be written so.
            NotBound: no account is named, and there is none, or more than one.
        """
        if reference is None:
            self._next_reference = reference = self._next_reference % 255 + 1
        pdus = write_inbound(
            source,
            destination,
            text,
            data_coding=data_coding,
            concatenation=concatenation,
            reference=reference,
            source_ton=source_ton,
            dest_ton=dest_ton,
        )
        if order is not None:
            pdus = [pdus[number - 1] for number in order]
        return self.inject(pdus, system_id=system_id)

    def inject(self, pdus: Sequence[DeliverSm | DataSm], *, system_id: str | None = None) -> asyncio.Future[list[int]]:
        """Send deliver_sm or data_sm of one's own making; see `inject_mo`."""
        account = self.account(self._only_account() if system_id is None else system_id)
        answers = [self.loop.create_future() for _ in pdus]
        for pdu, answered in zip(pdus, answers, strict=True):
            account.deliver(Delivery(pdu, "inbound", answered))
        return asyncio.gather(*answers)

    def _only_account(self) -> str:
        known = self.settings.accounts or self._accounts
        if len(known) != 1:
            raise NotBound(f"name one of {len(known)} accounts")
        return next(iter(known))

    def inject_octets(self, octets: bytes | str, *, bind: int | None = None) -> int:
        """Send octets as they are, or a name of `malformed.MALFORMED`, on one bind or on every connection.

        Returns:
            How many connections they went to.

        Raises:
            SettingsError: no such name.
        """
        if isinstance(octets, str):
            if octets not in MALFORMED:
                raise SettingsError(f"smsc: no malformed PDU {octets!r}: one of {', '.join(MALFORMED)}")
            octets = MALFORMED[octets]
        chosen = self._chosen(bind)
        for connection in chosen:
            connection.send(octets)
        return len(chosen)

    def alert(self, source: str, esme_address: str, *, bind: int | None = None) -> int:
        """Send an alert_notification: the handset `source` can be reached again. Gives on how many connections."""
        chosen = [each for each in self._chosen(bind) if each.mode in ("receiver", "transceiver")]
        for connection in chosen:
            connection.request(
                AlertNotification(
                    source_addr_ton=c.TON_INTERNATIONAL,
                    source_addr_npi=c.NPI_ISDN,
                    source_addr=source.removeprefix("+"),
                    esme_addr=esme_address,
                )
            )
        return len(chosen)

    async def outbind(self, host: str, port: int, password: str = "") -> None:
        """Connect to an ESME that listens and ask it to bind as a receiver (4.1.7).

        Raises:
            OSError: nobody listens there.
        """
        _, connection = await self.loop.create_connection(lambda: Connection(self), host, port)
        connection.request(Outbind(system_id=self.settings.smsc_id, password=password))

    def unbind(self, *, bind: int | None = None) -> int:
        """Ask ESMEs to unbind; gives how many."""
        chosen = [each for each in self._chosen(bind) if each.mode]
        for connection in chosen:
            connection.unbind()
        return len(chosen)

    def drop(self, how: Drop = "reset", *, bind: int | None = None) -> int:
        """End connections by a TCP reset, or close them; gives how many."""
        chosen = self._chosen(bind)
        for connection in chosen:
            if how == "reset":
                connection.reset()
            else:
                connection.close()
        return len(chosen)

    def freeze(self, *, bind: int | None = None) -> int:
        """Make connections half-open: nothing read, nothing written, the bind stands; gives how many."""
        chosen = self._chosen(bind)
        for connection in chosen:
            connection.freeze()
        return len(chosen)

    def thaw(self, *, bind: int | None = None) -> int:
        """Let half-open connections go on where they stood; gives how many."""
        chosen = [each for each in self._chosen(bind) if each.frozen]
        for connection in chosen:
            connection.thaw()
        return len(chosen)

    # --- looking

    def stats(self) -> Mapping[str, Any]:
        """Tell what happened so far, as JSON would have it."""
        now = self.now()
        return {
            "listening": self._server is not None,
            "port": self.port,
            "connections": len(self._connections),
            "counts": dict(self.counts),
            "bind_statuses": _named(self.bind_statuses),
            "submit_statuses": _named(self.intake.statuses),
            "submits": self.submitted,
            "messages": self.taken,
            "unfinished_messages": len(self.intake.joiner),
            "deliveries": {kind: dict(counts) for kind, counts in self.deliveries.items()},
            "waiting": {each.system_id: len(each.waiting) for each in self._accounts.values() if each.waiting},
            "binds": [
                {
                    "n": bind.n,
                    "system_id": bind.system_id,
                    "mode": bind.mode,
                    "peer": bind.peer,
                    "age_s": round((bind.ended_at or now) - bind.at, 3),
                    "bound": bind.ended_at is None,
                    "frozen": bind.connection.frozen,
                    "submits": bind.connection.submits,
                }
                for bind in self.binds
            ],
        }


def _named(statuses: Counter[int]) -> dict[str, int]:
    return {c.status_name(status): count for status, count in sorted(statuses.items())}


def _tls_context(settings: SmscSettings) -> ssl.SSLContext | None:
    """Make what TLS needs.

    Raises:
        SettingsError: a file cannot be read, or holds something else.
    """
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
        if settings.tls_client_ca is not None:
            context.load_verify_locations(settings.tls_client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as exc:
        raise SettingsError(f"smsc: the TLS files cannot be used: {exc}") from exc
    return context
