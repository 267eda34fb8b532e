"""A socket object for a server that has none, but only the number of a descriptor."""

from __future__ import annotations

import socket

__all__ = ["BorrowedSocket", "borrow_socket"]


class BorrowedSocket(socket.socket):
    """A socket on a server's descriptor, which only the server closes."""

    def close(self) -> None:
        """Let go of the descriptor."""
        self.detach()

    def __del__(self) -> None:
        # In place of the parent's, which would close it.
        self.detach()


def borrow_socket(fd: int) -> socket.socket:
    """Make a socket object of a descriptor that a server owns and will close.

    For plugins whose server keeps its connections outside Python.

    :param fd: the number of the descriptor.
    :return: a socket that can be used like any other, and that leaves the descriptor open when it
        is closed or garbage.
    :raises OSError: ``fd`` is not a socket.
    """
    return BorrowedSocket(fileno=fd)
