"""What the repository promises about its own files."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tomli

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
PLUGINS = [package for package in PACKAGES if package.name.startswith(("server-", "broker-"))]

each_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
each_plugin = pytest.mark.parametrize("package", PLUGINS, ids=lambda path: path.name)


def read_project(package: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomli.loads((package / "pyproject.toml").read_text())["project"]
    return project


def test_no_lock_is_tracked() -> None:
    """A lock names one machine's registry, and hides what users will meet."""
    if not (ROOT / ".git").exists():
        return
    tracked = subprocess.run(
        ["git", "ls-files", "*uv.lock"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert tracked.stdout == ""


def test_there_are_packages() -> None:
    assert len(PLUGINS) >= 5
    assert ROOT / "packages" / "core" in PACKAGES


@each_package
def test_a_package_has_the_license(package: Path) -> None:
    assert (package / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()


@each_package
def test_a_package_is_typed(package: Path) -> None:
    assert len(list((package / "src").glob("*/py.typed"))) == 1


@each_package
def test_a_package_has_the_version_of_the_core(package: Path) -> None:
    """They are released together."""
    assert read_project(package)["version"] == read_project(ROOT / "packages/core")["version"]


@each_package
def test_a_package_says_where_its_source_is(package: Path) -> None:
    assert read_project(package)["urls"] == {
        "Source": "https://github.com/flask-ws/flask-ws",
        "Changes": "https://github.com/flask-ws/flask-ws/blob/main/CHANGELOG.md",
    }


@each_package
def test_a_package_supports_the_same_pythons(package: Path) -> None:
    project = read_project(package)
    assert project["requires-python"] == ">=3.10"
    minors = [name[-4:] for name in project["classifiers"] if re.search(r":: 3\.\d+$", name)]
    assert minors == ["3.10", "3.11", "3.12", "3.13", "3.14", "3.15"]


@each_plugin
def test_a_plugin_requires_the_core_as_a_third_party_would(package: Path) -> None:
    """By a lower bound alone, so that an old plugin goes on working with a newer core."""
    requirements = [name for name in read_project(package)["dependencies"] if "flask-ws" in name]
    assert len(requirements) == 1
    assert re.fullmatch(r"flask-ws>=[\d.]+", requirements[0])


@each_plugin
def test_a_plugin_is_announced_by_an_entry_point(package: Path) -> None:
    name = package.name.partition("-")[2]
    assert read_project(package)["entry-points"] == {"flask_ws": {name: f"flask_ws_{name}"}}


@each_plugin
def test_a_plugin_has_an_extra_of_the_core(package: Path) -> None:
    name = package.name.partition("-")[2]
    extras = read_project(ROOT / "packages/core")["optional-dependencies"]
    assert [extra.split(">=")[0] for extra in extras[name]] == [f"flask-ws-{name}"]
    # What has to be compiled, wherever there is no wheel, is for those who ask for it.
    assert (name in extras["all"][0]) == (name != "uwsgi")


LINK = re.compile(r"\[[^\]]*\]\((?!https?://|#)([^)#\s]+)")


@pytest.mark.parametrize(
    "page",
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("packages/*/README.md"),
        *ROOT.glob("docs/*.md"),
        ROOT / "examples/README.md",
    ],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert broken == []


TEST_NAME = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)


def test_names_of_tests_have_at_most_twelve_words() -> None:
    files = [path for folder in ("tests", "packages") for path in (ROOT / folder).rglob("*.py")]
    names = [name for path in files for name in TEST_NAME.findall(path.read_text())]
    assert [name for name in names if name.count("_") > 12] == []


def test_the_drawing_names_each_room_of_the_core() -> None:
    drawing = (ROOT / "docs/_static/rooms.svg").read_text()
    rooms = [path.parent.name for path in ROOT.glob("packages/core/src/flask_ws/*/__init__.py")]
    assert rooms
    assert [room for room in rooms if not re.search(rf">[^<]*\b{room}\b[^<]*</", drawing)] == []


ROOMS = sorted(path.parent for path in ROOT.glob("packages/*/src/**/__init__.py"))
CORE = ROOT / "packages/core/src/flask_ws"


@pytest.mark.parametrize("room", ROOMS, ids=lambda path: path.name)
def test_a_room_says_what_is_in_it(room: Path) -> None:
    """In its docstring; what is in the core, in the page about how it works."""
    text = (room / "__init__.py").read_text().split('"""')[1]
    if room == CORE:
        text = (ROOT / "docs/internals.md").read_text()
    names = re.findall(r"`+([^`\n]+)`+", text)
    words = {word for name in names for word in re.findall(r"\w+", name)}
    files = {path.stem for path in room.glob("*.py")} | {
        path.parent.name for path in room.glob("*/__init__.py")
    }
    assert files - {"__init__"} - words == set()


def test_the_files_that_the_page_about_the_inside_names_are_there() -> None:
    named = set(re.findall(r"`([\w/]+\.py)`", (ROOT / "docs/internals.md").read_text()))
    assert len(named) > 40
    assert [name for name in sorted(named) if not (CORE / name).is_file()] == []
