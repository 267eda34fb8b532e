"""The browser client, as apps serve it."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
from flask import Flask, render_template_string, url_for

from flask_ws import Sock

STATIC = Path(__file__).parents[3] / "packages/core/src/flask_ws/static"
PATH = "/static/flask_ws/flask-ws.js"


def test_an_app_serves_the_module_and_its_types(app: Flask) -> None:
    """Beside its own static files, and once, whatever number of extensions it has."""
    Sock(app)
    Sock(app)
    with app.test_request_context():
        assert url_for("flask_ws.static", filename="flask-ws.js") == PATH
    client = app.test_client()
    with client.get(PATH) as response:
        assert response.mimetype in {"text/javascript", "application/javascript"}
        assert response.data == (STATIC / "flask-ws.js").read_bytes()
    with client.get(PATH.replace(".js", ".d.ts")) as response:
        assert response.status_code == 200


@pytest.mark.parametrize("folder", [None, "static"])
@pytest.mark.parametrize("url_path", ["", "/static", "/assets"])
def test_an_app_may_have_its_static_files_anywhere(
    tmp_path: Path, folder: str | None, url_path: str
) -> None:
    app = Flask("app", root_path=str(tmp_path), static_folder=folder, static_url_path=url_path)
    Sock(app)
    with app.test_client().get(PATH) as response:
        assert response.status_code == 200


def test_the_script_is_an_import_map_before_modules(app: Flask) -> None:
    """Under the app's own root, with the page's nonce, and nothing in it can end the element."""
    Sock(app)
    with app.test_request_context(base_url="http://localhost/a</script>"):
        html = render_template_string("{{ flask_ws.script(nonce='\"><b>') }}")
    found = re.fullmatch(r'<script type="importmap" nonce="(.*?)">(.*)</script>', html)
    assert found is not None
    assert found[1] == "&#34;&gt;&lt;b&gt;"
    assert "<" not in found[2]
    (url,) = json.loads(found[2])["imports"].values()
    assert url.endswith(PATH)
    with app.test_request_context():
        assert "nonce" not in render_template_string("{{ flask_ws.script() }}")


def test_the_module_is_small() -> None:
    assert len(gzip.compress((STATIC / "flask-ws.js").read_bytes(), mtime=0)) <= 4096


def test_the_types_name_what_the_module_has() -> None:
    """Each public member of an exported class, and none besides."""
    module, types = ((STATIC / name).read_text() for name in ("flask-ws.js", "flask-ws.d.ts"))
    for name in ("Socket", "Refused", "Live"):
        start = f"export class {name}\\b.*?^}}"
        body, declared = (
            re.search(start, text, re.DOTALL | re.MULTILINE) for text in (module, types)
        )
        assert body is not None
        assert declared is not None
        member = r"^  (?:static |get |set )?([A-Za-z]\w*)(?:\(| =)"
        own = set(re.findall(member, body[0], re.MULTILINE))
        theirs = re.findall(
            r"^  (?:static )?(?:readonly )?([A-Za-z]\w*)(?:<[^(]*>)?(?:\(|:)",
            declared[0],
            re.MULTILINE,
        )
        # What it inherits, or sets in its constructor, may be declared as well.
        assert own - {"constructor", "name"} <= set(theirs), name
        assert set(theirs) <= own | {"addEventListener", "code", "constructor"}, name
