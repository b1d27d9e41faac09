"""OPEA's interface: pictures and mega-services, each call answered once its job has ended.

An OPEA `ServiceOrchestrator` reaches every one of these as a remote `MicroService`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import structlog
from fastapi import APIRouter, Body, Depends, Request, Response

from contracts.megaservice import MegaServiceResult
from contracts.result import JobResult, Status
from contracts.service import ServiceContract
from contracts.text2image import Text2ImageResult
from node import __version__
from orchestrator_example.gateway.access import JSON_ONLY, Call
from orchestrator_example.gateway.opea_answer import (
    WARNING_HEADER,
    Alive,
    HealthCheck,
    InvalidBody,
    OpeaChain,
    OpeaImages,
    warning_headers,
)
from orchestrator_example.gateway.opea_body import Tolerated, body_of
from orchestrator_example.gateway.opea_route import OpeaRoute, Unsuccessful
from orchestrator_example.gateway.problems import PROBLEMS
from orchestrator_example.gateway.statistics import ServiceFigures, ServiceStatistics

OPEN_PATHS: Final = ("/health", "/v1/health_check")
"""What is asked without an API key: by health checks."""

_TOLERANCE: Final = (
    "OPEA's clients work unchanged. Fields that are not known here are ignored; the headers "
    f"`{WARNING_HEADER}` name them."
)
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    **PROBLEMS,
    200: {
        "headers": {
            WARNING_HEADER: {
                "description": "What was changed or not heeded; one header each",
                "schema": {"type": "string"},
            }
        }
    },
    422: {"model": InvalidBody, "description": "The request is not valid"},
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OpeaCall(Call):
    """One call of a door of OPEA's, and where its warnings go."""

    response: Response

    async def result(self, service: str, body: Tolerated) -> JobResult:
        """Have the work done, and wait for it. Raises Unsuccessful, or what the desk does."""
        job = await self.submit(service, body.request)
        if body.warnings:
            # Names of fields only: what a service warns of may quote the prompt.
            log.info("request.fields_ignored", job_id=job.id, why=warning_headers(body.warnings))
        async with self.desk.attended(self.request, job):
            result = await self.desk.result(job)
        if result.status is not Status.SUCCEEDED:
            raise Unsuccessful(result, body.request)
        return result

    def warn(self, warnings: Sequence[str]) -> None:
        """Tell the caller what was not heeded, where OPEA's answers have no place for it."""
        for warning in warning_headers(warnings):
            self.response.headers.append(WARNING_HEADER, warning)


ACall = Annotated[OpeaCall, Depends()]


def opea_router(services: Mapping[str, ServiceContract]) -> APIRouter:
    """Make the doors of these services: those of pictures and the mega-services among them."""
    router = APIRouter(route_class=OpeaRoute, tags=["OPEA"])
    for contract in services.values():
        if issubclass(contract.result, MegaServiceResult):
            _add_chain(router, contract)
        elif issubclass(contract.result, Text2ImageResult):
            _add_images(router, contract)
    router.add_api_route("/health", _health, summary="Say that the gateway lives")
    router.add_api_route("/v1/health_check", _health_check, summary="Say what the gateway is")
    for path in OPEN_PATHS:
        router.add_api_route(path, _health, methods=["HEAD"], include_in_schema=False)
    router.add_api_route("/v1/statistics", _statistics, summary="Tell latencies, in seconds")
    return router


def _add_images(router: APIRouter, contract: ServiceContract) -> None:
    async def generate(
        body: Annotated[Any, body_of(contract.request), Body()], call: ACall
    ) -> OpeaImages:
        with call.statistics.measured(contract.name):
            result = await call.result(contract.name, body)
            assert isinstance(result, Text2ImageResult)
            images = await call.desk.files(result.images)
        call.warn([*body.warnings, *result.warnings])
        return OpeaImages(id=result.job_id, images=images)

    _add(router, contract, generate, "Make images", "Images, once they are made.")


def _add_chain(router: APIRouter, contract: ServiceContract) -> None:
    async def run(
        body: Annotated[Any, body_of(contract.request), Body()], call: ACall
    ) -> OpeaChain:
        with call.statistics.measured(contract.name):
            result = await call.result(contract.name, body)
            assert isinstance(result, MegaServiceResult)
            images = await call.desk.files(result.images)
        warnings = [*body.warnings, *result.warnings]
        call.warn(warnings)
        return OpeaChain(id=result.job_id, images=images, stages=result.stages, warnings=warnings)

    _add(router, contract, run, "Run a mega-service", f"{contract.description}.")


def _add(
    router: APIRouter, contract: ServiceContract, endpoint: Any, summary: str, description: str
) -> None:
    router.add_api_route(
        f"/v1/{contract.name}",
        endpoint,
        methods=["POST"],
        operation_id=f"opea_{contract.name}",
        summary=f"{summary} ({contract.name})",
        description=f"{description} {_TOLERANCE}",
        responses=_ANSWERS,
        dependencies=[JSON_ONLY],
    )


async def _health() -> Alive:
    return Alive()


async def _health_check(request: Request) -> HealthCheck:
    app = request.app
    return HealthCheck(title=app.title, version=__version__, description=app.description)


async def _statistics(request: Request) -> dict[str, ServiceFigures]:
    statistics: ServiceStatistics = request.app.state.statistics
    return statistics.figures()
