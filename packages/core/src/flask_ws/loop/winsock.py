"""Waiting for many sockets at once on Windows.

The standard library has only ``select()`` there, for 512 sockets. ``WSAPoll()`` takes any number.
"""

from __future__ import annotations

import ctypes
import re

__all__ = ["WindowsSockets"]

#: Asks for and reports data, or the end of the stream (winsock2.h).
POLLRDNORM = 0x0100

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
        self._fds: dict[int, None] = {}
        # The array for the system is rebuilt when the set has changed.
        self._changed = True
        self._given: list[int] = []
        self._array = (PollFd * 0)()

    def add(self, fd: int) -> None:
        """Wait for ``fd`` from the next :meth:`wait` on."""
        self._fds[fd] = None
        self._changed = True

    def discard(self, fd: int) -> None:
        """Stop waiting for ``fd``, if it was added."""
        self._fds.pop(fd, None)
        self._changed = True

    def wait(self, timeout: float) -> list[int]:
        """Return those that are readable, have ended or failed; none after ``timeout`` seconds.

        :raises OSError: the system cannot wait.
        """
        if self._changed:
            # Reset first: what changes from here on is for the next wait.
            self._changed = False
            self._given = list(self._fds)
            entries = [PollFd(fd, POLLRDNORM, 0) for fd in self._given]
            self._array = (PollFd * len(entries))(*entries)
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
        return [self._given[index] for index in ready]
