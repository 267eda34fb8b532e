"""BrokerSuite: what every broker does, as tests for pytest."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import ClassVar

from flask_ws.exceptions import BrokerError
from flask_ws.plugin.brokers import Broker
from flask_ws.plugin.manager import plugins

__all__ = ["BrokerSuite"]

#: Seconds that anything may take, on a busy machine too.
PATIENCE = 10.0
#: Seconds within which a broker that is away says so.
SOON = 5.0

#: Names that a broker might take for more than names.
NAMES = ("plain", "with space", "ünï¢ode", "a*?[b]^\\c", "a.b/c:d{e}", "x" * 500)
#: Bytes that a broker might take for more than bytes.
PAYLOADS = (b"text", b"", b"\0\r\n\xff\n", bytes(range(256)) * 4096)
#: How the payload begins that a test publishes at its end.
END = b"the last: "


class Process:
    """A broker as one process has it, and what it has delivered."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.delivered: list[tuple[str, bytes]] = []
        self._condition = threading.Condition()
        broker.start(self._deliver)

    def _deliver(self, channel: str, payload: bytes) -> None:
        with self._condition:
            self.delivered.append((channel, payload))
            self._condition.notify_all()

    def await_payload(self, payload: bytes) -> None:
        """Wait until a payload has been delivered."""
        with self._condition:
            assert self._condition.wait_for(
                lambda: any(found == payload for _, found in self.delivered), PATIENCE
            ), f"{payload[:40]!r} was not delivered within {PATIENCE} s"


