"""What a user of the broker may do who serves services, or calls them: as little as possible."""

import re
import shlex

import pytest
from typer.testing import CliRunner

from contracts.topology import (
    CONTROL,
    DEAD_LETTER,
    DISCOVERY,
    EVENTS,
    EXCHANGES,
    REQUESTS,
    RESULTS,
    RETRY,
    request_queues,
    service_topology,
)
from node.commands.permissions import DEFAULT_EXCHANGE, Role, rabbitmqctl_lines
from node.commands.topology import topology_app
from node.discovery.announcer import questions_for
from node.errors import SetupError

NODE = Role(serves=["captioner"])
CALLER = Role(calls=["captioner", "text2image"])
ORCHESTRATOR = Role(serves=["painter"], calls=["text2image"])
OWN_QUEUE = "amq.gen-JzTY20BRgKO"


def topics(role: Role = NODE) -> dict[str, tuple[str, str]]:
    return {each.exchange: (each.write, each.read) for each in role.topic_permissions()}


@pytest.mark.parametrize("service", ["captioner", "prompt-writer", "a+b"])
def test_it_reads_every_queue_that_a_node_consumes(service: str) -> None:
    may = Role(serves=[service]).permissions()
    for queue in request_queues(service, ["org/model"]):
        assert re.match(may.read, queue)


@pytest.mark.parametrize("role", [Role(serves=["text2image"]), Role(calls=["text2image"])])
def test_it_reads_no_queue_of_another_service(role: Role) -> None:
    for name in ("captioner", "text2imagex", "text2image-x.high", "xtext2image"):
        assert not re.match(role.permissions().read, name)


@pytest.mark.parametrize("role", [NODE, CALLER, ORCHESTRATOR])
def test_it_declares_and_deletes_nothing_but_its_own_exclusive_queues(role: Role) -> None:
    may = role.permissions()
    for service in ("captioner", "painter"):
        topology = service_topology(service, ["m"])
        for each in (*topology.exchanges, *topology.queues):
            assert not re.match(may.configure, each.name)
    assert re.match(may.configure, OWN_QUEUE)


@pytest.mark.parametrize("role", [NODE, Role(serves=["captioner"], replies=False)])
def test_a_node_answers_to_any_queue_unless_that_is_forbidden(role: Role) -> None:
    assert bool(re.match(role.permissions().write, DEFAULT_EXCHANGE)) is role.replies


@pytest.mark.parametrize(
    ("role", "written", "read"),
    [
        (
            NODE,
            {REQUESTS, RETRY, DEAD_LETTER, RESULTS, EVENTS, DISCOVERY, DEFAULT_EXCHANGE},
            {CONTROL, DISCOVERY},
        ),
        (CALLER, {REQUESTS, CONTROL, DISCOVERY}, {EVENTS, DISCOVERY}),
        (
            ORCHESTRATOR,
            {REQUESTS, RETRY, DEAD_LETTER, RESULTS, EVENTS, DISCOVERY, DEFAULT_EXCHANGE, CONTROL},
            {CONTROL, DISCOVERY, EVENTS},
        ),
    ],
)
def test_it_uses_the_exchanges_that_it_needs_and_no_other(
    role: Role, written: set[str], read: set[str]
) -> None:
    may, names = role.permissions(), [*(each.name for each in EXCHANGES), DEFAULT_EXCHANGE, ""]
    assert {name for name in names if re.match(may.write, name)} == written
    assert {name for name in names if re.match(may.read, name)} == read


@pytest.mark.parametrize("role", [NODE, CALLER, ORCHESTRATOR])
def test_every_topic_exchange_is_restricted(role: Role) -> None:
    assert set(topics(role)) == {each.name for each in EXCHANGES if each.type == "topic"}


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


@pytest.mark.parametrize(
    ("role", "exchange", "key", "may_write", "may_read"),
    [
        (CALLER, EVENTS, "captioner.job.#", False, True),
        (CALLER, EVENTS, "text2image.job.#", False, True),
        (CALLER, EVENTS, "guardrail.job.#", False, False),
        (CALLER, EVENTS, "#", False, False),
        (CALLER, RESULTS, "captioner.#", False, False),
        (CALLER, DISCOVERY, "announce.captioner.one", False, True),
        (CALLER, DISCOVERY, "ping.listener-1", True, True),
        (CALLER, DISCOVERY, "stats.captioner.one", True, False),
        (ORCHESTRATOR, EVENTS, "painter.job.started", True, False),
        (ORCHESTRATOR, EVENTS, "text2image.job.started", False, True),
        (ORCHESTRATOR, RESULTS, "painter.job", True, False),
        (ORCHESTRATOR, DISCOVERY, "announce.painter.one", True, True),
        (ORCHESTRATOR, DISCOVERY, "announce.text2image.one", False, True),
        (ORCHESTRATOR, DISCOVERY, "ping", True, True),
    ],
)
def test_a_caller_hears_of_what_it_calls_and_speaks_for_what_it_serves_alone(
    role: Role, exchange: str, key: str, may_write: bool, may_read: bool
) -> None:
    write, read = topics(role)[exchange]
    assert (bool(re.match(write, key)), bool(re.match(read, key))) == (may_write, may_read)


def test_the_lines_are_commands_for_a_shell() -> None:
    lines = rabbitmqctl_lines(NODE, "captioner.gpu 1", "/")
    words = [shlex.split(line) for line in lines]
    assert [each[:5] for each in words] == [
        ["rabbitmqctl", verb, "-p", "/", "captioner.gpu 1"]
        for verb in ("set_permissions", *["set_topic_permissions"] * 3)
    ]
    assert words[0][5:] == [(may := NODE.permissions()).configure, may.write, may.read]


@pytest.mark.parametrize(("user", "warned"), [("captioner.gpu-1", False), ("bob", True)])
def test_the_command_prints_the_lines_and_warns_of_a_user_whom_nobody_will_believe(
    user: str, warned: bool
) -> None:
    run = CliRunner().invoke(topology_app, ["permissions", "captioner", "--user", user])
    assert run.exit_code == 0
    assert run.stdout.splitlines() == rabbitmqctl_lines(NODE, user, "/")
    assert ("NODE_VERIFY_ANNOUNCERS" in run.stderr) is warned


@pytest.mark.parametrize(
    ("words", "role"),
    [
        ("", Role(serves=["text2image"])),
        ("--user bob --calls captioner --calls text2image", CALLER),
        ("painter --calls text2image", ORCHESTRATOR),
        ("captioner --no-replies", Role(serves=["captioner"], replies=False)),
    ],
)
def test_the_command_knows_nodes_callers_and_orchestrators(words: str, role: Role) -> None:
    run = CliRunner().invoke(topology_app, ["permissions", *words.split()])
    user = "bob" if "bob" in words else next(iter(role.serves))
    assert run.stdout.splitlines() == rabbitmqctl_lines(role, user, "/")


def test_who_only_calls_must_be_named() -> None:
    run = CliRunner().invoke(topology_app, ["permissions", "--calls", "captioner"])
    assert isinstance(run.exception, SetupError)
    assert "--user" in str(run.exception)
