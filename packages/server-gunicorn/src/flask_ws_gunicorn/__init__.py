"""flask-ws on Gunicorn: its sync, gthread, gevent and eventlet workers.

``successor`` tells whether others answer in the place of a worker that stops.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from flask_ws import NoSocket, ServerSocket, hookimpl, unwrap_input

from .successor import Successor

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["flask_ws_get_socket"]

logger = logging.getLogger("flask_ws")

#: The signals that a worker handles itself.
SIGNALS = ("SIGTERM", "SIGQUIT", "SIGABRT", "SIGUSR1")


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the socket that the worker puts into the environ."""
    sock = environ.get("gunicorn.socket")
    # With HTTP/2 the socket is shared by all streams: no request can take it.
    if sock is None and "gunicorn.workers.gtornado" in sys.modules:
        raise NoSocket(
            "Gunicorn's tornado worker gives a WSGI application no socket. Use another: "
            "--worker-class gthread, gevent, or leave the option out."
        )
    if sock is None or environ.get("SERVER_PROTOCOL") not in ("HTTP/1.1", "HTTP/1.0"):
        return None
    native = type(sock).__module__ in ("socket", "ssl")
    # Looked up now: later, middleware may replace the stream in the environ.
    unreader = unwrap_input(environ, _has_unreader).reader.unreader

    def take_read_ahead() -> bytes:
        if hasattr(unreader, "take_buffered"):
            return bytes(unreader.take_buffered())
        # gunicorn < 26.2
        data = bytes(unreader.buf.getvalue())
        unreader.buf = type(unreader.buf)()
        return data

    server_socket = ServerSocket(
        sock,
        read_ahead=take_read_ahead,
        # sync has one thread, gthread a few; the other workers have cheap greenlets.
        detach=native,
    )
    is_stopping = _find_is_stopping()
    if is_stopping is not None:
        server_socket.is_stopping = is_stopping
        # The worker waits for its own threads and greenlets, but not for ours.
        server_socket.stop_timeout = is_stopping.graceful_timeout
        if native or not is_stopping.worker.cfg.is_ssl:
            # gevent writes a traceback for a client that leaves before the TLS handshake.
            server_socket.has_successor = is_stopping.has_successor
        if server_socket.concurrency.green or not native:
            _look_at_patched(is_stopping.worker)
    return server_socket


def _has_unreader(stream: Any) -> bool:
    # The reader of a chunked body has no unreader.
    return hasattr(getattr(stream, "reader", None), "unreader")


class _IsStopping:
    """Tells whether the worker of this process was told to stop."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.graceful_timeout: float = worker.cfg.graceful_timeout
        self.has_successor = Successor(worker) if worker.sockets else None

    def __call__(self) -> bool:
        return not self.worker.alive


@functools.cache
def _find_is_stopping() -> _IsStopping | None:
    """Find the worker of this process: one object for all its connections."""
    # It is the object behind a signal handler, which needs no configuration. An app, or a tracer,
    # may have replaced some of the handlers, so all are tried.
    for name in SIGNALS:
        worker = getattr(signal.getsignal(getattr(signal, name)), "__self__", None)
        if hasattr(worker, "alive") and hasattr(worker, "cfg"):
            _start_threads(worker)
            return _IsStopping(worker)
    return None


@functools.cache
def _look_at_patched(worker: Any) -> None:
    """Say once if the process is monkey-patched, and its worker made for one that is not."""
    from gunicorn.workers.gthread import ThreadWorker
    from gunicorn.workers.sync import SyncWorker

    if isinstance(worker, (SyncWorker, ThreadWorker)):
        logger.warning(
            "This process is monkey-patched, by gevent or Eventlet, and its worker (%s) runs no "
            "greenlets: a WebSocket can keep it from serving others. Use Gunicorn's gevent worker "
            "(--worker-class gevent) or flask_ws_eventlet.EventletWorker, or do not patch.",
            type(worker).__name__,
        )


def _start_threads(worker: Any) -> None:
    """Have a worker start its own threads before ours.

    It starts them as requests come, and ends if the system can start no more.
    """
    pool = getattr(worker, "tpool", None)
    if not isinstance(pool, concurrent.futures.ThreadPoolExecutor):
        return
    started = threading.Event()
    with contextlib.suppress(RuntimeError):
        # Each thread waits, so the pool starts another one for the next call.
        for _ in range(worker.cfg.threads):
            pool.submit(started.wait)
    started.set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_find_is_stopping.cache_clear)
