"""The page on deploying: its proxies really stand before an app, and its service really starts."""

from __future__ import annotations

import configparser
import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from .markdown import ROOT, Block, read_blocks
from .proxies import CLIENT, KINDS, NAME, Kind, run_proxy
from .serving import BIN, Served, serve
from .test_code import ASGI

PAGE = ROOT / "docs" / "deploying.md"
BLOCKS = read_blocks(PAGE)
#: The lines for a proxy.
(PYTHON,) = (block.code for block in BLOCKS if block.language == "python")

APP = """
from flask import Flask, request
from flask_ws import Sock

app = Flask(__name__)
sock = Sock(app)
app.config["SOCK_PING_INTERVAL"] = 0.2


@sock.route("/echo")
def echo(ws):
    ws.send_json([request.remote_addr, request.scheme, request.host])
    for message in ws:
        ws.send(message)


@sock.route("/silent", ping_interval=None)
def silent(ws):
    ws.receive()
"""


def find_block(caption: str) -> Block:
    (found,) = (block for block in BLOCKS if (block.caption or "").endswith(caption))
    return found


def needs(kind: Kind) -> pytest.MarkDecorator:
    return pytest.mark.skipif(kind.find() is None, reason=f"{kind.program} is not installed")


PROXIES = {kind: pytest.param(kind, marks=needs(kind), id=kind.name) for kind in KINDS}
NGINX = KINDS[0]
each_proxy = pytest.mark.parametrize("kind", PROXIES.values())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app, with the page's lines for a proxy, as the page starts it."""
    folder = tmp_path_factory.mktemp("app")
    (command,) = (
        command for block in BLOCKS for command in block.commands if command.startswith("gunicorn")
    )
    (folder / "app.py").write_text(f"{APP}\n{PYTHON}")
    with serve(command, folder=folder) as served:
        served.await_response()
        yield served


@each_proxy
def test_proxy_passes_on_websockets_and_who_connects(
    kind: Kind, served: Served, tmp_path: Path
) -> None:
    """With TLS at the proxy, a browser's Origin, and headers that a client would like to forge."""
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"}
    config = find_block(kind.caption).code
    with (
        run_proxy(kind, config, app_port=served.port, folder=tmp_path) as proxy,
        proxy.connect("/echo", headers=forged) as client,
    ):
        who = json.loads(client.recv(timeout=10))
        assert who == [CLIENT, "https", f"{NAME}:{proxy.port}"]
        client.send("Hello!")
        assert client.recv(timeout=10) == "Hello!"


@each_proxy
def test_another_sites_page_is_refused_behind_a_proxy(
    kind: Kind, served: Served, tmp_path: Path
) -> None:
    config = find_block(kind.caption).code
    with (
        run_proxy(kind, config, app_port=served.port, folder=tmp_path) as proxy,
        pytest.raises(InvalidStatus) as refused,
        proxy.connect("/echo", origin="https://evil.example"),
    ):
        pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("kind", [PROXIES[kind] for kind in KINDS if kind.cuts_idle])
def test_pings_outlast_the_timeout_of_a_proxy(kind: Kind, served: Served, tmp_path: Path) -> None:
    """A connection without pings is cut off meanwhile."""
    config = find_block(kind.caption).code
    with (
        run_proxy(kind, config, app_port=served.port, folder=tmp_path, idle_seconds=1) as proxy,
        proxy.connect("/echo") as pinged,
        proxy.connect("/silent") as silent,
    ):
        pinged.recv(timeout=10)
        with pytest.raises(ConnectionClosed):
            silent.recv(timeout=30)
        pinged.send("Still here!")
        assert pinged.recv(timeout=10) == "Still here!"


