from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable

import pytest
from tests.support.locks import Watch
from tests.support.waiting import PATIENCE, until
from tests.unit.conftest import KeepingThreads

from flask_ws import HomeThread, worker
from flask_ws.concurrency import Concurrency, threads
from flask_ws.worker import Worker


class Work:
    """Functions to be called in the background, one by one."""

    def __init__(self, concurrency: Concurrency = threads, home: HomeThread | None = None) -> None:
        self.queue: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self.worker = Worker(
            "test.Worker",
            self._do_one,
            lambda: not self.queue.empty(),
            concurrency=concurrency,
            home=home,
        )

    def _do_one(self) -> None:
        with contextlib.suppress(queue.Empty):
            self.queue.get_nowait()()

    def put(self, function: Callable[[], object]) -> None:
        self.queue.put(function)
        self.worker.start()

    def get_done(self) -> str:
        """Let it be done, and return the name of the thread that has."""
        done: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.put(lambda: done.put(threading.current_thread().name))
        return done.get(timeout=PATIENCE)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "PAUSE", 0.0)


# A thread while there is work


def test_work_is_done_on_a_thread_that_has_its_name(keeping: KeepingThreads) -> None:
    assert Work(keeping).get_done() == "test.Worker"


def test_the_thread_ends_with_the_work(keeping: KeepingThreads) -> None:
    work = Work(keeping)
    work.get_done()
    keeping.join()
    assert not work.worker.is_running


def test_the_thread_comes_back(keeping: KeepingThreads) -> None:
    work = Work(keeping)
    for number in (1, 2):
        work.get_done()
        keeping.join()
        assert len(keeping.spawned) == number


def test_to_start_it_twice_starts_one_thread(keeping: KeepingThreads) -> None:
    work, go_on = Work(keeping), threading.Event()
    for _ in range(5):
        work.put(lambda: go_on.wait(PATIENCE))
    go_on.set()
    work.get_done()
    assert len(keeping.spawned) == 1


def test_work_that_comes_as_the_thread_leaves_is_done() -> None:
    """Each piece comes when the thread has just done the one before."""
    work = Work()
    for _ in range(1000):
        work.get_done()


def test_work_that_comes_at_the_last_look_is_done(keeping: KeepingThreads) -> None:
    done = threading.Event()
    has_work = False

    def look() -> bool:
        nonlocal has_work
        if not has_work:
            has_work = True
            # Another thread's, between the look and the end.
            late.start()
            return False
        return not done.is_set()

    def work() -> None:
        if has_work:
            done.set()

    late = Worker("test.Worker", work, look, concurrency=keeping)
    late.start()
    assert done.wait(PATIENCE)


# Whatever happens


def test_an_error_is_logged_and_the_work_goes_on(
    keeping: KeepingThreads, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(keeping)
    work.put(lambda: 1 / 0)
    work.get_done()
    assert "test.Worker failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


# Older versions of pytest report the exception with a hook of their own.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("end", [SystemExit, GeneratorExit])
def test_the_end_of_a_thread_is_not_the_end_of_the_work(
    keeping: KeepingThreads, monkeypatch: pytest.MonkeyPatch, end: type[BaseException]
) -> None:
    """As greenlets are ended by whoever kills them, or a signal's handler by SystemExit."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    work, go_on, done = Work(keeping), threading.Event(), threading.Event()

    def fail() -> None:
        assert go_on.wait(PATIENCE)
        raise end

    work.put(fail)
    work.put(done.set)
    go_on.set()
    assert done.wait(PATIENCE)
    assert len(keeping.spawned) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_ended_thread_is_replaced_by_the_next_start(
    keeping: KeepingThreads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)

    def end() -> None:
        raise SystemExit

    work = Work(keeping)
    work.put(end)
    until(lambda: not work.worker.is_running)
    assert work.get_done()


class Exhausted(Concurrency):
    """A system without threads, until the test says otherwise."""

    name = "exhausted"
    error: BaseException | None = RuntimeError("can't start new thread")

    def spawn(self, target: Callable[[], object], name: str) -> None:
        if self.error is not None:
            raise self.error
        super().spawn(target, name)


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), KeyboardInterrupt()])
def test_a_thread_that_could_not_be_started_is_tried_again(error: BaseException) -> None:
    concurrency = Exhausted()
    concurrency.error = error
    work = Work(concurrency)
    with pytest.raises(type(error)):
        work.worker.start()
    assert not work.worker.is_running
    concurrency.error = None
    assert work.get_done()


def test_a_thread_that_was_started_all_the_same_finds_itself_replaced() -> None:
    """Ctrl-C came after the start, and before the news of it."""
    targets: list[Callable[[], object]] = []

    class Interrupted(Concurrency):
        def spawn(self, target: Callable[[], object], name: str) -> None:
            targets.append(target)
            raise KeyboardInterrupt

    ran: list[str] = []
    interrupted = Worker(
        "test.Worker", lambda: ran.append("ran"), lambda: False, concurrency=Interrupted()
    )
    with pytest.raises(KeyboardInterrupt):
        interrupted.start()
    targets[0]()
    assert ran == []


def test_a_plugin_may_log_while_it_starts_a_thread(watch: Watch) -> None:
    class Telling(Concurrency):
        def spawn(self, target: Callable[[], object], name: str) -> None:
            logging.getLogger("flask_ws").warning("%s starts", name)
            super().spawn(target, name)

    assert Work(Telling()).get_done()
    assert watch.lines == ["test.Worker starts"]


def test_greenlets_are_started_at_home(keeping: KeepingThreads) -> None:
    class Home(HomeThread):
        here = False

        def is_here(self) -> bool:
            return self.here

        def wake(self) -> None:
            pass

    home = Home()
    work = Work(keeping, home)
    work.worker.start()
    assert keeping.spawned == []
    home.here = True
    home.work()
    assert work.get_done()
