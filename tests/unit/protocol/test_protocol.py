from __future__ import annotations

import array
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from tests.support import raw
from tests.support.raw import (
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    encode_close,
    encode_frame,
    encode_message,
)

from flask_ws.protocol import partial
from flask_ws.protocol.close_codes import CLOSE_CODES
from flask_ws.protocol.deflate import Deflate, DeflateParameters
from flask_ws.protocol.events import PROGRESS, Close, Event, Ping, Pong, Violation
from flask_ws.protocol.frames import BytesLike
from flask_ws.protocol.protocol import Protocol

BINARY = raw.BINARY

#: Each side of a change of the size of the header.
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 65537, 200_000]

Make = Callable[..., Protocol]


@pytest.fixture(params=["fast lane", "wsproto"])
def make(request: pytest.FixtureRequest) -> Make:
    """Make a server's protocol, one lane after the other."""

    def make(max_message_size: int | None = None) -> Protocol:
        return Protocol(max_message_size=max_message_size, fast_lane=request.param == "fast lane")

    return make


def drain(protocol: Protocol) -> list[Event]:
    events: list[Event] = []
    while (event := protocol.next_event()) is not None:
        events += [] if event is PROGRESS else [event]
    return events


def receive(protocol: Protocol, *chunks: bytes) -> list[Event]:
    """All events that come of the chunks."""
    events: list[Event] = []
    for chunk in chunks:
        event = protocol.next_event(chunk)
        events += [] if event in (None, PROGRESS) else [event]
        events += drain(protocol)
    return events


def join(buffers: list[BytesLike]) -> bytes:
    return b"".join(buffers)


def violation(events: list[Event]) -> Violation:
    (event,) = events
    assert isinstance(event, Violation)
    return event


# Messages


@pytest.mark.parametrize("size", SIZES)
def test_a_binary_message_is_received_as_bytes(make: Make, size: int) -> None:
    assert receive(make(), encode_frame(BINARY, b"\xff" * size)) == [b"\xff" * size]


@pytest.mark.parametrize("size", SIZES)
def test_a_text_message_is_received_as_str(make: Make, size: int) -> None:
    assert receive(make(), encode_frame(TEXT, b"a" * size)) == ["a" * size]


@pytest.mark.parametrize("message", ["", b""])
def test_an_empty_message_is_a_message(make: Make, message: str | bytes) -> None:
    assert receive(make(), raw.encode_message(message)) == [message]


def test_a_binary_message_is_of_type_bytes(make: Make) -> None:
    (message,) = receive(make(), encode_frame(BINARY, b"x" * 100_000))

    assert type(message) is bytes


def test_text_beyond_ascii_is_received(make: Make) -> None:
    assert receive(make(), raw.encode_message("Grüße 🐘")) == ["Grüße 🐘"]


def test_several_frames_at_once_are_several_messages(make: Make) -> None:
    data = raw.encode_message("a") + raw.encode_message(b"b") + raw.encode_message("c")

    assert receive(make(), data) == ["a", b"b", "c"]


@pytest.mark.parametrize("size", [0, 5, 126, 65536])
def test_a_message_that_comes_byte_by_byte_is_received(make: Make, size: int) -> None:
    data = encode_frame(TEXT, "ü".encode() * size) + encode_frame(BINARY, b"end")
    # All of a long payload byte by byte takes too long.
    middle = max(20, len(data) - 20)
    cut = [data[:20][index : index + 1] for index in range(20)]
    cut += [data[20:middle], *(data[index : index + 1] for index in range(middle, len(data)))]

    assert receive(make(), *cut) == ["ü" * size, b"end"]


def test_no_event_comes_of_a_part_of_a_frame(make: Make) -> None:
    assert receive(make(), encode_frame(TEXT, b"hello")[:-1]) == []


def test_each_frame_has_its_own_mask(make: Make) -> None:
    data = encode_frame(TEXT, b"a", mask=b"1234") + encode_frame(TEXT, b"b", mask=b"5678")

    assert receive(make(), data) == ["a", "b"]


# Fragments


def test_fragments_are_joined(make: Make) -> None:
    data = (
        encode_frame(TEXT, b"one ", fin=False)
        + encode_frame(CONTINUATION, b"two ", fin=False)
        + encode_frame(CONTINUATION, b"three")
    )

    assert receive(make(), data) == ["one two three"]


def test_a_character_may_be_cut_by_fragments(make: Make) -> None:
    elephant = "🐘".encode()
    data = encode_frame(TEXT, elephant[:1], fin=False) + encode_frame(CONTINUATION, elephant[1:])

    assert receive(make(), data) == ["🐘"]


