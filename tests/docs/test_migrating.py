"""The page for those who come from elsewhere: what it changes code to works."""

from __future__ import annotations

import ast
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from flask_ws.testing import connect

from .markdown import ROOT, Block, read_blocks
from .serving import serve
from .test_code import APP

DIFFS = [block for block in read_blocks(ROOT / "docs/migrating.md") if block.language == "diff"]
SCRIPTS = [block for block in DIFFS if "from app import app" in block.code]
ROUTES = [block for block in DIFFS if block not in SCRIPTS]

#: What the page's apps have besides.
PRELUDE = """
from flask import Flask, abort, request
from flask_ws import Sock, WebSocketView

app = Flask(__name__)
sock = Sock(app)
"""
ECHO = """
@sock.route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)
"""


def side(block: Block, signs: str) -> str:
    """One side of a block: before, or after."""
    lines = block.code.splitlines()
    assert all(line[:1] in {"+", "-", " ", ""} for line in lines), block
    return "\n".join(line[1:] for line in lines if (line[:1] or " ") in signs)


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    module = types.ModuleType("an_app_that_has_moved")
    module.__file__ = __file__
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


@pytest.mark.parametrize("block", DIFFS, ids=str)
def test_what_was_before_is_python(block: Block) -> None:
    ast.parse(side(block, " -"))


@pytest.mark.parametrize("block", ROUTES, ids=str)
def test_what_is_then_echoes(block: Block, module: types.ModuleType) -> None:
    code = side(block, " +")
    exec(PRELUDE + code + ("" if "/echo" in code else ECHO), module.__dict__)
    app: Flask = module.app
    with connect(app, "/echo") as ws:
        ws.send("Hello!")
        assert ws.receive() == "Hello!"


@pytest.mark.parametrize("block", SCRIPTS, ids=str)
def test_the_script_that_is_then_serves(block: Block, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "serve.py").write_text(side(block, " +"))
    with serve("python serve.py", folder=tmp_path) as served:
        served.await_response()
        with served.connect() as client:
            client.send("Hello!")
            assert client.recv(timeout=5) == "Hello!"
