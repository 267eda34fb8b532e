"""flask-ws on Eventlet's own server, ``eventlet.wsgi.server``, monkey-patched or not.

:class:`EventletWorker` is the worker for Gunicorn, which its own plugin serves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from flask_ws import ServerSocket

    from .worker import EventletWorker

__all__ = ["EventletWorker", "flask_ws_get_socket"]

# flask_ws has the same one, but imports Flask, for which the worker is not monkey-patched yet.
hookimpl = pluggy.HookimplMarker("flask_ws")

if not TYPE_CHECKING:

    def __getattr__(name: str) -> type[EventletWorker]:
        # Not before Gunicorn asks: a process without it need not have it, nor import Eventlet.
        if name == "EventletWorker":
            from .worker import EventletWorker

            return EventletWorker
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the socket from the request's body."""
    body: Any = environ.get("eventlet.input")
    # Others put one there that looks alike, for libraries that ask for no more than its socket.
    if not (hasattr(body, "get_socket") and hasattr(body, "rfile")):
        return None
    from flask_ws import ServerSocket, take_buffered

    # Not before a request of eventlet's own: a process that runs another server need not import it.
    from .greenlets import greenlets

    sock = body.get_socket()
    handler = _find_handler(environ)
    if handler is not None:
        _correct(environ, handler)
    return ServerSocket(
        sock,
        read_ahead=functools.partial(take_buffered, body.rfile, sock),
        is_stopping=_find_is_stopping(environ, handler),
        concurrency=greenlets,
    )


def _find_handler(environ: WSGIEnvironment) -> Any:
    """Find what serves the connection; ``None`` if eventlet has changed."""
    for cell in environ["eventlet.set_idle"].__closure__ or ():
        if isinstance(getattr(cell.cell_contents, "conn_state", None), list):
            return cell.cell_contents
    return None


def _correct(environ: WSGIEnvironment, handler: Any) -> None:
    """Say of the request what the server leaves out: its version, and a repeated length."""
    environ["SERVER_PROTOCOL"] = handler.request_version
    lengths = handler.headers.get_all("content-length", [])
    if len(lengths) > 1:
        environ["CONTENT_LENGTH"] = ",".join(lengths)


def _find_is_stopping(environ: WSGIEnvironment, handler: Any) -> Callable[[], bool]:
    """Return a function that tells whether the server has been interrupted.

    The server marks all its connections closed then, and waits for their handlers.
    """
    state: Any = getattr(handler, "conn_state", None)
    if isinstance(state, list) and len(state) == 3:
        connections = _find_connections(state)
        if connections is None:
            return lambda: state[2] == "close"
        if not state[0]:
            _set_apart(state, connections)
        return _IsStopping(connections)
    # The server then cuts idle connections off by itself: no close frame, but no waiting either.
    environ["eventlet.set_idle"]()
    return lambda: False


class _IsStopping:
    """Asks whether all connections of a server are marked closed; equal for all of them."""

    def __init__(self, connections: dict[Any, list[Any]]) -> None:
        self._connections = connections

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _IsStopping) and other._connections is self._connections

    def __hash__(self) -> int:
        return id(self._connections)

    def __call__(self) -> bool:
        # That of a WebSocket is in the middle of its request. Another thread may ask.
        states = [connection[2] for connection in list(self._connections.values())]
        return bool(states) and all(state == "close" for state in states)


def _find_connections(state: list[Any]) -> dict[Any, list[Any]] | None:
    """Find the connections of the server that has a connection of this state."""
    import greenlet

    # The function that is called when the connection ends knows where the server keeps them.
    for function, arguments, _ in getattr(greenlet.getcurrent(), "_exit_funcs", ()):
        if not any(argument is state for argument in arguments):
            continue
        for cell in getattr(function, "__closure__", None) or ():
            if isinstance(cell.cell_contents, dict):
                return cell.cell_contents
    return None


def _set_apart(state: list[Any], connections: dict[Any, list[Any]]) -> None:
    """Give a connection of a Unix socket an address of its own.

    By it the server finds the connections that it is to tell of its end; without one, it finds
    the last of them only.
    """
    if connections.get(state[0]) is state:
        del connections[state[0]]
    state[0] = ("", id(state))
    connections[state[0]] = state
