from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.support.memory import in_thread, tcp_pair
from tests.support.raw import BINARY, PING, PONG, Frame, encode_frame
from tests.support.waiting import PATIENCE, until
from tests.unit.conftest import MUCH, Connect, closed, closed_now, in_receive, in_send

from flask_ws.connection.outbox import Slot
from flask_ws.connection.writer import Writer
from flask_ws.protocol.deflate import Deflate, DeflateParameters
from flask_ws.protocol.frames import BytesLike
from flask_ws.protocol.protocol import Protocol
from flask_ws.protocol.shared import SharedMessage

# Sending


@pytest.mark.parametrize("message", ["Grüße 🐘", b"\xff\x00", "", b""])
def test_a_message_is_sent(connect: Connect, message: str | bytes) -> None:
    ends = connect()
    ends.ws.send(message)

    assert ends.peer.read() == message


def test_a_large_message_to_a_slow_reader_arrives_whole(connect: Connect) -> None:
    """And the next one behind it."""
    ends = connect()
    data = bytes(range(256)) * 40_000
    sender = in_send(ends, data)
    assert ends.peer.read() == data
    sender.result(PATIENCE)
    ends.ws.send("next")

    assert ends.peer.read() == "next"


def test_a_large_message_to_a_slow_reader_arrives_whole_over_tcp(connect: Connect) -> None:
    ends = connect(tcp_pair())
    sender = in_send(ends)
    assert ends.peer.read() == MUCH

    sender.result(PATIENCE)


@pytest.mark.parametrize("size", [10, 3_000, 200_000])
def test_messages_of_many_threads_arrive_whole(connect: Connect, size: int) -> None:
    ends = connect()
    numbers = range(16)

    def send(number: int) -> None:
        for _ in range(5):
            ends.ws.send(bytes([number]) * size)

    senders = [in_thread(send, number) for number in numbers]
    received = [ends.peer.read() for _ in range(5 * len(numbers))]
    for sender in senders:
        sender.result(PATIENCE)

    assert sorted(received) == sorted(bytes([number]) * size for number in numbers for _ in "12345")


def test_compressed_messages_of_many_threads_arrive_whole(connect: Connect) -> None:
    """What is compressed builds on what was sent before, so the order must be the same."""
    parameters = DeflateParameters()
    deflate = Deflate(parameters, client=False, max_size=None)
    ends = connect(protocol=Protocol(deflate=deflate))
    client = Protocol(client=True, deflate=Deflate(parameters, client=True, max_size=None))
    senders = [in_thread(ends.ws.send, f"message {n} " * 500) for n in range(20)]
    received: list[object] = []
    while len(received) < 20:
        client.receive_data(ends.peer.take(1))
        event = client.next_event()
        if event is not None:
            received.append(event)
    for sender in senders:
        sender.result(PATIENCE)

    assert sorted(map(str, received)) == sorted(f"message {n} " * 500 for n in range(20))


def test_a_thread_may_send_while_another_receives(connect: Connect) -> None:
    ends = connect()
    in_receive(ends)
    ends.ws.send("hello")

    assert ends.peer.read() == "hello"


def test_a_message_of_a_wrong_type_is_refused(connect: Connect) -> None:
    with pytest.raises(TypeError, match="not dict"):
        connect().ws.send({})  # type: ignore[arg-type]


@pytest.mark.parametrize("message", [{}, "\ud800"])
def test_a_message_that_was_refused_leaves_the_connection_as_it_was(
    connect: Connect, message: object
) -> None:
    ends = connect()
    with pytest.raises((TypeError, UnicodeEncodeError)):
        ends.ws.send(message)  # type: ignore[arg-type]
    ends.ws.send("hello")

    assert ends.peer.read() == "hello"


