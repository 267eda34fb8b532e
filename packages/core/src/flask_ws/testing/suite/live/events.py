"""Event views, below /events."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from flask import g, request

from flask_ws import ConnectionClosed, WebSocket, WebSocketView

from .base import app, is_released, of_kind, primitives, record, see_context, sock, teardowns


@app.teardown_request
def count_teardowns(error: BaseException | None) -> None:
    if "tag" in g:
        teardowns[g.tag] = teardowns.get(g.tag, 0) + 1


class Watched(WebSocketView):
    """Records the beginning and the end, as the handlers' decorator does."""

    ends = 0

    def on_open(self, ws: WebSocket, *args: Any, **kwargs: Any) -> None:
        record("begin", pid=os.getpid())

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        self.ends += 1
        record("end", code=code, reason=reason, connected=ws.connected, times=self.ends)


@sock.route("/events/echo", endpoint="events-echo")
@sock.route("/events/pinged", endpoint="events-pinged", ping_interval=0.2, ping_timeout=0.4)
@sock.route("/events/small", endpoint="events-small", max_message_size=1000)
@sock.route("/events/kept", endpoint="events-kept", detach=False)
@of_kind
class Echo(Watched):
    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send(message)


@sock.route("/events/empty", endpoint="events-empty")
@of_kind
class Empty(WebSocketView):
    """Overrides no method: the defaults do nothing."""


@sock.route("/events/order", endpoint="events-order")
@of_kind
class Order(Watched):
    """Expects 0, 1, 2 ... and at "done" sends what went wrong."""

    def on_open(self, ws: WebSocket, *args: Any, **kwargs: Any) -> None:
        super().on_open(ws)
        self.running = threading.Lock()
        self.expected = 0
        self.faults: list[str] = []

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        if not self.running.acquire(False):
            self.faults.append(f"{message!r} came while another method ran")
            return
        if message == "done":
            ws.send_json(self.faults)
        else:
            if message != str(self.expected):
                self.faults.append(f"{message!r} in place of {self.expected}")
            self.expected += 1
            # Lets another thread or greenlet overlap, if that were possible.
            primitives.pause(0)
        self.running.release()


@sock.route("/events/context/<room>", endpoint="events-context")
@of_kind
class Context(Watched):
    """Sends what a method sees of its request, and how often it was torn down."""

    def on_open(self, ws: WebSocket, room: str) -> None:
        super().on_open(ws)
        self.room = room
        ws.send_json(see_context(room))

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.send_json(see_context(self.room))

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        record("closed", **see_context(self.room))
        super().on_close(ws, code, reason)


@sock.route("/events/raise/<method>", endpoint="events-raise")
@of_kind
class Failing(Watched):
    """Raises in one of its methods."""

    def on_open(self, ws: WebSocket, method: str) -> None:
        super().on_open(ws)
        self.method = method
        self.fail_in("on_open")

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        self.fail_in("on_message")

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        super().on_close(ws, code, reason)
        self.fail_in("on_close")

    def fail_in(self, method: str) -> None:
        if self.method == method:
            raise RuntimeError(f"failed on purpose {request.args['tag']}")


@sock.route("/events/close/<int:code>", endpoint="events-close", close_timeout=0.2)
@of_kind
class Closing(Watched):
    def on_open(self, ws: WebSocket, code: int) -> None:
        super().on_open(ws)
        self.code = code

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        ws.close(self.code, str(message))


@sock.route("/events/receive", endpoint="events-receive")
@of_kind
class Receiving(Watched):
    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        try:
            ws.receive()
        except RuntimeError as error:
            ws.send(str(error))


@sock.route("/events/block", endpoint="events-block", ping_interval=0.2, ping_timeout=0.5)
@of_kind
class Blocking(Watched):
    """At "block", blocks until released; otherwise echoes."""

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message == "block":
            tag, deadline = request.args["tag"], time.monotonic() + 10
            while not is_released(tag) and time.monotonic() < deadline:
                primitives.pause(0.02)
            record("awake", connected=ws.connected, close_code=ws.close_code)
        else:
            ws.send(message)


@sock.route("/events/stall", endpoint="events-stall", max_outbox=300_000, close_timeout=0.5)
@of_kind
class Stalling(Watched):
    """Sends to a peer that does not read, until the connection is closed."""

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        try:
            while True:
                ws.send(bytes(100_000))
                primitives.pause(0)
        except ConnectionClosed as closed:
            record("stalled", code=closed.code)


# More than the buffers of a unix socket hold.
@sock.route("/events/fan/<int:senders>/<int:messages>", endpoint="events-fan", max_outbox=4_000_000)
@of_kind
class Fan(Watched):
    """At "go", sends from many threads at once; echoes meanwhile."""

    def on_open(self, ws: WebSocket, senders: int, messages: int) -> None:
        super().on_open(ws)
        self.senders, self.messages = senders, messages

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        if message != "go":
            ws.send(message)
            return

        def send_all(sender: int) -> None:
            for number in range(self.messages):
                ws.send(bytes([sender]) * ((sender * 7919 + number * 104729) % 30000))
                primitives.pause(0)

        for sender in range(self.senders):
            primitives.spawn(lambda sender=sender: send_all(sender))  # type: ignore[misc]


#: The members of each room.
rooms: dict[str, list[WebSocket]] = {}


@sock.route("/events/room/<name>", endpoint="events-room", max_outbox=300_000, close_timeout=0.3)
@of_kind
class Room(Watched):
    """Broadcasts each message to all members; for a number, that many bytes."""

    def on_open(self, ws: WebSocket, name: str) -> None:
        super().on_open(ws)
        self.members = rooms.setdefault(name, [])
        self.members.append(ws)
        ws.send("welcome")

    def on_message(self, ws: WebSocket, message: str | bytes) -> None:
        data = bytes(int(message))
        for member in list(self.members):
            try:
                member.send(data)
            except ConnectionClosed:
                pass

    def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        self.members.remove(ws)
        super().on_close(ws, code, reason)
