"""What a connection holds in memory for its peer, and what becomes of it when that is too much."""

from __future__ import annotations

import os
import tracemalloc
import zlib
from collections.abc import Callable
from unittest import mock

import pytest
from tests.support.memory import in_thread, tcp_pair
from tests.support.raw import BINARY, CONTINUATION, PING, TEXT, encode_frame, encode_message
from tests.support.waiting import PATIENCE, until
from tests.unit.conftest import Connect, Ends, closed, closed_now, in_receive

from flask_ws import ConnectionClosed
from flask_ws.budget import STEP, budget
from flask_ws.protocol.deflate import Deflate, DeflateParameters
from flask_ws.protocol.protocol import Protocol
from flask_ws.protocol.shared import LARGE, SharedMessage

SIZE = 100_000


@pytest.fixture(autouse=True)
def no_limit(counted_from_nothing: None) -> None:
    """None but what a test sets."""
    budget.limit = None


def fragments(size: int) -> bytes:
    return encode_frame(BINARY, bytes(size), fin=False)


def one_frame(size: int) -> bytes:
    return encode_frame(BINARY, bytes(2 * size))[:size]


def compressed(size: int) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    payload = compressor.compress(bytes(size)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return encode_frame(TEXT, payload, rsv=4)[:-1]


BEGINNINGS = [fragments, one_frame, compressed]
Begin = Callable[[int], bytes]


def make_protocol(limit: int = 2**20) -> Protocol:
    deflate = Deflate(DeflateParameters(server_max_window_bits=12), client=False, max_size=limit)
    return Protocol(max_message_size=limit, deflate=deflate)


def serve_until(ends: Ends, condition: Callable[[], bool]) -> None:
    """Do what the monitor does, until something has happened."""

    def look() -> bool:
        ends.connection.service()
        return condition()

    until(look)


def send_many(ends: Ends, count: int) -> None:
    for _ in range(count):
        ends.peer.send(bytes(SIZE))


# The queue


def test_messages_for_a_busy_handler_are_bounded_in_bytes(connect: Connect) -> None:
    """With the one that is too much, it is enough."""
    ends = connect(tcp_pair(), max_queue=100, max_queue_bytes=3 * SIZE)
    sent = in_thread(send_many, ends, 50)
    serve_until(ends, lambda: ends.connection.receiver.is_backed_up)
    ends.connection.service()

    assert ends.connection.receiver.messages_received == 3
    assert [len(ends.ws.receive()) for _ in range(50)] == [SIZE] * 50
    sent.result(PATIENCE)


def test_a_text_in_the_queue_counts_as_the_memory_that_it_takes(connect: Connect) -> None:
    ends = connect(max_queue=100, max_queue_bytes=100_000)
    for _ in range(3):
        ends.peer.send("🐘" + "x" * 12_500)
    ends.connection.service()

    assert ends.connection.receiver.messages_received == 2


def test_an_event_view_has_room_again_when_its_messages_are_taken(connect: Connect) -> None:
    ends = connect(max_queue=100, max_queue_bytes=1000)
    for _ in range(4):
        ends.peer.send(bytes(1000))
    for _ in range(4):
        ends.connection.receiver.needs_service = True
        ends.connection.service()
        assert ends.connection.receiver.is_backed_up
        assert ends.connection.receiver.next_message() == bytes(1000)

    assert not ends.connection.receiver.is_backed_up


# What is counted


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_an_unfinished_message_is_counted(connect: Connect, begin: Begin) -> None:
    ends = connect(protocol=make_protocol())
    ends.peer.send_bytes(begin(SIZE))
    ends.connection.service()

    assert SIZE - STEP <= budget.total <= 2 * SIZE + 2 * STEP


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_a_connection_that_is_released_holds_nothing(connect: Connect, begin: Begin) -> None:
    ends = connect(protocol=make_protocol(), max_outbox=10_000_000)
    ends.connection.begin(b"", b"", 2 * STEP)
    ends.peer.send_bytes(encode_message(bytes(SIZE)) + begin(SIZE))
    ends.connection.service()
    ends.connection.sender.send_nowait(os.urandom(8_000_000))
    assert budget.total > 7_000_000
    ends.connection.release()

    assert budget.total == 0


def test_a_message_that_was_received_is_not_counted(connect: Connect) -> None:
    """Not even one that came in fragments, with a ping between them."""
    ends = connect()
    ends.peer.send_bytes(fragments(SIZE) + encode_frame(PING, b""))
    ends.connection.service()
    assert budget.total > 0
    ends.peer.send_frame(CONTINUATION, b"!")

    assert ends.ws.receive() == bytes(SIZE) + b"!"
    assert budget.total == 0


def test_a_message_that_an_event_view_got_is_not_counted(connect: Connect) -> None:
    ends = connect()
    receiver = ends.connection.receiver
    ends.peer.send_bytes(fragments(SIZE))
    assert receiver.next_message(read=True) is None
    until(lambda: receiver.next_message(read=True) is None and budget.total >= SIZE - STEP)
    ends.peer.send_frame(CONTINUATION, b"!")

    assert receiver.next_message(read=True) == bytes(SIZE) + b"!"
    assert receiver.next_message() is None
    assert budget.total == 0


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_what_an_idle_event_view_holds_is_counted(connect: Connect, begin: Begin) -> None:
    """Though nobody reads any more."""
    ends = connect(protocol=make_protocol())
    ends.peer.send_bytes(begin(60_000))
    assert ends.connection.receiver.next_message(read=True) is None
    ends.connection.receiver.next_message(read=True)

    assert budget.total > 55_000


def test_messages_that_wait_for_a_handler_are_counted(connect: Connect) -> None:
    ends = connect()
    sent = in_thread(send_many, ends, 2)
    serve_until(ends, lambda: ends.connection.receiver.messages_received == 2)
    sent.result(PATIENCE)
    assert 2 * SIZE <= budget.total <= 2 * SIZE + STEP
    ends.ws.receive()
    ends.ws.receive()

    assert budget.total == 0


def test_what_waits_for_a_slow_reader_is_counted(connect: Connect) -> None:
    ends = connect(max_outbox=10_000_000)
    ends.connection.sender.send_nowait(bytes(8_000_000))
    assert 7_000_000 < budget.total < 8_000_000 + STEP
    ends.peer.fill(8_000_000)

    until(lambda: budget.total == 0)


def test_a_large_publication_is_counted_once(connect: Connect) -> None:
    """However many outboxes it waits in."""
    message = SharedMessage(0x82, bytes(1_000_000))
    for _ in range(10):
        ends = connect(max_outbox=10_000_000)
        ends.connection.sender.send_shared(message)
    assert 1_000_000 <= budget.total < 1_100_000
    del message

    assert 1_000_000 <= budget.total < 1_100_000


def test_a_publication_that_nobody_holds_is_not_counted(connect: Connect) -> None:
    message = SharedMessage(0x82, bytes(LARGE))
    assert len(message.plain) > LARGE
    assert message.compressed(12)
    assert budget.total >= LARGE
    del message

    assert budget.total == 0


def test_the_headers_of_the_request_are_counted(connect: Connect) -> None:
    connect().connection.begin(b"", b"", 50_000)

    assert budget.total == 50_000


def test_small_messages_are_not_worth_counting(connect: Connect) -> None:
    ends = connect()
    with mock.patch.object(budget, "change", side_effect=AssertionError):
        for _ in range(10):
            ends.peer.send_bytes(encode_message("hello") + encode_message("hello")[:5])
            ends.connection.service()
            ends.peer.send_bytes(encode_message("hello")[5:])
            assert [ends.ws.receive(), ends.ws.receive()] == ["hello", "hello"]
            ends.ws.send("hello")


# Past the limit


def read_code(ends: Ends) -> int | None:
    """The code of the close frame, behind whatever else was on its way."""
    while (frame := ends.peer.read_frame()).opcode != 8:
        pass
    return int.from_bytes(frame.payload[:2], "big")


@pytest.mark.parametrize("begin", BEGINNINGS)
def test_who_holds_the_largest_message_is_closed(connect: Connect, begin: Begin) -> None:
    large = connect(protocol=make_protocol())
    waiting = in_receive(large)
    sent = in_thread(large.peer.send_bytes, begin(400_000))
    until(lambda: budget.total > 390_000)
    sent.result(PATIENCE)
    # Nearly too little for the second, and not too little.
    budget.limit = budget.total + 350_000
    small = connect()
    sent = in_thread(small.peer.send_bytes, fragments(280_000))
    serve_until(small, lambda: not large.connection.connected)

    assert closed(waiting).code == 1009
    assert read_code(large) == 1009
    serve_until(small, lambda: sent.done() and budget.total < 390_000)
    assert small.connection.connected


def test_who_holds_the_most_messages_is_closed(connect: Connect) -> None:
    # So much that the messages outweigh what is being read, however it arrives.
    budget.limit = 8 * SIZE
    large = connect()
    sent = in_thread(send_many, large, 10)
    serve_until(large, lambda: not large.connection.connected)
    sent.exception(PATIENCE)

    assert read_code(large) == 1013
    assert closed_now(large.ws.receive).code == 1013
    assert budget.total == 0


def test_the_slowest_reader_is_closed(connect: Connect) -> None:
    """With a stream that is whole: what has begun to go out is finished."""
    budget.limit = 3_000_000
    slow = connect(max_outbox=10_000_000)
    slow.connection.sender.send_nowait(bytes(1_000_000))
    for number in range(30):
        if slow.connection.connected:
            slow.connection.sender.send_nowait(bytes([number]) * 100_000)

    assert read_code(slow) == 1013
    assert budget.total < 1_000_000


def test_a_publication_closes_who_lags_behind(connect: Connect) -> None:
    budget.limit = 2_000_000
    slow, quick = connect(max_outbox=10_000_000), connect(max_outbox=10_000_000)
    reading = in_thread(lambda: [quick.peer.read() for _ in range(40)])
    for _ in range(40):
        message = SharedMessage(0x82, bytes(100_000))
        for ends in (slow, quick):
            ends.connection.sender.send_shared(message)
        until(lambda: not quick.connection.sender._outbox.frames)

    assert read_code(slow) == 1013
    assert reading.result(PATIENCE) == [bytes(100_000)] * 40


def test_a_peer_whose_headers_are_the_largest_is_closed(connect: Connect) -> None:
    budget.limit = 100_000
    first, second = connect(), connect()
    first.connection.begin(b"", b"", 60_000)
    second.connection.begin(b"", b"", 30_000)

    assert read_code(first) == 1013
    assert second.connection.connected


@pytest.mark.unix
@pytest.mark.parametrize("begin", BEGINNINGS)
def test_the_worst_that_peers_can_do_is_what_the_docs_say(connect: Connect, begin: Begin) -> None:
    """Each holds as much as it can of everything, and together they stay within the bound."""
    limit, number, size = 4_000_000, 40, 2**19
    # What is not counted of each, and what the message takes for a moment that is read just now.
    own, reading = 100_000, 6 * size
    pairs = [connect(protocol=make_protocol(size), max_outbox=2**19) for _ in range(number)]
    data = encode_message(bytes(50_000)) * 2 + begin(size - 10)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        budget.limit = limit
        for ends in pairs:
            ends.connection.begin(b"", b"", 0)
            ends.peer.sock.setblocking(False)
            rest = memoryview(data)
            for _ in range(100):
                if not (rest and ends.connection.connected):
                    break
                rest = rest[send_some(ends, rest) :]
                ends.connection.service()
            if ends.connection.connected:
                ends.connection.sender.send_nowait(os.urandom(2**19))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert sum(not ends.connection.connected for ends in pairs) > 10
    assert held - before < limit + number * own
    assert peak - before < limit + number * own + reading


def send_some(ends: Ends, data: memoryview) -> int:
    try:
        return ends.peer.sock.send(data[:50_000])
    except BlockingIOError:
        return 0


def test_a_connection_that_was_closed_for_it_raises_as_any(connect: Connect) -> None:
    budget.limit = SIZE
    ends = connect(max_outbox=10_000_000)
    ends.connection.sender.send_nowait(bytes(8_000_000))

    with pytest.raises(ConnectionClosed, match="1013"):
        ends.ws.send("more")
