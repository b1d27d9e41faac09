"""Gateways for suites: in front of any broker, on a real port, with callers of HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from contracts import examples
from contracts.result import JobResult
from contracts.service import ServiceContract
from contracts.text2image import GeneratedImage
from node.app import SystemClock
from node.ports import Broker
from node.tasks import running
from orchestrator_example.gateway.server import Gateway
from orchestrator_example.gateway.settings import GatewaySettings
from tests.fakes import ScriptedComponent
from tests.harness import PATIENCE_SECONDS, until

PROMPT = {"prompt": "An astronaut riding a green horse"}
OPEA, OPENAI = "/v1/text2image", "/v1/images/generations"
SYNC_DOORS = [OPEA, OPENAI]
ENDED = {"succeeded", "failed", "cancelled", "expired"}


class Painter(ScriptedComponent):
    """Makes one picture a job."""

    async def invoke(self, request: Any, invocation: Any) -> JobResult:
        result = await super().invoke(request, invocation)
        return result.model_copy(update={"images": [GeneratedImage(**examples.IMAGE)]})


@dataclass(frozen=True, slots=True)
class Told:
    """One server-sent event."""

    id: str
    event: str
    data: dict[str, Any]


class HttpCaller:
    """Speaks to one gateway."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.http = client

    async def submit(
        self, request: dict[str, Any] = PROMPT, *, key: str | None = None, **given: Any
    ) -> httpx.Response:
        """Submit a job."""
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.http.post("/v1/jobs", json={"request": request, **given}, headers=headers)

    async def submitted(self, request: dict[str, Any] = PROMPT, **given: Any) -> str:
        """Submit a job, which is taken; return its address."""
        answer = await self.submit(request, **given)
        assert answer.status_code == 202, answer.text
        return str(answer.headers["location"])

    async def job(self, address: str) -> dict[str, Any]:
        """Look at a job."""
        answer = await self.http.get(address)
        assert answer.status_code == 200, answer.text
        view: dict[str, Any] = answer.json()
        return view

    async def job_once(
        self, address: str, condition: Callable[[dict[str, Any]], Any], what: str
    ) -> dict[str, Any]:
        """Look at a job until a condition holds, with a bound."""
        view: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not condition(view := await self.job(address)):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{what} did not come true: {view}") from None
        return view

    async def ended(self, address: str) -> dict[str, Any]:
        """Wait for the end of a job."""
        return await self.job_once(address, lambda view: view["status"] in ENDED, "the end")

    @asynccontextmanager
    async def events(self, address: str, after: str = "") -> AsyncIterator[AsyncIterator[Told]]:
        """Read the events of a job that come after one."""
        headers = {"Last-Event-ID": after} if after else {}
        async with self.http.stream("GET", f"{address}/events", headers=headers) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            yield told(response)

    async def all_events(self, address: str, after: str = "") -> list[Told]:
        """Read the events of a job until there are no more."""
        async with self.events(address, after) as events, asyncio.timeout(PATIENCE_SECONDS):
            return [each async for each in events]


async def told(response: httpx.Response) -> AsyncIterator[Told]:
    """Read server-sent events; comments have no place among them."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value
        elif fields:
            yield Told(fields["id"], fields["event"], json.loads(fields["data"]))
            fields = {}


class GatewayWorld:
    """Gateways of one broker; what it starts ends with it."""

    def __init__(self, connect: Callable[[], Broker], stack: AsyncExitStack) -> None:
        self._connect = connect
        self._stack = stack

    async def gateway(
        self, *services: ServiceContract, instances: int = 0, **given: Any
    ) -> tuple[Gateway, HttpCaller]:
        """Start a gateway, and wait until it sees so many instances; return it with a caller."""
        settings = GatewaySettings(port=0, **{"grace_seconds": 1, **given})
        contracts = services or (ServiceContract(),)
        gateway = Gateway(settings, self._connect(), contracts, SystemClock())
        await self._stack.enter_async_context(running(gateway=gateway.run()))
        await until(lambda: gateway.port is not None, "the port")
        await until(lambda: len(gateway.desk.directory.services()) >= instances, "the instances")
        return gateway, await self.caller(gateway)

    async def caller(self, gateway: Gateway, key: str | None = None) -> HttpCaller:
        """Open a caller, who sends an API key."""
        client = httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{gateway.port}",
            timeout=PATIENCE_SECONDS,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            limits=httpx.Limits(max_connections=None),
        )
        return HttpCaller(await self._stack.enter_async_context(client))


async def asking(caller: HttpCaller, door: str, **headers: str) -> "asyncio.Task[httpx.Response]":
    """Begin a call that waits for its pictures."""
    return asyncio.create_task(caller.http.post(door, json=PROMPT, headers=headers))


async def hung_up(call: "asyncio.Task[httpx.Response]") -> None:
    """End a call, and with it its connection."""
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def waiting_jobs(gateway: Gateway, count: int) -> None:
    """Wait until so many jobs are at the broker."""

    def are_out() -> bool:
        jobs = list(gateway.desk.all_jobs())
        return sum(job.taken.done() and not job.ended.is_set() for job in jobs) == count

    await until(are_out, f"{count} jobs on their way")
