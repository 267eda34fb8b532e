"""Calls that an exception from outside interrupts: the stream stays whole, or is given up."""

from __future__ import annotations

import inspect
import random
import select
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import gevent
import gevent.socket
import pytest
from tests.support.memory import in_thread, tcp_pair
from tests.support.raw import BINARY, Peer, encode_frame
from tests.support.waiting import PATIENCE
from tests.unit.conftest import MUCH, TLS, Connect, Ends, closed_now, tls_pair

from flask_ws import Concurrency
from flask_ws.concurrency import threads
from flask_ws.connection.connection import Connection
from flask_ws.connection.endpoint import Endpoint
from flask_ws.connection.tls import TLSTransport
from flask_ws.connection.transport import PlainTransport
from flask_ws.loop.flusher import Flusher
from flask_ws.protocol.deflate import Deflate, DeflateParameters
from flask_ws.protocol.frames import BytesLike
from flask_ws.protocol.protocol import Protocol
from flask_ws.protocol.shared import SharedMessage
from flask_ws_gevent.greenlets import greenlets as gevent_greenlets

#: Greenlets on pairs of Unix sockets.
pytestmark = pytest.mark.unix

with warnings.catch_warnings():
    # Eventlet says that it is deprecated.
    warnings.simplefilter("ignore")
    import eventlet
    import eventlet.green.socket

    from flask_ws_eventlet.greenlets import greenlets as eventlet_greenlets

#: Where threads wait for sockets.
#: Where a thread stands that waits for a socket.
waiting_files = {inspect.getfile(each) for each in (Concurrency, PlainTransport)}
#: Enough to be stuck in.
MOMENT = 0.05


class Interrupt(BaseException):
    """What a signal's handler raises here."""


@contextmanager
def alarm(kind: type[BaseException] = Interrupt) -> Iterator[None]:
    """Let SIGALRM raise an exception in the main thread."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise kind

    before = signal.signal(signal.SIGALRM, handle)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def interrupted(
    stuck: Callable[[], object], kind: type[BaseException] = Interrupt
) -> Iterator[None]:
    """Raise an exception in the main thread as soon as it waits for a socket.

    :param stuck: tells whether it will go on waiting; asked several times.
    """
    main = threading.get_ident()
    ended = threading.Event()

    def watch() -> None:
        seen = 0
        while seen < 5 and not ended.wait(MOMENT / 5):
            is_waiting = sys._current_frames()[main].f_code.co_filename in waiting_files
            seen = seen + 1 if is_waiting and stuck() else 0
        if not ended.is_set():
            signal.pthread_kill(main, signal.SIGALRM)

    with alarm(kind):
        watching = in_thread(watch)
        try:
            yield
        finally:
            ended.set()
            watching.result(PATIENCE)


def takes_nothing(ends: Other | Ends) -> bool:
    """Whether the kernel has no more room for what is sent."""
    return not select.select([], [ends.connection.fd], [], 0)[1]


@pytest.fixture(params=["plain", "TLS"])
def pair(request: pytest.FixtureRequest, tls: TLS) -> tuple[socket.socket, socket.socket]:
    return tls_pair(tls) if request.param == "TLS" else tcp_pair()


class Other:
    """A server's connection on any kind of socket, and the client at its other end."""

    def __init__(
        self,
        pair: tuple[socket.socket, Any],
        concurrency: Concurrency = threads,
        protocol: Protocol | None = None,
    ) -> None:
        self.peer = Peer(pair[0], timeout=PATIENCE)
        sock = pair[1]
        make = TLSTransport if hasattr(sock, "_sslobj") else PlainTransport
        self.connection = Connection(
            make(sock, concurrency, sock.close),
            protocol or Protocol(),
            concurrency=concurrency,
            close_timeout=5,
            max_queue=16,
        )
        self.connection.sender.when_blocked = Flusher(concurrency).watch
        self.ws = Endpoint(self.connection)

    def close(self) -> None:
        self.peer.sock.close()
        self.connection.release()


@pytest.fixture
def ends(pair: tuple[socket.socket, socket.socket]) -> Iterator[Other]:
    ends = Other(pair)
    yield ends
    ends.close()


# By a signal


