from __future__ import annotations

import concurrent.futures
import contextlib
import errno
import gc
import logging
import socket
import struct
import time
import weakref
from collections.abc import Callable
from typing import Any, cast

import pytest
from tests.support.locks import WatchedLock
from tests.support.memory import in_thread, tcp_pair
from tests.support.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    End,
    Frame,
    encode_close,
    encode_frame,
    encode_message,
)
from tests.support.waiting import PATIENCE, until
from tests.unit.conftest import MUCH, Connect, Ends, closed, closed_now, in_receive, in_send

from flask_ws import ConnectionClosed
from flask_ws.connection.connection import Connection
from flask_ws.connection.transport import MOST_UNREAD
from flask_ws.protocol.frames import BytesLike
from flask_ws.protocol.protocol import Protocol
from flask_ws.system import LINUX


def answer(ends: Ends) -> Frame:
    """Answer a close frame, and leave it at that."""
    frame = ends.peer.read_close()
    ends.peer.send_bytes(encode_frame(CLOSE, frame.payload))
    return frame


# The beginning


def test_the_answer_to_the_handshake_goes_out_first(connect: Connect) -> None:
    ends = connect()
    ends.connection.begin(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"")
    ends.ws.send("hello")

    assert ends.peer.read_head().status == 101
    assert ends.peer.read() == "hello"


def test_what_came_with_the_handshake_is_received(connect: Connect) -> None:
    ends = connect()
    ends.connection.begin(b"", encode_message("one") + encode_message("two")[:4])
    ends.peer.send_bytes(encode_message("two")[4:])

    assert [ends.ws.receive(), ends.ws.receive()] == ["one", "two"]


@pytest.mark.unix
def test_a_client_that_has_gone_before_the_answer_is_a_lost_connection(connect: Connect) -> None:
    ends = connect()
    ends.peer.sock.close()
    ends.connection.begin(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"")

    assert ends.connection.close_code == 1006


def test_a_new_connection_is_connected(connect: Connect) -> None:
    connection = connect().connection

    assert connection.connected
    assert connection.close_code is None


# Receiving


@pytest.mark.parametrize("message", ["Grüße 🐘", b"\xff\x00", "", b""])
def test_a_message_is_received(connect: Connect, message: str | bytes) -> None:
    ends = connect()
    ends.peer.send(message)

    assert ends.ws.receive() == message


def test_a_large_message_is_received(connect: Connect) -> None:
    ends = connect()
    sent = in_thread(ends.peer.send, MUCH)

    assert ends.ws.receive() == MUCH
    sent.result(PATIENCE)


