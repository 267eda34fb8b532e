from __future__ import annotations

import logging
import os
import queue
import re
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from tests.support.locks import Watch
from tests.support.memory import MemoryServer
from tests.support.raw import Peer, encode_message
from tests.support.waiting import PATIENCE, until

from flask_ws import Sock, WebSocket, WebSocketView
from flask_ws.concurrency import threads
from flask_ws.connection.connection import Connection
from flask_ws.connection.cork import ENOUGH
from flask_ws.connection.receiver import TURNS
from flask_ws.connection.sender import Sender
from flask_ws.connection.transport import PlainTransport
from flask_ws.label import Label
from flask_ws.loop import reactor as reactor_module
from flask_ws.loop.blocked import BlockedCode
from flask_ws.loop.monitor import monitor_for
from flask_ws.loop.reactor import Reactor, reactor_for_process
from flask_ws.protocol.frames import BytesLike

#: epoll, and what stands in for it on other systems.
POLLERS = ["epoll", "selector"] if hasattr(select, "epoll") else ["other"]


@pytest.fixture(params=POLLERS)
def make(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], Reactor]:
    """Make a reactor that serves the views of this test."""
    # Those of other tests end a while after their last connection.
    until(lambda: not reactor_threads())
    monkeypatch.setattr(reactor_module, "PATIENCE", 0.05)
    if request.param == "selector":
        monkeypatch.delattr(select, "epoll", raising=False)

    def make(workers: int) -> Reactor:
        reactor = Reactor(workers)
        monkeypatch.setitem(reactor_module._reactors._made, None, reactor)
        return reactor

    return make


@pytest.fixture
def connect(server: MemoryServer, app: Flask) -> Iterator[Callable[..., Peer]]:
    def connect(target: str = "/", **kwargs: Any) -> Peer:
        call = server.call(app, target, detachable=True, **kwargs)
        server.accepted(call)
        # Once the server is done, the reactor alone has the connection.
        call.wait()
        return call.peer

    yield connect
    server.close()
    until(lambda: not len(monitor_for(threads)))
    until(lambda: not reactor_threads())


def reactor_threads() -> list[str]:
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if name.startswith("flask_ws.Reactor")]


class Gate:
    """What methods of a view wait at."""

    def __init__(self) -> None:
        self.waiting: queue.Queue[str] = queue.Queue()
        self.open = threading.Event()

    def wait(self) -> None:
        self.waiting.put(threading.current_thread().name)
        assert self.open.wait(PATIENCE)

    def await_one(self) -> str:
        return self.waiting.get(timeout=PATIENCE)


