"""flask-ws on gevent's own server, ``gevent.pywsgi.WSGIServer``, monkey-patched or not."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask_ws import ServerSocket, hookimpl, take_buffered

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["flask_ws_get_socket"]


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the socket from below the reader of the request's body."""
    # gunicorn's gevent_pywsgi worker names itself in the same way, and is the same server.
    if not str(environ.get("SERVER_SOFTWARE", "")).startswith("gevent/"):
        return None
    if "gunicorn.socket" in environ:
        return None
    body = environ["wsgi.input"]
    # pywsgi gives an upgrade its reader as it is.
    reader: Any = getattr(body, "rfile", body)
    sock = getattr(getattr(reader, "raw", None), "_sock", None)
    if sock is None:
        return None
    # Not before a request of gevent's own: a process that runs another server need not import it.
    from .greenlets import greenlets

    return ServerSocket(
        sock,
        read_ahead=functools.partial(take_buffered, reader, sock),
        is_stopping=_find_is_stopping(),
        concurrency=greenlets,
    )


# Equal, as functions, for all connections of one server.
@dataclass(frozen=True)
class _IsStopping:
    """Asks a server whether it was told to stop, and gunicorn's worker, where that runs it."""

    server: Any
    worker: Any

    def __call__(self) -> bool:
        return getattr(self.server, "closed", False) or not getattr(self.worker, "alive", True)


def _find_is_stopping() -> Callable[[], bool]:
    import gevent

    # The server runs each connection in a greenlet of its own, with its handle method.
    arguments = getattr(gevent.getcurrent(), "args", None) or (None,)
    # gunicorn's gevent_pywsgi worker closes its server only a while after its own SIGTERM.
    worker = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return _IsStopping(
        getattr(arguments[0], "__self__", None), worker if hasattr(worker, "cfg") else None
    )
