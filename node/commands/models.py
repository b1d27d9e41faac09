"""`text2image-node models`: models on this machine."""

from typing import Annotated, Any

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from contracts.discovery import LoadState
from node.commands.common import HELP_OPTIONS, errors, read_settings, say
from node.settings import Settings

models_app = typer.Typer(
    no_args_is_help=True, context_settings=HELP_OPTIONS, help="Models on this machine."
)


@models_app.command("list")
def models_list() -> None:
    """List the models in the local cache."""
    from node.inference.hub import cached_models

    found = cached_models(_hub(read_settings()))
    for model in found:
        size = f"{model.size_bytes / 1024**3:.1f} GiB"
        say(f"{model.id}  {size}  {', '.join(model.revisions)}")
    if not found:
        say("no model is cached; fetch one: text2image-node models fetch ID")


@models_app.command("fetch")
def models_fetch(
    model: Annotated[str, typer.Argument(help="Hub id, or id@revision.")],
) -> None:
    """Download a model into the local cache, with progress."""
    from node.inference.hub import fetch_model, files_of
    from node.inference.offers import parse_models

    (spec,) = parse_models(model, [])
    hub = _hub(read_settings())
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=errors) as progress:
        bar = progress.add_task(f"downloading {spec.name}", total=None)

        def show(state: LoadState) -> None:
            progress.update(bar, total=state.bytes_total, completed=state.bytes_done)

        path = fetch_model(spec, hub, show, files_of(spec, hub))
    say(str(path))


def _hub(settings: Settings) -> Any:
    from node.inference.hub import Hub

    return Hub(settings.hf_token, settings.cache_dir, settings.offline)
