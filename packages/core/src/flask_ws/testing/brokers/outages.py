"""What every broker does whose server cannot be reached, as tests for pytest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from flask_ws.exceptions import BrokerError
from flask_ws.plugin.brokers import Broker
from flask_ws.plugin.manager import plugins

from .base import BrokerTests
from .process import Process, wait_until

__all__ = ["OutageTests"]

#: Seconds within which an unreachable broker raises.
SOON = 5.0


class OutageTests(BrokerTests):
    """The part of :class:`.BrokerSuite` about a broker that is away, and comes back."""

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
