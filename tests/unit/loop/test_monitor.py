from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest
from tests.support.memory import in_thread
from tests.support.raw import BINARY, CLOSE, PING, PONG, Frame, Peer, encode_frame, encode_message
from tests.support.waiting import PATIENCE
from tests.unit.conftest import Connect, Ends, KeepingThreads, closed, in_receive, in_send

from flask_ws import ConnectionClosed
from flask_ws.concurrency import threads
from flask_ws.connection.connection import Connection
from flask_ws.loop import monitor as monitor_module
from flask_ws.loop.keepalive import Watch
from flask_ws.loop.monitor import Monitor, monitor_for

MUCH = bytes(8_000_000)


def never() -> bool:
    return False


def make_watch(
    ends: Ends,
    *,
    ping_interval: float | None = None,
    ping_timeout: float | None = None,
    close_timeout: float = 5.0,
    is_stopping: Callable[[], bool] = never,
    message_timeout: float | None = None,
) -> Watch:
    return Watch(
        ends.connection,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
        close_timeout=close_timeout,
        is_stopping=is_stopping,
        message_timeout=message_timeout,
    )


def closed_code(ends: Ends) -> int:
    """Wait in receive() until the connection is closed."""
    future = in_thread(ends.ws.receive)
    error = future.exception(PATIENCE)
    assert isinstance(error, ConnectionClosed)
    return error.code


# Keepalive, by a clock of ours


class Clock:
    """A watch over a connection, looked at when the test says so."""

    def __init__(
        self,
        ends: Ends,
        interval: float | None = 20.0,
        timeout: float | None = 10.0,
        message_timeout: float | None = None,
    ) -> None:
        self.ends = ends
        self.watch = make_watch(
            ends,
            ping_interval=interval,
            ping_timeout=timeout,
            message_timeout=message_timeout,
        )
        # A whole number, so that the sums below are exact.
        self.began = self.watch.quiet_since = float(int(self.watch.quiet_since))

    def at(self, seconds: float) -> float:
        """Look; return how many seconds later to look again."""
        self.ends.connection.service()
        return self.watch.check(self.began + seconds) - self.began - seconds

    def pinged(self) -> bool:
        self.ends.connection.go_away(1000, "")
        opcode = self.ends.peer.read_frame().opcode
        assert opcode in (PING, CLOSE)
        return opcode == PING


def test_a_quiet_peer_is_sent_a_ping(connect: Connect) -> None:
    clock = Clock(connect())
    clock.at(20)

    assert clock.pinged()


def test_a_peer_gets_no_ping_before_ping_interval_has_passed(connect: Connect) -> None:
    clock = Clock(connect())
    clock.at(19)

    assert not clock.pinged()


@pytest.mark.parametrize("life", [encode_message("hello"), encode_frame(PONG), encode_frame(PING)])
def test_a_peer_that_shows_life_is_not_sent_a_ping(connect: Connect, life: bytes) -> None:
    clock = Clock(connect())
    clock.ends.peer.send_bytes(life)
    clock.at(15)
    clock.at(21)
    clock.ends.connection.go_away(1000, "")
    opcodes = [clock.ends.peer.read_frame().opcode]
    while opcodes[-1] != CLOSE:
        opcodes.append(clock.ends.peer.read_frame().opcode)

    assert PING not in opcodes


def test_a_peer_that_is_quiet_again_is_sent_a_ping(connect: Connect) -> None:
    clock = Clock(connect())
    clock.ends.peer.send("hello")
    clock.at(15)
    clock.at(35)

    assert clock.pinged()


def test_a_peer_that_does_not_answer_a_ping_is_lost(connect: Connect) -> None:
    clock = Clock(connect())
    clock.at(20)
    clock.at(30)

    assert clock.ends.connection.close_code == 1006
    assert "did not answer a ping" in clock.ends.connection.close_reason


def test_a_peer_has_ping_timeout_to_answer_a_ping(connect: Connect) -> None:
    clock = Clock(connect())
    clock.at(20)
    clock.at(29)

    assert clock.ends.connection.connected


