"""Servers that are started in a way of their own."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from flask import Flask
from tests.support.setups import GUNICORN, on

from flask_ws import Sock, WebSocket
from flask_ws.testing import Setup
from flask_ws.testing.suite.base import Launch
from flask_ws.testing.suite.raw import Peer, handshake_headers, make_key
from flask_ws.testing.suite.stopping import (
    expect_goodbye,
    expect_handlers_to_end,
    open_some,
    stop,
)

from .ours import OurServers

SCRIPTS = (
    Setup(name="werkzeug-sigterm", command="python werkzeug_sigterm.py {port}"),
    Setup(name="gevent-sigterm", command="python gevent_sigterm.py {port}"),
    Setup(name="eventlet-sigterm", command="python eventlet_sigterm.py {port}"),
)


class TestOwn(OurServers):
    def test_server_without_a_plugin_answers_501_with_a_hint(self, launch_other: Launch) -> None:
        server = launch_other(Setup(name="wsgiref", command="python wsgiref_script.py {port}"))
        with server.dial() as peer:
            peer.send_request("/echo", headers=handshake_headers(make_key()))
            response = peer.read_response()
        assert response.status == 501
        assert "flask-ws[" in response.text
        assert "flask-ws[" in server.log.read()

    @on(lambda setup: setup.name == "werkzeug-debug")
    def test_reloader_says_goodbye(self, launch: Launch, peers: list[Peer], tmp_path: Path) -> None:
        module = tmp_path / "reloaded.py"
        module.write_text("from flask_ws.testing.suite.live import app\n")
        server = launch(app="reloaded:app", cwd=tmp_path)
        pid = json.loads(server.get("/process").body)["pid"]
        tags = open_some(server, peers)
        # The reloader looks at it once a second.
        began = time.monotonic() + 1
        os.utime(module)
        expect_goodbye(peers, began)
        expect_handlers_to_end(server, tags)
        assert json.loads(server.get("/process").body)["pid"] != pid

    @pytest.mark.parametrize("script", SCRIPTS, ids=str)
    def test_script_with_the_lines_of_the_docs_stops_at_sigterm(
        self, launch_other: Launch, script: Setup, peers: list[Peer]
    ) -> None:
        stop(launch_other(script), peers, signal.SIGTERM)

    def test_19_routes_added_later_reach_every_app(self, launch_other: Launch) -> None:
        setup = Setup(
            name="two-apps",
            command=f"{GUNICORN} --threads 4 {{app}}",
        )
        server = launch_other(setup, app="two_apps:application", ready="/first/http")
        for app in ("first", "second"):
            for route in ("before", "after"):
                with server.connect(f"/{app}/{route}") as peer:
                    assert json.loads(peer.read()) == [app, route]
                    peer.answer_close()


def test_18_route_returns_its_handler() -> None:
    def handler(ws: WebSocket) -> None: ...

    assert Sock(Flask(__name__)).route("/")(handler) is handler
