"""The guardrail service: deny-lists, patterns and, by setting, a classification model.

As OPEA's guardrail does, it answers a text that violates a policy with a sentence that says which,
and with `downstream_black_list: [".*"]`, so that no later stage runs. The verdict is the result of
the job: a flagged text is a job that succeeded.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Final

import structlog
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from contracts.guardrail import (
    EVERYTHING,
    GUARDRAIL,
    GuardrailRequest,
    GuardrailResult,
    Violation,
)
from contracts.message import Message
from contracts.result import JobResult, Status
from node.component import Component, DeviceInfo, Health, Invocation, ReportLoad
from node.errors import JobStopped, SetupError
from node.settings import CommaSeparated, Settings
from orchestrator_example.services.guard_judge import judge
from orchestrator_example.services.guard_model import ModelGuard
from orchestrator_example.services.guard_policies import Policy, load_policies

SHIPPED_POLICIES: Final = Path(__file__).parent / "policies" / "default.yaml"
THREADS: Final = 2

log = structlog.get_logger(__name__)


class GuardrailSettings(BaseSettings):
    """What an operator can set; every name has the prefix `GUARDRAIL_` in the environment."""

    model_config = SettingsConfigDict(
        env_prefix="GUARDRAIL_",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        env_ignore_empty=True,
    )

    policies: Path = SHIPPED_POLICIES
    """YAML file of policies."""
    timeout_seconds: float = Field(default=1.0, gt=0, le=60)
    """Processor time that patterns may take over one text; one that takes more is flagged."""
    model: str | None = None
    """Text-classification model that judges what the policies let pass: hub id or folder."""
    unsafe_labels: CommaSeparated = []
    """Labels of the model that count as unsafe, separated by commas."""
    threshold: float = Field(default=0.5, gt=0, le=1)
    """From this score on, an unsafe label counts."""


class Guardrail(Component):
    """Judges texts by the policies of a file."""

    name: ClassVar[str] = GUARDRAIL
    service_type: ClassVar[str] = "GUARDRAIL"
    description: ClassVar[str] = "Judges texts by deny-lists and patterns"
    request_model: ClassVar[type[Message]] = GuardrailRequest
    result_model: ClassVar[type[JobResult]] = GuardrailResult
    slots: ClassVar[int] = THREADS

    def __init__(self, settings: Settings, guardrail: GuardrailSettings | None = None) -> None:
        self._settings = own = guardrail or _read_settings()
        self._model = (
            ModelGuard(settings, own.model, own.unsafe_labels, own.threshold) if own.model else None
        )
        self._threads = ThreadPoolExecutor(THREADS, "guardrail")
        self._policies: tuple[Policy, ...] = ()

    async def load(self, report: ReportLoad) -> None:
        """Read and compile the policies, and load the model, if there is one. Raises SetupError."""
        path = self._settings.policies
        loading = asyncio.get_running_loop().run_in_executor(self._threads, load_policies, path)
        self._policies = await loading
        log.info("policies.loaded", file=str(path), names=[each.name for each in self._policies])
        if self._model is not None:
            await self._model.load(report)

    async def invoke(self, request: Message, invocation: Invocation) -> JobResult:
        """Judge the text; the policies take no longer than the time limit and some milliseconds."""
        assert isinstance(request, GuardrailRequest)
        if status := invocation.stop_requested():
            raise JobStopped(status)
        loop = asyncio.get_running_loop()
        violations = await loop.run_in_executor(
            self._threads, judge, request.text, self._policies, self._settings.timeout_seconds
        )
        if not violations and self._model is not None:
            judged = await self._model.invoke(request, invocation)
            assert isinstance(judged, GuardrailResult)
            violations = judged.violations
        if violations:
            violated = list(dict.fromkeys(each.policy for each in violations))
            log.info("text.flagged", job_id=invocation.job_id, policies=violated)
        return self._verdict(request.text, violations, invocation.job_id)

    def health(self) -> Health:
        """Healthy as the model is, if there is one."""
        return Health(healthy=True) if self._model is None else self._model.health()

    def device(self) -> DeviceInfo | None:
        """Say what the model computes on."""
        return None if self._model is None else self._model.device()

    async def close(self) -> None:
        """Free the model, and end the threads once they are done."""
        if self._model is not None:
            await self._model.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verdict(self, text: str, violations: list[Violation], job_id: str) -> GuardrailResult:
        return GuardrailResult(
            job_id=job_id,
            status=Status.SUCCEEDED,
            text=self._refusal(violations) if violations else text,
            flagged=bool(violations),
            violations=violations,
            downstream_black_list=[EVERYTHING] if violations else [],
        )

    def _refusal(self, violations: list[Violation]) -> str:
        messages = {each.name: each.message for each in self._policies}
        named = {
            each.policy: f"{each.policy} ({messages.get(each.policy, 'found by a model')})"
            for each in violations
        }
        return f"Violated policies: {', '.join(named.values())}. Please check your input."


def _read_settings() -> GuardrailSettings:
    try:
        return GuardrailSettings()
    except ValidationError as error:
        item = error.errors(include_url=False)[0]
        name = "_".join(str(part) for part in item["loc"]).upper()
        raise SetupError(f"GUARDRAIL_{name}: {item['msg']}") from error
