from __future__ import annotations

import random
import sys
import zlib

import pytest
from tests.support.raw import (
    BINARY,
    CONTINUATION,
    PING,
    TEXT,
    encode_close,
    encode_frame,
)

from flask_ws.protocol.deflate import (
    THRESHOLD,
    Deflate,
    DeflateParameters,
    make_compressor,
    negotiate,
    parse_agreed,
)
from flask_ws.protocol.events import Close, Event, Ping, Violation
from flask_ws.protocol.protocol import Protocol

NAME = "permessage-deflate"
OURS = f"{NAME}; server_max_window_bits=12"
TAIL = b"\x00\x00\xff\xff"
RSV1 = 4

# Negotiation (RFC 7692 sections 5 and 7)


def answer(offers: str) -> str | None:
    agreed = negotiate(offers)
    return None if agreed is None else agreed[1]


ANSWERS = {
    NAME: OURS,
    "Permessage-Deflate": OURS,
    f"{NAME}; client_max_window_bits": f"{OURS}; client_max_window_bits=12",
    f"{NAME}; client_max_window_bits=15": f"{OURS}; client_max_window_bits=12",
    f"{NAME}; client_max_window_bits=10": f"{OURS}; client_max_window_bits=10",
    f"{NAME}; client_max_window_bits=9": f"{OURS}; client_max_window_bits=9",
    f"{NAME}; client_max_window_bits=8": f"{OURS}; client_max_window_bits=8",
    f"{NAME}; server_max_window_bits=15": OURS,
    f"{NAME}; server_max_window_bits=12": OURS,
    f"{NAME}; server_max_window_bits=10": f"{NAME}; server_max_window_bits=10",
    f'{NAME}; server_max_window_bits="10"': f"{NAME}; server_max_window_bits=10",
    f"{NAME}; server_max_window_bits=9": f"{NAME}; server_max_window_bits=9",
    f"{NAME}; server_no_context_takeover": (
        f"{NAME}; server_no_context_takeover; server_max_window_bits=12"
    ),
    f"{NAME}; client_no_context_takeover": (
        f"{NAME}; client_no_context_takeover; server_max_window_bits=12"
    ),
    f"x-other; a=b, {NAME}": OURS,
    f"{NAME} ;client_no_context_takeover ; server_no_context_takeover": (
        f"{NAME}; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12"
    ),
    f"{NAME}; server_max_window_bits=8, {NAME}": OURS,
    f"{NAME}; server_max_window_bits=9, {NAME}": f"{NAME}; server_max_window_bits=9",
}


@pytest.mark.parametrize(("offer", "expected"), ANSWERS.items())
def test_an_offer_is_accepted(offer: str, expected: str) -> None:
    assert answer(offer) == expected


@pytest.mark.parametrize(
    "offer",
    [
        pytest.param("", id="none"),
        pytest.param("x-webkit-deflate-frame", id="another extension"),
        # zlib cannot make a raw stream with so small a window.
        pytest.param(f"{NAME}; server_max_window_bits=8", id="our window too small"),
        pytest.param(f"{NAME}; server_max_window_bits=7", id="no such window"),
        pytest.param(f"{NAME}; server_max_window_bits=16", id="no such large window"),
        pytest.param(f"{NAME}; server_max_window_bits=010", id="leading zero"),
        pytest.param(f"{NAME}; server_max_window_bits=x", id="no number"),
        pytest.param(f"{NAME}; server_max_window_bits", id="a window without a size"),
        pytest.param(f"{NAME}; client_max_window_bits=7", id="the client's, too small"),
        pytest.param(f"{NAME}; client_max_window_bits=x", id="the client's, no number"),
        pytest.param(f"{NAME}; server_no_context_takeover=1", id="a value too many"),
        pytest.param(f"{NAME}; client_no_context_takeover=true", id="the client's, too"),
        pytest.param(f"{NAME}; unheard_of", id="an unknown parameter"),
        pytest.param(f"{NAME}; serverless_no_context_takeover", id="one that looks known"),
        pytest.param(
            f"{NAME}; client_max_window_bits=10; client_max_window_bits=11", id="named twice"
        ),
    ],
)
def test_an_offer_is_declined(offer: str) -> None:
    assert answer(offer) is None


def test_the_answer_is_what_is_agreed_on() -> None:
    agreed = negotiate(f"{NAME}; client_max_window_bits=10; client_no_context_takeover")

    assert agreed is not None
    assert parse_agreed(agreed[1]) == agreed[0]


def test_a_client_without_an_answer_has_no_compression() -> None:
    assert parse_agreed("") is None


