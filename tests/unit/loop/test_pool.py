from __future__ import annotations

import contextlib
import os
import queue
import threading
import weakref
from collections.abc import Iterator

import pytest
from tests.support.memory import in_thread
from tests.support.waiting import PATIENCE, until

from flask_ws.loop import monitor, pool
from flask_ws.loop.pool import ThreadPool
from flask_ws.process import PerProcess


@pytest.fixture
def threads() -> ThreadPool:
    return ThreadPool()


def run(threads: ThreadPool, limit: int = 100) -> threading.Thread:
    """Run something; return the thread that did, once that is done with it."""
    ran: queue.SimpleQueue[threading.Thread] = queue.SimpleQueue()
    assert threads.start(limit, lambda: ran.put(threading.current_thread()))
    thread = ran.get(timeout=PATIENCE)
    until(lambda: not len(threads))
    return thread


@contextlib.contextmanager
def busy(threads: ThreadPool, number: int) -> Iterator[None]:
    go_on = threading.Event()
    assert all(threads.start(number, go_on.wait, PATIENCE) for _ in range(number))
    try:
        yield
    finally:
        go_on.set()


def test_a_function_gets_its_arguments(threads: ThreadPool) -> None:
    got: queue.SimpleQueue[tuple[int, str]] = queue.SimpleQueue()
    assert threads.start(1, lambda *args: got.put(args), 1, "two")
    assert got.get(timeout=PATIENCE) == (1, "two")


def test_a_thread_has_a_name_and_does_not_hold_up_the_process(threads: ThreadPool) -> None:
    thread = run(threads)
    assert thread.name == "flask_ws.handler"
    assert thread.daemon


def test_an_idle_thread_is_used_again(threads: ThreadPool) -> None:
    first = run(threads)
    until(lambda: threads._idle)
    assert run(threads) is first


def test_each_function_has_a_thread_to_itself(threads: ThreadPool) -> None:
    run(threads)
    until(lambda: threads._idle)
    with busy(threads, 3):
        assert len(threads) == 3


def test_an_idle_thread_ends_after_a_while() -> None:
    threads = ThreadPool(linger=0.01)
    thread = run(threads)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not threads._idle


def test_few_threads_are_kept_idle(threads: ThreadPool) -> None:
    with busy(threads, 3 * pool.MOST_IDLE):
        pass
    until(lambda: not len(threads) and len(threads._idle) == pool.MOST_IDLE)


def test_work_that_comes_as_an_idle_thread_leaves_is_done() -> None:
    """Each thread waits no time at all, so that it leaves while the next function comes."""
    threads = ThreadPool(linger=0)
    done: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(500):
        assert threads.start(1000, done.put, number)
    assert sorted(done.get(timeout=PATIENCE) for _ in range(500)) == list(range(500))
    until(lambda: not len(threads))


def test_a_thread_that_is_called_back_as_it_leaves_stays() -> None:
    """Its time is up, and then it sees that somebody has taken its seat."""
    threads = ThreadPool(linger=0)
    lock = threads._lock

    def work() -> None:
        raise AssertionError("nobody does this")

    class Late:
        """Lets somebody come once a thread sits down idle and wants the lock again."""

        def __enter__(self) -> None:
            if threads._idle:
                threads._lock = lock
                assert threads.start(1, work)
            lock.acquire()

        def __exit__(self, *exc_info: object) -> None:
            lock.release()

    threads._lock = Late()  # type: ignore[assignment]
    # On this thread, as if it were one of the pool's.
    assert threads._wait() == (work, ())
    assert not threads._idle


def test_an_idle_thread_holds_on_to_nothing(threads: ThreadPool) -> None:
    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing)
    assert threads.start(1, lambda _thing: None, thing)
    del thing
    until(lambda: threads._idle)
    until(lambda: reference() is None)


def test_a_function_that_raises_is_counted_no_more(
    threads: ThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: queue.SimpleQueue[type[BaseException]] = queue.SimpleQueue()
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.put(args.exc_type))

    def fail() -> None:
        raise RuntimeError("failed on purpose")

    assert threads.start(1, fail)
    assert seen.get(timeout=PATIENCE) is RuntimeError
    until(lambda: not len(threads))
    run(threads, limit=1)


def test_the_limit_holds_while_many_start_at_once(threads: ThreadPool) -> None:
    go_on = threading.Event()
    started: list[bool] = []

    def start() -> None:
        started.append(threads.start(5, go_on.wait, PATIENCE))

    callers = [threading.Thread(target=start, daemon=True) for _ in range(20)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
    go_on.set()
    assert sorted(started) == [False] * 15 + [True] * 5


def test_a_thread_that_could_not_start_is_not_counted(
    threads: ThreadPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            threads.start(1, lambda: None)
    assert len(threads) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_has_none_of_its_parents_idle_threads(threads: ThreadPool) -> None:
    run(pool.thread_pool())
    child = os.fork()
    if not child:
        done = threading.Event()
        pool.thread_pool().start(1, done.set)
        os._exit(0 if done.wait(PATIENCE) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# The end of the process


def test_at_the_end_idle_threads_end(threads: ThreadPool) -> None:
    thread = run(threads)
    until(lambda: threads._idle)
    threads.close(PATIENCE)

    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_at_the_end_no_thread_begins_to_idle(threads: ThreadPool) -> None:
    threads.close(PATIENCE)
    thread = run(threads)

    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_the_end_waits_for_threads_that_are_about_to_end(threads: ThreadPool) -> None:
    with busy(threads, 3):
        closing = in_thread(threads.close, PATIENCE)
        until(lambda: threads._closed)
        assert not closing.done()

    closing.result(PATIENCE)


def test_the_end_does_not_wait_for_those_that_are_stuck(threads: ThreadPool) -> None:
    with busy(threads, 3):
        in_thread(threads.close, 6 * PATIENCE, 3).result(PATIENCE)


def test_the_end_waits_for_a_while_only(threads: ThreadPool) -> None:
    with busy(threads, 3):
        in_thread(threads.close, 0.05).result(PATIENCE)


def test_the_pool_is_closed_after_the_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand daemon threads can hang the end of a free-threaded Python."""
    closed: list[tuple[float, int]] = []
    monkeypatch.setattr(
        ThreadPool, "close", lambda _pool, seconds, stuck: closed.append((seconds, stuck))
    )
    assert pool._end in monitor._ends
    monkeypatch.setattr(monitor, "_ends", [pool._end])
    monkeypatch.setattr(monitor, "_monitors", PerProcess())
    pool.thread_pool()
    monitor._say_goodbye()

    assert closed == [(pool.FAREWELL, 0)]
