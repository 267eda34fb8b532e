from __future__ import annotations

from importlib.metadata import version as get_version

project = "flask-ws"
author = "The flask-ws developers"
copyright = f"2026, {author}"
release = get_version("flask-ws")
version = ".".join(release.split(".")[:2])

extensions = [
    "myst_parser",
    "pallets_sphinx_themes",
    "sphinx.ext.autodoc",
]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True

nitpicky = True
# Other projects' names: their inventories would have to be downloaded for each build.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(flask|werkzeug|pluggy|io|math|signal|socket|subprocess|threading|typing|_typeshed)\..*",
    ),
    ("py:.*", r".*collections\.abc\..*"),
    ("py:class", r"(bool|bytes|bytearray|dict|float|int|list|memoryview|object|str|tuple|None)"),
    ("py:exc", r"(TypeError|ValueError)"),
    # Names of annotations, which mean nothing to a reader.
    (
        "py:class",
        (
            r"flask_ws\.(connection\.connection\.Connection|routes\.extension\.F"
            r"|testing\.client\.Connecting)"
        ),
    ),
    ("py:class", r"flask_ws\.concurrency\.(Event|Lock|T)"),
    ("py:class", r"BytesLike|WSGIEnvironment"),
]

html_theme = "flask"
html_theme_options = {"index_sidebar_logo": False}
html_sidebars = {"**": ["localtoc.html", "relations.html", "searchbox.html"]}
html_title = f"flask-ws {version}"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["custom.css"]
toc_object_entries_show_parents = "hide"