@pytest.mark.parametrize("header", ["x-other", f"{NAME}; server_max_window_bits=x"])
def test_a_client_refuses_an_answer_that_it_did_not_ask_for(header: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_agreed(header)


# Messages

PLAIN = DeflateParameters()
TEXT_DATA = b"the same words again and again, " * 40
NOISE = random.Random(1).randbytes(600)


def make(
    parameters: DeflateParameters = PLAIN,
    *,
    max_size: int | None = None,
    client: bool = False,
) -> Protocol:
    deflate = Deflate(parameters, client=client, max_size=max_size)
    return Protocol(client=client, max_message_size=max_size, deflate=deflate)


class Peer:
    """Deflates and inflates as zlib does, knowing nothing of flask-ws."""

    def __init__(self, *, out_bits: int = 15, in_bits: int = 15) -> None:
        self.compressor = zlib.compressobj(wbits=-out_bits)
        self.decompressor = zlib.decompressobj(-in_bits)

    def deflate(self, data: bytes) -> bytes:
        out = self.compressor.compress(data) + self.compressor.flush(zlib.Z_SYNC_FLUSH)
        assert out.endswith(TAIL)
        return out[:-4]

    def inflate(self, data: bytes) -> bytes:
        return self.decompressor.decompress(data + TAIL)


def receive(protocol: Protocol, data: bytes) -> list[Event]:
    events = []
    protocol.receive_data(data)
    while (event := protocol.next_event()) is not None:
        events.append(event)
    return events


def compressed(data: bytes, opcode: int = BINARY, peer: Peer | None = None) -> bytes:
    return encode_frame(opcode, (peer or Peer()).deflate(data), rsv=RSV1)


def payload_of(frame: bytes) -> bytes:
    """The payload of a frame from the server."""
    size = frame[1] & 0x7F
    return frame[2:] if size < 126 else frame[4:] if size == 126 else frame[10:]


def sent(protocol: Protocol, data: str | bytes) -> bytes:
    return b"".join(protocol.send_message(data))


def code(events: list[Event]) -> int:
    (event,) = events
    assert isinstance(event, Violation)
    return event.code


def test_a_compressed_binary_message_is_received() -> None:
    assert receive(make(), compressed(TEXT_DATA)) == [TEXT_DATA]


def test_a_compressed_text_message_is_received() -> None:
    assert receive(make(), compressed("Grüße 🐘".encode(), TEXT)) == ["Grüße 🐘"]


def test_a_compressed_message_may_be_empty() -> None:
    assert receive(make(), encode_frame(BINARY, b"\x00", rsv=RSV1)) == [b""]


def test_the_example_of_the_rfc_is_received() -> None:
    """RFC 7692 section 7.2.3.1."""
    hello = encode_frame(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=RSV1)

    assert receive(make(), hello) == ["Hello"]


def test_the_second_example_of_the_rfc_builds_on_the_first() -> None:
    """RFC 7692 section 7.2.3.2."""
    hello = encode_frame(TEXT, bytes.fromhex("f248cdc9c90700"), rsv=RSV1)
    again = encode_frame(TEXT, bytes.fromhex("f200110000"), rsv=RSV1)

    assert receive(make(), hello + again) == ["Hello", "Hello"]


def test_a_block_that_is_not_compressed_is_received() -> None:
    """RFC 7692 section 7.2.3.3."""
    stored = encode_frame(TEXT, bytes.fromhex("000500faff48656c6c6f00"), rsv=RSV1)

    assert receive(make(), stored) == ["Hello"]


def test_a_final_block_is_received() -> None:
    """RFC 7692 section 7.2.3.4."""
    final = encode_frame(TEXT, bytes.fromhex("f348cdc9c9070000"), rsv=RSV1)

    assert receive(make(), final) == ["Hello"]


def test_a_message_after_a_final_block_is_received() -> None:
    final = encode_frame(TEXT, bytes.fromhex("f348cdc9c9070000"), rsv=RSV1)

    assert receive(make(), final + final) == ["Hello", "Hello"]


def final(data: bytes) -> bytes:
    """A deflate stream of its own, with a final block at its end."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


FINALS: dict[str, tuple[bytes, bytes | int]] = {
    "one, and an empty block": (final(b"one ") + b"\0", b"one "),
    "one alone": (final(b"one "), b"one "),
    "one, and a block that is not final": (final(b"one ") + Peer().deflate(b"two"), b"one two"),
    "two": (final(b"one ") + final(b"two") + b"\0", 1007),
    "two, the second empty": (final(b"one ") + final(b"") + b"\0", 1007),
    "one, and what refers to it": (final(TEXT_DATA) + b"\x02\x11\x00\x00", 1007),
    "one, and noise": (final(b"one ") + b"\xff" * 20, 1007),
}


@pytest.mark.parametrize("fast_lane", [True, False], ids=["fast-lane", "wsproto"])
@pytest.mark.parametrize("pieces", [1, 2, 1000], ids=["whole", "halves", "bytes"])
@pytest.mark.parametrize(("payload", "expected"), FINALS.values(), ids=FINALS)
def test_what_follows_a_final_block_is_not_dropped(
    payload: bytes, expected: bytes | int, pieces: int, fast_lane: bool
) -> None:
    """It is inflated, or refused (RFC 7692 section 7.2.3)."""
    deflate = Deflate(PLAIN, client=False, max_size=10_000)
    protocol = Protocol(max_message_size=10_000, deflate=deflate, fast_lane=fast_lane)
    frames = encode_frame(BINARY, payload, rsv=RSV1) + compressed(b"next")
    step = -(-len(frames) // pieces)
    events: list[Event] = []
    for start in range(0, len(frames), step):
        events += receive(protocol, frames[start : start + step])

    if isinstance(expected, int):
        assert code(events) == expected
    else:
        assert events == [expected, b"next"]


@pytest.mark.parametrize("fast_lane", [True, False], ids=["fast-lane", "wsproto"])
@pytest.mark.parametrize("first", [compressed(b"first"), b""], ids=["later", "at once"])
def test_a_compressed_message_without_a_payload_is_empty(first: bytes, fast_lane: bool) -> None:
    deflate = Deflate(PLAIN, client=False, max_size=None)
    protocol = Protocol(deflate=deflate, fast_lane=fast_lane)
    empty = encode_frame(BINARY, b"", rsv=RSV1)
    last = compressed(b"last")

    assert receive(protocol, first + empty + last)[-2:] == [b"", b"last"]


def test_two_blocks_in_one_message_are_received() -> None:
    """RFC 7692 section 7.2.3.5."""
    blocks = encode_frame(TEXT, bytes.fromhex("f248050000 00ffffcac9c90700"), rsv=RSV1)

    assert receive(make(), blocks) == ["Hello"]


def test_a_compressed_message_may_be_fragmented() -> None:
    data = Peer().deflate(TEXT_DATA)
    frames = (
        encode_frame(BINARY, data[:10], rsv=RSV1, fin=False)
        + encode_frame(CONTINUATION, data[10:20], fin=False)
        + encode_frame(CONTINUATION, data[20:])
    )

    assert receive(make(), frames) == [TEXT_DATA]


def test_a_ping_may_come_inside_a_compressed_message() -> None:
    data = Peer().deflate(TEXT_DATA)
    frames = (
        encode_frame(BINARY, data[:10], rsv=RSV1, fin=False)
        + encode_frame(PING, b"?")
        + encode_frame(CONTINUATION, data[10:])
    )

    assert receive(make(), frames) == [Ping(b"?"), TEXT_DATA]


def test_messages_with_and_without_compression_may_alternate() -> None:
    peer = Peer()
    frames = b"".join(
        compressed(TEXT_DATA, peer=peer) + encode_frame(BINARY, b"as it is") for _ in range(3)
    )

    assert receive(make(), frames) == [TEXT_DATA, b"as it is"] * 3


def test_an_uncompressed_message_may_be_fragmented_after_a_compressed_one() -> None:
    frames = (
        compressed(TEXT_DATA)
        + encode_frame(BINARY, b"one ", fin=False)
        + encode_frame(CONTINUATION, b"two")
    )

    assert receive(make(), frames) == [TEXT_DATA, b"one two"]


def test_a_close_frame_follows_a_compressed_message() -> None:
    assert receive(make(), compressed(TEXT_DATA) + encode_close(1000))[1] == Close(1000, "")


# Violations


def test_rsv1_on_a_continuation_is_a_protocol_error() -> None:
    frames = encode_frame(BINARY, b"x", fin=False) + encode_frame(CONTINUATION, b"y", rsv=RSV1)

    assert code(receive(make(), frames)) == 1002


def test_rsv1_on_a_ping_is_a_protocol_error() -> None:
    assert code(receive(make(), encode_frame(PING, b"x", rsv=RSV1))) == 1002


@pytest.mark.parametrize("rsv", [1, 2, RSV1 | 1, RSV1 | 2])
def test_the_other_reserved_bits_are_a_protocol_error(rsv: int) -> None:
    assert code(receive(make(), encode_frame(BINARY, b"x", rsv=rsv))) == 1002


def test_data_that_does_not_inflate_is_1007() -> None:
    assert code(receive(make(), encode_frame(BINARY, b"\xff" * 20, rsv=RSV1))) == 1007


def test_inflated_text_that_is_not_utf8_is_1007() -> None:
    assert code(receive(make(), compressed(b"\xff\xfe", TEXT))) == 1007


# Limits


@pytest.mark.parametrize("size", [100, 1000, 70_000])
def test_a_message_at_the_limit_after_inflation_is_received(size: int) -> None:
    assert receive(make(max_size=size), compressed(bytes(size))) == [bytes(size)]


@pytest.mark.parametrize("size", [100, 1000, 70_000])
def test_a_message_past_the_limit_after_inflation_is_1009(size: int) -> None:
    assert code(receive(make(max_size=size), compressed(bytes(size + 1)))) == 1009


@pytest.mark.parametrize("size", [sys.maxsize - 1, sys.maxsize, 10**30])
def test_the_limit_may_be_more_than_the_system_takes(size: int) -> None:
    assert receive(make(max_size=size), compressed(TEXT_DATA)) == [TEXT_DATA]


def test_a_message_past_the_limit_before_inflation_is_1009() -> None:
    assert code(receive(make(max_size=500), compressed(NOISE))) == 1009


def test_the_limit_is_for_all_fragments_after_inflation() -> None:
    peer = Peer()
    data = peer.deflate(bytes(60_000)) + TAIL, peer.deflate(bytes(60_000))
    frames = encode_frame(BINARY, data[0], rsv=RSV1, fin=False) + encode_frame(
        CONTINUATION, data[1]
    )

    assert code(receive(make(max_size=100_000), frames)) == 1009


def test_each_message_has_the_whole_limit_after_inflation() -> None:
    peer = Peer()
    frames = compressed(bytes(1000), peer=peer) + compressed(bytes(1000), peer=peer)

    assert receive(make(max_size=1000), frames) == [bytes(1000)] * 2


@pytest.mark.parametrize("fast_lane", [True, False], ids=["fast-lane", "wsproto"])
def test_a_bomb_is_not_inflated_past_the_limit(fast_lane: bool) -> None:
    class Counting:
        """A decompressor that counts what comes out."""

        eof = False

        @property
        def unconsumed_tail(self) -> bytes:
            return self.inner.unconsumed_tail

        def __init__(self) -> None:
            self.inner = zlib.decompressobj(-15)
            self.out = 0

        def decompress(self, data: bytes, max_length: int = 0) -> bytes:
            out = self.inner.decompress(data, max_length)
            self.out += len(out)
            return out

    deflate = Deflate(PLAIN, client=False, max_size=100_000)
    protocol = Protocol(max_message_size=100_000, deflate=deflate, fast_lane=fast_lane)
    counting = Counting()
    deflate._decompressor = counting  # type: ignore[assignment]
    receive(protocol, compressed(bytes(20_000_000)))

    assert counting.out == 100_001


def test_without_a_limit_any_size_is_received() -> None:
    assert receive(make(), compressed(bytes(3_000_000))) == [bytes(3_000_000)]


def test_a_compressed_message_that_came_whole_is_not_wsprotos() -> None:
    protocol = make()

    assert receive(protocol, compressed(TEXT_DATA)) == [TEXT_DATA]
    assert protocol._slow is None


def test_a_compressed_message_that_comes_in_pieces_is_inflated_as_it_comes() -> None:
    """And the next one, whole again, refers to it."""
    peer, protocol = Peer(), make()
    first, second = compressed(TEXT_DATA, peer=peer), compressed(TEXT_DATA, peer=peer)
    assert receive(protocol, first[:-1]) == []
    assert protocol.held > len(first)

    assert receive(protocol, first[-1:] + second) == [TEXT_DATA, TEXT_DATA]


# Sending


def test_a_message_is_sent_compressed() -> None:
    frame = sent(make(), TEXT_DATA)

    assert frame[0] & 0x40
    assert Peer().inflate(payload_of(frame)) == TEXT_DATA


def test_a_text_message_is_sent_compressed_as_text() -> None:
    frame = sent(make(), "Grüße 🐘" * 50)

    assert frame[0] == 0x80 | 0x40 | TEXT
    assert Peer().inflate(payload_of(frame)).decode() == "Grüße 🐘" * 50


@pytest.mark.parametrize("size", [0, 1, THRESHOLD - 1])
def test_a_small_message_is_sent_as_it_is(size: int) -> None:
    assert sent(make(), bytes(size)) == encode_frame(BINARY, bytes(size), mask=None)


def test_a_message_of_the_threshold_is_sent_compressed() -> None:
    assert sent(make(), bytes(THRESHOLD))[0] & 0x40


def test_a_ping_is_not_compressed() -> None:
    assert b"".join(make().send_ping(bytes(125))) == encode_frame(PING, bytes(125), mask=None)


def test_what_does_not_compress_arrives_all_the_same() -> None:
    assert Peer().inflate(payload_of(sent(make(), NOISE))) == NOISE


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_like_data_is_compressed(kind: type[bytearray | memoryview]) -> None:
    frame = b"".join(make().send_message(kind(TEXT_DATA)))

    assert Peer().inflate(payload_of(frame)) == TEXT_DATA


def test_a_client_and_a_server_understand_each_other_compressed() -> None:
    client, server = make(client=True), make()

    for _ in range(3):
        assert receive(server, sent(client, TEXT_DATA)) == [TEXT_DATA]
        assert receive(client, sent(server, TEXT_DATA.decode())) == [TEXT_DATA.decode()]


# Context takeover


def test_a_message_builds_on_the_one_sent_before() -> None:
    protocol = make()

    assert len(sent(protocol, NOISE)) > 10 * len(sent(protocol, NOISE))


def test_messages_that_build_on_each_other_arrive() -> None:
    protocol, peer = make(), Peer()

    for _ in range(3):
        assert peer.inflate(payload_of(sent(protocol, NOISE))) == NOISE


def test_messages_that_build_on_each_other_are_received() -> None:
    protocol, peer = make(), Peer()

    for _ in range(3):
        assert receive(protocol, compressed(NOISE, peer=peer)) == [NOISE]


def test_without_our_context_takeover_each_message_stands_alone() -> None:
    protocol = make(DeflateParameters(server_no_context_takeover=True))

    for _ in range(3):
        assert Peer().inflate(payload_of(sent(protocol, NOISE))) == NOISE


def test_without_the_clients_context_takeover_each_message_is_received_alone() -> None:
    protocol = make(DeflateParameters(client_no_context_takeover=True))

    for _ in range(3):
        assert receive(protocol, compressed(NOISE)) == [NOISE]


def test_without_the_clients_context_takeover_no_context_is_kept() -> None:
    deflate = Deflate(
        DeflateParameters(client_no_context_takeover=True), client=False, max_size=None
    )
    receive(Protocol(deflate=deflate), compressed(NOISE))

    assert deflate._decompressor is None


def test_without_our_context_takeover_no_context_is_kept() -> None:
    deflate = Deflate(
        DeflateParameters(server_no_context_takeover=True), client=False, max_size=None
    )
    sent(Protocol(deflate=deflate), NOISE)

    assert deflate._compressor is None


def test_the_sides_of_a_client_are_the_other_way_round() -> None:
    deflate = Deflate(
        DeflateParameters(client_no_context_takeover=True), client=True, max_size=None
    )
    sent(Protocol(client=True, deflate=deflate), NOISE)

    assert deflate._compressor is None


# Windows

#: Repeats itself over a distance that only a large window spans.
FAR = random.Random(2).randbytes(5000)


@pytest.mark.parametrize("bits", range(9, 16))
def test_what_is_sent_fits_into_the_window_agreed_on(bits: int) -> None:
    protocol = make(DeflateParameters(server_max_window_bits=bits))
    peer = Peer(in_bits=bits)

    for _ in range(3):
        assert peer.inflate(payload_of(sent(protocol, FAR))) == FAR


@pytest.mark.parametrize("bits", range(8, 16))
def test_what_the_clients_window_makes_is_received(bits: int) -> None:
    agreed = negotiate(f"{NAME}; client_max_window_bits={bits}")
    assert agreed is not None
    protocol = make(agreed[0])
    # zlib makes windows of 9 bits and more; a raw stream of 8 bits is read by any.
    peer = Peer(out_bits=max(9, min(bits, 12)))

    for _ in range(3):
        assert receive(protocol, compressed(FAR, peer=peer)) == [FAR]


def test_a_client_that_cannot_choose_its_window_may_use_all_of_it() -> None:
    agreed = negotiate(NAME)
    assert agreed is not None
    protocol, peer = make(agreed[0]), Peer(out_bits=15)

    for _ in range(3):
        assert receive(protocol, compressed(FAR * 5, peer=peer)) == [FAR * 5]


@pytest.mark.parametrize("bits", range(9, 16))
def test_a_compressor_is_made_for_each_window(bits: int) -> None:
    compressor = make_compressor(bits)

    assert compressor.compress(TEXT_DATA) + compressor.flush(zlib.Z_SYNC_FLUSH)
