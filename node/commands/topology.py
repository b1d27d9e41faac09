"""`text2image-node topology`: exchanges and queues on the broker."""

import json
import sys
from typing import Annotated

import typer

from contracts.text2image import TEXT2IMAGE
from contracts.topology import definitions, service_topology
from node.commands.common import HELP_OPTIONS, Service, connected, quiet_settings, run, say, warn
from node.commands.permissions import Role, rabbitmqctl_lines
from node.discovery.trust import is_named_like
from node.errors import SetupError

topology_app = typer.Typer(
    no_args_is_help=True,
    context_settings=HELP_OPTIONS,
    help="Exchanges and queues on the broker.",
)

Models = Annotated[
    list[str] | None, typer.Option("--model", help="Models with a queue of their own.")
]


@topology_app.command("apply")
def topology_apply(model: Models = None, service: Service = "text2image") -> None:
    """Declare every exchange and queue that is missing."""
    _with_topology("apply", model, service)
    say("the topology is in place")


@topology_app.command("check")
def topology_check(model: Models = None, service: Service = "text2image") -> None:
    """Check, without declaring anything, that every exchange and queue is there."""
    _with_topology("check", model, service)
    say("the topology is in place")


@topology_app.command("export")
def topology_export(model: Models = None, service: Service = "text2image") -> None:
    """Print the topology as RabbitMQ definitions (rabbitmqctl import_definitions)."""
    exported = definitions(service_topology(service, model or []))
    sys.stdout.write(json.dumps(exported, indent=2) + "\n")


@topology_app.command("permissions")
def topology_permissions(
    service: Annotated[
        list[str] | None, typer.Argument(help="Services that the user serves.", show_default=False)
    ] = None,
    calls: Annotated[
        list[str] | None, typer.Option(help="A service that the user calls; several: repeat it.")
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="User of the broker; unset: called like the service.")
    ] = None,
    vhost: Annotated[str, typer.Option(help="Virtual host.")] = "/",
    replies: Annotated[
        bool,
        typer.Option(help="May answer to the queue that a caller names, which is any queue."),
    ] = True,
) -> None:
    """Print the rabbitmqctl lines for a user that serves or calls services, and may do no more."""
    role = Role(service or ([] if calls else [TEXT2IMAGE]), calls or [], replies=replies)
    user = user or next(iter(role.serves), None)
    if user is None:
        raise SetupError("name the user who calls, with --user")
    for served in role.serves:
        if not is_named_like(user, served):
            warn(
                f"listeners with NODE_VERIFY_ANNOUNCERS do not believe {user!r}: call the user "
                f"{served!r}, or '{served}.' and whatever you like"
            )
    for line in rabbitmqctl_lines(role, user, vhost):
        say(line)


def _with_topology(action: str, models: list[str] | None, service: str) -> None:
    settings = quiet_settings()
    topology = service_topology(service, models or settings.models)

    async def work() -> None:
        async with connected(settings) as broker:
            await getattr(broker, action)(topology)

    run(work())
