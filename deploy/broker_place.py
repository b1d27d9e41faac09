"""Lay out what keeps a private broker apart: its folder, name, ports, environment and settings."""

import os
import random
import socket
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

# Below the range from which systems pick the local port of outgoing connections: a client that
# keeps trying a port of that range while the broker is down can end up connected to itself, and
# then holds the port that the broker needs.
PORTS = range(20_000, 32_000)

# Looked into after PATH: service managers and `sudo` leave these out of it.
USUAL_FOLDERS = (
    "/opt/homebrew/sbin",
    "/opt/homebrew/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
)
INHERITED_VARIABLES = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")

# Where a plugin listens; each enabled one gets a free port on loopback.
PLUGIN_LISTENERS = MappingProxyType(
    {"rabbitmq_management": "management.tcp", "rabbitmq_prometheus": "prometheus.tcp"}
)


class BrokerUnavailable(RuntimeError):
    """No broker could be had; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Place:
    """Say where a private broker lives.

    `folder` is spelled as we see it; for programs that see another `/`, `broker_environment` is
    given a place with their spelling.
    """

    folder: Path
    node_name: str
    amqp_port: int
    distribution_port: int
    epmd_port: int
    plugin_ports: Mapping[str, int]


def broker_environment(place: Place, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of the server and its tools.

    Little is inherited: RabbitMQ reads dozens of variables, and one that belongs to another
    broker would point this one at that broker's data. Files that do not exist stand in for those
    under /etc/rabbitmq.
    """
    folder = place.folder
    loopback_only = "-kernel inet_dist_use_interface {127,0,0,1}"
    return {
        **{name: inherited[name] for name in INHERITED_VARIABLES if name in inherited},
        "PATH": search_path(inherited),
        "HOME": str(folder),  # the Erlang cookie lives here
        "TMPDIR": str(folder),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(place.epmd_port),
        # Without `-start_epmd false` any Erlang program may start a name server that stays.
        "ERL_ZFLAGS": f"{loopback_only} -start_epmd false",
        "ERL_CRASH_DUMP": str(folder / "erl_crash.dump"),
        "ELIXIR_ERL_OPTIONS": "+fnu",  # spares the tools a warning about the locale
        "RABBITMQ_NODENAME": place.node_name,
        "RABBITMQ_DIST_PORT": str(place.distribution_port),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "no-rabbitmq-env.conf"),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "no-advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_LOGS": "-",
        # The script then becomes the Erlang machine instead of waiting for it as its parent, so
        # that our child is the process to signal; without input it would read a shell's commands.
        "RABBITMQ_ALLOW_INPUT": "true",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-noinput",
    }


def configuration(place: Place, settings: Iterable[str]) -> str:
    """Return rabbitmq.conf; later lines win, so the caller's settings come last."""
    lines = [
        f"listeners.tcp.local = 127.0.0.1:{place.amqp_port}",
        # The default of 512 MB is allocated ahead, more than a small temporary disk may have.
        "raft.wal_max_size_bytes = 33554432",
    ]
    for plugin, port in place.plugin_ports.items():
        listener = PLUGIN_LISTENERS[plugin]
        lines += [f"{listener}.ip = 127.0.0.1", f"{listener}.port = {port}"]
    return "\n".join([*lines, *settings, ""])


def write_files(place: Place, plugins: Sequence[str], settings: Sequence[str], cookie: str) -> None:
    """Lay out the folder; a folder of an earlier start keeps its data and its cookie."""
    place.folder.mkdir(mode=0o700, exist_ok=True)
    (place.folder / "rabbitmq.conf").write_text(configuration(place, settings))
    (place.folder / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")
    cookie_file = place.folder / ".erlang.cookie"
    if not cookie_file.exists():
        cookie_file.touch(mode=0o600)
        cookie_file.write_text(cookie)
        cookie_file.chmod(0o400)


def free_ports(count: int, taken: Iterable[int] = ()) -> list[int]:
    """Return distinct ports that nobody listens on."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if port not in taken and _is_free(port):
            found.append(port)
        if len(found) == count:
            break
    return found


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        # As Erlang does it: connections of an ended broker that still linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def search_path(environ: Mapping[str, str]) -> str:
    """Return PATH with the usual folders behind it."""
    return os.pathsep.join([environ.get("PATH", os.defpath), *USUAL_FOLDERS])
