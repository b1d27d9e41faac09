"""On RabbitMQ users can do what their role needs, and nothing in the name of others."""

import asyncio
import re
import shlex
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aio_pika
import pytest
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelPreconditionFailed,
)
from structlog.testing import capture_logs

from contracts.discovery import Announcement, Verb
from contracts.megaservice import MegaServiceRequest, MegaServiceResult
from contracts.result import Status
from contracts.text2image import Text2ImageRequest, Text2ImageResult
from contracts.topology import (
    CONTROL,
    DEAD_LETTER,
    DISCOVERY,
    EVENTS,
    REQUESTS,
    RESULTS,
    RETRY,
    results_queue,
    service_topology,
)
from deploy.private_broker import PrivateBroker
from node.amqp import outbox as outbox_module
from node.amqp.broker import AmqpBroker
from node.app import Node, SystemClock
from node.client import Client
from node.commands.permissions import Role, rabbitmqctl_lines
from node.component import Component, ComponentLoader, ComponentRegistry
from node.discovery.directory import ServiceDirectory
from node.errors import JobCancelled
from node.ports import IncomingMessage, OutgoingMessage, Properties, Subscribed
from node.settings import Settings
from node.tasks import running
from orchestrator_example.graph import ServiceGraph, Stage
from orchestrator_example.megaservice import MegaService
from tests.fakes import ScriptedComponent
from tests.harness import PATIENCE_SECONDS, until
from tests.unit.discovery.messages import announcement, ping_reply

DOCUMENT = Path(__file__).parents[2] / "docs" / "discovery.md"
CAPTIONER = "captioner"
UNRESTRICTED = "captioner.gpu/1 é"
"""Named like the service, but without topic permissions; spelled with percents in an address."""
WATCHER = "watcher"
CALLER = "gateway"
PAINTER = "painter"
ROLES = {
    CAPTIONER: Role(serves=[CAPTIONER]),
    CALLER: Role(calls=[CAPTIONER, PAINTER]),
    f"{PAINTER}.1": Role(serves=[PAINTER], calls=[CAPTIONER]),
}
PROMPT = Text2ImageRequest(prompt="a red cat")


class Captioner(ScriptedComponent):
    """Another service."""

    name = CAPTIONER


class Painter(MegaService):
    """A mega-service of one stage."""

    name = PAINTER
    graph = ServiceGraph().add(
        Stage(CAPTIONER, build=lambda request, _: {"prompt": request["prompt"]})
    )


@pytest.fixture(scope="module")
def hardened() -> Iterator[PrivateBroker]:
    """A broker with one user for each task."""
    with PrivateBroker() as broker:
        for user in (*ROLES, UNRESTRICTED, WATCHER):
            broker.ctl("add_user", user, "p@ss/word")
        lines = [
            line for user, role in ROLES.items() for line in rabbitmqctl_lines(role, user, "/")
        ]
        lines.append(rabbitmqctl_lines(ROLES[CAPTIONER], UNRESTRICTED, "/")[0])
        for line in lines:
            broker.ctl(*shlex.split(line)[1:])
        for line in re.findall(
            rf"^rabbitmqctl .* {WATCHER} .*$", DOCUMENT.read_text(), re.MULTILINE
        ):
            broker.ctl(*shlex.split(line)[1:])
        yield broker


@pytest.fixture
def login(hardened: PrivateBroker) -> Callable[[str], str]:
    """Address with the login of a user."""
    return lambda user: f"amqp://{quote(user, safe='')}:p%40ss%2Fword@127.0.0.1:{hardened.port}/"


@pytest.fixture
async def stack(hardened: PrivateBroker) -> AsyncIterator[AsyncExitStack]:
    """What a test opens ends with it; the queues are there."""
    async with AsyncExitStack() as stack:
        administrator = AmqpBroker([hardened.url])
        await stack.enter_async_context(administrator.running())
        for service in (CAPTIONER, PAINTER, "text2image"):
            await administrator.apply(service_topology(service, ["scripted"]))
        yield stack


Connect = Callable[[str], Any]


@pytest.fixture
def connect(stack: AsyncExitStack, login: Callable[[str], str]) -> Connect:
    """Open our own connections as a user."""

    async def connect(user: str) -> AmqpBroker:
        broker = AmqpBroker([login(user)], publish_timeout_seconds=5.0)
        await stack.enter_async_context(broker.running())
        await asyncio.wait_for(broker.wait_until_connected(), PATIENCE_SECONDS)
        return broker

    return connect


@pytest.fixture
def listen(stack: AsyncExitStack, connect: Connect) -> Callable[..., Any]:
    """Listen to announcements as a user who may do nothing else."""

    async def listen(*, verify: bool) -> ServiceDirectory:
        directory = ServiceDirectory(await connect(WATCHER), SystemClock(), verify=verify)
        await stack.enter_async_context(running(directory=directory.run()))
        await until(lambda: directory._table.heard_at > 0, "an echo")
        return directory

    return listen


