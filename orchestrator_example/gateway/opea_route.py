"""How OPEA's doors refuse, and tell of failures."""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from contracts.failure import FailureCode
from contracts.message import Message
from contracts.result import JobResult
from node.errors import JobNotSucceeded
from orchestrator_example.gateway.opea_answer import (
    InvalidBody,
    failure_details,
    invalid_body,
    refused_body,
)
from orchestrator_example.gateway.problems import PROBLEM_MEDIA_TYPE, refusal_of_result

INVALID: Final = 422


class Unsuccessful(JobNotSucceeded):
    """A job that did not succeed, and what it was asked for."""

    def __init__(self, result: JobResult, request: Message) -> None:
        super().__init__(result)
        self.request = request


class OpeaRoute(APIRoute):
    """Answers what OPEA's services answer to invalid requests: 422 with a list of faults."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler of FastAPI."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                return _invalid(invalid_body(error.errors()), {})
            except Unsuccessful as error:
                return _failed(error)

        return handled


def _failed(error: Unsuccessful) -> Response:
    """Answer with problem details, and with what a chain did before it failed."""
    problem, details = error.result.error, failure_details(error.result)
    if problem is not None and problem.code is FailureCode.INVALID_REQUEST:
        return _invalid(refused_body(problem, error.request), details)
    refusal = refusal_of_result(error.result)
    body = refusal.problem.model_dump(exclude_none=True) | details
    return JSONResponse(body, refusal.problem.status, refusal.headers, PROBLEM_MEDIA_TYPE)


def _invalid(body: InvalidBody, details: dict[str, Any]) -> Response:
    return JSONResponse(body.model_dump() | details, INVALID)
