"""The browser client in Chromium: connections that are cut, hang, and servers that are killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.remote.webdriver import WebDriver
from tests.support.browsers import NAME
from tests.support.node import end_node, find_node
from tests.support.redis import RedisServer
from tests.support.server import wait_until
from tests.support.wire_client import NodeWireClient, WireClient

from flask_ws.testing.proxy import Proxy
from flask_ws.testing.suite.process import find_port

from .tabs import Tab

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "packages/core/src/flask_ws/static/flask-ws.js"
FLASK = (sys.executable, "-m", "flask")


UNLIMITED = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}


class App:
    """The app of live_app.py in a process that can be killed, behind a proxy that can be cut."""

    def __init__(self, broker: str, log: Path) -> None:
        self.port = find_port()
        self.broker = broker
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*FLASK, "--app", "tests.browser.live_app", "run", "--port", str(self.port)],
                cwd=ROOT,
                env={**os.environ, "SOCK_BROKER_URL": self.broker},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_until(self._accepts, timeout=30)

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(15)
            self._process = None


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("live")
    with RedisServer(folder).running() as redis:
        app = App(redis.url, folder / "log")
        try:
            app.start()
            yield app
        finally:
            app.kill()


@pytest.fixture
def proxy(app: App) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", app.port)) as proxy:
        yield proxy


@pytest.fixture
def tab(browser: WebDriver, proxy: Proxy) -> Iterator[Tab]:
    first = browser.current_window_handle
    tab = Tab(browser, f"http://127.0.0.1:{proxy.port}/")
    tab.wait_for("window.room?.position")
    yield tab
    tab.close()
    browser.switch_to.window(first)


class Publisher:
    """Publishes numbers from another process than the server's, until it is stopped."""

    def __init__(self, broker: str) -> None:
        from flask import Flask

        from flask_ws import Sock

        self.count = 0
        self._app = Flask("publisher")
        self._app.config["SOCK_BROKER_URL"] = broker
        self._app.config["SOCK_HISTORY"] = {"numbers": (10_000, 300)}
        self._sock = Sock(self._app)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Publisher:  # noqa: PYI034
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(10)

    def send_to(self, identity: str, data: object) -> None:
        with self._app.app_context():
            assert self._sock.send_json_to(identity, data)

    def _run(self) -> None:
        with self._app.app_context():
            while not self._stopped.wait(0.005):
                assert self._sock.publish_json("numbers", self.count)
                self.count += 1


class NodeClient:
    """The same client in Node, with Node's own WebSocket."""

    def __init__(self, url: str, output: Path) -> None:
        self._url = url
        self._output = output

    def __enter__(self) -> NodeClient:  # noqa: PYI034
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [find_node(), Path(__file__).with_name("numbers.mjs"), MODULE, self._url],
                stdin=subprocess.PIPE,
                stdout=output,
            )
        return self

    def __exit__(self, *_: object) -> None:
        end_node(self._process)

    def lines(self) -> list[str]:
        """What has been written so far."""
        return self._output.read_text().split("\n")[:-1]

    def read(self) -> list[Any]:
        """What has come of the channel so far."""
        told = ("subscribed", "direct", "presence")
        lines = [line for line in self.lines() if not line.startswith(told)]
        return [int(line) if line.isdigit() else line for line in lines]


def test_nothing_is_lost_doubled_or_reordered(
    app: App, proxy: Proxy, tab: Tab, tmp_path: Path
) -> None:
    """By a page whose connection is cut, hangs, and whose server is killed and started again.

    What a later version of the format may send besides is ignored.
    """

    def await_more() -> None:
        count = tab.run("return seen.length")
        tab.wait_for("seen.length > arguments[0] + 20", count)

    url = f"http://127.0.0.1:{proxy.port}/live"
    with (
        WireClient(url.replace("http", "ws"), "numbers") as other,
        NodeWireClient(url.replace("http", "ws"), "numbers") as third,
        NodeClient(url, tmp_path / "node") as node,
        Publisher(app.broker) as publisher,
    ):
        await_more()
        proxy.cut()
        tab.wait_for("live.state === 'waiting'")
        proxy.restore()
        await_more()
        app.kill()
        tab.wait_for("live.state === 'waiting'")
        app.start()
        await_more()
        # As after a laptop's lid was closed: it seems open, and nothing comes.
        proxy.stall()
        tab.run("dispatchEvent(new Event('online'))")
        tab.wait_for("live.state !== 'open'")
        proxy.restore()
        await_more()
        tab.run("dispatchEvent(new Event('pagehide'))")
        assert tab.run("return live.state") == "waiting"
        tab.run("dispatchEvent(new Event('pageshow'))")
        await_more()
        publisher.stop()
        numbers = list(range(publisher.count))
        tab.wait_for("seen.length >= arguments[0]", len(numbers))
        wait_until(
            lambda: min(len(other.seen), len(third.seen), len(node.read())) >= len(numbers),
            timeout=20,
        )
    assert tab.run("return seen") == numbers
    assert tab.run("return gaps") == 0
    assert other.seen == third.seen == numbers
    assert min(other.connections, third.connections) > 1
    assert node.read() == numbers


