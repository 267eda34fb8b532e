"""What is built can be installed and used, far from the source tree."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest
from tests.docs.serving import serve

from .environments import ROOT, Environment, uv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PACKAGES = {
    "flask_ws": "core",
    "flask_ws_eventlet": "server-eventlet",
    "flask_ws_gevent": "server-gevent",
    "flask_ws_gunicorn": "server-gunicorn",
    "flask_ws_werkzeug": "server-werkzeug",
}

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

CORE_ALONE = """
import importlib.util

import flask_ws

assert "site-packages" in flask_ws.__file__, flask_ws.__file__
for name in flask_ws.__all__:
    getattr(flask_ws, name)
for name in ("gunicorn", "gevent", "eventlet", "flask_ws_werkzeug"):
    assert importlib.util.find_spec(name) is None, name
print("imported")
"""


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All wheels and source distributions."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--all-packages", "--out-dir", folder)
    return folder


@pytest.fixture(scope="session")
def constraints(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of our own distributions, those that were built here, whatever a registry may have."""
    path = tmp_path_factory.mktemp("constraints") / "constraints.txt"
    lines = [f"{name.replace('_', '-')} @ {find_wheel(dist, name).as_uri()}" for name in PACKAGES]
    path.write_text("\n".join(lines) + "\n")
    return path


def find_wheel(dist: Path, name: str) -> Path:
    (wheel,) = dist.glob(f"{name}-*.whl")
    return wheel


def test_each_package_has_a_wheel_and_a_source_distribution(dist: Path) -> None:
    built = {path.name.split("-")[0] for path in dist.glob("*.whl")}
    sources = {path.name.split("-")[0] for path in dist.glob("*.tar.gz")}
    assert built == sources == set(PACKAGES)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_wheel_holds_the_modules_and_the_license_and_nothing_else(dist: Path, name: str) -> None:
    with zipfile.ZipFile(find_wheel(dist, name)) as wheel:
        files = {file for file in wheel.namelist() if ".dist-info/" not in file}
        assert any(file.endswith(".dist-info/licenses/LICENSE") for file in wheel.namelist())
    source = ROOT / "packages" / PACKAGES[name] / "src"
    assert files == {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


@pytest.mark.parametrize("name", PACKAGES)
def test_a_source_distribution_has_readme_license_and_types(dist: Path, name: str) -> None:
    (archive,) = dist.glob(f"{name}-*.tar.gz")
    with tarfile.open(archive) as sdist:
        files = {file.partition("/")[2] for file in sdist.getnames()}
    assert {"README.md", "LICENSE", "pyproject.toml", f"src/{name}/py.typed"} <= files


def test_the_core_alone_is_imported_without_any_server(
    dist: Path, constraints: Path, tmp_path: Path
) -> None:
    environment = Environment.make(tmp_path / "env")
    environment.install("--constraints", constraints, "flask-ws")
    environment.check()
    assert environment.run("-W", "error", "-c", CORE_ALONE, cwd=tmp_path) == "imported\n"


def test_the_gevent_extra_brings_all_that_gevents_server_needs(
    dist: Path, constraints: Path, tmp_path: Path
) -> None:
    environment = Environment.make(tmp_path / "env")
    environment.install("--constraints", constraints, "flask-ws[gevent]")
    environment.check()
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "serve.py").write_text(GEVENT_SCRIPT)
    command = "python serve.py"
    with serve(command, folder=tmp_path, bin_folder=environment.bin_folder) as served:
        served.await_response()
        with served.connect() as client:
            client.send("Hello!")
            assert client.recv(timeout=5) == "Hello!"


def test_an_extra_for_each_plugin_brings_the_plugin_and_its_server(
    dist: Path, constraints: Path, tmp_path: Path
) -> None:
    environment = Environment.make(tmp_path / "env")
    environment.install("--constraints", constraints, "flask-ws[all]")
    environment.check()
    expected = {"gunicorn", "gevent", "eventlet", "werkzeug", "packaging", "websockets"}
    expected |= {name.replace("_", "-") for name in PACKAGES}
    assert expected <= set(environment.read_versions())
