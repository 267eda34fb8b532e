"""What other systems wait for sockets with, as their manuals have it, made of what Linux has."""

from __future__ import annotations

import errno
import select
from typing import Any, NamedTuple

poll: Any = getattr(select, "poll", None)
epoll: Any = getattr(select, "epoll", None)


class Kevent(NamedTuple):
    """An event of kqueue's."""

    ident: int
    filter: int = -1
    flags: int = 1


class Kqueue:
    """macOS's and the BSDs' kqueue(2), as far as reading goes."""

    KQ_FILTER_READ = -1
    KQ_EV_ADD = 0x0001
    KQ_EV_DELETE = 0x0002
    KQ_EV_ENABLE = 0x0004
    KQ_EV_DISABLE = 0x0008

    def __init__(self) -> None:
        self._epoll = epoll()
        # Whether each is enabled.
        self._known: dict[int, bool] = {}

    def control(
        self, changes: list[Kevent] | None, most: int, timeout: float | None = None
    ) -> list[Kevent]:
        for change in changes or ():
            self._change(change)
        if not most:
            return []
        return [Kevent(fd) for fd, _ in self._epoll.poll(timeout, most)]

    def _change(self, change: Kevent) -> None:
        fd, flags = change.ident, change.flags
        assert change.filter == self.KQ_FILTER_READ
        if not flags & self.KQ_EV_ADD and fd not in self._known:
            raise OSError(errno.ENOENT, "No such file or directory")
        if self._known.get(fd):
            try:
                self._epoll.unregister(fd)
            except OSError:
                # Closed: with that, kqueue forgets it.
                del self._known[fd]
                raise
        if flags & self.KQ_EV_DELETE:
            del self._known[fd]
            return
        self._known[fd] = not flags & self.KQ_EV_DISABLE
        if self._known[fd]:
            self._epoll.register(fd, select.EPOLLIN)


class WSAPoll:
    """Windows' WSAPoll()."""

    POLLRDNORM = 0x0100
    argtypes: Any = ()

    def __call__(self, array: Any, number: int, milliseconds: int) -> int:
        # Linux's flags, and Windows', whose module has none of them.
        meanings = (
            (select.POLLIN, self.POLLRDNORM),
            (select.POLLHUP, 0x0002),
            (select.POLLERR, 0x0001),
            (select.POLLNVAL, 0x0004),
        )
        poller = poll()
        for index in range(number):
            assert array[index].events == self.POLLRDNORM
            poller.register(array[index].fd, select.POLLIN)
        found = dict(poller.poll(milliseconds))
        for index in range(number):
            event = found.get(array[index].fd, 0)
            array[index].revents = sum(value for flag, value in meanings if event & flag)
        return len(found)


class WinDLL:
    """ctypes' way to Windows' libraries."""

    def __init__(self, name: str, *, use_last_error: bool) -> None:
        assert (name, use_last_error) == ("ws2_32", True)
        self.WSAPoll = WSAPoll()


def install_kqueue(monkeypatch: Any) -> None:
    """Give the module select what it has on macOS."""
    monkeypatch.delattr(select, "epoll", raising=False)
    monkeypatch.setattr(select, "kqueue", Kqueue, raising=False)
    monkeypatch.setattr(select, "kevent", Kevent, raising=False)
    for name in ("KQ_FILTER_READ", "KQ_EV_ADD", "KQ_EV_DELETE", "KQ_EV_ENABLE", "KQ_EV_DISABLE"):
        monkeypatch.setattr(select, name, getattr(Kqueue, name), raising=False)
