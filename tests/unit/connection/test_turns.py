"""A budget for each turn: no loop serves one connection for as long as it has bytes."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.memory import in_thread
from tests.support.raw import CONTINUATION, PING, PONG, TEXT, encode_frame, encode_message
from tests.support.waiting import PATIENCE
from tests.unit.conftest import Connect

from flask_ws.concurrency import Concurrency, HomeThread, threads
from flask_ws.connection import transport as transport_module
from flask_ws.connection.receiver import EVENT, FLOOD_PAUSE, TURNS, Receiver
from flask_ws.connection.transport import PlainTransport
from flask_ws.protocol.events import Event
from flask_ws.protocol.incoming import FRAGMENTS

#: What a peer may send for ever without sending a message: each is a begin, more, and an end.
FLOODS = {
    "pings": (b"", encode_frame(PING), b""),
    "pongs": (b"", encode_frame(PONG), b""),
    "fragments": (
        encode_frame(TEXT, fin=False),
        encode_frame(CONTINUATION, fin=False),
        encode_frame(CONTINUATION),
    ),
}
flood = pytest.mark.parametrize("flood", FLOODS.values(), ids=list(FLOODS))
Flood = tuple[bytes, bytes, bytes]


class Counting(Concurrency):
    """Counts how often others may run."""

    name = "counting"
    green = False

    def __init__(self) -> None:
        self.pauses = 0
        self.waits: list[float | None] = []

    def pause(self) -> None:
        self.pauses += 1

    def event(self) -> Any:
        return self

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return False


def make_flood(flood: Flood, turns: int) -> bytes:
    begin, more, end = flood
    frames = TURNS * FRAGMENTS if flood is FLOODS["fragments"] else TURNS
    return begin + turns * frames * more + end + encode_message("end")


@pytest.fixture
def handled(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """What was done with frames that are no messages."""
    found: list[Event] = []
    handle = Receiver._handle

    def note(self: Receiver, event: Event) -> None:
        found.append(event)
        handle(self, event)

    monkeypatch.setattr(Receiver, "_handle", note)
    return found


@flood
def test_others_run_while_a_handler_waits_for_a_message(connect: Connect, flood: Flood) -> None:
    concurrency = Counting()
    ends = connect(concurrency=concurrency)
    # In one read, and one by one.
    ends.connection.receiver.feed(make_flood(flood, 10))
    message = ends.ws.receive()

    assert message in ("", "end")
    # A thread that only yields is often the next again.
    assert concurrency.waits == [FLOOD_PAUSE] * 10


def test_a_large_message_is_not_held_up(connect: Connect) -> None:
    """Others run while it is read, and that is all."""
    concurrency = Counting()
    ends = connect(concurrency=concurrency)
    sending = in_thread(ends.peer.sock.sendall, encode_message("x" * 5_000_000))
    assert ends.ws.receive() == "x" * 5_000_000
    sending.result(PATIENCE)

    assert not concurrency.waits


@flood
def test_a_handlers_time_is_up_though_the_peer_sends_all_the_time(
    connect: Connect, flood: Flood
) -> None:
    ends = connect()
    begin, more, _ = flood
    receiving = in_thread(ends.ws.receive, 0.05)
    ends.peer.sock.settimeout(0.1)
    ends.peer.sock.sendall(begin)
    chunk = memoryview(more * (2**18 // len(more)))
    deadline = time.monotonic() + PATIENCE
    sent = 0
    while not receiving.done() and time.monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            sent += ends.peer.sock.send(chunk[sent % len(chunk) :])

    assert receiving.done()
    assert receiving.result() is None


def test_a_look_at_a_connection_takes_in_no_more_than_its_turn(
    connect: Connect, handled: list[Event]
) -> None:
    """While a handler is busy, on behalf of the monitor."""
    ends = connect()
    ends.connection.receiver.feed(make_flood(FLOODS["pings"], 3))
    seen: list[int] = []
    for _ in range(4):
        ends.connection.service()
        seen.append(len(handled))

    assert seen == [TURNS, 2 * TURNS, 3 * TURNS, 3 * TURNS]
    assert ends.ws.receive(0) == "end"


def test_a_peer_that_is_read_from_in_turns_is_alive(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_bytes(make_flood(FLOODS["pongs"], 150))
    before = ends.connection.bytes_received
    ends.connection.service()

    assert ends.connection.bytes_received > before


def test_a_look_ends_in_the_middle_of_a_flood_of_fragments(connect: Connect) -> None:
    receiver = connect().connection.receiver
    receiver.feed(make_flood(FLOODS["fragments"], 3))
    receiver.service()

    assert receiver.is_mid_message
    assert not receiver._messages


def test_an_event_view_gives_others_their_turn(connect: Connect, handled: list[Event]) -> None:
    receiver = connect().connection.receiver
    receiver.feed(make_flood(FLOODS["pings"], 1))
    found: list[tuple[object, bool, int]] = []
    for _ in range(EVENT + 1):
        found.append((receiver.next_message(read=True), receiver.cut_short, len(handled)))

    share = TURNS // EVENT
    assert found == [
        *((None, True, turn * share) for turn in range(1, EVENT + 1)),
        ("end", False, TURNS),
    ]


def test_an_event_view_gives_others_their_turn_amid_fragments(connect: Connect) -> None:
    receiver = connect().connection.receiver
    receiver.feed(make_flood(FLOODS["fragments"], 1))
    found = [(receiver.next_message(read=True), receiver.cut_short) for _ in range(EVENT + 1)]

    assert found == [*[(None, True)] * EVENT, ("", False)]


def test_messages_and_what_comes_between_them_share_one_turn(connect: Connect) -> None:
    receiver = connect().connection.receiver
    receiver.feed(TURNS * (encode_frame(PING) + encode_message("x")))
    found = [receiver.next_message(read=True)]
    while found[-1] is not None:
        found.append(receiver.next_message())

    assert found == [*["x"] * (TURNS // (EVENT + 1)), None]
    assert receiver.cut_short


def test_the_reactor_alone_reads_after_a_turn_that_has_left_nothing(connect: Connect) -> None:
    """What the monitor read into the queue would wait there for the next message."""
    receiver = connect().connection.receiver
    receiver.feed(TURNS * encode_message("x"))
    receiver.next_message(read=True)
    while receiver.next_message() is not None:
        pass

    assert not receiver.cut_short
    assert not receiver.needs_service


def test_what_was_read_before_is_dealt_with_before_more_is_read(connect: Connect) -> None:
    """Else a peer that sends quickly would fill the memory with what waits for its turn."""
    ends = connect()
    receiver = ends.connection.receiver
    receiver.feed(make_flood(FLOODS["pings"], 3))
    ends.peer.send("more")
    before = receiver.bytes_received
    for _ in range(3 * EVENT):
        assert receiver.next_message(read=True) is None

    assert receiver.bytes_received == before
    assert [receiver.next_message(read=True) for _ in range(2)] == ["end", "more"]


def test_others_run_while_a_close_is_awaited(connect: Connect, handled: list[Event]) -> None:
    concurrency = Counting()
    ends = connect(concurrency=concurrency)
    ends.connection.receiver.feed(make_flood(FLOODS["pongs"], 5))
    ends.peer.send_close(1000)
    ends.ws.close()

    assert concurrency.pauses >= 5


def test_others_run_while_a_loss_is_explained(connect: Connect) -> None:
    concurrency = Counting()
    ends = connect(concurrency=concurrency)
    ends.connection.receiver.feed(make_flood(FLOODS["pongs"], 5))
    ends.connection.receiver.look()

    assert concurrency.pauses >= 5
    assert ends.ws.receive(0) == "end"


class Here(HomeThread):
    """The home of all greenlets: this thread."""

    def is_here(self) -> bool:
        return True

    def wake(self) -> None:
        pass


class AtHome(Counting):
    """Primitives that work in one thread."""

    green = True

    def home(self) -> HomeThread:
        return Here()


def test_other_greenlets_run_while_a_handler_always_has_a_message(connect: Connect) -> None:
    """Neither receiving nor sending waits then."""
    concurrency = AtHome()
    ends = connect(concurrency=concurrency)
    ends.connection.receiver.feed(3 * TURNS * encode_message("x"))
    for _ in range(3 * TURNS):
        assert ends.ws.receive() == "x"

    assert concurrency.pauses == 3


def test_other_greenlets_run_after_each_full_buffer() -> None:
    concurrency = CountingGreen()
    one, other = socket.socketpair()
    with one, other:
        transport = PlainTransport(one, concurrency, one.close)
        other.sendall(bytes(4 * transport_module.LARGE_RECV_SIZE // 2))
        for _ in range(3):
            transport.recv()
        transport._raw.detach()

    assert concurrency.pauses == 2


# Reading, where a green socket that has something does not wait


class CountingGreen(Counting):
    """The same of greenlets."""

    green = True


READS: dict[str, Callable[[PlainTransport], object]] = {
    "recv": lambda transport: transport.recv(),
    "recv in time": lambda transport: transport.recv(PATIENCE),
    "recv_into": lambda transport: transport.recv_into(memoryview(bytearray(1))),
    "recv_into in time": lambda transport: transport.recv_into(memoryview(bytearray(1)), PATIENCE),
}


@pytest.mark.parametrize("read", READS.values(), ids=list(READS))
@pytest.mark.parametrize("kind", [Counting, CountingGreen])
def test_other_greenlets_run_while_one_always_has_something_to_read(
    read: Callable[[PlainTransport], object],
    kind: type[Counting],
) -> None:
    """Threads take turns by themselves."""
    concurrency = kind()
    one, other = socket.socketpair()
    with one, other:
        transport = PlainTransport(one, concurrency, one.close)
        number = 3 * transport_module.TURNS
        for _ in range(number):
            other.send(b"x")
            read(transport)
        transport._raw.detach()

    assert concurrency.pauses == (3 if kind is CountingGreen else 0)


def test_threads_pay_nothing_for_turns() -> None:
    """What is called is the socket's own method."""
    one, other = socket.socketpair()
    with one, other:
        transport = PlainTransport(one, threads, one.close)
        assert transport._sock_recv == one.recv
        transport._raw.detach()
