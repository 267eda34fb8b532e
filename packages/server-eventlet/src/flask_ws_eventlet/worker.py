"""A Gunicorn worker on Eventlet, which Gunicorn itself no longer has since version 26."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
import time
from types import FrameType
from typing import IO, TYPE_CHECKING, Any

import eventlet
import eventlet.greenio
import eventlet.hubs
import eventlet.wsgi
from greenlet import GreenletExit
from gunicorn.sock import ssl_context
from gunicorn.workers.base_async import AsyncWorker

if TYPE_CHECKING:
    import ssl

    from gunicorn.config import Config
    from gunicorn.glogging import Logger
    from gunicorn.http import Request

__all__ = ["EventletWorker"]

#: Seconds between two heartbeats to the arbiter, and two checks whether to stop.
TICK = 1.0
#: Seconds between two checks whether the last client has gone, once the worker stops.
STOP_TICK = 0.1
#: Seconds that idle clients have to make a request, once the worker stops.
IDLE_TIMEOUT = 2.0
#: Seconds that the clients' greenlets have to end after they were killed.
KILL_TIMEOUT = 1.0
#: Seconds to pause after accept() failed, for example for lack of file descriptors.
ACCEPT_PAUSE = 0.1
#: Bytes of a file that are read and sent at once.
BLOCK = 2**16

#: Errors of accept() for a client that left before it was accepted.
GONE = frozenset({errno.ECONNABORTED, errno.EPROTO})


class WorkerSocket(eventlet.greenio.GreenSocket):  # type: ignore[misc]
    """A green socket that can also send files; accept() returns sockets of this class."""

    def sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:
        """Send a file, as :meth:`socket.socket.sendfile`, which fails on a green socket."""
        file.seek(offset)
        sent = 0
        while count is None or sent < count:
            data = file.read(BLOCK if count is None else min(BLOCK, count - sent))
            if not data:
                break
            self.sendall(data)
            sent += len(data)
        return sent


class EventletWorker(AsyncWorker):  # type: ignore[misc]
    """A Gunicorn worker that serves each client in a greenlet of Eventlet's.

    Name it on the command line::

        gunicorn --worker-class flask_ws_eventlet.EventletWorker app:app

    The process is monkey-patched before it loads the application.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clients: set[Any] = set()
        # Those of them that have no request at the moment.
        self._idle: set[Any] = set()
        self._room: Any = None
        self._quitting = False
        self._ssl_context: ssl.SSLContext | None = None

    @classmethod
    def check_config(cls, cfg: Config, log: Logger) -> None:
        """Warn of settings that do not work as the user might expect."""
        if cfg.preload_app and not eventlet.patcher.is_monkey_patched("socket"):
            log.warning(
                "preload_app loads the application before eventlet can monkey-patch: begin "
                "gunicorn.conf.py with `import eventlet; eventlet.monkey_patch()`."
            )

    def init_process(self) -> None:
        """Monkey-patch the new process, and serve."""
        # Patching takes a moment, in which the arbiter's handler would lose the signal.
        signal.signal(signal.SIGTERM, self.handle_exit)
        # A new hub: the epoll object of the arbiter's must not be shared.
        eventlet.hubs.use_hub()
        eventlet.monkey_patch()
        super().init_process()

    def run(self) -> None:
        """Serve until the worker is told to stop; then wait for its clients."""
        self._room = eventlet.Semaphore(self.worker_connections)
        if self.cfg.is_ssl:
            self._ssl_context = ssl_context(self.cfg)
        listeners = [self._make_listener(sock) for sock in self.sockets]
        acceptors = [eventlet.spawn(self._accept, listener) for listener in listeners]
        while self.alive:
            self.notify()
            eventlet.sleep(TICK)
        for acceptor in acceptors:
            acceptor.kill()
        for listener in listeners:
            listener.close()
        graceful = self.cfg.graceful_timeout
        idle_timeout = min(IDLE_TIMEOUT, graceful)
        self._wait_for_clients(idle_timeout)
        kill(self._idle)
        self._wait_for_clients(graceful - idle_timeout)
        if self._clients:
            self.log.warning("Worker graceful timeout (pid:%s)", self.pid)
            kill(self._clients)
            self._wait_for_clients(KILL_TIMEOUT)

    def notify(self) -> None:
        """Send the arbiter a heartbeat; exit if it is dead."""
        super().notify()
        if self.ppid != os.getppid():
            self.log.info("Parent changed, shutting down: %s", self)
            sys.exit(0)

    def timeout_ctx(self) -> Any:
        """Limit the wait for the next request on a kept-alive connection."""
        return eventlet.Timeout(self.cfg.keepalive or None, False)

    def is_already_handled(self, respiter: object) -> bool:
        """Tell whether the app has answered on the socket itself, as with eventlet's WebSockets."""
        if getattr(eventlet.wsgi.WSGI_LOCAL, "already_handled", False):
            raise StopIteration
        return bool(super().is_already_handled(respiter))

    def handle(self, listener: socket.socket, client: socket.socket, addr: Any) -> None:
        """Serve one connection."""
        self._idle.add(eventlet.getcurrent())
        # Otherwise it would have the timeout of socket.setdefaulttimeout().
        client.setblocking(True)
        if self._ssl_context is not None:
            try:
                client = self._ssl_context.wrap_socket(
                    client,
                    server_side=True,
                    suppress_ragged_eofs=self.cfg.suppress_ragged_eofs,
                    do_handshake_on_connect=self.cfg.do_handshake_on_connect,
                )
            except OSError as error:
                self.log.debug("The TLS handshake failed: %s", error)
                client.close()
                return
        super().handle(listener, client, addr)

    def handle_request(self, *args: Any) -> Any:
        """Serve one request of a connection."""
        greenthread = eventlet.getcurrent()
        self._idle.discard(greenthread)
        try:
            return super().handle_request(*args)
        finally:
            self._idle.add(greenthread)

    def handle_http2(self, *args: Any, **kwargs: Any) -> None:
        """Serve an HTTP/2 connection, which has many requests at once."""
        self._idle.discard(eventlet.getcurrent())
        super().handle_http2(*args, **kwargs)

    def handle_error(
        self, req: Request | None, client: socket.socket, addr: Any, exc: BaseException
    ) -> None:
        """Answer with an error, unless the request was killed because the worker stops."""
        if not isinstance(exc, GreenletExit):
            super().handle_error(req, client, addr, exc)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """Exit soon, in a greenlet: a signal handler must not block."""
        # At Ctrl-C the signal comes twice: from the terminal and from the arbiter.
        if not self._quitting:
            self._quitting = True
            eventlet.spawn(super().handle_quit, sig, frame)

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """Reopen the logs, in a greenlet as well."""
        eventlet.spawn(super().handle_usr1, sig, frame)

    def _make_listener(self, sock: socket.socket) -> WorkerSocket:
        listener = WorkerSocket(sock)
        listener.setblocking(True)
        # Requests read the name, also after the listener is closed.
        name = listener.getsockname()
        listener.getsockname = lambda: name
        return listener

    def _accept(self, listener: WorkerSocket) -> None:
        while True:
            # Before accept(), so that another worker gets the client if this one is full.
            self._room.acquire()
            try:
                client, address = listener.accept()
            except OSError as error:
                self._room.release()
                if error.errno not in GONE:
                    self.log.warning("Cannot accept connections: %s", error)
                    eventlet.sleep(ACCEPT_PAUSE)
                continue
            greenthread = eventlet.spawn(self.handle, listener, client, address)
            self._clients.add(greenthread)
            greenthread.link(self._forget)
            # Otherwise these references keep the client open until the next one comes.
            del client, greenthread
            # So that many clients at once are shared among the workers, and served meanwhile.
            eventlet.sleep(0)

    def _forget(self, greenthread: Any) -> None:
        self._clients.discard(greenthread)
        self._idle.discard(greenthread)
        self._room.release()

    def _wait_for_clients(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while self._clients and time.monotonic() < deadline:
            self.notify()
            eventlet.sleep(STOP_TICK)


def kill(greenthreads: set[Any]) -> None:
    """Raise GreenletExit in each of them, where it waits."""
    for greenthread in list(greenthreads):
        greenthread.kill()
