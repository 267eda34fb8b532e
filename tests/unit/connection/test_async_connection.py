"""A connection on an asyncio loop, and a blocking peer at its other end, plain and TLS."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import importlib.util
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
from tests.support.memory import tcp_pair
from tests.support.raw import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Peer,
    encode_frame,
    encode_message,
)
from tests.support.waiting import PATIENCE, until
from tests.unit.conftest import MUCH, TLS, tls_pair

from flask_ws import ConnectionClosed
from flask_ws.connection.async_connection import AsyncConnection
from flask_ws.connection.receiver import TURNS
from flask_ws.connection.tls import TLSTransport
from flask_ws.connection.tls_stream import TLSStream
from flask_ws.loop.asyncio_loop import AsyncioLoop, asyncio_primitives
from flask_ws.protocol.deflate import Deflate, DeflateParameters
from flask_ws.protocol.frames import BytesLike
from flask_ws.protocol.incoming import FRAGMENTS
from flask_ws.protocol.protocol import Protocol
from flask_ws.protocol.shared import SharedMessage
from flask_ws.system import LINUX

T = TypeVar("T")

#: uvloop, which is written in C, calls a protocol at moments of its own.
LOOPS = ["asyncio", "uvloop"] if importlib.util.find_spec("uvloop") else ["asyncio"]


@pytest.fixture(scope="module", params=LOOPS)
def loop(request: pytest.FixtureRequest) -> Iterator[AsyncioLoop]:
    loop = AsyncioLoop(uvloop=request.param == "uvloop")

    async def begin() -> None:
        """Its thread is there when there is something to run."""

    loop.start(begin, contextvars.copy_context(), "begin")
    yield loop
    loop.end()


class Ends:
    """A connection on the loop, and the peer."""

    def __init__(
        self,
        loop: AsyncioLoop,
        pair: tuple[socket.socket, socket.socket],
        *,
        protocol: Protocol | None = None,
        head: bytes = b"",
        early: bytes = b"",
        close_timeout: float = 5.0,
        max_queue: int = 16,
        max_outbox: int = 2**20,
    ) -> None:
        self.loop = loop
        client, self.sock = pair
        self.peer = Peer(client)
        self.connection = AsyncConnection(
            protocol or Protocol(),
            loop=loop.loop,
            home=loop.home,
            concurrency=asyncio_primitives,
            close_timeout=close_timeout,
            max_queue=max_queue,
            max_outbox=max_outbox,
        )
        self.connection.begin(head, early)
        self.released = concurrent.futures.Future[None]()
        self.connection.owner = self
        self.run(self._take())

    async def _take(self) -> None:
        self.connection.fd = self.sock.fileno()
        if hasattr(self.sock, "_sslobj"):
            transport = TLSTransport(self.sock, asyncio_primitives, self.sock.close)
            TLSStream(self.loop.loop, transport, self.connection)
        else:
            self.sock.setblocking(False)
            await self.loop.loop.connect_accepted_socket(lambda: self.connection, self.sock)

    def on_closed(self) -> None: ...

    def on_time_up(self) -> None: ...

    def on_released(self, connection: AsyncConnection) -> None:
        self.released.set_result(None)

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Begin with something on the loop, and return when it waits."""
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop.loop)
        self.settle()
        return future

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop.loop).result(PATIENCE)

    def settle(self) -> None:
        """Let the loop do what it has to do."""
        for _ in range(3):
            self.run(asyncio.sleep(0))

    def call(self, function: Callable[..., T], *args: Any) -> T:
        async def call() -> T:
            return function(*args)

        return self.run(call())

    def close(self) -> None:
        self.peer.sock.close()
        self.connection.lose("the test is over")
        self.released.result(PATIENCE)
        self.connection.drop_messages()


Connect = Callable[..., Ends]