def test_fragments_may_be_empty(make: Make) -> None:
    data = (
        encode_frame(BINARY, b"", fin=False)
        + encode_frame(CONTINUATION, b"x", fin=False)
        + encode_frame(CONTINUATION, b"")
    )

    assert receive(make(), data) == [b"x"]


def test_a_message_may_be_all_empty_fragments(make: Make) -> None:
    data = encode_frame(BINARY, b"", fin=False) + encode_frame(CONTINUATION, b"")

    assert receive(make(), data) == [b""]


def test_a_control_frame_may_come_between_fragments(make: Make) -> None:
    data = (
        encode_frame(TEXT, b"one ", fin=False)
        + encode_frame(PING, b"?")
        + encode_frame(CONTINUATION, b"two")
    )

    assert receive(make(), data) == [Ping(b"?"), "one two"]


def test_a_whole_message_follows_a_fragmented_one(make: Make) -> None:
    data = (
        encode_frame(TEXT, b"one ", fin=False)
        + encode_frame(CONTINUATION, b"two")
        + encode_frame(BINARY, b"three")
    )

    assert receive(make(), data) == ["one two", b"three"]


def test_empty_fragments_take_no_memory(make: Make) -> None:
    protocol = make(max_message_size=100)
    receive(protocol, encode_frame(TEXT, b"a", fin=False))
    receive(protocol, encode_frame(CONTINUATION, b"", fin=False) * 100)

    assert protocol.held == 1


# Control frames


@pytest.mark.parametrize("payload", [b"", b"hello", b"\xff" * 125])
def test_a_ping_is_received_with_its_payload(make: Make, payload: bytes) -> None:
    assert receive(make(), encode_frame(PING, payload)) == [Ping(payload)]


def test_a_pong_is_received_with_its_payload(make: Make) -> None:
    assert receive(make(), encode_frame(PONG, b"hello")) == [Pong(b"hello")]


def test_control_frames_come_in_order_with_messages(make: Make) -> None:
    data = (
        encode_frame(TEXT, b"a")
        + encode_frame(PING, b"1")
        + encode_frame(TEXT, b"b")
        + encode_frame(PONG, b"2")
        + encode_frame(TEXT, b"c")
    )

    assert receive(make(), data) == ["a", Ping(b"1"), "b", Pong(b"2"), "c"]


RIGHT = {
    "a ping": encode_frame(PING, b"?"),
    "a pong": encode_frame(PONG, b""),
    "a close frame": encode_close(1000, "bye"),
    "fragments": encode_frame(TEXT, b"a", fin=False) + encode_frame(CONTINUATION, b"b"),
    "a ping inside a message": encode_frame(BINARY, b"a", fin=False) + encode_frame(PING, b"?"),
}


@pytest.mark.parametrize("data", RIGHT.values(), ids=RIGHT)
def test_a_frame_that_is_right_does_not_need_wsproto(data: bytes) -> None:
    """It takes 3 KiB, and many times as long."""
    with mock.patch("flask_ws.protocol.incoming.SlowLane", side_effect=AssertionError):
        assert receive(Protocol(), data)
        assert receive(Protocol(), *(data[index : index + 1] for index in range(len(data))))


# Close


@pytest.mark.parametrize(
    "code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
)
def test_a_close_frame_is_received_with_its_code_and_reason(make: Make, code: int) -> None:
    assert receive(make(), encode_close(code, "güte")) == [Close(code, "güte")]


@pytest.mark.parametrize("code", [1012, 1013, 1014])
def test_the_codes_that_iana_added_are_codes(make: Make, code: int) -> None:
    assert receive(make(), encode_close(code)) == [Close(code, "")]


@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("fast_lane", [True, False], ids=["fast lane", "wsproto"])
def test_a_close_code_that_may_be_sent_may_be_received(client: bool, fast_lane: bool) -> None:
    """In one piece, and byte by byte."""
    for code in sorted(CLOSE_CODES):
        frame = join(Protocol(client=not client).send_close(code, "güte"))
        for pieces in ([frame], [frame[index : index + 1] for index in range(len(frame))]):
            protocol = Protocol(client=client, fast_lane=fast_lane)
            assert receive(protocol, *pieces) == [Close(code, "güte")]


def test_a_close_frame_without_a_code_is_1005(make: Make) -> None:
    assert receive(make(), encode_close(None)) == [Close(1005, "")]


