"""The plugin passes flask-ws's suite for servers."""

from __future__ import annotations

from dataclasses import replace

from flask_ws.testing import Capabilities, ServerSuite, Setup
from flask_ws.testing.suite.base import Launch, once_a_plugin
from flask_ws.testing.suite.raw import handshake_headers, make_key

OPTIONS = (
    "--master --die-on-term --module {app} --need-app"
    """ --log-format '%(addr) "%(method) %(uri) %(proto)" %(status)'"""
)
PLAIN = Setup(
    name="uwsgi",
    command=f"uwsgi --http-socket {{bind}} --threads 4 {OPTIONS}",
    plugin="flask_ws_uwsgi",
    server="uwsgi",
    capabilities=Capabilities(tls=False, keep_alive=False, few_workers=True),
)


class TestUWSGI(ServerSuite):
    setups = (
        PLAIN,
        replace(
            PLAIN,
            name="http11",
            command=f"uwsgi --http11-socket {{bind}} --processes 2 --enable-threads {OPTIONS}",
            capabilities=replace(PLAIN.capabilities, keep_alive=True, processes=2),
            main=False,
        ),
        replace(
            PLAIN,
            name="unix",
            command=f"uwsgi --http-socket {{socket}} --threads 4 {OPTIONS}",
            unix=True,
            main=False,
        ),
    )

    @once_a_plugin
    def test_router_passes_websockets_on(self, launch_other: Launch, setup: Setup) -> None:
        router = replace(
            setup, command=setup.command.replace("--http-socket", "--http-websockets --http")
        )
        server = launch_other(router)
        with server.connect() as peer:
            assert peer.echo("hello") == "hello"
            peer.close()

    @once_a_plugin
    def test_loop_of_another_kind_is_refused_in_words(
        self, launch_other: Launch, setup: Setup
    ) -> None:
        command = setup.command.replace("--threads 4", "--async 5 --ugreen")
        server = launch_other(replace(setup, command=command))
        with server.dial() as peer:
            peer.send_request("/echo", headers=handshake_headers(make_key()))
            response = peer.read_response()
        assert response.status == 501
        assert "without --gevent or --async" in response.text
