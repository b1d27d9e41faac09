"""Which broker is chosen, how an address is asked, and what a private broker is told."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from deploy import local_broker
from deploy.broker_place import (
    BrokerUnavailable,
    Place,
    broker_environment,
    configuration,
    free_ports,
    write_files,
)
from deploy.handshake import (
    CLOSE,
    CLOSE_OK,
    OPEN,
    OPEN_OK,
    PROTOCOL_HEADER,
    START,
    START_OK,
    TUNE,
    TUNE_OK,
    Method,
    broker_answers,
    method_frame,
)
from deploy.local_broker import Source, choose, container, parse, probes, provide
from deploy.private_broker import telling_lines
from deploy.processes import (
    Foreground,
    LastWill,
    descendants,
    signals_deferred,
    wait_until_gone,
    wait_until_stopped,
)

ROOT = Path(__file__).parents[3]
TUNE_ARGUMENTS = struct.pack(">HIH", 2047, 131072, 60)


class ScriptedServer:
    """Answer each thing the peer sends with the next bytes of a script; keep what was sent."""

    def __init__(self, replies: list[bytes]) -> None:
        self.received: list[bytes] = []
        self._replies = replies
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ended = threading.Event()

    @contextmanager
    def serving(self) -> Iterator["ScriptedServer"]:
        thread = threading.Thread(target=self._serve)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()
            self._listener.close()

    def _serve(self) -> None:
        self._listener.settimeout(0.05)
        while not self._ended.is_set():
            try:
                peer, _address = self._listener.accept()
            except TimeoutError:
                continue
            # A peer that closes before it has read everything resets the connection.
            with peer, suppress(ConnectionResetError):
                peer.settimeout(5)
                self._answer(peer)

    def _answer(self, peer: socket.socket) -> None:
        for reply in self._replies:
            self.received.append(peer.recv(4096))
            peer.sendall(reply)
        while peer.recv(4096):
            pass


def broker_script(*, up_to: Method = CLOSE_OK) -> list[bytes]:
    """What RabbitMQ says, as far as the given method."""
    dialogue = [
        (START, b"\0\x09" + bytes(12)),
        (TUNE, TUNE_ARGUMENTS),
        (OPEN_OK, b"\0"),
        (CLOSE_OK, b""),
    ]
    length = [method for method, _ in dialogue].index(up_to) + 1
    return [method_frame(method, arguments) for method, arguments in dialogue[:length]]


def methods_of(received: list[bytes]) -> list[Method]:
    """The methods in a stream of frames, in order."""
    stream, methods = b"".join(received), []
    while stream:
        _type, _channel, size = struct.unpack_from(">BHI", stream)
        methods.append(struct.unpack_from(">HH", stream, 7))
        stream = stream[8 + size :]
    return methods


def test_a_broker_that_accepts_the_login_answers_and_is_left_in_order() -> None:
    with ScriptedServer([*broker_script()]).serving() as server:
        assert broker_answers("127.0.0.1", server.port)
    assert server.received[0] == PROTOCOL_HEADER
    assert methods_of(server.received[1:]) == [START_OK, TUNE_OK, OPEN, CLOSE]
    assert b"PLAIN" in server.received[1]
    assert b"\0guest\0guest" in server.received[1]


def test_the_login_and_the_vhost_are_those_asked_for() -> None:
    with ScriptedServer(broker_script()).serving() as server:
        assert broker_answers("127.0.0.1", server.port, user="ann", password="pw", vhost="/lab")
    assert b"\0ann\0pw" in server.received[1]
    assert b"\x04/lab" in server.received[2]


def test_a_port_where_nobody_listens_does_not_answer() -> None:
    assert not broker_answers("127.0.0.1", free_ports(1)[0])


@pytest.mark.parametrize(
    "replies",
    [
        pytest.param([], id="silence"),
        pytest.param(broker_script(up_to=START), id="silence after the login"),
        pytest.param([*broker_script()[:1], broker_script()[1][:9]], id="half a frame"),
    ],
)
def test_a_server_that_says_nothing_more_is_given_up_in_time(replies: list[bytes]) -> None:
    with ScriptedServer(replies).serving() as server:
        began = time.monotonic()
        assert not broker_answers("127.0.0.1", server.port, timeout_seconds=0.3)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize(
    "replies",
    [
        pytest.param([b"HTTP/1.1 400 Bad Request\r\n\r\n"], id="a web server"),
        pytest.param([b"AMQP\x00\x01\x00\x00"], id="another version"),
        pytest.param([b"\x01\x00\x00\xff\xff\xff\xff"], id="a frame of 4 GiB"),
        pytest.param([*broker_script(up_to=START), method_frame(CLOSE, b"")], id="login refused"),
        pytest.param([*broker_script(up_to=TUNE), method_frame(CLOSE, b"")], id="vhost refused"),
    ],
)
def test_a_server_that_answers_otherwise_is_no_broker(replies: list[bytes]) -> None:
    with ScriptedServer(replies).serving() as server:
        assert not broker_answers("127.0.0.1", server.port)


@pytest.mark.parametrize("first", list(Source))
def test_the_first_source_that_can_be_had_is_chosen_and_no_later_one_is_asked(
    first: Source,
) -> None:
    asked: list[Source] = []

    def probe(source: Source) -> Callable[[], bool]:
        def available() -> bool:
            asked.append(source)
            return source is first

        return available

    assert choose([(source, probe(source)) for source in Source]) is first
    assert asked == list(Source)[: list(Source).index(first) + 1]


def test_the_sources_are_tried_in_their_declared_order() -> None:
    assert [source for source, _available in probes({})] == list(Source)


def test_without_any_source_one_line_says_what_to_do() -> None:
    with pytest.raises(BrokerUnavailable) as failure:
        choose([(source, lambda: False) for source in Source])
    message = str(failure.value)
    assert "\n" not in message
    for advice in ("brew install rabbitmq", "apt-get install rabbitmq-server", "NODE_AMQP_URL"):
        assert advice in message


def test_a_given_address_is_used_as_it_is() -> None:
    with provide({"NODE_AMQP_URL": "amqps://elsewhere/vhost"}) as broker:
        assert broker.url == "amqps://elsewhere/vhost"
        assert "NODE_AMQP_URL" in broker.description


def test_an_empty_address_counts_as_none() -> None:
    (_source, given), *_others = probes({"NODE_AMQP_URL": ""})
    assert not given()


@pytest.fixture
def docker_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A `docker` that publishes a broker and writes down how it was called."""
    with ScriptedServer(broker_script()).serving() as server:
        program = tmp_path / "docker"
        log = tmp_path / "calls"
        program.write_text(
            f'#!/bin/sh\necho "$@" >> {log}\n[ "$1" != port ] || echo 127.0.0.1:{server.port}\n'
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        yield log


def test_a_container_listens_on_loopback_and_is_removed(docker_log: Path) -> None:
    with container() as broker:
        run, port = docker_log.read_text().splitlines()
        assert broker.url.startswith("amqp://guest:guest@127.0.0.1:")
    name = port.split()[1]
    assert run == f"run --rm --detach --name {name} --publish 127.0.0.1::5672 rabbitmq:4"
    assert docker_log.read_text().splitlines()[-1] == f"rm --force {name}"


def test_a_docker_that_fails_is_not_a_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho no daemon >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert not local_broker.docker_answers()
    with pytest.raises(BrokerUnavailable, match="no daemon"):
        local_broker.docker("version")


def a_place(folder: Path) -> Place:
    """A place for a broker that is never started."""
    return Place(
        folder=folder,
        node_name="text2image-test@localhost",
        amqp_port=20001,
        distribution_port=20002,
        epmd_port=20003,
        plugin_ports={"rabbitmq_management": 20004},
    )


def test_the_environment_is_private(tmp_path: Path) -> None:
    environ = broker_environment(a_place(tmp_path), {"PATH": "/mine"})
    assert environ["RABBITMQ_NODENAME"] == "text2image-test@localhost"
    assert environ["RABBITMQ_DIST_PORT"] == "20002"
    assert environ["ERL_EPMD_PORT"] == "20003"
    assert environ["ERL_EPMD_ADDRESS"] == "127.0.0.1"
    assert "inet_dist_use_interface {127,0,0,1}" in environ["ERL_ZFLAGS"]
    assert environ["PATH"].startswith("/mine:")
    for variable in ("HOME", "RABBITMQ_CONFIG_FILE", "RABBITMQ_MNESIA_BASE", "ERL_CRASH_DUMP"):
        assert Path(environ[variable]).is_relative_to(tmp_path)


def test_variables_of_another_broker_are_not_inherited(tmp_path: Path) -> None:
    theirs = {"RABBITMQ_MNESIA_DIR": "/theirs", "ERL_FLAGS": "-x", "NODENAME": "n", "LANG": "C"}
    environ = broker_environment(a_place(tmp_path), theirs)
    assert environ["LANG"] == "C"
    assert not environ.keys() & (theirs.keys() - {"LANG"})


def test_all_listeners_are_on_loopback_and_own_settings_come_last(tmp_path: Path) -> None:
    lines = configuration(a_place(tmp_path), ["consumer_timeout = 5000"]).splitlines()
    assert "listeners.tcp.local = 127.0.0.1:20001" in lines
    assert {"management.tcp.ip = 127.0.0.1", "management.tcp.port = 20004"} <= set(lines)
    assert lines[-1] == "consumer_timeout = 5000"


def test_the_folder_is_for_the_owner_only_and_keeps_its_cookie(tmp_path: Path) -> None:
    place = a_place(tmp_path / "broker")
    write_files(place, ["rabbitmq_management"], [], "first")
    write_files(place, ["rabbitmq_management"], [], "second")
    cookie = place.folder / ".erlang.cookie"
    assert cookie.read_text() == "first"
    assert cookie.stat().st_mode & 0o777 == 0o400
    assert place.folder.stat().st_mode & 0o777 == 0o700
    assert (place.folder / "enabled_plugins").read_text() == "[rabbitmq_management].\n"


def test_the_shown_part_of_a_log_begins_at_the_first_error() -> None:
    talk = [f"[info] {number}" for number in range(50)]
    assert telling_lines([*talk, "[error] why", "[error] how"]) == ["[error] why", "[error] how"]
    assert telling_lines(talk) == talk[-20:]
    assert telling_lines([]) == []


def test_free_ports_are_distinct_and_avoid_those_taken() -> None:
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert not set(free_ports(50, taken=ports)) & set(ports)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["run", "--", "make", "-j", "--", "x"], ["make", "-j", "--", "x"]),
        (["ensure"], None),
    ],
)
def test_the_command_is_all_that_follows_the_first_separator(
    arguments: list[str], command: list[str] | None
) -> None:
    assert parse(arguments) == command


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "--"], ["ensure", "--", "x"], ["x"]])
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        parse(arguments)
    assert exit_.value.code == 2


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)])
def test_the_exit_code_is_the_one_a_shell_would_show(script: str, code: int) -> None:
    with Foreground() as foreground:
        assert foreground.run(["sh", "-c", script], os.environ) == code


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_is_passed_on_to_the_command_once(name: str) -> None:
    parent = os.getpid()
    command = f"trap 'exit 40' {name[3:]}; kill -{name[3:]} {parent}; while :; do sleep 0.05; done"
    with Foreground() as foreground:
        assert foreground.run(["sh", "-c", command], os.environ) == 40


