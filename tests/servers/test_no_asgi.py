"""ASGI servers that are given an app which cannot serve their WebSockets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.docs.serving import BIN, serve
from tests.docs.test_code import APP
from tests.support.setups import EVERYWHERE
from websockets.exceptions import InvalidStatus

from flask_ws.plugin.asgi import ADVICE
from flask_ws.testing.suite.process import find_port

elsewhere = pytest.mark.skipif(not EVERYWHERE, reason="FLASK_WS_EVERYWHERE is not 1")

WRAPPED = APP + "\nfrom {module} import {name}\n\nasgi = {name}(app)\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "uvicorn --port {port} app:app",
        pytest.param("granian --interface asgi --port {port} app:app", marks=elsewhere),
        pytest.param("gunicorn -k asgi --no-control-socket -b :{port} app:app", marks=elsewhere),
    ],
)
def test_a_server_that_is_given_the_app_itself_does_not_start(folder: Path, command: str) -> None:
    program, *arguments = command.format(port=find_port()).split()
    ended = subprocess.run(
        [BIN / program, *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode != 0
    assert ADVICE in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "command",
    [
        "uvicorn --interface wsgi --port 8000 app:app",
        pytest.param("granian --interface wsgi --port 8000 app:app", marks=elsewhere),
    ],
)
def test_a_handshake_through_an_interface_for_wsgi_is_refused(folder: Path, command: str) -> None:
    with serve(command, folder=folder) as served:
        served.await_response()
        with pytest.raises(InvalidStatus) as raised, served.connect():
            pass
    assert raised.value.response.status_code == 501
    assert ADVICE.encode() in raised.value.response.body


@elsewhere
@pytest.mark.parametrize(
    ("command", "module", "name"),
    [
        ("uvicorn --port 8000 app:asgi", "a2wsgi", "WSGIMiddleware"),
        ("uvicorn --port 8000 app:asgi", "asgiref.wsgi", "WsgiToAsgi"),
        ("hypercorn -b 127.0.0.1:8000 app:app", "a2wsgi", "WSGIMiddleware"),
    ],
    ids=["a2wsgi", "asgiref", "hypercorn"],
)
def test_the_first_request_is_told_what_keeps_websockets_back(
    folder: Path, command: str, module: str, name: str
) -> None:
    (folder / "app.py").write_text(WRAPPED.format(module=module, name=name))
    with serve(command, folder=folder) as served:
        served.await_response()
        with pytest.raises(InvalidStatus), served.connect():
            pass
        assert served.log.count(ADVICE) == 1
