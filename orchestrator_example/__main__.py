"""The command line: `python -m orchestrator_example ask "a red cat"`, `… serve`, `… key NAME`."""

from typing import Annotated, Final

import typer
from pydantic import ValidationError

from contracts.image2image import IMAGE2IMAGE, Image2ImageRequest, Image2ImageResult
from contracts.service import ServiceContract
from node.app import SystemClock, make_broker
from node.commands import common
from node.commands.serve import make_nodes, run_nodes
from node.component import ComponentLoader, ComponentRegistry
from node.errors import NodeError, NodeUnfit, SetupError
from node.ingress.decoding import explain
from node.log import configure_logging
from node.restart import restart_delay, start_anew
from orchestrator_example.ask import ask
from orchestrator_example.gateway.keys_file import new_key
from orchestrator_example.gateway.server import Gateway
from orchestrator_example.gateway.settings import GatewaySettings

_PICTURE_SERVICES: Final = (
    ServiceContract(),
    ServiceContract(
        IMAGE2IMAGE, Image2ImageRequest, Image2ImageResult, "Images from a picture and a text"
    ),
)
"""Served by nodes elsewhere; the mega-services are served here."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=common.HELP_OPTIONS,
    help="Mega-services, and the HTTP gateway in front of the broker.",
)
app.command()(ask)


@app.command()
def serve() -> None:
    """Run the gateway and its mega-services (GATEWAY_…, NODE_…) until SIGTERM or Ctrl-C."""
    gateway_settings = _gateway_settings()
    settings = common.read_settings(component=",".join(gateway_settings.megaservices))
    configure_logging(settings.log_format, settings.log_level)

    async def work() -> None:
        loader = ComponentLoader(ComponentRegistry(), settings)
        nodes = make_nodes(settings, loader, restart_delay()) if settings.component else []
        gateway = Gateway(
            gateway_settings,
            make_broker(settings),
            [*_PICTURE_SERVICES, *(node.contract for node in nodes)],
            SystemClock(),
            verify_announcers=settings.verify_announcers,
        )
        gateway.describe()
        await run_nodes([gateway, *nodes], loader)

    try:
        common.run(work())
    except NodeUnfit:
        start_anew()


@app.command()
def key(name: Annotated[str, typer.Argument(help="Who will use it.")]) -> None:
    """Make an API key: the key itself, which is shown only now, and its entry for the file."""
    token, entry = new_key(name)
    common.say(f"key, for {name} alone; it is kept nowhere:")
    common.say(f"  {token}")
    common.say("entry, for the list `keys` in GATEWAY_KEYS_FILE:")
    common.say(entry)


def _gateway_settings() -> GatewaySettings:
    try:
        return GatewaySettings()
    except ValidationError as error:
        raise SetupError(f"GATEWAY settings: {explain(error)}") from error


def main() -> None:
    """Run the command line; every expected failure is one line and exit code 1."""
    try:
        app()
    except (NodeError, TimeoutError) as error:
        common.fail(str(error) or "timed out")


if __name__ == "__main__":
    main()
