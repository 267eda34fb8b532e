"""The lowest versions that our requirements allow do work, on the lowest Python there is."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable
from pathlib import Path

import pytest
import tomli
from tests.docs.serving import serve
from tests.suite.authors import make_folder
from tests.support.asgi_setups import LOWEST

from .environments import ROOT, Environment, find_lowest_python

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1300)]

PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))

# The newest pytest that works with our lowest pluggy, and what tests/unit imports.
TOOLS = (
    "a2wsgi",
    "asgiref",
    "pytest<8",
    "pytest-timeout<2.4",
    "hypercorn",
    "hypothesis",
    "opentelemetry-sdk",
    "prompt_toolkit",
    "psutil",
    "pyte",
    "tomli",
    "trio",
    "trustme",
    "websocket-client",
)

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

GEVENT_SCRIPT = """
from gevent import monkey

monkey.patch_all()

from gevent.pywsgi import WSGIServer

from app import app

WSGIServer(("127.0.0.1", 5000), app).serve_forever()
"""

EVENT_VIEW = """

from flask_ws import WebSocketView


@sock.route("/view")
class View(WebSocketView):
    def on_message(self, ws, message):
        ws.send(message)
"""

ASYNC_HANDLER = """

@sock.route("/async")
async def echo_async(ws):
    async for message in ws:
        await ws.send(message)
"""

ASGI_SCRIPT = """
from flask_ws_asgi import ASGI

from app import app

asgi = ASGI(app)
"""

EVENTLET_SCRIPT = """
import eventlet

eventlet.monkey_patch()

from eventlet import wsgi

from app import app

wsgi.server(eventlet.listen(("127.0.0.1", 5000)), app)
"""

# `flask --app` is younger than our lowest Flask.
WERKZEUG_SCRIPT = """
from app import app

app.run(port=5000)
"""


def read_lower_bounds(packages: Iterable[Path] = PACKAGES) -> dict[str, str]:
    """What our packages require of others, at least."""
    bounds = {}
    for package in packages:
        project = tomli.loads((package / "pyproject.toml").read_text())["project"]
        speedups = project.get("optional-dependencies", {}).get("speedups", [])
        for requirement in [*project["dependencies"], *speedups]:
            name, _, version = requirement.partition(">=")
            bounds[name] = version
    bounds.pop("flask-ws", None)
    return bounds


def make_lowest(
    folder: Path, *tools: str, packages: list[Path] = PACKAGES, servers: Iterable[str] = ()
) -> Environment:
    """An environment of our packages, as they are, and the oldest of all that they need."""
    environment = Environment.make(folder / "env", find_lowest_python())
    editable = [argument for package in packages for argument in ("--editable", package)]
    bounds = [f"{name}>={version}" for name, version in read_lower_bounds(packages).items()]
    environment.install("--resolution=lowest-direct", *editable, *bounds, *servers)
    if tools:
        # Nothing that the tests need may lift them again.
        pins = folder / "pins.txt"
        versions = environment.read_versions()
        pins.write_text("".join(f"{name}=={versions[name]}\n" for name in read_lower_bounds()))
        environment.install("--constraints", pins, *tools)
    return environment


@pytest.fixture(scope="module")
def lowest(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What a user has, and nothing that only tests need."""
    return make_lowest(tmp_path_factory.mktemp("lowest"))


def test_the_lowest_versions_are_those_that_are_stated(lowest: Environment) -> None:
    versions = lowest.read_versions()
    for name, bound in read_lower_bounds().items():
        assert versions[name].startswith(bound), name


