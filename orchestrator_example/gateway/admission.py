"""Which jobs are refused before anybody else hears of them. Pure."""

from collections.abc import Sequence
from typing import Final

from contracts.message import Message
from contracts.service import ServiceContract
from node.discovery.directory import ServiceEntry
from node.errors import ModelNotAvailable
from node.submission import named_model
from orchestrator_example.gateway.errors import Busy
from orchestrator_example.gateway.job import Job
from orchestrator_example.gateway.memory import JobMemory
from orchestrator_example.gateway.settings import GatewaySettings

RETRY_SECONDS: Final = 5.0


def check_room(job: Job, memory: JobMemory, settings: GatewaySettings) -> None:
    """Refuse a job that is one too many. Raises Busy."""
    if memory.num_on_their_way >= settings.max_jobs:
        why = f"{memory.num_on_their_way} jobs are on their way, no more are taken"
        raise Busy(why, RETRY_SECONDS)
    room = max(settings.job_bytes, settings.max_body_bytes)
    if memory.request_bytes + job.request_bytes > room:
        why = "the requests on their way take all the memory there is for them"
        raise Busy(why, RETRY_SECONDS)


def check_there(
    contract: ServiceContract, request: Message, entries: Sequence[ServiceEntry]
) -> None:
    """Refuse what would wait for nobody. Raises Busy, ModelNotAvailable."""
    names = {each.name for each in entries}
    for name in (contract.name, *sorted(contract.needs)):
        if name not in names:
            why = f"no instance of {name} is there; start one, or use POST /v1/jobs to wait"
            raise Busy(why, RETRY_SECONDS)
    there = [each.metadata for each in entries if each.name == contract.name]
    offered = {model.id for each in there for model in each.models}
    wanted = named_model(request)
    if wanted is not None and offered and wanted not in offered:
        raise ModelNotAvailable(
            f"no node offers the model {wanted!r}; offered are: {', '.join(sorted(offered))}"
        )
