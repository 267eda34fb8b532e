"""Where operating systems differ, as far as sockets and waiting go."""

from __future__ import annotations

import _socket
import errno
import os
import select
import socket
import sys
import threading

try:
    import resource
except ImportError:
    # Windows.
    resource = None  # type: ignore[assignment]

#: Asked once, here, as all that tells systems apart.
LINUX = sys.platform.startswith("linux")

if LINUX:
    import fcntl
    import termios

__all__ = [
    "DONTWAIT",
    "LINUX",
    "LONGEST_WAIT",
    "TIMEOUT_MAX",
    "WINDOWS",
    "count_descriptors",
    "count_unacknowledged",
    "descriptor_limit",
    "has_gone",
    "is_blocking",
    "is_unix",
    "socketpair",
    "waitable",
]

#: Whether this is Windows. There a socket is a handle and no file descriptor, its number cannot be
#: given to another (``dup2``), and a thread that waits for a socket notices neither that it was
#: shut down on this side nor, in the main thread, a Ctrl-C.
WINDOWS = os.name == "nt"
#: Makes one call to receive or to send non-blocking, whatever the socket is set to. 0 where there
#: is no such flag: Windows has none, and macOS ignores it in ``send()``.
DONTWAIT: int = 0 if WINDOWS or sys.platform == "darwin" else socket.MSG_DONTWAIT
#: The longest timeout that is used, in seconds: ``poll`` takes 24.8 days at most, a lock on Windows
#: 49.
TIMEOUT_MAX = 7 * 86_400.0
#: The state of a connection that neither side has ended (Linux: ``net/tcp_states.h``).
TCP_ESTABLISHED = 1
#: The most seconds to wait for a socket at a time.
LONGEST_WAIT = 0.25 if WINDOWS else TIMEOUT_MAX


def waitable(timeout: float | None) -> float | None:
    """Return a timeout that a lock can have: for one beyond that, ``None``, for no end."""
    return None if timeout is not None and timeout > threading.TIMEOUT_MAX else timeout


def is_blocking(sock: socket.socket) -> bool:
    """Tell whether calls on a socket's descriptor block, whatever its object's timeout."""
    if not WINDOWS:
        return os.get_blocking(sock.fileno())
    # Windows cannot tell, but native sockets block as their timeout says. gevent's wrap one.
    native: socket.socket = getattr(sock, "_sock", sock)
    return native.gettimeout() is None


def socketpair() -> tuple[_socket.socket, _socket.socket]:
    """Make two connected sockets at C level, which monkey-patching does not make green."""
    if hasattr(_socket, "socketpair"):
        pair: tuple[_socket.socket, _socket.socket] = _socket.socketpair()
        return pair
    # Over loopback.
    one, other = socket.socketpair()
    return _socket.socket(fileno=one.detach()), _socket.socket(fileno=other.detach())


def descriptor_limit() -> int | None:
    """Return how many file descriptors this process may have; ``None`` where there is no limit."""
    if resource is None:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit


def count_descriptors() -> int | None:
    """Count this process's file descriptors; ``None`` if there is not even one left to do it.

    It takes time: about a millisecond for some thousand of them.
    """
    try:
        # The descriptor that lists them is among them.
        return len(os.listdir("/dev/fd")) - 1
    except OSError as error:
        # A system without that folder has no limit that is checked.
        return None if error.errno in (errno.EMFILE, errno.ENFILE) else 0


def is_unix(sock: _socket.socket) -> bool:
    """Tell whether this is a Unix socket, which Windows has not."""
    return sock.family == getattr(socket, "AF_UNIX", None)


def has_gone(sock: _socket.socket) -> bool:
    """Tell whether the peer has ended the connection, even where unread bytes come before that.

    A poller, which monkey-patching replaces, is used only where there is no other way. Windows has
    none: ``False``.

    :raises OSError: the connection has failed.
    """
    if hasattr(socket, "TCP_INFO"):
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != TCP_ESTABLISHED
        # On a Unix socket whose peer has closed it, even an empty send fails.
        sock.send(b"", DONTWAIT)
        return False
    if hasattr(select, "poll"):
        poller = select.poll()
        poller.register(sock.fileno(), 0)
        return bool(poller.poll(0))
    return False


def count_unacknowledged(sock: _socket.socket) -> int:
    """Count the bytes that were sent and the peer's system has not acknowledged.

    0 where the system cannot tell, and on a Unix socket: its peer's system is this one.

    :raises OSError: the connection has failed.
    """
    if not LINUX or is_unix(sock):
        return 0
    answer = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, sys.byteorder)