@pytest.fixture(params=["plain", "tls"])
def connect(loop: AsyncioLoop, tls: TLS, request: pytest.FixtureRequest) -> Iterator[Connect]:
    made: list[Ends] = []

    def connect(**options: Any) -> Ends:
        pair = socket.socketpair() if request.param == "plain" else tls_pair(tls)
        ends = Ends(loop, pair, **options)
        made.append(ends)
        return ends

    yield connect
    for ends in made:
        ends.close()


def closed(future: concurrent.futures.Future[Any]) -> ConnectionClosed:
    error = future.exception(PATIENCE)
    assert isinstance(error, ConnectionClosed)
    return error


# Receiving


@pytest.mark.parametrize("message", ["", "text \U0001f9e6", b"", b"\x00\xff" * 100_000])
def test_messages_are_received(connect: Connect, message: str | bytes) -> None:
    ends = connect(protocol=Protocol(max_message_size=None))
    ends.peer.send(message)
    assert ends.run(ends.connection.receive()) == message


def test_messages_are_received_in_order_whether_awaited_or_not(connect: Connect) -> None:
    ends = connect(max_queue=4)
    first = ends.begin(ends.connection.receive())
    ends.peer.send_bytes(b"".join(encode_message(str(number)) for number in range(100)))
    assert first.result(PATIENCE) == "0"

    async def receive() -> list[Any]:
        return [await ends.connection.receive() for _ in range(99)]

    assert ends.run(receive()) == [str(number) for number in range(1, 100)]


def test_what_came_with_the_handshake_is_received(connect: Connect) -> None:
    ends = connect(head=b"HEAD", early=encode_message("early"))
    assert ends.peer.take(4) == b"HEAD"
    assert ends.run(ends.connection.receive()) == "early"


def test_peer_is_pushed_back_when_enough_messages_wait(connect: Connect) -> None:
    ends = connect(max_queue=4)
    frame = encode_message(bytes(10_000))
    with ends.peer.waiting(0.3), pytest.raises(TimeoutError):
        ends.peer.send_bytes(frame * 1000)
    assert ends.connection.messages_received == 4

    async def receive() -> int:
        return sum([len(await ends.connection.receive()) for _ in range(8)])

    assert ends.run(receive()) == 8 * 10_000


def test_receive_with_a_timeout_returns_none(connect: Connect) -> None:
    ends = connect()
    assert ends.run(ends.connection.receive(0.01)) is None
    ends.peer.send("later")
    assert ends.run(ends.connection.receive(PATIENCE)) == "later"


def test_receive_with_a_timeout_of_0_takes_what_the_kernel_has(loop: AsyncioLoop) -> None:
    ends = Ends(loop, tcp_pair())
    assert ends.run(ends.connection.receive(0)) is None

    async def receive() -> Any:
        # Sent and received within one turn of the loop, which has not seen it.
        ends.peer.send("there")
        return await ends.connection.receive(0)

    assert ends.run(receive()) == "there"
    ends.close()


def test_second_receiver_is_told_so(connect: Connect) -> None:
    ends = connect()
    first = ends.begin(ends.connection.receive())
    with pytest.raises(RuntimeError, match="Another task is in receive"):
        ends.run(ends.connection.receive())
    ends.peer.send("for the first")
    assert first.result(PATIENCE) == "for the first"


def test_cancelled_receiver_loses_no_message(connect: Connect) -> None:
    """Cancelled at any moment: before the message, and when it has been handed over already."""
    ends = connect()
    for turns in range(4):

        async def receive_and_cancel(turns: int = turns) -> object:
            task = asyncio.ensure_future(ends.connection.receive())
            await asyncio.sleep(0)
            # As the transport calls it.
            ends.connection.data_received(encode_message("kept"))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                return await task
            except asyncio.CancelledError:
                return await ends.connection.receive()

        assert ends.run(receive_and_cancel()) == "kept"


