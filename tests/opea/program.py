"""A program of OPEA's, in an environment that has opea-comps and nothing of this project.

    python program.py CASE HOST:PORT [ARGUMENT]

Each case prints its answer as one line of JSON. HOST:PORT is the gateway.
"""

import asyncio
import json
import statistics
import sys
import time
from typing import Any

from comps import (
    MicroService,
    SDInputs,
    SDOutputs,
    ServiceOrchestrator,
    ServiceType,
    TextDoc,
    opea_microservices,
    register_microservice,
)
from comps.cores.mega.http_service import HTTPService
from comps.cores.proto.docarray import LLMParams

READINESS_CHECKS = 100


def remote(gateway: str, name: str, service_type: ServiceType, **options: Any) -> MicroService:
    """Draw a service of the gateway, as OPEA's megaservices draw theirs."""
    host, port = gateway.split(":")
    given = {"host": host, "port": int(port), "endpoint": f"/v1/{name}"}
    return MicroService(
        name=name, service_type=service_type, use_remote_service=True, **given | options
    )


def painter(gateway: str, **options: Any) -> MicroService:
    """Draw the text2image service."""
    return remote(gateway, "text2image", ServiceType.TEXT2IMAGE, **options)


async def run(graph: ServiceOrchestrator, inputs: Any) -> dict[str, Any]:
    """Run a graph; say what each of its services answered."""
    result_dict, runtime_graph = await graph.schedule(
        initial_inputs=inputs, llm_parameters=LLMParams(stream=False)
    )
    return {"answers": result_dict, "leaves": runtime_graph.all_leaves()}


async def document(gateway: str) -> dict[str, Any]:
    """Send OPEA's own document through a graph of one service, and read its answer as OPEA's."""
    graph = ServiceOrchestrator().add(painter(gateway))
    told = await run(graph, SDInputs(prompt="a red cat", num_inference_steps=10))
    outputs = SDOutputs(**told["answers"]["text2image/MicroService"])
    return {**told, "id": outputs.id, "images": outputs.images}


async def chain(gateway: str) -> dict[str, Any]:
    """Paint, and paint over: what one service answers, the next one gets."""

    class Repainting(ServiceOrchestrator):
        def align_inputs(self, inputs: Any, cur_node: str, *args: Any, **kwargs: Any) -> Any:
            if cur_node.startswith("image2image"):
                return {**inputs, "image": inputs["images"][0], "prompt": "a blue cat"}
            return inputs

    first = painter(gateway)
    second = remote(gateway, "image2image", ServiceType.IMAGE2IMAGE)
    graph = Repainting().add(first).add(second)
    assert graph.flow_to(first, second)
    return await run(graph, {"prompt": "a red cat", "num_inference_steps": 10, "seed": 7})


async def after_a_service_of_opea(gateway: str, writer_port: str) -> dict[str, Any]:
    """Have a microservice of OPEA's write the prompt that ours paints."""
    writer = MicroService(
        name="writer",
        host="127.0.0.1",
        port=int(writer_port),
        endpoint="/v1/write",
        service_type=ServiceType.LLM,
        use_remote_service=True,
    )
    ours = painter(gateway)
    graph = ServiceOrchestrator().add(writer).add(ours)
    assert graph.flow_to(writer, ours)
    return await run(graph, {"text": "cat"})


def writer(_: str, port: str) -> None:
    """Serve a microservice of OPEA's, until killed."""

    @register_microservice(
        name="writer",
        service_type=ServiceType.LLM,
        endpoint="/v1/write",
        host="127.0.0.1",
        port=int(port),
        input_datatype=TextDoc,
        output_datatype=TextDoc,
    )
    def write(given: TextDoc) -> TextDoc:
        return TextDoc(text=f"a red {given.text}")

    opea_microservices["writer"].start()


async def mega(gateway: str) -> dict[str, Any]:
    """Use a mega-service of ours as one service of OPEA's."""
    graph = ServiceOrchestrator().add(remote(gateway, "painter", ServiceType.UNDEFINED))
    return await run(graph, {"text": "a red cat"})


async def refused(gateway: str) -> dict[str, Any]:
    """Send what is not valid: OPEA hands on whatever comes, so it must be a JSON object."""
    return await run(ServiceOrchestrator().add(painter(gateway)), {"prompt": "", "width": 513})


async def with_key(gateway: str, key: str) -> dict[str, Any]:
    """Call with an API key: OPEA then wants the whole address as `host`, and names a model."""
    service = painter(gateway, host=f"http://{gateway}", api_key=key)
    graph = ServiceOrchestrator().add(service)
    return await run(graph, {"prompt": "a red cat", "num_inference_steps": 2, "model": None})


def readiness(gateway: str) -> dict[str, Any]:
    """Ask many times whether the gateway is ready, as OPEA's health checks do."""
    address = f"{gateway}/v1/health_check"
    ready, seconds = [], []
    for _ in range(READINESS_CHECKS):
        began = time.perf_counter()
        ready.append(HTTPService.check_server_readiness(address))
        seconds.append(time.perf_counter() - began)
    return {"ready": ready, "p50": statistics.median(seconds), "longest": max(seconds)}


CASES = {
    each.__name__: each
    for each in (
        document,
        chain,
        after_a_service_of_opea,
        writer,
        mega,
        refused,
        with_key,
        readiness,
    )
}


def main() -> None:
    """Run one case."""
    case, *arguments = sys.argv[1:]
    answer = CASES[case](*arguments)
    print(json.dumps(asyncio.run(answer) if asyncio.iscoroutine(answer) else answer))


if __name__ == "__main__":
    main()
