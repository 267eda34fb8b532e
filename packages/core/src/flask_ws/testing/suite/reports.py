"""Adds to pytest's report of a failed test what the servers logged meanwhile."""

from __future__ import annotations

from collections.abc import Generator

import pluggy
import pytest

from .dump import DUMPED
from .process import Server
from .waiting import Timeout

__all__ = ["register", "watch"]

#: The servers of a test, each with the size of its log before the test.
SERVERS = pytest.StashKey[list[tuple[Server, int]]]()
#: The most characters of a log that are shown, from its end.
SHOWN = 20_000


def watch(item: pytest.Item, server: Server, beginning: int = 0) -> None:
    """Show a server's log, from where it is now, if the test fails."""
    item.stash.setdefault(SERVERS, []).append((server, beginning))


class ServerLogs:
    """Adds to the report of a failed test the logs of its servers.

    If the test timed out, the servers first write the stacks of their threads.
    """

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pluggy.Result[pytest.TestReport], None]:
        outcome = yield
        report = outcome.get_result()
        if not report.failed or call.when != "call" or call.excinfo is None:
            return
        for server, beginning in item.stash.get(SERVERS, []):
            log = server.log.read(beginning)
            if DUMPED not in log and has_timed_out(call.excinfo.value):
                server.dump_threads()
                log = server.log.read(beginning)
            cut = f"... {len(log) - SHOWN} characters\n" if len(log) > SHOWN else ""
            report.sections.append((f"Log of the server {server.setup}", cut + log[-SHOWN:]))


def has_timed_out(error: BaseException) -> bool:
    # The last one is raised by pytest-timeout.
    return isinstance(error, (TimeoutError, Timeout)) or (
        isinstance(error, pytest.fail.Exception) and str(error).startswith("Timeout")
    )


def register(config: pytest.Config) -> None:
    """Use it in this run of pytest."""
    if not config.pluginmanager.has_plugin(__name__):
        config.pluginmanager.register(ServerLogs(), __name__)
