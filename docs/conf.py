from __future__ import annotations

from importlib.metadata import version as get_version
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "flask-ws"
author = "The flask-ws developers"
copyright = f"2026, {author}"
release = get_version("flask-ws")
version = ".".join(release.split(".")[:2])

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    # The page on the command line, from the commands.
    "sphinx_click",
]
exclude_patterns = ["_build", "pictures"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3
myst_html_meta = {
    "description": (
        "WebSocket routes for Flask on Werkzeug, Gunicorn, gevent, Eventlet, Waitress and uWSGI: "
        "broadcasting, rooms, authentication, tests without a server."
    ),
    "keywords": "flask, websocket, wsgi, gunicorn, broadcast, rooms, redis, pub/sub, flask-sock",
}

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

nitpicky = True
# Other projects' names: their inventories would have to be downloaded for each build.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(asyncio|blinker|datetime|flask|werkzeug|pluggy|io|logging|math|signal|socket|subprocess|threading|typing|_typeshed)(\..*)?",
    ),
    ("py:.*", r".*collections\.abc\..*"),
    ("py:class", r"(bool|bytes|bytearray|dict|float|int|list|memoryview|object|str|tuple|None)"),
    ("py:exc", r"(TypeError|ValueError)"),
    # Names of annotations, which mean nothing to a reader.
    (
        "py:class",
        (
            r"flask_ws\.(connection\.connection\.Connection|routes\.extension\.[FH]"
            r"|testing\.connecting\.(Async)?Connecting)"
        ),
    ),
    ("py:class", r"flask_ws\.concurrency\.(Event|Lock|T)"),
    ("py:class", r"flask_ws\.routes\.users\.(Identify|Recheck)"),
    (
        "py:class",
        r"AsyncConnecting|BytesLike|Client|Excluded|Handler|Headers|TestResponse|WSGIEnvironment",
    ),
]

# Quotes become typographic, but no dashes: "--threads" is what one types.
smartquotes_action = "qe"

# The theme's own underlines names in the dark.
pygments_dark_style = "github-dark"

html_theme = "furo"
html_title = f"flask-ws {version}"
html_logo = "_static/logo.svg"
html_favicon = "_static/logo.svg"
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#2f5bd7",
        "color-brand-content": "#2f5bd7",
        "color-brand-visited": "#2f5bd7",
    },
    "dark_css_variables": {
        "color-brand-primary": "#8fabff",
        "color-brand-content": "#8fabff",
        "color-brand-visited": "#8fabff",
    },
    "footer_icons": [],
}
html_show_sourcelink = False
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["custom.css"]
toc_object_entries_show_parents = "hide"


def put_dash(app: Sphinx, document: nodes.document) -> None:
    """Put a dash where Sphinx writes two hyphens, between a parameter and what it is."""
    for text in list(document.findall(nodes.Text)):
        if text == " -- ":
            text.parent.replace(text, nodes.Text(" \u2013 "))


def hide_constructor(
    app: Sphinx, what: str, name: str, item: object, options: object, arguments: str, result: object
) -> tuple[None, None] | None:
    """Show no parentheses where a page has empty ones: what nobody makes by hand."""
    if what in {"class", "exception"} and arguments == "()":
        return None, None
    return None


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-signature", hide_constructor)
    app.connect("doctree-read", put_dash)