def test_a_signal_before_the_command_ends_us() -> None:
    with pytest.raises(SystemExit) as exit_, Foreground():
        signal.raise_signal(signal.SIGTERM)
    assert exit_.value.code == 128 + signal.SIGTERM


def test_a_signal_after_the_command_does_not_interrupt_the_clean_up() -> None:
    with Foreground() as foreground:
        foreground.run(["true"], os.environ)
        signal.raise_signal(signal.SIGTERM)


def test_a_deferred_signal_acts_after_the_block() -> None:
    # A shell lets its background jobs ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    reached = []

    def block() -> None:
        with signals_deferred():
            signal.raise_signal(signal.SIGINT)
            reached.append("the end")

    try:
        with pytest.raises(KeyboardInterrupt):
            block()
    finally:
        signal.signal(signal.SIGINT, before)
    assert reached


WILLING = """
import os, sys, time
from deploy.processes import LastWill
will = LastWill()
will.write(["touch", sys.argv[1] + "-overwritten"])
will.write(["touch", sys.argv[1]])
if sys.argv[2] == "revoke":
    will.revoke()
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("ending", ["die", "revoke"])
def test_a_last_will_is_done_after_a_kill_unless_revoked(tmp_path: Path, ending: str) -> None:
    done = tmp_path / "it's done"
    arguments = [sys.executable, "-c", WILLING, str(done), ending]
    subprocess.run(arguments, check=False, cwd=ROOT)
    assert wait_for(done.exists, timeout_seconds=5.0 if ending == "die" else 0.3) == (
        ending == "die"
    )
    assert not (tmp_path / "it's done-overwritten").exists()


def test_a_last_will_that_was_never_written_can_be_revoked_and_written_then(
    tmp_path: Path,
) -> None:
    will = LastWill()
    will.revoke()
    will.write(["touch", str(tmp_path / "too late")])
    will.revoke()
    assert list(tmp_path.iterdir()) == []


RUNNING = """
import os, sys
from deploy.processes import Foreground
command = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
with Foreground() as foreground:
    foreground.run([sys.executable, "-c", command], os.environ)
"""


def test_a_command_is_ended_when_we_are_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUNNING], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as owner:
        assert owner.stdout is not None
        command = int(owner.stdout.readline())
        owner.kill()
    assert wait_until_gone({command}, timeout_seconds=5) == set()


@pytest.mark.parametrize(("number", "ended"), [(signal.SIGSTOP, None), (signal.SIGKILL, -9)])
def test_a_child_is_waited_for_until_it_stands_still_or_ended(
    number: signal.Signals, ended: int | None
) -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        child.send_signal(number)
        wait_until_stopped(child, timeout_seconds=5)
        assert child.returncode == ended
        child.kill()


def test_descendants_are_found_until_they_are_gone() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60 & wait"]) as shell:
        assert wait_for(lambda: len(descendants(shell.pid)) == 2, timeout_seconds=5)
        family = descendants(shell.pid)
        assert wait_until_gone(family, timeout_seconds=0.05) == family
        for pid in family:
            os.kill(pid, signal.SIGKILL)
    assert wait_until_gone(family | {shell.pid}, timeout_seconds=5) == set()


def wait_for(condition: Callable[[], bool], *, timeout_seconds: float) -> bool:
    """Wait until the condition holds; False when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
