"""Waiting for many sockets at once on Windows.

The standard library has but ``select()`` there, for 512 sockets. ``WSAPoll()`` takes any number.
"""

from __future__ import annotations

import ctypes
import re

__all__ = ["WindowsSockets"]

#: Asks for, and tells of, data or the end of the stream (winsock2.h).
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
    """Sockets to wait for, for one thread; others may add to them and discard of them meanwhile."""

    def __init__(self) -> None:
        library = ctypes.WinDLL("ws2_32", use_last_error=True)  # type: ignore[attr-defined]
        self._poll = library.WSAPoll
        self._poll.argtypes = (ctypes.POINTER(PollFd), ctypes.c_ulong, ctypes.c_int)
        self._fds: dict[int, None] = {}
        # What is given to the system is made anew when something has changed.
        self._changed = True
        self._given: list[int] = []
        self._array = (PollFd * 0)()

    def add(self, fd: int) -> None:
        """Wait for ``fd`` from the next :meth:`wait` on."""
        self._fds[fd] = None
        self._changed = True

    def discard(self, fd: int) -> None:
        """Wait for it no more, if it was added."""
        self._fds.pop(fd, None)
        self._changed = True

    def wait(self, timeout: float) -> list[int]:
        """Return those that are readable, have ended or failed; none after ``timeout`` seconds.

        :raises OSError: the system cannot wait.
        """
        if self._changed:
            # First: what changes from here on is for the next time.
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
        # At C level: there may be thousands, of which few are ready. Ends and errors are in the
        # lower byte.
        data = bytes(self._array)
        size, offset = ctypes.sizeof(PollFd), PollFd.revents.offset
        ready = {
            match.start()
            for lane in (data[offset::size], data[offset + 1 :: size])
            for match in NONZERO.finditer(lane)
        }
        return [self._given[index] for index in ready]
