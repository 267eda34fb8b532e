"""Listener: the connection on which messages of a Redis arrive, and the thread that reads it."""

from __future__ import annotations

import _socket
import contextlib
import logging
import os
import select
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from redis.exceptions import RedisError, ResponseError

from .health import LONGEST_DELAY, Health, backoff

__all__ = ["CLOSE_SECONDS", "CONFIRM_SECONDS", "Listener", "Wish"]

logger = logging.getLogger("flask_ws")

#: Seconds that a subscriber waits for the server to confirm it, at most.
CONFIRM_SECONDS = 2.0
#: Seconds that :meth:`Listener.close` waits for the thread, at most.
CLOSE_SECONDS = 5.0
#: Messages that are read before changes are sent.
READ_AT_ONCE = 100

MESSAGES = (b"message", b"smessage")
PONGS = (b"pong", b"PONG")


class Wish:
    """A request to listen to a channel. There may be many: once set, it takes little memory."""

    __slots__ = ("_granted", "is_confirmed")

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

    def wait(self, timeout: float) -> None:
        """Wait until that is so."""
        granted = self._granted
        if granted is not None:
            granted.wait(timeout)


class Listener:
    """Listens to channels on one Redis, and reconnects by itself.

    Only one thread uses the connection. Others queue their changes and wake it.

    :param connect: makes a connection of redis-py's.
    :param deliver: called for each message with its channel and payload.
    :param health: what is known of the Redis.
    :param sharded: whether the channels are a cluster's, which belong to one of its servers.
    :param on_misplaced: called with the channel whose messages are at another server of the
        cluster, and with ``None`` when this one is gone and they may all be.
    :param on_loss: called when the connection was lost.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        deliver: Callable[[str, bytes], object],
        health: Health,
        *,
        sharded: bool = False,
        on_misplaced: Callable[[str | None], object] | None = None,
        on_loss: Callable[[], object] | None = None,
    ) -> None:
        self._connect = connect
        self._deliver = deliver
        self._health = health
        self._on_misplaced = on_misplaced
        self._on_loss = on_loss
        self._subscribe, self._unsubscribe = b"SUBSCRIBE", b"UNSUBSCRIBE"
        if sharded:
            self._subscribe, self._unsubscribe = b"SSUBSCRIBE", b"SUNSUBSCRIBE"
        self._lock = threading.Lock()
        # The channels that are wanted; and those of which that has changed.
        self._wanted: dict[str, Wish] = {}
        self._changed: dict[str, None] = {}
        self._thread: threading.Thread | None = None
        self._closed = False
        # Whether the connection was lost, and its subscriptions are not all restored.
        self._is_away = False
        # What is sent into one end wakes the thread, which waits at the other.
        self._pipe: tuple[_socket.socket, _socket.socket] | None = None
        self._is_woken = False
        # What the thread alone uses.
        self._connection: Any = None
        self._sent: dict[str, Wish] = {}
        self._unconfirmed: deque[tuple[bytes, str, Wish | None]] = deque()
        self._is_complete = False
        self._attempts = 0
        self._pings = 0
        # Whether a check of the connection was requested; and whether one is under way.
        self._is_doubted = False
        self._is_asked = False
        health.on_doubt = self.doubt
        _listeners.add(self)

    def subscribe(self, channel: str, wish: Wish) -> None:
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

    def _change(self, channel: str, wish: Wish | None) -> None:
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
        """Have the connection checked, and the result reported to :class:`.Health`."""
        with self._lock:
            self._is_doubted = True
            self._wake()

    def close(self) -> None:
        """Disconnect, and end the thread."""
        self._health.on_doubt = None
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
                target=self._run, name=f"flask_ws.Redis-{self._health.name}", daemon=True
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
                    self._rest(backoff(self._attempts))
                if self._closed:
                    return
                began = time.monotonic()
                try:
                    self._listen()
                except (RedisError, OSError) as error:
                    self._fail(error)
                except Exception as error:
                    logger.exception("Listening to Redis failed; it begins anew.")
                    self._fail(error)
                except BaseException as error:
                    # This thread ends; another one goes on listening.
                    self._fail(error)
                    raise
                finally:
                    # A connection that is lost soon after each start counts as failing, too.
                    if self._is_complete and time.monotonic() - began > LONGEST_DELAY:
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
            self._health.lose(error)
        else:
            self._health.fail_to_listen(error)
        if self._on_loss is not None:
            self._on_loss()
        if self._on_misplaced is not None:
            self._on_misplaced(None)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        with self._lock:
            self._is_away = True
            wishes = list(self._wanted.values())
        for wish in wishes:
            wish.set()
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.disconnect()

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
        self._sent.clear()
        self._unconfirmed.clear()
        self._connection = connection = self._connect()
        connection.connect()
        fd = connection._sock.fileno()
        with self._lock:
            self._changed = dict.fromkeys(self._wanted)
        interval = connection.health_check_interval or float("inf")
        answer = connection.socket_timeout or float("inf")
        heard, asked = time.monotonic(), 0.0
        while not self._closed:
            if self._send_changes() and asked <= heard:
                # The server is to confirm them.
                asked = time.monotonic()
            more = self._read_some()
            now = time.monotonic()
            if more is not None:
                heard = now
            if not self._is_complete and not self._unconfirmed:
                self._is_complete = True
                with self._lock:
                    self._is_away = False
                self._health.succeed(listener=True)
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
                self._sleep(min(left, LONGEST_DELAY), fd)

    def _ping(self) -> None:
        self._pings += 1
        self._connection.send_command("PING", check_health=False)

    def _pong(self) -> None:
        self._pings -= 1
        # Not the answer to an earlier ping.
        if self._is_asked and not self._pings:
            self._is_asked = False
            self._health.succeed(listener=True)

    def _send_changes(self) -> bool:
        """Tell the server what has changed; ``False`` if nothing has."""
        if not self._changed:
            return False
        with self._lock:
            changes = [(channel, self._wanted.get(channel)) for channel in self._changed]
            self._changed = {}
        commands = []
        for channel, wish in changes:
            try:
                name = channel.encode()
            except UnicodeEncodeError as error:
                # The caller got an exception; here it must not affect the other channels.
                logger.error("Nobody can listen to %r: %s.", channel, error.reason)
                if wish is not None:
                    wish.set()
                continue
            if wish is None:
                if self._sent.pop(channel, None) is None:
                    continue
                command = self._unsubscribe
            else:
                if self._sent.get(channel) is wish:
                    continue
                self._sent[channel] = wish
                command = self._subscribe
            # One command for each: a refusal is about one channel, and a cluster requires it.
            commands.append((command, name))
            self._unconfirmed.append((command, channel, wish))
        if commands:
            packed = self._connection.pack_commands(commands)
            self._connection.send_packed_command(packed, check_health=False)
        return bool(commands)

    def _read_some(self) -> bool | None:
        """Read what has arrived; ``None`` if nothing has, and whether there may be more."""
        # TLS and redis-py may have buffered more than the socket shows.
        for number in range(READ_AT_ONCE):
            if not self._connection.can_read(timeout=0):
                return None if number == 0 else False
            self._read()
        return True

    def _read(self) -> None:
        try:
            response = self._connection.read_response()
        except ResponseError as error:
            self._refused(error)
            return
        # A list, except for the answer to a ping where nothing is subscribed to.
        kind = response[0] if isinstance(response, list) else response
        if kind in PONGS:
            self._pong()
        elif kind in MESSAGES:
            channel = response[1].decode()
            try:
                self._deliver(channel, response[2])
            except Exception:
                logger.exception("A message on %s could not be delivered.", channel)
        else:
            self._confirmed(kind.upper(), response[1].decode())

    def _confirmed(self, command: bytes, channel: str) -> None:
        if self._unconfirmed and self._unconfirmed[0][:2] == (command, channel):
            _, _, wish = self._unconfirmed.popleft()
            if wish is not None:
                wish.is_confirmed = True
                wish.set()
        elif command == self._unsubscribe:
            # Not requested: the cluster has moved the channel to another server.
            self._misplaced(channel)

    def _refused(self, error: ResponseError) -> None:
        if not self._unconfirmed:
            raise error
        command, channel, wish = self._unconfirmed.popleft()
        if self._on_misplaced is not None and _is_about_place(error):
            self._misplaced(channel)
        else:
            logger.error(
                "Redis at %s refused %s %s: %s",
                self._health.name,
                command.decode(),
                channel,
                error,
            )
        if wish is not None:
            wish.set()

    def _misplaced(self, channel: str) -> None:
        wish = self._sent.pop(channel, None)
        if wish is not None:
            wish.is_confirmed = False
        if self._on_misplaced is not None:
            self._on_misplaced(channel)

    # Forks

    def leave_to_parent(self) -> None:
        """Drop the connection, in a child process that has inherited it."""
        self._lock = threading.Lock()
        self._closed = True
        self._thread = None
        connection, self._connection = self._connection, None
        if connection is not None:
            # redis-py knows that it is the parent's, and leaves it open there.
            with contextlib.suppress(Exception):
                connection.disconnect()
        pipe, self._pipe = self._pipe, None
        for end in pipe or ():
            with contextlib.suppress(OSError):
                end.close()


def _is_about_place(error: ResponseError) -> bool:
    """Tell whether a cluster's server says that another one has the channel."""
    # Its code is the error's class in some versions of redis-py, and in others part of the text.
    return type(error).__name__ in ("MovedError", "ClusterDownError", "TryAgainError") or str(
        error
    ).startswith(("MOVED ", "CLUSTERDOWN ", "TRYAGAIN "))


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


_listeners: weakref.WeakSet[Listener] = weakref.WeakSet()


def _start_anew() -> None:
    for listener in list(_listeners):
        listener.leave_to_parent()
    _listeners.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
