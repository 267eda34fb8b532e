"""A publication, as it goes from one process to the others."""

from __future__ import annotations

from ..protocol.control import read_control
from ..protocol.frames import BINARY, CLOSE, TEXT
from ..protocol.shared import SharedMessage

__all__ = ["COUNT", "ORIGIN_SIZE", "pack", "read", "read_origin"]

#: Asks how many connections are subscribed; no frame begins so. The data say where to answer.
COUNT = 0
#: It begins with the version of its format, which process it is from, its number there, and
#: its kind: text, binary, a close frame that ends the subscribers' connections, or a question.
VERSION = b"\x02"
ORIGIN_SIZE = 8
NUMBER_SIZE = 8
HEAD_SIZE = len(VERSION) + ORIGIN_SIZE + NUMBER_SIZE + 1
KINDS = {TEXT: b"t", BINARY: b"b", CLOSE: b"c", COUNT: b"q"}
FIRST_BYTES = {kind[0]: first for first, kind in KINDS.items()}


def pack(origin: bytes, number: int, first: int, data: bytes) -> bytes:
    """Make a publication.

    :param origin: identifies the process.
    :param number: its number there.
    :param first: the first byte of the message's frame.
    :param data: the message.
    """
    return b"".join((VERSION, origin, number.to_bytes(NUMBER_SIZE, "big"), KINDS[first], data))


def read_origin(payload: bytes) -> tuple[bytes, int]:
    """Read which process a publication is from, and its number there."""
    start = len(VERSION) + ORIGIN_SIZE
    return payload[len(VERSION) : start], int.from_bytes(payload[start : HEAD_SIZE - 1], "big")


def read(payload: bytes) -> SharedMessage | None:
    """Read the message; ``None`` if there is none, or no valid one."""
    first = FIRST_BYTES.get(payload[HEAD_SIZE - 1]) if len(payload) >= HEAD_SIZE else None
    if first is None or not payload.startswith(VERSION):
        return None
    data = payload[HEAD_SIZE:]
    if first == TEXT and not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            return None
    if first == CLOSE and read_control(CLOSE, data) is None:
        return None
    return SharedMessage(first, data)