def stick_in_send(ends: Other | Ends, data: BytesLike = MUCH) -> pytest.ExceptionInfo[Interrupt]:
    """Interrupt a send to a peer that does not read."""
    with pytest.raises(Interrupt) as caught, interrupted(lambda: takes_nothing(ends)):
        ends.ws.send(data)
    return caught


def test_a_message_whose_sender_was_interrupted_arrives_whole(ends: Other) -> None:
    stick_in_send(ends)
    sending = in_thread(ends.ws.send, "next")

    assert ends.peer.read() == MUCH
    assert ends.peer.read() == "next"
    sending.result(PATIENCE)


def test_it_goes_on_though_nothing_more_is_sent(ends: Other) -> None:
    stick_in_send(ends)

    assert ends.peer.read() == MUCH


def test_a_message_may_be_interrupted_again_and_again(ends: Other) -> None:
    """The next to send is stuck with the rest of it, and has not begun itself."""
    for _ in range(3):
        stick_in_send(ends)
    reading = in_thread(ends.peer.read)
    ends.ws.send("next")

    assert reading.result(PATIENCE) == MUCH
    assert ends.peer.read() == "next"


def test_a_message_that_is_changed_after_an_interruption_arrives_as_it_was(ends: Other) -> None:
    data = bytearray(MUCH)
    stick_in_send(ends, data)
    data[:] = b"x" * len(data)

    assert ends.peer.read() == MUCH


@pytest.mark.parametrize("kind", [bytearray, lambda data: memoryview(bytearray(data))])
def test_an_interruption_that_is_kept_does_not_keep_the_message(
    ends: Other, kind: Callable[[bytes], Any]
) -> None:
    """A bytearray that somebody looks into cannot be resized."""
    data = kind(MUCH)
    caught = stick_in_send(ends, data)
    owner: Any = data.obj if isinstance(data, memoryview) else data
    if isinstance(data, memoryview):
        data.release()
    owner.extend(b"more")

    assert caught.value.__traceback__ is not None


def test_an_interrupted_connection_can_be_closed(ends: Other) -> None:
    stick_in_send(ends)
    closing = in_thread(ends.ws.close, 4000)

    assert ends.peer.read() == MUCH
    assert ends.peer.answer_close().close_code == 4000
    closing.result(PATIENCE)


def test_an_interruption_leaves_no_thread_behind(ends: Other) -> None:
    stick_in_send(ends)

    in_thread(ends.connection.release).result(PATIENCE)


def test_compressed_messages_go_on_after_an_interruption() -> None:
    """What follows builds on what was interrupted."""
    parameters = DeflateParameters()
    pair = tcp_pair()
    pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
    ends = Other(pair, protocol=Protocol(deflate=Deflate(parameters, client=False, max_size=None)))
    client = Protocol(client=True, deflate=Deflate(parameters, client=True, max_size=None))
    noise = random.Random(1).randbytes(1_000_000)
    stick_in_send(ends, noise)
    sending = in_thread(ends.ws.send, noise[-10_000:] * 2)
    received: list[object] = []
    while len(received) < 2:
        client.receive_data(ends.peer.sock.recv(65536))
        while (event := client.next_event()) is not None:
            received.append(event)
    sending.result(PATIENCE)

    assert received == [noise, noise[-10_000:] * 2]
    ends.close()


def test_a_timeout_that_a_signals_handler_raises_is_its_callers(ends: Other) -> None:
    """And does not count as the socket's own."""
    with pytest.raises(TimeoutError), interrupted(lambda: takes_nothing(ends), TimeoutError):
        ends.ws.send(MUCH)

    assert ends.connection.connected
    assert ends.peer.read() == MUCH


@pytest.mark.parametrize("timeout", [None, PATIENCE])
def test_a_receiver_that_was_interrupted_receives_on(ends: Other, timeout: float | None) -> None:
    """In the middle of a large message, and though the exception is kept."""
    data = bytes(range(256)) * 800
    frame = encode_frame(BINARY, data)
    half = len(frame) // 2
    ends.peer.send_bytes(frame[:half])
    with (
        pytest.raises(Interrupt) as caught,
        interrupted(lambda: ends.connection.bytes_received == half),
    ):
        ends.ws.receive(timeout)
    ends.peer.send_bytes(frame[half:])

    assert ends.ws.receive() == data
    assert caught.value.__traceback__ is not None


