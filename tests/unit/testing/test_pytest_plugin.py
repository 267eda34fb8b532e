"""The plugin for pytest, in runs of pytest within this one."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Before the runs begin, which forget what they have imported.
import flask_ws.testing  # noqa: F401

pytest_plugins = ["pytester"]

APP = """
import pytest
from flask import Flask, request, session
from flask_ws import Sock

@pytest.fixture
def app():
    app = Flask("app")
    app.secret_key = "for tests only"
    app.events = []
    sock = Sock(app)

    @app.post("/login/<name>")
    def login(name):
        session["name"] = name
        return ""

    @sock.route("/echo")
    def echo(ws):
        for message in ws:
            if message == "fail":
                raise LookupError("the handler's own")
            ws.send(message)
        app.events.append("handler")

    @sock.route("/whoami")
    def whoami(ws):
        ws.send(str(session.get("name")))

    yield app
    app.events.append("app")
    assert app.events[-2:] != ["app", "handler"]
"""
#: Without the plugins that this suite has besides.
ALONE = [f"-pno:{name}" for name in ("flask", "hypothesispytest", "timeout", "xdist")]
CLIENT = """
@pytest.fixture
def client(app):
    return app.test_client()
"""


def outcomes(pytester: pytest.Pytester, code: str, *options: str) -> tuple[dict[str, int], str]:
    """Run tests; return how many had which outcome, and the output."""
    pytester.makepyfile(test_it=APP + code)
    result = pytester.runpytest_inprocess(*(options or ALONE))
    return result.parseoutcomes(), result.stdout.str()


def test_the_fixture_connects_to_the_fixture_app(pytester: pytest.Pytester) -> None:
    code = """
def test(ws_connect):
    ws = ws_connect("/echo")
    ws.send("hello")
    assert ws.receive() == "hello"
"""
    assert outcomes(pytester, code)[0] == {"passed": 1}


def test_it_has_the_cookies_of_the_fixture_client(pytester: pytest.Pytester) -> None:
    code = """
def test(ws_connect, client):
    client.post("/login/ada")
    assert ws_connect("/whoami").receive() == "ada"
"""
    assert outcomes(pytester, CLIENT + code)[0] == {"passed": 1}


def test_a_client_of_another_library_is_passed_over(pytester: pytest.Pytester) -> None:
    code = """
@pytest.fixture
def client():
    return object()

def test(ws_connect):
    assert ws_connect("/whoami").receive() == "None"
"""
    assert outcomes(pytester, code)[0] == {"passed": 1}


def test_several_clients_may_be_given(pytester: pytest.Pytester) -> None:
    code = """
def test(ws_connect, app):
    names = []
    for name in ("ada", "grace"):
        client = app.test_client()
        client.post(f"/login/{name}")
        names.append(ws_connect("/whoami", client=client).receive())
    assert names == ["ada", "grace"]
"""
    assert outcomes(pytester, code)[0] == {"passed": 1}


def test_connections_end_before_the_app(pytester: pytest.Pytester) -> None:
    code = """
def test(ws_connect, app):
    ws_connect("/echo")
"""
    assert outcomes(pytester, code)[0] == {"passed": 1}


def test_a_handlers_exception_fails_the_block(pytester: pytest.Pytester) -> None:
    code = """
def test(ws_connect):
    with pytest.raises(LookupError):
        with ws_connect("/echo") as ws:
            ws.send("fail")
            ws.receive()
"""
    assert outcomes(pytester, code)[0] == {"passed": 1}


def test_without_a_block_it_is_an_error_at_the_end(pytester: pytest.Pytester) -> None:
    code = """
def test(ws_connect):
    ws_connect("/echo").send("fail")
"""
    found, output = outcomes(pytester, code)
    assert found == {"passed": 1, "errors": 1}
    assert "the handler's own" in output


def test_without_an_app_it_says_what_to_do(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test(ws_connect):\n    ws_connect('/')")
    result = pytester.runpytest_inprocess(*ALONE)
    assert result.parseoutcomes() == {"failed": 1}
    result.stdout.fnmatch_lines(["*found no app: write a fixture 'app' that returns it*"])


def test_a_fixture_that_an_app_needs_is_named(pytester: pytest.Pytester) -> None:
    code = "import pytest\n@pytest.fixture\ndef app(missing): ...\ndef test(ws_connect): ..."
    pytester.makepyfile(code)
    result = pytester.runpytest_inprocess(*ALONE)
    assert result.parseoutcomes() == {"errors": 1}
    result.stdout.fnmatch_lines(["*fixture 'missing' not found*"])


def test_a_failure_shows_what_was_said(pytester: pytest.Pytester) -> None:
    code = """
def test(ws_connect):
    ws = ws_connect("/echo")
    ws.send("hello")
    ws.send(b"\\x00" * 1000)
    assert ws.receive() == "good-bye"

def test_other(ws_connect):
    with ws_connect("/echo") as ws:
        ws.receive(timeout=0)
        assert ws.advance(60)
"""
    found, output = outcomes(pytester, code)
    assert found == {"failed": 2}
    first, second = output.split("_ test_other _")
    assert "- WebSocket /echo -" in first
    assert "s  sent      'hello'" in first
    assert r"s  sent      b'\x00\x00" in first
    assert "... (" in first
    assert "s  received  'hello'" in first
    # Of its own connection alone.
    assert "sent      'hello'" not in second
    assert "s  received  nothing within 0 s" in second
    assert "s  time      60 s passed" in second
    assert "s  closed    1000 normal closure" in second


def test_a_refusal_is_shown(pytester: pytest.Pytester) -> None:
    code = """
def test(ws_connect):
    ws_connect("/echo", headers={"Origin": "http://evil"})
"""
    found, output = outcomes(pytester, code)
    assert found == {"failed": 1}
    assert "s  refused   403" in output


def test_a_test_that_passes_shows_nothing(pytester: pytest.Pytester) -> None:
    code = """
def test(ws_connect):
    ws_connect("/echo").send("hello")

def test_other():
    assert False
"""
    found, output = outcomes(pytester, code)
    assert found == {"passed": 1, "failed": 1}
    assert "WebSocket" not in output


def test_a_long_conversation_is_cut(pytester: pytest.Pytester) -> None:
    code = """
def test(ws_connect):
    ws = ws_connect("/echo")
    for number in range(100):
        ws.send(str(number))
        ws.receive()
    assert False
"""
    _, output = outcomes(pytester, code)
    assert "(150 entries before these)" in output
    assert "sent      '74'" not in output
    assert "received  '99'" in output


def test_it_works_beside_pytest_flask(pytester: pytest.Pytester) -> None:
    """Which has a fixture ``client``, and a request context around each test."""
    pytest.importorskip("pytest_flask")
    code = """
from flask import url_for

def test(ws_connect, client):
    client.post("/login/ada")
    with ws_connect("/whoami") as ws:
        assert ws.receive() == "ada"
    with ws_connect(url_for("echo")) as ws:
        ws.send("hello")
        assert ws.receive() == "hello"
"""
    assert outcomes(pytester, code, *ALONE[1:])[0] == {"passed": 1}


def test_projects_without_flask_do_not_import_it() -> None:
    code = (
        "import sys, pytest_flask_ws; print({'flask', 'flask_ws', 'werkzeug'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "set()", done.stderr
