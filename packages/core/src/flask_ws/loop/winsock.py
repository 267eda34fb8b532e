"""Waiting for many sockets at once on Windows.

The standard library has only ``select()`` there, for 512 sockets. ``WSAPoll()`` takes any number.
"""

from __future__ import annotations

import ctypes
import re
import threading

__all__ = ["WindowsSockets"]

#: Asks for and reports data, or the end of the stream (winsock2.h).
POLLRDNORM = 0x0100
#: Reports a socket that has been closed on this side.
POLLNVAL = 0x0004

NONZERO = re.compile(rb"[^\0]")


class PollFd(ctypes.Structure):
    """WSAPOLLFD."""

    _fields_ = (
        ("fd", ctypes.c_size_t),
        ("events", ctypes.c_short),
        ("revents", ctypes.c_short),
    )


class WindowsSockets:
    """Sockets that one thread waits for; others may add and discard some meanwhile."""

    def __init__(self) -> None:
        library = ctypes.WinDLL("ws2_32", use_last_error=True)  # type: ignore[attr-defined]
        self._poll = library.WSAPoll
        self._poll.argtypes = (ctypes.POINTER(PollFd), ctypes.c_ulong, ctypes.c_int)
        # The lock is for changes of the set; the array for the system is rebuilt after one.
        self._lock = threading.Lock()
        self._entries: dict[int, PollFd] = {}
        self._changed = True
        self._given: list[PollFd] = []
        self._array = (PollFd * 0)()

    def add(self, fd: int) -> None:
        """Wait for ``fd`` from the next :meth:`wait` on."""
        with self._lock:
            self._entries[fd] = PollFd(fd, POLLRDNORM, 0)
            self._changed = True

    def discard(self, fd: int) -> None:
        """Stop waiting for ``fd``, if it was added."""
        with self._lock:
            self._entries.pop(fd, None)
            self._changed = True

    def wait(self, timeout: float) -> list[int]:
        """Return those that are readable, have ended or failed; none after ``timeout`` seconds.

        A socket that was closed is reported once, and discarded, as other systems do.

        :raises OSError: the system cannot wait.
        """
        if self._changed:
            with self._lock:
                self._changed = False
                self._given = list(self._entries.values())
            self._array = (PollFd * len(self._given))(*self._given)
        found = self._poll(self._array, len(self._given), int(timeout * 1000) + 1)
        if found < 0:
            error = ctypes.get_last_error()  # type: ignore[attr-defined]
            raise ctypes.WinError(error)  # type: ignore[attr-defined]
        if not found:
            return []
        # A regular expression searches at C speed: of thousands, few are ready. Ends and errors are
        # in the lower byte.
        data = bytes(self._array)
        size, offset = ctypes.sizeof(PollFd), PollFd.revents.offset
        ready = {
            match.start()
            for lane in (data[offset::size], data[offset + 1 :: size])
            for match in NONZERO.finditer(lane)
        }
        for index in ready:
            if self._array[index].revents & POLLNVAL:
                self._forget(self._given[index])
        return [self._given[index].fd for index in ready]

    def _forget(self, entry: PollFd) -> None:
        """Discard a socket that is closed, unless another with its number was added meanwhile."""
        with self._lock:
            if self._entries.get(entry.fd) is entry:
                del self._entries[entry.fd]
                self._changed = True
