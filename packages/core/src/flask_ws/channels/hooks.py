"""Functions that are called for what is published: ``@sock.on_publish``.

A broker knows channels, not patterns. So a process that publishes on a channel for which there is
such a function publishes the message a second time, for the functions: on a channel that is named
after the pattern, and to which each process is subscribed.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import threading
from collections.abc import Callable
from typing import NamedTuple, cast

from ..connection.async_connection import AnyConnection
from ..exceptions import BrokerError
from ..plugin.brokers import Broker
from ..protocol.frames import TEXT, BytesLike
from ..protocol.shared import SharedMessage
from ..worker import Worker
from .listening import Mailbox, Message
from .settings import HOOKS_PREFIX, check_name, make_matcher
from .subscriptions import Subscriptions

__all__ = ["Hook", "Hooks", "check_pattern", "wrap"]

logger = logging.getLogger("flask_ws")

#: The most bytes of a pattern: with what the channel's name begins with, it has to be a name.
LONGEST = 200

#: Tells one publication from all others.
ID_SIZE = 8
LENGTH_SIZE = 2

NAME = "flask_ws.on_publish"

#: Seconds after which a thread with nothing to do ends.
PATIENCE = 0.5
#: Seconds between two attempts to reach the broker.
PAUSE = 0.5
#: Seconds for which it is known that a process has called a function.
KNOWN = 3600.0
#: The names of channels for which it is remembered which patterns they match.
REMEMBERED = 4096


def check_pattern(pattern: str) -> None:
    """Check the pattern of a function.

    :raises TypeError: it is no text.
    :raises ValueError: it is empty, or too long.
    """
    check_name(pattern)
    if len(pattern.encode()) > LONGEST:
        raise ValueError(f"A pattern must not be longer than {LONGEST} bytes of UTF-8.")


class Hook(NamedTuple):
    """A function, and what it is called for."""

    #: The name of a channel, or a pattern.
    pattern: str
    function: Callable[[Message], object]
    #: Whether one process calls it, of all.
    once: bool
    #: The function's name, the same in each process.
    name: str


class Hooks:
    """The functions of an app. Any thread may use them."""

    def __init__(self) -> None:
        self._hooks: list[Hook] = []
        self._matchers: dict[str, Callable[[str], bool]] = {}
        #: Returns the channels on which a message is published once more, by its channel; ``None``
        #: where there are no functions.
        self.find: Callable[[str], list[str]] | None = None
        self.start_anew()

    def start_anew(self) -> None:
        """Begin without subscriptions, as a child does after a fork."""
        self._runners: dict[int, Runner] = {}

    @property
    def is_due(self) -> bool:
        """Whether :meth:`subscribe` is to be called."""
        return len(self._runners) < len(self._hooks)

    def add(self, hook: Hook) -> None:
        """Add a function."""
        self._matchers[hook.pattern] = make_matcher(hook.pattern)
        self._hooks.append(hook)
        self.find = functools.lru_cache(REMEMBERED)(self._find)

    def _find(self, channel: str) -> list[str]:
        return [
            HOOKS_PREFIX + pattern
            for pattern, matches in self._matchers.items()
            if matches(channel)
        ]

    def subscribe(self, broker: Broker, prefix: str, subscriptions: Subscriptions) -> None:
        """Subscribe this process, unless it is.

        :param broker: the broker.
        :param prefix: what the app's names at the broker begin with.
        :param subscriptions: the app's.
        """
        for number, hook in enumerate(self._hooks[len(self._runners) :], len(self._runners)):
            runner = Runner(hook, broker, prefix)
            if self._runners.setdefault(number, runner) is runner:
                # A mailbox has the methods of a connection that are called here.
                connection = cast("AnyConnection", runner)
                try:
                    subscriptions.add(connection, HOOKS_PREFIX + hook.pattern, 1, None, runner.gap)
                except BaseException:
                    del self._runners[number]
                    raise

    def close(self) -> None:
        """Call no function any more."""
        for runner in list(self._runners.values()):
            runner.close()
        self.start_anew()


def wrap(channel: str, position: str | None, first: int, payload: BytesLike) -> bytes:
    """Make what is published there of a message.

    :param first: the first byte of its frame.
    """
    parts: list[BytesLike] = [bytes([first]), os.urandom(ID_SIZE)]
    for text in (channel, position or ""):
        part = text.encode()
        parts += [len(part).to_bytes(LENGTH_SIZE, "big"), part]
    return b"".join([*parts, payload])


def unwrap(data: bytes) -> tuple[str, str, str | None, str | bytes]:
    """Read the identifier of a publication, the channel, the position, and the message."""
    first, start = data[0], 1 + ID_SIZE
    found = [data[1:start].hex()]
    for _ in range(2):
        end = start + LENGTH_SIZE + int.from_bytes(data[start : start + LENGTH_SIZE], "big")
        found.append(data[start + LENGTH_SIZE : end].decode())
        start = end
    id_, channel, position = found
    payload = data[start:]
    return id_, channel, position or None, payload.decode() if first == TEXT else payload


class Runner(Mailbox):
    """Calls one function, for one message after the other, on a thread while there are any.

    :param hook: the function.
    :param broker: tells which process calls it, where one alone does.
    :param prefix: what the app's names there begin with.
    """

    def __init__(self, hook: Hook, broker: Broker, prefix: str) -> None:
        super().__init__(hook.pattern)
        self._hook = hook
        self._broker = broker
        self._prefix = prefix
        self._closed = threading.Event()
        self._worker = Worker(NAME, self._run, self.has_messages)

    def send_shared(self, message: SharedMessage) -> bool:
        """Keep a message; ``False`` if :meth:`overflow` must follow."""
        super().send_shared(message)
        return self._worker.is_running

    queue_shared = send_shared

    def overflow(self) -> None:
        """Have the function called."""
        try:
            self._worker.start()
        except RuntimeError:
            # The next message tries again.
            logger.exception(
                "%s cannot be called: the system has no more threads.", self._hook.name
            )

    def close(self) -> None:
        """Call it no more."""
        self._closed.set()
        super().close()

    def _run(self) -> None:
        while (message := self.take(PATIENCE)) is not None:
            assert isinstance(message.data, bytes)
            id_, channel, position, data = unwrap(message.data)
            if not self._hook.once or self._is_first(id_):
                self._call(Message(data, position, message.after_gap, channel))

    def _call(self, message: Message) -> None:
        try:
            self._hook.function(message)
        except Exception:
            logger.exception(
                "%s failed for a message on %r (on_publish).", self._hook.name, message.channel
            )

    def _is_first(self, id_: str) -> bool:
        """Tell whether no other process has called it; waits for a broker that is away."""
        function = hashlib.sha256(f"{self._hook.pattern} {self._hook.name}".encode()).hexdigest()
        key = f"{self._prefix}on_publish:{function[:16]}:{id_}"
        while not self._closed.is_set():
            try:
                return self._broker.use_once(key, KNOWN)
            except BrokerError:
                self._closed.wait(PAUSE)
        return False
