"""Every refusal in the words of the door that was knocked at: always an object of JSON."""

from http import HTTPStatus
from typing import Final

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from contracts.failure import FailureCode, Problem
from node.errors import NodeError
from orchestrator_example.gateway.errors import BadRequest, GatewayError, NotRouted
from orchestrator_example.gateway.opea_answer import Fault, invalid_body
from orchestrator_example.gateway.openai_door import OPENAI_PATHS
from orchestrator_example.gateway.openai_errors import openai_refusal
from orchestrator_example.gateway.problems import PROBLEM_MEDIA_TYPE, problem_answer, refusal_of

_NO_OBJECT: Final = frozenset({"missing", "model_type", "model_attributes_type"})
"""Kinds of faults of a body that is not there, or is a list, a text, a number."""


log = structlog.get_logger(__name__)


def add_refusals(app: FastAPI) -> None:
    """Have an app answer errors as `refused` writes them."""

    @app.exception_handler(NodeError)
    async def on_error(request: Request, error: NodeError) -> Response:
        answer = refused(request.scope, error)
        if answer.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("request.refused", kind=type(error).__name__, reason=str(error))
        return answer

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        return _invalid(request.scope, error)

    @app.exception_handler(HTTPException)
    async def on_status(request: Request, error: HTTPException) -> Response:
        answer = refused(request.scope, _of_framework(request, error))
        answer.headers.update(error.headers or {})
        return answer


def refused(scope: Scope, error: NodeError) -> Response:
    """Answer an error as the door does that the path belongs to."""
    return openai_refusal(error) if _is_openai(scope) else problem_answer(refusal_of(error))


def _of_framework(request: Request, error: HTTPException) -> GatewayError:
    if error.status_code == HTTPStatus.BAD_REQUEST:
        # What pydantic is never asked about: a body that the reader of JSON gave up.
        return BadRequest(
            "the body cannot be read: send JSON in UTF-8, with less deep nests and shorter numbers"
        )
    why = f"{error.detail}: {request.method} of this path; /docs shows what there is"
    return NotRouted(error.status_code, why)


def _is_openai(scope: Scope) -> bool:
    return str(scope["path"]).startswith(OPENAI_PATHS)


def _invalid(scope: Scope, error: RequestValidationError) -> Response:
    """Name every fault of a request, beside the one sentence for people."""
    faults = invalid_body(error.errors())
    detail = _sentence(faults.detail[0])
    if _is_openai(scope):
        return openai_refusal(BadRequest(detail))
    problem = Problem.of(FailureCode.INVALID_REQUEST, detail, job_id="", retryable=False)
    body = problem.model_dump(exclude={"instance", "attempt"}) | {
        "errors": faults.model_dump()["detail"]
    }
    return JSONResponse(body, problem.status, media_type=PROBLEM_MEDIA_TYPE)


def _sentence(fault: Fault) -> str:
    """Say to people what is wrong: with the text, with what it stands for, or with a field."""
    match fault.loc:
        case [_, int() as place] if fault.type == "json_invalid":
            return f"the body is no JSON, at character {place}: {fault.msg}"
        case [_] if fault.type in _NO_OBJECT:
            return "the body must be an object of JSON; /docs shows what is in it"
        case [_, *field] if field:
            return f"{'.'.join(str(part) for part in field)}: {fault.msg}"
    return fault.msg