@pytest.mark.filterwarnings("default:Passed only by itself")
def test_the_unit_tests_pass(tmp_path: Path) -> None:
    """A few that fail while others keep the machine busy are run again, and told of."""
    environment = make_lowest(tmp_path, *TOOLS)
    cache = tmp_path / "cache"

    def run(*options: str) -> str:
        return environment.run(
            *("-m", "pytest", "-o", f"cache_dir={cache}", "--timeout=60", *options),
            # Without pytest-xdist, whose options are among those of the workspace.
            *("-o", "addopts=--import-mode=importlib"),
            # A warning of an old version is not news.
            *("-W", "default::DeprecationWarning", "tests/unit"),
            cwd=ROOT,
            timeout=1200,
        )

    try:
        output = run("-q")
    except pytest.fail.Exception:
        if len(json.loads((cache / "v/cache/lastfailed").read_text())) > 5:
            raise
        output = run("-vv", "--last-failed")
        for passed in re.findall(r"^(tests/.*) PASSED", output, re.MULTILINE):
            warnings.warn(f"Passed only by itself: {passed}", stacklevel=1)
    assert " passed" in output.splitlines()[-1]


def test_the_suite_for_plugins_runs(tmp_path: Path) -> None:
    environment = Environment.make(tmp_path / "env", find_lowest_python())
    core = f"{ROOT / 'packages' / 'core'}[testing]"
    environment.install("--resolution=lowest-direct", "--editable", core)
    folder = make_folder(tmp_path / "plugin")
    output = environment.run(
        *(
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir=.",
            "-k",
            "Claims or Messages",
        ),
        cwd=folder,
    )
    assert " passed" in output.splitlines()[-1]


@pytest.mark.parametrize(
    ("command", "script"),
    [
        ("python serve.py", WERKZEUG_SCRIPT),
        ("gunicorn --threads 4 app:app", ""),
        ("gunicorn --worker-class gevent app:app", ""),
        ("gunicorn --worker-class gevent_pywsgi app:app", ""),
        ("python serve.py", GEVENT_SCRIPT),
        ("python serve.py", EVENTLET_SCRIPT),
        ("waitress-serve --listen=127.0.0.1:8000 app:app", ""),
        ("uwsgi --http-socket 127.0.0.1:8000 --threads 4 --need-app --module app:app", ""),
    ],
    ids=[
        "werkzeug",
        "gthread",
        "gevent-worker",
        "pywsgi-worker",
        "gevent",
        "eventlet",
        "waitress",
        "uwsgi",
    ],
)
@pytest.mark.parametrize("path", ["/echo", "/view"])
def test_an_echo_comes_back(
    lowest: Environment, tmp_path: Path, command: str, script: str, path: str
) -> None:
    (tmp_path / "app.py").write_text(APP + EVENT_VIEW)
    (tmp_path / "serve.py").write_text(script)
    with serve(command, folder=tmp_path, bin_folder=lowest.bin_folder) as served:
        served.await_response()
        with served.connect(path) as client:
            for message in ("Hello!", "Hello again!"):
                client.send(message)
                assert client.recv(timeout=5) == message


@pytest.fixture(scope="module")
def lowest_asgi(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """ASGI servers: they need a later Gunicorn than the plugin for Gunicorn."""
    return make_lowest(
        tmp_path_factory.mktemp("lowest_asgi"),
        packages=[ROOT / "packages" / name for name in ("core", "server-asgi")],
        servers=[setup.environment for setup in LOWEST if setup.environment],
    )


@pytest.mark.parametrize(
    "command",
    [
        "uvicorn asgi:asgi",
        "hypercorn asgi:asgi",
        "granian --interface asgi asgi:asgi",
        "gunicorn --worker-class asgi asgi:asgi",
    ],
)
def test_an_echo_comes_back_by_asgi(lowest_asgi: Environment, tmp_path: Path, command: str) -> None:
    (tmp_path / "app.py").write_text(APP + EVENT_VIEW + ASYNC_HANDLER)
    (tmp_path / "asgi.py").write_text(ASGI_SCRIPT)
    with serve(command, folder=tmp_path, bin_folder=lowest_asgi.bin_folder) as served:
        served.await_response()
        for path in ("/echo", "/view", "/async"):
            with served.connect(path) as client:
                client.send("Hello!")
                assert client.recv(timeout=5) == "Hello!"
