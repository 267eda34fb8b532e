"""A WSGI server in memory: it calls an app once, with one end of a socket pair.

The other end is a `Peer`, so a test sees every byte that a client would.
"""

from __future__ import annotations

import gc
import io
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tests.support.raw import LostConnection, Peer, Response, handshake_headers, make_key
from tests.support.waiting import PATIENCE, until
from werkzeug.datastructures import Headers
from werkzeug.test import EnvironBuilder

from flask_ws import ServerSocket, hookimpl
from flask_ws.concurrency import threads
from flask_ws.loop.monitor import monitor_for

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

T = TypeVar("T")

#: The environ key by which the plugin knows this server.
SOCKET_KEY = "memory.socket"


class MemoryPlugin:
    """The server plugin for this server."""

    @staticmethod
    @hookimpl
    def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
        found: ServerSocket | None = environ.get(SOCKET_KEY)
        return found


def settle_all() -> None:
    """Wait until no connection is left."""
    until(lambda: len(monitor_for(threads)) == 0)


def in_thread(function: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
    """Call a function in a thread that does not outlive the process; its outcome is awaited."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, daemon=True).start()
    return future


def is_waiting(future: Future[Any]) -> bool:
    """Tell whether a call has not returned after a moment."""
    return not wait([future], 0.1).done


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over loopback: a socket pair knows no reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname(), timeout=PATIENCE)
        other, _ = listener.accept()
    return one, other


@dataclass
class Call:
    """One request to an app, and what the server saw of it."""

    peer: Peer
    server_sock: socket.socket
    key: str
    status: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    #: The response's body, once the server is done with the request.
    ended: Future[bytes] = field(default_factory=Future)

    def wait(self) -> bytes:
        """Wait until the server is done; what the app raised is raised."""
        return self.ended.result(PATIENCE)

    def refused(self) -> Response:
        """Wait for the refusal of the handshake."""
        body = self.wait()
        status, _, reason = self.status.partition(" ")
        assert status != "101", "the handshake was accepted"
        return Response(int(status), reason, tuple(self.headers), body)

    def serve(self, app: WSGIApplication, environ: WSGIEnvironment) -> bytes:
        """Do what a server does, to the end of the connection."""

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: object = None
        ) -> Callable[[bytes], object]:
            self.status, self.headers = status, headers
            return written.append

        written: list[bytes] = []
        try:
            body: Iterable[bytes] = app(environ, start_response)
            try:
                written.extend(body)
                if self.status.startswith("101"):
                    # To nobody, by now.
                    self.server_sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
            finally:
                close = getattr(body, "close", None)
                if close is not None:
                    close()
        finally:
            self.server_sock.close()
        return b"".join(written)


class MemoryServer:
    """Calls apps, and ends what is left of that."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def call(
        self,
        app: WSGIApplication,
        target: str = "/",
        *,
        headers: Iterable[tuple[str, str]] | None = None,
        extra: Iterable[tuple[str, str]] = (),
        host: str = "localhost",
        method: str = "GET",
        body: bytes = b"",
        environ: Mapping[str, object] | None = None,
        pair: tuple[socket.socket, socket.socket] | None = None,
        **server_socket: Any,
    ) -> Call:
        """Send an app a request, by default a handshake, in a thread of its own.

        :param headers: all headers, in place of a handshake's.
        :param extra: headers besides those.
        :param environ: further items of the environ.
        :param pair: the client's and the server's socket.
        :param server_socket: what the plugin says of the socket.
        """
        key = make_key()
        builder = EnvironBuilder(
            target,
            base_url=f"http://{host}",
            method=method,
            headers=Headers([*(handshake_headers(key) if headers is None else headers), *extra]),
            input_stream=io.BytesIO(body),
        )
        made = builder.get_environ()
        for name in ("HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"):
            # Old versions of Werkzeug make these, and no server does.
            made.pop(name, None)
        made["REMOTE_ADDR"] = "127.0.0.1"
        client_sock, server_sock = pair or socket.socketpair()
        made[SOCKET_KEY] = ServerSocket(server_sock, **server_socket)
        made.update(environ or {})
        call = Call(Peer(client_sock, timeout=PATIENCE), server_sock, key)
        self.calls.append(call)
        call.ended = in_thread(call.serve, app, made)
        return call

    def connect(self, app: WSGIApplication, target: str = "/", **kwargs: Any) -> Peer:
        """Open a WebSocket: the handshake is accepted, and answered properly."""
        call = self.call(app, target, **kwargs)
        self.accepted(call)
        return call.peer

    def accepted(self, call: Call) -> Response:
        """Read a 101; or say why there is none."""
        try:
            return call.peer.read_upgrade(call.key)
        except LostConnection:
            body = call.wait()
            raise AssertionError(f"no 101 but {call.status}: {body!r}") from None

    def refuse(self, app: WSGIApplication, target: str = "/", **kwargs: Any) -> Response:
        """Ask for a WebSocket and get an HTTP response."""
        return self.call(app, target, **kwargs).refused()

    def close(self) -> None:
        """End every connection, and wait for its handler and until it counts no more."""
        for call in self.calls:
            call.peer.sock.close()
        raised = [call.ended.exception(PATIENCE) is not None for call in self.calls]
        self.calls.clear()
        if any(raised):
            # A traceback holds the app's frames, and what they had open: not into the next test.
            del call
            gc.collect()
        # A detached one ends after the app's call.
        settle_all()
