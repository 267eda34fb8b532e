from __future__ import annotations

import pytest
from tests.support.raw import BINARY, PING, encode_frame

from flask_ws.concurrency import threads
from flask_ws.flusher import Flusher, flusher_for

from .conftest import Connect, Ends, KeepingThreads

MUCH = bytes(3_000_000)
FRAME = encode_frame(BINARY, MUCH, mask=None)


class Greenlets(KeepingThreads):
    """Threads that pass for greenlets, of which each connection may have one."""

    name = "green"
    green = True


@pytest.fixture(params=[KeepingThreads, Greenlets], ids=["threads", "greenlets"])
def concurrency(request: pytest.FixtureRequest) -> KeepingThreads:
    made: KeepingThreads = request.param()
    return made


@pytest.fixture
def flusher(concurrency: KeepingThreads) -> Flusher:
    return Flusher(concurrency)


def make_ends(connect: Connect, flusher: Flusher) -> Ends:
    ends = connect()
    ends.connection.when_blocked = flusher.watch
    return ends


def test_what_the_kernel_did_not_take_is_sent_when_it_can(
    connect: Connect, flusher: Flusher
) -> None:
    ends = make_ends(connect, flusher)
    ends.connection.post([FRAME])

    assert ends.peer.read() == MUCH


def test_what_is_posted_meanwhile_is_sent_behind_it(connect: Connect, flusher: Flusher) -> None:
    ends = make_ends(connect, flusher)
    ends.connection.post([FRAME])
    ends.connection.post_ping()

    assert ends.peer.read() == MUCH
    assert ends.peer.read_opcode(PING)


def test_a_connection_that_is_blocked_again_is_served_again(
    connect: Connect, flusher: Flusher
) -> None:
    ends = make_ends(connect, flusher)
    for _ in range(3):
        ends.connection.post([FRAME])

        assert ends.peer.read() == MUCH


def test_one_slow_reader_does_not_hold_up_another(connect: Connect, flusher: Flusher) -> None:
    stuck, other = make_ends(connect, flusher), make_ends(connect, flusher)
    stuck.connection.post([FRAME])
    other.connection.post([FRAME])

    assert other.peer.read() == MUCH


def test_many_slow_readers_are_served(connect: Connect, flusher: Flusher) -> None:
    several = [make_ends(connect, flusher) for _ in range(5)]
    for ends in several:
        ends.connection.post([FRAME])

    for ends in several:
        assert ends.peer.read() == MUCH


def test_the_thread_ends_when_there_is_nothing_left(
    connect: Connect, flusher: Flusher, concurrency: KeepingThreads
) -> None:
    ends = make_ends(connect, flusher)
    ends.connection.post([FRAME])
    ends.peer.read()

    concurrency.join()


def test_the_thread_ends_when_the_peer_has_gone(
    connect: Connect, flusher: Flusher, concurrency: KeepingThreads
) -> None:
    ends = make_ends(connect, flusher)
    ends.connection.post([FRAME])
    ends.peer.sock.close()
    concurrency.join()

    assert ends.connection.close_code == 1006


def test_the_thread_ends_when_the_connection_was_released(
    connect: Connect, flusher: Flusher, concurrency: KeepingThreads
) -> None:
    ends = make_ends(connect, flusher)
    ends.connection.post([FRAME])
    ends.connection.release()

    concurrency.join()


def test_a_later_connection_gets_a_thread_again(
    connect: Connect, flusher: Flusher, concurrency: KeepingThreads
) -> None:
    first = make_ends(connect, flusher)
    first.connection.post([FRAME])
    first.peer.read()
    concurrency.join()
    second = make_ends(connect, flusher)
    second.connection.post([FRAME])

    assert second.peer.read() == MUCH


def test_a_descriptor_that_is_another_connections_now_is_served(
    connect: Connect, flusher: Flusher
) -> None:
    for _ in range(10):
        gone = make_ends(connect, flusher)
        gone.connection.post([FRAME])
        gone.connection.release()
        gone.peer.sock.close()
        ends = make_ends(connect, flusher)
        ends.connection.post([FRAME])

        assert ends.peer.read() == MUCH


def test_threads_share_one(connect: Connect, keeping: KeepingThreads) -> None:
    flusher = Flusher(keeping)
    several = [make_ends(connect, flusher) for _ in range(5)]
    for ends in several:
        ends.connection.post([FRAME])

    assert [thread.name for thread in keeping.spawned] == ["flask_ws.Flusher"]
    for ends in several:
        ends.connection.release()


def test_greenlets_are_cheap(connect: Connect) -> None:
    green = Greenlets()
    flusher = Flusher(green)
    several = [make_ends(connect, flusher) for _ in range(5)]
    for ends in several:
        ends.connection.post([FRAME])

    assert len(green.spawned) == 5
    for ends in several:
        ends.connection.release()
    green.join()


def test_connections_with_the_same_primitives_share_a_flusher() -> None:
    assert flusher_for(threads) is flusher_for(threads)


def test_connections_with_other_primitives_have_a_flusher_of_their_own(
    keeping: KeepingThreads,
) -> None:
    assert flusher_for(keeping) is not flusher_for(threads)