def test_signals_at_any_time_break_no_stream(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever instruction they hit: the peer sees whole messages, or the end."""
    # Some hit a callback of the garbage collector's, which says so there.
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    chance = random.Random(2)
    interruptions = 0
    while interruptions < 150:
        ends = connect(tcp_pair())
        seen: list[object] = []

        def read(ends: Ends = ends, seen: list[object] = seen) -> None:
            try:
                while True:
                    seen.append(ends.peer.read())
            except Exception as error:
                seen.append(error)

        reading = in_thread(read)
        sent: list[bytes] = []
        deadline = time.monotonic() + PATIENCE
        while ends.connection.connected and len(sent) < 400 and time.monotonic() < deadline:
            message = bytes([chance.randrange(256)]) * chance.choice((1, 100, 3000, 300_000))
            sent.append(message)
            try:
                with alarm():
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00001, 0.0003))
                    ends.ws.send(message)
            except Interrupt:
                interruptions += 1
            except Exception:
                break
        in_thread(ends.connection.release).result(PATIENCE)
        reading.result(PATIENCE)
        messages = [message for message in seen if isinstance(message, bytes)]
        # Those that were interrupted may be missing, and none is in the place of another.
        remaining = iter(sent)
        assert all(message in remaining for message in messages)


# Where an exception comes between two steps of our own


def test_a_compressor_that_was_interrupted_is_used_no_more(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may know more than the peer's inflator."""
    deflate = Deflate(DeflateParameters(), client=False, max_size=None)
    ends = connect(protocol=Protocol(deflate=deflate))

    def fail(data: object, **kwargs: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(type(deflate), "deflate", lambda self, data: fail(data))
    with pytest.raises(MemoryError):
        ends.ws.send("x" * 1000)

    assert closed_now(ends.ws.send, "next").code == 1006


def test_a_message_that_was_refused_leaves_the_compressor_as_it_was(connect: Connect) -> None:
    deflate = Deflate(DeflateParameters(), client=False, max_size=None)
    ends = connect(protocol=Protocol(deflate=deflate))
    refused: list[Any] = [{}, "\ud800" * 1000]
    for wrong in refused:
        with pytest.raises((TypeError, ValueError)):
            ends.ws.send(wrong)

    assert ends.connection.connected


Send = Callable[[Ends], object]

SENDERS: dict[str, Send] = {
    "send": lambda ends: ends.ws.send("hello"),
    "send_nowait": lambda ends: ends.connection.sender.send_nowait("hello"),
    "send_shared": lambda ends: ends.connection.sender.send_shared(SharedMessage(0x81, b"hello")),
    "post": lambda ends: ends.connection.sender.post([b"\x81\x05hello"]),
    "close": lambda ends: ends.connection.go_away(1001, ""),
}


@pytest.mark.parametrize("name", SENDERS)
def test_a_send_of_unknown_outcome_loses_the_connection(
    connect: Connect, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = connect()

    class Interrupting:
        """Interrupts whoever sends when the kernel has taken it."""

        def send(self, data: BytesLike, flags: int) -> int:
            ends.sock.send(data[:3])
            raise Interrupt

        def __getattr__(self, attribute: str) -> Any:
            return getattr(raw, attribute)

    raw = ends.transport._raw
    ends.transport._raw = Interrupting()  # type: ignore[assignment]
    with pytest.raises(Interrupt):
        SENDERS[name](ends)
    ends.transport._raw = raw

    assert ends.connection.close_code == 1006
    assert not ends.connection.is_sending


def test_an_interruption_of_unknown_outcome_does_not_keep_the_message(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = connect()

    def interrupt(transport: PlainTransport, data: BytesLike) -> int:
        transport.unsure = True
        raise Interrupt

    monkeypatch.setattr(PlainTransport, "try_send", interrupt)
    owner = bytearray(100_000)
    with memoryview(owner) as data, pytest.raises(Interrupt) as caught:
        ends.ws.send(data)
    owner.extend(b"more")

    assert ends.connection.close_code == 1006
    assert caught.value.__traceback__ is not None


@pytest.mark.parametrize("name", SENDERS)
def test_nobody_waits_for_a_sender_that_was_interrupted(
    connect: Connect, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = connect()

    def interrupt(data: BytesLike) -> int:
        raise Interrupt

    with monkeypatch.context() as patched:
        for method in ("try_send", "send"):
            patched.setattr(type(ends.transport), method, lambda self, data: interrupt(data))
        with pytest.raises(Interrupt):
            SENDERS[name](ends)

    in_thread(ends.connection.release).result(PATIENCE)


# By another greenlet


class Green:
    """What gevent and Eventlet have in common here."""

    def __init__(self, name: str) -> None:
        self.lib: Any = gevent if name == "gevent" else eventlet
        self.concurrency: Concurrency = gevent_greenlets if name == "gevent" else eventlet_greenlets
        client, server = tcp_pair()
        if name == "gevent":
            sock: Any = gevent.socket.socket(server.family, server.type, fileno=server.detach())
        else:
            sock = eventlet.green.socket.socket(server)
        self.ends = Other((client, sock), self.concurrency)
        self.ws = self.ends.ws

    def wait(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function that waits in a thread, and let the greenlets run."""
        future = in_thread(function, *args)
        deadline = time.monotonic() + PATIENCE
        while not future.done() and time.monotonic() < deadline:
            self.lib.sleep(0.01)
        return future.result(0)

    def interrupt(self, how: str, function: Callable[..., Any], *args: Any) -> BaseException:
        """Interrupt a call that waits; return the exception that it ended with."""
        ended: list[BaseException] = []

        def run() -> None:
            try:
                if how == "timeout":
                    with self.lib.Timeout(MOMENT):
                        function(*args)
                else:
                    function(*args)
            except BaseException as error:
                ended.append(error)

        greenlet = self.lib.spawn(run)
        self.lib.sleep(2 * MOMENT)
        if how == "kill":
            self.lib.kill(greenlet)
        deadline = time.monotonic() + PATIENCE
        while not ended and time.monotonic() < deadline:
            self.lib.sleep(0.01)
        return ended[0]


@pytest.fixture(params=["gevent", "eventlet"])
def green(request: pytest.FixtureRequest) -> Iterator[Green]:
    green = Green(request.param)
    yield green
    green.ends.close()
    green.lib.sleep(0.05)


@pytest.mark.parametrize("how", ["timeout", "kill"])
def test_a_message_whose_greenlet_was_interrupted_arrives_whole(green: Green, how: str) -> None:
    error = green.interrupt(how, green.ws.send, MUCH)

    assert not isinstance(error, Exception)
    assert green.wait(green.ends.peer.read) == MUCH
    green.ws.send("next")
    assert green.ends.peer.read() == "next"


@pytest.mark.parametrize("how", ["timeout", "kill"])
def test_a_greenlet_that_was_interrupted_in_receive_receives_on(green: Green, how: str) -> None:
    data = bytes(range(256)) * 800
    frame = encode_frame(BINARY, data)
    green.ends.peer.send_bytes(frame[: len(frame) // 2])
    error = green.interrupt(how, green.ws.receive)
    green.ends.peer.send_bytes(frame[len(frame) // 2 :])

    assert green.ws.receive() == data
    assert error.__traceback__ is not None


@pytest.mark.parametrize("how", ["timeout", "kill"])
def test_a_greenlet_that_was_interrupted_while_it_waited_for_its_turn(
    green: Green, how: str
) -> None:
    """Another is stuck in the middle of a message."""
    first = green.lib.spawn(green.ws.send, MUCH)
    green.lib.sleep(MOMENT)
    green.interrupt(how, green.ws.send, "never")
    assert green.wait(green.ends.peer.read) == MUCH
    green.ws.send("next")

    assert green.ends.peer.read() == "next"
    green.lib.kill(first)


@pytest.mark.parametrize("how", ["timeout", "kill"])
def test_a_closing_greenlet_that_was_interrupted_holds_up_nobody(green: Green, how: str) -> None:
    green.interrupt(how, green.ws.close, 4000)

    assert green.ends.peer.read_close().close_code == 4000
    green.ends.connection.release()
