"""Brokers on servers of their own: opened as processes open them, cut off, and forked."""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import pytest

from flask_ws import Broker, BrokerError, ConfigurationError
from flask_ws.testing.brokers import PATIENCE, Process
from flask_ws.testing.suite.process import wait_until

OpenBroker = Callable[[str], "Broker | None"]
OpenProcess = Callable[..., Process]


class Server(Protocol):
    """A broker's server, which a test may end and start again."""

    def start(self) -> None: ...

    def kill(self) -> None: ...


@contextlib.contextmanager
def opening(open_broker: OpenBroker) -> Iterator[OpenProcess]:
    """Have what opens a broker, subscribed to channels, as a process does."""
    with contextlib.ExitStack() as processes:

        def open_process(url: str, *channels: str) -> Process:
            broker = open_broker(url)
            assert broker is not None
            processes.callback(broker.close)
            process = Process(broker)
            for channel in channels:
                broker.subscribe(channel)
            return process

        yield open_process


def publish_until_received(publisher: Process, receiver: Process, payload: bytes) -> None:
    """Publish when the broker is not away any more."""
    wait_until(lambda: not receiver.broker.is_away, timeout=3 * PATIENCE, what="it back")

    def is_published() -> bool:
        try:
            publisher.broker.publish("a", payload)
        except BrokerError:
            return False
        return True

    wait_until(is_published, timeout=PATIENCE)
    receiver.await_payload(payload)


def check_no_password_in_error(open_broker: OpenBroker, url: str) -> None:
    """Check that a wrong URL is refused without any part of its password, QWX and ZJK."""
    with pytest.raises(ConfigurationError) as raised:
        open_broker(url)
    shown = "".join(traceback.format_exception(raised.value))
    shown = shown[shown.rindex("ConfigurationError") :]
    assert "QWX" not in shown
    assert "ZJK" not in shown
    assert raised.value.__cause__ is None


def check_refusal_in_words(open_broker: OpenBroker, url: str, in_words: str) -> None:
    """Check that a wrong URL is refused in words, without its password."""
    with pytest.raises(ConfigurationError, match=in_words) as raised:
        open_broker(url)
    assert "SOCK_BROKER_URL" in str(raised.value)
    assert "secret" not in str(raised.value)


def check_return_from_the_dead(
    server: Server, receiver: Process, publisher: Process, caplog: pytest.LogCaptureFixture
) -> None:
    """Kill a server and start it again: all goes on, and each process logs two lines.

    :param receiver: subscribed to ``a`` and ``b``.
    """
    publish_until_received(publisher, receiver, b"before")
    server.kill()
    wait_until(lambda: receiver.broker.is_away, what="the listener to see it")
    for process in (receiver, publisher):
        with pytest.raises(BrokerError):
            process.broker.publish("a", b"lost")
    began = time.monotonic()
    receiver.broker.subscribe("c")
    receiver.broker.unsubscribe("b")
    assert time.monotonic() - began < 1
    server.start()
    publish_until_received(publisher, receiver, b"after")
    publisher.broker.publish("c", b"for c")
    receiver.await_payload(b"for c")
    assert not receiver.broker.is_away
    assert [payload for _, payload in receiver.delivered] == [b"before", b"after", b"for c"]
    lines = [record.getMessage() for record in caplog.records if record.name == "flask_ws"]
    assert sum("is away" in line for line in lines) == 2
    assert sum("is back" in line for line in lines) == 2
    assert len(lines) == 4


def check_child(
    open_broker: OpenBroker, url: str, fds: Iterable[int], at_end: Callable[[], object]
) -> None:
    """Check that a child closes the descriptors it has inherited, and can have its own broker.

    :param fds: those of the parent's connections.
    :param at_end: called in the child at its end.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for fd in fds:
                with contextlib.suppress(OSError):
                    os.fstat(fd)
                    os.write(writer, b"open")
            broker = open_broker(url)
            assert broker is not None
            child = Process(broker)
            broker.subscribe("b")
            broker.publish("a", b"from the child")
            broker.publish("b", b"to itself")
            child.await_payload(b"to itself")
            broker.close()
            at_end()
            os.write(writer, b"well")
        finally:
            os._exit(0)
    os.close(writer)
    assert os.read(reader, 4) == b"well"
    os.close(reader)
    os.waitpid(pid, 0)