def test_nothing_comes_after_a_close_frame(make: Make) -> None:
    assert receive(make(), encode_close(1000) + encode_frame(TEXT, b"late"), b"x") == [
        Close(1000, "")
    ]


def test_a_close_frame_may_come_between_fragments(make: Make) -> None:
    data = encode_frame(TEXT, b"one ", fin=False) + encode_close(1001)

    assert receive(make(), data) == [Close(1001, "")]


@pytest.mark.parametrize(
    "code", [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]
)
def test_a_close_code_that_nobody_may_send_is_a_violation(make: Make, code: int) -> None:
    assert violation(receive(make(), encode_close(code))).code == 1002


def test_a_close_frame_with_half_a_code_is_a_violation(make: Make) -> None:
    assert violation(receive(make(), encode_frame(CLOSE, b"\x03"))).code == 1002


def test_a_reason_that_is_not_utf8_is_a_violation(make: Make) -> None:
    frame = encode_frame(CLOSE, struct.pack("!H", 1000) + b"\xff")

    assert violation(receive(make(), frame)).code == 1007


# Violations


def long_header(opcode: int, size: bytes) -> bytes:
    return bytes([0x80 | opcode, 0xFE if len(size) == 2 else 0xFF]) + size + b"\0\0\0\0"


VIOLATIONS = {
    "a frame that is not masked": encode_frame(TEXT, b"hello", mask=None),
    "RSV1 without an extension": encode_frame(TEXT, b"hello", rsv=4),
    "RSV2": encode_frame(TEXT, b"hello", rsv=2),
    "RSV3": encode_frame(BINARY, b"hello", rsv=1),
    "a reserved data opcode": encode_frame(0x3, b"hello"),
    "a reserved control opcode": encode_frame(0xB, b"hello"),
    "a continuation of nothing": encode_frame(CONTINUATION, b"hello"),
    "a message inside another": encode_frame(TEXT, b"a", fin=False) + encode_frame(TEXT, b"b"),
    "a fragmented ping": encode_frame(PING, b"hello", fin=False),
    "a ping of 126 bytes": encode_frame(PING, b"x" * 126),
    "a close frame of 126 bytes": encode_frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    "16 bits for a size that needs 7": long_header(TEXT, b"\0\x7d") + b"x" * 125,
    "64 bits for a size that needs 7": long_header(TEXT, struct.pack("!Q", 5)) + b"hello",
    "64 bits for a size that needs 16": long_header(BINARY, struct.pack("!Q", 65535)),
    "a size of 64 bits": long_header(BINARY, struct.pack("!Q", 2**63)),
}


@pytest.mark.parametrize("data", VIOLATIONS.values(), ids=VIOLATIONS)
def test_it_is_a_protocol_error(make: Make, data: bytes) -> None:
    assert violation(receive(make(), data)).code == 1002


@pytest.mark.parametrize("data", VIOLATIONS.values(), ids=VIOLATIONS)
def test_it_is_a_protocol_error_byte_by_byte(make: Make, data: bytes) -> None:
    cut = [data[index : index + 1] for index in range(len(data))]

    assert violation(receive(make(), *cut)).code == 1002


@pytest.mark.parametrize("data", VIOLATIONS.values(), ids=VIOLATIONS)
def test_nothing_comes_after_a_protocol_error(make: Make, data: bytes) -> None:
    protocol = make()
    receive(protocol, data)

    assert receive(protocol, encode_frame(TEXT, b"late"), b"x" * 100) == []


def test_what_came_before_a_violation_is_received(make: Make) -> None:
    data = encode_frame(TEXT, b"good") + encode_frame(0x3, b"bad")
    good, bad = receive(make(), data)

    assert good == "good"
    assert isinstance(bad, Violation)


def test_a_violation_has_a_reason_that_fits_into_a_close_frame(make: Make) -> None:
    event = violation(receive(make(), encode_frame(0x3, b"bad")))

    assert 0 < len(event.reason.encode()) <= 123


# Text that is not UTF-8

BAD_TEXT = {
    "a stray byte": b"a\xff",
    "a cut character": "🐘".encode()[:3],
    "a surrogate": b"\xed\xa0\x80",
    "an overlong form": b"\xc0\xaf",
}


@pytest.mark.parametrize("payload", BAD_TEXT.values(), ids=BAD_TEXT)
def test_text_that_is_not_utf8_is_1007(make: Make, payload: bytes) -> None:
    assert violation(receive(make(), encode_frame(TEXT, payload))).code == 1007


