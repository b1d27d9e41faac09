"""A private broker lives, dies and comes back as a real one does, and leaves nothing behind."""

import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pika
import pytest

from deploy.broker_place import BrokerUnavailable
from deploy.handshake import broker_answers
from deploy.installation import ROOT_VARIABLE
from deploy.local_broker import ensure_server
from deploy.private_broker import Epmd, PrivateBroker
from deploy.processes import descendants, running_processes, wait_until_gone

ROOT = Path(__file__).parents[2]
# Prints the ids of a running broker's processes and its folder, then waits to be ended.
OWNER = """
import time
from deploy.private_broker import PrivateBroker
with PrivateBroker() as broker:
    print(*broker.pids, broker.place.folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """RabbitMQ's server on this machine, whichever broker the other tests use."""
    ensure_server()


@pytest.fixture(scope="module")
def broker() -> Iterator[PrivateBroker]:
    """One broker for the tests that leave it running."""
    with PrivateBroker() as broker:
        yield broker


@pytest.fixture
def queue() -> str:
    """A queue of this test alone: after a kill, acknowledged messages may be there again."""
    return secrets.token_hex(4)


def publish(url: str, queue: str, body: bytes) -> None:
    """Put a durable message on the queue and wait until the broker has it."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare(queue, durable=True)
        channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2))


def take(url: str, queue: str) -> bytes | None:
    """Take one message off the queue."""
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        _ok, _properties, body = connection.channel().basic_get(queue, auto_ack=True)
        return body


@pytest.mark.parametrize("end", [PrivateBroker.kill, PrivateBroker.stop])
def test_a_durable_message_is_there_again_after_a_restart(
    broker: PrivateBroker, queue: str, end: Callable[[PrivateBroker], None]
) -> None:
    before = broker.url, broker.pid
    publish(broker.url, queue, b"still here")
    # Mnesia writes what it knows of queues with a delay of seconds: one that was declared just
    # before a crash can be gone, though its message was confirmed.
    broker.ctl("eval", "catch mnesia:sync_log().")
    end(broker)
    assert broker.pid is None
    assert not broker_answers("127.0.0.1", broker.port)
    broker.start()
    assert broker.url == before[0]
    assert broker.pid != before[1]
    assert take(broker.url, queue) == b"still here"


def test_a_broker_that_others_killed_can_be_started_again(broker: PrivateBroker) -> None:
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)
    assert wait_until_gone({broker.pid}, timeout_seconds=10) == set()
    broker.start()
    assert broker_answers("127.0.0.1", broker.port)


def test_a_suspended_broker_is_silent_until_it_goes_on(broker: PrivateBroker) -> None:
    broker.suspend()
    try:
        assert not broker_answers("127.0.0.1", broker.port, timeout_seconds=0.5)
    finally:
        broker.resume()
    assert broker_answers("127.0.0.1", broker.port, timeout_seconds=10)


def test_the_command_line_tools_reach_it(broker: PrivateBroker) -> None:
    assert broker.ctl("eval", "node().") == f"'{broker.node_name}'"
    broker.ctl("check_port_connectivity", program="rabbitmq-diagnostics")


@pytest.mark.skipif(not os.environ.get(ROOT_VARIABLE), reason=f"{ROOT_VARIABLE} names none")
def test_the_rabbitmq_of_another_root_runs_there_and_nothing_stays_mounted(
    broker: PrivateBroker,
) -> None:
    root = Path(os.environ[ROOT_VARIABLE]).resolve()
    assert Path(f"/proc/{broker.pid}/root").readlink() == root
    assert int(broker.ctl("version").split(".")[0]) >= 4
    assert broker.place.folder.is_relative_to(root)
    assert str(root) not in Path("/proc/self/mounts").read_text()


def test_two_brokers_run_side_by_side(broker: PrivateBroker, queue: str) -> None:
    with PrivateBroker() as other:
        publish(broker.url, queue, b"for the first")
        publish(other.url, queue, b"for the second")
        assert take(other.url, queue) == b"for the second"
        assert take(other.url, queue) is None
    assert take(broker.url, queue) == b"for the first"


def test_brokers_with_one_name_server_and_cookie_form_a_cluster(queue: str) -> None:
    with (
        Epmd() as epmd,
        PrivateBroker(epmd=epmd, cookie="shared") as first,
        PrivateBroker(epmd=epmd, cookie="shared") as second,
    ):
        second.ctl("stop_app")
        second.ctl("join_cluster", first.node_name)
        second.ctl("start_app")
        publish(first.url, queue, b"from the first")
        assert take(second.url, queue) == b"from the first"


def test_an_enabled_plugin_listens_on_a_port_of_its_own() -> None:
    with PrivateBroker(plugins=["rabbitmq_prometheus"]) as broker:
        port = broker.place.plugin_ports["rabbitmq_prometheus"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
            assert b"rabbitmq_build_info" in response.read()


@pytest.mark.parametrize("end", [PrivateBroker.stop, PrivateBroker.close])
def test_nothing_runs_after_the_end(end: Callable[[PrivateBroker], None]) -> None:
    broker = PrivateBroker()
    broker.start()
    try:
        pids = broker.pids
        assert len(pids) >= 3  # the Erlang machine, its helper for child processes, epmd
        end(broker)
        assert not pids & running_processes().keys()
        assert broker.pids == set()
    finally:
        broker.close()
    assert not broker.place.folder.exists()


def test_a_server_that_cannot_start_shows_why() -> None:
    with (
        pytest.raises(BrokerUnavailable, match="no_such_setting"),
        PrivateBroker(settings=["no_such_setting = 1"]),
    ):
        pytest.fail("it started")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_runs_after_its_owner_was_ended(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], cwd=ROOT, text=True, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout is not None
        *pids, folder = owner.stdout.readline().split()
        owner.send_signal(number)
    assert wait_until_gone({int(pid) for pid in pids}, timeout_seconds=10) == set()
    wait_for(lambda: not Path(folder).exists())


def run_with_broker(*command: str) -> subprocess.Popen[str]:
    """Start the command line in its own session, without a broker given."""
    environ = {name: value for name, value in os.environ.items() if name != "NODE_AMQP_URL"}
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.local_broker", "run", "--", *command],
        cwd=ROOT,
        env=environ,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def test_run_gives_the_address_and_passes_the_exit_code_on() -> None:
    with run_with_broker("sh", "-c", 'echo "$NODE_AMQP_URL"; exit 7') as run:
        output, said = run.communicate(timeout=120)
    assert run.returncode == 7
    assert output.startswith("amqp://guest:guest@")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_run_ends_the_command_and_leaves_nothing(number: signal.Signals) -> None:
    with run_with_broker("sh", "-c", "echo ready; sleep 600; echo never") as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        below = descendants(run.pid)
        run.send_signal(number)
        rest, _said = run.communicate(timeout=30)
    assert run.returncode == 128 + number
    assert rest == ""
    assert wait_until_gone(below, timeout_seconds=5) == set()


def test_a_signal_while_the_broker_starts_leaves_nothing() -> None:
    with run_with_broker("true") as run:
        wait_for(lambda: len(descendants(run.pid)) >= 3)
        below = descendants(run.pid)
        run.terminate()
        run.communicate(timeout=30)
    assert run.returncode == 128 + signal.SIGTERM
    assert wait_until_gone(below, timeout_seconds=5) == set()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, but not for ever."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
