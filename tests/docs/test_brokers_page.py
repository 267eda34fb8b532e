"""The page for authors of brokers: its broker passes the suite, which finds what is wrong."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tomli

from flask_ws import hookimpl
from flask_ws.plugin.manager import plugins
from flask_ws.testing import BrokerSuite
from flask_ws.testing.brokers import outages, process
from flask_ws.testing.suite.process import find_port, wait_until

from .markdown import ROOT, read_blocks

PAGE = ROOT / "docs" / "brokers.md"
FILES = {block.caption: block.code for block in read_blocks(PAGE) if block.caption is not None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page, and what installing them would make."""
    folder = tmp_path_factory.mktemp("hub")
    for name, code in FILES.items():
        (folder / name).write_text(code)
    project = tomli.loads(FILES["pyproject.toml"])["project"]
    info = folder / "flask_ws_hub-0.1.0.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [f"{name} = {value}" for name, value in project["entry-points"]["flask_ws"].items()]
    info.joinpath("entry_points.txt").write_text("\n".join(["[flask_ws]", *lines, ""]))
    return folder


@pytest.mark.timeout(300)
def test_the_broker_of_the_page_passes_the_suite(folder: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-W",
            "error",
            "--rootdir=.",
        ],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout.splitlines()[-1]


# What the suite finds


@pytest.fixture(scope="module")
def hub() -> ModuleType:
    module = ModuleType("flask_ws_hub")
    exec(compile(FILES["flask_ws_hub.py"], str(PAGE), "exec"), module.__dict__)
    return module


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    port = find_port()
    process = subprocess.Popen([sys.executable, "hub.py", str(port)], cwd=folder)

    def is_there() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            return False
        return True

    wait_until(is_there, timeout=30)
    yield port
    process.kill()
    process.wait()


def make_broker(hub: ModuleType, fault: str) -> Any:
    """The class of a broker with a fault."""

    class Faulty(hub.HubBroker):  # type: ignore[misc,name-defined]
        def _subscribe_again(self) -> None:
            if fault != "never subscribes again":
                super()._subscribe_again()

        def went_away(self, reason: str) -> None:
            if fault != "says nothing of being away":
                super().went_away(reason)
            if fault == "never connects again":
                self._closed.set()

        def publish(self, channel: str, payload: bytes) -> None:
            if fault == "raises what it gets":
                self.is_away or self._connected.wait(self.timeout)
                self._send([0, "publish", channel, ""])
            elif fault == "drops what is equal":
                last, self.last = getattr(self, "last", None), (channel, payload)
                if last == self.last:
                    return
            super().publish(channel, payload)

        def _ask(self, verb: str, channel: str, *more: str) -> Any:
            return super()._ask(
                verb, channel.lower() if fault == "ignores case" else channel, *more
            )

        def close(self) -> None:
            if fault != "close does nothing":
                super().close()

    if fault == "waits for who does not answer":
        Faulty.timeout = 60
    return Faulty


def make_hook(hub: ModuleType, fault: str) -> Callable[[str], Any]:
    """The hook of a plugin with a fault."""
    faulty = make_broker(hub, fault)

    @hookimpl
    def flask_ws_open_broker(url: str) -> Any:
        if fault == "claims every URL":
            return faulty(("127.0.0.1", 1))
        if fault == "takes any URL of its scheme" and url.startswith("hub:"):
            return faulty(("127.0.0.1", 1)) if "5ecret" in url else faulty(read_address(url))
        if fault == "shows the password" and "5ecret" in url:
            raise hub.ConfigurationError(f"{url} makes no sense")
        return faulty(read_address(url)) if hub.flask_ws_open_broker(url) else None

    return flask_ws_open_broker


def read_address(url: str) -> tuple[str, int]:
    host, _, port = url.removeprefix("hub://").partition(":")
    return host, int(port)


FAULTS = {
    "never subscribes again": "test_after_a_cut_all_that_is_subscribed_to_is_heard_again",
    "never connects again": "test_after_a_cut_all_that_is_subscribed_to_is_heard_again",
    "says nothing of being away": "test_after_a_cut_all_that_is_subscribed_to_is_heard_again",
    "raises what it gets": "test_the_first_publication_may_find_it_away",
    "waits for who does not answer": "test_a_connection_that_stalls_is_not_waited_for",
    "claims every URL": "test_urls_of_other_schemes_are_left_alone",
    "takes any URL of its scheme": "test_urls_that_make_no_sense_are_refused_in_words",
    "shows the password": "test_urls_that_make_no_sense_are_refused_in_words",
    "ignores case": "test_channels_are_apart_whatever_their_names",
    "drops what is equal": "test_a_publication_reaches_other_processes_byte_for_byte",
    "close does nothing": "test_after_closing_nothing_comes",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(
    hub: ModuleType, port: int, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    # What a fault prevents is awaited in vain.
    monkeypatch.setattr(process, "PATIENCE", 2.0)
    monkeypatch.setattr(outages, "SOON", 3.0)
    plugin = ModuleType("faulty")
    plugin.flask_ws_open_broker = make_hook(hub, fault)  # type: ignore[attr-defined]
    opened: list[Any] = []

    def open_broker(url: str) -> Any:
        opened.append(type(plugins).open_broker(plugins, url))
        return opened[-1]

    monkeypatch.setattr(plugins, "open_broker", open_broker)
    plugins.register(plugin)
    try:
        suite = BrokerSuite()
        suite.url, suite.unreachable_url = f"hub://127.0.0.1:{port}", None
        with pytest.raises(AssertionError):
            getattr(suite, FAULTS[fault])()
    finally:
        plugins.unregister(plugin)
        for broker in opened:
            hub.HubBroker.close(broker)
