"""flask-ws on uWSGI."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from flask_ws import NoSocket, ServerSocket, borrow_socket, hookimpl

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["flask_ws_get_socket"]

#: Bytes to take at once: what uWSGI reads at most, unless its --buffer-size is larger.
SIZE = 65536


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Make a socket from the descriptor of uWSGI's current request."""
    if "uwsgi.version" not in environ:
        return None
    # The module exists only inside uWSGI.
    uwsgi: Any = importlib.import_module("uwsgi")
    check(uwsgi, environ)
    sock = borrow_socket(uwsgi.connection_fd())
    # Looked up in this thread: another one may take the bytes.
    request = find_request(threaded=environ["wsgi.multithread"])
    return ServerSocket(
        sock,
        read_ahead=functools.partial(take_read_ahead, request, sock.fileno()),
        # A request occupies one of few threads, or the whole process.
        detach=True,
    )


def check(uwsgi: Any, environ: WSGIEnvironment) -> None:
    """Check that uWSGI runs in a mode in which its connections can be handed over.

    :raises NoSocket: it does not.
    """
    if uwsgi.loop or "async" in uwsgi.opt:
        raise NoSocket("WebSockets need uWSGI's own loop: start it without --gevent or --async.")
    if not uwsgi.has_threads:
        raise NoSocket("WebSockets need threads in uWSGI: start it with --enable-threads.")
    if "https-socket" in uwsgi.opt and environ["wsgi.url_scheme"] == "https":
        raise NoSocket(
            "uWSGI keeps the TLS of an --https-socket to itself: use --https, with "
            "--http-websockets, or a proxy."
        )


@functools.cache
def load_library() -> ctypes.PyDLL:
    """Open the library that this process is running: the wheel's module, or the program."""
    return ctypes.PyDLL(getattr(sys.modules.get("pyuwsgi"), "__file__", None))


def find_request(*, threaded: bool) -> int | None:
    """Return the address of uWSGI's own request structure; ``None`` if it is not exported."""
    name = "threaded_current_wsgi_req" if threaded else "simple_current_wsgi_req"
    try:
        function = load_library()[name]
    except (AttributeError, OSError):
        return None
    function.restype = ctypes.c_void_p
    address: int | None = function()
    return address


def take_read_ahead(request: int | None, fd: int) -> bytes:
    """Take what uWSGI has read past the head, as its reader of bodies would."""
    if request is None:
        return b""
    try:
        read = load_library()["uwsgi_proto_base_read_body"]
    except AttributeError:
        return b""
    read.restype = ctypes.c_ssize_t
    read.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
    buffer = ctypes.create_string_buffer(SIZE)
    # It returns what is left in memory, then reads the socket, which must not block.
    blocking = os.get_blocking(fd)
    os.set_blocking(fd, False)
    taken = b""
    try:
        while (size := read(request, buffer, SIZE)) > 0:
            taken += buffer.raw[:size]
    finally:
        with contextlib.suppress(OSError):
            os.set_blocking(fd, blocking)
    return taken
