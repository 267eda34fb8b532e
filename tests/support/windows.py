"""Makes this Python as poor as Windows is, as far as sockets go, so that Linux can test for it.

For a run of unit tests::

    python -m pytest -p tests.support.windows tests/unit/http

What it takes away was compared with CPython for Windows, under Wine.
"""

from __future__ import annotations

import _socket
import contextlib
import ctypes
import errno
import importlib
import os
import select
import selectors
import socket
import stat
import subprocess  # noqa: F401  (chooses its selector when it is imported)
from typing import Any

from tests.support import stand_ins

#: What select takes at once.
FD_SETSIZE = 512
#: Bytes that a socket's buffers hold.
BUFFER = 65536
#: What is imported before, because it asks for more than it uses.
IMPORTED = (
    "flask.cli",
    "flask.testing",
    "gevent.socket",
    "hypothesis",
    "psutil",
    "werkzeug.serving",
)

real_select = select.select


def is_socket(fd: int) -> bool:
    """Tell whether a descriptor is a socket, of which Windows' C runtime knows nothing."""
    return stat.S_ISSOCK(os.fstat(fd).st_mode)


def refuse_sockets(function: Any) -> Any:
    """Let a function on descriptors know no sockets."""

    def refusing(fd: int, *args: Any, **kwargs: Any) -> Any:
        if is_socket(fd):
            raise OSError(errno.EBADF, "Bad file descriptor")
        return function(fd, *args, **kwargs)

    return refusing


def poor_select(
    readers: Any, writers: Any, others: Any, timeout: float | None = None
) -> tuple[list[Any], list[Any], list[Any]]:
    """Do as select does on Windows."""
    if not (readers or writers or others):
        raise OSError(10022, "Invalid argument")
    if max(len(readers), len(writers), len(others)) > FD_SETSIZE:
        raise ValueError("too many file descriptors in select()")
    for each in (*readers, *writers, *others):
        if not is_socket(each if isinstance(each, int) else each.fileno()):
            raise OSError(10038, "An operation was attempted on something that is not a socket")
    return real_select(readers, writers, others, timeout)


def socketpair(*_: object) -> tuple[socket.socket, socket.socket]:
    """Make a pair as the standard library does on Windows: over loopback, and of its own kind."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Linux would let them grow to megabytes.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    for end in (one, other):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    return one, other


class ShutDown:
    """A socket that was shut down on this side: it is good for nothing, and select ignores it."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def _refuse(self, *_args: Any) -> Any:
        raise OSError(10058, "WSAESHUTDOWN")

    recv = recv_into = send = sendall = read = write = _refuse


def abort(transport: Any) -> None:
    """Shut down both ways: the peer sees the end, and nobody here wakes up."""
    with contextlib.suppress(OSError):
        transport._raw.shutdown(socket.SHUT_WR)
    if not isinstance(transport._raw, ShutDown):
        transport._raw = ShutDown(transport._raw)
        if hasattr(transport, "_sslobj"):
            transport._sslobj = ShutDown(transport._sslobj)


def pretend() -> None:
    """Take away what Windows has not, and import flask_ws."""
    for name in IMPORTED:
        importlib.import_module(name)
    for module, names in (
        (socket, ("MSG_DONTWAIT", "AF_UNIX")),
        (_socket, ("MSG_DONTWAIT", "AF_UNIX", "socketpair")),
        (select, ("poll", "epoll")),
        (os, ("fork", "register_at_fork")),
    ):
        for name in names:
            delattr(module, name)
    for name in ("dup", "dup2", "get_blocking", "set_blocking"):
        setattr(os, name, refuse_sockets(getattr(os, name)))
    socket.socketpair = socketpair  # type: ignore[assignment]
    select.select = poor_select
    selectors.DefaultSelector = selectors.SelectSelector  # type: ignore[misc,assignment]
    ctypes.WinDLL = stand_ins.WinDLL  # type: ignore[attr-defined]
    real_name, os.name = os.name, "nt"
    try:
        system = importlib.import_module("flask_ws.system")
    finally:
        # pytest looks at its paths by that.
        os.name = real_name
    assert system.WINDOWS
    from flask_ws.connection.transport import Transport

    Transport.abort = abort  # type: ignore[method-assign,assignment]


pretend()
