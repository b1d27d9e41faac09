"""Ask an address whether a RabbitMQ broker answers there and accepts a login.

Written by hand over a socket because it runs before anything is installed. The exchange is the
AMQP 0-9-1 connection handshake, ended with Close so that the broker logs an orderly connection.
"""

import socket
import struct
import time

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
METHOD_FRAME = 1
FRAME_END = 0xCE
MAX_HANDSHAKE_FRAME_BYTES = 128 * 1024

Method = tuple[int, int]
START: Method = (10, 10)
START_OK: Method = (10, 11)
TUNE: Method = (10, 30)
TUNE_OK: Method = (10, 31)
OPEN: Method = (10, 40)
OPEN_OK: Method = (10, 41)
CLOSE: Method = (10, 50)
CLOSE_OK: Method = (10, 51)


def broker_answers(
    host: str,
    port: int,
    *,
    user: str = "guest",
    password: str = "guest",  # RabbitMQ's default login, accepted from the same machine only
    vhost: str = "/",
    timeout_seconds: float = 2.0,
) -> bool:
    """Tell whether a broker lets this user into this vhost within the timeout."""
    deadline = time.monotonic() + timeout_seconds
    try:
        with socket.create_connection((host, port), timeout=timeout_seconds) as connection:
            _log_in(connection, deadline, user, password, vhost)
    except OSError:
        return False
    return True


def wait_until_answering(port: int, *, timeout_seconds: float) -> bool:
    """Wait for a broker on this machine's loopback; False when the time is over."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        if broker_answers("127.0.0.1", port):
            return True
        time.sleep(0.1)
    return False


def _log_in(
    connection: socket.socket, deadline: float, user: str, password: str, vhost: str
) -> None:
    connection.sendall(PROTOCOL_HEADER)
    _expect(connection, deadline, START)
    connection.sendall(method_frame(START_OK, start_ok_arguments(user, password)))
    limits = _expect(connection, deadline, TUNE)
    channel_max, frame_max, _heartbeat = struct.unpack_from(">HIH", limits)
    tune_ok = method_frame(TUNE_OK, struct.pack(">HIH", channel_max, frame_max, 0))
    open_vhost = method_frame(OPEN, _short_string(vhost) + _short_string("") + b"\x00")
    connection.sendall(tune_ok + open_vhost)
    _expect(connection, deadline, OPEN_OK)
    reply_success = struct.pack(">H", 200) + _short_string("bye") + struct.pack(">HH", 0, 0)
    connection.sendall(method_frame(CLOSE, reply_success))
    _expect(connection, deadline, CLOSE_OK)


def method_frame(method: Method, arguments: bytes) -> bytes:
    """Encode a method on channel 0."""
    payload = struct.pack(">HH", *method) + arguments
    header = struct.pack(">BHI", METHOD_FRAME, 0, len(payload))
    return header + payload + bytes([FRAME_END])


def start_ok_arguments(user: str, password: str) -> bytes:
    """Encode a PLAIN login without client properties."""
    no_properties = struct.pack(">I", 0)
    response = f"\0{user}\0{password}".encode()
    return (
        no_properties
        + _short_string("PLAIN")
        + struct.pack(">I", len(response))
        + response
        + _short_string("en_US")
    )


def _short_string(text: str) -> bytes:
    encoded = text.encode()
    return bytes([len(encoded)]) + encoded


def _expect(connection: socket.socket, deadline: float, expected: Method) -> bytes:
    """Read one frame and return its arguments; anything but the expected method is an error."""
    frame_type, _channel, size = struct.unpack(">BHI", _read(connection, 7, deadline))
    if frame_type != METHOD_FRAME or not 4 <= size <= MAX_HANDSHAKE_FRAME_BYTES:
        raise ConnectionError("the peer does not speak AMQP 0-9-1")
    payload = _read(connection, size + 1, deadline)[:-1]
    method = struct.unpack_from(">HH", payload)
    if method != expected:
        raise ConnectionError(f"expected method {expected}, got {method}")
    return payload[4:]


def _read(connection: socket.socket, size: int, deadline: float) -> bytes:
    received = b""
    while len(received) < size:
        remaining_seconds = deadline - time.monotonic()
        if remaining_seconds <= 0:
            raise TimeoutError("the peer is too slow")
        connection.settimeout(remaining_seconds)
        chunk = connection.recv(size - len(received))
        if not chunk:
            raise ConnectionError("the peer closed the connection")
        received += chunk
    return received
