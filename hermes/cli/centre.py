"""`hermes smsc`: a message centre on this machine, to try SMPP with."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from hermes.cli import client
from hermes.errors import SettingsError
from hermes.smsc.control import Control, message_document
from hermes.smsc.outcomes import MAGIC
from hermes.smsc.server import Smsc
from hermes.smsc.settings import SmscSettings, checked
from hermes.smsc.texts import Message

DEFAULT_PORT: Final = 2775  # registered for SMPP
ACCOUNT: Final = ("hermes", "secret")


def read_settings(
    config: Path | None, accounts: Sequence[str], sets: Sequence[str], options: dict[str, Any]
) -> SmscSettings:
    """Lay the options over the file.

    Raises:
        SettingsError: says which of them is wrong.
    """
    values: dict[str, Any] = {"port": DEFAULT_PORT, "accounts": dict([ACCOUNT])}
    if config is not None:
        try:
            values |= tomllib.loads(config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            raise SettingsError(f"{config}: {getattr(exc, 'strerror', None) or exc}") from exc
    for each in sets:
        name, found, value = each.partition("=")
        if not found:
            raise SettingsError(f"--set {each}: NAME=VALUE")
        values[name.strip()] = _value(value.strip())
    if accounts:
        pairs = [each.partition(":") for each in accounts]
        values["accounts"] = {system_id: password for system_id, _, password in pairs}
    return checked({**values, **{name: value for name, value in options.items() if value is not None}})


def _value(text: str) -> Any:
    """Read a setting's value: JSON of a table, list or quoted text, several with commas, or plain."""
    if text[:1] in ("{", "[", '"'):
        try:
            return json.loads(text)
        except ValueError as exc:
            raise SettingsError(f"--set: {text} is no JSON: {exc}") from exc
    return text.split(",") if "," in text else text


def show_numbers(*, as_json: bool) -> None:
    """Print which end of a destination does what."""
    if as_json:
        client.print_json({digits: magic.says for digits, magic in MAGIC.items()})
    else:
        sys.stdout.write("".join(f"{digits}  {magic.says}\n" for digits, magic in MAGIC.items()))


def run(settings: SmscSettings, control_port: int, *, show: bool, as_json: bool) -> None:
    """Be a message centre until SIGTERM or SIGINT.

    Args:
        settings: how it behaves.
        control_port: of the HTTP control, on the same address; 0: any free one.
        show: print every message it takes.
        as_json: print JSON, one value a line.

    Raises:
        SettingsError: the TLS files cannot be used.
        Failed: an address cannot be had.
    """
    asyncio.run(_run(settings, control_port, show=show, as_json=as_json))


async def _run(settings: SmscSettings, control_port: int, *, show: bool, as_json: bool) -> None:
    smsc = Smsc(settings)
    if show:
        smsc.intake.on_message = _print_json if as_json else _print
    control = Control(smsc)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await _listen(smsc.start, settings.host, settings.port)
    try:
        await _listen(lambda: control.start(settings.host, control_port), settings.host, control_port)
        _welcome(smsc, control, as_json=as_json)
        await stopped.wait()
    finally:
        await control.stop()
        await smsc.stop()


async def _listen(start: Callable[[], Any], host: str, port: int) -> None:
    try:
        await start()
    except (OSError, OverflowError) as exc:
        reason = os.strerror(exc.errno) if isinstance(exc, OSError) and exc.errno else str(exc)
        raise client.Failed(f"cannot listen on {host} port {port}: {reason}") from exc


def _welcome(smsc: Smsc, control: Control, *, as_json: bool) -> None:
    host = smsc.settings.host
    url = f"http://{f'[{host}]' if ':' in host else host}:{control.port}"
    accounts = smsc.settings.accounts
    if as_json:
        facts = {"host": host, "port": smsc.port, "control_url": url, "system_ids": list(accounts)}
        sys.stdout.write(json.dumps(facts) + "\n")
    else:
        who = "hermes, password secret" if accounts == dict([ACCOUNT]) else ", ".join(accounts)
        sys.stdout.write(
            f"SMPP centre at {host} port {smsc.port}{', TLS' if smsc.settings.tls_cert else ''}\n"
            f"account: {who or 'anybody'}\n"
            f"control: {url}/stats\n"
            "hermes smsc --numbers lists the numbers that fail, delay, reset ...\n"
        )
    sys.stdout.flush()


def _print(message: Message) -> None:
    text = "(binary)" if message.text is None else client.clean(message.text)
    source, destination = client.clean(message.source), client.clean(message.destination)
    sys.stdout.write(f"{source} -> {destination}: {text}\n")
    sys.stdout.flush()


def _print_json(message: Message) -> None:
    sys.stdout.write(json.dumps(message_document(message)) + "\n")
    sys.stdout.flush()
