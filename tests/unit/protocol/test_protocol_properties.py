"""Claims about the protocol that hold for every stream of bytes, tried on many of them."""

from __future__ import annotations

import itertools
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable
from typing import TypeAlias
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from flask_ws.protocol.deflate import Deflate, DeflateParameters
from flask_ws.protocol.events import PROGRESS, Event, Violation
from flask_ws.protocol.masking import SPEEDUPS, apply_mask, apply_mask_python
from flask_ws.protocol.protocol import Protocol

# Two cores shared with whatever else runs say nothing about a deadline.
settings.register_profile("properties", deadline=None)
pytestmark = pytest.mark.timeout(300)
many = settings(settings.get_profile("properties"), max_examples=250)
some = settings(settings.get_profile("properties"), max_examples=60)

Mask: TypeAlias = Callable[..., bytes]

needs_speedups = pytest.mark.skipif(not SPEEDUPS, reason="the speedups extra is not installed")
with_each_mask = pytest.mark.parametrize(
    "mask",
    [
        pytest.param(apply_mask_python, id="pure"),
        pytest.param(apply_mask, id="speedups", marks=needs_speedups),
    ],
)

TEXT, BINARY, CONTINUATION = 1, 2, 0
CLOSE, PING, PONG = 8, 9, 10
FIN, RSV1 = 0x80, 0x40


# Streams


def make_frame(
    first: int,
    payload: bytes,
    *,
    key: bytes | None = b"key!",
    size: int | None = None,
    wide: int = 0,
) -> bytes:
    """A frame as told, right or wrong.

    `size` is what the header claims; `wide` is 2 or 8 for a size in more bytes than it needs.
    """
    size = len(payload) if size is None else size
    masked = 0 if key is None else 0x80
    if wide == 8 or size > 0xFFFF:
        header = struct.pack("!BBQ", first, masked | 127, size)
    elif wide == 2 or size > 125:
        header = struct.pack("!BBH", first, masked | 126, size)
    else:
        header = bytes((first, masked | size))
    return header + (payload if key is None else key + apply_mask_python(payload, key))


def deflated(payload: bytes) -> bytes:
    """A message as permessage-deflate has it."""
    compressor = zlib.compressobj(wbits=-9)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def finished(payload: bytes) -> bytes:
    """A deflate stream that ends with a final block."""
    compressor = zlib.compressobj(wbits=-9)
    return compressor.compress(payload) + compressor.flush()


class Stream(bytes):
    """Bytes whose repr fits into a failure's report."""

    def __repr__(self) -> str:
        if len(self) <= 300:
            return super().__repr__()
        return f"<{len(self)} bytes: {self[:150]!r} ... {self[-150:]!r}>"


def join(frames: Iterable[bytes]) -> Stream:
    return Stream(b"".join(frames))


keys = st.binary(min_size=4, max_size=4)
edge_sizes = st.sampled_from([125, 126, 127, 65535, 65536, 70000])
# Valid UTF-8 is rare among random bytes, and the ends of the sizes' ranges among sizes.
plain_payloads = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(str.encode),
    st.builds(lambda size, byte: bytes([byte]) * size, edge_sizes, st.integers(0, 255)),
    st.builds(lambda size: ("é" * size).encode()[:size], edge_sizes),
)
# As a peer deflates a message that knows of final blocks, or plays with them.
block_payloads = st.lists(
    st.one_of(
        plain_payloads.map(deflated),
        plain_payloads.map(finished),
        st.sampled_from([b"", b"\0", b"\0\0\xff\xff", b"\x03\0", b"\x01"]),
    ),
    max_size=4,
).map(b"".join)
payloads = st.one_of(plain_payloads, plain_payloads.map(deflated), block_payloads)
close_payloads = st.one_of(
    st.just(b""),
    st.builds(
        lambda code, reason: struct.pack("!H", code) + reason,
        st.one_of(st.integers(990, 1020), st.sampled_from([0, 2999, 3000, 4999, 5000, 65535])),
        st.one_of(st.text(max_size=10).map(str.encode), st.binary(max_size=10)),
    ),
    st.binary(max_size=2),
)
data_firsts = st.sampled_from([FIN | TEXT, FIN | BINARY])
deflated_firsts = st.sampled_from([FIN | RSV1 | TEXT, FIN | RSV1 | BINARY])