@pytest.mark.skipif(NAME != "chromium", reason="Chromium alone can be told to.")
def test_three_tabs_stay_whole(browser: WebDriver, app: App, proxy: Proxy) -> None:
    """One is offline for a while, one is frozen, as behind a closed lid, and one is reloaded."""

    def await_more(tab: Tab) -> None:
        count = tab.run("return seen.length")
        tab.wait_for("seen.length > arguments[0] + 20", count)

    first = browser.current_window_handle
    offline, frozen, reloaded = tabs = [
        Tab(browser, f"http://127.0.0.1:{proxy.port}/") for _ in range(3)
    ]
    with Publisher(app.broker) as publisher:
        for tab in tabs:
            tab.wait_for("window.room?.position")
            await_more(tab)
        offline.command("Network.enable")
        offline.command("Network.emulateNetworkConditions", offline=True, **UNLIMITED)
        offline.wait_for("!navigator.onLine")
        frozen.command("Page.setWebLifecycleState", state="frozen")
        proxy.cut()
        reloaded.wait_for("live.state === 'waiting'")
        proxy.restore()
        await_more(reloaded)
        reloaded.reload()
        reloaded.wait_for("window.room?.position")
        await_more(reloaded)
        offline.command("Network.emulateNetworkConditions", offline=False, **UNLIMITED)
        frozen.command("Page.setWebLifecycleState", state="active")
        for tab in tabs:
            await_more(tab)
        publisher.stop()
        last = publisher.count - 1
        for tab in tabs:
            tab.wait_for("seen.at(-1) === arguments[0]", last)
            seen = tab.run("return seen")
            assert seen == list(range(seen[0], last + 1))
            assert tab.run("return gaps") == 0
    for tab in tabs:
        tab.close()
    browser.switch_to.window(first)


def test_a_message_to_the_user_reaches_clients_of_all_kinds(
    app: App, proxy: Proxy, tab: Tab, tmp_path: Path
) -> None:
    """From another process."""
    url = f"http://127.0.0.1:{proxy.port}/live"
    with (
        WireClient(url.replace("http", "ws"), "numbers") as other,
        NodeWireClient(url.replace("http", "ws"), "numbers") as third,
        NodeClient(url, tmp_path / "node") as node,
        Publisher(app.broker) as publisher,
    ):
        wait_until(
            lambda: bool(other.seen and third.seen) and "subscribed" in node.lines(), timeout=20
        )
        publisher.send_to("ada", {"unread": 1})
        tab.wait_for("direct.length === 1")
        wait_until(lambda: bool(other.direct and third.direct), timeout=20)
        wait_until(lambda: "direct { unread: 1 }" in node.lines(), timeout=20)
    assert tab.run("return direct") == other.direct == third.direct == [{"unread": 1}]


def test_a_client_in_node_is_written_from_the_page_alone(app: App) -> None:
    """It joins, publishes, is refused, leaves, and does not come back when it is told not to."""
    url = f"ws://127.0.0.1:{app.port}/live?user="
    with (
        WireClient(f"{url}grace", "numbers", "python") as grace,
        NodeWireClient(f"{url}node", "numbers", {"name": "node"}) as node,
    ):
        wait_until(lambda: len(grace.members) == len(node.members) == 2, timeout=20)
        assert node.members["node"] == [{"is": {"name": "node"}}]
        node.ask(type="publish", channel="numbers", data=["from node"])
        wait_until(lambda: node.seen[-1:] == grace.seen[-1:] == [["from node"]], timeout=20)
        node.ask(type="publish", channel="other", data=1)
        node.ask(type="later")
        node.ask(type="ping")
        node.ask(type="leave", channel="numbers")
        node.ask(type="unsubscribe", channel="numbers")
        wait_until(lambda: len(node.answers) == 4, timeout=20)
        assert [answer["type"] for answer in node.answers] == [
            *("published", "pong", "left", "unsubscribed")
        ]
        assert node.refusals == ["forbidden", "unsupported"]
        wait_until(lambda: list(grace.members) == ["grace"], timeout=20)
        node.ask(type=1)
        wait_until(lambda: node.codes == [4400], timeout=20)
        assert node.connections == 1