@pytest.mark.parametrize("payload", BAD_TEXT.values(), ids=BAD_TEXT)
def test_text_that_is_not_utf8_in_fragments_is_1007(make: Make, payload: bytes) -> None:
    data = encode_frame(TEXT, payload[:1], fin=False) + encode_frame(CONTINUATION, payload[1:])

    assert violation(receive(make(), data)).code == 1007


def test_a_long_text_that_is_not_utf8_fails_before_its_end(make: Make) -> None:
    data = encode_frame(TEXT, b"\xff" + b"a" * 100_000)

    assert violation(receive(make(), data[:1000])).code == 1007


def test_binary_data_need_not_be_utf8(make: Make) -> None:
    assert receive(make(), encode_frame(BINARY, b"\xff\xfe")) == [b"\xff\xfe"]


# Limits


@pytest.mark.parametrize("limit", [1, 125, 126, 65536])
def test_a_message_at_the_limit_is_received(make: Make, limit: int) -> None:
    assert receive(make(limit), encode_frame(BINARY, bytes(limit))) == [bytes(limit)]


@pytest.mark.parametrize("limit", [1, 125, 126, 65536])
def test_a_message_past_the_limit_is_1009(make: Make, limit: int) -> None:
    assert violation(receive(make(limit), encode_frame(BINARY, bytes(limit + 1)))).code == 1009


def test_the_limit_counts_bytes_not_characters(make: Make) -> None:
    assert violation(receive(make(5), raw.encode_message("ääa🐘"))).code == 1009


def test_the_header_of_a_message_past_the_limit_is_enough(make: Make) -> None:
    frame = encode_frame(BINARY, bytes(2000))

    assert violation(receive(make(1000), frame[:8])).code == 1009


def test_the_limit_is_for_all_fragments_together(make: Make) -> None:
    data = encode_frame(BINARY, bytes(60), fin=False) + encode_frame(CONTINUATION, bytes(41))

    assert violation(receive(make(100), data)).code == 1009


def test_fragments_at_the_limit_are_received(make: Make) -> None:
    data = encode_frame(BINARY, bytes(60), fin=False) + encode_frame(CONTINUATION, bytes(40))

    assert receive(make(100), data) == [bytes(100)]


def test_each_message_has_the_whole_limit(make: Make) -> None:
    data = encode_frame(BINARY, bytes(60), fin=False) + encode_frame(CONTINUATION, bytes(40))

    assert receive(make(100), data * 2) == [bytes(100)] * 2


def test_control_frames_between_fragments_do_not_count(make: Make) -> None:
    data = (
        encode_frame(BINARY, bytes(60), fin=False)
        + encode_frame(PING, bytes(100))
        + encode_frame(CONTINUATION, bytes(40))
    )

    assert receive(make(100), data)[-1] == bytes(100)


def test_a_control_frame_may_be_larger_than_the_limit(make: Make) -> None:
    assert receive(make(1), encode_frame(PING, bytes(125))) == [Ping(bytes(125))]


def test_the_reason_tells_the_size_and_the_limit(make: Make) -> None:
    event = violation(receive(make(100), encode_frame(BINARY, bytes(101))))

    assert event.reason == "message too big: 101 bytes, the limit is 100"


def test_a_header_that_promises_much_costs_little(make: Make) -> None:
    protocol = make()
    protocol.receive_data(long_header(BINARY, struct.pack("!Q", 2**40)))
    protocol.next_event()
    buffer = protocol.partial.get_buffer() if protocol.partial else None

    assert buffer is None or len(buffer) <= 65536


# Memory


def text_in_one_frame(data: bytes) -> list[bytes]:
    frame = encode_frame(TEXT, data)
    return [frame[:1000], frame[1000:-1]]


def text_in_fragments(data: bytes) -> list[bytes]:
    size = 2**12
    frames = [encode_frame(TEXT, data[:size], fin=False)]
    for start in range(size, len(data), size):
        frames.append(encode_frame(CONTINUATION, data[start : start + size], fin=False))
    return frames


def text_compressed(data: bytes) -> list[bytes]:
    compressor = zlib.compressobj(wbits=-15)
    payload = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return [encode_frame(TEXT, payload, rsv=4)[:-1]]


