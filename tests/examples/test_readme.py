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
README = (ROOT / "examples/README.md").read_text()
#: The command that starts one, of which it gives the name.
START = re.search(r"^uv run .* (flask --app examples/)chat(/app run)$", README, re.MULTILINE)
LISTED = re.findall(r"^\| \[(\w+)\]\(\1/app\.py\)", README, re.MULTILINE)


class Links(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in {"src", "href"} and value]


def test_every_example_is_listed() -> None:
    assert sorted(LISTED) == [path.name for path in EXAMPLES]


@pytest.mark.parametrize("name", LISTED)
def test_the_command_serves_a_page_and_all_that_it_loads(name: str, tmp_path: Path) -> None:
    """From the app itself, not from elsewhere."""
    assert START is not None
    with serve(START[1] + name + START[2], folder=tmp_path, cwd=ROOT) as served:
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
