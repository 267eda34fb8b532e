from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.support.raw import BINARY, Peer
from tests.support.waiting import PATIENCE, until
from tests.unit.conftest import Connect, Ends, KeepingThreads

from flask_ws.concurrency import threads
from flask_ws.connection.sender import Sender
from flask_ws.loop import flusher as flusher_module
from flask_ws.loop.flusher import Flusher, flusher_for
from flask_ws.loop.monitor import monitor_for
from flask_ws.protocol.frames import BytesLike

#: More than the buffers of a socket pair hold.
MUCH = bytes(range(256)) * 8000
FRAME: list[BytesLike] = [b"\x82\x7f" + len(MUCH).to_bytes(8, "big"), MUCH]


class GreenThreads(KeepingThreads):
    """Threads that pretend to be greenlets."""

    name = "green"
    green = True


@pytest.fixture(params=["threads", "greenlets"])
def concurrency(request: pytest.FixtureRequest) -> KeepingThreads:
    return KeepingThreads() if request.param == "threads" else GreenThreads()


@pytest.fixture
def flusher(concurrency: KeepingThreads) -> Iterator[Flusher]:
    flusher = Flusher(concurrency)
    yield flusher
    join(concurrency)


def join(concurrency: KeepingThreads) -> None:
    for thread in concurrency.spawned:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the flusher goes on"


@pytest.fixture
def block(flusher: Flusher, connect: Connect) -> Callable[..., Ends]:
    """Make a connection whose peer has not read what was sent."""

    def block(pair: tuple[socket.socket, socket.socket] | None = None) -> Ends:
        ends = connect(pair)
        ends.connection.sender.when_blocked = flusher.watch
        ends.connection.sender.post(FRAME)
        assert ends.connection.is_sending
        return ends

    return block


def is_drained(peer: Peer) -> bool:
    frame = peer.read_frame()
    return (frame.opcode, frame.payload) == (BINARY, MUCH)


# Sending


def test_what_is_left_is_sent_when_the_peer_reads(block: Callable[..., Ends]) -> None:
    assert is_drained(block().peer)


def test_several_are_served_side_by_side(block: Callable[..., Ends]) -> None:
    ends = [block() for _ in range(5)]
    assert all(is_drained(end.peer) for end in reversed(ends))


def test_who_does_not_read_holds_up_nobody(block: Callable[..., Ends]) -> None:
    stuck, other = block(), block()
    assert is_drained(other.peer)
    assert is_drained(stuck.peer)


