"""What docs/releasing.md says is what the workflow does, and it works."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import tomli

from .environments import ROOT

PAGE = ROOT / "docs" / "releasing.md"
WORKFLOW = (ROOT / ".github" / "workflows" / "publish.yml").read_text()
STEPS = [step.strip() for step in re.findall(r"- run: (.+)", WORKFLOW)]
#: The text of each job, by name.
JOBS = dict(re.findall(r"(?ms)^  (\w+):\n(.*?)(?=^  \S|\Z)", WORKFLOW.partition("\njobs:\n")[2]))
COMMANDS = re.findall(r"(?m)^ +\$ (.+)$", PAGE.read_text())


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """A copy of the packages' metadata."""
    for project in ROOT.glob("packages/*/pyproject.toml"):
        folder = tmp_path / "packages" / project.parent.name
        folder.mkdir(parents=True)
        shutil.copy(project, folder)
    return tmp_path


def run(command: str, folder: Path, **environ: str) -> None:
    subprocess.run(["bash", "-ec", command], cwd=folder, env=environ, check=True, timeout=60)


def read_versions(folder: Path) -> set[str]:
    return {
        tomli.loads(project.read_text())["project"]["version"]
        for project in folder.glob("packages/*/pyproject.toml")
    }


def test_the_version_is_set_in_all_packages(packages: Path) -> None:
    (command,) = (command for command in COMMANDS if command.startswith("sed "))
    run(command, packages, PATH="/usr/bin:/bin")
    assert read_versions(packages) == {"0.2.0"}


def test_a_release_of_another_version_than_the_tags_is_refused(packages: Path) -> None:
    (command,) = (command for command in STEPS if command.startswith("grep "))
    (version,) = read_versions(packages)
    run(command, packages, PATH="/usr/bin:/bin", GITHUB_REF_NAME=f"v{version}")
    with pytest.raises(subprocess.CalledProcessError):
        run(command, packages, PATH="/usr/bin:/bin", GITHUB_REF_NAME="v99.0")


def test_the_workflow_builds_and_checks_as_the_page_does() -> None:
    built = [command for command in COMMANDS if command.startswith("uv")]
    assert len(built) == 2
    assert [step for step in STEPS if step.startswith("uv")] == built


def test_the_core_is_told_from_the_plugins(tmp_path: Path) -> None:
    (command,) = (command for command in STEPS if command.startswith("mkdir "))
    (tmp_path / "dist").mkdir()
    for name in ("flask_ws", "flask_ws_gunicorn", "flask_ws_gevent"):
        (tmp_path / "dist" / f"{name}-0.2.0-py3-none-any.whl").touch()
        (tmp_path / "dist" / f"{name}-0.2.0.tar.gz").touch()
    run(command, tmp_path, PATH="/usr/bin:/bin")
    assert {path.name.split("-")[0] for path in (tmp_path / "core").iterdir()} == {"flask_ws"}
    assert len(list((tmp_path / "core").iterdir())) == 2
    assert len(list((tmp_path / "plugins").iterdir())) == 4


def test_the_core_is_published_before_the_plugins() -> None:
    assert "needs: build" in JOBS["core"]
    assert "needs: core" in JOBS["plugins"]


def test_publishing_is_trusted() -> None:
    """Only the jobs that publish get an identity, and nobody a password."""
    assert {name for name, job in JOBS.items() if "id-token: write" in job} == {"core", "plugins"}
    for name in ("core", "plugins"):
        assert "environment: pypi" in JOBS[name]
        assert "gh-action-pypi-publish" in JOBS[name]
    assert "secrets." not in WORKFLOW
    assert "password" not in WORKFLOW
