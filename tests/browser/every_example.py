"""Every example in one app, each under its own name: one server to start for all of them."""

from __future__ import annotations

import importlib
from pathlib import Path

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

EXAMPLES = Path(__file__).parents[2] / "examples"

app = Flask(__name__)
app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
    app.wsgi_app,
    {
        f"/{path.parent.name}": importlib.import_module(f"examples.{path.parent.name}.app").app
        for path in EXAMPLES.glob("*/app.py")
    },
)
