"""Logging past the locks of handlers, and by those that may be used from one thread only."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flask_ws.loop import unlocked_log


class Unlockable:
    """A lock that fails whoever takes it."""

    def acquire(self) -> None:
        raise AssertionError("a lock is taken")

    release = acquire


class Log:
    """A logger of its own, and what was to be called on the greenlets' thread."""

    def __init__(self) -> None:
        # Not one of all loggers, to which pytest adds handlers of its own.
        self.logger = logging.Logger("log")  # noqa: LOG001
        self.posted: list[Callable[[], object]] = []

    def warn(self, *args: object) -> None:
        unlocked_log.warn(self.logger, self.posted.append, "%s is late", args)


@pytest.fixture
def log() -> Iterator[Log]:
    log = Log()
    yield log
    for handler in log.logger.handlers:
        handler.createLock()
        handler.close()


def add_file(log: Log, path: Path) -> logging.FileHandler:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.lock = Unlockable()  # type: ignore[assignment]
    log.logger.addHandler(handler)
    return handler


def test_a_file_has_it_at_once_and_no_lock_is_taken(log: Log, tmp_path: Path) -> None:
    add_file(log, tmp_path / "log")
    log.warn("Zoë")
    assert (tmp_path / "log").read_text("utf-8") == "WARNING: Zoë is late\n"
    assert not log.posted


def test_a_terminal_has_it_where_nothing_is_configured(
    log: Log, capfd: pytest.CaptureFixture[str]
) -> None:
    log.warn("one")
    assert capfd.readouterr().err == "one is late\n"


def test_other_handlers_have_it_on_the_greenlets_thread(log: Log) -> None:
    """Those in memory, and of classes that do something of their own."""

    class Own(logging.FileHandler):
        def emit(self, record: logging.LogRecord) -> None:
            told.append(record.getMessage())

    told: list[str] = []
    stream = io.StringIO()
    log.logger.addHandler(logging.StreamHandler(stream))
    log.logger.addHandler(Own("/dev/null"))
    log.warn("one")
    assert (stream.getvalue(), told) == ("", [])
    for function in log.posted:
        function()
    assert (stream.getvalue(), told) == ("one is late\n", ["one is late"])


def test_levels_and_filters_hold(log: Log, tmp_path: Path) -> None:
    handler = add_file(log, tmp_path / "log")
    handler.addFilter(lambda record: record.args != ("one",))
    log.warn("one")
    handler.setLevel(logging.ERROR)
    log.warn("two")
    handler.setLevel(logging.NOTSET)
    log.logger.addFilter(lambda record: record.args != ("three",))
    log.warn("three")
    log.logger.disabled = True
    log.warn("four")
    assert (tmp_path / "log").read_text() == ""


def test_a_handler_that_fails_is_no_end(
    log: Log, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = add_file(log, tmp_path / "broken")
    handler.setFormatter(logging.Formatter("%(absent)s"))
    add_file(log, tmp_path / "log")
    log.warn("one")
    assert (tmp_path / "log").read_text() == "WARNING: one is late\n"
    assert "KeyError: 'absent'" in capsys.readouterr().err
