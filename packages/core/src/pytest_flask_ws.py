"""The plugin for pytest: the fixture ``ws_connect``, and the conversations of a failed test.

pytest imports this module wherever flask-ws is installed. So it is outside of the package
``flask_ws``, which imports Flask, and imports that only in tests that use it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flask_ws.testing import ClientWebSocket

__all__ = ["ws_connect"]

#: The module with what was said, once it has been imported by a test.
TRANSCRIPTS = "flask_ws.testing.transcript"


@pytest.fixture
def ws_connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., ClientWebSocket]]:
    """Open WebSocket connections to the app under test, until the end of the test.

    ``ws_connect(path, client=None, **options)`` opens one: to the app of the fixture ``client`` if
    there is one, as pytest-flask has it, with its cookies; or else of the fixture ``app``. Its
    options are those of :func:`flask_ws.testing.connect`.

    The connections are closed before the app's own fixture ends. An exception of a handler is
    raised then; or at the end of the block ``with ws_connect(path) as ws``.
    """
    from werkzeug.test import Client

    from flask_ws.testing import connect

    # Now, not at the first call: what is set up before this fixture ends after it.
    default = _find(request, "client")
    if not isinstance(default, Client):
        default = _find(request, "app")
    with contextlib.ExitStack() as stack:

        def open_connection(
            path: str, *, client: Client | None = None, **options: Any
        ) -> ClientWebSocket:
            target = default if client is None else client
            if target is None:
                pytest.fail(
                    "ws_connect() found no app: write a fixture 'app' that returns it, or give "
                    "ws_connect(path, client=...).",
                    pytrace=False,
                )
            return stack.enter_context(connect(target, path, **options))

        yield open_connection


def _find(request: pytest.FixtureRequest, name: str) -> Any:
    """Return the value of a fixture, or ``None`` if there is none of that name."""
    try:
        return request.getfixturevalue(name)
    except pytest.FixtureLookupError as error:
        if error.argname != name:
            # It exists, and asks for another one that does not.
            raise
        return None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Forget the conversations of the test before."""
    if TRANSCRIPTS in sys.modules:
        sys.modules[TRANSCRIPTS].recent.clear()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, None]:
    """Add the conversations to the report of a test that has failed."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and TRANSCRIPTS in sys.modules:
        for transcript in sys.modules[TRANSCRIPTS].recent:
            report.sections.append((f"WebSocket {transcript.path}", str(transcript)))
