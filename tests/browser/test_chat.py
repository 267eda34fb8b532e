"""The chat, in a real browser: what a newcomer does first."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
ROOT = Path(__file__).parents[2]
ENV = {**os.environ, "PYTHONUNBUFFERED": "1"}

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="Chromium and its driver are not installed"
)

GEVENT = """
from gevent import monkey
monkey.patch_all()
from gevent.pywsgi import WSGIServer
from app import app
WSGIServer(("127.0.0.1", {port}), app).serve_forever()
"""

EVENTLET = """
import eventlet
eventlet.monkey_patch()
from eventlet import wsgi
from app import app
wsgi.server(eventlet.listen(("127.0.0.1", {port})), app)
"""

#: How each server is started with the chat; {port} is filled in.
SERVERS = {
    "werkzeug": [sys.executable, "-m", "flask", "--app", "app", "run", "--port", "{port}"],
    "gunicorn": [
        sys.executable,
        *("-m", "gunicorn", "--no-control-socket", "--threads", "4"),
        *("--bind", "127.0.0.1:{port}", "app:app"),
    ],
    "gunicorn-gevent": [
        sys.executable,
        *("-m", "gunicorn", "--no-control-socket", "--worker-class", "gevent"),
        *("--bind", "127.0.0.1:{port}", "app:app"),
    ],
    "gevent": [sys.executable, "-c", GEVENT],
    "eventlet": [sys.executable, "-W", "ignore", "-c", EVENTLET],
}


class ChatServer:
    """The chat example on a server, on a port that stays the same when it is restarted."""

    def __init__(self, command: list[str], log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._command = [part.replace("{port}", str(self.port)) for part in command]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT / "examples" / "chat", env=ENV, stdout=log, stderr=log
            )
        WebDriverWait(None, 30, 0.05).until(lambda _: self._accepts())

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(15)
            self._process = None

    def read_log(self) -> str:
        return self._log.read_text(errors="replace")

    def _accepts(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.read_log()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChatServer]:
    server = ChatServer(SERVERS[request.param], tmp_path / "log")
    server.start()
    yield server
    server.stop()
    assert "Traceback" not in server.read_log()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=900,700",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    browser.set_page_load_timeout(30)
    yield browser
    browser.quit()


class Tab:
    """A tab of the browser with the chat open."""

    def __init__(self, browser: WebDriver, url: str) -> None:
        self._browser = browser
        browser.switch_to.new_window("tab")
        self._handle = browser.current_window_handle
        browser.get(url)
        self.await_state("open")

    def _here(self) -> WebDriver:
        self._browser.switch_to.window(self._handle)
        return self._browser

    def await_state(self, state: str) -> None:
        """Wait until the page says that the connection is in a state."""
        WebDriverWait(self._here(), 20, 0.05).until(
            lambda b: b.find_element(By.ID, "status").get_attribute("data-state") == state
        )

    def say(self, name: str, text: str) -> None:
        page = self._here()
        field = page.find_element(By.ID, "name")
        field.clear()
        field.send_keys(name)
        page.find_element(By.ID, "text").send_keys(text)
        page.find_element(By.ID, "send").click()

    def await_message(self, text: str) -> None:
        """Wait until the list of messages shows a text."""
        WebDriverWait(self._here(), 20, 0.05).until(
            lambda b: text in b.find_element(By.ID, "messages").text
        )

    def await_people(self, number: int) -> None:
        WebDriverWait(self._here(), 20, 0.05).until(
            lambda b: re.search(rf"\b{number}\b", b.find_element(By.ID, "people").text)
        )

    def reload(self) -> None:
        self._here().refresh()
        self.await_state("open")

    def close(self) -> None:
        self._here().close()


@pytest.fixture
def tabs(browser: WebDriver, server: ChatServer) -> Iterator[tuple[Tab, Tab]]:
    first_handle = browser.current_window_handle
    tabs = Tab(browser, server.url), Tab(browser, server.url)
    yield tabs
    for tab in tabs:
        tab.close()
    browser.switch_to.window(first_handle)


def test_two_tabs_talk_to_each_other(tabs: tuple[Tab, Tab], server: ChatServer) -> None:
    """What one tab says the other shows, with markup as text; a reload and a restart pass."""
    ann, bob = tabs
    ann.await_people(2)
    ann.say("Ann", "hello <b>Bob</b> \u2713")
    bob.await_message("hello <b>Bob</b> \u2713")
    bob.say("Bob", "hello Ann")
    ann.await_message("hello Ann")

    bob.reload()
    bob.await_message("hello Ann")

    server.stop()
    ann.await_state("closed")
    server.start()
    ann.await_state("open")
    bob.await_state("open")
    ann.say("Ann", "back again")
    bob.await_message("back again")
