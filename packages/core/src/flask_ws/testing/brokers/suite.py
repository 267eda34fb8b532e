"""BrokerSuite: what every broker does, as tests for pytest."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable

from flask_ws.exceptions import ConfigurationError
from flask_ws.plugin.manager import plugins

from .history import HistoryTests
from .outages import OutageTests
from .presence import PresenceTests
from .process import END, NAMES, PAYLOADS, Process, at_once, wait_until

__all__ = ["BrokerSuite"]

#: A password that may appear in no message.
SECRET = "5ecret"  # noqa: S105 (of nothing)


class BrokerSuite(HistoryTests, PresenceTests, OutageTests):
    """Tests of a broker, to be derived from by the author of one.

    ::

        from flask_ws.testing import BrokerSuite

        class TestMyBroker(BrokerSuite):
            url = "mybroker://localhost"
            unreachable_url = "mybroker://localhost:1"

    If the URL is known only at run time, a fixture of the class sets it on ``self``. Each broker
    that a test opens represents one process.
    """

    def test_nothing_is_connected_before_the_start(self) -> None:
        """A broker that is only opened has no threads, and need not be closed."""
        before = set(threading.enumerate())
        plugins.open_broker(self.url)
        assert set(threading.enumerate()) <= before

    def test_a_publication_reaches_other_processes_byte_for_byte(self) -> None:
        """Any bytes."""
        with self.listening("a") as process, self.process() as publisher:
            for payload in PAYLOADS:
                publisher.broker.publish("a", payload)
            self.check(process, "a", list(PAYLOADS))

    def test_every_process_gets_a_publication_once(self) -> None:
        """Every process that is subscribed."""
        with self.listening("a") as one, self.listening("a") as other:
            with self.process() as publisher:
                publisher.broker.publish("a", b"payload")
            self.check(one, "a", [b"payload"])
            self.check(other, "a", [b"payload"])

    def test_channels_are_apart_whatever_their_names(self) -> None:
        """A name is not a pattern, and is compared byte for byte."""
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

            at_once(lambda: publish("a"), lambda: publish("b"), lambda: publish("c"))
            self.check(process, "a", payloads)

    def test_one_that_brings_back_has_one_order_for_all(self) -> None:
        """The publishers' own processes included, also when two publish at once."""
        with self.listening("a") as one, self.listening("a") as other:
            if not one.broker.brings_back:
                return

            def publish(process: Process, name: str) -> None:
                for number in range(100):
                    process.broker.publish("a", f"{name} {number}".encode())

            at_once(lambda: publish(one, "one"), lambda: publish(other, "other"))
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
            # The broker processes these in order: after it, the unsubscription is done.
            process.broker.subscribe("c")
            publisher.broker.publish("a", b"not wanted")
            process.broker.subscribe("a")
            publisher.broker.publish("a", b"wanted")
            self.check(process, "b", [b"wanted"])

    def test_many_threads_subscribe_and_unsubscribe_at_once(self) -> None:
        """The subscriptions that remain are served, and no others."""
        with self.process() as process, self.process() as publisher:

            def change(name: str) -> None:
                for _ in range(10):
                    process.broker.subscribe(name)
                    process.broker.unsubscribe(name)
                process.broker.subscribe(name)

            names = [f"channel {number}" for number in range(8)]
            at_once(*[lambda name=name: change(name) for name in names])
            for name in names:
                publisher.broker.publish(name, name.encode())
            self.check(process, names[0], [name.encode() for name in names])

    def test_channels_tells_who_is_subscribed_to_what(self) -> None:
        """The number of processes, for names with a prefix; or ``None``."""
        with self.listening("*:a", "*:b", "x:a") as process, self.listening("*:a"):
            channels = process.broker.channels("*:")
            assert channels is None or channels == {"*:a": 2, "*:b": 1}

    def test_publishing_tells_how_many_are_reached_or_nothing(self) -> None:
        """The processes that are subscribed; its own is one of them where it brings back."""
        with self.listening("a") as one, self.listening("a"), self.process() as publisher:
            assert publisher.broker.publish("a", b"") in (None, 2)
            assert publisher.broker.publish("b", b"") in (None, 0)
            if one.broker.brings_back:
                assert one.broker.publish("a", b"") in (None, 2)

    def test_what_is_used_once_is_used_once_in_all_processes(self) -> None:
        """Of those that try at the same time, one does; in its time, and with its key."""
        with self.process() as one, self.process() as other:
            if not one.broker.uses_once:
                return
            key = f"ticket:{os.urandom(8).hex()}"
            answers: list[bool] = []

            def use(process: Process) -> None:
                answers.extend(process.broker.use_once(key, 60) for _ in range(20))

            processes = (one, one, other) if self.reaches_others else (one, one, one)
            at_once(*[functools.partial(use, process) for process in processes])
            assert sorted(answers) == [False] * 59 + [True]
            assert one.broker.use_once(f"{key}!", 60)

    def test_what_was_used_is_forgotten_in_the_end(self) -> None:
        """The broker does not fill up with it."""
        with self.process() as process:
            if not process.broker.uses_once:
                return
            key = f"ticket:{os.urandom(8).hex()}"
            assert process.broker.use_once(key, 0.05)
            wait_until(lambda: process.broker.use_once(key, 60), "it to be forgotten", every=0.05)

    def test_closing_ends_all_threads(self) -> None:
        """No thread of the broker is left."""
        before = set(threading.enumerate())
        with self.listening("a") as process:
            process.broker.publish("a", b"")
        wait_until(lambda: set(threading.enumerate()) <= before, "all threads to end")

    def test_closing_frees_all_descriptors(self) -> None:
        """Those of connections included."""
        with self.listening("a") as process:
            process.broker.publish("a", b"")
        before = _count_descriptors()
        with self.listening("a") as process, self.process() as publisher:
            publisher.broker.publish("a", b"")
        wait_until(lambda: _count_descriptors() <= before, "descriptors to be freed")

    def test_after_closing_nothing_comes(self) -> None:
        """Even if channels were subscribed to."""
        with self.listening("a") as process:
            pass
        with self.listening("a") as other, self.process() as publisher:
            publisher.broker.publish("a", b"too late")
            self.check(other, "a", [b"too late"])
        assert process.delivered == []

    # URLs

    def test_urls_of_other_schemes_are_left_alone(self) -> None:
        """No plugin claims what it does not know."""
        for url in ("carrier-pigeon://localhost:1", f"x{self.url}", "//localhost", ":"):
            try:
                broker = plugins.open_broker(url)
            except ConfigurationError:
                continue
            raise AssertionError(f"{url} was claimed by {broker!r}")

    def test_urls_that_make_no_sense_are_refused_in_words(self) -> None:
        """By ConfigurationError, without the password."""
        if self.url_through("127.0.0.1", 1) is None:
            return
        scheme = self.url.partition(":")[0]
        for place in ("127.0.0.1:port", "127.0.0.1:99999", "[:1"):
            url = f"{scheme}://user:{SECRET}@{place}"
            error = _refusal(url)
            assert error is not None, f"{url} was taken"
            assert SECRET not in str(error), "the error shows a password"


def _refusal(url: str) -> ConfigurationError | None:
    try:
        plugins.open_broker(url)
    except ConfigurationError as error:
        return error
    return None


def _count_descriptors() -> int:
    # Imported on demand: the client for tests works without the packages of the extra.
    import psutil

    process = psutil.Process()
    count: Callable[[], int] = getattr(process, "num_fds" if os.name == "posix" else "num_handles")
    return count()