def test_iteration_ends_with_the_connection(connect: Connect) -> None:
    ends = connect()
    ends.peer.send("one")
    ends.peer.send_close(4000)
    assert ends.run(ends.connection.receive(None, iterating=True)) == "one"

    async def iterate() -> bool:
        try:
            await ends.connection.receive(None, iterating=True)
        except StopAsyncIteration:
            return True
        return False

    assert ends.run(iterate())


def test_ping_is_answered_while_nobody_receives(connect: Connect) -> None:
    ends = connect()
    ends.peer.send_frame(PING, b"hello")
    assert ends.peer.read_opcode(PONG).payload == b"hello"


def test_peer_that_pings_and_does_not_read_gets_no_more_pongs(loop: AsyncioLoop) -> None:
    ends = Ends(loop, socket.socketpair())
    frame = encode_frame(PING, bytes(125)) * 500
    ends.peer.sock.settimeout(0.3)
    for _ in range(40):
        ends.peer.send_bytes(frame)
    ends.settle()
    stream = ends.connection._stream
    assert stream is not None
    assert stream.get_write_buffer_size() < 2**18
    ends.close()


# Sending


@pytest.mark.parametrize(
    "message", ["", "text", b"", b"\x01" * 70_000, bytearray(b"\x02" * 300_000)]
)
def test_messages_are_sent(connect: Connect, message: Any) -> None:
    ends = connect()
    sending = ends.begin(ends.connection.send(message))
    assert ends.peer.read() == (message if isinstance(message, str) else bytes(message))
    sending.result(PATIENCE)


def test_send_waits_for_a_slow_peer_and_holds_one_message(connect: Connect) -> None:
    ends = connect()
    sends = [ends.begin(ends.connection.send(MUCH)) for _ in range(3)]
    stream = ends.connection._stream
    assert stream is not None
    assert not any(send.done() for send in sends)
    assert ends.call(stream.get_write_buffer_size) < len(MUCH) + 100
    for _ in sends:
        assert ends.peer.read() == MUCH
    for send in sends:
        send.result(PATIENCE)


def test_message_that_changes_after_it_was_sent_goes_out_as_it_was(connect: Connect) -> None:
    ends = connect()
    data = bytearray(MUCH)
    sending = ends.begin(ends.connection.send(data))
    data[:] = b"\xff" * len(data)
    assert ends.peer.read() == MUCH
    sending.result(PATIENCE)


def test_cancelled_send_leaves_the_stream_whole(connect: Connect) -> None:
    ends = connect()
    sends = [ends.begin(ends.connection.send(MUCH)) for _ in range(3)]
    for send in sends[:2]:
        send.cancel()
    ends.settle()
    received = [ends.peer.read(), ends.peer.read()]
    # The first was on its way; the second waited for room, and was not sent.
    assert received == [MUCH, MUCH]
    sends[2].result(PATIENCE)
    ends.peer.sock.setblocking(True)
    ends.run(ends.connection.send("whole"))
    assert ends.peer.read() == "whole"


def test_what_is_no_message_is_refused(connect: Connect) -> None:
    ends = connect()
    with pytest.raises(TypeError, match="A message is str or bytes"):
        ends.run(ends.connection.send(1))  # type: ignore[arg-type]
    ends.run(ends.connection.send("fine"))
    assert ends.peer.read() == "fine"


def test_send_that_waits_learns_of_the_loss(connect: Connect) -> None:
    ends = connect()
    sends = [ends.begin(ends.connection.send(MUCH)) for _ in range(2)]
    ends.peer.sock.close()
    assert [closed(send).code for send in sends] == [1006, 1006]


def test_ping_goes_out(connect: Connect) -> None:
    ends = connect()
    ends.run(ends.connection.ping(b"you there"))
    assert ends.peer.read_opcode(PING).payload == b"you there"
    with pytest.raises(ValueError, match="125"):
        ends.run(ends.connection.ping(bytes(126)))


