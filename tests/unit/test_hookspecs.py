from __future__ import annotations

import socket

from flask_ws import ServerSocket
from flask_ws.concurrency import threads

NONE: socket.socket = object()  # type: ignore[assignment]


def test_a_server_socket_has_read_nothing_ahead_unless_it_says_so() -> None:
    assert ServerSocket(NONE).take_read_ahead() == b""


def test_bytes_read_ahead_may_be_given_as_such() -> None:
    assert ServerSocket(NONE, read_ahead=b"early").take_read_ahead() == b"early"


def test_bytes_read_ahead_may_be_taken_by_a_function() -> None:
    assert ServerSocket(NONE, read_ahead=lambda: b"early").take_read_ahead() == b"early"


def test_handlers_stay_in_the_worker_unless_the_server_says_otherwise() -> None:
    assert ServerSocket(NONE).detach is False


def test_a_server_is_not_stopping_unless_it_says_so() -> None:
    assert ServerSocket(NONE).is_stopping() is False


def test_all_servers_that_do_not_say_share_one_is_stopping() -> None:
    assert ServerSocket(NONE).is_stopping is ServerSocket(NONE).is_stopping


def test_the_primitives_are_those_of_threads_unless_the_server_brings_others() -> None:
    assert ServerSocket(NONE).concurrency is threads