def valid_frames(server: bool) -> st.SearchStrategy[bytes]:
    masks = keys if server else st.none()
    control = st.sampled_from([FIN | PING, FIN | PONG])
    return st.one_of(
        st.builds(lambda f, p, k: make_frame(f, p, key=k), data_firsts, plain_payloads, masks),
        st.builds(
            lambda f, p, k: make_frame(f, p, key=k),
            deflated_firsts,
            plain_payloads.map(deflated) | block_payloads,
            masks,
        ),
        st.builds(lambda f, p, k: make_frame(f, p[:125], key=k), control, payloads, masks),
        st.builds(lambda p, k: make_frame(FIN | CLOSE, p, key=k), close_payloads, masks),
    )


def fragmented_messages(server: bool) -> st.SearchStrategy[bytes]:
    """Messages in fragments, with control frames between them."""

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        first = draw(st.sampled_from([TEXT, BINARY, RSV1 | TEXT, RSV1 | BINARY]))
        deflates = plain_payloads.map(deflated) | block_payloads
        payload = draw(deflates if first & RSV1 else plain_payloads)
        cuts = draw(st.lists(st.integers(0, len(payload)), max_size=4).map(sorted))
        parts = [payload[a:b] for a, b in itertools.pairwise([0, *cuts, len(payload)])]
        frames = []
        for number, part in enumerate(parts):
            opcode = CONTINUATION if number else first
            last = number == len(parts) - 1
            key = draw(keys) if server else None
            frames.append(make_frame(opcode | (FIN if last else 0), part, key=key))
            if draw(st.booleans()):
                opcode = draw(st.sampled_from([PING, PONG]))
                frames.append(make_frame(FIN | opcode, b"?", key=key))
        return b"".join(frames)

    return build()


wrong_frames = st.builds(
    lambda first, payload, key, size, wide: make_frame(
        first, payload, key=key, size=size, wide=wide
    ),
    st.one_of(st.integers(0, 255), data_firsts, deflated_firsts),
    payloads,
    st.one_of(keys, st.none()),
    st.one_of(st.none(), st.integers(0, 200), st.sampled_from([2**16, 2**31, 2**63, 2**64 - 1])),
    st.sampled_from([0, 2, 8]),
).filter(bool)


def streams(server: bool = True) -> st.SearchStrategy[Stream]:
    """What a peer may send: right, nearly right, and anything at all."""
    right = st.one_of(valid_frames(server), fragmented_messages(server))
    anything = st.one_of(right, right, wrong_frames, st.binary(max_size=30))
    return st.one_of(
        st.lists(right, max_size=6).map(join),
        st.lists(anything, max_size=6).map(join),
        st.builds(
            lambda frames, last, size: join([*frames, last[:size]]),
            st.lists(right, max_size=3),
            st.one_of(right, wrong_frames),
            # The end of the stream is as likely within a header as past it.
            st.integers(0, 14) | st.integers(15, 200),
        ),
    )


limits = st.sampled_from([None, 0, 10, 125, 126, 1000, 65536])
parameters = st.builds(
    DeflateParameters, st.booleans(), st.booleans(), st.integers(9, 15), st.integers(9, 15)
)


def make_protocol(
    *,
    client: bool = False,
    limit: int | None = None,
    deflate: DeflateParameters | None = None,
    fast_lane: bool = True,
) -> Protocol:
    return Protocol(
        client=client,
        max_message_size=limit,
        deflate=Deflate(deflate, client=client, max_size=limit) if deflate else None,
        fast_lane=fast_lane,
    )


def drain(protocol: Protocol) -> list[Event]:
    events: list[Event] = []
    while (event := protocol.next_event()) is not None:
        events += [] if event is PROGRESS else [event]
    return events


