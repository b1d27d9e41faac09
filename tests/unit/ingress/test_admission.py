"""Whether a job may run here, and how it ends if it may not."""

from typing import Any

from contracts.result import Status
from contracts.text2image import Text2ImageRequest
from contracts.topology import unanswered_queue
from node.ingress.admission import refusal
from node.job import Envelope, Job, Outcome
from node.ports import Delivery, IncomingMessage, Properties
from tests.fakes import ScriptedComponent

NOW = 1_700_000_000.0


def refused(
    queue: str = "text2image",
    deadline: float | None = None,
    headers: dict[str, Any] | None = None,
    request: dict[str, Any] | None = None,
    **given: Any,
) -> Outcome | None:
    body = Text2ImageRequest.model_validate({"prompt": "a cat", **(request or {})})
    job = Job(Envelope("a-job", None, None), body, "print", 0.0, deadline=deadline)
    message = IncomingMessage("", queue, body.to_json(), Properties(headers=headers or {}))
    delivery = Delivery(message, queue, generation=1, tag=1)
    given = {"cancelled": False, "has_store": False, "time": NOW, **given}
    return refusal(job, delivery, ScriptedComponent(), **given)


def test_a_good_request_may_run() -> None:
    assert refused() is None
    assert refused(deadline=NOW + 1) is None


def test_a_cancelled_job_and_one_past_its_deadline_end_as_such() -> None:
    cancelled, expired = refused(cancelled=True), refused(deadline=NOW)
    assert cancelled is not None
    assert expired is not None
    assert (cancelled.status, expired.status) == (Status.CANCELLED, Status.EXPIRED)


def test_what_the_broker_gave_up_never_runs() -> None:
    outcome = refused(
        unanswered_queue("text2image"), headers={"x-death": [{"reason": "delivery_limit"}]}
    )
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error.code == "attempts_exhausted"


def test_a_reference_needs_a_store() -> None:
    by_reference = {"response": "reference"}
    assert refused(request=by_reference, has_store=True) is None
    outcome = refused(request=by_reference)
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error.code == "invalid_request"
    assert "NODE_ARTIFACT_STORE" in outcome.error.detail


def test_the_component_has_the_last_word() -> None:
    outcome = refused(request={"model": "unknown/model"})
    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error.code == "model_not_available"
