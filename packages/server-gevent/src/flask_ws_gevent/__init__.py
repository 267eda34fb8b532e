"""flask-ws on gevent's own server, ``gevent.pywsgi.WSGIServer``, monkey-patched or not.

``greenlets`` has gevent's primitives.
"""

from __future__ import annotations

import functools
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask_ws import NoSocket, ServerSocket, hookimpl, take_buffered, unwrap_input

if TYPE_CHECKING:
    from types import FrameType

    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["flask_ws_get_socket"]

#: The signals that gunicorn's worker handles itself.
SIGNALS = ("SIGTERM", "SIGQUIT", "SIGABRT", "SIGUSR1")


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the socket that the reader of the request's body wraps."""
    # gunicorn's gevent_pywsgi worker has the same name, and is the same server.
    if not str(environ.get("SERVER_SOFTWARE", "")).startswith("gevent/"):
        return None
    if "gunicorn.socket" in environ:
        return None
    if "wsgi.websocket" in environ:
        raise NoSocket(
            "gevent-websocket has answered this handshake already: leave out its handler_class, or "
            "Gunicorn's worker of that name. flask-ws needs neither."
        )
    reader = _reader(unwrap_input(environ, _has_socket))
    sock = reader.raw._sock
    # Imported at gevent's first request: a process with another server need not import it.
    from .greenlets import greenlets

    if "CONTENT_LENGTH" in environ:
        # Of several headers, the server passes on only the first.
        environ["CONTENT_LENGTH"] = ",".join(_find_lengths())
    return ServerSocket(
        sock,
        read_ahead=functools.partial(take_buffered, reader, sock),
        is_stopping=_find_is_stopping(),
        concurrency=greenlets,
    )


def _reader(stream: Any) -> Any:
    # For an upgrade, pywsgi passes its reader unwrapped.
    return getattr(stream, "rfile", stream)


def _has_socket(stream: Any) -> bool:
    return hasattr(getattr(_reader(stream), "raw", None), "_sock")


def _find_lengths() -> list[str]:
    """Return the Content-Length headers of the current request."""
    from gevent.pywsgi import WSGIHandler

    # The handler that called the app can be found only on the stack.
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        handler = frame.f_locals.get("self")
        if isinstance(handler, WSGIHandler):
            lengths: list[str] = handler.headers.get_all("content-length", [])
            return lengths
        frame = frame.f_back
    return []


# A dataclass, so that it is equal for all connections of one server.
@dataclass(frozen=True)
class _IsStopping:
    """Tells whether the server, or gunicorn's worker that runs it, was told to stop."""

    server: Any
    worker: Any

    def __call__(self) -> bool:
        return getattr(self.server, "closed", False) or not getattr(self.worker, "alive", True)


def _find_is_stopping() -> Callable[[], bool]:
    import gevent

    # The greenlet of a connection has a method of the server as its first argument.
    arguments = getattr(gevent.getcurrent(), "args", None) or (None,)
    return _IsStopping(getattr(arguments[0], "__self__", None), _find_worker())


def _find_worker() -> Any:
    """Find gunicorn's worker: gevent_pywsgi's closes its server only a while after a SIGTERM."""
    # It is the object behind a signal handler: an app may have replaced some, so all are tried.
    for name in SIGNALS:
        worker = getattr(signal.getsignal(getattr(signal, name, signal.SIGTERM)), "__self__", None)
        if hasattr(worker, "alive") and hasattr(worker, "cfg"):
            return worker
    return None
