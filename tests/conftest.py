"""What holds for the whole suite: what is run by one process of `pytest -n`; in CI, no skips."""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
from collections.abc import Generator
from pathlib import Path

import pluggy
import pytest

from flask_ws.system import WINDOWS

#: Set by `.ci/run`, which has installed whatever a test may want.
CI = os.environ.get("FLASK_WS_CI") == "1"

#: What CI cannot always have: no distribution has the first any more, and the second needs Wine.
EXCUSES = ("CPython 2.7", "CPython for Windows")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control ignores Ctrl-C for what it runs in the background, and servers
    # that tests start would ignore it, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

TESTS = Path(__file__).resolve().parent
#: What begins with an import that fails here: Windows has no Gunicorn, whose worker for Eventlet is
#: tested with that, and uWSGI has no wheel for the newest Python. PostgreSQL is started as on Unix.
collect_ignore: list[str] = []
if WINDOWS:
    collect_ignore += [f"unit/servers/test_{name}.py" for name in ("eventlet", "gunicorn")]
    collect_ignore += ["unit/broker_postgresql"]
if importlib.util.find_spec("flask_ws_uwsgi") is None:
    collect_ignore += ["unit/servers/test_uwsgi.py"]
#: Parameters that stand for a server, which is started once for all tests that have it.
SERVERS = ("setup", "site", "outcome")


def find_group(item: pytest.Item) -> str | None:
    """Name the tests that one process runs together with this one; `None` if any process may."""
    folder = item.path.relative_to(TESTS).parts[0]
    if folder == "unit":
        return None
    params = getattr(getattr(item, "callspec", None), "params", {})
    # A name with a "]" would be none to pytest-xdist, and a dataclass's repr may have one.
    found = [params[name] for name in SERVERS if name in params]
    servers = [f"{folder} {getattr(param, 'name', param)}" for param in found]
    return servers[0] if servers else str(item.path.relative_to(TESTS))


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure that says what was missing."""
    # An expected failure is reported as a skip, too.
    if not CI or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(excuse in reason for excuse in EXCUSES):
        report.outcome = "failed"
        report.longrepr = f"FLASK_WS_CI allows no skip: {reason}"


# Before pytest-xdist reads the marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if WINDOWS:
        not_here = [item for item in items if item.get_closest_marker("unix")]
        items[:] = [item for item in items if item not in not_here]
        config.hook.pytest_deselected(items=not_here)
    for item in items:
        group = find_group(item)
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    # Else each gc.collect() of a test looks through thousands of tests.
    gc.collect()
    gc.freeze()


# The old kind of wrapper: the oldest pluggy that flask-ws supports knows no other.
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, pluggy.Result[pytest.TestReport], None]:
    outcome = yield
    refuse_skip(outcome.get_result())


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Generator[None, pluggy.Result[pytest.CollectReport], None]:
    outcome = yield
    refuse_skip(outcome.get_result())
