"""flask-ws on Cheroot."""

from __future__ import annotations

import functools
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flask_ws import NoSocket, ServerSocket, hookimpl, take_buffered

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["flask_ws_get_socket"]


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the socket from below the reader of the request's body."""
    if not environ.get("SERVER_SOFTWARE", "").startswith("Cheroot/"):
        return None
    reader = environ["wsgi.input"].rfile
    sock = reader.raw._sock
    if not isinstance(sock, socket.socket):
        raise NoSocket(
            "Cheroot's pyOpenSSL adapter keeps its TLS to itself: use the builtin one, "
            "cheroot.ssl.builtin.BuiltinSSLAdapter."
        )
    worker: Any = threading.current_thread()
    return ServerSocket(
        sock,
        read_ahead=functools.partial(take_buffered, reader, sock),
        # A request has one of a few threads: ten, as a rule.
        detach=True,
        is_stopping=IsStopping(worker.server),
        stop_timeout=worker.server.shutdown_timeout,
    )


# Equal for all connections of one server.
@dataclass(frozen=True)
class IsStopping:
    """Asks the server whether it is told to stop."""

    server: Any

    def __call__(self) -> bool:
        return not self.server.ready
