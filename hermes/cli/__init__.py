"""The command line: `main` is the `hermes` command, and each command imports the module that does its work.

Nothing but typer is imported here, so that `hermes --help` is quick. Exit codes: 0 done, 1 failed, 2 the
command or the settings are wrong; errors are told on standard error, results on standard output.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from hermes import __version__
from hermes.errors import HermesError, SettingsError

FAILED = 1
WRONG = 2

app = typer.Typer(
    name="hermes",
    help="Hermes sends each message over the channel that delivers it, and loses none.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_tenants = typer.Typer(help="Customers of this Hermes.", no_args_is_help=True)
_keys = typer.Typer(help="The API keys of a tenant.", no_args_is_help=True)
_dead_letters = typer.Typer(help="Webhooks that were given up.", no_args_is_help=True)
_suppressions = typer.Typer(help="Who must not be written to.", no_args_is_help=True)
_consents = typer.Typer(help="Who agreed to be written to, with the proof.", no_args_is_help=True)
_actors = typer.Typer(help="Orders to an actor.", no_args_is_help=True)
_carriers = typer.Typer(help="The ways out, and orders to them.", no_args_is_help=True)
_routes = typer.Typer(help="Which carrier a message takes.", no_args_is_help=True)
app.add_typer(_actors, name="actor")
app.add_typer(_carriers, name="carrier")
app.add_typer(_routes, name="route")
app.add_typer(_tenants, name="tenant")
app.add_typer(_keys, name="key")
app.add_typer(_dead_letters, name="dead-letters")
app.add_typer(_suppressions, name="suppression")
app.add_typer(_consents, name="consent")

DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the embedded database and the keys. Default: HERMES_DATA_DIR, else ~/.local/share/hermes.",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(help="The settings, a TOML file. HERMES_* variables win over it.", show_default=False),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.", show_default=False)]
Port = Annotated[
    int | None,
    typer.Option(min=0, max=65535, help="Port to listen on; 0: any. Default: 8080.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Limit = Annotated[int, typer.Option(min=1, help="At most so many.")]
Tenant = Annotated[str, typer.Argument(help="The tenant's id, ten_...", show_default=False)]


def _actor_names(incomplete: str) -> list[str]:
    """Complete the name of an actor, for a shell; nothing when no node answers."""
    from hermes.cli import client

    return client.names(os.environ, "/v1/actors", incomplete)


def _carrier_names(incomplete: str) -> list[str]:
    """Complete the name of a carrier, for a shell; nothing when no node answers."""
    from hermes.cli import client

    return client.names(os.environ, "/v1/carriers", incomplete)


ActorName = Annotated[
    str,
    typer.Argument(help="The actor's name, as hermes tree shows it.", show_default=False, autocompletion=_actor_names),
]
CarrierName = Annotated[
    str,
    typer.Argument(help="The carrier's name, as hermes carrier list shows it.", autocompletion=_carrier_names),
]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 the command or the settings are wrong.

    Args:
        argv: the arguments, without the program's name; the process's own when None.
    """
    try:
        app(args=None if argv is None else list(argv), prog_name="hermes")
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else (0 if exc.code is None else FAILED)
    except SettingsError as exc:
        return _tell(exc, WRONG)
    except HermesError as exc:
        return _tell(exc, FAILED)
    except Exception as exc:  # a bug of ours; whoever ran the command is told where it is
        return _tell(HermesError(_bug(exc)), FAILED)
    return 0


def _tell(error: HermesError, code: int) -> int:
    lines = str(error).splitlines() or [type(error).__name__]
    sys.stderr.write("".join(f"hermes: {line}\n" for line in lines))
    return code


def _bug(error: Exception) -> str:
    """Say in one line what went wrong and where: the text may have come from anywhere, so it is cleaned."""
    from hermes.logs import clean_text

    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" ({trace.tb_frame.f_code.co_filename}:{trace.tb_lineno})" if trace is not None else ""
    return clean_text(f"this is a bug in Hermes: {type(error).__name__}: {error}{where}").replace("\n", " ")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hermes {__version__}")
        raise typer.Exit


