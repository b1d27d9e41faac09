"""Read whatever properties a message has: none may take its connection down.

pamqp raises on a timestamp past the year 9999 (nanoseconds are), on text that is not UTF-8 and on
deep tables. aiormq then closes the connection, the broker hands the message out again, and so one
message ends every node. Its table of decoders is a plain dict: three of them are replaced.
"""

import struct
from typing import Final

from pamqp import decode
from pamqp.common import FieldValue

from node.ports import UNREADABLE_HEADERS

MAX_HEADERS_BYTES: Final = 16 * 1024
"""Larger header tables are not read: answers carry headers along, and must fit into one frame."""


def tolerate_hostile_properties() -> None:
    """Replace the decoders of this process; doing it again changes nothing."""
    decode.METHODS.update(shortstr=_text, table=_table, timestamp=_timestamp)


def _text(value: bytes) -> tuple[int, str]:
    try:
        return decode.short_str(value)
    except UnicodeDecodeError:
        end = value[0] + 1
        # One character for each byte, so that it still fits where it came from.
        return end, "".join(chr(byte) if byte < 128 else "?" for byte in value[1:end])


def _timestamp(value: bytes) -> tuple[int, FieldValue]:
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, None


def _table(value: bytes) -> tuple[int, FieldValue]:
    (length,) = struct.unpack_from(">I", value)
    if length > MAX_HEADERS_BYTES:
        return 4 + length, {UNREADABLE_HEADERS: f"{length} bytes, at most {MAX_HEADERS_BYTES}"}
    try:
        return decode.field_table(value)
    except (ValueError, OverflowError, OSError, RecursionError) as error:
        return 4 + length, {UNREADABLE_HEADERS: str(error)[:200]}
