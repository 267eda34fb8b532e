"""flask-ws on Eventlet's own server, ``eventlet.wsgi.server``, monkey-patched or not.

:class:`EventletWorker`, in ``worker``, is for Gunicorn, whose requests Gunicorn's plugin claims.
``greenlets`` has Eventlet's primitives.
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

# The same as that of flask_ws, which imports Flask: too early, before monkey-patching.
hookimpl = pluggy.HookimplMarker("flask_ws")

if not TYPE_CHECKING:

    def __getattr__(name: str) -> type[EventletWorker]:
        # Imported on demand: without Gunicorn, it need not be installed, nor Eventlet imported.
        if name == "EventletWorker":
            from .worker import EventletWorker

            return EventletWorker
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@hookimpl
def flask_ws_get_socket(environ: WSGIEnvironment) -> ServerSocket | None:
    """Take the socket from the request's body."""
    body: Any = environ.get("eventlet.input")
    # Other servers put a similar object there, for libraries that need only its socket.
    if not (hasattr(body, "get_socket") and hasattr(body, "rfile")):
        return None
    from flask_ws import ServerSocket, take_buffered

    # Imported at eventlet's first request: a process with another server need not import it.
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
    """Find the object that serves the connection; ``None`` if eventlet has changed."""
    for cell in environ["eventlet.set_idle"].__closure__ or ():
        if isinstance(getattr(cell.cell_contents, "conn_state", None), list):
            return cell.cell_contents
    return None


def _correct(environ: WSGIEnvironment, handler: Any) -> None:
    """Add what the server leaves out of the environ: the version, and a repeated length."""
    environ["SERVER_PROTOCOL"] = handler.request_version
    lengths = handler.headers.get_all("content-length", [])
    if len(lengths) > 1:
        environ["CONTENT_LENGTH"] = ",".join(lengths)


def _find_is_stopping(environ: WSGIEnvironment, handler: Any) -> Callable[[], bool]:
    """Return a function that tells whether the server has been interrupted.

    An interrupted server marks all its connections as closed, and waits for their handlers.
    """
    state: Any = getattr(handler, "conn_state", None)
    if isinstance(state, list) and len(state) == 3:
        connections = _find_connections(state)
        if connections is None:
            return lambda: state[2] == "close"
        if not state[0]:
            _set_apart(state, connections)
        return _IsStopping(connections)
    # A stopping server then cuts the connection as idle: without a close frame or a wait.
    environ["eventlet.set_idle"]()
    return lambda: False


class _IsStopping:
    """Tells whether all connections of a server are marked as closed; equal for all of them."""

    def __init__(self, connections: dict[Any, list[Any]]) -> None:
        self._connections = connections

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _IsStopping) and other._connections is self._connections

    def __hash__(self) -> int:
        return id(self._connections)

    def __call__(self) -> bool:
        # A WebSocket is within its request, so it is listed. list(): another thread may call this.
        states = [connection[2] for connection in list(self._connections.values())]
        return bool(states) and all(state == "close" for state in states)


def _find_connections(state: list[Any]) -> dict[Any, list[Any]] | None:
    """Find the connections of the server that has a connection of this state."""
    import greenlet

    # The function that is called when the connection ends has them in its closure.
    for function, arguments, _ in getattr(greenlet.getcurrent(), "_exit_funcs", ()):
        if not any(argument is state for argument in arguments):
            continue
        for cell in getattr(function, "__closure__", None) or ():
            if isinstance(cell.cell_contents, dict):
                return cell.cell_contents
    return None


def _set_apart(state: list[Any], connections: dict[Any, list[Any]]) -> None:
    """Give a connection of a Unix socket an address of its own.

    By their addresses the server finds the connections to close when it stops; if they share one,
    it finds only the last of them.
    """
    if connections.get(state[0]) is state:
        del connections[state[0]]
    state[0] = ("", id(state))
    connections[state[0]] = state
