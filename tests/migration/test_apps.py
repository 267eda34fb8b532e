"""Apps written for flask-sock run with one changed import."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.docs.serving import Served, serve
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

APPS = Path(__file__).with_name("apps")


@contextmanager
def run(name: str, folder: Path) -> Iterator[Served]:
    """Change the import, and start the app as a script."""
    code = (APPS / f"{name}.py").read_text()
    assert code.count("flask_sock") == 1
    (folder / f"{name}.py").write_text(code.replace("flask_sock", "flask_ws"))
    with serve(f"python {name}.py", folder=folder) as served:
        served.await_response()
        yield served


def await_close(client: ClientConnection) -> tuple[int | None, str | None]:
    with suppress(ConnectionClosed):
        while True:
            client.recv(timeout=5)
    return client.protocol.close_code, client.protocol.close_reason


@pytest.mark.parametrize("name", ["echo", "on_gevent", "on_eventlet"])
def test_echo(name: str, tmp_path: Path) -> None:
    """On each of the servers that flask-sock's documentation has a script for."""
    with run(name, tmp_path) as served, served.connect() as client:
        client.send("hello")
        assert client.recv(timeout=5) == "hello"
        client.send("stop")
        assert await_close(client) == (1000, "")


def test_a_thread_that_sends_to_everyone(tmp_path: Path) -> None:
    with run("ticker", tmp_path) as served:
        with served.connect() as lost:
            lost.recv(timeout=5)
        with served.connect() as client:
            first, second = (int(client.recv(timeout=5)) for _ in range(2))
            assert second == first + 1
            client.send("stop")
            assert await_close(client) == (1000, "")
        with served.connect() as client:
            client.send(101 * "x")
            assert await_close(client)[0] == 1009


def test_an_app_from_a_factory_with_a_blueprint(tmp_path: Path) -> None:
    with run("factory", tmp_path) as served:
        with served.connect("/rooms/7?name=Ann") as client:
            assert client.recv(timeout=5) == "7 Ann /rooms/7 True"
        with served.connect() as client:
            client.send("stop")
            assert await_close(client) == (4000, "as you wish")
