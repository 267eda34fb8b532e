"""The format of a publication, as the broker carries it from one process to the others."""

from __future__ import annotations

from ..protocol.control import read_control
from ..protocol.frames import BINARY, CLOSE, TEXT
from ..protocol.shared import SharedMessage

__all__ = ["COUNT", "ORIGIN_SIZE", "pack", "read", "read_origin"]

#: Asks how many connections are subscribed; no frame begins so. The data say where to answer.
COUNT = 0
#: It begins with the version of its format, which process it is from, its number there, and
#: its kind: text, JSON, binary, a close frame that ends the subscribers' connections, a question.
VERSION = b"\x02"
ORIGIN_SIZE = 8
NUMBER_SIZE = 8
HEAD_SIZE = len(VERSION) + ORIGIN_SIZE + NUMBER_SIZE + 1
KINDS = {TEXT: b"t", BINARY: b"b", CLOSE: b"c", COUNT: b"q"}
#: Of text that was made as JSON.
JSON = b"j"
FIRST_BYTES = {JSON[0]: TEXT} | {kind[0]: first for first, kind in KINDS.items()}


def pack(origin: bytes, number: int, first: int, data: bytes, *, is_json: bool = False) -> bytes:
    """Make a publication.

    :param origin: identifies the process.
    :param number: its number there.
    :param first: the first byte of the message's frame.
    :param data: the message.
    :param is_json: whether it was made as JSON.
    """
    kind = JSON if is_json else KINDS[first]
    return b"".join((VERSION, origin, number.to_bytes(NUMBER_SIZE, "big"), kind, data))


def read_origin(payload: bytes) -> tuple[bytes, int]:
    """Read which process a publication is from, and its number there."""
    start = len(VERSION) + ORIGIN_SIZE
    return payload[len(VERSION) : start], int.from_bytes(payload[start : HEAD_SIZE - 1], "big")


def read(payload: bytes) -> SharedMessage | None:
    """Read the message; ``None`` if there is none, or no valid one."""
    kind = payload[HEAD_SIZE - 1 : HEAD_SIZE]
    first = FIRST_BYTES.get(kind[0]) if kind else None
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
    return SharedMessage(first, data, is_json=kind == JSON)
