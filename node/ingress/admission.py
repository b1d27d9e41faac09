"""Whether a job may run here, and how it ends if it may not."""

from contracts.result import Status
from contracts.text2image import ResponseKind
from contracts.topology import unanswered_queue
from node.component import Component
from node.errors import InvalidRequest, JobError
from node.ingress.given_up import given_up
from node.job import Job, Outcome
from node.ports import Delivery


def refusal(
    job: Job,
    delivery: Delivery,
    component: Component,
    *,
    cancelled: bool,
    has_store: bool,
    time: float,
) -> Outcome | None:
    """Say how the job ends if it must not run. `time` is in Unix seconds."""
    result_model = component.result_model
    if delivery.queue == unanswered_queue(component.name):
        return given_up(delivery.message, job.envelope, result_model)
    if cancelled:
        return Outcome.stopped(result_model, job.envelope, Status.CANCELLED)
    if job.deadline is not None and time >= job.deadline:
        return Outcome.stopped(result_model, job.envelope, Status.EXPIRED)
    try:
        if not has_store:
            _refuse_references(job)
        component.admit(job.request)
    except JobError as error:
        return Outcome.failed(result_model, job.envelope, error)
    return None


def _refuse_references(job: Job) -> None:
    if getattr(job.request, "response", None) is ResponseKind.REFERENCE:
        raise InvalidRequest(
            "response: this node has no artifact store; ask for inline, or let the operator set "
            "NODE_ARTIFACT_STORE"
        )