class Sink:
    """A transport that takes everything, and never tells of a loss by itself."""

    def __init__(self) -> None:
        self.written = 0

    def write(self, data: BytesLike) -> None:
        self.written += len(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def write_eof(self) -> None: ...

    def close(self) -> None: ...

    def abort(self) -> None: ...


def sunk(*, max_queue: int = 16) -> AsyncConnection:
    """A connection of the running loop on a sink."""
    connection = AsyncConnection(
        Protocol(),
        loop=asyncio.get_running_loop(),
        home=None,
        concurrency=asyncio_primitives,
        close_timeout=5.0,
        max_queue=max_queue,
    )
    connection.connection_made(Sink())
    return connection


@pytest.mark.parametrize("act", ["send", "ping"])
def test_sender_that_never_waits_learns_of_the_loss(act: str) -> None:
    sent = 0

    async def send_on() -> None:
        nonlocal sent
        connection = sunk()
        asyncio.get_running_loop().call_soon(connection.connection_lost, None)
        while sent < 10_000:
            await (connection.send("on") if act == "send" else connection.ping())
            sent += 1

    with pytest.raises(ConnectionClosed):
        asyncio.run(send_on())
    assert sent <= TURNS


def test_receiver_of_many_messages_lets_others_run() -> None:
    async def receive() -> int:
        connection, received = sunk(max_queue=10_000), 0
        connection.data_received(encode_message("x") * 5000)
        others = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(others.set_result, None)
        while not others.done():
            assert await connection.receive() == "x"
            received += 1
        # Else the budget counts what is left.
        connection.connection_lost(None)
        connection.drop_messages()
        return received

    assert asyncio.run(receive()) <= TURNS


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", encode_frame(PING)),
        (b"", encode_frame(PONG)),
        (encode_frame(TEXT, fin=False), encode_frame(CONTINUATION, fin=False)),
    ],
    ids=["pings", "pongs", "fragments"],
)
def test_others_run_amid_a_flood_without_messages(begin: bytes, more: bytes) -> None:
    """And nothing of it is lost."""

    async def receive() -> tuple[int, object]:
        connection, turns = sunk(), 0
        flood = begin + more * (10 * TURNS * FRAGMENTS)
        end = encode_frame(CONTINUATION) if begin else encode_message("")
        connection.data_received(flood + end)
        receiving = asyncio.ensure_future(connection.receive())
        while not receiving.done():
            await asyncio.sleep(0)
            turns += 1
        return turns, receiving.result()

    turns, message = asyncio.run(receive())
    assert turns >= 10
    assert message == ""


def test_queue_that_fills_again_and_again_sets_one_timer() -> None:
    async def fill() -> int:
        connection, later = sunk(max_queue=2), 0
        loop = asyncio.get_running_loop()
        call_later = loop.call_later

        def count(*args: Any, **kwargs: Any) -> asyncio.TimerHandle:
            nonlocal later
            later += 1
            return call_later(*args, **kwargs)

        loop.call_later = count  # type: ignore[method-assign, assignment]
        for _ in range(50):
            connection.data_received(encode_message("x") * 2)
            assert [await connection.receive() for _ in range(2)] == ["x", "x"]
        return later

    assert asyncio.run(fill()) == 1


@pytest.mark.parametrize("name", ["send", "ping", "receive", "close"])
def test_forgotten_coroutine_has_the_name_that_the_app_called(name: str) -> None:
    """Python's warning shows it."""

    async def forget() -> str:
        given: dict[str, tuple[Any, ...]] = {"send": ("text",), "close": (1000, "")}
        arguments = given.get(name, ())
        coroutine = getattr(sunk(), name)(*arguments)
        coroutine.close()
        return str(coroutine.__qualname__)

    assert asyncio.run(forget()) == f"AsyncWebSocket.{name}"


# Publications


def shared(data: bytes) -> SharedMessage:
    return SharedMessage(0x82, data)


