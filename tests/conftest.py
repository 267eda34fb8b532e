"""What holds for the whole suite: in CI, nothing is skipped."""

from __future__ import annotations

import os
from collections.abc import Generator

import pluggy
import pytest

#: Set by `.ci/run`, which has installed whatever a test may want.
CI = os.environ.get("FLASK_WS_CI") == "1"

#: The one thing that CI cannot install: no distribution has it any more.
EXCUSE = "CPython 2.7"


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure that says what was missing."""
    # An expected failure is reported as a skip, too.
    if not CI or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if EXCUSE not in reason:
        report.outcome = "failed"
        report.longrepr = f"FLASK_WS_CI allows no skip: {reason}"


# The old kind of wrapper: the oldest pluggy that flask-ws supports knows no other.
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    outcome = yield
    refuse_skip(outcome.get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Generator[None, pluggy.Result[pytest.CollectReport], None]:
    outcome = yield
    refuse_skip(outcome.get_result())
