"""What commands share: where they print, how they fail, and their connection to the broker."""

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape

from node.amqp.broker import AmqpBroker
from node.errors import SetupError
from node.ingress.decoding import explain
from node.log import configure_logging
from node.parts import make_broker
from node.settings import Settings

CONNECT_SECONDS = 10.0
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}

# Rich takes a pipe for 80 columns wide, and would fold what programs want to read.
console = Console(width=None if sys.stdout.isatty() else 200)
errors = Console(stderr=True)

Service = Annotated[str, typer.Option(help="Name of the service.")]


def fail(why: str) -> NoReturn:
    """Say in one line what went wrong, and end with exit code 1."""
    complain("error", why, "red")
    sys.exit(1)


def warn(what: str) -> None:
    """Say what a person should know, beside the output."""
    complain("warning", what, "yellow")


def complain(kind: str, what: str, colour: str) -> None:
    """Print a line to stderr as it is, whatever it contains."""
    errors.print(f"[{colour}]{kind}[/] {escape(what)}", highlight=False, soft_wrap=True)


def say(what: str) -> None:
    """Print a line as it is, whatever it contains."""
    console.print(escape(what), highlight=False, soft_wrap=True)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end; Ctrl-C is exit code 130."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        sys.exit(130)


def read_settings(**given: Any) -> Settings:
    """Read the settings; what is given counts more than the environment. Raises SetupError."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise SetupError(f"settings: {explain(error)}") from error


def quiet_settings() -> Settings:
    """Read the settings, and keep logs out of the way of a command's own output."""
    settings = read_settings()
    configure_logging(settings.log_format, "ERROR")
    return settings


@contextmanager
def writing() -> Iterator[None]:
    """Write files inside the context. Raises SetupError that names the one that cannot be."""
    try:
        yield
    except OSError as error:
        raise SetupError(f"cannot write {error.filename}: {error.strerror}") from error


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[AmqpBroker]:
    """Open the broker for a command that a person waits for. Raises SetupError."""
    broker = make_broker(settings)
    async with broker.running():
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await broker.wait_until_connected()
        except TimeoutError:
            why = broker.problem()
            raise SetupError(f"{why}; start a broker, or set NODE_AMQP_URL") from None
        yield broker
