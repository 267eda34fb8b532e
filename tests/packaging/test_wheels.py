"""What is built can be installed and used, far from the source tree."""

from __future__ import annotations

import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import tomli
from tests.support.setups import (
    EVENTLET,
    EVENTLET_WORKER,
    GEVENT,
    GREEN_WORKER,
    GTHREAD,
    UWSGI,
    WAITRESS,
    WERKZEUG,
)

from .environments import ROOT, Environment, uv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(800)]

#: The folders of the packages, by the names of their modules.
PACKAGES = {
    path.parent.name: path.parents[2] for path in sorted(ROOT.glob("packages/*/src/*/py.typed"))
}
CORE = tomli.loads((ROOT / "packages/core/pyproject.toml").read_text())["project"]
#: The extras that bring a package of ours, and its module.
EXTRAS = {
    extra: requirements[0].partition(">=")[0].replace("-", "_")
    for extra, requirements in CORE["optional-dependencies"].items()
    if requirements[0].startswith("flask-ws-")
}

#: What extras bring, and core does without.
OTHERS = ("gunicorn", "gevent", "eventlet", "waitress", "redis", "psycopg", "pytest")

CORE_ALONE = f"""
import importlib.util

import flask_ws
from flask import Flask
from flask_ws import Sock
from flask_ws.testing import connect

assert "site-packages" in flask_ws.__file__, flask_ws.__file__
for name in flask_ws.__all__:
    getattr(flask_ws, name)
for name in {[*OTHERS, *EXTRAS.values()]}:
    assert importlib.util.find_spec(name) is None, name

app = Flask(__name__)


@Sock(app).route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)


with connect(app, "/echo") as ws:
    ws.send("Hello!")
    print(ws.receive())
"""

SMOKE = """
from signal import Signals

import flask_ws
from flask_ws.testing import Capabilities, ServerSuite, Setup

assert "site-packages" in flask_ws.__file__, flask_ws.__file__


class TestServers(ServerSuite):
    setups = (
        {setups}
    )
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
    source = PACKAGES[name] / "src"
    assert files == {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    }


@pytest.mark.parametrize("name", PACKAGES)
def test_a_source_distribution_has_readme_license_and_types(dist: Path, name: str) -> None:
    (archive,) = dist.glob(f"{name}-*.tar.gz")
    with tarfile.open(archive) as sdist:
        files = {file.partition("/")[2] for file in sdist.getnames()}
    assert {"README.md", "LICENSE", "pyproject.toml", f"src/{name}/py.typed"} <= files


def test_the_index_takes_what_was_built(dist: Path, tmp_path: Path) -> None:
    """The descriptions can be shown, too."""
    environment = Environment.make(tmp_path / "env")
    environment.install("twine")
    files = sorted(map(str, dist.iterdir()))
    output = environment.run(
        "-m", "twine", "check", "--strict", *(file for file in files if file[-1] in "lz"), cwd=dist
    )
    assert output.count("PASSED") == 2 * len(PACKAGES)


def install(folder: Path, constraints: Path, *extras: str) -> Environment:
    environment = Environment.make(folder / "env")
    environment.install("--constraints", constraints, f"flask-ws[{','.join(extras)}]")
    environment.check()
    return environment


def test_the_core_alone_serves_tests_without_any_server(constraints: Path, tmp_path: Path) -> None:
    environment = install(tmp_path, constraints)
    assert environment.run("-W", "error", "-c", CORE_ALONE, cwd=tmp_path) == "Hello!\n"


# Each extra, and all of them


#: One of each.
SERVERS = (WERKZEUG, GTHREAD, GEVENT, EVENTLET, WAITRESS, UWSGI)
#: Those of the extra `all`, and some that want two extras.
ALL = (WERKZEUG, GTHREAD, GEVENT, EVENTLET, WAITRESS, GREEN_WORKER, EVENTLET_WORKER)


def run_smoke_tests(folder: Path, constraints: Path, extra: str) -> set[str]:
    """Run a subject of the suite on servers that an extra brings; the distributions it brings."""
    environment = install(folder, constraints, extra, "testing")
    setups = ALL if extra == "all" else SERVERS
    lines = [
        f"Setup(name={setup.name!r}, command={setup.command!r}, plugin={setup.plugin!r}, "
        f"stop_signal=Signals({setup.stop_signal:d}), stop_group={setup.stop_group}, "
        f"capabilities=Capabilities(access_log={setup.capabilities.access_log})),"
        for setup in setups
        if extra == "all" or setup.plugin == EXTRAS[extra]
    ]
    for script in (ROOT / "tests/servers/apps").glob("*_patched.py"):
        shutil.copy(script, folder)
    if lines:
        (folder / "test_smoke.py").write_text(SMOKE.format(setups="\n        ".join(lines)))
        output = environment.run(
            *("-m", "pytest", "-q", "-k", "Messages", "-p", "no:cacheprovider"), cwd=folder
        )
        assert re.search(r"^\d+ passed", output.splitlines()[-1])
    return set(environment.read_versions())


@pytest.fixture(scope="module")
def runs(
    constraints: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[set[str]]]]:
    """All of them side by side: they wait for their servers, most of the time."""
    with ThreadPoolExecutor(3) as pool:
        yield {
            extra: pool.submit(run_smoke_tests, tmp_path_factory.mktemp(extra), constraints, extra)
            for extra in ("all", *EXTRAS)
        }


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_a_plugin_that_passes_the_smoke_tests(
    extra: str, runs: dict[str, Future[set[str]]]
) -> None:
    brought = {name for name in runs[extra].result() if name.startswith("flask-ws")}
    assert brought == {"flask-ws", EXTRAS[extra].replace("_", "-")}


def test_all_extras_together_pass_the_smoke_tests(runs: dict[str, Future[set[str]]]) -> None:
    expected = {"gunicorn", "gevent", "eventlet", "waitress", "werkzeug", "packaging", "websockets"}
    expected |= {name.replace("_", "-") for name in PACKAGES} - {"flask-ws-uwsgi"}
    assert expected <= runs["all"].result()
