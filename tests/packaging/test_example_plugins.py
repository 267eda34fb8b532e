"""The example plugins are whole packages of strangers, and pass flask-ws's suite as such."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
import tomli

from .environments import ROOT, Environment, uv

pytestmark = [pytest.mark.slow, pytest.mark.timeout(800)]

PLUGINS = sorted(path.parent for path in ROOT.glob("examples/plugins/*/pyproject.toml"))

each_plugin = pytest.mark.parametrize("plugin", PLUGINS, ids=lambda path: path.name)


@each_plugin
def test_it_needs_nothing_of_ours_but_the_core(plugin: Path) -> None:
    project = tomli.loads((plugin / "pyproject.toml").read_text())["project"]
    assert [name for name in project["dependencies"] if "flask-ws" in name] == ["flask-ws>=0.1"]


@each_plugin
def test_it_has_what_a_package_has(plugin: Path, tmp_path: Path) -> None:
    """Built where the rest of this repository is not."""
    shutil.copytree(plugin, tmp_path / "plugin", ignore=shutil.ignore_patterns("__pycache__"))
    uv("build", "--quiet", "--wheel", "--out-dir", tmp_path, cwd=tmp_path / "plugin")
    (path,) = tmp_path.glob("*.whl")
    module = f"flask_ws_{plugin.name}"
    with zipfile.ZipFile(path) as wheel:
        files = {name.rpartition("/")[2] for name in wheel.namelist() if ".dist-info/" in name}
        assert {"METADATA", "LICENSE", "entry_points.txt"} <= files
        assert {f"{module}/__init__.py", f"{module}/py.typed"} <= set(wheel.namelist())


def run_suite(plugin: Path, folder: Path) -> str:
    """Run a plugin's own tests, where nothing of ours but the core is installed."""
    environment = Environment.make(folder / "env")
    environment.install(
        f"flask-ws[testing] @ {(ROOT / 'packages/core').as_uri()}", "--editable", f"{plugin}[test]"
    )
    environment.check()
    assert {name for name in environment.read_versions() if name.startswith("flask-ws")} == {
        "flask-ws",
        f"flask-ws-{plugin.name}",
    }
    servers = environment.run("-m", "flask", "ws", "servers", cwd=folder)
    assert re.search(
        rf"^{plugin.name} +flask-ws-{plugin.name} 0\.1\.0 +\w+ [\w.]+ +loaded$",
        servers,
        re.MULTILINE,
    ), servers
    return environment.run(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider"), cwd=plugin, timeout=700
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Path, Future[str]]]:
    """All of them at once: they wait for their servers, most of the time."""
    with ThreadPoolExecutor() as pool:
        yield {
            plugin: pool.submit(run_suite, plugin, tmp_path_factory.mktemp(plugin.name))
            for plugin in PLUGINS
        }


@each_plugin
def test_it_passes_the_suite(plugin: Path, runs: dict[Path, Future[str]]) -> None:
    summary = runs[plugin].result().splitlines()[-1]
    assert " passed" in summary
    assert "skipped" not in summary
