"""A WSGI server in memory, for one request: the real stack without a network."""

from __future__ import annotations

import logging
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask_ws.concurrency import Concurrency
from flask_ws.connection.connection import Connection
from flask_ws.http.handshake import EXPLAIN
from flask_ws.http.run import __file__ as run_file
from flask_ws.http.upgrade import ON_EXCEPTION, ON_READY
from flask_ws.loop.keepalive import Watch
from flask_ws.loop.monitor import monitor_for
from flask_ws.plugin.hookspecs import ServerSocket, hookimpl
from flask_ws.plugin.manager import plugins
from flask_ws.views.view import __file__ as views_file

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

__all__ = ["Call", "threads"]

logger = logging.getLogger("flask_ws")

#: The environ key by which the plugin recognises this server.
SOCKET = "flask_ws.testing.socket"
END_OF_HEAD = b"\r\n\r\n"
#: The least seconds that an app has to return, however long its connection took to close.
SHORTEST_WAIT = 1.0
#: The most seconds to wait for a handler that neither receives nor sends: it may wait for the test.
PATIENCE = 1.0
#: Stack frames that are shown of an app that does not return.
SHOWN_FRAMES = 8
#: The files of the functions that call the app's handlers.
CALLERS = frozenset({run_file, views_file})


class Plugin:
    """The server plugin for this server, registered without an entry point."""

    @staticmethod
    @hookimpl(tryfirst=True)
    def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
        """Take the socket that the call put into the environ."""
        found: ServerSocket | None = environ.get(SOCKET)
        return found


plugins.register(Plugin, "flask_ws.testing")


class JoinedThreads(Concurrency):
    """The standard library's primitives; the threads that they start can be waited for."""

    name = "testing"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spawned: list[threading.Thread] = []

    def spawn(self, target: Callable[[], object], name: str) -> None:
        """Run ``target`` on a thread."""
        thread = threading.Thread(target=target, name=name, daemon=True)
        thread.start()
        with self._lock:
            self._spawned = [old for old in self._spawned if old.is_alive()]
            self._spawned.append(thread)

    def join(self, deadline: float) -> None:
        """Wait for the threads to end, unless there are connections that need them."""
        monitor = monitor_for(self)
        for thread in list(self._spawned):
            while thread.is_alive() and not len(monitor) and time.monotonic() < deadline:
                thread.join(0.05)


#: The primitives of all connections here.
threads = JoinedThreads()


