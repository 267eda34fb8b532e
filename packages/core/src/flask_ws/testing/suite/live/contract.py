"""Records the side effects of a plugin's hook, and what it returns."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flask_ws import Concurrency, ServerSocket
from flask_ws.plugin.manager import plugins

from .base import write_record

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: The header of a handshake whose hook is recorded: the connection's tag, and the client's port or
#: process id.
KEY = "HTTP_X_CONTRACT"
#: Seconds that a spawned function may take to begin.
PATIENCE = 5.0

get_socket = plugins.get_socket
#: The `is_stopping` of earlier connections: that of the next must be equal.
askers: list[Callable[[], bool]] = []


def watch(environ: WSGIEnvironment) -> ServerSocket | None:
    """Call the hook; if a test asks for it, record what it did."""
    if KEY not in environ:
        return get_socket(environ)
    tag, client = environ[KEY].split()
    before = Before(environ)
    began = time.monotonic()
    server_socket = None
    try:
        server_socket = get_socket(environ)
    finally:
        facts: dict[str, Any] = {"seconds": time.monotonic() - began, "faults": {}}
        if server_socket is None:
            facts["faults"]["claim"] = "it does not claim the request of its own server"
        else:
            facts["faults"] = before.compare(server_socket, int(client))
            facts |= look_at(server_socket, facts["faults"])
        write_record("hook", tag, **facts)
    return server_socket


class Before:
    """The state before the hook is called."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        self._environ = environ
        self._items = dict(environ)
        self._blocking = read_blocking_modes()
        self._timeouts = {id(sock): (sock, sock.gettimeout()) for sock in find_sockets()}

    def compare(self, server_socket: ServerSocket, client: int) -> dict[str, str]:
        """Compare with the state after it: one sentence for each kind of fault."""
        faults: dict[str, str] = {}
        now = self._environ
        changed = [key for key in {*now, *self._items} if not self._has_kept(key)]
        if changed:
            faults["environ"] = f"it changed the environ: {', '.join(sorted(changed))}"
        if server_socket.messages is not None:
            # The server keeps its socket.
            return faults
        sock = server_socket.sock
        number = sock.fileno()
        if number not in self._blocking:
            faults["own"] = (
                f"the descriptor {number} of sock was not there before: it is a duplicate, or is "
                "closed, and the server goes on using its own"
            )
            return faults
        if os.get_blocking(number) is not self._blocking[number]:
            faults["timeout"] = "it changed the blocking mode of the socket"
        _, timeout = self._timeouts.get(id(sock), (None, sock.gettimeout()))
        if sock.gettimeout() != timeout:
            faults["timeout"] = (
                f"it changed the timeout of the socket from {timeout} to {sock.gettimeout()}"
            )
        if not is_connection_of(sock, client):
            faults["connection"] = "sock is not the connection of the client that asks"
        return faults

    def _has_kept(self, key: str) -> bool:
        missing = object()
        return self._environ.get(key, missing) is self._items.get(key, missing)


def read_blocking_modes() -> dict[int, bool]:
    """Tell which descriptors of this process are blocking."""
    modes = {}
    for name in os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"):
        # The descriptor of the listing itself is closed by now.
        with contextlib.suppress(OSError):
            modes[int(name)] = os.get_blocking(int(name))
    return modes


def find_sockets() -> list[Any]:
    """Find the sockets of all kinds, native and green, that this process has open."""
    kinds: dict[type, bool] = {}
    found = []
    for each in gc.get_objects():
        kind = type(each)
        if kind not in kinds:
            kinds[kind] = hasattr(kind, "gettimeout") and hasattr(kind, "fileno")
        if kinds[kind] and each.fileno() != -1:
            found.append(each)
    return found


def is_connection_of(sock: socket.socket, client: int) -> bool:
    """Compare the client's port; on a unix socket its process id, if the system tells it."""
    try:
        if sock.family == socket.AF_UNIX:
            if sys.platform != "linux":
                return True
            size = struct.calcsize("3i")
            pid, *_ = struct.unpack(
                "3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
            )
            return bool(pid == client)
        return bool(sock.getpeername()[1] == client)
    except OSError:
        return False


def look_at(server_socket: ServerSocket, faults: dict[str, str]) -> dict[str, Any]:
    """Check what the hook has returned; adds to `faults`."""
    asker = server_socket.is_stopping
    began = time.monotonic()
    try:
        if asker() is not False:
            faults["stopping"] = f"is_stopping() returned {asker()!r} while the server runs"
    except Exception as error:
        faults["stopping"] = f"is_stopping() raised {error!r}"
    seconds = time.monotonic() - began
    try:
        hash(asker)
    except TypeError:
        faults["equal"] = "is_stopping cannot be hashed, as a frozen dataclass can"
    if not askers:
        askers.append(asker)
    elif asker != askers[0]:
        faults["equal"] = "is_stopping is another one, and not equal, for each connection"
    if fault := look_at_concurrency(server_socket.concurrency):
        faults["concurrency"] = fault
    return {
        "is_stopping_seconds": seconds,
        "frames": server_socket.messages is None,
        "detach": server_socket.detach,
        "detachable": server_socket.detach or server_socket.detachable,
        "green": server_socket.concurrency.green,
        "stop_timeout": server_socket.stop_timeout,
    }


def look_at_concurrency(concurrency: Concurrency) -> str | None:
    """Run two functions concurrently with this one; say what went wrong, if anything."""
    idents = [concurrency.get_ident()]
    daemons = []
    may_end = concurrency.event()

    def run(has_begun: Any) -> None:
        idents.append(concurrency.get_ident())
        daemons.append(threading.current_thread().daemon)
        has_begun.set()
        may_end.wait(PATIENCE)

    for _ in range(2):
        has_begun = concurrency.event()
        concurrency.spawn(lambda event=has_begun: run(event), "contract")  # type: ignore[misc]
        if not has_begun.wait(PATIENCE):
            return "what concurrency.spawn() is to run does not run"
    may_end.set()
    if len(set(idents)) < 3:
        return f"concurrency.get_ident() does not tell three callers from each other: {idents}"
    if not concurrency.green and not all(daemons):
        return "concurrency.spawn() starts threads that keep the process alive: daemon is false"
    return None


plugins.get_socket = watch  # type: ignore[method-assign]
