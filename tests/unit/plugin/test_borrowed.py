from __future__ import annotations

import gc
import os
import socket
import warnings
from collections.abc import Iterator

import pytest
from tests.support.memory import tcp_pair

from flask_ws import borrow_socket
from flask_ws.http.takeover import Takeover


@pytest.fixture
def fd() -> Iterator[int]:
    """The descriptor of a server's connection."""
    client, sock = tcp_pair()
    with client, sock:
        yield sock.fileno()


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_borrowed_socket_is_on_the_servers_descriptor(fd: int) -> None:
    sock = borrow_socket(fd)

    assert sock.fileno() == fd
    assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_STREAM)


def test_a_borrowed_socket_that_is_garbage_leaves_the_descriptor_open(fd: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        borrow_socket(fd)
        gc.collect()

    assert is_open(fd)


def test_a_borrowed_socket_that_is_closed_leaves_the_descriptor_open(fd: int) -> None:
    borrow_socket(fd).close()

    assert is_open(fd)


@pytest.mark.unix
@pytest.mark.parametrize("default", [None, 5.0])
@pytest.mark.parametrize("blocking", [False, True])
def test_a_borrowed_socket_leaves_the_descriptor_as_blocking_as_it_is(
    fd: int, blocking: bool, default: float | None
) -> None:
    os.set_blocking(fd, blocking)
    socket.setdefaulttimeout(default)
    try:
        sock = borrow_socket(fd)
    finally:
        socket.setdefaulttimeout(None)

    assert os.get_blocking(fd) is blocking
    assert sock.getblocking() is blocking


def test_what_is_no_socket_cannot_be_borrowed() -> None:
    read, write = os.pipe()
    try:
        with pytest.raises(OSError, match="Socket operation on non-socket"):
            borrow_socket(read)
        assert is_open(read)
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.unix
def test_a_connection_taken_from_a_borrowed_socket_is_owned(fd: int) -> None:
    """So that it does not stay open when it is closed."""
    takeover = Takeover(borrow_socket(fd))
    takeover.take()
    own = takeover.sock.fileno()
    assert own != fd
    takeover.close()
    takeover.drain()

    assert not is_open(own)
    assert is_open(fd)
