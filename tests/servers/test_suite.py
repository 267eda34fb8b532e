"""Our plugins pass the suite that anybody's plugin passes, on every way to run their servers.

The server of each setup is started once, for all that is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from tests.support.setups import SETUPS, on

from flask_ws.testing import ServerSuite
from flask_ws.testing.suite.process import Server

from .ours import OurServers

#: Servers whose few workers are not told that they are to end while they are busy.
UNTOLD = "test_stopping_server_says_goodbye_to_handlers_in_its_workers"


class TestServers(OurServers, ServerSuite):
    """And faults that some of these servers are known for."""

    leaves_out: ClassVar[Mapping[str, str]] = {
        f"{UNTOLD}[gunicorn-sync]": "it asks that SIGTERM does not interrupt recv()",
        f"{UNTOLD}[gunicorn-sync-tls]": "it asks that SIGTERM does not interrupt recv()",
        f"{UNTOLD}[uwsgi]": "it does not end Python in a process that is busy",
        f"{UNTOLD}[uwsgi-http11]": "it does not end Python in a process that is busy",
        f"{UNTOLD}[uwsgi-unix]": "it does not end Python in a process that is busy",
        "test_server_that_runs_more_processes_declares_it[werkzeug-processes]": (
            "each request has a process of its own"
        ),
        # Its plugin completes the environ, by what a handshake is checked.
        **{
            f"test_hook_leaves_the_environ_as_it_is[{setup}]": "it leaves out what is to be checked"
            for setup in SETUPS
            if setup.plugin == "flask_ws_eventlet"
        },
    }

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
