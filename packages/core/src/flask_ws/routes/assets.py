"""The browser client, which each app serves beside its own static files."""

from __future__ import annotations

import flask
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

__all__ = ["serve_assets"]

#: Its endpoint is ``flask_ws.static``.
blueprint = flask.Blueprint(
    "flask_ws", "flask_ws", static_folder="static", static_url_path="/static/flask_ws"
)
MODULE = "flask-ws.js"


class Assets:
    """What templates find as ``flask_ws``."""

    def script(self, nonce: str | None = None) -> Markup:
        """Return the HTML by which the modules of a page can ``import ... from "flask-ws"``.

        It is an import map, and must stand before the page's first module.

        :param nonce: that of the page's Content-Security-Policy.
        """
        url = flask.url_for("flask_ws.static", filename=MODULE)
        attribute = Markup("") if nonce is None else Markup(' nonce="{}"').format(nonce)
        imports = htmlsafe_json_dumps({"imports": {"flask-ws": url}})
        return Markup('<script type="importmap"{}>{}</script>').format(attribute, imports)


def serve_assets(app: flask.Flask) -> None:
    """Give an app the files, and its templates the way to them."""
    app.register_blueprint(blueprint)
    app.context_processor(lambda: {"flask_ws": Assets()})
