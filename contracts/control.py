"""Commands to every node at once, on the fanout exchange of control."""

from typing import Literal

from contracts.message import JobId, Message


class CancelRequest(Message):
    """Stop a job: a queued one is dropped on delivery, a running one before its next step."""

    command: Literal["cancel"] = "cancel"
    """What to do."""
    job_id: JobId
