"""BrokerListener: the connection on which a broker's messages arrive, and its thread."""

from __future__ import annotations

import _socket
import contextlib
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from ..process import after_fork
from .health import BrokerHealth

__all__ = ["BrokerListener", "BrokerWish"]

logger = logging.getLogger("flask_ws")

#: Seconds that :meth:`.BrokerListener.close` waits for the thread, at most.
CLOSE_SECONDS = 5.0


class BrokerWish:
    """A request to listen to a channel. There may be many: once set, it takes little memory."""

    __slots__ = ("_granted", "is_confirmed")

    #: Seconds that :meth:`Broker.subscribe <flask_ws.Broker.subscribe>` should wait for it, at
    #: most.
    timeout: ClassVar[float] = 2.0

    def __init__(self) -> None:
        self._granted: threading.Event | None = threading.Event()
        #: Whether the server sends what is published there.
        self.is_confirmed = False

    def is_set(self) -> bool:
        """Tell whether no thread needs to wait for it any more."""
        return self._granted is None

    def set(self) -> None:
        """Wake those who wait: the server has confirmed it, or is away."""
        granted, self._granted = self._granted, None
        if granted is not None:
            granted.set()

    def confirm(self) -> None:
        """Take note that the server sends what is published there, and wake those who wait."""
        self.is_confirmed = True
        self.set()

    def wait(self) -> None:
        """Wait until that is so, for :attr:`timeout` at most."""
        granted = self._granted
        if granted is not None:
            granted.wait(self.timeout)