def test_publications_and_messages_keep_their_order(connect: Connect) -> None:
    ends = connect()

    async def send() -> None:
        ends.connection.queue_shared(shared(b"one"))
        ends.connection.queue_shared(shared(b"two"))
        await ends.connection.send(b"three")
        ends.connection.send_shared(shared(b"four"))
        ends.connection.queue_shared(shared(b"five"))
        await ends.connection.close(1000, "")

    ends.begin(send())
    assert [ends.peer.read() for _ in range(5)] == [b"one", b"two", b"three", b"four", b"five"]
    assert ends.peer.answer_close().close_code == 1000


def test_compressed_publications_are_inflated_between_messages(loop: AsyncioLoop) -> None:
    parameters = DeflateParameters()
    ends = Ends(
        loop,
        socket.socketpair(),
        protocol=Protocol(deflate=Deflate(parameters, client=False, max_size=None)),
    )
    client = Protocol(client=True, deflate=Deflate(parameters, client=True, max_size=None))

    async def send() -> None:
        for number in range(3):
            await ends.connection.send(b"message %d" % number * 50)
            ends.connection.queue_shared(shared(b"publication %d" % number * 50))

    ends.run(send())
    received: list[object] = []
    while len(received) < 6:
        event = client.next_event(ends.peer.sock.recv(65536))
        while event is not None:
            received.append(event)
            event = client.next_event()
    assert received[4:] == [b"message 2" * 50, b"publication 2" * 50]
    ends.close()


@pytest.mark.parametrize("way", ["send_shared", "queue_shared"])
def test_reader_that_is_too_slow_is_closed_with_1013(
    connect: Connect, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    ends = connect(max_outbox=300_000)
    caplog.set_level(logging.WARNING, "flask_ws")

    def send() -> None:
        if not getattr(ends.connection, way)(shared(bytes(100_000))):
            ends.connection.overflow()

    for _ in range(200):
        ends.call(send)
        ends.settle()
        if ends.connection.close_code is not None:
            break
    assert ends.connection.close_code == 1013
    assert caplog.text.count("SOCK_MAX_OUTBOX") == 1
    assert ends.peer.read_close(after="anything").close_code == 1013


# Closing


def test_close_waits_for_the_answer(connect: Connect) -> None:
    ends = connect()
    closing = ends.begin(ends.connection.close(4001, "enough"))
    assert not closing.done()
    frame = ends.peer.answer_close()
    assert (frame.close_code, frame.close_reason) == (4001, "enough")
    closing.result(PATIENCE)
    assert ends.connection.close_code == 4001
    ends.released.result(PATIENCE)


def test_close_that_is_not_answered_is_1006(connect: Connect) -> None:
    ends = connect(close_timeout=0.05)
    ends.run(ends.connection.close(4001, ""))
    assert ends.connection.close_code == 1006


def test_cancelled_close_goes_on(connect: Connect) -> None:
    ends = connect()
    closing = ends.begin(ends.connection.close(4001, ""))
    closing.cancel()
    assert ends.peer.answer_close().close_code == 4001
    ends.released.result(PATIENCE)
    assert ends.connection.close_code == 4001


def test_close_comes_through_a_full_queue(connect: Connect) -> None:
    ends = connect(max_queue=2)
    for number in range(50):
        ends.peer.send(str(number))
    ends.settle()
    closing = ends.begin(ends.connection.close(1000, ""))
    assert ends.peer.read_close().close_code == 1000
    ends.peer.send_close(1000)
    closing.result(PATIENCE)


@pytest.mark.skipif(not LINUX, reason="only there they are so small")
def test_peer_behind_a_full_unix_socket_counts_as_alive(connect: Connect) -> None:
    """Each message takes a buffer; and while it sends it reads no ping."""
    ends = connect(max_queue=2)
    ends.peer.sock.settimeout(0.1)
    with contextlib.suppress(TimeoutError):
        while True:
            ends.peer.send("x")
    ends.connection.post_ping()
    ends.settle()
    until(lambda: ends.connection.has_been_heard)


def test_peers_close_is_answered_and_told(connect: Connect) -> None:
    ends = connect()
    receiving = ends.begin(ends.connection.receive())
    assert ends.peer.close(4000, "bye").close_code == 4000
    error = closed(receiving)
    assert (error.code, error.reason) == (4000, "bye")
    assert closed(ends.begin(ends.connection.send("late"))).code == 4000


def test_messages_before_a_close_are_received(connect: Connect) -> None:
    ends = connect()
    ends.peer.send("before")
    ends.peer.send_close(4000)
    ends.peer.read_close()
    assert ends.run(ends.connection.receive()) == "before"
    assert closed(ends.begin(ends.connection.receive())).code == 4000


def test_end_of_the_stream_is_1006(connect: Connect) -> None:
    ends = connect()
    receiving = ends.begin(ends.connection.receive())
    ends.peer.sock.close()
    assert closed(receiving).code == 1006
    ends.released.result(PATIENCE)


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        pytest.param(encode_frame(0x3, b"reserved"), 1002, id="1002"),
        pytest.param(encode_frame(TEXT, b"\xff\xff"), 1007, id="1007"),
        pytest.param(encode_frame(BINARY, bytes(1001)), 1009, id="1009"),
    ],
)
def test_violation_has_its_code_though_the_peer_goes_on_sending(
    connect: Connect, frame: bytes, code: int
) -> None:
    ends = connect(protocol=Protocol(max_message_size=1000))
    ends.peer.send_bytes(frame + encode_message("more") * 100)
    assert ends.peer.read_close().close_code == code
    ends.peer.send_bytes(encode_message("and more"))
    ends.peer.expect_end()
    assert ends.connection.close_code == code