@needs(NGINX)
@pytest.mark.parametrize(("line", "status"), [("$http_upgrade;", 400), ("$http_host;", 403)])
def test_nginx_needs_each_line_that_the_page_has(
    line: str, status: int, served: Served, tmp_path: Path
) -> None:
    """Without it the answer is what the page says, and the log, to the word."""
    lines = find_block(NGINX.caption).code.splitlines()
    config = "\n".join(other for other in lines if not other.endswith(line))
    with (
        run_proxy(NGINX, config, app_port=served.port, folder=tmp_path) as proxy,
        pytest.raises(InvalidStatus) as refused,
        proxy.connect("/echo"),
    ):
        pass
    assert refused.value.response.status_code == status
    if status == 403:
        (shown,) = (block.code for block in BLOCKS if "refused: 403\n" in block.code)
        for theirs, ours in (
            ("203.0.113.7", "127.0.0.1"),
            ("/chat", "/echo"),
            ("https://example.com", f"https://{NAME}:{proxy.port}"),
            ("127.0.0.1:8000", f"127.0.0.1:{served.port}"),
        ):
            shown = shown.replace(theirs, ours)
        # The page breaks the line.
        assert " ".join(shown.split()) in served.log.replace(CLIENT, "127.0.0.1")


@needs(NGINX)
def test_an_asgi_server_behind_a_proxy_learns_who_connects(tmp_path: Path) -> None:
    """By the same lines; Uvicorn itself reads the headers of a proxy on its machine, too."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "app.py").write_text(f"{APP}\n{PYTHON}")
    (folder / "asgi.py").write_text(ASGI.code)
    forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"}
    with serve("uvicorn asgi:asgi", folder=folder) as served:
        served.await_response()
        config = find_block(NGINX.caption).code
        with run_proxy(NGINX, config, app_port=served.port, folder=tmp_path) as proxy:
            with proxy.connect("/echo", headers=forged) as client:
                who = json.loads(client.recv(timeout=10))
            assert who == [CLIENT, "https", f"{NAME}:{proxy.port}"]
            with (
                pytest.raises(InvalidStatus) as refused,
                proxy.connect("/echo", origin="https://evil.example"),
            ):
                pass
            assert refused.value.response.status_code == 403


@needs(NGINX)
def test_the_client_in_the_terminal_gets_through(served: Served, tmp_path: Path) -> None:
    (command,) = (
        command for block in BLOCKS for command in block.commands if "ws connect" in command
    )
    config = find_block(NGINX.caption).code
    with run_proxy(NGINX, config, app_port=served.port, folder=tmp_path) as proxy:
        command = command.replace(NAME, f"localhost:{proxy.port}")
        done = subprocess.run(
            [BIN / "flask", *command.split()[1:], "--wait", "0.2"],
            env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "authority.pem")},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert '"https"' in done.stdout


def test_the_service_starts_the_server(tmp_path: Path) -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(find_block(".service").code)
    service = unit["Service"]
    program, *arguments = shlex.split(service["ExecStart"])
    folder = Path(service["WorkingDirectory"])
    assert program == str(folder / ".venv" / "bin" / "gunicorn")
    (tmp_path / "app.py").write_text(APP)
    with serve(shlex.join(["gunicorn", *arguments]), folder=tmp_path) as served:
        served.await_response()
        with served.connect("/echo") as client:
            assert client.recv(timeout=10)


def test_the_container_installs_and_starts_the_server(tmp_path: Path) -> None:
    """As the Dockerfile says, on the loopback interface."""
    lines = [line.partition(" ") for line in find_block("Dockerfile").code.splitlines()]
    known = {"FROM", "WORKDIR", "RUN", "COPY", "USER", "EXPOSE", "CMD"}
    assert {instruction for instruction, _, _ in lines} == known
    told = {instruction: rest for instruction, _, rest in lines}
    assert told["RUN"] == 'pip install --no-cache-dir "flask-ws[gunicorn]"'
    command = shlex.join(json.loads(told["CMD"]))
    assert f"0.0.0.0:{told['EXPOSE']}" in command
    (tmp_path / "app.py").write_text(APP)
    with serve(command.replace("0.0.0.0", "127.0.0.1"), folder=tmp_path) as served:
        served.await_response()
        with served.connect("/echo") as client:
            assert client.recv(timeout=10)
