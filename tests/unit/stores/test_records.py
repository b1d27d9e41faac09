"""What was written comes back, and no half of it does."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.result import JobResult
from contracts.text2image import Text2ImageResult
from node.errors import Disposition
from node.job import Outcome
from node.ports import KeptResult
from node.stores.records import Claim, decode_result, encode_result
from tests.unit.builders import failed, image, with_images
from tests.unit.stores.builders import kept

WHOLE = encode_result(kept(outcome=Outcome(with_images(image(b"picture")))))


@pytest.mark.parametrize("disposition", [Disposition.ACK, Disposition.DEAD_LETTER])
def test_a_result_comes_back_with_what_becomes_of_its_request(disposition: Disposition) -> None:
    mine = KeptResult("job", "abc", failed("job", disposition=disposition), replay=3)
    assert decode_result(encode_result(mine), Text2ImageResult) == mine


@given(st.integers(0, len(WHOLE) - 1))
def test_no_part_of_a_result_is_taken_for_a_whole_one(length: int) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any
        decode_result(WHOLE[:length], Text2ImageResult)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed_or_changes_no_picture(position: int, change: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[position] ^= change
    try:
        read = decode_result(bytes(damaged), Text2ImageResult)
    except ValueError:
        return
    assert position < WHOLE.index(b"\n"), "only what stands in the head, not in the result"
    assert read.outcome.result == decode_result(WHOLE, Text2ImageResult).outcome.result


@pytest.mark.parametrize("data", [b"", b"\n", b"null\n{}", b"[]", b"{}", b"{}\n{}", b"\xff\xfe"])
def test_what_is_no_result_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any
        decode_result(data, JobResult)


@pytest.mark.parametrize(
    "field", [{"fingerprint": None}, {"replay": "1"}, {"job_id": "other"}, {"disposition": "x"}]
)
def test_a_result_that_says_it_is_another_one_is_refused(field: dict[str, object]) -> None:
    head, body = WHOLE.split(b"\n")
    changed = json.dumps(json.loads(head) | field).encode() + b"\n" + body
    with pytest.raises(ValueError):  # noqa: PT011 - any
        decode_result(changed, Text2ImageResult)


def test_a_claim_comes_back() -> None:
    claim = Claim("node", beat=7, released=True)
    assert Claim.decode(claim.encode()) == claim


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"owner": 1, "beat": 0}', b"\xff"])
def test_what_is_no_claim_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any
        Claim.decode(data)
