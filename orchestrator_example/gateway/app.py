"""The gateway's HTTP application: every door, with the guards before it."""

from typing import Final, Literal

from fastapi import FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import Field

from contracts.message import Message
from node import __version__
from node.ports import Clock
from orchestrator_example.gateway.answering import add_refusals, refused
from orchestrator_example.gateway.desk import JobDesk
from orchestrator_example.gateway.figures import add_job_figures
from orchestrator_example.gateway.guarding import add_guards
from orchestrator_example.gateway.jobs_door import router as jobs_router
from orchestrator_example.gateway.keys import KeyRing
from orchestrator_example.gateway.links import FILES_PATH, Links
from orchestrator_example.gateway.opea_door import OPEN_PATHS, opea_router
from orchestrator_example.gateway.openai_door import router as openai_router
from orchestrator_example.gateway.openapi_document import add_document
from orchestrator_example.gateway.recording import HttpMetrics
from orchestrator_example.gateway.statistics import ServiceStatistics

TITLE: Final = "text2image gateway"
DESCRIPTION: Final = "Pictures from text over HTTP: jobs, OPEA's interface and OpenAI's"
_OPEN_PATHS: Final = (
    *OPEN_PATHS,
    "/health/live",
    "/health/ready",
    "/metrics",
    "/docs",
    "/openapi.json",
    f"{FILES_PATH}/*",
)
"""What is asked without an API key: by machines, by people who look, by <img> tags."""


def make_app(desk: JobDesk, keys: KeyRing, clock: Clock) -> FastAPI:
    """Build the application; what it serves is the desk's."""
    settings = desk.settings
    app = FastAPI(
        title=TITLE,
        version=__version__,
        description=DESCRIPTION,
        servers=[{"url": settings.public_url}] if settings.public_url else None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,  # every answer is an object of JSON, and a redirect is none
        generate_unique_id_function=_name,
    )
    secret = settings.link_secret.get_secret_value() if settings.link_secret else None
    registry = CollectorRegistry()
    app.state.desk = desk
    app.state.settings = settings
    app.state.links = Links(secret, settings.link_seconds)
    app.state.statistics = ServiceStatistics(desk.services, clock.monotonic)
    add_job_figures(registry, desk)
    app.include_router(jobs_router)
    app.include_router(openai_router)
    app.include_router(opea_router(desk.services))
    _add_health(app, desk, registry)
    add_document(app, desk.services.values(), needs_key=keys.needs_key, open_paths=_OPEN_PATHS)
    add_refusals(app)
    add_guards(
        app,
        settings,
        keys=keys,
        metrics=HttpMetrics(registry),
        answer=refused,
        open_paths=_OPEN_PATHS,
    )
    return app


class Readiness(Message):
    """Whether jobs can be taken."""

    status: Literal["ready", "not ready"]
    reasons: list[str] = Field(default_factory=list)
    """Why not."""


def _name(route: APIRoute) -> str:
    """Name an operation for clients that are generated: like its function."""
    return route.name.strip("_")


def _add_health(app: FastAPI, desk: JobDesk, registry: CollectorRegistry) -> None:
    @app.get("/health/live", tags=["health"])
    async def live() -> dict[str, str]:
        """Say that the process answers."""
        return {"status": "alive"}

    @app.get(
        "/health/ready",
        tags=["health"],
        response_model=Readiness,
        responses={503: {"model": Readiness, "description": "Jobs cannot be taken now"}},
    )
    async def ready() -> Response:
        """Say whether jobs can be taken: 503 with the reasons why not."""
        why = desk.directory.cut_off()
        state = Readiness(status="not ready", reasons=[why]) if why else Readiness(status="ready")
        return JSONResponse(state.model_dump(), 503 if why else 200)

    @app.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Tell figures in Prometheus' text format."""
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