def test_a_fragmented_message_is_received(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_frame(TEXT, b"one ", fin=False)
    ends.peer.send_frame(CONTINUATION, b"two")

    assert ends.ws.receive() == "one two"


def test_messages_are_received_in_order(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_bytes(b"".join(encode_message(str(number)) for number in range(100)))

    assert [ends.ws.receive() for _ in range(100)] == [str(n) for n in range(100)]


def test_receive_waits_for_a_message(connect: Connect) -> None:
    ends = connect()
    future = in_receive(ends)
    ends.peer.send("hello")

    assert future.result(PATIENCE) == "hello"


def test_receive_with_a_timeout_waits_for_a_message(connect: Connect) -> None:
    ends = connect()
    future = in_receive(ends, PATIENCE)
    ends.peer.send("hello")

    assert future.result(PATIENCE) == "hello"


@pytest.mark.parametrize("timeout", [2.0**31 / 1000, 1e300, float("inf")])
def test_receive_may_wait_longer_than_the_system_can(connect: Connect, timeout: float) -> None:
    ends = connect()
    future = in_receive(ends, timeout)
    ends.peer.send("hello")

    assert future.result(PATIENCE) == "hello"


@pytest.mark.parametrize("timeout", [0, 0.01, -1])
def test_receive_returns_none_when_the_time_is_up(connect: Connect, timeout: float) -> None:
    assert connect().ws.receive(timeout) is None


def test_receive_without_waiting_takes_what_is_there(connect: Connect) -> None:
    ends = connect()
    ends.peer.send("hello")

    assert ends.ws.receive(0) == "hello"


def test_receive_without_waiting_takes_all_that_is_there(connect: Connect) -> None:
    ends = connect()
    data = b"x" * 50_000
    ends.peer.send(data)

    assert ends.ws.receive(0) == data


def test_a_message_that_is_late_is_not_lost(connect: Connect) -> None:
    ends = connect()
    frame = encode_message("hello")
    ends.peer.send_bytes(frame[:7])
    assert ends.ws.receive(0.01) is None
    ends.peer.send_bytes(frame[7:])

    assert ends.ws.receive() == "hello"


def test_a_large_message_that_is_late_is_not_lost(connect: Connect) -> None:
    ends = connect()
    data = b"x" * 100_000
    frame = encode_frame(BINARY, data)
    ends.peer.send_bytes(frame[:50_000])
    assert ends.ws.receive(0.01) is None
    ends.peer.send_bytes(frame[50_000:])

    assert ends.ws.receive() == data


def test_a_ping_does_not_end_the_wait_for_a_message(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_frame(PING, b"?")
    ends.peer.send("hello")

    assert ends.ws.receive() == "hello"


def test_two_threads_cannot_receive_at_once(connect: Connect) -> None:
    ends = connect()
    in_receive(ends)

    with pytest.raises(RuntimeError, match=r"Another thread is in receive\(\)"):
        ends.ws.receive()


def test_a_second_receiver_does_not_disturb_the_first(connect: Connect) -> None:
    ends = connect()
    future = in_receive(ends)
    with pytest.raises(RuntimeError):
        ends.ws.receive(0)
    ends.peer.send("hello")

    assert future.result(PATIENCE) == "hello"


def test_threads_may_receive_in_turn(connect: Connect) -> None:
    ends = connect()
    ends.peer.send("one")
    ends.peer.send("two")

    assert in_thread(ends.ws.receive).result(PATIENCE) == "one"
    assert in_thread(ends.ws.receive).result(PATIENCE) == "two"


def test_receive_waits_for_whoever_is_reading_without_waiting(connect: Connect) -> None:
    ends = connect()
    ends.peer.send("hello")
    with ends.connection.receiver.reading:
        future = in_thread(ends.ws.receive)

    assert future.result(PATIENCE) == "hello"


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_a_timeout_of_the_operating_systems_is_a_lost_connection(
    connect: Connect, timeout: float | None
) -> None:
    """Keepalive probes of TCP end like this."""
    ends = connect()

    def recv(timeout: float | None = None) -> bytes:
        raise TimeoutError(errno.ETIMEDOUT, "Connection timed out")

    ends.transport.recv = recv  # type: ignore[method-assign]

    assert closed_now(ends.ws.receive, timeout).code == 1006


# Iterating


def test_iteration_gives_the_messages(connect: Connect) -> None:
    ends = connect()
    ends.peer.send("one")
    ends.peer.send(b"two")
    ends.peer.send_close()

    assert list(ends.ws) == ["one", b"two"]


@pytest.mark.parametrize("code", [None, 1000, 1001, 1011, 4000])
def test_iteration_ends_at_a_close_whatever_its_code(connect: Connect, code: int | None) -> None:
    ends = connect()
    ends.peer.send_close(code)

    assert list(ends.ws) == []


def test_iteration_ends_when_the_connection_is_lost(connect: Connect) -> None:
    ends = connect()
    ends.peer.sock.close()

    assert list(ends.ws) == []


def test_iteration_ends_at_a_violation(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_frame(0x3)

    assert list(ends.ws) == []


def test_iteration_ends_when_another_thread_closes(connect: Connect) -> None:
    ends = connect()
    future = in_thread(lambda: list(ends.ws))
    assert ends.transport.waiting.wait(PATIENCE)
    closing = in_thread(ends.ws.close)
    answer(ends)
    closing.result(PATIENCE)

    assert future.result(PATIENCE) == []


def test_an_error_inside_the_loop_is_not_swallowed(connect: Connect) -> None:
    ends = connect()
    ends.peer.send("hello")

    def loop() -> None:
        for _ in ends.ws:
            raise ConnectionClosed(4001, "of another connection")

    assert closed_now(loop).code == 4001


# The peer closes


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (1001, "bye"), (4000, "güte"), (4999, "x" * 123)]
)
def test_a_close_frame_raises_its_code_and_reason(connect: Connect, code: int, reason: str) -> None:
    ends = connect()
    ends.peer.send_close(code, reason)
    error = closed_now(ends.ws.receive)

    assert (error.code, error.reason) == (code, reason)


def test_a_close_frame_without_a_code_raises_1005(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_close(None)

    assert closed_now(ends.ws.receive).code == 1005


def test_messages_before_a_close_frame_are_received(connect: Connect) -> None:
    ends = connect()
    ends.peer.send("last")
    ends.peer.send_close()

    assert ends.ws.receive() == "last"


@pytest.mark.parametrize("code", [1000, 4000])
def test_a_close_frame_is_answered_with_its_code(connect: Connect, code: int) -> None:
    ends = connect()
    ends.peer.send_close(code, "bye")
    closed_now(ends.ws.receive)

    assert ends.peer.read_close().close_code == code


def test_a_close_frame_without_a_code_is_answered_without_one(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_close(None)
    closed_now(ends.ws.receive)

    assert ends.peer.read_close().close_code is None


def test_after_the_answer_to_a_close_frame_tcp_ends(connect: Connect) -> None:
    ends = connect(tcp_pair())
    ends.peer.send_close()
    closed_now(ends.ws.receive)
    ends.peer.read_close()

    ends.peer.expect_end()


def test_a_connection_that_the_peer_closed_is_not_connected(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_close(4000, "bye")
    closed_now(ends.ws.receive)

    assert not ends.connection.connected


def test_a_connection_that_the_peer_closed_tells_why(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_close(4000, "bye")
    closed_now(ends.ws.receive)

    assert (ends.connection.close_code, ends.connection.close_reason) == (4000, "bye")


def test_a_closed_connection_goes_on_raising(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_close(4000, "bye")
    closed_now(ends.ws.receive)

    assert closed_now(ends.ws.receive, 0).code == 4000


# The peer vanishes


def test_a_peer_that_vanishes_raises_1006(connect: Connect) -> None:
    ends = connect()
    ends.peer.sock.close()

    assert closed_now(ends.ws.receive).code == 1006


def test_a_peer_that_vanishes_wakes_who_waits(connect: Connect) -> None:
    ends = connect()
    future = in_receive(ends)
    ends.peer.sock.close()

    assert closed(future).code == 1006


def test_a_peer_that_vanishes_wakes_who_waits_with_a_timeout(connect: Connect) -> None:
    ends = connect()
    future = in_receive(ends, PATIENCE)
    ends.peer.sock.close()

    assert closed(future).code == 1006


def test_a_peer_that_resets_the_connection_raises_1006(connect: Connect) -> None:
    ends = connect(tcp_pair())
    ends.peer.reset()

    assert closed_now(ends.ws.receive).code == 1006


def test_a_peer_that_vanishes_inside_a_message_raises_1006(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_bytes(encode_message(bytes(100_000))[:5000])
    ends.peer.sock.close()

    assert closed_now(ends.ws.receive).code == 1006


def test_messages_of_a_peer_that_vanished_are_received(connect: Connect) -> None:
    ends = connect()
    ends.peer.send("last")
    ends.peer.sock.close()

    assert ends.ws.receive() == "last"


def test_a_lost_connection_has_a_reason(connect: Connect) -> None:
    ends = connect()
    ends.peer.sock.close()

    assert closed_now(ends.ws.receive).reason


def test_a_peer_that_only_ends_its_side_has_vanished(connect: Connect) -> None:
    ends = connect()
    ends.peer.finish_sending()

    assert closed_now(ends.ws.receive).code == 1006


# The peer is at fault


def test_a_violation_raises_its_code(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_frame(0x3)

    assert closed_now(ends.ws.receive).code == 1002


def test_a_message_past_the_limit_raises_1009(connect: Connect) -> None:
    ends = connect(protocol=Protocol(max_message_size=100))
    ends.peer.send(bytes(101))

    assert closed_now(ends.ws.receive).code == 1009


def test_a_violation_is_told_to_the_peer(connect: Connect) -> None:
    ends = connect(protocol=Protocol(max_message_size=100))
    ends.peer.send(bytes(101))
    closed_now(ends.ws.receive)
    frame = ends.peer.read_close()

    assert frame.close_code == 1009
    assert frame.close_reason == "message too big: 101 bytes, the limit is 100"


def test_a_violation_is_logged_in_one_line(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    ends = connect(label="WebSocket 192.0.2.1 /feed")
    ends.peer.send_frame(0x3)
    closed_now(ends.ws.receive)

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("WebSocket 192.0.2.1 /feed: the peer is at fault: 1002 ")


WAYS_TO_READ: dict[str, Callable[[Connection], object]] = {
    "receive": lambda connection: closed_now(connection.receiver.receive),
    "next_message": lambda connection: connection.receiver.next_message(read=True),
    "service": lambda connection: connection.receiver.service(),
    "look": lambda connection: connection.receiver.look(),
    "close": lambda connection: connection.close(1000, ""),
}


@pytest.mark.usefixtures("watch")
@pytest.mark.parametrize("read", WAYS_TO_READ.values(), ids=list(WAYS_TO_READ))
def test_a_log_handler_may_use_the_connection_at_fault(
    connect: Connect, read: Callable[[Connection], object]
) -> None:
    ends = connect()
    ends.peer.send_frame(0x3)
    reading = cast("WatchedLock", ends.connection.receiver.reading)
    errors: list[ConnectionClosed] = []

    class Using(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # That would wait for ever if it was being read.
            if not reading.locked():
                errors.append(closed_now(ends.ws.receive))
                ends.ws.close()

    handler = Using()
    logging.getLogger("flask_ws").addHandler(handler)
    try:
        read(ends.connection)
    finally:
        logging.getLogger("flask_ws").removeHandler(handler)

    assert [error.code for error in errors] == [1002]


def test_what_comes_after_a_violation_is_not_received(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_frame(0x3)
    ends.peer.send("late")
    closed_now(ends.ws.receive)

    assert closed_now(ends.ws.receive, 0).code == 1002


def test_the_close_frame_for_a_violation_is_not_lost_by_a_reset(connect: Connect) -> None:
    """To close a socket with unread bytes would reset it."""
    ends = connect(tcp_pair())
    ends.peer.send_frame(0x3)
    pushing = in_thread(ends.peer.send_bytes, bytes(100_000))
    closed_now(ends.ws.receive)
    releasing = in_thread(ends.connection.release)
    pushing.result(PATIENCE)
    ends.peer.finish_sending()
    releasing.result(PATIENCE)
    tail = ends.peer.read_until_eof()

    assert tail.data[:4] == b"\x88" + tail.data[1:2] + struct.pack("!H", 1002)
    assert tail.end is End.FIN


def test_a_failed_peer_that_stays_is_dropped_after_close_timeout(
    connect: Connect,
) -> None:
    ends = connect(close_timeout=0.05)
    ends.peer.send_frame(0x3)
    closed_now(ends.ws.receive)

    in_thread(ends.connection.release).result(PATIENCE)


def test_a_failed_peer_that_keeps_sending_is_dropped_after_close_timeout(
    connect: Connect,
) -> None:
    ends = connect(close_timeout=0.05)
    ends.peer.send_frame(0x3)
    closed_now(ends.ws.receive)

    def push() -> None:
        while True:
            ends.peer.send_bytes(bytes(1000))

    pushing = in_thread(push)
    in_thread(ends.connection.release).result(PATIENCE)

    assert isinstance(pushing.exception(PATIENCE), OSError)


# Pings


def test_a_ping_is_answered_while_a_thread_receives(connect: Connect) -> None:
    ends = connect()
    in_receive(ends)
    ends.peer.send_frame(PING, b"are you there?")

    assert ends.peer.read_frame() == Frame(PONG, b"are you there?")


def test_an_empty_ping_is_answered(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_frame(PING)
    ends.ws.receive(0)

    assert ends.peer.read_frame() == Frame(PONG, b"")


def test_a_pong_is_not_answered(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_frame(PONG, b"here")
    ends.ws.receive(0)
    ends.ws.send("next")

    assert ends.peer.read() == "next"


def test_a_peer_that_pings_and_does_not_read_gets_no_more_pongs(connect: Connect) -> None:
    ends = connect()
    sender = in_send(ends)
    ends.peer.send_bytes(encode_frame(PING, bytes(125)) * 200)
    until(lambda: ends.ws.receive(0) is None and ends.connection.bytes_received > 20_000)
    assert ends.peer.read() == MUCH
    sender.result(PATIENCE)
    ends.ws.send("next")

    assert ends.peer.read_opcode(PONG)
    assert ends.peer.read() == "next"


# Closing


def test_close_sends_its_code_and_reason(connect: Connect) -> None:
    ends = connect()
    closing = in_thread(ends.ws.close, 4000, "bye")
    frame = answer(ends)
    closing.result(PATIENCE)

    assert (frame.close_code, frame.close_reason) == (4000, "bye")


def test_close_without_a_code_sends_1000(connect: Connect) -> None:
    ends = connect()
    closing = in_thread(ends.ws.close)
    frame = answer(ends)
    closing.result(PATIENCE)

    assert (frame.close_code, frame.close_reason) == (1000, "")


def test_a_long_reason_is_cut(connect: Connect) -> None:
    ends = connect()
    closing = in_thread(ends.ws.close, 4000, "ä" * 100)
    frame = answer(ends)
    closing.result(PATIENCE)

    assert frame.close_reason == "ä" * 61


def test_close_waits_for_the_answer(connect: Connect) -> None:
    ends = connect()
    closing = in_thread(ends.ws.close, 4000)
    ends.peer.read_close()
    assert ends.transport.waiting.wait(PATIENCE)
    assert not closing.done()
    ends.peer.send_close(4000)

    closing.result(PATIENCE)
    assert ends.connection.close_code == 4000


def test_the_code_of_a_closed_connection_is_that_of_the_answer(connect: Connect) -> None:
    ends = connect()
    closing = in_thread(ends.ws.close, 4000)
    ends.peer.read_close()
    ends.peer.send_close(4001, "as you like")
    closing.result(PATIENCE)

    assert (ends.connection.close_code, ends.connection.close_reason) == (4001, "as you like")


def test_messages_before_the_answer_are_dropped(connect: Connect) -> None:
    ends = connect()
    closing = in_thread(ends.ws.close)
    ends.peer.read_close()
    ends.peer.send("late")
    ends.peer.send_close()
    closing.result(PATIENCE)

    assert closed_now(ends.ws.receive).code == 1000


def test_after_the_answer_tcp_ends(connect: Connect) -> None:
    ends = connect(tcp_pair())
    closing = in_thread(ends.ws.close)
    ends.peer.answer_close()

    closing.result(PATIENCE)


def test_a_ping_before_the_answer_is_not_answered(connect: Connect) -> None:
    ends = connect()
    closing = in_thread(ends.ws.close)
    ends.peer.read_close()
    ends.peer.send_frame(PING)
    ends.peer.send_close()
    closing.result(PATIENCE)

    ends.peer.expect_end()


def test_a_close_that_is_not_answered_is_a_lost_connection(connect: Connect) -> None:
    ends = connect(close_timeout=0.05)
    ends.ws.close()

    assert ends.connection.close_code == 1006


@pytest.mark.parametrize("close_timeout", [1e10, float("inf")])
@pytest.mark.parametrize("receiving", [False, True])
def test_close_timeout_may_be_longer_than_the_system_can_wait(
    connect: Connect, close_timeout: float, receiving: bool
) -> None:
    ends = connect(close_timeout=close_timeout)
    if receiving:
        in_receive(ends)
    closing = in_thread(ends.ws.close)
    assert ends.peer.read_close().close_code == 1000
    ends.peer.send_close(1000)

    closing.result(PATIENCE)
    assert ends.connection.close_code == 1000


def test_a_close_that_is_not_answered_takes_close_timeout(connect: Connect) -> None:
    ends = connect(close_timeout=0.05)
    began = time.monotonic()
    ends.ws.close()

    assert 0.05 <= time.monotonic() - began < 2


@pytest.mark.unix
def test_a_peer_that_sends_on_does_not_prolong_the_close(connect: Connect) -> None:
    ends = connect(close_timeout=0.05)

    def push() -> None:
        while True:
            ends.peer.send(b"x")

    pushing = in_thread(push)
    in_thread(ends.ws.close).result(PATIENCE)

    assert ends.connection.close_code == 1006
    assert isinstance(pushing.exception(PATIENCE), OSError)


def test_a_peer_that_vanishes_ends_the_wait_for_the_answer(connect: Connect) -> None:
    ends = connect()
    closing = in_thread(ends.ws.close)
    ends.peer.read_close()
    ends.peer.sock.close()
    closing.result(PATIENCE)

    assert ends.connection.close_code == 1006


def test_close_frames_that_cross_close_the_connection(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_close(4001)
    ends.ws.close(4000)

    assert ends.peer.read_close().close_code == 4000
    ends.peer.expect_end()


def test_closing_again_does_nothing(connect: Connect) -> None:
    ends = connect()
    closing = in_thread(ends.ws.close)
    answer(ends)
    closing.result(PATIENCE)
    ends.ws.close(4000)

    ends.peer.expect_end()


def test_closing_what_the_peer_has_closed_does_nothing(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_close(4000)
    closed_now(ends.ws.receive)
    ends.ws.close()

    assert ends.peer.read_close().close_code == 4000
    ends.peer.expect_end()


def test_closing_a_lost_connection_does_nothing(connect: Connect) -> None:
    ends = connect()
    ends.peer.sock.close()
    closed_now(ends.ws.receive)
    ends.ws.close()

    assert ends.connection.close_code == 1006


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, "1000"])
def test_a_code_that_nobody_may_send_is_refused(connect: Connect, code: object) -> None:
    ends = connect()

    with pytest.raises(ValueError, match="is not a close code to send"):
        ends.ws.close(code)  # type: ignore[arg-type]
    assert ends.connection.connected


@pytest.mark.parametrize(
    ("reason", "error"), [(1001, TypeError), (b"bye", TypeError), ("\ud800", ValueError)]
)
def test_a_reason_that_nobody_can_send_is_refused(
    connect: Connect, reason: Any, error: type[Exception]
) -> None:
    """And the connection can still be closed."""
    ends = connect()

    with pytest.raises(error):
        ends.ws.close(1000, reason)
    assert ends.connection.connected
    closing = in_thread(ends.ws.close, 4000, "bye")
    assert ends.peer.read_close().close_code == 4000
    ends.peer.send_close(4000)
    closing.result(PATIENCE)


def test_sending_after_a_close_raises_its_code(connect: Connect) -> None:
    ends = connect()
    closing = in_thread(ends.ws.close, 4000, "bye")
    ends.peer.read_close()

    assert closed_now(ends.ws.send, "late").code == 4000
    ends.peer.send_close(4000)
    closing.result(PATIENCE)


def test_a_connection_is_not_connected_from_the_close_on(connect: Connect) -> None:
    ends = connect()
    closing = in_thread(ends.ws.close)
    ends.peer.read_close()

    assert not ends.connection.connected
    ends.peer.send_close()
    closing.result(PATIENCE)


# Closing while other threads are at work


def test_a_close_wakes_the_thread_that_receives(connect: Connect) -> None:
    ends = connect()
    receiver = in_receive(ends)
    closing = in_thread(ends.ws.close, 4000)
    answer(ends)
    closing.result(PATIENCE)

    assert closed(receiver).code == 4000


def test_a_close_that_is_not_answered_wakes_the_thread_that_receives(connect: Connect) -> None:
    ends = connect(close_timeout=0.05)
    receiver = in_receive(ends)
    ends.ws.close()

    assert closed(receiver).code == 1006


def test_a_close_waits_for_the_message_that_is_being_sent(connect: Connect) -> None:
    ends = connect()
    sender = in_send(ends)
    closing = in_thread(ends.ws.close, 4000)

    assert ends.peer.read() == MUCH
    assert answer(ends).close_code == 4000
    sender.result(PATIENCE)
    closing.result(PATIENCE)


def test_a_close_waits_no_longer_than_close_timeout_for_a_message(connect: Connect) -> None:
    ends = connect(close_timeout=0.05)
    sender = in_send(ends)
    ends.ws.close()

    assert ends.connection.close_code == 1006
    assert closed(sender).code == 1006


def test_threads_that_close_at_once_send_one_close_frame(connect: Connect) -> None:
    ends = connect()
    closers = [in_thread(ends.ws.close, 4000) for _ in range(8)]
    ends.peer.answer_close()
    for closer in closers:
        closer.result(PATIENCE)

    assert ends.connection.close_code == 4000


def test_a_peers_close_is_answered_after_the_message_being_sent(
    connect: Connect,
) -> None:
    ends = connect()
    receiver = in_receive(ends)
    sender = in_send(ends)
    ends.peer.send_close(4000)
    assert closed(receiver).code == 4000

    assert ends.peer.read() == MUCH
    assert ends.peer.read_close().close_code == 4000
    sender.exception(PATIENCE)


def test_a_release_waits_until_the_answering_close_is_sent(connect: Connect) -> None:
    ends = connect()
    receiver = in_receive(ends)
    sender = in_send(ends)
    ends.peer.send_close(4000)
    closed(receiver)
    releasing = in_thread(ends.connection.release)

    assert ends.peer.read() == MUCH
    assert ends.peer.read_close().close_code == 4000
    ends.peer.expect_end()
    ends.peer.sock.close()
    releasing.result(PATIENCE)
    sender.result(PATIENCE)


class LeavesMeanwhile(Protocol):
    """Gives a handler, while a close frame is made, the time to see the end and to leave."""

    ends: Ends

    def send_close(self, code: int, reason: str = "") -> list[BytesLike]:
        leaving = in_thread(self.leave)
        concurrent.futures.wait([leaving], 0.1)
        return super().send_close(code, reason)

    def leave(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.ends.ws.send("more")
        self.ends.ws.close()
        self.ends.connection.release()


@pytest.mark.parametrize(("frame", "code"), [(encode_close(4000), 4000), (encode_frame(0x3), 1002)])
def test_a_close_frame_survives_a_handler_that_leaves_at_once(
    connect: Connect, frame: bytes, code: int
) -> None:
    """Another thread is about to send it."""
    protocol = LeavesMeanwhile()
    protocol.ends = ends = connect(tcp_pair(), protocol=protocol)
    ends.peer.send_bytes(frame)
    until(lambda: ends.transport.count_unread() == len(frame))
    servicing = in_thread(ends.connection.service)

    assert ends.peer.read_close(after="anything").close_code == code
    servicing.result(PATIENCE)


def test_a_release_sends_what_the_kernel_did_not_take_before_the_answer(connect: Connect) -> None:
    ends = connect()
    ends.connection.sender.post([encode_frame(BINARY, MUCH, mask=None)])
    ends.peer.send_close(4000)
    closed_now(ends.ws.receive)
    releasing = in_thread(ends.connection.release)

    assert ends.peer.read() == MUCH
    assert ends.peer.read_close().close_code == 4000
    ends.peer.expect_end()
    ends.peer.sock.close()
    releasing.result(PATIENCE)


def test_a_release_does_not_wait_for_a_peer_that_has_its_answer(connect: Connect) -> None:
    """Even where the frame was on its way when the peer's own came."""
    ends = connect()
    handled: list[int] = []
    send = ends.transport.try_send

    def send_slowly(data: BytesLike) -> int:
        """Come back when the peer has answered already."""
        sent = send(data)
        answer(ends)
        handled.append(closed_now(ends.ws.receive).code)
        return sent

    ends.transport.try_send = send_slowly  # type: ignore[method-assign]
    ends.connection.go_away(1001, "")
    began = time.monotonic()
    ends.connection.release()

    assert handled == [1001]
    assert time.monotonic() - began < 2


def test_a_release_waits_no_longer_than_close_timeout_for_the_answer(connect: Connect) -> None:
    ends = connect(close_timeout=0.05)
    receiver = in_receive(ends)
    sender = in_send(ends)
    ends.peer.send_close(4000)
    closed(receiver)
    in_thread(ends.connection.release).result(PATIENCE)

    assert closed(sender).code == 4000


def test_a_sender_sees_to_the_close_frame_that_came_meanwhile(connect: Connect) -> None:
    ends = connect()
    sender = in_send(ends)
    ends.connection.go_away(1001, "")

    assert ends.peer.read() == MUCH
    assert ends.peer.read_close().close_code == 1001
    sender.result(PATIENCE)


def test_nothing_waits_behind_a_close_frame(connect: Connect) -> None:
    ends = connect()
    sender = in_send(ends)
    ends.connection.go_away(1001, "")
    ends.connection.sender.post(ends.connection.sender._protocol.send_pong(b"late"))
    ends.peer.read()
    ends.peer.read_close()
    sender.result(PATIENCE)
    ends.connection.release()

    ends.peer.expect_end()


# Nobody receives


def test_an_unattended_ping_is_answered(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_frame(PING, b"?")
    ends.connection.service()

    assert ends.peer.read_frame() == Frame(PONG, b"?")


def test_an_unattended_close_is_answered(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_close(4000)
    ends.connection.service()

    assert ends.peer.read_close().close_code == 4000
    assert ends.connection.close_code == 4000


def test_an_unattended_loss_is_seen(connect: Connect) -> None:
    ends = connect()
    ends.peer.sock.close()
    ends.connection.service()

    assert ends.connection.close_code == 1006


def test_service_without_anything_to_do_does_nothing(connect: Connect) -> None:
    ends = connect()
    ends.connection.service()

    assert ends.connection.connected


def test_service_sends_what_waits(connect: Connect) -> None:
    ends = connect()
    ends.connection.sender.queue(ends.connection.sender._protocol.send_ping(b"?"))
    ends.connection.service()

    assert ends.peer.read_frame() == Frame(PING, b"?")


def test_service_leaves_the_socket_to_the_thread_that_receives(connect: Connect) -> None:
    ends = connect()
    receiver = in_receive(ends)
    ends.connection.service()
    ends.peer.send("hello")

    assert receiver.result(PATIENCE) == "hello"


def test_service_after_the_release_does_nothing(connect: Connect) -> None:
    ends = connect()
    ends.connection.release()
    ends.connection.service()


def test_a_message_that_came_unattended_is_received(connect: Connect) -> None:
    ends = connect()
    ends.peer.send("hello")
    ends.connection.service()

    assert ends.ws.receive(0) == "hello"


def test_messages_that_came_unattended_are_received_in_order(connect: Connect) -> None:
    ends = connect(max_queue=3)
    for number in range(10):
        ends.peer.send(str(number))
    ends.connection.service()
    ends.peer.send("10")

    assert [ends.ws.receive() for _ in range(11)] == [str(n) for n in range(11)]


def test_messages_that_came_unattended_survive_a_close(connect: Connect) -> None:
    ends = connect()
    ends.peer.send("one")
    ends.peer.send("two")
    ends.peer.send_close(4000)
    ends.connection.service()
    received = [ends.ws.receive(), ends.ws.receive()]

    assert received == ["one", "two"]
    assert closed_now(ends.ws.receive).code == 4000


def test_messages_that_came_unattended_survive_a_loss(connect: Connect) -> None:
    ends = connect()
    ends.peer.send("one")
    ends.peer.sock.close()
    ends.connection.service()

    assert ends.ws.receive() == "one"
    assert closed_now(ends.ws.receive).code == 1006


def test_messages_behind_a_full_queue_survive_a_close(connect: Connect) -> None:
    ends = connect(max_queue=2)
    for number in range(5):
        ends.peer.send(str(number))
    ends.peer.send_close(4000)
    ends.connection.service()

    assert list(ends.ws) == ["0", "1", "2", "3", "4"]
    assert ends.connection.close_code == 4000


def test_no_more_than_max_queue_messages_are_let_in(connect: Connect) -> None:
    ends = connect(max_queue=3)
    for number in range(10):
        ends.peer.send(str(number))
    ends.connection.service()
    ends.connection.service()

    assert ends.connection.receiver.messages_received == 3


def test_tcp_pushes_back_on_a_peer_that_sends_to_a_busy_handler(connect: Connect) -> None:
    ends = connect(max_queue=3)
    ends.peer.sock.setblocking(False)
    frame = encode_message(bytes(10_000))

    def push() -> None:
        for _ in range(2000):
            ends.peer.sock.sendall(frame)
            ends.connection.service()

    with pytest.raises(BlockingIOError):
        push()
    assert ends.connection.receiver.messages_received == 3


FULL = 3


def fill_queue(ends: Ends, more: int = 0) -> None:
    """Let messages in until the handler is not in receive() for too long."""
    for number in range(FULL + more):
        ends.peer.send(str(number))
    until(lambda: ends.transport.count_unread() > 0)
    ends.connection.service()
    assert ends.connection.receiver.messages_received == FULL
    assert ends.connection.connected


def depart(ends: Ends, how: str) -> None:
    if how == "reset":
        ends.peer.reset()
    elif how == "half":
        ends.peer.finish_sending()
    else:
        ends.peer.sock.close()


def is_lost(ends: Ends) -> bool:
    ends.connection.service()
    return ends.connection.close_code == 1006


@pytest.mark.parametrize("more", [0, 5])
@pytest.mark.parametrize("how", ["close", "half", "reset"])
def test_a_peer_that_goes_is_seen_behind_a_full_queue(
    connect: Connect, how: str, more: int
) -> None:
    ends = connect(tcp_pair(), max_queue=FULL)
    fill_queue(ends, more)
    depart(ends, how)

    until(lambda: is_lost(ends))
    assert not ends.connection.connected


def test_a_lost_unix_peer_is_noticed_behind_a_full_queue(connect: Connect) -> None:
    ends = connect(max_queue=FULL)
    fill_queue(ends, 5)
    ends.peer.sock.close()

    until(lambda: is_lost(ends))


@pytest.mark.unix
@pytest.mark.parametrize("how", ["close", "half"])
def test_messages_behind_a_full_queue_survive_a_loss(connect: Connect, how: str) -> None:
    ends = connect(tcp_pair(), max_queue=FULL)
    fill_queue(ends, 5)
    ends.peer.send(bytes(30_000))
    depart(ends, how)
    until(lambda: is_lost(ends))

    assert list(ends.ws) == [*map(str, range(FULL + 5)), bytes(30_000)]
    assert closed_now(ends.ws.receive).code == 1006


@pytest.mark.unix
def test_the_close_frame_of_a_peer_that_has_gone_tells_its_code(connect: Connect) -> None:
    ends = connect(tcp_pair(), max_queue=FULL)
    fill_queue(ends, 1)
    ends.peer.send_close(4000, "bye")
    ends.peer.sock.close()
    until(lambda: is_lost(ends))

    assert list(ends.ws) == ["0", "1", "2", "3"]
    assert ends.connection.close_code == 4000


def test_a_sender_is_woken_when_the_peer_goes_behind_a_full_queue(connect: Connect) -> None:
    """A FIN alone does not end a call that waits for the peer to read."""
    ends = connect(tcp_pair(), max_queue=FULL)
    fill_queue(ends, 1)
    sender = in_send(ends)
    ends.peer.finish_sending()
    until(lambda: is_lost(ends))

    assert closed(sender).code == 1006


# What has been heard of the peer


def test_a_peer_that_is_silent_after_a_ping_has_not_been_heard(connect: Connect) -> None:
    ends = connect(max_queue=FULL)
    fill_queue(ends, 2)
    ends.connection.post_ping()

    assert not ends.connection.has_been_heard


def test_a_pong_behind_a_full_queue_has_been_heard(connect: Connect) -> None:
    ends = connect(max_queue=FULL)
    fill_queue(ends, 2)
    ends.connection.post_ping()
    ends.peer.send_frame(PONG)

    until(lambda: ends.connection.has_been_heard)


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_peer_behind_a_full_queue_answers_probes_of_its_system(
    connect: Connect, acknowledged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no room for its pong."""
    ends = connect(max_queue=FULL)
    fill_queue(ends)
    sending = in_thread(ends.peer.send, MUCH)
    until(lambda: ends.transport.count_unread() == MOST_UNREAD)
    monkeypatch.setattr(type(ends.transport), "is_acknowledged", lambda self: acknowledged)
    ends.connection.post_ping()

    assert ends.connection.has_been_heard is acknowledged
    ends.connection.release()
    sending.exception(PATIENCE)


@pytest.mark.skipif(not LINUX, reason="only there they are so small")
def test_a_peer_behind_a_full_unix_socket_counts_as_alive(connect: Connect) -> None:
    """Each message takes a buffer; and while it sends it reads no ping."""
    ends = connect(max_queue=FULL)
    fill_queue(ends)
    ends.peer.sock.settimeout(0.1)
    with contextlib.suppress(TimeoutError):
        while True:
            ends.peer.send("x")
    ends.connection.post_ping()

    assert ends.connection.has_been_heard


# The end


def test_a_lost_connection_wakes_the_thread_that_receives(connect: Connect) -> None:
    ends = connect()
    receiver = in_receive(ends)
    ends.connection.lose("the peer is dead")
    error = closed(receiver)

    assert (error.code, error.reason) == (1006, "the peer is dead")


def test_a_lost_connection_wakes_the_thread_that_sends(connect: Connect) -> None:
    ends = connect()
    sender = in_send(ends)
    ends.connection.lose("the peer is dead")

    assert closed(sender).code == 1006


def test_a_closed_connection_cannot_be_lost(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_close(4000)
    closed_now(ends.ws.receive)
    ends.connection.lose("too late")

    assert ends.connection.close_code == 4000


def test_a_release_wakes_who_receives_before_it_closes_the_socket(connect: Connect) -> None:
    ends = connect()
    receiver = in_receive(ends)
    ends.connection.release()

    assert closed(receiver).code == 1006


def test_a_release_wakes_who_sends_before_it_closes_the_socket(connect: Connect) -> None:
    ends = connect()
    sender = in_send(ends)
    ends.connection.release()

    assert closed(sender).code == 1006


def test_a_release_closes_the_socket(connect: Connect) -> None:
    ends = connect()
    ends.connection.release()

    assert ends.connection.state.released
    assert ends.sock.fileno() == -1


def test_nothing_of_a_released_connection_waits_for_the_garbage_collector() -> None:
    one, other = socket.socketpair()
    with other:
        ends = Ends((other, one))
        ends.connection.release()
        kept = weakref.ref(ends.connection.sender.writing)
    gc.disable()
    try:
        del ends
        assert kept() is None
    finally:
        gc.enable()


def test_a_second_release_does_nothing(connect: Connect) -> None:
    ends = connect()
    ends.connection.release()
    ends.connection.release()

    assert ends.transport.closed == 1


def test_a_second_release_does_not_wait_for_a_peer_at_fault_again(connect: Connect) -> None:
    ends = connect(close_timeout=PATIENCE)
    ends.peer.send_frame(0x3)
    closed_now(ends.ws.receive)
    ends.peer.sock.close()
    ends.connection.release()
    ends.transport.waiting.clear()
    ends.connection.release()

    assert not ends.transport.waiting.is_set()


def test_the_peer_sees_the_end_of_a_released_connection(connect: Connect) -> None:
    ends = connect(tcp_pair())
    ends.connection.release()

    ends.peer.expect_end()


@pytest.mark.parametrize("method", ["send", "ping", "receive"])
def test_a_released_connection_raises(connect: Connect, method: str) -> None:
    ends = connect()
    ends.connection.release()
    arguments = [] if method == "receive" else [b"x"]

    assert closed_now(getattr(ends.ws, method), *arguments).code == 1006


def test_the_socket_is_not_touched_after_the_release(connect: Connect) -> None:
    """Its number may be another's."""
    ends = connect()
    fd = ends.sock.fileno()
    ends.connection.release()
    one, other = socket.socketpair()
    with one, other:
        assert fd in (one.fileno(), other.fileno())
        ends.connection.lose("late")
        ends.connection.service()
        ends.connection.release()
        one.send(b"x")

        assert other.recv(1) == b"x"


# Counting


def test_messages_and_bytes_are_counted(connect: Connect) -> None:
    ends = connect()
    ends.ws.send("hello")
    ends.ws.ping()
    ends.peer.send("hi")
    ends.ws.receive()

    assert (ends.connection.sender.messages_sent, ends.connection.bytes_sent) == (1, 7 + 2)
    assert (ends.connection.receiver.messages_received, ends.connection.bytes_received) == (1, 8)


def test_bytes_that_came_with_the_handshake_are_counted(connect: Connect) -> None:
    ends = connect()
    ends.connection.begin(b"", encode_close(1000))

    assert ends.connection.bytes_received == 8
