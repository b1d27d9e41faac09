"""A member of the broker's cluster dies, is cut off, stands still or is restarted.

In each scenario the first member leads the queues, a node is attached to the second, and the caller
to the third, unless the scenario says otherwise: so the faults of the three can be told apart.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from node.errors import BrokerUnavailable, Overloaded
from tests.faults.harness.account import Account
from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.cluster import PrivateCluster
from tests.faults.harness.fleet import Fleet, FleetNode
from tests.faults.harness.paced import paced
from tests.faults.harness.report import assert_nothing_lost
from tests.harness import SERVICE

LONG_STEPS: Final = 100
"""Two seconds of work: time enough to interfere."""
REFUSAL_SECONDS: Final = 4.0
LOAD_SECONDS: Final = 0.25


class SharedCluster:
    """One cluster for all scenarios; one that cannot be made good again is replaced."""

    def __init__(self) -> None:
        self._cluster: PrivateCluster | None = None

    async def good(self) -> PrivateCluster:
        """Return a cluster that is whole."""
        if self._cluster is None:
            self._cluster = PrivateCluster()
            await self._cluster.start()
        return self._cluster

    def close(self) -> None:
        """End it and throw its data away."""
        cluster, self._cluster = self._cluster, None
        if cluster is not None:
            cluster.close()


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[SharedCluster]:
    """A place for the cluster that scenarios share."""
    shared = SharedCluster()
    yield shared
    shared.close()


@pytest.fixture
async def cluster(shared_cluster: SharedCluster) -> AsyncIterator[PrivateCluster]:
    """Three members; the scenario may do anything to them."""
    cluster = await shared_cluster.good()
    await cluster.lay_out(at=cluster.members[0])
    yield cluster
    try:
        await cluster.repair()
    except Exception:
        shared_cluster.close()
        raise


@pytest.fixture
async def leader(cluster: PrivateCluster) -> FaultyBroker:
    """The member that leads the queues."""
    leader = await cluster.leader_of(SERVICE)
    assert leader is cluster.members[0]
    return leader


@pytest.fixture
def fleet(cluster: PrivateCluster, tmp_path: Path) -> Iterator[Fleet]:
    """Nodes of the cluster."""
    with Fleet(cluster.urls, tmp_path) as fleet:
        yield fleet


@pytest.fixture
async def node(cluster: PrivateCluster, fleet: Fleet) -> FleetNode:
    """A node attached to the second member."""
    return await fleet.start("one", urls=cluster.urls_from(cluster.members[1]))


@pytest.fixture
async def account(
    cluster: PrivateCluster, fleet: Fleet, request: pytest.FixtureRequest
) -> AsyncIterator[Account]:
    """The books of this scenario, of a caller attached to the third member."""
    urls = cluster.urls_from(cluster.members[2])
    async with Account.open(urls, fleet, request.node.name) as account:
        yield account


async def answer_a_new_job(account: Account, after: str) -> None:
    """Submit a job and wait for its result: the service works again.

    That counts as the recovery: results of jobs that ran already would come sooner.
    """
    began = time.monotonic()
    await account.result(await account.submit(paced("a new job")))
    account.noted(f"{after}, to the answer of a new job", round(time.monotonic() - began, 2))


@asynccontextmanager
async def steady_load(account: Account) -> AsyncIterator[None]:
    """Submit a job every so often inside the context; each must be confirmed."""
    enough = asyncio.Event()

    async def submit() -> None:
        seed = 0
        while not enough.is_set():
            await account.submit(paced("steady", seed=seed))
            await asyncio.sleep(LOAD_SECONDS)
            seed += 1

    load = asyncio.create_task(submit())
    try:
        yield
    finally:
        enough.set()
        await load


@pytest.mark.usefixtures("node")
async def test_the_leader_of_the_queues_dies_and_no_job_is_repeated(
    cluster: PrivateCluster, leader: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    jobs = await account.submit_many(6, steps=20)
    await fleet.begun(jobs[0])
    await leader.kill()
    await answer_a_new_job(account, "leader killed")
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 7}
    assert await cluster.leader_of(SERVICE) in cluster.others(leader)


async def test_the_member_that_the_node_is_attached_to_dies_and_no_job_is_repeated(
    cluster: PrivateCluster, node: FleetNode, fleet: Fleet, account: Account
) -> None:
    jobs = await account.submit_many(2, steps=LONG_STEPS)
    await fleet.begun(jobs[0])
    await cluster.members[1].kill()
    await answer_a_new_job(account, "the node's member killed")
    await node.logged("inbox.opened", times=2)
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 3}


@pytest.mark.usefixtures("node")
async def test_the_member_that_the_caller_is_attached_to_dies_and_results_find_the_caller(
    cluster: PrivateCluster, fleet: Fleet, account: Account
) -> None:
    jobs = await account.submit_many(2, steps=LONG_STEPS)
    await fleet.begun(jobs[0])
    await cluster.members[2].kill()
    await answer_a_new_job(account, "the caller's member killed")
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 3}


async def test_the_member_that_everything_hangs_on_dies_and_no_job_is_repeated(
    cluster: PrivateCluster,
    leader: FaultyBroker,
    fleet: Fleet,
    request: pytest.FixtureRequest,
) -> None:
    node = await fleet.start("one")
    async with Account.open(cluster.urls, fleet, request.node.name) as account:
        jobs = await account.submit_many(2, steps=LONG_STEPS)
        await fleet.begun(jobs[0])
        await leader.kill()
        await answer_a_new_job(account, "the only member in use killed")
        await node.logged("inbox.opened", times=2)
        report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 3}


@pytest.mark.usefixtures("node")
async def test_without_a_majority_requests_are_refused_in_time_and_none_that_was_taken_is_lost(
    cluster: PrivateCluster, leader: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    jobs = await account.submit_many(6, steps=20)
    await fleet.begun(jobs[0])
    await asyncio.gather(leader.kill(), cluster.members[2].kill())
    with pytest.raises(BrokerUnavailable, match=f"no confirm within {REFUSAL_SECONDS} s"):
        await account.submit(paced("too early"), timeout_seconds=REFUSAL_SECONDS)
    await cluster.start_all()
    await answer_a_new_job(account, "two of three are back")
    report = await account.settled(90)
    assert_nothing_lost(report)
    assert report.confirmed == 7


@pytest.mark.usefixtures("node")
async def test_all_members_die_at_once_and_no_request_that_was_taken_is_lost(
    cluster: PrivateCluster, fleet: Fleet, account: Account
) -> None:
    jobs = await account.submit_many(6, steps=20)
    await fleet.begun(jobs[0])
    await asyncio.gather(*(member.kill() for member in cluster.members))
    await cluster.start_all()
    await answer_a_new_job(account, "all three are back")
    report = await account.settled(90)
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 7}


async def test_a_caller_who_came_while_there_was_no_leader_is_served_once_there_is_one(
    cluster: PrivateCluster, leader: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    await fleet.start("one", urls=cluster.urls_from(cluster.members[2]))
    await cluster.members[1].suspend()
    await leader.kill()
    with pytest.raises((Overloaded, BrokerUnavailable)):
        await account.submit(paced("too early"), timeout_seconds=REFUSAL_SECONDS)
    await cluster.members[1].resume()
    assert await cluster.leader_of(SERVICE) is not leader
    await answer_a_new_job(account, "a leader again")
    assert_nothing_lost(await account.settled())


@pytest.mark.usefixtures("leader", "node")
@pytest.mark.parametrize(
    ("who", "place"),
    [("the leader", 0), ("the node's member", 1), ("the caller's member", 2)],
)
async def test_cut_off_from_the_others_a_member_holds_nothing_up_and_comes_back(
    who: str, place: int, cluster: PrivateCluster, fleet: Fleet, account: Account
) -> None:
    member = cluster.members[place]
    jobs = await account.submit_many(2, steps=LONG_STEPS)
    await fleet.begun(jobs[0])
    await cluster.partition(member)
    await answer_a_new_job(account, f"{who} cut off")
    assert await cluster.leader_of(SERVICE) is not member
    await cluster.heal(member)
    await answer_a_new_job(account, f"{who} is back")
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 4}


@pytest.mark.usefixtures("node")
async def test_the_leader_stands_still_and_jobs_go_on_without_it(
    cluster: PrivateCluster, leader: FaultyBroker, fleet: Fleet, account: Account
) -> None:
    jobs = await account.submit_many(2, steps=LONG_STEPS)
    await fleet.begun(jobs[0])
    await leader.suspend()
    await answer_a_new_job(account, "leader frozen")
    await leader.resume()
    await cluster.wait_until_whole()
    await answer_a_new_job(account, "leader goes on")
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.generations_per_job == {1: 4}


@pytest.mark.usefixtures("leader", "node")
async def test_all_members_are_restarted_in_turn_and_callers_notice_nothing(
    cluster: PrivateCluster, account: Account
) -> None:
    async with steady_load(account):
        for member in cluster.members:
            await member.restart()
            await cluster.wait_until_whole()
    report = await account.settled()
    assert_nothing_lost(report)
    assert report.confirmed == report.attempted
    assert report.generations_per_job == {1: report.attempted}