class BrokerSuite:
    """Tests of a broker, to be derived from by the author of one.

    ::

        from flask_ws.testing import BrokerSuite

        class TestMyBroker(BrokerSuite):
            url = "mybroker://localhost"
            unreachable_url = "mybroker://localhost:1"

    Where the URL is known at run time only, a fixture of the class sets it on ``self``. Each
    broker that a test opens stands for a process of its own.
    """

    #: The ``SOCK_BROKER_URL`` of a broker that is there.
    url: str
    #: That of one that is not; ``None`` for a broker that cannot be away.
    unreachable_url: str | None
    #: Whether there are other processes at all.
    reaches_others: ClassVar[bool] = True

    @contextmanager
    def process(self) -> Iterator[Process]:
        """Open the broker, as a process does."""
        broker = plugins.open_broker(self.url)
        try:
            yield Process(broker)
        finally:
            broker.close()

    @contextmanager
    def listening(self, *channels: str) -> Iterator[Process]:
        """Open the broker in a process with subscribers."""
        with self.process() as process:
            for channel in channels:
                process.broker.subscribe(channel)
            yield process

    def check(self, process: Process, channel: str, payloads: list[bytes]) -> None:
        """Check what a process has got of the others' publications, when no more is to come."""
        last = END + os.urandom(8).hex().encode()
        with self.process() as publisher:
            publisher.broker.publish(channel, last)
        if self.reaches_others:
            process.await_payload(last)
        found = [payload for _, payload in process.delivered if not payload.startswith(END)]
        assert found == (payloads if self.reaches_others else [])

    def test_nothing_is_connected_before_the_start(self) -> None:
        """A broker that is only opened has no threads, and need not be closed."""
        before = set(threading.enumerate())
        plugins.open_broker(self.url)
        assert set(threading.enumerate()) == before

    def test_a_publication_reaches_other_processes_byte_for_byte(self) -> None:
        """Whatever the bytes are."""
        with self.listening("a") as process, self.process() as publisher:
            for payload in PAYLOADS:
                publisher.broker.publish("a", payload)
            self.check(process, "a", list(PAYLOADS))

    def test_every_process_gets_a_publication_once(self) -> None:
        """Those that are subscribed, one as the other."""
        with self.listening("a") as one, self.listening("a") as other:
            with self.process() as publisher:
                publisher.broker.publish("a", b"payload")
            self.check(one, "a", [b"payload"])
            self.check(other, "a", [b"payload"])

    def test_channels_are_apart_whatever_their_names(self) -> None:
        """A name means itself."""
        with self.listening(*NAMES) as process, self.process() as publisher:
            for name in NAMES:
                publisher.broker.publish(name + "!", b"another's")
                publisher.broker.publish(name, name.encode())
            self.check(process, NAMES[0], [name.encode() for name in NAMES])
            if self.reaches_others:
                assert [name for name, _ in process.delivered[:-1]] == list(NAMES)

    def test_the_order_of_a_threads_publications_is_kept(self) -> None:
        """On one channel, while other threads publish on others."""
        payloads = [str(number).encode() for number in range(200)]
        with self.listening("a") as process, self.process() as publisher:

            def publish(channel: str) -> None:
                for payload in payloads:
                    publisher.broker.publish(channel, payload)

            _at_once(lambda: publish("a"), lambda: publish("b"), lambda: publish("c"))
            self.check(process, "a", payloads)

    def test_one_that_brings_back_has_one_order_for_all(self) -> None:
        """The publisher's own process, too; and so whoever publishes at the same time."""
        with self.listening("a") as one, self.listening("a") as other:
            if not one.broker.brings_back:
                return

            def publish(process: Process, name: str) -> None:
                for number in range(100):
                    process.broker.publish("a", f"{name} {number}".encode())

            _at_once(lambda: publish(one, "one"), lambda: publish(other, "other"))
            assert not one.broker.is_deaf("a")
            one.broker.publish("a", END)
            one.await_payload(END)
            other.await_payload(END)
            assert one.delivered == other.delivered
            assert len(one.delivered) == 201

    def test_after_unsubscribing_nothing_comes(self) -> None:
        """Until the channel is subscribed to again."""
        with self.listening("a", "b") as process, self.process() as publisher:
            process.broker.unsubscribe("a")
            # Where that has been seen to, so has what came before it.
            process.broker.subscribe("c")
            publisher.broker.publish("a", b"not wanted")
            process.broker.subscribe("a")
            publisher.broker.publish("a", b"wanted")
            self.check(process, "b", [b"wanted"])

    def test_many_threads_subscribe_and_unsubscribe_at_once(self) -> None:
        """What is subscribed to at last is listened to, and nothing else."""
        with self.process() as process, self.process() as publisher:

            def change(name: str) -> None:
                for _ in range(10):
                    process.broker.subscribe(name)
                    process.broker.unsubscribe(name)
                process.broker.subscribe(name)

            names = [f"channel {number}" for number in range(8)]
            _at_once(*[lambda name=name: change(name) for name in names])
            for name in names:
                publisher.broker.publish(name, name.encode())
            self.check(process, names[0], [name.encode() for name in names])

    def test_channels_tells_who_is_subscribed_to_what(self) -> None:
        """In how many processes, for the names with a prefix; or nothing at all."""
        with self.listening("*:a", "*:b", "x:a") as process, self.listening("*:a"):
            channels = process.broker.channels("*:")
            assert channels is None or channels == {"*:a": 2, "*:b": 1}

    def test_closing_ends_all_threads(self) -> None:
        """Nothing is left of them."""
        before = set(threading.enumerate())
        with self.listening("a") as process:
            process.broker.publish("a", b"")
        deadline = time.monotonic() + PATIENCE
        while set(threading.enumerate()) - before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert set(threading.enumerate()) <= before

    def test_one_that_is_away_says_so_soon(self) -> None:
        """Only when something is published; and it can be closed."""
        if self.unreachable_url is None:
            return
        broker = plugins.open_broker(self.unreachable_url)
        process = Process(broker)
        began = time.monotonic()
        broker.subscribe("a")
        for _ in range(10):
            try:
                broker.publish("a", b"")
            except BrokerError:
                pass
            else:
                raise AssertionError("publish() raised no BrokerError")
        broker.unsubscribe("a")
        broker.close()
        assert time.monotonic() - began < SOON
        assert process.delivered == []


def _at_once(*functions: Callable[[], object]) -> None:
    with ThreadPoolExecutor(len(functions)) as pool:
        for future in [pool.submit(function) for function in functions]:
            future.result(PATIENCE)
