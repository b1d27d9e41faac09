"""How results and claims are written: half an object, or another one, is never taken for whole."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from contracts.result import JobResult
from node.errors import Disposition
from node.job import Outcome
from node.ports import KeptResult


def encode_result(kept: KeptResult) -> bytes:
    """Write a line of JSON that describes the result, then the result as it goes on the wire."""
    body = kept.outcome.result.to_json()
    head = {
        "job_id": kept.job_id,
        "fingerprint": kept.fingerprint,
        "replay": kept.replay,
        "disposition": kept.outcome.disposition.value,
        "sha256": hashlib.sha256(body).hexdigest(),
    }
    return json.dumps(head).encode() + b"\n" + body


def decode_result(data: bytes, result_model: type[JobResult]) -> KeptResult:
    """Read a result. Raises ValueError when it is not whole, or not ours."""
    line, _, body = data.partition(b"\n")
    head = _object(line)
    if head.get("sha256") != hashlib.sha256(body).hexdigest():
        raise ValueError("its bytes are not those of its SHA-256")
    result = result_model.model_validate_json(body)
    outcome = Outcome(result, Disposition(head.get("disposition", "")))
    job_id, fingerprint, replay = (head.get(key) for key in ("job_id", "fingerprint", "replay"))
    if not (isinstance(fingerprint, str) and isinstance(replay, int) and job_id == result.job_id):
        raise ValueError("it lacks what identifies it")
    return KeptResult(result.job_id, fingerprint, outcome, replay)


@dataclass(frozen=True, slots=True)
class Claim:
    """Who works on a job. The owner counts `beat` up for as long as it lives."""

    owner: str
    beat: int = 0
    released: bool = False

    def encode(self) -> bytes:
        claim = {"owner": self.owner, "beat": self.beat, "released": self.released}
        return json.dumps(claim).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Claim":
        """Read a claim. Raises ValueError when it is not whole, or not ours."""
        fields = _object(data)
        owner, beat, released = (fields.get(key) for key in ("owner", "beat", "released"))
        if not (isinstance(owner, str) and isinstance(beat, int) and isinstance(released, bool)):
            raise ValueError("it is not a claim")
        return cls(owner, beat, released)


def _object(data: bytes) -> dict[str, Any]:
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value
