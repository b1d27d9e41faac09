"""Examine this machine and the broker, so that a person knows what to fix."""

import asyncio
import shutil
import sys
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from contracts.topology import service_topology
from node.amqp.broker import AmqpBroker
from node.component import ComponentRegistry
from node.errors import MessagingError, TopologyMismatch
from node.settings import Settings

BROKER_SECONDS: Final = 5.0
LOW_DISK_BYTES: Final = 10 * 1024**3
OLDEST_PYTHON: Final = (3, 11)
INFERENCE_EXTRA: Final = "pip install 'text2image-node[inference]'"


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding and, where something is wrong, what to do."""

    name: str
    verdict: Verdict
    finding: str
    remedy: str = ""


async def examine(settings: Settings) -> list[Check]:
    """Run every check; none of them raises."""
    checks = [_python()]
    checks += await asyncio.to_thread(_inference, settings)
    checks += await _broker(settings)
    checks.append(_disk(settings))
    return checks


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] < OLDEST_PYTHON:
        return Check("python", Verdict.FAIL, version, "install Python 3.11 or newer")
    return Check("python", Verdict.OK, version)


def _inference(settings: Settings) -> list[Check]:
    if find_spec("torch") is None or find_spec("diffusers") is None:
        finding = "torch or diffusers is not installed; this machine can submit, not serve"
        return [Check("inference", Verdict.WARN, finding, INFERENCE_EXTRA)]
    from node.inference.checks import inference_findings

    return [
        Check(name, Verdict(verdict), finding, remedy)
        for name, verdict, finding, remedy in inference_findings(settings)
    ]


async def _broker(settings: Settings) -> list[Check]:
    broker = AmqpBroker(settings.amqp_url)
    hosts = ", ".join(url.rsplit("@", 1)[-1] for url in settings.amqp_url)
    async with broker.running():
        try:
            async with asyncio.timeout(BROKER_SECONDS):
                await broker.wait_until_connected()
        except TimeoutError:
            remedy = "start RabbitMQ, or set NODE_AMQP_URL=amqp://user:password@host/"
            finding = f"cannot connect to {hosts}: {broker.problem()}"
            return [Check("broker", Verdict.FAIL, finding, remedy)]
        return [Check("broker", Verdict.OK, hosts), await _queues(broker, settings)]


def _services(settings: Settings) -> list[str]:
    """Name the services of the components; a bridge has its name from settings of its own."""
    names = [name.strip() for name in settings.component.split(",") if name.strip()]
    registry = ComponentRegistry()
    return [str(getattr(registry.find(name), "name", name)) for name in names]


async def _queues(broker: AmqpBroker, settings: Settings) -> Check:
    try:
        for service in _services(settings):
            await broker.check(service_topology(service))
    except TopologyMismatch as error:
        remedy = "text2image-node topology apply (a node does it at start, too)"
        return Check("queues", Verdict.WARN, str(error), remedy)
    except MessagingError as error:
        return Check("queues", Verdict.FAIL, str(error), "see the broker's log")
    return Check("queues", Verdict.OK, "every exchange and queue is there")


def _disk(settings: Settings) -> Check:
    folder = settings.cache_dir or Path.home()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    finding = f"{free / 1024**3:.1f} GiB free at {folder}"
    if free < LOW_DISK_BYTES:
        return Check("disk", Verdict.WARN, finding, "free some space; models take 2 to 60 GiB")
    return Check("disk", Verdict.OK, finding)