def test_a_connection_that_blocks_later_is_served_at_once(
    block: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not at the flusher's next look."""
    with monkeypatch.context() as patched:
        patched.setattr(flusher_module, "LOOK", 10 * PATIENCE)
        stuck = block()
        for _ in range(5):
            assert is_drained(block().peer)
        assert is_drained(stuck.peer)
    # So that it looks again before that time is up.
    assert is_drained(block().peer)


def test_a_connection_can_block_again(block: Callable[..., Ends]) -> None:
    ends = block()
    assert is_drained(ends.peer)
    ends.connection.sender.post(FRAME)
    assert is_drained(ends.peer)


def test_what_was_added_meanwhile_goes_out_too(block: Callable[..., Ends]) -> None:
    ends = block()
    ends.connection.sender.post([b"\x81\x02hi"])
    assert is_drained(ends.peer)
    assert ends.peer.read() == "hi"


def test_to_watch_twice_is_to_watch_once(
    flusher: Flusher, concurrency: KeepingThreads, block: Callable[..., Ends]
) -> None:
    ends = block()
    for _ in range(5):
        flusher.watch(ends.connection.sender)
    assert len(concurrency.spawned) == 1
    assert is_drained(ends.peer)


# Connections that end


def test_a_lost_peer_is_given_up(block: Callable[..., Ends], concurrency: KeepingThreads) -> None:
    ends = block()
    ends.peer.sock.close()
    until(lambda: ends.connection.close_code == 1006)
    join(concurrency)


def test_a_connection_that_was_closed_here_is_forgotten(
    block: Callable[..., Ends], concurrency: KeepingThreads
) -> None:
    block().connection.release()
    join(concurrency)


def test_a_descriptor_that_became_anothers_is_told_apart(
    block: Callable[..., Ends], concurrency: KeepingThreads
) -> None:
    """Each new connection has the number of the one before."""
    stuck, numbers = block(), set()
    for _ in range(5):
        ends = block()
        numbers.add(ends.connection.fd)
        ends.close()
    last = block()
    assert last.connection.fd in numbers
    assert is_drained(last.peer)
    assert is_drained(stuck.peer)
    # Neither is any of the closed ones still watched.
    join(concurrency)


@pytest.mark.parametrize("concurrency", ["threads"], indirect=True)
def test_a_descriptor_that_is_closed_just_now_does_not_end_the_thread(
    block: Callable[..., Ends], monkeypatch: pytest.MonkeyPatch, flusher: Flusher
) -> None:
    stuck, closed = block(), threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(Flusher, "watch", lambda self, connection: None)
        victim = block()
    flush = Sender.flush

    def flush_and_close(self: Sender, *, later: bool = True) -> bool:
        done = flush(self, later=later)
        if self is victim.connection.sender and not later:
            monkeypatch.setattr(Sender, "flush", flush)
            victim.close()
            closed.set()
        return done

    monkeypatch.setattr(Sender, "flush", flush_and_close)
    flusher.watch(victim.connection.sender)
    assert closed.wait(PATIENCE)
    assert is_drained(stuck.peer)


# The thread


@pytest.mark.parametrize("concurrency", ["threads"], indirect=True)
def test_there_is_one_thread_for_all(
    block: Callable[..., Ends], concurrency: KeepingThreads
) -> None:
    ends = [block() for _ in range(5)]
    assert len(concurrency.spawned) == 1
    assert all(is_drained(end.peer) for end in ends)


def test_the_thread_ends_when_all_is_sent(
    block: Callable[..., Ends], concurrency: KeepingThreads
) -> None:
    assert is_drained(block().peer)
    join(concurrency)


def test_the_thread_comes_back(block: Callable[..., Ends], concurrency: KeepingThreads) -> None:
    for _ in range(2):
        assert is_drained(block().peer)
        join(concurrency)
    assert len(concurrency.spawned) == 2


def test_no_descriptor_is_left(block: Callable[..., Ends], concurrency: KeepingThreads) -> None:
    before = len(os.listdir("/dev/fd"))
    ends = block()
    assert is_drained(ends.peer)
    join(concurrency)
    ends.close()
    assert len(os.listdir("/dev/fd")) <= before


def out_of_descriptors(*args: object) -> int:
    raise OSError(errno.EMFILE, "Too many open files")


def test_no_descriptor_is_needed(
    block: Callable[..., Ends], concurrency: KeepingThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    for name, module in (("dup", os), ("socketpair", socket), ("epoll", select)):
        # macOS has no epoll.
        monkeypatch.setattr(module, name, out_of_descriptors, raising=False)
    # Those of greenlets wait on a copy.
    monkeypatch.setattr(Sender, "wait_writable", out_of_descriptors)
    several = [block(pair) for pair in pairs]
    assert all(is_drained(ends.peer) for ends in several)
    join(concurrency)


def test_nothing_stays_watched_after_an_error(
    flusher: Flusher,
    block: Callable[..., Ends],
    concurrency: KeepingThreads,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It costs the one connection."""
    failing, other = block(), block()
    flush = Sender.flush

    def fail(self: Sender, *, later: bool = True) -> bool:
        if self is failing.connection.sender and not later:
            raise BufferError("failed on purpose")
        return flush(self, later=later)

    monkeypatch.setattr(Sender, "flush", fail)
    assert is_drained(other.peer)
    # Until its socket can be written again.
    failing.peer.sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while failing.peer.sock.recv(65536):
            pass
    until(lambda: failing.connection.close_code == 1006)
    join(concurrency)
    assert not flusher._watched
    assert "failed on purpose" in caplog.text


def test_what_waits_goes_out_when_there_are_threads_again(
    flusher: Flusher,
    concurrency: KeepingThreads,
    block: Callable[..., Ends],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where nobody looks at the connection meanwhile, as with an idle event view."""

    def no_thread(self: object, target: object, name: str) -> object:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(type(concurrency), "spawn", no_thread)
        ends = block()
    monitor_for(concurrency)._look()
    assert not flusher._worker.is_running
    monkeypatch.setattr(time, "monotonic", lambda: float("inf"))
    monitor_for(concurrency)._look()
    assert is_drained(ends.peer)


def test_a_connection_is_tried_again_after_a_shortage(
    flusher: Flusher,
    concurrency: KeepingThreads,
    block: Callable[..., Ends],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of threads or of descriptors: whoever flushes next brings it back here."""

    def no_descriptor() -> object:
        raise OSError("too many open files")

    def no_thread(self: object, target: object, name: str) -> object:
        raise RuntimeError("can't start new thread")

    pair = socket.socketpair()
    with monkeypatch.context() as patched:
        patched.setattr(socket, "socketpair", no_descriptor)
        patched.setattr(type(concurrency), "spawn", no_thread)
        ends = block(pair)
    ends.connection.service()
    assert is_drained(ends.peer)


def test_the_flusher_of_a_process_is_one_for_each_kind() -> None:
    green = GreenThreads()
    assert flusher_for(threads) is flusher_for(threads)
    assert flusher_for(threads) is not flusher_for(green)