@pytest.mark.parametrize("fast_lane", [True, False], ids=["fast lane", "wsproto"])
@pytest.mark.parametrize("arrive", [text_in_one_frame, text_in_fragments, text_compressed])
def test_an_unfinished_text_takes_little_more_than_its_bytes(
    arrive: Callable[[bytes], list[bytes]], fast_lane: bool
) -> None:
    """Decoded, this one would take four times as much."""
    size = 2**19
    pieces = arrive("🐘".encode() + b"a" * (size - 4))
    deflate = Deflate(DeflateParameters(), client=False, max_size=size)
    protocol = Protocol(max_message_size=size, deflate=deflate, fast_lane=fast_lane)
    tracemalloc.start()
    try:
        assert receive(protocol, *pieces) == []
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A bytearray that grows takes an eighth more.
    assert size * 0.9 < protocol.held <= taken < size * 1.25


BEGUN = {
    "a header": b"\x81",
    "a long header": encode_frame(TEXT, bytes(1000))[:3],
    "a payload": encode_frame(TEXT, bytes(100))[:50],
    "a ping": encode_frame(PING, bytes(100))[:50],
    "a fragment": encode_frame(TEXT, b"a", fin=False),
    "a fault": b"\x03",
}


@pytest.mark.parametrize("begun", BEGUN.values(), ids=BEGUN)
def test_what_has_begun_does_not_keep_what_was_read_before_it(make: Make, begun: bytes) -> None:
    protocol = make()
    messages = encode_message("x" * 100) * 500
    data = messages + begun
    before = sys.getrefcount(data)
    assert len(receive(protocol, data)) == 500
    assert protocol.held <= 2 * len(begun)
    assert sys.getrefcount(data) == before


# Receiving into place


def receive_into(protocol: Protocol, data: bytes) -> list[Event]:
    """Receive as a transport does that reads little at first, and then as much as there is room."""
    events = receive(protocol, data[:1000])
    data = data[1000:]
    while data:
        buffer = protocol.partial.get_buffer() if protocol.partial else None
        if buffer is None:
            return events + receive(protocol, data)
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        buffer.release()
        protocol.buffer_updated(size)
        events += drain(protocol)
        data = data[size:]
    return events


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("size", [70_000, 200_000, 200_001])
def test_a_buffer_that_another_message_was_in_is_as_good_as_new(size: int, text: bool) -> None:
    first = bytes(range(256)) * 800
    second = "x" * size if text else b"y" * size
    data = encode_frame(BINARY, first) + encode_message(second) + encode_message("small")
    assert receive_into(Protocol(), data) == [first, second, "small"]
    assert receive_into(Protocol(), data) == [first, second, "small"]


def test_few_buffers_are_kept() -> None:
    protocols = [Protocol() for _ in range(20)]
    data = encode_frame(BINARY, bytes(100_000))
    for protocol in protocols:
        assert receive(protocol, data[:90_000]) == []
    for protocol in protocols:
        assert receive(protocol, data[90_000:]) == [bytes(100_000)]
    assert len(partial._spares) <= partial.SPARES


def test_very_large_buffers_are_not_kept() -> None:
    size = partial.LARGEST_SPARE + 1
    assert receive_into(Protocol(), encode_frame(BINARY, bytes(size))) == [bytes(size)]
    assert all(len(spare) < size for spare in partial._spares)


def test_a_part_of_a_payload_may_be_written_into_place() -> None:
    protocol = Protocol()
    data = encode_frame(BINARY, b"x" * 100_000)
    assert receive(protocol, data[:1000]) == []
    position = 1000
    while position < len(data):
        buffer = protocol.partial.get_buffer() if protocol.partial else None
        assert buffer is not None
        size = min(len(buffer), 7000, len(data) - position)
        buffer[:size] = data[position : position + size]
        buffer.release()
        protocol.buffer_updated(size)
        position += size
        if position < len(data):
            assert protocol.next_event() is None

    assert protocol.next_event() == b"x" * 100_000


def test_between_frames_there_is_no_place_to_write_to() -> None:
    protocol = Protocol()
    receive(protocol, encode_frame(BINARY, b"hello"))

    assert protocol.partial is None


def test_the_place_ends_with_the_frame() -> None:
    protocol = Protocol()
    receive(protocol, encode_frame(BINARY, bytes(1000))[:500])
    buffer = protocol.partial.get_buffer() if protocol.partial else None

    assert buffer is not None
    assert len(buffer) == 508


# The client's side


def test_a_client_receives_what_is_not_masked() -> None:
    assert receive(Protocol(client=True), encode_frame(TEXT, b"hello", mask=None)) == ["hello"]


def test_a_client_takes_a_masked_frame_for_a_violation() -> None:
    assert violation(receive(Protocol(client=True), encode_frame(TEXT, b"hello"))).code == 1002


