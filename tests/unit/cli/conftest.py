"""A server for the command to connect to, and its input and output."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from functools import partial
from socketserver import BaseServer

import pytest
from flask import Flask
from tests.support.command_line import PATIENCE, Serve, Terminal
from werkzeug.serving import make_server


@pytest.fixture
def terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    terminal = Terminal(monkeypatch, capsys)
    before = set(threading.enumerate())
    yield terminal
    terminal.end_input()
    # The thread that reads the input ends with it.
    for thread in set(threading.enumerate()) - before:
        if thread.name == "flask_ws.cli":
            thread.join(PATIENCE)
    terminal.close()


@pytest.fixture
def serve(app: Flask) -> Iterator[Serve]:
    """Serve the app on Werkzeug's server; returns its URL."""
    servers = []

    def serve(context: ssl.SSLContext | None = None) -> str:
        server = make_server("127.0.0.1", 0, app, threaded=True, ssl_context=context)
        # Not the server's own, which takes half a second to hear that it is to stop.
        run = partial(BaseServer.serve_forever, server, 0.02)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"{'wss' if context else 'ws'}://localhost:{server.server_port}"

    yield serve
    for server, thread in servers:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()