def test_sending_on_a_connection_that_the_peer_closed_raises_its_code(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_close(4000, "bye")
    closed_now(ends.ws.receive)
    error = closed_now(ends.ws.send, "late")

    assert (error.code, error.reason) == (4000, "bye")


@pytest.mark.unix
def test_sending_to_a_peer_that_has_vanished_raises_1006(connect: Connect) -> None:
    ends = connect()
    ends.peer.sock.close()

    assert closed_now(ends.ws.send, "hello").code == 1006


def test_sending_to_a_peer_that_has_reset_the_connection_raises_1006(connect: Connect) -> None:
    ends = connect(tcp_pair())
    ends.peer.reset()

    def send_on() -> None:
        for _ in range(100_000):
            ends.ws.send("hello")

    assert closed_now(send_on).code == 1006


def test_a_peer_that_vanishes_wakes_who_sends(connect: Connect) -> None:
    ends = connect()
    sender = in_send(ends)
    ends.peer.sock.close()

    assert closed(sender).code == 1006


@pytest.mark.unix
def test_a_send_that_fails_after_a_close_frame_raises_its_code(connect: Connect) -> None:
    """The frame is there to be read, though nobody has."""
    ends = connect()
    ends.peer.send_close(4000, "bye")
    ends.peer.sock.close()

    assert closed_now(ends.ws.send, "hello").code == 4000


@pytest.mark.unix
def test_messages_before_a_send_that_failed_are_received(connect: Connect) -> None:
    ends = connect()
    ends.peer.send("last")
    ends.peer.sock.close()
    closed_now(ends.ws.send, "hello")

    assert ends.ws.receive() == "last"


@pytest.mark.unix
def test_a_failed_send_closes_the_connection(connect: Connect) -> None:
    ends = connect()
    ends.peer.sock.close()
    closed_now(ends.ws.send, "hello")

    assert ends.connection.close_code == 1006
    assert not ends.connection.connected


# Pings


def test_ping_sends_a_ping(connect: Connect) -> None:
    ends = connect()
    ends.ws.ping(b"are you there?")

    assert ends.peer.read_frame() == Frame(PING, b"are you there?")


def test_a_ping_that_is_too_long_is_refused(connect: Connect) -> None:
    ends = connect()

    with pytest.raises(ValueError, match="up to 125 bytes"):
        ends.ws.ping(bytes(126))


def test_a_ping_that_was_refused_leaves_the_connection_as_it_was(connect: Connect) -> None:
    ends = connect()
    with pytest.raises(ValueError, match="up to 125 bytes"):
        ends.ws.ping(bytes(126))
    ends.ws.send("hello")

    assert ends.peer.read() == "hello"


def test_a_ping_on_a_closed_connection_raises(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_close(4000)
    closed_now(ends.ws.receive)

    assert closed_now(ends.ws.ping).code == 4000


# What waits for a message to go first


def test_a_pong_waits_for_the_message_that_is_being_sent(connect: Connect) -> None:
    ends = connect()
    sender = in_send(ends)
    ends.peer.send_frame(PING, b"?")
    assert ends.ws.receive(0) is None

    assert ends.peer.read() == MUCH
    assert ends.peer.read_frame() == Frame(PONG, b"?")
    sender.result(PATIENCE)


def test_frames_that_wait_go_out_in_order(connect: Connect) -> None:
    ends = connect()
    sender = in_send(ends)
    for number in range(5):
        ends.connection.sender.post(ends.connection.sender._protocol.send_ping(bytes([number])))
    ends.peer.read()
    sender.result(PATIENCE)

    assert [ends.peer.read_frame() for _ in range(5)] == [
        Frame(PING, bytes([number])) for number in range(5)
    ]


def test_frames_that_wait_go_out_before_the_next_message(connect: Connect) -> None:
    ends = connect()
    ends.connection.sender.queue(ends.connection.sender._protocol.send_ping(b"first"))
    ends.ws.send("second")

    assert ends.peer.read_frame() == Frame(PING, b"first")
    assert ends.peer.read() == "second"


def test_a_connection_lost_before_what_waits_has_gone_out_raises_1006(connect: Connect) -> None:
    ends = connect()
    ends.connection.sender.queue(ends.connection.sender._protocol.send_ping(b"first"))
    ends.peer.sock.close()

    assert closed_now(ends.ws.send, "second").code == 1006


def test_the_rest_of_a_frame_goes_first(connect: Connect) -> None:
    ends = connect()
    ends.connection.sender.post([encode_frame(BINARY, MUCH, mask=None)])
    assert ends.connection.is_sending
    sender = in_thread(ends.ws.send, "next")

    assert ends.peer.read() == MUCH
    assert ends.peer.read() == "next"
    sender.result(PATIENCE)


def test_what_the_kernel_does_not_take_is_somebodys_business(connect: Connect) -> None:
    ends = connect()
    blocked: list[Writer] = []
    ends.connection.sender.when_blocked = blocked.append
    ends.connection.sender.post([encode_frame(BINARY, MUCH, mask=None)])

    assert blocked == [ends.connection.sender]


def test_a_small_frame_is_nobodys_business(connect: Connect) -> None:
    ends = connect()
    blocked: list[Writer] = []
    ends.connection.sender.when_blocked = blocked.append
    ends.connection.post_ping()

    assert blocked == []


def test_flush_says_when_nothing_is_left(connect: Connect) -> None:
    ends = connect()
    ends.connection.sender.post([encode_frame(BINARY, MUCH, mask=None)])
    reading = in_thread(ends.peer.read)
    until(ends.connection.sender.flush)

    assert reading.result(PATIENCE) == MUCH
    assert not ends.connection.is_sending


class ClosesInBetween(Protocol):
    """Lets another thread's close come while a message is being encoded."""

    close: Callable[[], None]

    def send_message(self, data: str | BytesLike) -> list[BytesLike]:
        in_thread(self.close).result(PATIENCE)
        return super().send_message(data)


def test_no_message_goes_out_after_a_close_frame(connect: Connect) -> None:
    """Not even one that was about to."""
    protocol = ClosesInBetween()
    ends = connect(protocol=protocol)
    protocol.close = lambda: ends.connection.go_away(1001, "")
    ends.ws.send("hello")

    assert ends.peer.read() == "hello"
    ends.peer.read_close()


def test_a_refused_sender_flushes_a_close_frame_queued_meanwhile(
    connect: Connect,
) -> None:
    protocol = ClosesInBetween()
    ends = connect(protocol=protocol)

    def close_and_refuse() -> None:
        ends.connection.go_away(1001, "")
        raise TypeError

    protocol.close = close_and_refuse
    with pytest.raises(TypeError):
        ends.ws.send("hello")

    assert ends.peer.read_close().close_code == 1001


def test_a_posted_ping_does_not_wait_for_a_message(connect: Connect) -> None:
    ends = connect()
    sender = in_send(ends)
    ends.connection.post_ping()

    assert ends.peer.read() == MUCH
    assert ends.peer.read_opcode(PING)
    sender.result(PATIENCE)


def test_a_closing_connection_posts_no_ping(connect: Connect) -> None:
    ends = connect()
    ends.connection.go_away(1001, "")
    ends.connection.post_ping()
    ends.connection.release()
    ends.peer.read_close()

    ends.peer.expect_end()


@pytest.mark.parametrize("sending", [True, False])
def test_a_connection_tells_whether_it_is_sending(connect: Connect, sending: bool) -> None:
    ends = connect()
    if sending:
        in_send(ends)

    assert ends.connection.is_sending is sending


def test_small_frames_that_wait_leave_together(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = connect()
    connection = ends.connection
    sizes: list[int] = []
    try_send = ends.transport.try_send

    def counted(_transport: object, data: BytesLike) -> int:
        sizes.append(len(data))
        return try_send(data)

    monkeypatch.setattr(type(ends.transport), "try_send", counted)
    with connection.sender.writing:
        for payload in (b"one", b"two", b"three"):
            connection.sender.post(connection.sender._protocol.send_pong(payload))
    connection.sender.flush()
    assert [ends.peer.read_frame().payload for _ in range(3)] == [b"one", b"two", b"three"]
    assert sizes == [5 + 5 + 7]


def test_a_frame_is_not_sent_again_when_its_sender_is_interrupted(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python raises what Ctrl-C asks for as soon as the kernel has taken the frame."""
    ends = connect()
    try_send = ends.transport.try_send

    def be_interrupted(data: BytesLike) -> int:
        try_send(data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ends.transport, "try_send", be_interrupted)
        with pytest.raises(KeyboardInterrupt):
            ends.connection.post_ping()
    ends.connection.go_away(1001, "")
    ends.peer.read_opcode(PING)
    assert ends.peer.read_close().close_code == 1001


# The close frame


def test_going_away_does_not_wait(connect: Connect) -> None:
    ends = connect()
    ends.connection.go_away(1001, "the server is stopping")
    frame = ends.peer.read_close()

    assert (frame.close_code, frame.close_reason) == (1001, "the server is stopping")


def test_going_away_from_a_closed_connection_does_nothing(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_close(4000)
    closed_now(ends.ws.receive)
    ends.connection.go_away(1001, "")

    assert ends.peer.read_close().close_code == 4000
    ends.peer.expect_end()


def test_going_away_twice_sends_one_close_frame(connect: Connect) -> None:
    ends = connect()
    ends.connection.go_away(1001, "")
    ends.connection.go_away(1001, "")
    ends.peer.send_close(1001)
    closed_now(ends.ws.receive)
    ends.peer.read_close()

    ends.peer.expect_end()


# Messages for many


def test_after_a_close_frame_none_is_sent_or_counted(connect: Connect) -> None:
    sender = connect().connection.sender
    sender.send_close_nowait(1000, "")
    message = SharedMessage(0x81, b"too late")
    sender.queue_shared(message)
    sender.send_shared(message)
    sender.send_latest(message, Slot(), now=True)

    assert sender.messages_sent == 0