@app.callback()
def _hermes(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Hermes sends each message over the channel that delivers it, and loses none."""


# --- running a node


@app.command()
def serve(
    config: Config = None,
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=32, help="Processes on one port.", show_default="from the settings, or 1")
    ] = None,
) -> None:
    """Run a node until SIGTERM or SIGINT."""
    from hermes.cli import node

    raise typer.Exit(node.serve(os.environ, config, host, port, data_dir, workers))


@app.command()
def demo(
    host: Host = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Default: 8080, or the next free one.", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Run a node that sends nothing: mock carriers, a tenant, its keys, and a line to paste."""
    from hermes.cli import node

    raise typer.Exit(node.demo(os.environ, host, port, data_dir, as_json=as_json))


@app.command()
def migrate(config: Config = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Bring the database's schema up to date without starting a node."""
    from hermes.cli import node

    node.migrate(os.environ, config, data_dir, as_json=as_json)


@app.command()
def doctor(config: Config = None, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Look for what is wrong with the settings, this machine and the node; exit 1 if anything is."""
    from hermes.cli import checks

    raise typer.Exit(checks.run(os.environ, config, data_dir, as_json=as_json))


@app.command()
def smsc(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.", show_default=False)
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port for SMPP; 0: any. Default: 2775.", show_default=False)
    ] = None,
    control_port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the HTTP control; 0: any.")] = 2776,
    account: Annotated[
        list[str] | None,
        typer.Option(
            help="SYSTEM_ID:PASSWORD that may bind; may be repeated. Default: hermes:secret.", show_default=False
        ),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE of any setting (docs/smsc.md); may be repeated.", show_default=False),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="The settings, a TOML file.", show_default=False)] = None,
    show: Annotated[bool, typer.Option("--print", help="Print every message that comes.")] = False,
    numbers: Annotated[bool, typer.Option(help="List the numbers with an outcome of their own, and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Be a message centre (SMSC), to try SMPP with: receipts, errors, delays and losses as you ask."""
    from hermes.cli import centre

    if numbers:
        centre.show_numbers(as_json=as_json)
        return
    options = {"host": host, "port": port}
    settings = centre.read_settings(config, account or [], setting or [], options)
    centre.run(settings, control_port, show=show, as_json=as_json)


# --- messages


@app.command()
def send(
    to: Annotated[
        list[str] | None,
        typer.Option(
            help="CHANNEL=ADDRESS, once for each step, in the order they are tried: email=a@example.com. "
            "A number alone is sms, an e-mail address alone is email.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="What to say.", show_default=False)] = None,
    subject: Annotated[str | None, typer.Option(help="Subject of an e-mail.", show_default=False)] = None,
    html: Annotated[str | None, typer.Option(help="HTML part of an e-mail.", show_default=False)] = None,
    title: Annotated[str | None, typer.Option(help="Title of a push notification.", show_default=False)] = None,
    sender: Annotated[
        list[str] | None, typer.Option("--from", help="CHANNEL=SENDER: sms=Hermes.", show_default=False)
    ] = None,
    timeout_s: Annotated[
        float | None, typer.Option(help="Seconds to wait for a receipt in each step.", show_default=False)
    ] = None,
    category: Annotated[str | None, typer.Option(help="otp, transactional or marketing.", show_default=False)] = None,
    expires_in_s: Annotated[
        float | None, typer.Option(help="Seconds until it is given up.", show_default=False)
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Your own name for it.", show_default=False)] = None,
    callback_url: Annotated[str | None, typer.Option(help="Where its webhooks go.", show_default=False)] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="The same key again sends nothing again.", show_default=False)
    ] = None,
    body: Annotated[
        str | None,
        typer.Option(
            help="A file with the whole request as JSON, - for standard input; instead of the options above.",
            show_default=False,
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="A tenant's API key. Default: HERMES_API_KEY.", show_default=False)
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Send a message."""
    from hermes.cli import messages

    options = {
        "to": to,
        "text": text,
        "subject": subject,
        "html": html,
        "title": title,
        "from": sender,
        "timeout_s": timeout_s,
        "category": category,
        "expires_in_s": expires_in_s,
        "reference": reference,
        "callback_url": callback_url,
    }
    request = messages.request_body({name: value for name, value in options.items() if value}, body)
    messages.send(os.environ, data_dir, key, request, idempotency_key, as_json=as_json)


@app.command()
def message(
    message_id: Annotated[str, typer.Argument(metavar="ID", help="msg_...", show_default=False)],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show what happened to a message, step by step."""
    from hermes.cli import messages

    messages.show_message(os.environ, data_dir, message_id, as_json=as_json)


# --- looking inside


@app.command()
def tree(
    watch: Annotated[bool, typer.Option(help="Look again and again, until Ctrl-C.")] = False,
    interval_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 1.0,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show the actors: who runs, since when, how often restarted, how much mail waits."""
    from hermes.cli import actors

    actors.show_tree(os.environ, data_dir, interval_s if watch else None, as_json=as_json)


@app.command()
def top(
    once: Annotated[bool, typer.Option("--once", help="Look once.")] = False,
    interval_s: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks.")] = 2.0,
    limit: Annotated[int, typer.Option(min=1, max=100, help="At most so many of each.")] = 10,
    sort: Annotated[str, typer.Option(help="Actors by mailbox, time or restarts.")] = "mailbox",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show what stands out: actors, carriers, tenants, what supervisors decided. --json looks once."""
    from hermes.cli import overview

    if sort not in overview.SORTS:
        raise typer.BadParameter(f"--sort: {', '.join(overview.SORTS)}")
    overview.run(os.environ, data_dir, None if once else interval_s, limit, sort, as_json=as_json)


@app.command()
def bench(
    rate: Annotated[float, typer.Option(min=0.1, help="Messages per second.")] = 100.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="For how long.")] = 10.0,
    to: Annotated[
        list[str] | None,
        typer.Option(help="CHANNEL=ADDRESS, as for hermes send. Default: sms=+4520120001.", show_default=False),
    ] = None,
    text: Annotated[str, typer.Option(help="What to say.")] = "hermes bench",
    key: Annotated[
        str | None,
        typer.Option(help="A tenant's key; with a live one, messages really leave. Default: a tenant in the sandbox."),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Put a bounded load on a running node, and look every accepted message up at the end."""
    from hermes.cli import load, messages

    request = messages.request_body({"to": to or ["sms=+4520120001"], "text": text}, None)
    load.run(os.environ, data_dir, key, request, rate, seconds, as_json=as_json)


@app.command()
def inspect(
    name: ActorName,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show one actor."""
    from hermes.cli import actors

    actors.inspect(os.environ, data_dir, name, as_json=as_json)


@_actors.command("suspend")
def actor_suspend(name: ActorName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let an actor serve urgent mail only; the rest waits until it is resumed."""
    from hermes.cli import actors

    actors.order(os.environ, data_dir, name, "suspend", as_json=as_json)


@_actors.command("resume")
def actor_resume(name: ActorName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let a suspended actor go on."""
    from hermes.cli import actors

    actors.order(os.environ, data_dir, name, "resume", as_json=as_json)


@_actors.command("restart")
def actor_restart(name: ActorName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Stop an actor and start it again; also one that is stopped, or waits for its back-off."""
    from hermes.cli import actors

    actors.order(os.environ, data_dir, name, "restart", as_json=as_json)


@_actors.command("stop")
def actor_stop(name: ActorName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Stop an actor and leave it down until it is restarted."""
    from hermes.cli import actors

    actors.order(os.environ, data_dir, name, "stop", as_json=as_json)


@_actors.command("log-level")
def actor_log_level(
    name: ActorName,
    level: Annotated[str, typer.Argument(help="debug, info, warning, error; default takes it back.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Set the log level of an actor and all below it, while the node runs."""
    from hermes.cli import actors

    actors.log_level(os.environ, data_dir, name, level, as_json=as_json)


@app.command()
def openapi(data_dir: DataDir = None, as_json: Json = False) -> None:
    """Print the OpenAPI document of the node: JSON, with and without --json."""
    from hermes.cli import client

    client.print_json(client.connect(os.environ, data_dir).get("/openapi.json"))


# --- carriers and routes


@_carriers.command("list")
def carrier_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the carriers: state, breaker, queue, and why one is not up."""
    from hermes.cli import carriers

    carriers.list_all(os.environ, data_dir, as_json=as_json)


@_carriers.command("pause")
def carrier_pause(name: CarrierName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Send nothing more by a carrier until it is resumed; what waits moves to the next one."""
    from hermes.cli import carriers

    carriers.order(os.environ, data_dir, name, "pause", as_json=as_json)


@_carriers.command("resume")
def carrier_resume(name: CarrierName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Go on sending; also closes the breaker and lifts a stop after a refused login."""
    from hermes.cli import carriers

    carriers.order(os.environ, data_dir, name, "resume", as_json=as_json)


@_carriers.command("drain")
def carrier_drain(name: CarrierName, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let what is under way end and send nothing more."""
    from hermes.cli import carriers

    carriers.order(os.environ, data_dir, name, "drain", as_json=as_json)


@_carriers.command("trace")
def carrier_trace(
    name: CarrierName,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="For how long; Ctrl-C ends it earlier.")] = 60.0,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show what goes to a carrier and what it answers, live: SMPP PDUs, answers, states. No texts, no whole numbers."""
    from hermes.cli import carriers

    carriers.trace(os.environ, data_dir, name, seconds, as_json=as_json)


@_routes.command("explain")
def route_explain(
    tenant: Annotated[str, typer.Option(help="The tenant that would send it, ten_...", show_default=False)],
    to: Annotated[
        list[str] | None,
        typer.Option(help="CHANNEL=ADDRESS, once for each step, as for hermes send.", show_default=False),
    ] = None,
    text: Annotated[str, typer.Option(help="What it would say.")] = "x",
    body: Annotated[
        str | None,
        typer.Option(help="A file with the whole request as JSON, - for standard input.", show_default=False),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Tell every candidate for a message in order, why it is in or out, and its price."""
    from hermes.cli import carriers, messages

    options = {"to": to, "text": text} if body is None else {}
    request = messages.request_body({name: value for name, value in options.items() if value}, body)
    carriers.explain(os.environ, data_dir, tenant, request, as_json=as_json)


# --- tenants and keys


@_tenants.command("create")
def tenant_create(
    name: Annotated[str, typer.Argument(help="A name for people.", show_default=False)],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a tenant."""
    from hermes.cli import tenants

    tenants.create(os.environ, data_dir, name, as_json=as_json)


@_tenants.command("list")
def tenant_list(data_dir: DataDir = None, as_json: Json = False) -> None:
    """List the tenants, oldest first."""
    from hermes.cli import tenants

    tenants.list_all(os.environ, data_dir, as_json=as_json)


@_tenants.command("show")
def tenant_show(tenant: Tenant, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show a tenant."""
    from hermes.cli import tenants

    tenants.show_tenant(os.environ, data_dir, tenant, as_json=as_json)


@_tenants.command("suspend")
def tenant_suspend(tenant: Tenant, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Take no more messages from a tenant; those it has are still sent."""
    from hermes.cli import tenants

    tenants.suspend(os.environ, data_dir, tenant, as_json=as_json)


@_tenants.command("resume")
def tenant_resume(tenant: Tenant, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Take messages from a suspended tenant again."""
    from hermes.cli import tenants

    tenants.resume(os.environ, data_dir, tenant, as_json=as_json)


@_tenants.command("onboard")
def tenant_onboard(
    name: Annotated[str, typer.Argument(help="What to call it.", show_default=False)],
    email: Annotated[str | None, typer.Option(help="Whom to write to.", show_default=False)] = None,
    webhook: Annotated[
        str | None, typer.Option(help="Where its webhooks go; their secret is shown this once.", show_default=False)
    ] = None,
    production: Annotated[bool, typer.Option("--production", help="With a live key, at once.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a tenant with its keys: a test key for the sandbox, a live one with --production. Shown this once."""
    from hermes.cli import tenants

    tenants.onboard(os.environ, data_dir, name, email, webhook, production=production, as_json=as_json)


@_tenants.command("approve")
def tenant_approve(tenant: Tenant, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let a tenant that signed up into the sandbox."""
    from hermes.cli import tenants

    tenants.approve(os.environ, data_dir, tenant, as_json=as_json)


@_tenants.command("promote")
def tenant_promote(tenant: Tenant, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Let a tenant go from the sandbox to production: it may collect its first live key."""
    from hermes.cli import tenants

    tenants.promote(os.environ, data_dir, tenant, as_json=as_json)


@_tenants.command("audit")
def tenant_audit(
    tenant: Annotated[str | None, typer.Argument(help="The tenant's id. Default: all.", show_default=False)] = None,
    limit: Limit = 50,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List what was changed of a tenant, and by whom, newest first."""
    from hermes.cli import tenants

    tenants.audit(os.environ, data_dir, tenant, limit, as_json=as_json)


@_tenants.command("delete")
def tenant_delete(
    tenant: Tenant,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """End a tenant and its keys at once; its open messages still end."""
    from hermes.cli import tenants

    if not yes and not as_json and sys.stdin.isatty():
        typer.confirm(f"Delete tenant {tenant} and end all its keys?", abort=True)
    tenants.delete(os.environ, data_dir, tenant, as_json=as_json)


@_keys.command("create")
def key_create(
    tenant: Tenant,
    mode: Annotated[str, typer.Option(help="live, or test: its messages go to the sandbox.")] = "live",
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="messages:write, messages:read, tenant:manage; may be repeated. Default: all.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a key. It is shown this once."""
    from hermes.cli import tenants

    tenants.create_key(os.environ, data_dir, tenant, mode, scope or [], as_json=as_json)


@_keys.command("list")
def key_list(tenant: Tenant, data_dir: DataDir = None, as_json: Json = False) -> None:
    """List a tenant's keys, by their beginnings."""
    from hermes.cli import tenants

    tenants.list_keys(os.environ, data_dir, tenant, as_json=as_json)


KeyId = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, key_...", show_default=False)]


@_keys.command("rotate")
def key_rotate(
    tenant: Tenant,
    key_id: KeyId,
    overlap_s: Annotated[
        float, typer.Option(min=0, help="Seconds the old key stays valid beside the new one.")
    ] = 86_400,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Make a successor with the same rights. It is shown this once."""
    from hermes.cli import tenants

    tenants.rotate_key(os.environ, data_dir, tenant, key_id, overlap_s, as_json=as_json)


@_keys.command("revoke")
def key_revoke(tenant: Tenant, key_id: KeyId, data_dir: DataDir = None, as_json: Json = False) -> None:
    """End a key at once."""
    from hermes.cli import tenants

    tenants.revoke_key(os.environ, data_dir, tenant, key_id, as_json=as_json)


# --- webhooks that were given up


@_dead_letters.command("list")
def dead_letters_list(
    tenant: Tenant,
    limit: Limit = 100,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List a tenant's dead letters, newest first."""
    from hermes.cli import tenants

    tenants.list_dead_letters(os.environ, data_dir, tenant, limit, as_json=as_json)


@_dead_letters.command("replay")
def dead_letters_replay(
    tenant: Tenant,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Which.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Send dead letters again."""
    from hermes.cli import tenants

    if bool(ids) == everything:
        raise typer.BadParameter("name the dead letters, or say --all")
    tenants.replay(os.environ, data_dir, tenant, ids, as_json=as_json)


# --- recipients

ListOf = Annotated[
    str,
    typer.Argument(metavar="TENANT", help="The tenant's id, or all: the operator's list, for every tenant."),
]
Address = Annotated[
    str,
    typer.Argument(
        help="Phone number, e-mail address or device token; - reads it from standard input.", show_default=False
    ),
]
Channel = Annotated[str | None, typer.Option(help="email, sms, push or whatsapp.", show_default=False)]


@_suppressions.command("add")
def suppression_add(
    tenant: ListOf,
    address: Address,
    channel: Channel = None,
    reason: Annotated[str | None, typer.Option(help="Why, for people.", show_default=False)] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Never write to a recipient again, on one channel or on all; what is queued for them ends at once."""
    from hermes.cli import recipients

    recipients.add(os.environ, data_dir, tenant, address, channel, reason, as_json=as_json)


@_suppressions.command("list")
def suppression_list(
    tenant: ListOf,
    limit: Limit = 100,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List who must not be written to, newest first."""
    from hermes.cli import recipients

    recipients.list_all(os.environ, data_dir, tenant, limit, as_json=as_json)


@_suppressions.command("remove")
def suppression_remove(
    tenant: ListOf,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="The entries' ids, sup_...", show_default=False)],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Take recipients off the list."""
    from hermes.cli import recipients

    recipients.remove(os.environ, data_dir, tenant, ids, as_json=as_json)


@_suppressions.command("import")
def suppression_import(
    tenant: ListOf,
    file: Annotated[str, typer.Argument(help="CSV: a line of names, address among them; - for standard input.")],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Put the recipients of a CSV file on the list, however long it is; once more is harmless."""
    from hermes.cli import recipients

    recipients.import_file(os.environ, data_dir, tenant, file, as_json=as_json)


@_suppressions.command("export")
def suppression_export(
    tenant: ListOf,
    file: Annotated[str | None, typer.Argument(help="Default: standard output.", show_default=False)] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Write the list as CSV, the form that import takes."""
    from hermes.cli import recipients

    recipients.export_file(os.environ, data_dir, tenant, file, as_json=as_json)


@_consents.command("add")
def consent_add(
    tenant: Tenant,
    address: Address,
    channel: Annotated[str, typer.Option(help="email, sms, push or whatsapp.", show_default=False)],
    source: Annotated[str, typer.Option(help="Where it was given, as in: signup form.", show_default=False)],
    category: Annotated[str, typer.Option(help="To which messages: marketing, transactional or otp.")] = "marketing",
    ip: Annotated[str | None, typer.Option(help="From where.", show_default=False)] = None,
    text_version: Annotated[str | None, typer.Option(help="Which wording.", show_default=False)] = None,
    at: Annotated[str | None, typer.Option(help="When, RFC 3339. Default: now.", show_default=False)] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Store that a recipient agreed."""
    from hermes.cli import recipients

    proof = {"source": source, "ip": ip, "text_version": text_version, "at": at}
    recipients.agree(os.environ, data_dir, tenant, address, channel, category, proof, as_json=as_json)


@_consents.command("list")
def consent_list(
    tenant: Tenant,
    address: Annotated[
        str | None, typer.Argument(help="Of this recipient; - reads it from standard input.", show_default=False)
    ] = None,
    limit: Limit = 100,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List consents, newest first, withdrawn ones too."""
    from hermes.cli import recipients

    recipients.list_consents(os.environ, data_dir, tenant, address, limit, as_json=as_json)


@_consents.command("withdraw")
def consent_withdraw(
    tenant: Tenant,
    consent: Annotated[str, typer.Argument(help="The record's id, con_...", show_default=False)],
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Let what a recipient agreed to, for that channel and category, count no more."""
    from hermes.cli import recipients

    recipients.withdraw(os.environ, data_dir, tenant, consent, as_json=as_json)


@app.command()
def erase(
    tenant: Tenant,
    address: Address,
    channel: Channel = None,
    wait: Annotated[bool, typer.Option(help="Until it is done.")] = True,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Erase a recipient: open messages are cancelled, addresses and content go, the facts of sending stay."""
    from hermes.cli import recipients

    if not yes and not as_json and address != "-" and sys.stdin.isatty():
        typer.confirm(f"Erase everything that tells of {address}, for good?", abort=True)
    recipients.erase(os.environ, data_dir, tenant, address, channel, wait=wait, as_json=as_json)


@app.command()
def usage(
    tenant: Tenant,
    first: Annotated[str | None, typer.Option("--from", help="A day, 2026-01-05. Default: 30 days ago.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="A day, included. Default: today (UTC).")] = None,
    mode: Annotated[str, typer.Option(help="live, or test.")] = "live",
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show what a tenant used: messages, attempts, segments and cost, by day, channel, carrier and status."""
    from hermes.cli import recipients

    recipients.usage(os.environ, data_dir, tenant, first, last, mode, as_json=as_json)