def test_message_before_a_violation_is_answered_first(connect: Connect) -> None:
    ends = connect()
    receiving = ends.begin(ends.connection.receive())
    ends.peer.send_bytes(encode_message("before") + encode_frame(0x3, b"reserved"))
    assert receiving.result(PATIENCE) == "before"
    ends.run(ends.connection.send("answer"))
    assert closed(ends.begin(ends.connection.receive())).code == 1002
    assert ends.peer.read() == "answer"
    assert ends.peer.read_close().close_code == 1002


@pytest.mark.parametrize("end", ["close", "lose"])
def test_stream_ends_though_a_forked_process_has_the_socket(connect: Connect, end: str) -> None:
    ends = connect()
    fd = os.dup(ends.sock.fileno())
    try:
        if end == "close":
            ends.peer.send_close(4000)
            ends.peer.read_close()
        else:
            ends.connection.lose("on purpose")
        ends.peer.expect_end(PATIENCE)
    finally:
        os.close(fd)


def test_peer_that_does_not_end_the_stream_is_cut_off(connect: Connect) -> None:
    ends = connect(close_timeout=0.05)
    ends.peer.send_close(1000)
    assert ends.peer.read_opcode(CLOSE).close_code == 1000
    ends.released.result(PATIENCE)


def test_other_threads_may_ping_lose_and_say_goodbye(connect: Connect) -> None:
    one, other = connect(), connect()
    one.connection.post_ping()
    assert one.peer.read_opcode(PING)
    one.connection.go_away(1001, "goodbye")
    assert one.peer.answer_close().close_code == 1001
    other.connection.lose("gone")
    other.released.result(PATIENCE)
    assert other.connection.close_reason == "gone"


def test_bytes_that_wait_are_not_counted_as_sent(connect: Connect) -> None:
    ends = connect()
    sending = ends.begin(ends.connection.send(MUCH))
    assert ends.call(lambda: ends.connection.bytes_sent) < len(MUCH)
    assert ends.connection.is_sending
    assert ends.peer.read() == MUCH
    sending.result(PATIENCE)
    assert ends.call(lambda: ends.connection.bytes_sent) > len(MUCH) - 2**16
