"""Our plugins pass the suite that anybody's plugin passes, on every way to run their servers.

The server of each setup is started once, for all that is here.
"""

from __future__ import annotations

from tests.support.setups import on

from flask_ws.testing import ServerSuite
from flask_ws.testing.suite.process import Server

from .ours import OurServers


class TestServers(OurServers, ServerSuite):
    """And faults that some of these servers are known for."""

    @on(lambda setup: "eventlet" in setup.name)
    def test_13_close_from_the_server_logs_no_traceback_on_eventlet(self, server: Server) -> None:
        """What the fixture finds in the log is the claim."""
        with server.connect("/close/4001") as peer:
            assert peer.answer_close().close_code == 4001
        assert server.await_access_line(server.opened[0]) == 101

    @on(lambda setup: setup.server == "gevent" or setup.name == "gunicorn-pywsgi")
    def test_14_tcp_ends_after_the_servers_close_on_gevent(self, server: Server) -> None:
        with server.connect("/close/4001") as peer:
            peer.read_close()
            peer.send_close(4001)
            assert peer.read_until_eof().seconds < 1
            # The peer has not closed yet.
            assert server.await_access_line(server.opened[0]) == 101

    @on(lambda setup: setup.name == "gunicorn-sync")
    def test_view_that_is_kept_in_the_worker_holds_it(self, server: Server) -> None:
        with server.connect("/events/kept") as peer, server.dial() as other:
            assert peer.echo("hello") == "hello"
            other.send_request("/http", headers=[("Connection", "close")])
            other.expect_silence(0.3)
            peer.close()
            assert other.read_response().text == "http"