@pytest.fixture
def gate(sock: Sock, connect: Callable[..., Peer]) -> Iterator[Gate]:
    """The gate of the view at /blocking; /echo does not block."""
    gate = Gate()

    @sock.route("/blocking")
    class Blocking(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            gate.wait()
            ws.send(message)

    @sock.route("/echo")
    class Echo(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(message)

    yield gate
    gate.open.set()


# Threads


def test_there_are_as_many_threads_as_workers(
    make: Callable[[int], Reactor], gate: Gate, connect: Callable[..., Peer]
) -> None:
    make(3)
    for _ in range(20):
        connect("/echo")
    assert len(reactor_threads()) == 3


def test_the_threads_end_when_there_is_nothing_to_wait_for(
    make: Callable[[int], Reactor], gate: Gate, connect: Callable[..., Peer]
) -> None:
    make(3)
    connect("/echo").close()
    until(lambda: not reactor_threads())


def test_the_threads_come_back(
    make: Callable[[int], Reactor], gate: Gate, connect: Callable[..., Peer]
) -> None:
    make(2)
    connect("/echo").close()
    until(lambda: not reactor_threads())
    peer = connect("/echo")
    assert peer.echo("hello") == "hello"
    assert len(reactor_threads()) == 2


def test_a_method_that_blocks_holds_one_thread_only(
    make: Callable[[int], Reactor], gate: Gate, connect: Callable[..., Peer]
) -> None:
    make(2)
    blocked, free = connect("/blocking"), connect("/echo")
    blocked.send("hello")
    gate.await_one()
    for _ in range(20):
        assert free.echo("hello") == "hello"
    gate.open.set()
    assert blocked.read() == "hello"


def test_methods_of_different_connections_run_at_once(
    make: Callable[[int], Reactor], gate: Gate, connect: Callable[..., Peer]
) -> None:
    make(3)
    peers = [connect("/blocking") for _ in range(3)]
    for peer in peers:
        peer.send("hello")
    assert len({gate.await_one() for _ in peers}) == 3
    gate.open.set()
    for peer in peers:
        assert peer.read() == "hello"


def test_who_finds_all_threads_blocked_waits(
    make: Callable[[int], Reactor], gate: Gate, connect: Callable[..., Peer]
) -> None:
    make(2)
    blocked, waiting = [connect("/blocking") for _ in range(2)], connect("/echo")
    for peer in blocked:
        peer.send("hello")
        gate.await_one()
    waiting.send("hello")
    waiting.expect_silence(0.1)
    gate.open.set()
    assert waiting.read() == "hello"


def test_what_is_behind_a_blocked_method_is_served_by_another_thread(
    make: Callable[[int], Reactor], gate: Gate, connect: Callable[..., Peer]
) -> None:
    """A thread takes one socket at a time, however many are readable."""
    make(2)
    peers = [connect("/echo") for _ in range(20)]
    blocked = connect("/blocking")
    for peer in peers[:10]:
        peer.send("hello")
    blocked.send("hello")
    for peer in peers[10:]:
        peer.send("hello")
    gate.await_one()
    assert [peer.read() for peer in peers] == ["hello"] * 20


def test_a_thread_that_came_to_help_leaves_when_methods_are_quick_again(
    make: Callable[[int], Reactor], gate: Gate, connect: Callable[..., Peer]
) -> None:
    """One that blocks brings in another; afterwards one reads, and the other looks on."""
    reactor = make(2)
    blocked, free = connect("/blocking"), connect("/echo")
    blocked.send("hello")
    gate.await_one()
    assert free.echo("hello") == "hello"
    assert len(reactor._readers) == 2
    gate.open.set()
    assert blocked.read() == "hello"
    until(lambda: len(reactor._readers) == 1)


def test_methods_that_block_a_little_each_run_at_once(
    make: Callable[[int], Reactor], sock: Sock, connect: Callable[..., Peer]
) -> None:
    names: set[str] = set()

    @sock.route("/")
    class Waits(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            names.add(threading.current_thread().name)
            time.sleep(0.002)
            ws.send(message)

    make(2)
    peers = [connect() for _ in range(10)]
    for turn in range(20):
        for peer in peers:
            peer.send(str(turn))
        assert [peer.read() for peer in peers] == [str(turn)] * 10
    assert len(names) == 2


# What a batch of messages sends


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of what is given to the kernel from now on."""
    sizes: list[int] = []
    try_send = PlainTransport.try_send

    def counted(transport: PlainTransport, data: BytesLike) -> int:
        sizes.append(len(data))
        return try_send(transport, data)

    monkeypatch.setattr(PlainTransport, "try_send", counted)
    return sizes


def batch(*messages: str) -> bytes:
    return b"".join(encode_message(message) for message in messages)


def test_answers_to_a_batch_leave_together(
    make: Callable[[int], Reactor],
    gate: Gate,
    connect: Callable[..., Peer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make(2)
    peer = connect("/echo")
    sizes = count_calls(monkeypatch)
    peer.send_bytes(batch("one", "two", "three"))
    assert [peer.read() for _ in range(3)] == ["one", "two", "three"]
    assert sizes == [5 + 5 + 7]


def test_with_one_thread_nobody_would_see_to_what_is_held_back(
    make: Callable[[int], Reactor],
    gate: Gate,
    connect: Callable[..., Peer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make(1)
    peer = connect("/echo")
    sizes = count_calls(monkeypatch)
    peer.send_bytes(batch("one", "two"))
    assert [peer.read(), peer.read()] == ["one", "two"]
    assert sizes == [5, 5]


def test_what_is_sent_before_a_method_blocks_goes_out_while_it_does(
    make: Callable[[int], Reactor], sock: Sock, gate: Gate, connect: Callable[..., Peer]
) -> None:
    @sock.route("/")
    class Slow(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(f"begun {message!s}")
            gate.wait()

    make(2)
    peer = connect()
    peer.send_bytes(batch("one", "two"))
    assert peer.read() == "begun one"
    gate.open.set()
    assert peer.read() == "begun two"


def test_nothing_is_sent_for_a_method_that_blocks_under_a_lock(
    watch: Watch,
    make: Callable[[int], Reactor],
    sock: Sock,
    gate: Gate,
    connect: Callable[..., Peer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To send may mean to log, and a log handler may do anything."""
    send_held = Sender.send_held

    def send_and_log(sender: Sender) -> None:
        logging.getLogger("flask_ws").warning("by %s", threading.current_thread().name)
        send_held(sender)

    @sock.route("/")
    class Slow(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send("begun")
            gate.wait()

    monkeypatch.setattr(Sender, "send_held", send_and_log)
    make(2)
    peer = connect()
    peer.send_bytes(batch("one", "two"))
    assert peer.read() == "begun"
    assert watch.lines != [f"by {gate.await_one()}"]


def test_much_is_not_held_back(
    make: Callable[[int], Reactor],
    sock: Sock,
    connect: Callable[..., Peer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @sock.route("/")
    class Large(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(bytes(ENOUGH))

    make(2)
    peer = connect()
    sizes = count_calls(monkeypatch)
    peer.send_bytes(batch("one", "two"))
    assert [peer.read(), peer.read()] == [bytes(ENOUGH)] * 2
    assert len(sizes) == 2


def test_what_is_held_back_goes_out_before_a_close_frame(
    make: Callable[[int], Reactor], sock: Sock, connect: Callable[..., Peer]
) -> None:
    @sock.route("/")
    class Last(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(message)
            if message == "two":
                ws.close(4000)

    make(2)
    peer = connect()
    peer.send_bytes(batch("one", "two", "three"))
    assert [peer.read(), peer.read()] == ["one", "two"]
    assert peer.answer_close().close_code == 4000


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_no_two_threads_serve_one_connection(
    make: Callable[[int], Reactor], sock: Sock, connect: Callable[..., Peer], workers: int
) -> None:
    overlaps: list[object] = []

    @sock.route("/")
    class View(WebSocketView):
        def __init__(self) -> None:
            self.running, self.next = threading.Lock(), 0

        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            if not self.running.acquire(False):
                overlaps.append(message)
                return
            if int(message) != self.next:
                overlaps.append((message, self.next))
            self.next += 1
            # Lets another thread come in, if it could.
            time.sleep(0)
            self.running.release()
            if self.next == 200:
                ws.send("all")

    make(workers)
    peers = [connect() for _ in range(5)]
    for number in range(200):
        for peer in peers:
            peer.send(str(number))
    for peer in peers:
        assert peer.read() == "all"
    assert overlaps == []


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_ctrl_c_during_the_hand_over_does_not_end_a_connection(
    make: Callable[[int], Reactor],
    sock: Sock,
    app: Flask,
    server: MemoryServer,
    connect: Callable[..., Peer],
    late: bool,
) -> None:
    """Before or after the reactor may read from it; what ends it is the end of the process."""
    reactor = make(2)
    claims = reactor._claims
    let_go = claims.let_go

    def interrupt(fd: int) -> None:
        claims.let_go = let_go  # type: ignore[method-assign]
        if late:
            let_go(fd)
        raise KeyboardInterrupt

    claims.let_go = interrupt  # type: ignore[method-assign]

    @sock.route("/")
    class Echo(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send(message)

    call = server.call(app, detachable=True)
    server.accepted(call)
    with pytest.raises(KeyboardInterrupt):
        call.wait()
    assert call.peer.echo("hello") == "hello"
    call.peer.close()


class Quiet:
    """A conversation that has nothing to say."""

    fd = 5
    label = Label("quiet")
    at_work = 0.0
    has_more = False
    served = 0
    ended = False

    def serve(self, *, read: bool = True, cork: object = None) -> bool:
        self.served += 1
        return True

    def give_up(self) -> None:
        pass

    def stop_lingering(self) -> None:
        pass


def test_a_stale_event_does_not_serve_the_descriptors_new_connection() -> None:
    """It comes between the claim and the look, and claims its number itself."""
    reactor, new = Reactor(1), Quiet()

    class Late(dict[int, Any]):
        def get(self, fd: int, default: Any = None) -> Any:
            reactor._claims.claimed[fd] = new
            self[fd] = new, lambda: None
            return super().get(fd, default)

    reactor._conversations = Late()
    reactor._serve(5, "of the one before", None)
    assert new.served == 0
    assert reactor._claims.claimed == {5: new}


class Script:
    """A poller that reports what the test says, and then ends the thread."""

    sees_aborts = True

    def __init__(self, *readable: list[int]) -> None:
        self.readable = list(readable)
        self.timeouts: list[float] = []

    def wait(self, timeout: float) -> list[int]:
        self.timeouts.append(timeout)
        if not self.readable:
            raise EOFError
        return self.readable.pop(0)


def test_a_flooding_socket_does_not_keep_others_waiting() -> None:
    """What is readable by then goes first; and nobody waits for what is at hand."""
    reactor, served = Reactor(1), []

    class Talkative(Quiet):
        def __init__(self, fd: int, turns: int) -> None:
            self.fd, self.turns = fd, turns

        def serve(self, *, read: bool = True, cork: object = None) -> bool:
            served.append(self.fd)
            self.turns -= 1
            return True

        @property
        def has_more(self) -> bool:  # type: ignore[override]
            return self.turns > 0

    for fd, turns in ((5, 4), (6, 1)):
        reactor._conversations[fd] = Talkative(fd, turns), lambda: None
    poller = Script([5], [6], [6, 5], [])
    reactor._poller = poller  # type: ignore[assignment]
    with pytest.raises(EOFError):
        reactor._read()

    assert served == [5, 6, 5, 6, 5, 5]
    assert poller.timeouts[1:4] == [0, 0, 0]


def test_what_is_at_hand_can_be_claimed_by_any_thread() -> None:
    """No event would report it again to the thread that had to leave it."""
    reactor, claimed = Reactor(2), []

    class AtHand(deque[int]):
        def append(self, fd: int) -> None:
            claimed.append(fd in reactor._claims.claimed)
            super().append(fd)

    class Talkative(Quiet):
        has_more = True

    reactor._at_hand = AtHand()
    reactor._conversations[5] = Talkative(), lambda: None
    reactor._serve(5, [0], None)
    assert claimed == [False]


def test_all_that_came_with_the_handshake_is_handled(
    make: Callable[[int], Reactor], sock: Sock, connect: Callable[..., Peer]
) -> None:
    """More than one turn's worth, and nothing after it."""

    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            if message == "last":
                ws.send("done")

    make(1)
    peer = connect(read_ahead=batch(*["x"] * (3 * TURNS), "last"))
    assert peer.read() == "done"


def test_a_batch_of_messages_does_not_hold_up_others(
    make: Callable[[int], Reactor], sock: Sock, connect: Callable[..., Peer]
) -> None:
    called: list[str | bytes] = []

    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            if not called:
                other.send("other")
            called.append(message)
            if message == "last":
                ws.send("done")

    make(1)
    peer, other = connect(), connect()
    peer.send_bytes(batch(*["x"] * 250, "last"))
    assert peer.read() == "done"
    assert called.index("other") <= 2 * TURNS


@pytest.mark.parametrize("workers", [1, 2])
def test_a_thread_survives_an_error_of_its_own(
    make: Callable[[int], Reactor],
    gate: Gate,
    connect: Callable[..., Peer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    workers: int,
) -> None:
    reactor = make(workers)
    peer = connect("/echo")
    poller, failed = reactor._poller, threading.Event()
    wait = poller.wait

    def fail(timeout: float) -> list[int]:
        poller.wait = wait  # type: ignore[method-assign]
        failed.set()
        raise OSError("failed on purpose")

    poller.wait = fail  # type: ignore[method-assign]
    assert failed.wait(PATIENCE)
    assert peer.echo("hello") == "hello"
    # Another thread may have answered before this one has said so.
    until(lambda: "failed on purpose" in caplog.text)
    until(lambda: len(reactor_threads()) == workers)


def test_a_connection_that_cannot_be_unregistered_is_released(
    make: Callable[[int], Reactor],
    gate: Gate,
    connect: Callable[..., Peer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reactor = make(1)

    def fail(fd: int) -> None:
        raise KeyError(fd)

    monkeypatch.setattr(type(reactor._poller), "unregister", lambda self, fd: fail(fd))
    peer, other = connect("/echo"), connect("/echo")
    peer.close()
    assert other.echo("hello") == "hello"


def test_a_system_without_threads_makes_do_with_fewer(
    make: Callable[[int], Reactor],
    gate: Gate,
    connect: Callable[..., Peer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name == "flask_ws.Reactor-2":
            raise RuntimeError("can't start new thread")
        start(thread)

    make(2)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        assert connect("/echo").echo("hello") == "hello"
        assert len(reactor_threads()) == 1


def test_a_system_without_any_thread_gives_503(
    make: Callable[[int], Reactor],
    gate: Gate,
    app: Flask,
    server: MemoryServer,
    connect: Callable[..., Peer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    start = threading.Thread.start

    def fail(thread: threading.Thread) -> None:
        if thread.name.startswith("flask_ws.Reactor"):
            raise RuntimeError("can't start new thread")
        start(thread)

    make(2)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        assert server.refuse(app, "/echo", detachable=True).status == 503
    assert "no more threads" in caplog.text
    assert len(monitor_for(threads)) == 0
    assert connect("/echo").echo("hello") == "hello"


def test_threads_that_were_expecting_a_connection_end(
    make: Callable[[int], Reactor], gate: Gate
) -> None:
    reactor = make(2)
    reactor.expect()
    until(lambda: len(reactor_threads()) == 2)
    reactor.stop_expecting()
    until(lambda: not reactor_threads())


# Connections


def test_what_came_with_the_handshake_is_served_at_once(
    make: Callable[[int], Reactor], gate: Gate, connect: Callable[..., Peer]
) -> None:
    make(1)
    assert connect("/echo", read_ahead=encode_message("early")).read() == "early"


def test_what_comes_while_a_method_runs_is_not_missed(
    make: Callable[[int], Reactor], gate: Gate, connect: Callable[..., Peer]
) -> None:
    make(1)
    peer = connect("/blocking")
    peer.send("one")
    gate.await_one()
    peer.send("two")
    gate.open.set()
    assert [peer.read(), peer.read()] == ["one", "two"]


def test_descriptors_that_were_used_before_serve_again(
    make: Callable[[int], Reactor], gate: Gate, connect: Callable[..., Peer]
) -> None:
    make(2)
    for _ in range(50):
        peer = connect("/echo")
        assert peer.echo("hello") == "hello"
        peer.close()


def test_no_descriptor_is_left(
    make: Callable[[int], Reactor], gate: Gate, connect: Callable[..., Peer]
) -> None:
    make(2)
    connect("/echo").close()
    until(lambda: not len(monitor_for(threads)))
    before = len(os.listdir("/dev/fd"))
    for number in range(20):
        peer = connect("/echo")
        if number % 2:
            peer.close()
        peer.sock.close()
    until(lambda: len(os.listdir("/dev/fd")) <= before)


def test_a_connection_that_cannot_be_seen_off_does_not_end_the_thread(
    make: Callable[[int], Reactor],
    gate: Gate,
    connect: Callable[..., Peer],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make(1)
    peer, other = connect("/echo"), connect("/echo")
    release = Connection.release

    def fail(connection: Connection) -> None:
        monkeypatch.setattr(Connection, "release", release)
        release(connection)
        raise OSError("failed on purpose")

    monkeypatch.setattr(Connection, "release", fail)
    peer.close()
    assert other.echo("hello") == "hello"
    assert [record for record in caplog.records if record.exc_info]


def test_the_reactor_of_a_process_is_one(
    make: Callable[[int], Reactor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(reactor_module._reactors._made, None, raising=False)
    reactor = reactor_for_process(2)
    assert reactor_for_process(5) is reactor


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_a_reactor_of_its_own(
    make: Callable[[int], Reactor],
) -> None:
    """Its parent's threads are not there."""
    reactor = make(1)
    mine, theirs = socket.socketpair()
    with mine, theirs:
        mine.settimeout(PATIENCE)
        child = os.fork()
        if child == 0:
            try:
                theirs.send(b"own" if reactor_for_process(1) is not reactor else b"parent's")
            finally:
                os._exit(0)
        assert mine.recv(100) == b"own"
        os.waitpid(child, 0)


def test_it_is_told_of_methods_that_hold_all_threads(
    make: Callable[[int], Reactor],
    gate: Gate,
    connect: Callable[..., Peer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With the line of the app that they stand on."""
    reactor, now = make(2), time.monotonic()
    one, other = connect("/blocking"), connect("/blocking")
    one.send("hello")
    gate.await_one()
    BlockedCode().look_at_reactor(now + 10, reactor)
    assert not caplog.records
    other.send("hello")
    gate.await_one()
    BlockedCode().look_at_reactor(now + 10, reactor)
    (record,) = caplog.records
    assert "a method of Blocking has held its thread for " in record.getMessage()
    assert re.search(r"test_reactor\.py:\d+ in wait; all 2 SOCK_WORKERS", record.getMessage())