def receive(
    protocol: Protocol, pieces: Iterable[bytes], *, into_buffer: bool = False
) -> list[Event]:
    """Feed the pieces; return all events. With `into_buffer`, use the frame's own buffer."""
    events: list[Event] = []
    for number, piece in enumerate(pieces):
        rest = memoryview(piece)
        while rest:
            buffer = protocol.partial.get_buffer() if into_buffer and protocol.partial else None
            if buffer is None and number % 2:
                protocol.receive_data(bytes(rest))
                rest = rest[len(rest) :]
            elif buffer is None:
                event = protocol.next_event(bytes(rest))
                events += [] if event in (None, PROGRESS) else [event]
                rest = rest[len(rest) :]
            else:
                size = min(len(buffer), len(rest))
                buffer[:size] = rest[:size]
                buffer.release()
                protocol.buffer_updated(size)
                rest = rest[size:]
            events += drain(protocol)
    return events


def codes(events: list[Event], *, either: bool = False) -> list[Event]:
    """The events without the words for what is wrong, which may name a position.

    With `either`, a message that inflates to too much and to nonsense may fail for the one or
    the other: what inflation meets first depends on how much it is given at once.
    """

    def code(event: Event) -> Event:
        if not isinstance(event, Violation):
            return event
        return Violation(1009 if either and event.code == 1007 else event.code, "")

    return [code(event) for event in events]


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted(place % (len(stream) + 1) for place in cuts)
    return [stream[a:b] for a, b in itertools.pairwise([0, *places, len(stream)])]


@with_each_mask
@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("into_buffer", [False, True], ids=["copied", "read-into-place"])
def test_any_cut_gives_the_same_events(mask: Mask, client: bool, into_buffer: bool) -> None:
    @many
    @given(
        streams(server=not client),
        st.lists(st.integers(0, 300_000), max_size=8),
        limits,
        st.none() | parameters,
    )
    def check(
        stream: bytes, cuts: list[int], limit: int | None, deflate: DeflateParameters | None
    ) -> None:
        def endpoint() -> Protocol:
            return make_protocol(client=client, limit=limit, deflate=deflate)

        whole = receive(endpoint(), [stream])
        pieces = receive(endpoint(), cut(stream, cuts), into_buffer=into_buffer)
        either = deflate is not None and limit is not None
        assert codes(pieces, either=either) == codes(whole, either=either)

    with mock.patch("flask_ws.protocol.incoming.apply_mask", mask):
        check()


@pytest.mark.parametrize("into_buffer", [False, True], ids=["copied", "read-into-place"])
def test_one_byte_at_a_time_gives_the_same_events(into_buffer: bool) -> None:
    @some
    @given(streams().map(lambda stream: Stream(stream[:2000])), limits, st.none() | parameters)
    def check(stream: bytes, limit: int | None, deflate: DeflateParameters | None) -> None:
        def endpoint() -> Protocol:
            return make_protocol(limit=limit, deflate=deflate)

        bytewise = [stream[i : i + 1] for i in range(len(stream))]
        events = receive(endpoint(), bytewise, into_buffer=into_buffer)
        either = deflate is not None and limit is not None
        assert codes(events, either=either) == codes(receive(endpoint(), [stream]), either=either)

    check()


@with_each_mask
def test_fast_lane_and_wsproto_give_the_same_events(mask: Mask) -> None:
    @many
    @given(streams(), st.lists(st.integers(0, 300_000), max_size=4), limits, st.none() | parameters)
    # A size in more bytes than it needs, where the mask has not come.
    @example(Stream(b"\x81\xfe\x00\x05"), [], None, None)
    def check(
        stream: bytes, cuts: list[int], limit: int | None, deflate: DeflateParameters | None
    ) -> None:
        pieces = cut(stream, cuts)
        fast = receive(make_protocol(limit=limit, deflate=deflate), pieces)
        slow = receive(make_protocol(limit=limit, deflate=deflate, fast_lane=False), pieces)
        # Of a compressed message that is wrong and too long, either is seen first.
        either = deflate is not None and limit is not None
        assert codes(fast, either=either) == codes(slow, either=either)

    with mock.patch("flask_ws.protocol.incoming.apply_mask", mask):
        check()


# Round trips

