from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from flask_ws.budget import STEP, Budget
from flask_ws.concurrency import HomeThread


class Holder:
    """Holds what it is told to, and lets go of it when that is asked."""

    label = "WebSocket test"

    def __init__(self, budget: Budget, home: HomeThread | None = None) -> None:
        self.budget = budget
        self.home = home
        self.held = 0
        self.asked = 0

    def hold(self, size: int) -> None:
        change, self.held = size - self.held, size
        self.budget.change(self, change)

    def let_go(self) -> int:
        self.asked += 1
        self.hold(0)
        return 1009


class Stubborn(Holder):
    """Lets go later."""

    def let_go(self) -> int:
        self.asked += 1
        return 1013


@pytest.fixture
def budget() -> Budget:
    made = Budget()
    made.limit = 100 * STEP
    return made


def test_what_is_held_adds_up(budget: Budget) -> None:
    first, second = Holder(budget), Holder(budget)
    first.hold(30 * STEP)
    second.hold(40 * STEP)
    first.hold(10 * STEP)

    assert budget.total == 50 * STEP


def test_as_long_as_there_is_room_nobody_goes(budget: Budget) -> None:
    holder = Holder(budget)
    holder.hold(87 * STEP)

    assert holder.asked == 0


def test_near_the_limit_the_largest_goes(budget: Budget) -> None:
    holders = [Holder(budget) for _ in range(4)]
    for holder, size in zip(holders, [20, 50, 15, 5], strict=True):
        holder.hold(size * STEP)

    assert [holder.asked for holder in holders] == [0, 1, 0, 0]
    assert budget.total == 40 * STEP


def test_as_many_go_as_make_room_for_others(budget: Budget) -> None:
    """Not one for each step that is held more."""
    holders = [Holder(budget) for _ in range(101)]
    for holder in holders:
        holder.hold(STEP)

    assert budget.total <= 88 * STEP


def test_what_is_shared_is_held_by_nobody(budget: Budget) -> None:
    holder = Holder(budget)
    budget.change(None, 80 * STEP)
    holder.hold(11 * STEP)

    assert holder.asked == 1
    assert budget.total == 80 * STEP


def test_who_shares_most_goes(budget: Budget) -> None:
    little, much = Holder(budget), Holder(budget)
    budget.change(None, 80 * STEP)
    budget.change(much, 0, 80 * STEP)
    little.hold(11 * STEP)

    assert (little.asked, much.asked) == (0, 1)


def test_who_takes_time_to_go_is_asked_once(budget: Budget) -> None:
    slow, other = Stubborn(budget), Holder(budget)
    slow.hold(60 * STEP)
    other.hold(30 * STEP)
    other.hold(35 * STEP)

    assert (slow.asked, other.asked) == (1, 0)


def test_who_would_go_past_the_limit_goes_at_once(budget: Budget) -> None:
    """Where the one that holds most has not had its turn."""
    slow, other = Stubborn(budget), Holder(budget)
    slow.hold(60 * STEP)
    other.hold(30 * STEP)
    other.hold(45 * STEP)

    assert (slow.asked, other.asked) == (1, 1)
    assert budget.total == 60 * STEP


def test_who_has_gone_may_come_again(budget: Budget) -> None:
    holder = Holder(budget)
    holder.hold(101 * STEP)
    holder.hold(101 * STEP)

    assert holder.asked == 2


def test_without_a_limit_nobody_goes(budget: Budget) -> None:
    budget.limit = None
    holder = Holder(budget)
    holder.hold(1000 * STEP)

    assert holder.asked == 0


def test_it_is_told_in_one_line(budget: Budget, caplog: pytest.LogCaptureFixture) -> None:
    Holder(budget).hold(101 * STEP)
    assert not caplog.records
    budget.tell()
    budget.tell()

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("WebSocket test: closed with 1009, because it held")
    assert "SOCK_MAX_BUFFERED" in record.getMessage()


class Elsewhere(HomeThread):
    """A thread that is not this one."""

    def __init__(self) -> None:
        super().__init__()
        self.woken = 0

    def is_here(self) -> bool:
        return False

    def wake(self) -> None:
        self.woken += 1


def test_a_connection_is_ended_in_the_thread_where_its_primitives_work(budget: Budget) -> None:
    home = Elsewhere()
    holder = Holder(budget, home)
    holder.hold(101 * STEP)
    assert (holder.asked, home.woken) == (0, 1)
    home.work()

    assert holder.asked == 1


def test_what_a_holder_frees_while_it_is_counted_is_counted() -> None:
    """As a finalizer may, at any moment, in the thread that adds up just then."""
    budget = Budget()

    class Nested(Holder):
        def __hash__(self) -> int:
            budget.change(None, -1)
            return id(self)

    nested = Nested(budget)
    budget.change(None, 1000)
    nested.hold(10 * STEP)

    assert 10 * STEP < budget.total < 10 * STEP + 1000


def run_together(count: int, work: Callable[[], object]) -> None:
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait()
        work()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_no_change_is_lost_between_threads() -> None:
    budget = Budget()

    def work() -> None:
        holder = Holder(budget)
        for size in range(2000):
            holder.hold(size * STEP % 7919)
        holder.hold(STEP)

    run_together(8, work)

    assert budget.total == 8 * STEP


def test_a_child_begins_without_what_its_parent_holds(budget: Budget) -> None:
    Holder(budget).hold(50 * STEP)
    budget.start_anew()

    assert (budget.total, budget.limit) == (0, 100 * STEP)
