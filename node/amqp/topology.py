"""Declare exchanges and queues, or check that they are there."""

import structlog

from contracts.topology import Binding, Exchange, Queue, Topology
from node.amqp.connection import SupervisedConnection
from node.amqp.translation import translated
from node.errors import TopologyMismatch
from node.ports import QueueDepth

log = structlog.get_logger(__name__)


async def apply_topology(connection: SupervisedConnection, topology: Topology) -> None:
    """Declare what is missing. Raises TopologyMismatch where something differs or is forbidden."""
    entities: list[Exchange | Queue | Binding] = [*topology.exchanges, *topology.queues]
    for entity in (*entities, *topology.bindings):
        await _declare(connection, entity)
    log.info("topology.applied", exchanges=len(topology.exchanges), queues=len(topology.queues))


async def check_topology(connection: SupervisedConnection, topology: Topology) -> None:
    """Raise TopologyMismatch that names everything that is missing or forbidden.

    Bindings cannot be asked for over AMQP; they are not checked.
    """
    entities: list[Exchange | Queue] = [*topology.exchanges, *topology.queues]
    problems = [problem for entity in entities if (problem := await _problem(connection, entity))]
    if problems:
        raise TopologyMismatch("; ".join(problems))


async def queue_depth(connection: SupervisedConnection, name: str) -> QueueDepth:
    """Ask how full a queue is. Raises TopologyMismatch when it is missing."""
    with translated():
        async with connection.channel() as channel:
            queue = await channel.declare_queue(name, passive=True)
    declared = queue.declaration_result
    return QueueDepth(declared.message_count or 0, declared.consumer_count or 0)


async def _declare(connection: SupervisedConnection, entity: Exchange | Queue | Binding) -> None:
    # A refused declaration closes its channel, so each has one of its own.
    try:
        with translated():
            async with connection.channel() as channel:
                match entity:
                    case Exchange():
                        await channel.declare_exchange(entity.name, entity.type, durable=True)
                    case Queue():
                        await channel.declare_queue(
                            entity.name, durable=True, arguments=entity.arguments
                        )
                    case Binding():
                        queue = await channel.get_queue(entity.queue, ensure=False)
                        await queue.bind(entity.exchange, entity.routing_key)
    except TopologyMismatch as error:
        raise TopologyMismatch(f"{entity!r}: {error}") from error


async def _problem(connection: SupervisedConnection, entity: Exchange | Queue) -> str | None:
    kind = type(entity).__name__.lower()
    try:
        with translated():
            async with connection.channel() as channel:
                if isinstance(entity, Exchange):
                    await channel.declare_exchange(entity.name, entity.type, passive=True)
                else:
                    await channel.declare_queue(entity.name, passive=True)
    except TopologyMismatch as error:
        return f"{kind} {entity.name}: {error}"
    return None
