"""SMTP against Postfix's own test server, smtp-sink: what it refuses, drops and delays at each stage."""

import asyncio
import getpass
import os
import shutil
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from carriers.base import SendError
from carriers.registry import make_carrier
from hermes.domain.message import Content
from hermes.testing import ManualClock
from hermes.testing.carriers import RememberingSink, submission
from tests.carriers.http.servers import free_port

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])  # where Debian puts it
SINK = shutil.which("smtp-sink", path=PATH)

pytestmark = pytest.mark.skipif(SINK is None, reason="smtp-sink is not installed (Debian: postfix)")


@asynccontextmanager
async def sink(*options):
    """Run smtp-sink; its port."""
    port = free_port()
    assert SINK is not None
    user = ("-u", getpass.getuser()) if os.geteuid() == 0 else ()  # asked for when root runs it
    process = await asyncio.create_subprocess_exec(SINK, *user, *options, f"127.0.0.1:{port}", "100")
    try:
        while True:  # until it listens; pytest's time-out ends one that never does
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                break
            except ConnectionRefusedError:
                assert process.returncode is None, "smtp-sink ended"
                await asyncio.sleep(0.01)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def carrier_to(port, **settings):
    options = {"host": "127.0.0.1", "port": port, "tls": "none", "from": "Acme <news@acme.test>", **settings}
    carrier = make_carrier("smtp", "relay", "email", options, clock=ManualClock())
    await carrier.open(RememberingSink())
    try:
        yield carrier
    finally:
        await carrier.close()


def mail(n=0):
    content = Content(text=f"Your code is {n:06}\n.\nÆøå", html="<p>x</p>", subject="Code")
    return submission(channel="email", to=f"jane{n}@example.test", content=content)


async def refusal(carrier):
    with pytest.raises(SendError) as caught:
        await carrier.send(mail())
    return caught.value


async def test_many_messages_at_once_all_arrive(tmp_path):
    async with sink("-d", str(tmp_path / "%M.")) as port, carrier_to(port, pool_size=4) as carrier:
        results = await asyncio.gather(*(carrier.send(mail(n)) for n in range(200)))
        assert len({result.carrier_message_ids for result in results}) == 1  # of the same message and step
        assert carrier.inspect()["connections"]["open"] == 4
    taken = b"".join(path.read_bytes() for path in Path(tmp_path).iterdir())
    assert all(b"jane%d@example.test" % n in taken for n in range(200))


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize(
    ("option", "reply", "error_class", "retryable"),
    [
        (("-r", "-b"), "450 4.3.2 later", "retryable_transient", True),
        (("-r", "-b"), "452 4.2.2 full", "unreachable_handset", True),
        (("-f", "-B"), "500 5.5.2 what", "invalid_request", False),
        (("-f", "-B"), "554 5.7.1 spam", "content_rejected", False),
    ],
)
async def test_a_refusal_at_any_stage_is_certain(stage, option, reply, error_class, retryable):
    async with sink(option[0], stage, option[1], reply) as port, carrier_to(port) as carrier:
        error = await refusal(carrier)
        assert (error.error_class, error.retryable, error.ambiguous) == (error_class, retryable, False)
        assert error.code == reply.split()[1]


@pytest.mark.parametrize("stage", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."])
@pytest.mark.parametrize("option", ["-q", "-Q"])
async def test_a_disconnect_is_in_doubt_only_after_the_final_dot(stage, option):
    async with sink(option, stage) as port, carrier_to(port) as carrier:
        error = await refusal(carrier)
        told = option == "-Q"  # with a 421 before
        assert error.error_class == "retryable_transient"
        assert error.ambiguous == (stage == "." and not told)
        assert error.retryable != error.ambiguous


async def test_a_server_that_speaks_no_esmtp_takes_mail():
    async with sink("-e", "-8", "-E") as port, carrier_to(port) as carrier:
        await carrier.send(mail())


async def test_a_server_too_slow_is_given_up_in_doubt():
    async with sink("-A", "30") as port, carrier_to(port, timeout_s=0.3) as carrier:  # silent after DATA
        assert (await refusal(carrier)).ambiguous
