"""What a user of the broker may do who serves one service: as little as possible."""

import re
import shlex

import pytest
from typer.testing import CliRunner

from contracts.topology import (
    DISCOVERY,
    EVENTS,
    EXCHANGES,
    RESULTS,
    request_queues,
    service_topology,
)
from node.commands.permissions import node_permissions, node_topic_permissions, rabbitmqctl_lines
from node.commands.topology import topology_app
from node.discovery.announcer import questions_for


def topics(service: str = "captioner") -> dict[str, tuple[str, str]]:
    return {each.exchange: (each.write, each.read) for each in node_topic_permissions(service)}


@pytest.mark.parametrize("service", ["captioner", "prompt-writer", "a+b"])
def test_it_reads_every_queue_that_a_node_consumes(service: str) -> None:
    may = node_permissions(service)
    for queue in request_queues(service, ["org/model"]):
        assert re.match(may.read, queue)


def test_it_reads_no_queue_of_another_service() -> None:
    may = node_permissions("text2image")
    for name in ("captioner", "text2imagex", "text2image-x.high", "xtext2image"):
        assert not re.match(may.read, name)


def test_it_declares_and_deletes_nothing_but_its_own_exclusive_queues() -> None:
    may = node_permissions("captioner")
    topology = service_topology("captioner", ["m"])
    for each in (*topology.exchanges, *topology.queues):
        assert not re.match(may.configure, each.name)
    assert re.match(may.configure, "amq.gen-JzTY20BRgKO")


def test_it_does_not_write_to_the_default_exchange_or_commands_to_all() -> None:
    may = node_permissions("captioner")
    for name in ("amq.default", "", "megaservice.control"):
        assert not re.match(may.write, name)


def test_every_topic_exchange_is_restricted() -> None:
    assert set(topics()) == {each.name for each in EXCHANGES if each.type == "topic"}


@pytest.mark.parametrize(
    ("exchange", "key", "may"),
    [
        (DISCOVERY, "announce.captioner.one", True),
        (DISCOVERY, "goodbye.captioner.one", True),
        (DISCOVERY, "reply.listener-1", True),
        (DISCOVERY, "announce.text2image.one", False),
        (DISCOVERY, "announce.captioner", False),
        (DISCOVERY, "ping", False),
        (EVENTS, "captioner.job.progress", True),
        (EVENTS, "text2image.job.progress", False),
        (RESULTS, "captioner.job", True),
        (RESULTS, "text2image.job", False),
    ],
)
def test_it_speaks_for_its_own_service_only(exchange: str, key: str, may: bool) -> None:
    assert bool(re.match(topics()[exchange][0], key)) is may


def test_it_can_be_asked_on_every_address_and_overhears_nothing_else() -> None:
    read = topics()[DISCOVERY][1]
    for each in questions_for("captioner", "one"):
        assert re.match(read, each.routing_key)
    for key in ("#", "announce.#", "reply.#", "ping.#", "ping.text2image", "stats.captioner.a.b"):
        assert not re.match(read, key)


def test_the_lines_are_commands_for_a_shell() -> None:
    lines = rabbitmqctl_lines("captioner", "captioner.gpu 1", "/")
    words = [shlex.split(line) for line in lines]
    assert [each[:5] for each in words] == [
        ["rabbitmqctl", verb, "-p", "/", "captioner.gpu 1"]
        for verb in ("set_permissions", *["set_topic_permissions"] * 3)
    ]
    assert words[0][5:] == [
        (may := node_permissions("captioner")).configure,
        may.write,
        may.read,
    ]


@pytest.mark.parametrize(("user", "warned"), [("captioner.gpu-1", False), ("bob", True)])
def test_the_command_prints_the_lines_and_warns_of_a_user_whom_nobody_will_believe(
    user: str, warned: bool
) -> None:
    run = CliRunner().invoke(topology_app, ["permissions", "captioner", "--user", user])
    assert run.exit_code == 0
    assert run.stdout.splitlines() == rabbitmqctl_lines("captioner", user, "/")
    assert ("NODE_VERIFY_ANNOUNCERS" in run.stderr) is warned
