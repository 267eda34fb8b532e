"""Event views without a thread each: a few threads share the sockets of all connections."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from ..connection.cork import Cork
from ..process import PerProcess
from ..system import LONGEST_WAIT
from ..worker import Worker
from .arrivals import arrivals
from .claims import Claims
from .conversation import Conversation
from .pollers import Poller, make_poller

__all__ = ["Reactor", "reactor_for_messages", "reactor_for_process", "running_reactors"]

logger = logging.getLogger("flask_ws")

#: Seconds that a thread of the reactor waits at a time, to notice that it is not needed any more.
PATIENCE = 5.0
#: Seconds without a readable socket after which the deputy sleeps until there is one.
LULL = 0.05
#: Seconds that a method may block its thread before the deputy starts to read as well.
GRACE = 0.005
#: Seconds. A method that takes longer is taken to wait for something, so that another thread can
#: run meanwhile. With quicker ones, the two would only compete for the interpreter's lock (GIL).
QUICK = 0.0005


class Reactor:
    """Reads the sockets of event views, and calls their methods.

    The thread that sees a readable socket does everything for it: it reads, and calls the view.
    As long as methods return at once, one thread does it all: several would only compete for the
    interpreter's lock (GIL). One more, the deputy, watches it, and joins when a method blocks.

    :param workers: the number of threads; a method that blocks occupies one of them.
    :param poller: what tells which connections are readable.
    """

    def __init__(self, workers: int, poller: Poller | None = None) -> None:
        self._lock = threading.Lock()
        self._workers = [
            Worker(f"flask_ws.Reactor-{number}", self._work, self._is_needed)
            for number in range(1, workers + 1)
        ]
        self._conversations: dict[int, tuple[Conversation, Callable[[], None]]] = {}
        # How many more are expected.
        self._expected = 0
        self._poller: Poller = make_poller() if poller is None else poller
        # When to look for connections that were ended here.
        self._look_at = 0.0
        # Sockets that are readable, and that no thread has claimed yet.
        self._ready: deque[int] = deque()
        # Those that are to be served again, after the others that are readable by then.
        self._at_hand: deque[int] = deque()
        # Which of them a thread is serving.
        self._claims = Claims(self._poller)
        # Threads that read; and those among them that wait in the poller.
        self._readers: set[int] = set()
        self._waiting: set[int] = set()
        # Held by the deputy, which the alarm wakes when a socket is readable after a lull.
        self._deputy = threading.Lock()
        self._active = False
        self._alarm = threading.Event()
        # What the threads that read hold back. Another thread releases it, if a method takes long.
        self._corks: dict[int, Cork] = {}
        # Counters that tell the deputy whether there is progress.
        self._batches = 0
        self._served = 0

    def expect(self) -> None:
        """Have threads ready for one more conversation; :meth:`stop_expecting` must follow.

        :raises RuntimeError: the system has no thread left.
        """
        with self._lock:
            self._expected += 1
        try:
            self._start_threads()
        except BaseException:
            self.stop_expecting()
            raise

    def stop_expecting(self) -> None:
        """Expect one conversation less: it was added, or will not be."""
        with self._lock:
            self._expected -= 1

    def _is_needed(self) -> bool:
        return bool(self._conversations) or self._expected > 0

    def add(self, conversation: Conversation, on_end: Callable[[], None]) -> None:
        """Serve a conversation from now on.

        :param conversation: the conversation, already opened.
        :param on_end: called when its connection has ended and is to be released.
        :raises RuntimeError: it was not expected, and the system has no thread left.
        """
        fd = conversation.fd
        # An event of an earlier connection with this number may not have been handled yet.
        self._claims.take(fd, conversation)
        self._conversations[fd] = conversation, on_end
        try:
            self._start_threads()
            # What came with the handshake has been read already: no event would report it.
            more = conversation.serve(read=False)
            while more and conversation.has_more:
                more = conversation.serve(read=False)
            if more:
                self._poller.register(fd)
        except BaseException:
            del self._conversations[fd], self._claims.claimed[fd]
            raise
        if not more:
            self._end(fd)
            return
        try:
            self._claims.let_go(fd)
        except BaseException:
            # Ctrl-C in the thread that hands it over, which alone can release its claim.
            if self._claims.claimed.get(fd) is conversation:
                del self._claims.claimed[fd]
            raise

    def serves(self, conversation: Conversation) -> bool:
        """Tell whether the reactor serves a conversation, also where :meth:`add` has raised."""
        return self._conversations.get(conversation.fd, (None, None))[0] is conversation

    def find_held(self, since: float) -> list[tuple[Conversation, int]]:
        """Find what holds all threads; nothing, if there is a thread that is free.

        :param since: when the methods have begun, of :func:`time.monotonic`.
        :return: the conversations, and the identifiers of their threads.
        """
        found = []
        for fd, claim in list(self._claims.claimed.items()):
            conversation, _ = self._conversations.get(fd, (None, None))
            # Claimed by a thread of the reactor, and not by one that hands it over.
            if conversation is None or not isinstance(claim, list):
                continue
            if 0 < conversation.at_work <= since:
                found.append((conversation, claim[0]))
        return found if len(found) >= len(self._workers) else []

    def _start_threads(self) -> None:
        for worker in self._workers:
            try:
                worker.start()
            except RuntimeError:
                # The system has no more threads; one is enough to go on.
                if not any(other.is_running for other in self._workers):
                    raise
                self._alarm.set()
                return

    # Threads

    def _work(self) -> None:
        """Serve connections, or watch as the deputy, as long as there are any."""
        while self._wait_for_turn():
            try:
                self._read()
            finally:
                self._leave()

    def _wait_for_turn(self) -> bool:
        """Wait until this thread is needed to read; ``False`` when there are no connections."""
        if not self._is_needed():
            return False
        if self._step_up():
            return True
        while True:
            with self._deputy:
                stuck = self._watch()
            # Not as the deputy: what sends may log, and a log handler may wait for other threads.
            self._uncork()
            if not self._is_needed():
                return False
            if self._step_up(at_once=stuck):
                return True

    def _watch(self) -> bool:
        """Watch the threads that read until something is to be done.

        :return: whether they make no progress, so that another one is to read.
        """
        while True:
            if not self._active:
                self._alarm.clear()
                if not self._active and self._is_needed():
                    self._alarm.wait(PATIENCE)
            batches, served = self._batches, self._served
            time.sleep(GRACE)
            stuck = (
                self._active
                and not self._waiting
                and (self._batches == batches or len(self._ready) > 0)
                and self._served - served < GRACE / QUICK
            )
            held = any(cork.holds_back for cork in list(self._corks.values()))
            if stuck or held or not self._readers or not self._is_needed():
                return stuck

    def _read(self) -> None:
        """Serve what is readable, as long as this thread is needed for it."""
        me = threading.get_ident()
        cork = self._corks.setdefault(me, Cork()) if len(self._workers) > 1 else None
        while True:
            if len(self._readers) > 1:
                self._uncork()
            at_hand = self._take_at_hand() if self._at_hand else []
            self._waiting.add(me)
            patience = LULL if self._active else min(PATIENCE, LONGEST_WAIT)
            readable = self._poller.wait(0 if at_hand or self._ready else patience)
            self._waiting.discard(me)
            if not self._poller.sees_aborts:
                at_hand += self._find_aborted()
            if at_hand:
                readable = list(dict.fromkeys([*readable, *at_hand]))
            # Also what another thread has found, and cannot serve since a method blocks it.
            if readable or self._ready:
                if not self._active:
                    self._active = True
                    self._alarm.set()
                self._batches += 1
                self._ready.extend(readable)
                if self._serve_all(cork) and self._is_one_too_many():
                    return
            elif self._is_one_too_many():
                return
            elif self._active:
                self._active = False
            elif not self._is_needed():
                return

    def _take_at_hand(self) -> list[int]:
        taken: list[int] = []
        while self._at_hand:
            try:
                taken.append(self._at_hand.popleft())
            except IndexError:
                break
        return taken

    def _find_aborted(self) -> list[int]:
        """Find what was ended on this side, now and then: where the poller does not report it."""
        now = time.monotonic()
        if now < self._look_at:
            return []
        self._look_at = now + LONGEST_WAIT
        return [fd for fd, (found, _) in list(self._conversations.items()) if found.ended]

    def _step_up(self, *, at_once: bool = False) -> bool:
        """Start to read, if no thread does, or ``at_once``; return whether it is so."""
        with self._lock:
            if self._readers and not at_once:
                return False
            self._readers.add(threading.get_ident())
            return True

    def _is_one_too_many(self) -> bool:
        """Stop reading, if another thread waits in the poller; return whether it is so."""
        if len(self._readers) == 1 or self._at_hand:
            return False
        with self._lock:
            if len(self._readers) == 1 or not self._waiting:
                return False
            self._readers.discard(threading.get_ident())
            return True

    def _leave(self) -> None:
        """Stop reading, for whatever reason."""
        me = threading.get_ident()
        self._waiting.discard(me)
        with self._lock:
            self._readers.discard(me)
        cork = self._corks.pop(me, None)
        if cork is not None:
            cork.release()
        # The deputy, which takes over, may be waiting for it.
        self._alarm.set()

    def _uncork(self) -> None:
        """Send what was held back for methods that take long."""
        for cork in list(self._corks.values()):
            cork.release()

    # Sockets

    def _serve_all(self, cork: Cork | None) -> bool:
        """Serve what is ready; return whether that was quick."""
        # A thread serves one socket at a time, so one claim is enough for all: a list, which no
        # other is, with the thread in it.
        began, number, claim = time.monotonic(), 0, [threading.get_ident()]
        while True:
            try:
                fd = self._ready.popleft()
            except IndexError:
                break
            self._serve(fd, claim, cork)
            number += 1
        return time.monotonic() - began < number * QUICK

    def _serve(self, fd: int, claim: object, cork: Cork | None) -> None:
        """Serve one socket, unless another thread does.

        :param fd: its file descriptor.
        :param claim: the object that marks the socket as this thread's.
        :param cork: as for :meth:`Conversation.serve`.
        """
        claims = self._claims
        if claims.claimed.setdefault(fd, claim) is not claim and not claims.claim(fd, claim):
            return
        found = self._conversations.get(fd)
        # In this order: a new connection with the same number claims it before it can be found.
        if found is None or claims.claimed.get(fd) is not claim:
            # The connection that was readable has ended.
            claims.withdraw(fd, claim)
            return
        self._served += 1
        conversation, _ = found
        try:
            more = conversation.serve(cork=cork)
        except BaseException as error:
            # An error in one connection must not end the thread, which serves the others.
            if not isinstance(error, SystemExit):
                logger.exception("%s: given up after an error.", conversation.label)
            with contextlib.suppress(BaseException):
                conversation.give_up()
            more = False
        if more:
            has_more = conversation.has_more
            claims.let_go(fd)
            if has_more:
                # Not earlier: another thread that takes it from there must be able to claim it.
                self._at_hand.append(fd)
            return
        try:
            self._poller.unregister(fd)
        except Exception:
            logger.exception("%s: waiting for it could not be ended.", conversation.label)
        self._end(fd)

    def _end(self, fd: int) -> None:
        # Before the descriptor is closed, and its number may be reused.
        conversation, on_end = self._conversations.pop(fd)
        self._claims.forget(fd)
        # The end of one connection must not delay the others.
        conversation.stop_lingering()
        try:
            on_end()
        except Exception:
            logger.exception("%s: an error at its end.", conversation.label)


_reactors: PerProcess[str | None, Reactor] = PerProcess()


def running_reactors() -> list[Reactor]:
    """Return this process's reactors: that of sockets, and that of messages."""
    return _reactors.values()


def reactor_for_process(workers: int) -> Reactor:
    """Return this process's reactor; the first call sets its number of threads."""
    return _reactors.get(None, lambda: Reactor(workers))


def reactor_for_messages(workers: int) -> Reactor:
    """Return this process's reactor for connections of messages; otherwise the same."""
    return _reactors.get("messages", lambda: Reactor(workers, arrivals))