messages = st.one_of(
    st.text(max_size=300),
    st.binary(max_size=300),
    # Past the threshold of compression, and past where a payload is sent on its own.
    st.builds(lambda size: "ü" * (size // 2), edge_sizes),
    st.builds(
        lambda size, seed: (bytes(range(256)) * 300)[seed : seed + size],
        edge_sizes,
        st.integers(0, 99),
    ),
)


def flat(buffers: Iterable[bytes | bytearray | memoryview]) -> bytes:
    return b"".join(buffers)


def make_pair(deflate: DeflateParameters | None, fast_lane: bool) -> tuple[Protocol, Protocol]:
    return (
        make_protocol(client=True, deflate=deflate),
        make_protocol(deflate=deflate, fast_lane=fast_lane),
    )


@with_each_mask
@pytest.mark.parametrize("fast_lane", [True, False], ids=["fast-lane", "wsproto"])
def test_messages_survive_the_way_there_and_back(mask: Mask, fast_lane: bool) -> None:
    @some
    @given(st.lists(messages, max_size=6), st.none() | parameters)
    def check(sent: list[str | bytes], deflate: DeflateParameters | None) -> None:
        client, server = make_pair(deflate, fast_lane)
        there = flat(buffer for message in sent for buffer in client.send_message(message))
        arrived = [m for m in receive(server, [there]) if isinstance(m, (str, bytes))]
        back = flat(buffer for message in arrived for buffer in server.send_message(message))
        assert receive(client, [back]) == arrived == sent

    with mock.patch("flask_ws.protocol.incoming.apply_mask", mask):
        check()


def make_peer(
    deflate: DeflateParameters | None, *, client: bool
) -> ClientProtocol | ServerProtocol:
    """An endpoint of another library, on an open connection with an endpoint of ours."""
    if client:
        peer: ClientProtocol | ServerProtocol = ClientProtocol(
            parse_uri("ws://localhost/"), state=State.OPEN, max_size=None
        )
    else:
        peer = ServerProtocol(state=State.OPEN, max_size=None)
    if deflate is not None:
        here, there = ("client", "server") if client else ("server", "client")
        peer.extensions = [
            PerMessageDeflate(
                getattr(deflate, f"{there}_no_context_takeover"),
                getattr(deflate, f"{here}_no_context_takeover"),
                getattr(deflate, f"{there}_max_window_bits"),
                getattr(deflate, f"{here}_max_window_bits"),
            )
        ]
    return peer


def send_in_fragments(
    peer: ClientProtocol | ServerProtocol, message: str | bytes, cuts: list[int], *, pings: bool
) -> bytes:
    """The frames of a message that another library sends in pieces."""
    data = message.encode() if isinstance(message, str) else message
    places = sorted(place % (len(data) + 1) for place in cuts)
    parts = [data[a:b] for a, b in itertools.pairwise([0, *places, len(data)])]
    start = peer.send_text if isinstance(message, str) else peer.send_binary
    for number, part in enumerate(parts):
        send = peer.send_continuation if number else start
        send(part, fin=number == len(parts) - 1)
        if pings:
            peer.send_ping(b"?")
    return flat(peer.data_to_send())


def read_messages(peer: ClientProtocol | ServerProtocol, stream: bytes) -> list[str | bytes]:
    """The messages that another library sees in what we send, each in one frame."""
    peer.receive_data(stream)
    frames = [event for event in peer.events_received() if isinstance(event, Frame)]
    assert all(frame.fin for frame in frames)
    return [
        bytes(frame.data).decode() if frame.opcode is Opcode.TEXT else bytes(frame.data)
        for frame in frames
    ]


@with_each_mask
@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
@pytest.mark.parametrize("fast_lane", [True, False], ids=["fast-lane", "wsproto"])
def test_fragments_of_another_library_make_its_messages(
    mask: Mask, client: bool, fast_lane: bool
) -> None:
    @some
    @given(
        st.lists(st.tuples(messages, st.lists(st.integers(0, 70_000), max_size=4)), max_size=4),
        st.none() | parameters,
        st.booleans(),
    )
    def check(
        sent: list[tuple[str | bytes, list[int]]], deflate: DeflateParameters | None, pings: bool
    ) -> None:
        peer = make_peer(deflate, client=not client)
        endpoint = make_protocol(client=client, deflate=deflate, fast_lane=fast_lane)
        stream = flat(send_in_fragments(peer, *message, pings=pings) for message in sent)
        events = receive(endpoint, [stream])
        arrived = [event for event in events if isinstance(event, (str, bytes))]
        assert arrived == [message for message, _ in sent]

    with mock.patch("flask_ws.protocol.incoming.apply_mask", mask):
        check()


@pytest.mark.parametrize("client", [False, True], ids=["server", "client"])
def test_another_library_reads_what_is_sent(client: bool) -> None:
    @some
    @given(st.lists(messages, max_size=6), st.none() | parameters)
    def check(sent: list[str | bytes], deflate: DeflateParameters | None) -> None:
        endpoint = make_protocol(client=client, deflate=deflate)
        stream = flat(buffer for message in sent for buffer in endpoint.send_message(message))
        assert read_messages(make_peer(deflate, client=not client), stream) == sent

    check()


@with_each_mask
def test_masking_twice_is_nothing(mask: Mask) -> None:
    @some
    @given(st.binary(max_size=300), keys)
    def check(data: bytes, key: bytes) -> None:
        assert mask(mask(data, key), key) == data

    check()


@with_each_mask
def test_masking_is_exclusive_or_with_the_key_repeated(mask: Mask) -> None:
    @some
    @given(st.binary(max_size=300), keys)
    def check(data: bytes, key: bytes) -> None:
        assert mask(data, key) == bytes(b ^ k for b, k in zip(data, itertools.cycle(key)))

    check()


# Limits

LIMIT = 1000
both_lanes = pytest.mark.parametrize("fast_lane", [True, False], ids=["fast-lane", "wsproto"])
TOO_BIG = [Violation(1009, "")]


@both_lanes
@pytest.mark.parametrize("first", [FIN | TEXT, FIN | BINARY, TEXT, BINARY])
def test_a_header_that_promises_too_much_is_refused_before_any_payload(
    first: int, fast_lane: bool
) -> None:
    @some
    @given(st.integers(LIMIT + 1, 2**63 - 1))
    def check(size: int) -> None:
        protocol = make_protocol(limit=LIMIT, fast_lane=fast_lane)
        assert codes(receive(protocol, [make_frame(first, b"", size=size)])) == TOO_BIG

    check()


@both_lanes
def test_a_compressed_frame_that_promises_too_much_is_refused_before_any_payload(
    fast_lane: bool,
) -> None:
    protocol = make_protocol(limit=LIMIT, deflate=DeflateParameters(), fast_lane=fast_lane)
    header = make_frame(FIN | RSV1 | TEXT, b"", size=LIMIT + 1)
    assert codes(receive(protocol, [header])) == TOO_BIG


@both_lanes
def test_a_message_of_the_limit_passes_and_one_byte_more_does_not(fast_lane: bool) -> None:
    @some
    @given(st.integers(0, 2 * LIMIT), st.none() | parameters)
    def check(size: int, deflate: DeflateParameters | None) -> None:
        # Deflate makes it smaller: what it makes larger may pass the limit on the way.
        message = bytes(size)
        sender = make_protocol(client=True, deflate=deflate)
        protocol = make_protocol(limit=LIMIT, deflate=deflate, fast_lane=fast_lane)
        events = receive(protocol, [flat(sender.send_message(message))])
        assert codes(events) == ([message] if size <= LIMIT else TOO_BIG)

    check()


def test_fragments_add_up_to_the_limit() -> None:
    @some
    @given(st.lists(st.integers(0, LIMIT), min_size=2, max_size=6))
    def check(sizes: list[int]) -> None:
        frames = [make_frame(0 if n else BINARY, bytes(size)) for n, size in enumerate(sizes)]
        stream = join([*frames, make_frame(FIN | CONTINUATION, b"")])
        total = sum(sizes)
        expected = [bytes(total)] if total <= LIMIT else TOO_BIG
        assert codes(receive(make_protocol(limit=LIMIT), [stream])) == expected

    check()


def test_fragments_are_refused_by_the_header_that_goes_past_the_limit() -> None:
    protocol = make_protocol(limit=LIMIT)
    assert receive(protocol, [make_frame(BINARY, bytes(LIMIT))]) == []
    header = make_frame(CONTINUATION, b"", size=1)
    assert codes(receive(protocol, [header])) == TOO_BIG


@both_lanes
@pytest.mark.parametrize("deflate", [None, DeflateParameters()], ids=["plain", "compressed"])
def test_the_limit_counts_bytes_and_not_characters(
    deflate: DeflateParameters | None, fast_lane: bool
) -> None:
    text = "é" * (LIMIT // 2 + 1)
    protocol = make_protocol(limit=LIMIT, deflate=deflate, fast_lane=fast_lane)
    frames = make_protocol(client=True, deflate=deflate).send_message(text)
    assert codes(receive(protocol, [flat(frames)])) == TOO_BIG


@both_lanes
def test_a_message_past_the_limit_leaves_the_next_ones_unread(fast_lane: bool) -> None:
    protocol = make_protocol(limit=LIMIT, fast_lane=fast_lane)
    stream = make_frame(FIN | BINARY, bytes(LIMIT + 1)) + make_frame(FIN | TEXT, b"more")
    assert codes(receive(protocol, [stream])) == TOO_BIG


# Runs in a process of its own, whose highest memory use so far is no one else's.
MEASURE = """
import pathlib, resource, sys
from flask_ws.protocol.deflate import Deflate, DeflateParameters
from flask_ws.protocol.protocol import Protocol


def peak():
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        # There, the other figure begins with that of the process that started this one.
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

limit = 2**20
deflate = Deflate(DeflateParameters(), client=False, max_size=limit)
protocol = Protocol(max_message_size=limit, deflate=deflate)
stream = sys.stdin.buffer.read()
# What the first message takes, every connection takes.
protocol.receive_data(stream[:{first}])
assert protocol.next_event() == "hello"
before = peak()
protocol.receive_data(stream[{first}:])
event = protocol.next_event()
after = peak()
print(getattr(event, "code", event), after - before)
"""


def grow(stream: bytes) -> tuple[str, int]:
    """What a stream makes of a connection: the event, and by how many bytes memory grows."""
    hello = make_frame(FIN | TEXT, b"hello")
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE.format(first=len(hello))],
        input=hello + stream,
        capture_output=True,
        timeout=120,
        check=True,
    )
    event, growth = measured.stdout.decode().split()
    return event, int(growth)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """200 MB that deflate to about 200 KB."""
    compressor = zlib.compressobj(9, wbits=-15)
    parts = [compressor.compress(bytes(2**20)) for _ in range(200)]
    return b"".join(parts) + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]


