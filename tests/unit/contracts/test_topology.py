"""The topology, name by name and argument by argument."""

from contracts.topology import (
    Topology,
    dead_queue,
    definitions,
    high_queue,
    job_routing_key,
    model_queue,
    model_routing_key,
    model_slug,
    request_queues,
    results_queue,
    retry_queue,
    service_topology,
    unanswered_queue,
)

TOPOLOGY = service_topology("text2image", ["stabilityai/sdxl-turbo"])

REQUESTS = {
    "x-queue-type": "quorum",
    "x-dead-letter-exchange": "megaservice.dead-letter",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-delivery-limit": 5,
    "x-max-length": 10_000,
    "x-consumer-timeout": 7_200_000,
}


def _retry(milliseconds: int) -> dict[str, object]:
    return {
        "x-queue-type": "quorum",
        "x-message-ttl": milliseconds,
        "x-dead-letter-exchange": "megaservice.requests",
        "x-dead-letter-routing-key": "text2image",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }


def _kept(milliseconds: int) -> dict[str, object]:
    return {"x-queue-type": "quorum", "x-max-length": 10_000, "x-message-ttl": milliseconds}


def test_exchanges() -> None:
    assert {exchange.name: exchange.type for exchange in TOPOLOGY.exchanges} == {
        "megaservice.requests": "direct",
        "megaservice.retry": "direct",
        "megaservice.dead-letter": "direct",
        "megaservice.results": "topic",
        "megaservice.events": "topic",
        "megaservice.control": "fanout",
        "megaservice.discovery": "topic",
    }


def test_queues_and_their_arguments() -> None:
    assert {queue.name: queue.arguments for queue in TOPOLOGY.queues} == {
        "text2image": REQUESTS,
        "text2image.high": REQUESTS,
        "text2image.model.stabilityai-sdxl-turbo": REQUESTS,
        "text2image.retry.5s": _retry(5_000),
        "text2image.retry.30s": _retry(30_000),
        "text2image.retry.120s": _retry(120_000),
        "text2image.dead": _kept(604_800_000) | {"x-delivery-limit": 1_000_000},
        "text2image.unanswered": _kept(604_800_000) | {"x-delivery-limit": 1000},
        "text2image.results": _kept(3_600_000),
    }


def test_bindings() -> None:
    given_up = [
        *("text2image", "text2image.high"),
        *("text2image.stabilityai-sdxl-turbo", "text2image.model.stabilityai-sdxl-turbo"),
    ]
    assert sorted((b.exchange, b.routing_key, b.queue) for b in TOPOLOGY.bindings) == sorted(
        [
            ("megaservice.requests", "text2image", "text2image"),
            ("megaservice.requests", "text2image.high", "text2image.high"),
            (
                "megaservice.requests",
                "text2image.stabilityai-sdxl-turbo",
                "text2image.model.stabilityai-sdxl-turbo",
            ),
            ("megaservice.retry", "text2image.retry.5s", "text2image.retry.5s"),
            ("megaservice.retry", "text2image.retry.30s", "text2image.retry.30s"),
            ("megaservice.retry", "text2image.retry.120s", "text2image.retry.120s"),
            *(("megaservice.dead-letter", key, "text2image.dead") for key in given_up),
            *(("megaservice.dead-letter", key, "text2image.unanswered") for key in given_up),
            ("megaservice.dead-letter", "text2image.dead", "text2image.dead"),
            ("megaservice.results", "text2image.#", "text2image.results"),
        ]
    )


def test_arguments_that_quorum_queues_do_not_know_are_never_used() -> None:
    used = {name for queue in TOPOLOGY.queues for name in queue.arguments}
    assert not used & {"x-max-priority", "x-queue-mode", "x-expires", "x-queue-master-locator"}


def test_a_service_without_models_has_no_model_queue() -> None:
    names = [queue.name for queue in service_topology("upscale").queues]
    assert names[:2] == ["upscale.high", "upscale"]
    assert not any(".model." in name for name in names)


def test_names() -> None:
    assert high_queue("s") == "s.high"
    assert dead_queue("s") == "s.dead"
    assert results_queue("s") == "s.results"
    assert unanswered_queue("s") == "s.unanswered"
    assert retry_queue("s", 30) == "s.retry.30s"
    assert model_queue("s", "org/M") == "s.model.org-m"
    assert model_routing_key("s", "org/M") == "s.org-m"
    assert job_routing_key("s", "j") == "s.j"
    assert job_routing_key("s", "j", "started") == "s.j.started"
    assert request_queues("s", ["a", "b"]) == ("s.high", "s", "s.model.a", "s.model.b")


def test_a_model_id_becomes_one_word() -> None:
    assert model_slug("stabilityai/sdxl-turbo") == "stabilityai-sdxl-turbo"
    assert model_slug("org/My_Model.v1") == "org-my-model-v1"
    assert model_slug("--x--") == "x"


def test_a_model_called_high_does_not_get_the_urgent_requests() -> None:
    bindings = service_topology("s", ["High"]).bindings
    assert [b.queue for b in bindings if b.exchange.endswith("requests")] == [
        *("s", "s.high", "s.model.model-high")
    ]
    assert [b.routing_key for b in bindings if b.queue == "s.high"] == ["s.high"]


def test_definitions_are_what_rabbitmq_imports() -> None:
    document = definitions(TOPOLOGY, vhost="images")
    assert document["vhosts"] == [{"name": "images"}]
    assert document["exchanges"][0] == {
        "name": "megaservice.requests",
        "vhost": "images",
        "type": "direct",
        "durable": True,
        "auto_delete": False,
        "internal": False,
        "arguments": {},
    }
    assert document["queues"][1] == {
        "name": "text2image",
        "vhost": "images",
        "type": "quorum",
        "durable": True,
        "auto_delete": False,
        "arguments": REQUESTS,
    }
    assert document["bindings"][0] == {
        "source": "megaservice.requests",
        "vhost": "images",
        "destination": "text2image",
        "destination_type": "queue",
        "routing_key": "text2image",
        "arguments": {},
    }


def test_definitions_hold_the_whole_topology() -> None:
    document = definitions(TOPOLOGY)
    assert {e["name"] for e in document["exchanges"]} == {e.name for e in TOPOLOGY.exchanges}
    assert {q["name"] for q in document["queues"]} == {q.name for q in TOPOLOGY.queues}
    assert len(document["bindings"]) == len(TOPOLOGY.bindings)


def test_every_binding_joins_what_is_declared() -> None:
    _check(TOPOLOGY)
    _check(service_topology("other", ["a", "b/c"]))


def _check(topology: Topology) -> None:
    exchanges = {exchange.name for exchange in topology.exchanges}
    queues = {queue.name for queue in topology.queues}
    assert all(b.exchange in exchanges and b.queue in queues for b in topology.bindings)
