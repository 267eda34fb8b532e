"""The test client, with a handler and an event view."""

from __future__ import annotations

from windows_app import app

from flask_ws.testing import connect

for path in ("/echo", "/view"):
    with connect(app, path) as ws:
        ws.send("hello")
        assert ws.receive() == "hello"
print("all is well")
