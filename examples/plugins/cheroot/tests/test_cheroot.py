"""The plugin passes flask-ws's suite for servers."""

from __future__ import annotations

import signal
from dataclasses import replace

from flask_ws.testing import Capabilities, ServerSuite, Setup
from flask_ws.testing.suite.base import Launch, once_a_plugin
from flask_ws.testing.suite.raw import handshake_headers, make_key

PLAIN = Setup(
    name="cheroot",
    command="cheroot {app} --bind {bind}",
    plugin="flask_ws_cheroot",
    server="cheroot",
    # The time that Cheroot leaves to its own threads.
    capabilities=Capabilities(access_log=False, few_workers=True, stop_seconds=5),
    stop_signal=signal.SIGINT,
)
TLS = replace(
    PLAIN, name="tls", command="python serve_tls.py builtin {port} {cert} {key}", tls=True
)


class TestCheroot(ServerSuite):
    setups = (
        PLAIN,
        TLS,
        replace(PLAIN, name="unix", command="cheroot {app} --bind {socket}", unix=True, main=False),
    )

    @once_a_plugin
    def test_tls_that_is_kept_from_python_is_refused_in_words(
        self, launch_other: Launch, setup: Setup
    ) -> None:
        server = launch_other(replace(TLS, command=TLS.command.replace("builtin", "pyopenssl")))
        with server.dial() as peer:
            peer.send_request("/echo", headers=handshake_headers(make_key()))
            response = peer.read_response()
        assert response.status == 501
        assert "BuiltinSSLAdapter" in response.text