def test_who_comes_back_is_not_told_to_have_left(
    app: App, proxy: Proxy, tab: Tab, tmp_path: Path
) -> None:
    """To one who was there all the time; and one who was away is told all who are there."""
    url = f"ws://127.0.0.1:{app.port}/live?user="
    with WireClient(f"{url}grace", "numbers", "python") as grace:
        with NodeClient(f"{url}node", tmp_path / "node") as node:
            wait_until(lambda: len(grace.members) == 2, timeout=20)
            tab.run("room.join({ page: 1 })")
            tab.wait_for("room.members.size === 3")
            wait_until(lambda: "presence ada,grace,node" in node.lines(), timeout=20)
            assert tab.run("return room.key") == "ada"
            # Whether the first state has its own join in it is a matter of time.
            tab.run("told.length = 0")
            proxy.cut()
            tab.wait_for("live.state === 'waiting'")
            proxy.restore()
            tab.wait_for("told.length === 1")
        tab.wait_for("room.members.size === 2")
        tab.run("room.leave()")
        wait_until(lambda: len(grace.members) == 1, timeout=20)
    assert grace.told == ["state", "join node", "join ada", "leave node", "leave ada"]
    assert tab.run("return told.slice(0, 2)") == ["state 3", "leave node"]


PUBLISH = """
const done = arguments[0];
live.publish("other", 1).catch(async ({ name, code, message }) => {
  const other = live.subscribe("other");
  other.onrefused = async (error) => done([
    name, code, message, error instanceof Refused, typeof await room.publish("mine"),
  ]);
});
"""


def test_refusals_and_positions_reach_the_page(tab: Tab) -> None:
    assert tab.await_script(PUBLISH) == [
        "Refused",
        "forbidden",
        "Nothing may be published here.",
        True,
        "string",
    ]


AWAY = """
const done = arguments[0];
const settled = (promise) => promise.then(() => "published", (error) => error.code);
const kept = new Live("live", { keep: 2, minDelay: 50, maxDelay: 200 });
window.answers = [1, 2, 3].map((number) => settled(kept.publish("numbers", number)));
window.kept = kept;
Promise.race(answers).then(done);
"""


def test_what_is_published_while_away_waits_up_to_a_bound(tab: Tab, proxy: Proxy) -> None:
    proxy.cut()
    assert tab.await_script(AWAY) == "away"
    proxy.restore()
    answers = "const done = arguments[0]; Promise.all(answers).then(done)"
    assert tab.await_script(answers) == ["published", "published", "away"]
    tab.run("kept.close()")


SOCKET = """
const done = arguments[0];
const log = [];
const ws = new Socket("/echo", "echo", { minDelay: 50, maxDelay: 200, keep: 2 });
window.ws = ws;
window.log = log;
log.push(ws.readyState);
ws.addEventListener("open", () => log.push(["open", ws.protocol, ws.readyState]));
ws.onmessage = ({ data }) => log.push(data);
ws.onclose = ({ code }) => log.push([code, ws.readyState]);
ws.send("one");
ws.send("two");
try { ws.send("three"); } catch (error) { log.push(error.name); }
"""


def test_a_socket_is_a_websocket_that_comes_back(tab: Tab, proxy: Proxy) -> None:
    """What is sent meanwhile is kept; and it does not come back after a code that says so."""
    tab.run(SOCKET.replace("const done = arguments[0];", ""))
    tab.wait_for("log.length >= 5")
    proxy.cut()
    tab.wait_for("log.length >= 6")
    tab.run("ws.send('leave')")
    proxy.restore()
    tab.wait_for("ws.readyState === Socket.CLOSED")
    log: list[Any] = tab.run("return log")
    # While the proxy was cut, there may have been further tries.
    tries = [entry for entry in log if entry == [1006, 0]]
    assert tries
    assert [entry for entry in log if entry != [1006, 0]] == [
        0,
        "InvalidStateError",
        ["open", "echo", 1],
        "one",
        "two",
        ["open", "echo", 1],
        "leave",
        [4001, 3],
    ]