class BrokerListener:
    """Listens to channels on one server of a broker, and connects again by itself.

    Only one thread uses the connection; others queue their changes and wake it. A plugin derives
    from this class. Its :meth:`connect`, :meth:`disconnect`, :meth:`send`, :meth:`read` and
    :meth:`ping` are called on that thread alone, and may raise what is in :attr:`errors` when the
    connection is lost. The thread, a greenlet where threads are, is there from the first call of
    :meth:`subscribe` to :meth:`close`.

    :param health: what is known of the server.
    :param on_loss: called when the connection was lost.
    """

    #: What the methods of a plugin raise for a connection that cannot be made, or is lost.
    errors: ClassVar[tuple[type[Exception], ...]] = (OSError,)
    #: Seconds of silence after which the server is asked whether it is there, and seconds that it
    #: has to answer anything; may be set by :meth:`connect`.
    interval = 10.0
    answer = 2.0

    def __init__(self, health: BrokerHealth, on_loss: Callable[[], object] | None = None) -> None:
        self.health = health
        self._on_loss = on_loss
        self._lock = threading.Lock()
        # The channels that are wanted; and those of which that has changed.
        self._wanted: dict[str, BrokerWish] = {}
        self._changed: dict[str, None] = {}
        self._thread: threading.Thread | None = None
        self._closed = False
        # Whether the connection was lost, and its subscriptions are not all restored.
        self._is_away = False
        # What is sent into one end wakes the thread, which waits at the other.
        self._pipe: tuple[_socket.socket, _socket.socket] | None = None
        self._is_woken = False
        # What the thread alone uses.
        self._is_complete = False
        self._attempts = 0
        self._pings = 0
        # Whether a check of the connection was requested; and whether one is under way.
        self._is_doubted = False
        self._is_asked = False
        health.on_doubt = self.doubt
        after_fork(self._start_anew)

    # What a plugin implements

    def connect(self) -> int:
        """Connect to the server, where nothing is subscribed to yet.

        :return: the file descriptor that can be read from when there is something to read.
        """
        raise NotImplementedError

    def disconnect(self) -> None:
        """Close the connection, if there is one; called in any state."""
        raise NotImplementedError

    def send(self, changes: Sequence[tuple[str, BrokerWish | None]]) -> bool:
        """Tell the server what is wanted now.

        A wish is to be confirmed when the server has answered (:meth:`.BrokerWish.confirm`), or,
        where it refuses, to be set.

        :param changes: channels and wishes; ``None`` for a channel that is wanted no more. It may
            be what the server knows already.
        :return: whether it has to answer.
        """
        raise NotImplementedError

    def read(self) -> bool | None:
        """Read some of what has arrived, without waiting, and deliver it.

        :return: ``None`` if nothing has arrived, and else whether there may be more that the
            descriptor does not show.
        """
        raise NotImplementedError

    def ping(self) -> None:
        """Ask the server whether it is there. At its answer, call :meth:`pong`."""
        raise NotImplementedError

    def is_waiting(self) -> bool:
        """Tell whether the server has not answered yet to all that :meth:`send` has sent."""
        raise NotImplementedError

    def leave_to_parent(self) -> None:
        """Drop the connection, in a child process that has inherited it."""
        self.disconnect()

    # What others call

    def subscribe(self, channel: str, wish: BrokerWish) -> None:
        """Listen to a channel.

        :param channel: the channel.
        :param wish: set when the server has confirmed it, or is away.
        """
        self._change(channel, wish)

    def unsubscribe(self, channel: str) -> None:
        """Listen no more to a channel."""
        self._change(channel, None)

    def is_deaf(self, channel: str) -> bool:
        """Tell whether the server does not send what is published on a channel."""
        wish = self._wanted.get(channel)
        return wish is None or not wish.is_confirmed

    def _change(self, channel: str, wish: BrokerWish | None) -> None:
        with self._lock:
            replaced = self._wanted.pop(channel, None)
            if wish is not None:
                self._wanted[channel] = wish
                if self._closed or self._is_away:
                    wish.set()
                self._start()
            self._changed[channel] = None
            self._wake()
        if replaced is not None and replaced is not wish:
            replaced.set()

    def doubt(self) -> None:
        """Have the connection checked, and the result reported to :class:`.BrokerHealth`."""
        with self._lock:
            self._is_doubted = True
            self._wake()

    def close(self) -> None:
        """Disconnect, and end the thread."""
        self.health.on_doubt = None
        with self._lock:
            self._closed = True
            self._wake()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_SECONDS)

    # Waking the thread

    def _start(self) -> None:
        if self._thread is None and not self._closed:
            if self._pipe is None:
                self._pipe = _make_pipe()
            thread = threading.Thread(
                target=self._run, name=f"flask_ws.{self.health.name}", daemon=True
            )
            thread.start()
            self._thread = thread

    def _wake(self) -> None:
        if self._pipe is not None and not self._is_woken:
            self._is_woken = True
            self._pipe[1].send(b"!")

    def _sleep(self, seconds: float, fd: int | None = None) -> None:
        """Wait until there is something to read, or somebody wakes the thread."""
        assert self._pipe is not None
        end = self._pipe[0].fileno()
        if end in _wait_readable([end] if fd is None else [end, fd], seconds):
            with self._lock:
                self._is_woken = False
                self._pipe[0].recv(1)

    # The thread

    def _run(self) -> None:
        try:
            while True:
                if self._attempts:
                    self._rest(self.health.backoff(self._attempts))
                if self._closed:
                    return
                began = time.monotonic()
                try:
                    self._listen()
                except self.errors as error:
                    self._fail(error)
                except Exception as error:
                    logger.exception("Listening to %s failed; it is tried again.", self.health.name)
                    self._fail(error)
                except BaseException as error:
                    # This thread ends; another one goes on listening.
                    self._fail(error)
                    raise
                finally:
                    # A connection that is lost soon after each start counts as failing, too.
                    lasted = time.monotonic() - began
                    if self._is_complete and lasted > self.health.longest_delay:
                        self._attempts = 0
                    self._attempts += 1
                    self._disconnect()
        finally:
            self._end()

    def _fail(self, error: BaseException) -> None:
        if self._closed:
            return
        with self._lock:
            wishes = list(self._wanted.values())
        for wish in wishes:
            wish.is_confirmed = False
        if self._is_complete:
            self.health.lose(error)
        else:
            self.health.fail_to_listen(error)
        if self._on_loss is not None:
            self._on_loss()

    def _disconnect(self) -> None:
        with self._lock:
            self._is_away = True
            wishes = list(self._wanted.values())
        for wish in wishes:
            wish.set()
        with contextlib.suppress(Exception):
            self.disconnect()

    def _rest(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._closed and (left := deadline - time.monotonic()) > 0:
            self._sleep(left)

    def _end(self) -> None:
        """Close what is open; or, where something has ended the thread, start another."""
        with self._lock:
            self._thread = None
            if not self._closed:
                # No thread can be started, nor is needed, at interpreter shutdown.
                with contextlib.suppress(RuntimeError):
                    self._start()
                return
            pipe, self._pipe = self._pipe, None
        for end in pipe or ():
            end.close()

    def _listen(self) -> None:
        """Connect, subscribe, and listen; raises when the connection is lost."""
        self._is_complete = self._is_asked = False
        self._pings = 0
        fd = self.connect()
        with self._lock:
            self._changed = dict.fromkeys(self._wanted)
        interval, answer = self.interval, self.answer
        heard, asked = time.monotonic(), 0.0
        while not self._closed:
            if self._send_changes() and asked <= heard:
                # The server is to confirm them.
                asked = time.monotonic()
            more = self.read()
            now = time.monotonic()
            if more is not None:
                heard = now
            if not self._is_complete and not self.is_waiting():
                self._is_complete = True
                with self._lock:
                    self._is_away = False
                self.health.succeed(listener=True)
            if self._is_doubted and self._is_complete:
                self._is_doubted, self._is_asked = False, True
                self._ping()
                asked = now
            if asked <= heard:
                left = heard + interval - now
                if left <= 0:
                    self._ping()
                    asked, left = now, answer
            else:
                left = asked + answer - now
                if left <= 0:
                    raise TimeoutError(f"no answer for {answer:g} s")
            if not more and not self._changed:
                self._sleep(min(left, self.health.longest_delay), fd)

    def _send_changes(self) -> bool:
        if not self._changed:
            return False
        with self._lock:
            changes = [(channel, self._wanted.get(channel)) for channel in self._changed]
            self._changed = {}
        return self.send(changes)

    def _ping(self) -> None:
        self._pings += 1
        self.ping()

    def pong(self) -> None:
        """Take note of the answer to a :meth:`ping`."""
        self._pings -= 1
        # Not the answer to an earlier ping.
        if self._is_asked and not self._pings:
            self._is_asked = False
            self.health.succeed(listener=True)

    # Forks

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._closed = True
        self._thread = None
        with contextlib.suppress(Exception):
            self.leave_to_parent()
        pipe, self._pipe = self._pipe, None
        for end in pipe or ():
            with contextlib.suppress(OSError):
                end.close()


def _make_pipe() -> tuple[_socket.socket, _socket.socket]:
    # Sockets, because Windows waits for nothing else; at C level where it has them, because those
    # are never green.
    make = getattr(_socket, "socketpair", socket.socketpair)
    ends: tuple[_socket.socket, _socket.socket] = make()
    for end in ends:
        # Whatever the default timeout of the process.
        end.setblocking(False)
    return ends


def _wait_readable(fds: list[int], timeout: float) -> list[int]:
    # Looked up at each call: gevent replaces select.poll, eventlet and Windows have none.
    poll = getattr(select, "poll", None)
    if poll is None:
        return select.select(fds, [], [], timeout)[0]
    poller = poll()
    for fd in fds:
        poller.register(fd, select.POLLIN)
    return [fd for fd, _ in poller.poll(timeout * 1000)]