@pytest.fixture
def channel_of(stack: AsyncExitStack, login: Callable[[str], str]) -> Connect:
    """Open a channel as any AMQP client would."""

    async def channel_of(user: str) -> Any:
        connection = await aio_pika.connect(login(user))
        await stack.enter_async_context(connection)
        return await connection.channel()

    return channel_of


async def publish(channel: Any, exchange: str, key: str, **properties: Any) -> None:
    target = await channel.get_exchange(exchange, ensure=False)
    message = aio_pika.Message(b"{}", **properties)
    await target.publish(message, key, mandatory=False, timeout=PATIENCE_SECONDS)


def say(broker: AmqpBroker, said: Announcement) -> None:
    key = f"announce.{said.name}.{said.id}"
    broker.outbox.offer(OutgoingMessage(DISCOVERY, key, said.to_json(), signed=True))


@pytest.mark.parametrize(
    ("exchange", "key"),
    [
        (DISCOVERY, "announce.text2image.one"),
        (DISCOVERY, "goodbye.text2image.one"),
        (DISCOVERY, "announce.captioner"),
        (DISCOVERY, "announce.captioner.one.two"),
        (DISCOVERY, "announce.captionerx.one"),
        (DISCOVERY, "ping"),
        (EVENTS, "text2image.job.succeeded"),
        (RESULTS, "text2image.job"),
    ],
)
async def test_a_service_cannot_speak_for_another(
    channel_of: Connect, exchange: str, key: str
) -> None:
    channel = await channel_of(CAPTIONER)
    with pytest.raises(ChannelAccessRefused, match="access to topic"):
        await publish(channel, exchange, key)


@pytest.mark.parametrize(
    ("exchange", "key"),
    [
        (DISCOVERY, "announce.captioner.one"),
        (DISCOVERY, "goodbye.captioner.one"),
        (DISCOVERY, "reply.listener-1"),
        (EVENTS, "captioner.job.succeeded"),
        (RESULTS, "captioner.job"),
        (REQUESTS, "captioner.unknown-model"),
    ],
)
async def test_a_service_can_speak_for_itself(channel_of: Connect, exchange: str, key: str) -> None:
    await publish(await channel_of(CAPTIONER), exchange, key, user_id=CAPTIONER)


@pytest.mark.parametrize("key", ["announce.#", "reply.#", "reply.listener-1", "ping.text2image"])
async def test_a_service_cannot_overhear_what_is_said_to_others(
    channel_of: Connect, key: str
) -> None:
    channel = await channel_of(CAPTIONER)
    queue = await channel.declare_queue(exclusive=True)
    with pytest.raises(ChannelAccessRefused):
        await queue.bind(DISCOVERY, key)


async def test_nobody_can_sign_as_another(channel_of: Connect) -> None:
    channel = await channel_of(CAPTIONER)
    with pytest.raises(ChannelPreconditionFailed, match="user_id"):
        await publish(channel, DISCOVERY, "announce.captioner.one", user_id="text2image")


async def test_where_topic_permissions_are_missing_a_verifying_listener_is_not_deceived(
    connect: Connect, listen: Callable[..., Any]
) -> None:
    trusting, verifying = await listen(verify=False), await listen(verify=True)
    broker = await connect(UNRESTRICTED)
    with capture_logs() as logged:
        say(broker, announcement("false", name="text2image"))
        say(broker, announcement("true", name=CAPTIONER))
        await until(lambda: len(trusting.services()) == 2, "what the trusting one believes")
        await until(verifying.services, "what the verifying one believes")
    assert [each.instance_id for each in verifying.services()] == ["true"]
    (doubt,) = (each for each in logged if each["event"] == "discovery.not_believed")
    assert (doubt["user"], "text2image" in doubt["reason"]) == (UNRESTRICTED, True)


async def test_a_reply_under_a_false_name_is_not_believed(
    connect: Connect, listen: Callable[..., Any]
) -> None:
    # Topic permissions cannot tell: the name stands in the body only.
    verifying = await listen(verify=True)
    broker = await connect(CAPTIONER)
    with capture_logs() as logged:
        for name in ("text2image", CAPTIONER):
            body = ping_reply("one", name=name).to_json()
            message = OutgoingMessage(DISCOVERY, f"reply.{verifying._id}", body, signed=True)
            broker.outbox.offer(message)
        await until(verifying.services, "the reply of the captioner")
    assert [each.name for each in verifying.services()] == [CAPTIONER]
    assert "discovery.not_believed" in [each["event"] for each in logged]


