"""A private broker with the faults that one can do to it, as coroutines."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import aio_pika

from contracts.topology import service_topology
from deploy.private_broker import BrokerCommandFailed, PrivateBroker
from node.amqp.translation import from_aio_pika
from node.ports import IncomingMessage
from tests.faults.harness.paced import MODEL
from tests.harness import SERVICE

P = ParamSpec("P")
R = TypeVar("R")

NORMAL_WATERMARK: Final = "0.4"
ALL: Final = (".*", ".*", ".*")
NOTHING: Final = ("^$", "^$", "^$")


class FaultyBroker:
    """Verbs on one broker; `private` is the broker itself, `services` are those it serves."""

    def __init__(self, private: PrivateBroker | None = None) -> None:
        self.private = private or PrivateBroker()
        self.services = {SERVICE}
        self._undo: dict[str, Callable[[], Awaitable[None]]] = {}

    @property
    def url(self) -> str:
        """Address with the default login."""
        return self.private.url

    @property
    def port(self) -> int:
        """AMQP port, the same from start to start."""
        return self.private.port

    def login(self, user: str) -> str:
        """Address with the login of a user that `add_user` made."""
        return f"amqp://{user}:{user}@127.0.0.1:{self.port}/"

    async def start(self) -> None:
        """Start, on the data of the start before."""
        await _apart(self.private.start)

    async def kill(self) -> None:
        """SIGKILL. Queues that were declared before survive, as RabbitMQ alone does not promise.

        It writes its list of queues, and that of their Raft logs, with a delay: a queue that is
        in the first alone takes messages after the restart and never confirms them.
        """
        await self.eval("catch mnesia:sync_log(), [dets:sync(Table) || Table <- dets:all()].")
        await _apart(self.private.kill)

    async def stop(self) -> None:
        """Shut down in order."""
        await _apart(self.private.stop)

    async def restart(self) -> None:
        """Shut down in order and start again."""
        await self.stop()
        await self.start()

    async def suspend(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self._undo["suspend"] = self.resume
        await _apart(self.private.suspend)

    async def resume(self) -> None:
        """SIGCONT."""
        await _apart(self.private.resume)

    async def alarm(self, on: bool) -> None:
        """Raise or clear the memory alarm, which blocks publishing connections."""
        if on:
            self._undo["alarm"] = partial(self.alarm, False)
        await self.ctl("set_vm_memory_high_watermark", "0.000001" if on else NORMAL_WATERMARK)

    async def close_connections(self) -> None:
        """Close every connection, as an operator would."""
        await self.ctl("close_all_connections", "closed by the fault suite")

    async def delete_queue(self, name: str) -> None:
        """Delete a queue with all that is in it."""
        await self.ctl("delete_queue", name)

    async def consumer_timeout(self, seconds: float | None) -> None:
        """Bound the time from a delivery to its answer; None is the default of 30 minutes.

        Channels read it when they are opened, and look every second.
        """
        if seconds is not None:
            self._undo["consumer_timeout"] = partial(self.consumer_timeout, None)
        await self.eval("application:set_env(rabbit, channel_tick_interval, 1000).")
        milliseconds = int((seconds or 1800.0) * 1000)
        await self.eval(f"application:set_env(rabbit, consumer_timeout, {milliseconds}).")
        # From 3.12 on the argument of a queue, two hours, comes before the global bound, and a
        # policy can only lower it; older releases refuse that policy.
        with suppress(BrokerCommandFailed):
            if seconds is None:
                await self.ctl("clear_policy", "impatience")
            else:
                definition = f'{{"consumer-timeout": {milliseconds}}}'
                await self.ctl("set_policy", "impatience", f"^{SERVICE}", definition)

    async def max_length(self, queue: str, length: int | None) -> None:
        """Bound a queue by policy; None takes the policy away."""
        if length is not None:
            self._undo[f"max_length {queue}"] = partial(self.max_length, queue, None)
        else:
            await self.ctl("clear_policy", f"bound-{queue}")
            return
        definition = f'{{"max-length": {length}, "overflow": "reject-publish"}}'
        pattern = f"^{queue.replace('.', '[.]')}$"
        await self.ctl("set_policy", "--apply-to", "queues", f"bound-{queue}", pattern, definition)

    async def add_user(self, user: str) -> None:
        """Make a user with every permission; the password is the name."""
        self._undo[f"add_user {user}"] = partial(self._delete_user, user)
        await self.ctl("add_user", user, user)
        await self.permit(user, ALL)

    async def _delete_user(self, user: str) -> None:
        await self.ctl("delete_user", user)

    async def permit(self, user: str, permissions: tuple[str, str, str]) -> None:
        """Set what a user may configure, write and read (`ALL`, `NOTHING`)."""
        await self.ctl("set_permissions", user, *permissions)

    async def depth(self, queue: str) -> int:
        """Count the messages of a queue that wait for delivery; none when there is no queue."""
        connection = await aio_pika.connect(self.url)
        async with connection, connection.channel() as channel:
            try:
                declared = await channel.declare_queue(queue, passive=True)
            except aio_pika.exceptions.ChannelNotFoundEntity:
                return 0
            return declared.declaration_result.message_count or 0

    async def take(self, queue: str) -> list[IncomingMessage]:
        """Take everything out of a queue."""
        taken = []
        connection = await aio_pika.connect(self.url)
        async with connection, connection.channel() as channel:
            source = await channel.get_queue(queue, ensure=False)
            while (message := await source.get(no_ack=True, fail=False)) is not None:
                taken.append(from_aio_pika(message))
        return taken

    async def repair(self) -> None:
        """Undo what a scenario did: run, hear everybody, hold no queue of ours."""
        if self.private.pid is None:
            await self.start()
        for undo in list(self._undo.values()):
            await undo()
        self._undo.clear()
        await self.clean()

    async def clean(self) -> None:
        """Delete every queue of our services."""
        connection = await aio_pika.connect(self.url)
        async with connection, connection.channel() as channel:
            for service in self.services:
                for queue in service_topology(service, [MODEL]).queues:
                    await channel.queue_delete(queue.name)

    async def eval(self, expression: str) -> str:
        """Evaluate an Erlang expression in the broker."""
        return await self.ctl("eval", expression)

    async def ctl(self, *arguments: str) -> str:
        """Run rabbitmqctl."""
        return await _apart(self.private.ctl, *arguments)

    def log(self) -> str:
        """Return all that the server printed."""
        return Path(self.private.log_path).read_text(errors="replace")


async def _apart(verb: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a slow verb beside the loop, on which clients keep their heartbeats."""
    return await asyncio.to_thread(verb, *args, **kwargs)
