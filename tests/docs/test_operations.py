"""What the page on operations configures, and what it quotes."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import gunicorn.config
import pytest
import yaml
from websockets.exceptions import ConnectionClosed

from flask_ws.loop.drain import REST

from .markdown import ROOT, Block, read_blocks
from .serving import BIN, replace_port, serve
from .test_code import APP
from .test_troubleshooting import TEXTS

PATH = ROOT / "docs" / "operations.md"
BLOCKS = read_blocks(PATH)

CLIENT = """
import logging
from flask_ws.testing import connect

logging.getLogger("flask_ws").setLevel(logging.DEBUG)
with connect(app, "/echo", environ_base={"REMOTE_ADDR": "203.0.113.7"}) as ws:
    ws.close(1000)
"""


def read_quoted(page: str) -> list[str]:
    """What the first column of the table of warnings quotes."""
    _, _, table = page.partition("| in the log |")
    rows = table.partition("\n\n")[0].splitlines()[2:]
    return [text for row in rows for text in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


def find(text: str) -> Block:
    (block,) = (block for block in BLOCKS if text in block.code)
    return block


def test_lines_of_the_log_are_as_the_page_quotes_them() -> None:
    script = APP + find("dictConfig(").code + CLIENT
    ran = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60
    )
    quoted = find("/chat open").code.replace("/chat", "/echo").splitlines()
    for line, expected in zip(ran.stderr.splitlines(), quoted, strict=True):
        prefix = r"\d{4}-\d\d-\d\d [\d:,]+ \[\d+\] DEBUG flask_ws (?P<own>[0-9a-f]{12}): "
        pattern = re.escape(expected).replace("65f28fd94b7a", "(?P=own)")
        pattern = pattern.replace("7\\.305", r"\d+\.\d{3}").replace("…", r"\d+ .+")
        assert re.fullmatch(prefix + pattern, line)


def test_gunicorn_accepts_its_configuration(tmp_path: Path) -> None:
    block = find("logconfig_dict")
    (tmp_path / "gunicorn.conf.py").write_text(block.code)
    (tmp_path / "app.py").write_text(APP)
    done = subprocess.run(
        [BIN / "gunicorn", "--check-config", "app:app"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("quoted", read_quoted(PATH.read_text()))
def test_a_quoted_warning_is_one(quoted: str) -> None:
    assert any(quoted in text for text in TEXTS)


def read_pod() -> dict[str, Any]:
    """The specification of the pod in the example for Kubernetes."""
    pod: dict[str, Any] = yaml.safe_load(find("kind: Deployment").code)["spec"]["template"]["spec"]
    return pod


def read_hook(pod: dict[str, Any]) -> str:
    """The command that is run in a pod before its end."""
    command: str = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    return command


def test_a_pod_has_time_to_drain_and_to_stop() -> None:
    pod = read_pod()
    command = pod["containers"][0]["command"]
    timeout = int(command[command.index("--graceful-timeout") + 1])
    wait = float(read_hook(pod).rpartition(" ")[2])
    drain = int(re.findall(r'"SOCK_DRAIN"\] = (\d+)', PATH.read_text())[0])
    assert drain < wait
    assert pod["terminationGracePeriodSeconds"] >= wait + timeout


def get_status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_pod_drains_before_it_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server and the hook are run as the example has them."""
    monkeypatch.setenv("DRAIN_TOKEN", "secret")
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    app = f'{APP}\napp.config["SOCK_DRAIN"] = 0.5\n{find("def websocket_drain").code}'
    (tmp_path / "app.py").write_text(app)
    pod = read_pod()
    (container,) = pod["containers"]
    command = shlex.join(container["command"]).replace("0.0.0.0", "127.0.0.1")
    path = container["readinessProbe"]["httpGet"]["path"]
    with serve(command, folder=tmp_path) as served, contextlib.ExitStack() as stack:
        served.await_response()
        assert get_status(served.port, path) == 200
        clients = [stack.enter_context(served.connect()) for _ in range(3)]
        hook = subprocess.run(
            ["sh", "-c", replace_port(read_hook(pod), served.port)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert hook.stdout.startswith("0 connections left"), hook.stderr
        for client in clients:
            with pytest.raises(ConnectionClosed):
                client.recv(timeout=5)
            assert client.protocol.close_code == 1001
        assert get_status(served.port, path) == 503


def test_all_clients_are_told_before_the_server_ends() -> None:
    """In the example: within Gunicorn's own time, less two seconds."""
    drain = int(re.findall(r'"SOCK_DRAIN"\] = (\d+)', PATH.read_text())[0])
    assert drain <= gunicorn.config.GracefulTimeout.default - REST
