"""Handlers, each for a few tests."""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable

import flask
from flask import abort, request

from flask_ws import WebSocket

# What may stand in for these.
from . import coroutines  # noqa: F401
from .base import Timeout, facts_of_request, is_released, primitives, record, route


@route("/both")
@route("/echo")
@route("/echo/<name>")
@route("/pinged", ping_interval=0.2, ping_timeout=0.4)
@route("/ping-once-a-second", ping_interval=1)
@route("/unpinged", ping_interval=None)
@route("/subprotocols", subprotocols=["chat.v2", "chat.v1"])
@route("/small", max_message_size=1000)
@route("/uncompressed", compression=False)
@route("/any-origin", allowed_origins="*")
@route("/listed-origin", allowed_origins=["https://example.com"])
@route("/forbidden")
def echo(ws: WebSocket, name: str = "") -> None:
    """Echo until either side closes; unlike `for`, raises ConnectionClosed."""
    while True:
        ws.send(ws.receive())


@route("/iterate")
def iterate(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


@route("/raise")
def fail(ws: WebSocket) -> None:
    ws.send("about to raise")
    raise RuntimeError(f"failed on purpose {request.args['tag']}")


@route("/abort")
def abort_late(ws: WebSocket) -> None:
    ws.send("about to abort")
    abort(401)


@route("/exit/<name>")
def leave(ws: WebSocket, name: str) -> None:
    ws.receive()
    raise {"SystemExit": SystemExit, "KeyboardInterrupt": KeyboardInterrupt}[name]


@route("/return")
@route("/return-to-a-stone", close_timeout=0.3)
def end_by_return(ws: WebSocket) -> None:
    """Return at once."""


@route("/close/<int:code>")
def close(ws: WebSocket, code: int) -> None:
    ws.close(code, request.args.get("reason", ""))


@route("/wait-then-close", close_timeout=0.5)
def wait_then_close(ws: WebSocket) -> None:
    ws.receive()
    ws.close(4000, "told to")


@route("/headers")
def headers(ws: WebSocket) -> None:
    """Send the client what a handler sees of its request."""
    ws.send_json(facts_of_request(ws))


@route("/big/<int:size>")
def big(ws: WebSocket, size: int) -> None:
    """Send one message that no socket buffer holds, and a small one after it."""
    record("sending")
    ws.send(bytes(range(256)) * (size // 256))
    ws.send("end")
    ws.receive()


@route("/fan/<int:senders>/<int:messages>")
def fan(ws: WebSocket, senders: int, messages: int) -> None:
    """Send from many threads at once: each message is one byte, repeated."""

    def send_all(sender: int) -> None:
        for number in range(messages):
            size = (sender * 7919 + number * 104729) % 70000
            ws.send(bytes([sender]) * size)

    for sender in range(senders):
        primitives.spawn(functools.partial(send_all, sender))
    # The client sends a message when it has received everything.
    ws.receive()


@route("/busy")
@route("/busy-pinged", ping_interval=0.2, ping_timeout=0.5)
def busy(ws: WebSocket) -> None:
    """Neither receive nor send until released; then say what is known, and echo."""
    tag = request.args["tag"]
    deadline = time.monotonic() + 10
    while not is_released(tag) and time.monotonic() < deadline:
        primitives.pause(0.02)
    record("awake", connected=ws.connected, close_code=ws.close_code)
    while True:
        ws.send(ws.receive())


@route("/deaf", ping_interval=0.3, ping_timeout=0.5)
def deaf(ws: WebSocket) -> None:
    """Never receive, and return when the connection has ended."""
    while ws.connected:
        primitives.pause(0.02)


@route("/interrupted")
def interrupted(ws: WebSocket) -> None:
    """Send numbers, each many times over, and be interrupted where the client reads slowly."""
    for number in range(20):
        interruption = Timeout(0.005)
        try:
            with interruption:
                ws.send(number.to_bytes(4, "big") * 50_000)
        except BaseException as error:
            if error is not interruption:
                raise
    ws.send("that was all")


@route("/compute")
def compute(ws: WebSocket) -> None:
    """Keep the interpreter busy until released."""
    tag = request.args["tag"]
    deadline = time.monotonic() + 10
    while not is_released(tag) and time.monotonic() < deadline:
        # Between looks, nothing lets go of the interpreter's lock.
        for _ in range(10_000):
            hashlib.sha256(b"x" * 100).digest()
    record("awake", connected=ws.connected, close_code=ws.close_code)
    while True:
        ws.send(ws.receive())


@route("/until-lost")
def until_lost(ws: WebSocket) -> None:
    """Check `connected` only, as a handler that waits for something else does."""
    deadline = time.monotonic() + 10
    while ws.connected and time.monotonic() < deadline:
        primitives.pause(0.02)
    record("noticed", connected=ws.connected, close_code=ws.close_code)


@route("/tidy/<seconds>")
def tidy(ws: WebSocket, seconds: str) -> None:
    """Keep running for some time after the connection is lost, perhaps for ever."""
    while ws.connected:
        primitives.pause(0.02)
    record("tidying")
    primitives.pause(float(seconds))
    record("tidied")


@route("/push", ping_interval=0.3, ping_timeout=0.5)
def push(ws: WebSocket) -> None:
    """Send for ever, to a peer that may have stopped reading."""
    while True:
        ws.send(bytes(65536))


@route("/timeout")
def receive_timeout(ws: WebSocket) -> None:
    """Receive with a timeout, and send the result."""
    started = time.monotonic()
    message = ws.receive(timeout=float(request.args["seconds"]))
    ws.send_json({"message": message, "seconds": time.monotonic() - started})
    while True:
        ws.send(ws.receive())


@route("/two-readers")
def two_readers(ws: WebSocket) -> None:
    """Call receive() from a second thread while the first is in it."""

    def receive_too() -> None:
        # The first reader goes back to receive() right after it has echoed a message.
        primitives.pause(0.1)
        try:
            ws.receive(timeout=2)
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        else:
            outcome = "received"
        ws.send(outcome)

    ws.receive()
    primitives.spawn(receive_too)
    while True:
        ws.send(ws.receive())


@route("/other-thread/<action>")
def other_thread(ws: WebSocket, action: str) -> None:
    """Let another thread send, ping or close while this one receives."""

    @flask.copy_current_request_context
    def act() -> None:
        calls: dict[str, Callable[[], None]] = {
            "send": lambda: ws.send("from a thread"),
            "ping": ws.ping,
            "close": lambda: ws.close(4001, "from a thread"),
        }
        try:
            calls[action]()
        except BaseException as error:
            record("acted", error=repr(error))
        else:
            record("acted", error=None)
        finally:
            acted.append(True)

    acted: list[bool] = []
    ws.receive()
    primitives.spawn(act)
    try:
        while True:
            ws.send(ws.receive())
    finally:
        # The process may end with the handler.
        deadline = time.monotonic() + 10
        while not acted and time.monotonic() < deadline:
            primitives.pause(0.01)


@route("/send-after/<seconds>")
def send_after(ws: WebSocket, seconds: str) -> None:
    """Send repeatedly after the peer may have gone, and record the error."""
    ws.receive()
    primitives.pause(float(seconds))
    for _ in range(200):
        ws.send(bytes(10000))
        primitives.pause(0.01)


@route("/pong", ping_interval=None)
def pong(ws: WebSocket) -> None:
    ws.ping(b"are you there")
    while True:
        ws.send(ws.receive())


@route("/hold")
def hold(ws: WebSocket) -> None:
    """Wait in receive(), as most handlers do."""
    ws.send("held")
    ws.receive()
