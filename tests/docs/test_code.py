"""The code in README and documentation does what the text says."""

from __future__ import annotations

import logging
import re
import shlex
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from flask import Flask
from prometheus_client import REGISTRY

from flask_ws.testing import HandshakeRefused, connect

from .markdown import PAGES, PROJECTS, Block, name, read_blocks, read_start_commands
from .serving import serve

APP = """
from flask import Flask
from flask_ws import Sock

app = Flask(__name__)
sock = Sock(app)


@sock.route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)
"""

BLOCKS = [block for page in PAGES for block in read_blocks(page)]
#: Where several pages have the same, the first.
SCRIPTS = {
    block.code: block for block in reversed(BLOCKS) if block.is_script and not block.is_served
}
#: What the commands of ASGI servers name.
(ASGI,) = (block for block in BLOCKS if block.is_served and block.caption == "asgi.py")
#: The option of a server that says where it listens, unless that is a Unix socket.
ADDRESS = re.compile(r" (-b|--port|--listen)[ =](\S*:)?\d+")
CODE = {
    page: blocks
    for page in PAGES
    if page not in PROJECTS
    and (
        blocks := [
            block
            for block in BLOCKS
            if block.page == page and block.language == "python" and not block.is_script
        ]
    )
}
#: The others go on with the app of the quickstart.
INTRODUCTIONS = [page for page in CODE if page.name in {"README.md", "index.md", "quickstart.md"}]
#: Where several pages have the same but for the address, which is ours in any case, the first.
COMMANDS = {
    ADDRESS.sub("", command): pytest.param(command, id=f"{name(page)}: {command}")
    for page in reversed(PAGES)
    if page not in PROJECTS
    for command in reversed(read_start_commands(page))
    if "examples/" not in command
}


@pytest.fixture
def module(request: pytest.FixtureRequest) -> Iterator[types.ModuleType]:
    """A module for the code of a page; Flask looks for an app's module by name."""
    module = types.ModuleType("a_page_of_the_documentation")
    module.__file__ = __file__
    sys.modules[module.__name__] = module
    # What a page configures of logging is for its own app.
    root, logger = logging.getLogger(), logging.getLogger("flask_ws")
    handlers, root_level, level = root.handlers[:], root.level, logger.level
    collectors = set(REGISTRY._collector_to_names)
    yield module
    # Two pages may register the same metrics.
    for collector in set(REGISTRY._collector_to_names) - collectors:
        REGISTRY.unregister(collector)
    root.handlers[:] = handlers
    root.setLevel(root_level)
    logger.setLevel(level)
    del sys.modules[module.__name__]


def run(blocks: list[Block], module: types.ModuleType) -> None:
    for block in blocks:
        # Blank lines put errors on the lines that the page has them on.
        code = "\n" * (block.line - 1) + block.code
        exec(compile(code, str(block.page), "exec", dont_inherit=True), module.__dict__)


def test_there_is_code_to_test() -> None:
    assert len(CODE) >= 6
    assert len(INTRODUCTIONS) >= 4
    assert len(SCRIPTS) >= 9
    assert len(COMMANDS) >= 20


@pytest.mark.parametrize("page", CODE, ids=name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path, module: types.ModuleType) -> None:
    if page not in INTRODUCTIONS:
        exec(APP, module.__dict__)
    run(CODE[page], module)


@pytest.mark.parametrize("page", INTRODUCTIONS, ids=name)
def test_each_introduction_has_the_same_first_example(page: Path) -> None:
    assert APP.strip() == CODE[page][0].code.strip()


def test_quickstarts_page_has_the_url_of_the_echo(module: types.ModuleType) -> None:
    (page,) = (page for page in CODE if page.name == "quickstart.md")
    run([block for block in CODE[page] if "create_app" not in block.code], module)
    for url, expected in (("http://a.example", "ws://"), ("https://a.example", "wss://")):
        text = module.app.test_client().get("/", base_url=url).text
        assert f'new WebSocket("{expected}a.example/echo")' in text


def test_quickstart_refuses_as_it_says(module: types.ModuleType) -> None:
    """Both ways to refuse before the handshake answer 401; its error handler gets a 426, too."""
    (page,) = (page for page in CODE if page.name == "quickstart.md")
    run([block for block in CODE[page] if "create_app" not in block.code], module)
    app: Flask = module.app
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    for path in ("/private/feed", "/feed"):
        response = app.test_client().get(path, headers=headers)
        assert response.status_code == 401
        assert response.get_json()["code"] == 401
    headers["Sec-WebSocket-Version"] = "8"
    response = app.test_client().get("/echo", headers=headers)
    assert (response.status_code, response.get_json()["code"]) == (426, 426)
    with pytest.raises(ValueError, match="426"):
        Flask("another").errorhandler(426)(str)


def test_authentications_token_ends_the_connection_with_itself(module: types.ModuleType) -> None:
    (page,) = (page for page in CODE if page.name == "authentication.md")
    exec(APP, module.__dict__)
    # That asks for another kind of login.
    run([block for block in CODE[page] if "@sock.recheck" not in block.code], module)
    end = int(time.time()) + 2
    token = jwt.encode({"sub": "ada", "exp": end}, module.KEY, "HS256")
    with connect(module.app, "/stream", subprotocols=["chat", f"flask-ws.bearer.{token}"]) as ws:
        assert (ws.subprotocol, list(ws)) == ("chat", ["hello, ada"])
        assert ws.close_code == 4001
        assert 0 <= time.time() - end < 1
    for wrong in (token, jwt.encode({"sub": "ada", "exp": 1e10}, "x" * 32, "HS256")):
        with (
            pytest.raises(HandshakeRefused) as caught,
            connect(module.app, "/stream", headers={"Authorization": f"Bearer {wrong}"}),
        ):
            pass
        assert caught.value.response.status_code == 401


@pytest.mark.parametrize("command", COMMANDS.values())
def test_the_command_serves_websockets(command: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "asgi.py").write_text(ASGI.code)
    with serve(command, folder=tmp_path) as served:
        served.await_response()
        with served.connect() as client:
            client.send(command)
            assert client.recv(timeout=5) == command


@pytest.mark.parametrize("block", SCRIPTS.values(), ids=str)
def test_the_script_serves_websockets(block: Block, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    script = block.caption or "serve.py"
    (tmp_path / script).write_text(block.code)
    with serve(shlex.join(["python", script]), folder=tmp_path) as served:
        served.await_response()
        with served.connect() as client:
            client.send("Hello!")
            assert client.recv(timeout=5) == "Hello!"
