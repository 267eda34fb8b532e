"""The smallest example."""

from __future__ import annotations

from examples.echo.app import app

from flask_ws.testing import connect


def test_what_comes_in_goes_out() -> None:
    with connect(app, "/echo") as ws:
        for message in ("hello", b"\x00\xff"):
            ws.send(message)
            assert ws.receive() == message
