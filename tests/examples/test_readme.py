"""Every example is listed with its command, which serves its page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin
from urllib.request import urlopen

import pytest
from tests.docs.serving import serve

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/*/app.py"))
COMMANDS = dict(
    re.findall(
        r"^\| \[(\w+)\].*`uv run (flask [^`]*)`",
        (ROOT / "examples/README.md").read_text(),
        re.MULTILINE,
    )
)


class Links(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in {"src", "href"} and value]


def test_every_example_is_listed() -> None:
    assert sorted(COMMANDS) == [path.name for path in EXAMPLES]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_serves_a_page_and_all_that_it_loads(name: str, tmp_path: Path) -> None:
    """From the app itself, not from elsewhere."""
    with serve(COMMANDS[name], folder=tmp_path, cwd=ROOT) as served:
        served.await_response()
        url = f"http://127.0.0.1:{served.port}/"
        links = Links()
        with urlopen(url, timeout=10) as response:
            links.feed(response.read().decode())
        for link in links.found:
            if link != "data:,":
                assert urljoin(url, link).startswith(url)
                with urlopen(urljoin(url, link), timeout=10) as response:
                    assert response.status == 200


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_a_page_is_made_for_light_and_dark_and_for_phones(folder: Path) -> None:
    page = "".join(path.read_text() for path in folder.glob("templates/*.html"))
    styles = page + "".join(path.read_text() for path in folder.glob("static/*.css"))
    assert "width=device-width" in page
    assert "color-scheme: light dark" in styles