def test_a_peer_that_answers_a_ping_lives(connect: Connect) -> None:
    clock = Clock(connect())
    clock.at(20)
    clock.ends.peer.send_frame(PONG)
    clock.at(30)

    assert clock.ends.connection.connected


def test_a_peer_that_sends_something_else_after_a_ping_lives(connect: Connect) -> None:
    clock = Clock(connect())
    clock.at(20)
    clock.ends.peer.send("hello")
    clock.at(30)

    assert clock.ends.connection.connected


def test_a_peer_that_answers_is_sent_the_next_ping(connect: Connect) -> None:
    clock = Clock(connect())
    clock.at(20)
    assert clock.ends.peer.read_opcode(PING)
    clock.ends.peer.send_frame(PONG)
    clock.at(30)
    clock.at(50)

    assert clock.pinged()


def test_one_ping_is_sent_at_a_time(connect: Connect) -> None:
    clock = Clock(connect(), timeout=100)
    clock.at(20)
    assert clock.ends.peer.read_opcode(PING)
    clock.at(40)

    assert not clock.pinged()


def test_without_a_ping_timeout_a_peer_is_not_given_up(connect: Connect) -> None:
    clock = Clock(connect(), timeout=None)
    clock.at(20)
    clock.at(10_000)

    assert clock.ends.connection.connected


def test_a_peer_that_is_made_to_wait_is_not_given_up(connect: Connect) -> None:
    """Its pongs are behind the messages that a busy handler does not receive."""
    clock = Clock(connect(max_queue=1))
    clock.ends.peer.send("hello")
    clock.ends.peer.send("hello")
    for seconds in (1, 21, 31, 51, 61, 81, 91):
        clock.at(seconds)
        if seconds % 10 == 1 and seconds > 1:
            clock.ends.peer.send_frame(PONG)

    assert clock.ends.connection.connected


def test_a_peer_that_falls_silent_is_lost_though_the_queue_is_full(connect: Connect) -> None:
    clock = Clock(connect(max_queue=1))
    clock.ends.peer.send("hello")
    clock.ends.peer.send("hello")
    for seconds in (1, 21, 31):
        clock.at(seconds)

    assert clock.ends.connection.close_code == 1006


def test_a_silent_peer_wakes_a_sender_despite_a_full_queue(
    connect: Connect,
) -> None:
    clock = Clock(connect(max_queue=1))
    clock.ends.peer.send("hello")
    clock.ends.peer.send("hello")
    clock.at(1)
    sender = in_send(clock.ends)
    deadline = time.monotonic() + PATIENCE
    seconds = 21
    # What the kernel's buffers take looks like progress, for a moment.
    while clock.ends.connection.close_code is None and time.monotonic() < deadline:
        clock.at(seconds)
        seconds += 10

    assert isinstance(sender.exception(PATIENCE), ConnectionClosed)


