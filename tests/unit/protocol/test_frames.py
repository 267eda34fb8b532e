from __future__ import annotations

import zlib
from typing import Any

import pytest

from flask_ws.protocol.frames import BINARY, MASKED, RSV1, TEXT, encode, header
from flask_ws.protocol.protocol import Protocol
from flask_ws.protocol.shared import SharedMessage


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (2**16 - 1, b"\x81\x7e\xff\xff"),
        (2**16, b"\x81\x7f" + (2**16).to_bytes(8, "big")),
    ],
)
def test_a_size_is_written_in_as_few_bytes_as_it_takes(size: int, expected: bytes) -> None:
    assert header(TEXT, size) == expected
    assert header(TEXT, size, MASKED)[1] == expected[1] | 0x80


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("grüße", (TEXT, "grüße".encode())),
        (b"\0", (BINARY, b"\0")),
        (bytearray(b"\0"), (BINARY, b"\0")),
        (memoryview(b"\0\1\2\3").cast("H"), (BINARY, b"\0\1\2\3")),
        (memoryview(b"\0\1\2\3")[::2], (BINARY, b"\0\2")),
    ],
)
def test_a_message_is_text_or_binary(data: Any, expected: tuple[int, bytes]) -> None:
    assert encode(data) == expected


@pytest.mark.parametrize("size", [0, 127, 128, 70_000])
def test_a_shared_message_is_the_frame_that_a_server_sends(size: int) -> None:
    assert SharedMessage(BINARY, b"x" * size).plain == b"".join(
        Protocol().send_message(b"x" * size)
    )


@pytest.mark.parametrize("bits", range(9, 16))
def test_a_compressed_one_refers_to_nothing_before_it(bits: int) -> None:
    payload = b"".join(number.to_bytes(4, "big") for number in range(5_000)) * 2
    frame = SharedMessage(BINARY, payload).compressed(bits)
    assert frame[0] == BINARY | RSV1
    size = len(frame) - 4
    assert frame[:4] == header(BINARY | RSV1, size)
    assert zlib.decompressobj(-bits).decompress(frame[4:] + b"\0\0\xff\xff") == payload


def test_it_is_compressed_once() -> None:
    message = SharedMessage(TEXT, b"x" * 1000)
    assert message.compressed(12) is message.compressed(12)
