"""ASGI servers that are given an app which cannot serve their WebSockets."""

from __future__ import annotations

import html
import subprocess
from pathlib import Path

import pytest
from tests.docs.serving import BIN, serve
from tests.docs.test_code import APP
from tests.support.setups import EVERYWHERE
from websockets.exceptions import InvalidStatus

from flask_ws.plugin.asgi import ADVICE
from flask_ws.testing.suite.process import find_port


def with_others(command: str, *others: str) -> pytest.MarkDecorator:
    """Run a test with a command, and with others where that is asked for."""
    return pytest.mark.parametrize("command", [command, *(others if EVERYWHERE else ())])


WRAPPED = """
from a2wsgi import WSGIMiddleware
from asgiref.wsgi import WsgiToAsgi

by_a2wsgi = WSGIMiddleware(app)
by_asgiref = WsgiToAsgi(app)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@with_others(
    "uvicorn --port {port} app:app",
    "granian --interface asgi --port {port} app:app",
    "gunicorn -k asgi --no-control-socket -b 127.0.0.1:{port} app:app",
)
def test_a_server_that_is_given_the_app_itself_does_not_start(folder: Path, command: str) -> None:
    program, *arguments = command.format(port=find_port()).split()
    ended = subprocess.run(
        [BIN / program, *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode != 0
    assert ADVICE in ended.stdout + ended.stderr


@with_others(
    "uvicorn --interface wsgi --port 8000 app:app",
    "granian --interface wsgi --port 8000 app:app",
)
def test_a_handshake_through_an_interface_for_wsgi_is_refused(folder: Path, command: str) -> None:
    with serve(command, folder=folder) as served:
        served.await_response()
        with pytest.raises(InvalidStatus) as raised, served.connect():
            pass
    assert raised.value.response.status_code == 501
    assert ADVICE in html.unescape(raised.value.response.body.decode())


@with_others(
    "uvicorn --port 8000 app:by_a2wsgi",
    "uvicorn --port 8000 app:by_asgiref",
    "hypercorn -b 127.0.0.1:8000 app:app",
)
def test_the_first_request_is_told_what_keeps_websockets_back(folder: Path, command: str) -> None:
    (folder / "app.py").write_text(APP + WRAPPED)
    with serve(command, folder=folder) as served:
        served.await_response()
        with pytest.raises(InvalidStatus), served.connect():
            pass
        assert served.log.count(ADVICE) == 1
