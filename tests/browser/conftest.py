"""One browser for all tests, and the examples on one server after the other."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.remote.webdriver import WebDriver
from tests.support.browsers import open_browser
from tests.support.server import wait_until

from flask_ws.testing.suite.log import find_tracebacks

from .tabs import OpenTab, Tab

ROOT = Path(__file__).parents[2]
APP = "tests.browser.every_example"
ASGI_APP = "tests.browser.every_asgi:asgi"

GEVENT = f"""
from gevent import monkey
monkey.patch_all()
from gevent.pywsgi import WSGIServer
from {APP} import app
WSGIServer(("127.0.0.1", {{port}}), app).serve_forever()
"""

EVENTLET = f"""
import eventlet
eventlet.monkey_patch()
from eventlet import wsgi
from {APP} import app
wsgi.server(eventlet.listen(("127.0.0.1", {{port}})), app)
"""

GUNICORN = ("-m", "gunicorn", "--no-control-socket", "--bind", "127.0.0.1:{port}", f"{APP}:app")

#: How each server is started, and by which signal it is stopped; {port} is filled in.
SERVERS = {
    "werkzeug": (["-m", "flask", "--app", APP, "run", "--port", "{port}"], signal.SIGINT),
    "gunicorn": ([*GUNICORN, "--threads", "8"], signal.SIGTERM),
    "gunicorn-gevent": ([*GUNICORN, "--worker-class", "gevent"], signal.SIGTERM),
    "gevent": (["-c", GEVENT], signal.SIGINT),
    "eventlet": (["-W", "ignore", "-c", EVENTLET], signal.SIGINT),
    "uvicorn": (["-m", "uvicorn", "--port", "{port}", ASGI_APP], signal.SIGTERM),
}


SETTINGS = {"PYTHONUNBUFFERED": "1", "TERMINAL_COMMAND": "/bin/sh", "STREAM_PAUSE": "0.005"}


class Site:
    """The examples on a server, on a port that stays the same when it is restarted."""

    def __init__(self, server: str, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.server = server
        arguments, self._stop_signal = SERVERS[server]
        self._command = [part.replace("{port}", str(self.port)) for part in arguments]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, example: str) -> str:
        return f"http://127.0.0.1:{self.port}/{example}/"

    def start(self) -> None:
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # A background job of a shell ignores SIGINT, and its children would as well.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *self._command],
                cwd=ROOT,
                env={**os.environ, **SETTINGS},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._accepts, timeout=30)

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(15)
            finally:
                self._process.kill()
                self._process = None

    def read_log(self) -> str:
        return self._log.read_text(errors="replace")

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.read_log()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "site" in metafunc.fixturenames:
        # A test that needs no particular server has one of each kind, that starts soon.
        servers = ["werkzeug", "uvicorn"]
        if any(metafunc.definition.iter_markers("every_server")):
            servers = list(SERVERS)
        metafunc.parametrize("site", servers, indirect=True, scope="session")


@pytest.fixture(scope="session")
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    site = Site(request.param, tmp_path_factory.mktemp("site") / "log")
    site.start()
    try:
        yield site
    finally:
        site.stop()
    assert not find_tracebacks(site.read_log()), site.read_log()


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with open_browser(tmp_path_factory.mktemp("browser")) as browser:
        browser.set_window_size(900, 700)
        yield browser


@pytest.fixture
def open_tab(browser: WebDriver, site: Site) -> Iterator[OpenTab]:
    """Open a page of the site in a tab of its own, which is closed in the end."""
    first = browser.current_window_handle
    tabs: list[Tab] = []

    def open_tab(example: str) -> Tab:
        tabs.append(Tab(browser, site.url(example)))
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        tab.close()
    browser.switch_to.window(first)