def test_a_client_and_a_server_understand_each_other() -> None:
    client, server = Protocol(client=True), Protocol()

    assert receive(server, join(client.send_message("to"))) == ["to"]
    assert receive(client, join(server.send_message(b"fro"))) == [b"fro"]


def test_a_client_masks_what_it_sends() -> None:
    assert join(Protocol(client=True).send_message(b"hello"))[1] & 0x80


def test_a_client_masks_each_frame_with_a_fresh_key() -> None:
    client = Protocol(client=True)
    keys = {join(client.send_message(b"x"))[2:6] for _ in range(10)}

    assert len(keys) > 1


# Sending


@pytest.mark.parametrize("size", SIZES)
def test_a_message_is_sent_in_one_frame(size: int) -> None:
    assert join(Protocol().send_message(bytes(size))) == encode_frame(
        BINARY, bytes(size), mask=None
    )


@pytest.mark.parametrize("data", [b"", b"x" * 125, "", "x" * 125, "é" * 62])
def test_a_small_frame_is_that_of_the_message(data: str | bytes) -> None:
    assert Protocol().small_frame(data) == join(Protocol().send_message(data))


@pytest.mark.parametrize("data", [b"x" * 126, "x" * 126, "é" * 63, bytearray(b"x"), 5])
def test_what_is_not_small_is_no_small_frame(data: Any) -> None:
    assert not Protocol().small_frame(data)


def test_a_client_has_no_small_frames() -> None:
    """It masks each."""
    assert not Protocol(client=True).small_frame(b"x")


def test_text_is_sent_as_utf8() -> None:
    assert join(Protocol().send_message("Grüße")) == encode_frame(TEXT, "Grüße".encode(), mask=None)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_like_data_is_sent_as_binary(kind: type[BytesLike]) -> None:
    assert join(Protocol().send_message(kind(b"hello"))) == encode_frame(
        BINARY, b"hello", mask=None
    )


def test_a_view_of_wide_items_is_sent_by_its_bytes() -> None:
    numbers = array.array("I", [1, 2, 3])

    assert join(Protocol().send_message(memoryview(numbers))) == encode_frame(
        BINARY, numbers.tobytes(), mask=None
    )


def test_a_view_with_gaps_is_sent_by_its_items() -> None:
    assert join(Protocol().send_message(memoryview(b"a-b-c")[::2])) == encode_frame(
        BINARY, b"abc", mask=None
    )


def test_an_empty_view_is_sent_as_an_empty_message() -> None:
    assert join(Protocol().send_message(memoryview(b""))) == encode_frame(BINARY, b"", mask=None)


@pytest.mark.parametrize("message", [{"a": 1}, [1]])
def test_what_is_neither_text_nor_bytes_is_refused_in_words(message: object) -> None:
    with pytest.raises(TypeError, match=f"not {type(message).__name__}: send_json"):
        Protocol().send_message(message)  # type: ignore[arg-type]


def test_a_long_payload_is_not_copied_behind_its_header() -> None:
    data = bytes(65536)
    _, payload = Protocol().send_message(data)

    assert payload is data


@pytest.mark.parametrize("payload", [b"", b"x" * 125])
def test_a_ping_is_sent_with_its_payload(payload: bytes) -> None:
    assert join(Protocol().send_ping(payload)) == encode_frame(PING, payload, mask=None)


def test_a_ping_of_more_than_125_bytes_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="up to 125 bytes, not 126"):
        Protocol().send_ping(b"x" * 126)


def test_a_pong_is_sent_with_its_payload() -> None:
    assert join(Protocol().send_pong(b"hello")) == encode_frame(PONG, b"hello", mask=None)


def test_a_close_frame_is_sent_with_its_code_and_reason() -> None:
    payload = struct.pack("!H", 4000) + "güte".encode()

    assert join(Protocol().send_close(4000, "güte")) == encode_frame(CLOSE, payload, mask=None)


def test_a_close_frame_for_1005_has_no_code() -> None:
    assert join(Protocol().send_close(1005)) == encode_frame(CLOSE, b"", mask=None)


def test_a_long_reason_is_cut_to_what_a_close_frame_holds() -> None:
    assert len(join(Protocol().send_close(1000, "x" * 500))) == 2 + 125


def test_a_long_reason_is_cut_between_characters() -> None:
    frame = join(Protocol().send_close(1000, "ä" * 100))

    assert frame[4:].decode() == "ä" * 61