class Call:
    """A request to an app, on a thread of its own, and how the app answered.

    :param app: the WSGI application.
    :param environ: the request.
    :param timeout: seconds that the app may take for the answer; and to return, in the end.
    :param propagate: whether exceptions of a handler are kept in :attr:`error`, and not logged.
    """

    def __init__(
        self, app: WSGIApplication, environ: WSGIEnvironment, *, timeout: float, propagate: bool
    ) -> None:
        self._app = app
        self._environ = environ
        self._timeout = timeout
        #: The client's end of the connection.
        self.sock, self._server_sock = socket.socketpair()
        #: What followed the 101 on the wire, if there was one.
        self.early: bytes | None = None
        #: The first exception of the handler, or what the app raised to its server.
        self.error: BaseException | None = None
        self._started: tuple[str, list[tuple[str, str]]] | None = None
        self._body: list[bytes] = []
        self._ready = threading.Event()
        # The app's end of the connection, and what counts its time once the test does.
        self._connection: Connection | None = None
        self._watch: Watch | None = None
        self._now = 0.0
        # An event view is served on the thread, too: the socket cannot be detached.
        environ[SOCKET] = ServerSocket(self._server_sock, concurrency=threads)
        environ[ON_READY] = self._set_ready
        if propagate:
            environ[ON_EXCEPTION] = self._note
            environ[EXPLAIN] = True
        self._thread = threading.Thread(target=self._run, name="flask_ws.testing", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        def start_response(
            status: str, headers: list[tuple[str, str]], _exc_info: Any = None
        ) -> Callable[[bytes], object]:
            self._started = status, headers
            return self._body.append

        try:
            iterable = self._app(self._environ, start_response)
            try:
                self._body.extend(iterable)
                if self._started is not None and self._started[0].startswith("101"):
                    # As a server ends its response; no peer reads it any more.
                    self._server_sock.sendall(END_OF_HEAD)
            finally:
                if hasattr(iterable, "close"):
                    iterable.close()
        except BaseException as error:
            if self.error is None:
                self.error = error
        finally:
            self._server_sock.close()
            self._ready.set()

    def _set_ready(self, connection: Connection) -> None:
        self._connection = connection
        self._ready.set()

    def _note(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
        else:
            logger.error("Another exception, after the one that is raised", exc_info=error)

    def read_answer(self) -> tuple[str, list[tuple[str, str]], bytes]:
        """Wait for the app's answer: a 101 on the wire, or an ordinary response.

        :return: the status line without the version, the headers, and the body.
        :raises TimeoutError: there is none in time.
        """
        deadline = time.monotonic() + self._timeout
        data = b""
        while END_OF_HEAD not in data:
            self.sock.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                received = self.sock.recv(65536)
            except TimeoutError:
                raise TimeoutError(
                    f"The app did not answer within {self._timeout} s{self.whereabouts()}"
                ) from None
            if not received:
                return self._read_response()
            data += received
        head, _, self.early = data.partition(END_OF_HEAD)
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = [line.partition(": ") for line in lines]
        return status.partition(" ")[2], [(name, value) for name, _, value in headers], b""

    def _read_response(self) -> tuple[str, list[tuple[str, str]], bytes]:
        # EOF has come: closing the socket is the last step of the thread.
        self._thread.join(SHORTEST_WAIT)
        if self.error is not None:
            raise self.error
        if self._started is None:
            raise RuntimeError("The app returned without a call of start_response().")
        return (*self._started, b"".join(self._body))

    def wait_ready(self) -> None:
        """Wait until the handler receives, sends or ends; for an event view's ``on_open``."""
        self._ready.wait(min(self._timeout, PATIENCE))

    def advance(self, seconds: float, meanwhile: Callable[[], object] | None) -> None:
        """Have time pass for the app's end of the connection: do at once what would be due.

        :param seconds: how much.
        :param meanwhile: called at each step, for the peer to answer pings; ``None`` where it does
            not answer.
        """
        connection = self._connection
        if connection is None:
            return
        if self._watch is None:
            self._watch = monitor_for(threads).hand_over(connection)
            self._now = time.monotonic()
        if self._watch is None:
            return
        end = self._now + seconds
        while connection.close_code is None:
            due = self._watch.check(self._now)
            self._await_threads(connection, self._watch, meanwhile)
            if self._now >= end:
                break
            self._now = min(due, end)

    def _await_threads(
        self, connection: Connection, watch: Watch, answer: Callable[[], object] | None
    ) -> None:
        """Let the threads that send a ping, and read the pong, do so: for them no time passes."""
        deadline = time.monotonic() + self._timeout
        while connection.close_code is None and time.monotonic() < deadline:
            if answer is not None:
                answer()
            is_answered = watch.pinged_at is None or connection.has_been_heard
            # What the test sends are whole messages: a part of one is still being read.
            if (is_answered or answer is None) and not connection.receiver.is_mid_message:
                break
            threads.pause()

    def end(self, deadline: float) -> bool:
        """Wait for the app to return, and for the threads of its connection to end.

        :param deadline: when to give up waiting.
        :return: whether the app has returned.
        """
        self._thread.join(max(SHORTEST_WAIT, deadline - time.monotonic()))
        if self._thread.is_alive():
            return False
        threads.join(time.monotonic() + SHORTEST_WAIT)
        return True

    def whereabouts(self) -> str:
        """Tell where in its code the app is, to complete a sentence."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        if frame is None:
            return "."
        stack = traceback.extract_stack(frame)
        calls = [index for index, entry in enumerate(stack) if entry.filename in CALLERS]
        # From the handler on, if it is on the stack.
        shown = stack[calls[-1] + 1 if calls else 0 :][-SHOWN_FRAMES:]
        return "; it is here:\n" + "".join(traceback.format_list(shown))
