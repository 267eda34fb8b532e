"""BrokerSuite: what every broker does, as tests for pytest."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar
from urllib.parse import urlsplit

from flask_ws.exceptions import BrokerError, ConfigurationError
from flask_ws.plugin.brokers import Broker
from flask_ws.plugin.manager import plugins

from .broker_history import HistoryTests
from .broker_presence import PresenceTests
from .broker_process import END, NAMES, PATIENCE, PAYLOADS, Process, at_once, wait_until
from .proxy import Proxy

__all__ = ["PATIENCE", "BrokerSuite", "Process"]

#: Seconds within which an unreachable broker raises.
SOON = 5.0
#: A password that may appear in no message.
SECRET = "5ecret"  # noqa: S105 (of nothing)


class BrokerSuite(HistoryTests, PresenceTests):
    """Tests of a broker, to be derived from by the author of one.

    ::

        from flask_ws.testing import BrokerSuite

        class TestMyBroker(BrokerSuite):
            url = "mybroker://localhost"
            unreachable_url = "mybroker://localhost:1"

    If the URL is known only at run time, a fixture of the class sets it on ``self``. Each broker
    that a test opens represents one process.
    """

    #: The ``SOCK_BROKER_URL`` of a running broker.
    url: str
    #: The URL of a broker that is not running; ``None`` for one that is always reachable.
    unreachable_url: str | None
    #: Whether there are other processes at all.
    reaches_others: ClassVar[bool] = True

    def url_through(self, host: str, port: int) -> str | None:
        """Return the URL of the same broker through a proxy, whose connections the suite cuts.

        By default that is :attr:`url` with another host and port.

        :return: ``None`` if there is none, as for a Unix socket or several servers; then the
            tests of lost connections pass at once.
        """
        try:
            parts = urlsplit(self.url)
            old = parts.hostname, parts.port
        except ValueError:
            return None
        if None in old:
            return None
        # Its certificate may be for the name "localhost".
        name = old[0] if old[0] == "localhost" else host
        credentials, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{credentials}{at}{name}:{port}").geturl()

    @contextmanager
    def behind_proxy(self) -> Iterator[tuple[Proxy, str] | None]:
        """Put a proxy in front of the broker; ``None`` if that is not possible."""
        if self.url_through("127.0.0.1", 1) is None:
            yield None
            return
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        with Proxy((parts.hostname, parts.port)) as proxy:
            url = self.url_through("127.0.0.1", proxy.port)
            assert url is not None
            yield proxy, url

    @contextmanager
    def process(self, url: str | None = None) -> Iterator[Process]:
        """Open the broker, as a process does."""
        broker = plugins.open_broker(url or self.url)
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
        """Check which publications of others a process has received, after the last one."""
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

    def test_many_threads_subscribe_and_unsubscribeat_once(self) -> None:
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

    # An unreachable broker

    def test_after_a_cut_all_that_is_subscribed_to_is_heard_again(self) -> None:
        """The broker notices the cut by itself."""
        with self.behind_proxy() as behind:
            if behind is None:
                return
            proxy, url = behind
            with self.process(url) as process, self.process() as publisher:
                for channel in ("a", "b"):
                    process.broker.subscribe(channel)
                self.publish_until_delivered(publisher, process, "a")
                proxy.cut()
                wait_until(lambda: process.broker.is_away, "the broker to notice the cut")
                proxy.restore()
                for channel in ("a", "b"):
                    self.publish_until_delivered(publisher, process, channel)
                wait_until(lambda: not process.broker.is_away, "the broker to say that it is back")

    def test_what_is_subscribed_to_while_away_is_heard_afterwards(self) -> None:
        """What is unsubscribed from meanwhile is not."""
        with self.behind_proxy() as behind:
            if behind is None:
                return
            proxy, url = behind
            with self.process(url) as process, self.process() as publisher:
                process.broker.subscribe("left")
                self.publish_until_delivered(publisher, process, "left")
                proxy.cut()
                wait_until(lambda: process.broker.is_away, "the broker to notice the cut")
                _soon(lambda: process.broker.subscribe("joined"), "subscribe() waits")
                _soon(lambda: process.broker.unsubscribe("left"), "unsubscribe() waits")
                proxy.restore()
                self.publish_until_delivered(publisher, process, "joined")
                publisher.broker.publish("left", b"not wanted")
                self.publish_until_delivered(publisher, process, "joined")
                assert ("left", b"not wanted") not in process.delivered

    def test_the_first_publication_may_find_it_away(self) -> None:
        """It raises; a later one arrives."""
        with self.behind_proxy() as behind:
            if behind is None:
                return
            proxy, url = behind
            proxy.cut()
            with self.listening("a") as process, self.process(url) as publisher:
                _expect_error(publisher.broker)
                proxy.restore()
                self.publish_until_delivered(publisher, process, "a")

    def test_a_connection_that_stalls_is_not_waited_for(self) -> None:
        """No answer within a second or two counts as unreachable."""
        with self.behind_proxy() as behind:
            if behind is None:
                return
            proxy, url = behind
            with self.listening("a") as process, self.process(url) as publisher:
                self.publish_until_delivered(publisher, process, "a")
                proxy.stall()
                for _ in range(3):
                    _expect_error(publisher.broker)
                proxy.restore()
                self.publish_until_delivered(publisher, process, "a")

    def publish_until_delivered(self, publisher: Process, process: Process, channel: str) -> None:
        """Publish repeatedly, as either of them may still be connecting."""
        payload = os.urandom(8).hex().encode()

        def is_delivered() -> bool:
            with contextlib.suppress(BrokerError):
                publisher.broker.publish(channel, payload)
            return process.has(channel, payload)

        wait_until(is_delivered, f"a publication on {channel!r} to arrive", every=0.1)

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

    def test_one_that_is_away_says_so_soon(self) -> None:
        """It raises only on publishing, and can be closed."""
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


def _refusal(url: str) -> ConfigurationError | None:
    try:
        plugins.open_broker(url)
    except ConfigurationError as error:
        return error
    return None


def _soon(function: Callable[[], object], complaint: str) -> None:
    """Call a function that must return soon."""
    done = threading.Event()

    def run() -> None:
        function()
        done.set()

    threading.Thread(target=run, daemon=True).start()
    assert done.wait(SOON), f"{complaint} for more than {SOON} s"


def _expect_error(broker: Broker) -> None:
    """Publish to an unreachable broker, which must raise soon."""
    errors: list[Exception] = []

    def publish() -> None:
        try:
            broker.publish("a", b"")
        except Exception as error:
            errors.append(error)

    _soon(publish, "publish() waits")
    assert errors, "publish() raised no BrokerError"
    assert isinstance(errors[0], BrokerError), f"publish() raised {errors[0]!r}, no BrokerError"


def _count_descriptors() -> int:
    # Imported on demand: the client for tests works without the packages of the extra.
    import psutil

    process = psutil.Process()
    count: Callable[[], int] = getattr(process, "num_fds" if os.name == "posix" else "num_handles")
    return count()
