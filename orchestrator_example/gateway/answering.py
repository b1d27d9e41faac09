"""Every refusal in the words of the door that was knocked at: always an object of JSON."""

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Scope

from contracts.failure import FailureCode, Problem
from node.errors import NodeError
from orchestrator_example.gateway.errors import BadRequest, NotRouted
from orchestrator_example.gateway.opea_answer import invalid_body
from orchestrator_example.gateway.openai_door import OPENAI_PATHS
from orchestrator_example.gateway.openai_errors import openai_refusal
from orchestrator_example.gateway.problems import PROBLEM_MEDIA_TYPE, problem_answer, refusal_of


def add_refusals(app: FastAPI) -> None:
    """Have an app answer errors as `refused` writes them."""

    @app.exception_handler(NodeError)
    async def on_error(request: Request, error: NodeError) -> Response:
        return refused(request.scope, error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        return _invalid(request.scope, error)

    @app.exception_handler(HTTPException)
    async def on_status(request: Request, error: HTTPException) -> Response:
        why = f"{error.detail}: {request.method} of this path; /docs shows what there is"
        answer = refused(request.scope, NotRouted(error.status_code, why))
        answer.headers.update(error.headers or {})
        return answer


def refused(scope: Scope, error: NodeError) -> Response:
    """Answer an error as the door does that the path belongs to."""
    return openai_refusal(error) if _is_openai(scope) else problem_answer(refusal_of(error))


def _is_openai(scope: Scope) -> bool:
    return str(scope["path"]).startswith(OPENAI_PATHS)


def _invalid(scope: Scope, error: RequestValidationError) -> Response:
    """Name every fault of a request, beside the one sentence for people."""
    faults = invalid_body(error.errors())
    first = faults.detail[0]
    detail = f"{'.'.join(str(part) for part in first.loc[1:])}: {first.msg}".removeprefix(": ")
    if _is_openai(scope):
        return openai_refusal(BadRequest(detail))
    problem = Problem.of(FailureCode.INVALID_REQUEST, detail, job_id="", retryable=False)
    body = problem.model_dump(exclude={"instance", "attempt"}) | {
        "errors": faults.model_dump()["detail"]
    }
    return JSONResponse(body, problem.status, media_type=PROBLEM_MEDIA_TYPE)