def test_a_pong_that_a_thread_has_not_counted_yet_is_life(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has left the kernel; the thread waits for its turn to run."""
    ends = connect()
    clock = Clock(ends)
    received, go_on = threading.Event(), threading.Event()
    recv = type(ends.transport).recv

    def recv_slowly(self: object, timeout: float | None = None) -> bytes:
        data = recv(ends.transport, timeout)
        received.set()
        assert go_on.wait(PATIENCE)
        return data

    monkeypatch.setattr(type(ends.transport), "recv", recv_slowly)
    receiver = in_thread(ends.ws.receive)
    assert ends.transport.waiting.wait(PATIENCE)
    clock.at(20)
    ends.peer.send_frame(PONG)
    assert received.wait(PATIENCE)
    clock.at(30)
    go_on.set()
    ends.peer.send("hello")
    assert receiver.result(PATIENCE) == "hello"
    clock.at(30.5)

    assert ends.connection.connected


def test_a_peer_is_looked_at_twice_where_a_thread_reads(connect: Connect) -> None:
    """And no more than that."""
    ends = connect()
    clock = Clock(ends)
    receiver = in_receive(ends)
    clock.at(20)

    assert clock.at(30) == pytest.approx(0.5)
    clock.at(30.5)
    assert isinstance(receiver.exception(PATIENCE), ConnectionClosed)


def test_a_peer_that_reads_a_long_message_slowly_is_not_given_up(connect: Connect) -> None:
    clock = Clock(connect())
    sender = in_thread(clock.ends.ws.send, MUCH)
    clock.ends.peer.take(10)
    clock.at(20)
    for seconds in (30, 40, 50):
        clock.ends.peer.take(1_000_000)
        clock.at(seconds)

    assert clock.ends.connection.connected
    clock.ends.connection.lose("enough")
    sender.exception(PATIENCE)


def test_a_peer_that_does_not_read_a_long_message_is_given_up(connect: Connect) -> None:
    clock = Clock(connect())
    sender = in_thread(clock.ends.ws.send, MUCH)
    clock.ends.peer.fill(10)
    clock.at(20)
    deadline = time.monotonic() + PATIENCE
    seconds = 30
    # What the kernel's buffers take looks like progress, for a moment.
    while clock.ends.connection.close_code is None and time.monotonic() < deadline:
        clock.at(seconds)
        seconds += 10

    assert isinstance(sender.exception(PATIENCE), ConnectionClosed)


def test_the_next_look_is_when_the_ping_is_due(connect: Connect) -> None:
    assert Clock(connect()).at(16) == pytest.approx(4)


def test_the_next_look_is_when_the_answer_is_due(connect: Connect) -> None:
    assert Clock(connect()).at(20) == pytest.approx(10)


def test_the_next_look_is_never_now(connect: Connect) -> None:
    clock = Clock(connect(), timeout=None)
    clock.at(20)

    assert clock.at(25) > 0


# The time that a message may take, by the same clock

BEGUN = {
    "a header": encode_message("hello")[:1],
    "a payload": encode_message(bytes(1000))[:500],
    "a fragment": encode_frame(BINARY, b"a", fin=False),
    "a ping": encode_frame(PING, b"hello")[:-1],
}


@pytest.mark.parametrize("begun", BEGUN.values(), ids=BEGUN)
def test_what_is_not_finished_in_time_fails_the_connection(
    connect: Connect, begun: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock(connect(), interval=None, message_timeout=100)
    clock.ends.peer.send_bytes(begun)
    clock.at(0)
    clock.at(99)
    assert clock.ends.connection.connected
    clock.at(100)

    assert clock.ends.peer.read_close().close_code == 1008
    assert "not finished within 100 s (SOCK_MESSAGE_TIMEOUT)" in caplog.text


def test_a_message_that_moves_on_has_no_more_time(connect: Connect) -> None:
    clock = Clock(connect(), message_timeout=100)
    data = encode_message(bytes(1000))
    for second in range(101):
        clock.ends.peer.send_bytes(data[second : second + 1])
        clock.at(second)

    assert not clock.ends.connection.connected


def test_each_message_has_its_own_time(connect: Connect) -> None:
    """A peer that sends one after the other is always in the middle of one."""
    clock = Clock(connect(), message_timeout=100)
    data = encode_message(bytes(1000))
    clock.ends.peer.send_bytes(data[:500])
    for second in range(0, 500, 90):
        clock.at(second)
        clock.ends.peer.send_bytes(data[500:] + data[:500])
    clock.at(500)

    assert clock.ends.connection.connected


def test_a_message_behind_a_full_queue_has_all_the_time(connect: Connect) -> None:
    """It is the handler that takes long."""
    clock = Clock(connect(max_queue=1), message_timeout=100)
    clock.ends.peer.send_bytes(encode_message("one") + encode_message("two")[:4])
    clock.at(0)
    clock.at(1000)

    assert clock.ends.connection.connected


def test_a_message_has_time_also_where_no_pings_are_sent(connect: Connect) -> None:
    clock = Clock(connect(), interval=None, message_timeout=100)
    assert clock.at(0) == 25
    clock.ends.peer.send_bytes(encode_frame(BINARY, b"a", fin=False))
    assert clock.at(25) == 100
    clock.at(125)

    assert not clock.ends.connection.connected


def test_a_message_that_is_not_finished_wakes_who_waits_for_it(
    connect: Connect, monitor: Monitor
) -> None:
    ends = connect()
    waiting = in_receive(ends)
    ends.peer.send_bytes(encode_frame(BINARY, b"a", fin=False))
    monitor.add(make_watch(ends, message_timeout=0.1))

    assert closed(waiting).code == 1008


# The count


def test_a_connection_is_counted_once_while_the_monitor_starts(
    connect: Connect, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread may take a while; the last place is another's meanwhile."""
    start, counts = monitor._worker.start, []

    def count() -> None:
        counts.append(len(monitor))
        start()

    monkeypatch.setattr(monitor._worker, "start", count)
    monitor.admit(2)
    monitor.add(make_watch(connect()), admitted=True)
    assert counts == [1]


def test_connections_are_admitted_up_to_the_limit(connect: Connect, monitor: Monitor) -> None:
    assert monitor.admit(2)
    monitor.add(make_watch(connect()), admitted=True)
    assert monitor.admit(2)
    assert not monitor.admit(2)
    assert len(monitor) == 2
    monitor.cancel_admission()


def test_a_connection_that_is_dismissed_makes_room(monitor: Monitor) -> None:
    assert monitor.admit(1)
    monitor.cancel_admission()
    assert monitor.admit(1)
    monitor.cancel_admission()


# The monitor


def test_a_system_without_threads_is_asked_again(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    concurrency = KeepingThreads()
    monitor = Monitor(concurrency)
    ends = connect()

    def no_thread(self: object, target: object, name: str) -> object:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(type(concurrency), "spawn", no_thread)
        with pytest.raises(RuntimeError):
            monitor.add(make_watch(ends))
    assert len(monitor) == 0
    monitor.add(make_watch(ends, ping_interval=0.05))
    assert ends.peer.read_frame() == Frame(PING, b"")
    monitor.remove(ends.connection)


def test_the_monitor_pings(connect: Connect, monitor: Monitor) -> None:
    ends = connect()
    monitor.add(make_watch(ends, ping_interval=0.05))

    assert ends.peer.read_frame() == Frame(PING, b"")


def test_the_monitor_pings_while_a_handler_waits_in_receive(
    connect: Connect, monitor: Monitor
) -> None:
    ends = connect()
    in_thread(ends.ws.receive)
    assert ends.transport.waiting.wait(PATIENCE)
    monitor.add(make_watch(ends, ping_interval=0.05, ping_timeout=PATIENCE))

    assert ends.peer.read_frame() == Frame(PING, b"")


def test_a_connection_that_fails_costs_the_others_nothing(
    connect: Connect, monitor: Monitor, caplog: pytest.LogCaptureFixture
) -> None:
    failing, other = connect(label="the failing one"), connect()

    def fail(timeout: float | None = None) -> bytes:
        raise BufferError("failed on purpose")

    failing.transport.recv = fail  # type: ignore[method-assign]
    monitor.add(make_watch(failing))
    monitor.add(make_watch(other, ping_interval=0.05, ping_timeout=PATIENCE))
    other.peer.send_frame(PING, b"?")

    assert other.peer.read_opcode(PONG)
    assert other.peer.read_opcode(PING)
    assert failing.connection.close_code == 1006
    assert caplog.text.count("the failing one: given up") == 1


def test_the_monitor_gives_up_a_dead_peer(connect: Connect, monitor: Monitor) -> None:
    ends = connect()
    monitor.add(make_watch(ends, ping_interval=0.05, ping_timeout=0.05))

    assert closed_code(ends) == 1006


def test_the_monitor_does_not_ping_where_no_pings_are_wanted(
    connect: Connect, monitor: Monitor
) -> None:
    quiet, other = connect(), connect()
    monitor.add(make_watch(quiet, ping_interval=None))
    monitor.add(make_watch(other, ping_interval=0.05, ping_timeout=PATIENCE))
    other.peer.read_opcode(PING)
    quiet.connection.go_away(1000, "")

    assert quiet.peer.read_frame().opcode == CLOSE


def test_the_monitor_answers_a_ping_for_a_busy_handler(connect: Connect, monitor: Monitor) -> None:
    ends = connect()
    monitor.add(make_watch(ends))
    ends.peer.send_frame(PING, b"?")

    assert ends.peer.read_frame() == Frame(PONG, b"?")


def test_the_monitor_answers_a_close_for_a_busy_handler(connect: Connect, monitor: Monitor) -> None:
    ends = connect()
    monitor.add(make_watch(ends))
    ends.peer.send_close(4000)

    assert ends.peer.read_close().close_code == 4000


def test_the_monitor_leaves_the_socket_of_an_event_view_alone(
    connect: Connect, monitor: Monitor
) -> None:
    view, other = connect(), connect()
    view.connection.receiver.needs_service = False
    monitor.add(make_watch(view))
    monitor.add(make_watch(other))
    view.peer.send_frame(PING)
    for _ in range(3):
        other.peer.send_frame(PING)
        other.peer.read_opcode(PONG)

    assert view.connection.bytes_received == 0


def test_a_connection_that_was_removed_is_watched_no_more(
    connect: Connect, monitor: Monitor
) -> None:
    removed, other = connect(), connect()
    monitor.add(make_watch(removed, ping_interval=0.02))
    monitor.add(make_watch(other, ping_interval=0.05, ping_timeout=PATIENCE))
    monitor.remove(removed.connection)
    other.peer.read_opcode(PING)
    removed.peer.sock.setblocking(False)
    try:
        data = removed.peer.sock.recv(100)
    except BlockingIOError:
        data = b""

    assert len(data) <= 2


def test_the_monitor_knows_how_many_it_watches_over(connect: Connect, monitor: Monitor) -> None:
    one, two = connect(), connect()
    monitor.add(make_watch(one))
    monitor.add(make_watch(two))
    monitor.remove(one.connection)

    assert len(monitor) == 1


def test_to_remove_what_is_not_watched_does_nothing(connect: Connect, monitor: Monitor) -> None:
    monitor.remove(connect().connection)

    assert len(monitor) == 0


def test_a_function_is_called_when_its_time_has_come(connect: Connect, monitor: Monitor) -> None:
    called = threading.Event()
    monitor.add(make_watch(connect()))
    monitor.at(time.monotonic() + 0.03, called.set)

    assert called.wait(PATIENCE)


def test_a_function_is_not_called_before_its_time(connect: Connect, monitor: Monitor) -> None:
    times: list[float] = []
    called = threading.Event()
    due = time.monotonic() + 0.05
    monitor.add(make_watch(connect()))

    def function() -> None:
        times.append(time.monotonic())
        called.set()

    monitor.at(due, function)
    assert called.wait(PATIENCE)

    assert times[0] >= due


# Its thread


def test_there_is_no_thread_before_there_is_a_connection(
    monitor: Monitor, keeping: KeepingThreads
) -> None:
    assert keeping.spawned == []


def test_all_connections_share_a_thread(
    connect: Connect, monitor: Monitor, keeping: KeepingThreads
) -> None:
    for _ in range(5):
        monitor.add(make_watch(connect()))

    assert [thread.name for thread in keeping.spawned] == ["flask_ws.Monitor"]


def test_the_thread_ends_when_no_connection_is_left(
    connect: Connect, monitor: Monitor, keeping: KeepingThreads
) -> None:
    ends = connect()
    monitor.add(make_watch(ends))
    monitor.remove(ends.connection)

    keeping.join()


def test_a_connection_that_comes_later_gets_a_thread_again(
    connect: Connect, monitor: Monitor, keeping: KeepingThreads
) -> None:
    first, second = connect(), connect()
    monitor.add(make_watch(first))
    monitor.remove(first.connection)
    keeping.join()
    monitor.add(make_watch(second))
    second.peer.send_frame(PING)

    assert second.peer.read_opcode(PONG)


def test_connections_that_come_and_go_are_all_watched(connect: Connect, monitor: Monitor) -> None:
    """The last one ends just as the next one comes."""
    for _ in range(50):
        ends = connect()
        monitor.add(make_watch(ends))
        monitor.remove(ends.connection)
    ends = connect()
    monitor.add(make_watch(ends))
    ends.peer.send_frame(PING)

    assert ends.peer.read_opcode(PONG)


def test_the_monitor_goes_on_when_something_stumbles(
    connect: Connect, monitor: Monitor, caplog: pytest.LogCaptureFixture
) -> None:
    asked = threading.Event()

    def is_stopping() -> bool:
        if asked.is_set():
            return False
        asked.set()
        raise RuntimeError("a plugin's fault")

    ends = connect()
    monitor.add(make_watch(ends, is_stopping=is_stopping))
    ends.peer.send_frame(PING)

    assert ends.peer.read_opcode(PONG)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


# Goodbye


def test_a_server_that_stops_says_goodbye(connect: Connect, monitor: Monitor) -> None:
    ends = connect()
    stopping = threading.Event()
    monitor.add(make_watch(ends, is_stopping=stopping.is_set))
    stopping.set()
    frame = ends.peer.read_close()

    assert (frame.close_code, frame.close_reason) == (1001, "the server is stopping")


def test_a_server_that_stops_ends_a_handler_that_waits(connect: Connect, monitor: Monitor) -> None:
    ends = connect()
    receiver = in_thread(ends.ws.receive)
    monitor.add(make_watch(ends, is_stopping=lambda: True))
    ends.peer.answer_close()
    error = receiver.exception(PATIENCE)

    assert isinstance(error, ConnectionClosed)
    assert error.code == 1001


def test_goodbye_is_said_once(connect: Connect, monitor: Monitor) -> None:
    ends = connect()
    monitor.add(make_watch(ends, is_stopping=lambda: True))
    ends.peer.read_close()
    ends.peer.send_close(1001)

    ends.peer.expect_end()


def test_a_peer_that_does_not_answer_the_goodbye_is_lost(
    connect: Connect, monitor: Monitor
) -> None:
    ends = connect()
    monitor.add(make_watch(ends, is_stopping=lambda: True, close_timeout=0.05))

    assert closed_code(ends) == 1006


def test_only_the_connections_of_the_server_that_stops_end(
    connect: Connect, monitor: Monitor
) -> None:
    ending, staying = connect(), connect()
    monitor.add(make_watch(ending, is_stopping=lambda: True))
    monitor.add(make_watch(staying))
    ending.peer.answer_close()

    assert staying.connection.connected


def test_a_server_is_asked_once_for_all_its_connections(connect: Connect, monitor: Monitor) -> None:
    asked: list[int] = []

    def is_stopping() -> bool:
        asked.append(1)
        return False

    # It has no thread, and looks when the test says so.
    monitor._worker.start = lambda: None  # type: ignore[method-assign]
    for _ in range(5):
        monitor.add(make_watch(connect(), is_stopping=is_stopping))
    monitor._look()

    assert asked == [1]


def fail(*args: object) -> object:
    raise BufferError("failed on purpose")


def break_(ends: Ends, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a connection have a fault of flask-ws's."""
    call = getattr(Connection, method)

    def fail_or_call(self: Connection, *args: object) -> object:
        return fail() if self is ends.connection else call(self, *args)

    monkeypatch.setattr(Connection, method, fail_or_call)


@pytest.mark.parametrize(
    ("method", "opcode"), [("service", PONG), ("post_ping", PING), ("go_away", CLOSE)]
)
def test_an_error_with_one_connection_costs_that_one_alone(
    connect: Connect,
    monitor: Monitor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    opcode: int,
) -> None:
    monitor._worker.start = lambda: None  # type: ignore[method-assign]
    several = first, broken, last = connect(), connect(), connect()
    break_(broken, method, monkeypatch)
    for ends in several:
        watch = make_watch(
            ends,
            ping_interval=1.0 if opcode == PING else None,
            is_stopping=(lambda: True) if opcode == CLOSE else never,
        )
        watch.quiet_since -= 1.0
        monitor.add(watch)
        if opcode == PONG:
            ends.peer.send_frame(PING)
    monitor._look()

    assert broken.connection.close_code == 1006
    assert "failed on purpose" in caplog.text
    assert [ends.peer.read_frame().opcode for ends in (first, last)] == [opcode] * 2


def test_an_error_at_the_end_of_the_process_costs_one_goodbye_alone(
    connect: Connect, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor_module, "FAREWELL", 0.05)
    monitor._worker.start = lambda: None  # type: ignore[method-assign]
    broken, other = connect(), connect()
    break_(broken, "go_away", monkeypatch)
    for ends in (broken, other):
        monitor.add(make_watch(ends))
    in_thread(monitor.say_goodbye).result(PATIENCE)

    assert other.peer.read_close().close_code == 1001


def test_a_timer_that_fails_does_not_keep_the_next_from_being_called(monitor: Monitor) -> None:
    called: list[str] = []
    monitor.at(0.0, fail)
    monitor.at(0.0, lambda: called.append("next"))
    monitor._look()

    assert called == ["next"]


def test_a_connection_without_a_monitor_is_not_kept(
    connect: Connect, monitor: Monitor, keeping: KeepingThreads
) -> None:
    def spawn(target: object, name: str) -> None:
        raise RuntimeError("can't start new thread")

    keeping.spawn = spawn  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        monitor.admit(1)

    assert len(monitor) == 0


def test_the_monitor_ends_when_nobody_comes_after_all(
    monitor: Monitor, keeping: KeepingThreads
) -> None:
    monitor.admit(1)
    assert monitor._worker.is_running
    monitor.cancel_admission()
    keeping.join()

    assert not monitor._worker.is_running


def test_an_admitted_connection_has_its_monitor_already(
    connect: Connect, monitor: Monitor, keeping: KeepingThreads
) -> None:
    monitor.admit(1)
    keeping.spawn = None  # type: ignore[method-assign, assignment]
    ends = connect()
    monitor.add(make_watch(ends, ping_interval=0.05), admitted=True)

    assert ends.peer.read_frame() == Frame(PING, b"")


def test_others_may_run_between_many_pings(
    connect: Connect, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With thousands of connections, their messages would have to wait for all pings."""
    pauses: list[tuple[float | None, int]] = []
    several = [connect() for _ in range(2 * monitor_module.BATCH + 1)]

    def wait(timeout: float | None = None) -> bool:
        pauses.append((timeout, sum(ends.connection.bytes_sent > 0 for ends in several)))
        return False

    monitor._worker.start = lambda: None  # type: ignore[method-assign]
    watches = [make_watch(ends, ping_interval=1000) for ends in several]
    for watch in watches:
        monitor.add(watch)
    monitor._look()
    for watch in watches:
        watch.quiet_since -= 1000
    monitor._due = [(0.0, number, reference) for _, number, reference in monitor._due]
    monkeypatch.setattr(monitor._wake, "wait", wait)
    monitor._look()

    batch = monitor_module.BATCH
    assert pauses == [(monitor_module.PAUSE, batch), (monitor_module.PAUSE, 2 * batch)]
    for ends in several:
        assert ends.peer.read_frame().opcode == PING


def test_a_server_without_connections_is_not_asked(connect: Connect, monitor: Monitor) -> None:
    asked: list[str] = []

    def ask(name: str) -> Callable[[], bool]:
        def is_stopping() -> bool:
            asked.append(name)
            return False

        return is_stopping

    monitor._worker.start = lambda: None  # type: ignore[method-assign]
    first, second = connect(), connect()
    monitor.add(make_watch(first, is_stopping=ask("first")))
    monitor.add(make_watch(second, is_stopping=ask("second")))
    monitor.remove(first.connection)
    monitor._look()

    assert asked == ["second"]


def test_the_end_of_the_process_is_a_goodbye_to_all(connect: Connect, monitor: Monitor) -> None:
    several = [connect(), connect()]
    for ends in several:
        monitor.add(make_watch(ends))
    saying = in_thread(monitor.say_goodbye)
    codes = [ends.peer.read_close().close_code for ends in several]
    for ends in several:
        monitor.remove(ends.connection)
    saying.result(PATIENCE)

    assert codes == [1001, 1001]


def test_who_comes_while_the_process_ends_is_told_goodbye_too(
    connect: Connect, monitor: Monitor
) -> None:
    monitor._worker.start = lambda: None  # type: ignore[method-assign]
    first, late = connect(), connect()
    monitor.add(make_watch(first))
    saying = in_thread(monitor.say_goodbye)
    assert first.peer.read_close().close_code == 1001
    monitor.add(make_watch(late))
    assert late.peer.read_close().close_code == 1001
    for ends in (first, late):
        monitor.remove(ends.connection)
    saying.result(PATIENCE)


def test_the_end_of_the_process_waits_for_handlers_to_end(
    connect: Connect, monitor: Monitor
) -> None:
    ends = connect()
    monitor.add(make_watch(ends))
    saying = in_thread(monitor.say_goodbye)
    ends.peer.answer_close()
    assert not saying.done()
    monitor.remove(ends.connection)

    saying.result(PATIENCE)


def test_the_end_of_the_process_does_not_wait_for_ever(
    connect: Connect, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor_module, "FAREWELL", 0.05)
    monitor.add(make_watch(connect()))

    in_thread(monitor.say_goodbye).result(PATIENCE)


# The process


def test_connections_with_the_same_primitives_share_a_monitor() -> None:
    assert monitor_for(threads) is monitor_for(threads)


def test_connections_with_other_primitives_have_a_monitor_of_their_own(
    keeping: KeepingThreads,
) -> None:
    assert monitor_for(keeping) is not monitor_for(threads)


PREPARE = """
import os, socket, sys
from flask_ws.loop import monitor
from flask_ws.concurrency import threads
from flask_ws.connection.connection import Connection
from flask_ws.loop.keepalive import Watch
from flask_ws.loop.monitor import monitor_for
from flask_ws.protocol.protocol import Protocol
from flask_ws.connection.transport import PlainTransport

# Nobody is there to end a handler.
monitor.FAREWELL = 0.1
sock = socket.socket(fileno=int(sys.argv[1]))
def watch():
    transport = PlainTransport(sock, threads, sock.close)
    connection = Connection(
        transport, Protocol(), concurrency=threads, close_timeout=5, max_queue=16
    )
    monitor_for(threads).add(Watch(
        connection, ping_interval=None, ping_timeout=None, close_timeout=5,
        is_stopping=lambda: False,
    ))
    return connection
"""


def run(script: str) -> tuple[subprocess.Popen[str], Peer]:
    """Run a script in a process of its own, with the server's end of a connection."""
    client, server = socket.socketpair()
    with server:
        process = subprocess.Popen(
            [sys.executable, "-c", PREPARE + textwrap.dedent(script), str(server.fileno())],
            pass_fds=[server.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    return process, Peer(client)


def test_a_process_that_ends_says_goodbye() -> None:
    process, peer = run("connection = watch()\n")
    with peer:
        frame = peer.read_close()
        peer.send_close(1001)
        _, errors = process.communicate(timeout=30)

    assert frame.close_code == 1001
    assert (process.returncode, errors) == (0, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_child_has_a_monitor_of_its_own() -> None:
    process, peer = run(
        """
        import warnings
        warnings.simplefilter("ignore")
        connection = watch()
        parents = monitor_for(threads)
        child = os.fork()
        if child == 0:
            own = monitor_for(threads)
            os._exit(0 if own is not parents and len(own) == 0 else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        """
    )
    with peer:
        peer.answer_close()
        output, errors = process.communicate(timeout=30)

    assert (output, errors) == ("0\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_child_that_ends_leaves_its_parents_connections_alone() -> None:
    process, peer = run(
        """
        import warnings
        warnings.simplefilter("ignore")
        connection = watch()
        child = os.fork()
        if child == 0:
            sys.exit()
        os.waitpid(child, 0)
        connection.sender.send("still here")
        """
    )
    with peer:
        assert peer.read() == "still here"
        peer.answer_close()
        process.communicate(timeout=30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
def test_a_forked_child_can_watch_over_connections() -> None:
    process, peer = run(
        """
        import warnings
        warnings.simplefilter("ignore")
        monitor_for(threads)
        child = os.fork()
        if child == 0:
            connection = watch()
            try:
                connection.receiver.receive()
            except Exception:
                os._exit(0)
        sock.detach()
        os.waitpid(child, 0)
        """
    )
    with peer:
        peer.send_frame(PING)
        assert peer.read_opcode(PONG)
        peer.close()
        process.communicate(timeout=30)
