"""What the tests of a broker stand on: the broker in processes, directly and behind a proxy."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar
from urllib.parse import urlsplit

from flask_ws.exceptions import BrokerError
from flask_ws.plugin.manager import plugins

from ..proxy import Proxy
from .process import END, Process, wait_until

__all__ = ["BrokerTests"]


class BrokerTests:
    """Opens the broker that is tested. Each that a test opens represents one process."""

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

    def publish_until_delivered(self, publisher: Process, process: Process, channel: str) -> None:
        """Publish repeatedly, as either of them may still be connecting."""
        payload = os.urandom(8).hex().encode()

        def is_delivered() -> bool:
            with contextlib.suppress(BrokerError):
                publisher.broker.publish(channel, payload)
            return process.has(channel, payload)

        wait_until(is_delivered, f"a publication on {channel!r} to arrive", every=0.1)
