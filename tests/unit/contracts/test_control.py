"""Commands to every node."""

import pytest
from pydantic import ValidationError

from contracts.control import CancelRequest


def test_a_cancel_names_its_job() -> None:
    cancel = CancelRequest.model_validate_json('{"command": "cancel", "job_id": "j1"}')
    assert (cancel.command, cancel.job_id) == ("cancel", "j1")


@pytest.mark.parametrize(
    "document", ["{}", '{"command": "stop", "job_id": "j1"}', '{"command": "cancel"}', "[]", ""]
)
def test_anything_else_is_no_command(document: str) -> None:
    with pytest.raises(ValidationError):
        CancelRequest.model_validate_json(document)