@pytest.mark.unix
@pytest.mark.parametrize("first", [FIN | RSV1 | TEXT, FIN | RSV1 | BINARY], ids=["text", "binary"])
def test_a_deflate_bomb_is_refused(bomb: bytes, first: int) -> None:
    assert grow(make_frame(first, bomb))[0] == "1009"


@pytest.mark.unix
@pytest.mark.parametrize("first", [FIN | RSV1 | TEXT, FIN | RSV1 | BINARY], ids=["text", "binary"])
def test_a_deflate_bomb_does_not_take_memory(bomb: bytes, first: int) -> None:
    assert grow(make_frame(first, bomb))[1] < 20 * 2**20


def test_a_deflate_bomb_in_fragments_does_not_take_memory(bomb: bytes) -> None:
    parts = [bomb[start : start + 1000] for start in range(0, len(bomb), 1000)]
    frames = [make_frame(0 if n else RSV1 | BINARY, part) for n, part in enumerate(parts)]
    assert grow(join(frames))[1] < 20 * 2**20


def test_many_small_fragments_do_not_take_much_more_memory_than_their_bytes() -> None:
    frames = [make_frame(0 if n else BINARY, b"ab") for n in range(2**17)]
    assert grow(join([*frames, make_frame(FIN | CONTINUATION, b"c")]))[1] < 4 * 2**20


def test_many_empty_fragments_do_not_take_memory() -> None:
    frames = [make_frame(0 if n else BINARY, b"") for n in range(2**17)]
    assert grow(join(frames))[1] < 4 * 2**20
