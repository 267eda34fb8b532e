"""What only uWSGI does."""

from __future__ import annotations

from dataclasses import replace

from tests.support.setups import OurSetup, on

from flask_ws.testing.suite.base import Launch
from flask_ws.testing.suite.raw import handshake_headers, make_key

from .ours import OurServers


@on(lambda setup: setup.name == "uwsgi")
class TestUWSGI(OurServers):
    def test_router_passes_websockets_on(self, launch_other: Launch, setup: OurSetup) -> None:
        router = replace(
            setup, command=setup.command.replace("--http-socket", "--http-websockets --http")
        )
        server = launch_other(router)
        with server.connect() as peer:
            assert peer.echo("hello") == "hello"
            peer.close()

    def test_loop_of_another_kind_is_refused_in_words(
        self, launch_other: Launch, setup: OurSetup
    ) -> None:
        command = setup.command.replace("--threads 4", "--async 5 --ugreen")
        server = launch_other(replace(setup, command=command))
        with server.dial() as peer:
            peer.send_request("/echo", headers=handshake_headers(make_key()))
            response = peer.read_response()
        assert response.status == 501
        assert "without --gevent or --async" in response.text