async def test_where_the_broker_knows_us_by_another_name_we_go_on_unsigned(
    connect: Connect, listen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As with a token, whose user the address does not name.
    monkeypatch.setattr(outbox_module, "user_of", lambda _: "somebody")
    trusting, broker = await listen(verify=False), await connect(CAPTIONER)
    with capture_logs() as logged:
        say(broker, announcement("lost", name=CAPTIONER))
        await until(
            lambda: "outbox.signature_refused" in [each["event"] for each in logged], "the refusal"
        )
        say(broker, announcement("heard", name=CAPTIONER))
        await until(trusting.services, "the unsigned announcement")
    assert [each.instance_id for each in trusting.services()] == ["heard"]


async def test_a_node_with_these_permissions_serves_answers_and_is_believed(
    stack: AsyncExitStack,
    hardened: PrivateBroker,
    login: Callable[[str], str],
    connect: Connect,
    listen: Callable[..., Any],
) -> None:
    listener = await listen(verify=True)
    node, serving = await start_node(stack, login(CAPTIONER), Captioner())
    await until(listener.services, "the announcement")

    administrator = AmqpBroker([hardened.url])
    await stack.enter_async_context(administrator.running())
    ours = Properties(correlation_id="ours")
    request = OutgoingMessage(REQUESTS, CAPTIONER, b'{"prompt": "x"}', ours)
    await administrator.outbox.publish(request)
    result = await answer_to("ours", administrator)
    assert Text2ImageResult.model_validate_json(result.body).status == "succeeded"

    listener.ask(Verb.STATS, CAPTIONER, "one")
    await until(listener.stats, "the answer to stats")
    (stats,) = listener.stats()[CAPTIONER, "one"].endpoints
    assert stats.num_requests == 1
    node.stop()
    await until(lambda: not listener.services(), "the goodbye")
    await asyncio.wait_for(serving, PATIENCE_SECONDS)


async def answer_to(correlation_id: str, broker: AmqpBroker) -> IncomingMessage:
    """Take results out of the queue until this one comes."""
    inbox = broker.inbox([results_queue(CAPTIONER)], prefetch_count=1)
    async with running(inbox=inbox.run()), asyncio.timeout(PATIENCE_SECONDS):
        async for delivery in inbox:
            await inbox.ack(delivery)
            if delivery.message.properties.correlation_id == correlation_id:
                return delivery.message
    raise AssertionError("the inbox ended")


async def start_node(
    stack: AsyncExitStack, url: str, component: Component
) -> tuple[Node, "asyncio.Task[None]"]:
    """Start a node that may not declare anything."""
    settings = Settings(
        amqp_url=[url], configure_topology=False, instance_id="one", http_port=0, grace_seconds=1.0
    )
    node = Node(settings, component, AmqpBroker(settings.amqp_url))
    loader = ComponentLoader(ComponentRegistry(), settings)
    serving = asyncio.create_task(node.run(loader))
    stack.push_async_callback(asyncio.gather, serving, return_exceptions=True)
    stack.callback(serving.cancel)
    await until(lambda: serving.done() or not node.reasons_not_ready(), "readiness")
    return node, serving


async def test_a_user_who_only_listens_cannot_announce(channel_of: Connect) -> None:
    channel = await channel_of(WATCHER)
    with pytest.raises(ChannelAccessRefused):
        await publish(channel, DISCOVERY, "announce.text2image.one")


async def test_all_that_a_node_says_is_signed(
    stack: AsyncExitStack, hardened: PrivateBroker, login: Callable[[str], str]
) -> None:
    administrator = AmqpBroker([hardened.url])
    await stack.enter_async_context(administrator.running())
    ears = administrator.subscription([Subscribed(DISCOVERY, "#")])
    heard: dict[str, str | None] = {}

    async def hear() -> None:
        async for message in ears:
            if (kind := message.routing_key.split(".")[0]) != "ping":
                heard[kind] = message.user_id

    await stack.enter_async_context(running(ears=ears.run(), hear=hear()))
    await ears.queue_name()
    node, serving = await start_node(stack, login(CAPTIONER), Captioner())
    ServiceDirectory(administrator, SystemClock()).ask(Verb.PING)
    await until(lambda: "reply" in heard, "the reply")
    node.stop()
    await asyncio.wait_for(serving, PATIENCE_SECONDS)
    await until(lambda: "goodbye" in heard, "the goodbye")
    assert heard == {"announce": CAPTIONER, "reply": CAPTIONER, "goodbye": CAPTIONER}


async def test_a_caller_watches_gets_its_result_and_cancels(
    stack: AsyncExitStack, login: Callable[[str], str], connect: Connect
) -> None:
    captioner = Captioner()
    await start_node(stack, login(CAPTIONER), captioner)
    client = await stack.enter_async_context(Client(await connect(CALLER), CAPTIONER).running())
    job_id = await client.submit(PROMPT, watch=True)
    events = [event.event async for event in client.events(job_id)]
    assert (events[0], events[-1]) == ("accepted", "succeeded")
    assert (await client.result(job_id, PATIENCE_SECONDS)).status is Status.SUCCEEDED

    captioner.free_running = False
    job_id = await client.submit(PROMPT)
    await until(lambda: job_id in captioner.invocations, "the job to begin")
    await client.cancel(job_id)
    with pytest.raises(JobCancelled):
        await client.result(job_id, PATIENCE_SECONDS)


async def test_an_orchestrator_has_its_stages_done_and_answers_its_caller(
    stack: AsyncExitStack, login: Callable[[str], str], connect: Connect
) -> None:
    await start_node(stack, login(CAPTIONER), Captioner())
    url = login(f"{PAINTER}.1")
    await start_node(stack, url, Painter(Settings(amqp_url=[url], verify_announcers=True)))
    client = Client(await connect(CALLER), PAINTER, MegaServiceResult)
    await stack.enter_async_context(client.running())
    job_id = await client.submit(MegaServiceRequest(prompt="a red cat"), watch=True)
    events = [event.event async for event in client.events(job_id)]
    result = await client.result(job_id, PATIENCE_SECONDS)
    assert "stage" in events
    assert result.stages[CAPTIONER].status == "succeeded"


async def test_a_caller_sees_who_is_there(
    stack: AsyncExitStack, login: Callable[[str], str], connect: Connect
) -> None:
    await start_node(stack, login(CAPTIONER), Captioner())
    directory = ServiceDirectory(await connect(CALLER), SystemClock(), verify=True)
    await stack.enter_async_context(running(directory=directory.run()))
    await until(directory.services, "the captioner")
    assert directory.can_serve(CAPTIONER, PROMPT).possible


@pytest.mark.parametrize(
    ("user", "exchange", "key"),
    [
        (CALLER, "", CAPTIONER),
        (CALLER, RETRY, "captioner.retry.5s"),
        (CALLER, DEAD_LETTER, "captioner.dead"),
        (CALLER, RESULTS, "captioner.job"),
        (CALLER, EVENTS, "captioner.job.succeeded"),
        (CALLER, DISCOVERY, "announce.captioner.one"),
        (CAPTIONER, CONTROL, ""),
        (f"{PAINTER}.1", EVENTS, "captioner.job.succeeded"),
        (f"{PAINTER}.1", RESULTS, "captioner.job"),
        (f"{PAINTER}.1", DISCOVERY, "announce.captioner.one"),
    ],
)
async def test_nobody_publishes_what_is_not_of_its_role(
    channel_of: Connect, user: str, exchange: str, key: str
) -> None:
    channel = await channel_of(user)
    if not exchange:
        with pytest.raises(ChannelAccessRefused):
            await channel.default_exchange.publish(aio_pika.Message(b"{}"), key)
        return
    with pytest.raises(ChannelAccessRefused):
        await publish(channel, exchange, key)


@pytest.mark.parametrize(
    ("exchange", "key"),
    [(EVENTS, "text2image.job.#"), (EVENTS, "#"), (RESULTS, "captioner.#"), (CONTROL, "")],
)
async def test_a_caller_overhears_nothing_of_services_that_it_does_not_call(
    channel_of: Connect, exchange: str, key: str
) -> None:
    queue = await (await channel_of(CALLER)).declare_queue(exclusive=True)
    with pytest.raises(ChannelAccessRefused):
        await queue.bind(exchange, key)


@pytest.mark.parametrize("name", ["captioner", "captioner.dead", "captioner.results", "text2image"])
async def test_a_caller_takes_no_message_of_others(channel_of: Connect, name: str) -> None:
    queue = await (await channel_of(CALLER)).get_queue(name, ensure=False)
    with pytest.raises(ChannelAccessRefused):
        await queue.get(fail=False)


@pytest.mark.parametrize("user", ROLES)
async def test_nobody_reads_the_replies_of_others(channel_of: Connect, user: str) -> None:
    theirs = await (await channel_of(WATCHER)).declare_queue(exclusive=True)
    queue = await (await channel_of(user)).get_queue(theirs.name, ensure=False)
    with pytest.raises(ChannelLockedResource):
        await queue.get(fail=False)


@pytest.mark.parametrize("user", ROLES)
async def test_nobody_declares_or_deletes_queues(channel_of: Connect, user: str) -> None:
    with pytest.raises(ChannelAccessRefused):
        await (await channel_of(user)).declare_queue("mine", durable=True)
    with pytest.raises(ChannelAccessRefused):
        await (await channel_of(user)).queue_delete(CAPTIONER)
