"""flask-ws on Gunicorn: its sync, gthread, gevent and eventlet workers."""

from __future__ import annotations

import functools
import os
import signal
from typing import TYPE_CHECKING, Any

from flask_ws import ServerSocket, hookimpl

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["flask_ws_get_socket"]


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the socket that the worker puts into the environ."""
    sock = environ.get("gunicorn.socket")
    # With HTTP/2 it is the socket of all streams, which none of them can have.
    if sock is None or environ.get("SERVER_PROTOCOL") not in ("HTTP/1.1", "HTTP/1.0"):
        return None
    native = type(sock).__module__ in ("socket", "ssl")

    def take_read_ahead() -> bytes:
        # Not before the request is known to have no body: the reader of a chunked one has none.
        unreader = environ["wsgi.input"].reader.unreader
        if hasattr(unreader, "take_buffered"):
            return bytes(unreader.take_buffered())
        # gunicorn < 26.2
        data = bytes(unreader.buf.getvalue())
        unreader.buf = type(unreader.buf)()
        return data

    server_socket = ServerSocket(
        sock,
        read_ahead=take_read_ahead,
        # sync has one thread, gthread a few; a greenlet of the other workers is cheap.
        detach=native,
    )
    is_stopping = _find_is_stopping()
    if is_stopping is not None:
        server_socket.is_stopping = is_stopping
        # The worker waits for its own threads and greenlets, and not for ours.
        server_socket.stop_timeout = is_stopping.graceful_timeout
    return server_socket


class _IsStopping:
    """Asks the worker of this process whether it was told to stop."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker
        self.graceful_timeout: float = worker.cfg.graceful_timeout

    def __call__(self) -> bool:
        return not self._worker.alive


@functools.cache
def _find_is_stopping() -> _IsStopping | None:
    """Find the worker that this process is: one object for all its connections."""
    # The worker handles its own SIGTERM, which is how it is found without any configuration.
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    if not (hasattr(worker, "alive") and hasattr(worker, "cfg")):
        return None
    return _IsStopping(worker)


os.register_at_fork(after_in_child=_find_is_stopping.cache_clear)
