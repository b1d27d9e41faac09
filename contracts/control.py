"""Commands to every node at once, on the fanout exchange of control."""

from typing import Literal

from contracts import examples
from contracts.message import JobId, Message, example


class CancelRequest(Message):
    """Stop a job: a queued one is dropped on delivery, a running one before its next step.

    Jobs that were started for it are stopped as well: a mega-service calls them `<job id>:…`.
    """

    model_config = example(command="cancel", job_id=examples.JOB_ID)

    command: Literal["cancel"] = "cancel"
    """What to do."""
    job_id: JobId
