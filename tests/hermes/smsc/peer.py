"""An ESME as bare as can be: it writes what it is told and reads what comes."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import TypeVar

from carriers.smpp import constants as c
from carriers.smpp.framer import Framer
from carriers.smpp.pdu import (
    BindReceiver,
    BindTransceiver,
    BindTransmitter,
    DataSm,
    DeliverSm,
    Pdu,
    SubmitSm,
    SubmitSmResp,
    decode,
    response_to,
)
from hermes.smsc import Smsc

PATIENCE = 10.0  # seconds until a test that waits for a PDU fails
BINDS = {"transceiver": BindTransceiver, "transmitter": BindTransmitter, "receiver": BindReceiver}
AnyPdu = TypeVar("AnyPdu", bound=Pdu)


class Esme:
    """One connection. `came` holds what was read and not yet asked for."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.came: deque[Pdu] = deque()
        self._framer = Framer()
        self._sequence = 0

    def write(self, pdu: Pdu) -> int:
        self._sequence += 1
        pdu.sequence_number = self._sequence
        self.writer.write(pdu.encode())
        return self._sequence

    async def read(self, kind: type[AnyPdu] | type[Pdu] = Pdu, **wanted: object) -> AnyPdu:
        """Give the next PDU of a kind whose fields are as wanted; others stay in `came`. EOFError at the end."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for pdu in self.came:
                    if isinstance(pdu, kind) and all(getattr(pdu, name) == value for name, value in wanted.items()):
                        self.came.remove(pdu)
                        return pdu  # type: ignore[return-value]
                data = await self.reader.read(65_536)
                if not data:
                    raise EOFError
                self.came.extend(decode(frame) for frame in self._framer.feed(data))

    async def request(self, pdu: Pdu) -> Pdu:
        sequence = self.write(pdu)
        return await self.read(Pdu, sequence_number=sequence, command_id=pdu.response_id)

    async def submit(self, destination: str = "4520999999", **fields: object) -> SubmitSmResp:
        pdu = submit_sm(destination, **fields)
        sequence = self.write(pdu)
        return await self.read(SubmitSmResp, sequence_number=sequence)

    async def receipt(self, status: int = c.ESME_ROK) -> DeliverSm:
        """Read the next deliver_sm and acknowledge it."""
        pdu: DeliverSm = await self.read(DeliverSm)
        self.writer.write(response_to(pdu, status).encode())
        return pdu

    async def data(self) -> DataSm:
        pdu: DataSm = await self.read(DataSm)
        self.writer.write(response_to(pdu).encode())
        return pdu

    async def ended(self) -> None:
        """Wait for the other side's end of the connection, by a close or a reset."""
        async with asyncio.timeout(PATIENCE):
            try:
                while await self.reader.read(65_536):
                    pass
            except ConnectionError:
                pass

    def close(self) -> None:
        self.writer.close()


def submit_sm(destination: str = "4520999999", **fields: object) -> SubmitSm:
    values: dict[str, object] = {
        "source_addr_ton": 5,
        "source_addr": "Hermes",
        "dest_addr_ton": 1,
        "dest_addr_npi": 1,
        "destination_addr": destination,
        "registered_delivery": 1,
        "short_message": b"hello",
        **fields,
    }
    return SubmitSm(**values)  # type: ignore[arg-type]


async def connect(
    smsc: Smsc, *, local: str | None = None, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> Esme:
    address = None if local is None else (local, 0)
    reader, writer = await asyncio.open_connection(
        host, smsc.port, local_addr=address, ssl=tls, server_hostname="localhost" if tls else None
    )
    return Esme(reader, writer)


async def bind(
    smsc: Smsc,
    mode: str = "transceiver",
    system_id: str = "hermes",
    password: str = "secret",
    tls: ssl.SSLContext | None = None,
) -> Esme:
    esme = await connect(smsc, tls=tls)
    answer = await esme.request(BINDS[mode](system_id=system_id, password=password))
    assert answer.command_status == c.ESME_ROK, answer
    return esme
