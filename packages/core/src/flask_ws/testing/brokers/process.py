"""What the suite for brokers is made of: a broker in a process, and names and payloads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from flask_ws.plugin.brokers import Broker
from flask_ws.plugin.history import Position

__all__ = ["END", "NAMES", "PATIENCE", "PAYLOADS", "Process", "at_once", "wait_until"]

#: Seconds that any step may take, also on a busy machine.
PATIENCE = 10.0

#: Names that a broker might interpret as patterns, paths or keys.
NAMES = (
    "plain",
    # Names that differ by case, by spaces, or in how an accent is written.
    "Plain",
    " plain",
    "plain ",
    "plainé",
    "plaine\N{COMBINING ACUTE ACCENT}",
    "with space",
    "ünï¢ode",
    "a*?[b]^\\c",
    "a.b/c:d{e}",
    "x" * 500,
)
#: Payloads that a broker might decode, cut or merge.
PAYLOADS = (b"text", b"text", b"", b"\0\r\n\xff\n", bytes(range(256)) * 4096)
#: The start of the payload that a test publishes last.
END = b"the last: "


class Process:
    """A broker in one process, and what it has delivered."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.delivered: list[tuple[str, bytes]] = []
        #: The positions of those that came with one.
        self.positions: list[Position] = []
        self._condition = threading.Condition()
        broker.start(self._deliver)

    def _deliver(self, channel: str, payload: bytes, position: Position | None = None) -> None:
        with self._condition:
            self.delivered.append((channel, payload))
            if position is not None:
                self.positions.append(position)
            self._condition.notify_all()

    def has(self, channel: str, payload: bytes) -> bool:
        """Tell whether a payload has been delivered."""
        with self._condition:
            return (channel, payload) in self.delivered

    def await_payload(self, payload: bytes) -> None:
        """Wait until a payload has been delivered."""
        with self._condition:
            assert self._condition.wait_for(
                lambda: any(found == payload for _, found in self.delivered), PATIENCE
            ), f"{payload[:40]!r} was not delivered within {PATIENCE} s"


def at_once(*functions: Callable[[], object]) -> None:
    """Call functions at the same time, each in a thread of its own."""
    with ThreadPoolExecutor(len(functions)) as pool:
        for future in [pool.submit(function) for function in functions]:
            future.result(PATIENCE)


def wait_until(probe: Callable[[], bool], what: str, *, every: float = 0.01) -> None:
    """Wait until a function returns true."""
    deadline = time.monotonic() + PATIENCE
    while not probe():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {PATIENCE} s: {what}")
        time.sleep(every)
