"""Event views without threads: a few threads share the sockets of all idle connections."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import selectors
import threading
from collections.abc import Callable

from .views import Conversation

__all__ = ["Reactor", "give_up", "reactor_for_process", "serve"]

logger = logging.getLogger("flask_ws")

GOING_AWAY = 1001

#: Seconds that a thread of the reactor waits at a time; only to notice that it is not needed.
PATIENCE = 5.0


class Reactor:
    """Reads the sockets of event views, and calls their methods.

    The thread that sees a readable socket does everything for it: it reads, calls the view, and
    puts the socket back among those that are waited for. Until then no other thread sees it, so
    the methods of one view never overlap.

    :param workers: how many threads there are; a method that blocks holds up one of them.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._lock = threading.Lock()
        self._running = 0
        self._conversations: dict[int, tuple[Conversation, Callable[[], None]]] = {}
        self._poller: _EpollPoller | _SelectorPoller = (
            _EpollPoller() if hasattr(select, "epoll") else _SelectorPoller()
        )

    def add(self, conversation: Conversation, on_end: Callable[[], None]) -> None:
        """Serve a conversation from now on.

        :param conversation: the conversation, already opened.
        :param on_end: called when its connection has ended and is to be released.
        """
        fd = conversation.ws.fd
        self._conversations[fd] = conversation, on_end
        try:
            self._start_threads()
            # What came with the handshake has been read already: nothing would announce it.
            more = serve(conversation, read=False)
            if more:
                self._poller.register(fd)
        except BaseException:
            del self._conversations[fd]
            raise
        if not more:
            self._end(fd)

    def _start_threads(self) -> None:
        with self._lock:
            while self._running < self._workers:
                name = f"flask_ws.Reactor-{self._running + 1}"
                try:
                    threading.Thread(target=self._run, name=name, daemon=True).start()
                except RuntimeError:
                    # The system has no more threads; with one, all goes on.
                    if not self._running:
                        raise
                    return
                self._running += 1

    def _run(self) -> None:
        poller, conversations = self._poller, self._conversations
        while True:
            fd = poller.wait(PATIENCE)
            if fd is None:
                with self._lock:
                    if not conversations:
                        self._running -= 1
                        return
            elif fd in conversations:
                self._serve(fd)

    def _serve(self, fd: int) -> None:
        conversation, _ = self._conversations[fd]
        try:
            more = serve(conversation)
        except BaseException as error:
            # Other connections have done nothing to deserve the end of this thread.
            if not isinstance(error, SystemExit):
                logger.exception("%s: the reactor stumbled; it goes on.", conversation.ws.label)
            with contextlib.suppress(BaseException):
                give_up(conversation)
            more = False
        if more:
            self._poller.rearm(fd)
        else:
            self._poller.unregister(fd)
            self._end(fd)

    def _end(self, fd: int) -> None:
        # Before the descriptor is closed, and its number another's.
        conversation, on_end = self._conversations.pop(fd)
        # Nor may the end of one connection hold up the others.
        conversation.ws.linger_until = None
        try:
            on_end()
        except Exception:
            logger.exception("%s did not end well.", conversation.ws.label)


def serve(conversation: Conversation, *, read: bool = True, wait: bool = False) -> bool:
    """Read once, call the view for what came, and see to the connection's end.

    :param read: whether to read at all.
    :param wait: whether to wait for something to read.
    :return: whether there is more to come. If not, the connection is to be released.
    """
    ws = conversation.ws
    if conversation.closed:
        # Failed; the peer is given a moment to read why.
        return ws.discard(wait=wait)
    if read:
        ws.read(wait=wait)
    conversation.receive()
    if ws.close_code is None:
        return True
    conversation.close()
    return ws.linger_until is not None


def give_up(conversation: Conversation) -> None:
    """End a connection at once, because its view asked for the end of the thread or process."""
    ws = conversation.ws
    ws.go_away(GOING_AWAY, "")
    ws.lose("the server stops")
    if not conversation.closed:
        conversation.close()


class _EpollPoller:
    """epoll, each socket for one event at a time."""

    EVENTS = getattr(select, "EPOLLIN", 0) | getattr(select, "EPOLLONESHOT", 0)

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def register(self, fd: int) -> None:
        self._epoll.register(fd, self.EVENTS)

    def rearm(self, fd: int) -> None:
        self._epoll.modify(fd, self.EVENTS)

    def unregister(self, fd: int) -> None:
        self._epoll.unregister(fd)

    def wait(self, timeout: float) -> int | None:
        # One at a time: those behind a method that blocks would wait for it.
        events = self._epoll.poll(timeout, 1)
        return events[0][0] if events else None


class _SelectorPoller:
    """The best that other systems have, one thread at a time."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._ready: list[int] = []

    def register(self, fd: int) -> None:
        with self._lock:
            self._selector.register(fd, selectors.EVENT_READ)

    rearm = register

    def unregister(self, fd: int) -> None:
        """Do nothing: what :meth:`wait` has given is not registered."""

    def wait(self, timeout: float) -> int | None:
        with self._turn:
            if not self._ready:
                # kqueue and select do not see what is registered while they wait.
                for key, _ in self._selector.select(min(timeout, 0.05)):
                    with self._lock:
                        self._selector.unregister(key.fd)
                    self._ready.append(key.fd)
            return self._ready.pop() if self._ready else None


_reactor: Reactor | None = None
_lock = threading.Lock()


def reactor_for_process(workers: int) -> Reactor:
    """Return this process's reactor; the first call says how many threads it has."""
    global _reactor  # noqa: PLW0603
    with _lock:
        if _reactor is None:
            _reactor = Reactor(workers)
        return _reactor


def _start_anew() -> None:
    global _reactor, _lock  # noqa: PLW0603
    _reactor = None
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
