"""Objects in memory and on virtual time behave as the real ones."""

from uuid import uuid4

import pytest

from node.errors import StoreUnavailable
from node.stores.objects import Objects
from tests.fakes import Fault
from tests.properties.objects import InMemoryObjects


@pytest.fixture(params=["real", "in memory"])
def objects(request: pytest.FixtureRequest) -> Objects | InMemoryObjects:
    if request.param == "real":
        return Objects(f"memory://{uuid4().hex}", timeout_seconds=30.0)
    return InMemoryObjects({})


async def test_what_was_written_is_read(objects: Objects) -> None:
    assert await objects.read("jobs/a/claim-1") is None
    await objects.write("jobs/a/claim-1", b"old")
    await objects.write("jobs/a/claim-1", b"new")
    assert await objects.read("jobs/a/claim-1") == b"new"


async def test_of_two_who_create_an_object_the_first_one_does(objects: Objects) -> None:
    assert await objects.create("jobs/a/claim-1", b"first")
    assert not await objects.create("jobs/a/claim-1", b"second")
    assert await objects.read("jobs/a/claim-1") == b"first"


async def test_a_folder_lists_its_own_objects_only(objects: Objects) -> None:
    await objects.create("jobs/a/claim-1", b"")
    await objects.create("jobs/a/claim-2", b"")
    await objects.create("jobs/ab/claim-3", b"")
    assert sorted(await objects.names("jobs/a")) == ["claim-1", "claim-2"]
    assert await objects.names("jobs/none") == []


async def test_an_answer_that_is_lost_tells_nothing_of_what_was_done() -> None:
    faults = [Fault.STORE_AWAY, Fault.STORE_ANSWER_LOST]

    async def inject(*possible: Fault) -> Fault | None:
        return faults.pop(0) if faults and faults[0] in possible else None

    objects = InMemoryObjects({}, inject)
    with pytest.raises(StoreUnavailable):
        await objects.create("never-there", b"")
    with pytest.raises(StoreUnavailable):
        await objects.create("there", b"")
    assert await objects.read("never-there") is None
    assert await objects.read("there") == b""
