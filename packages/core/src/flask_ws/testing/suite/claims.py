"""Which requests a plugin claims, and which capabilities its author declares."""

from __future__ import annotations

import importlib
import json
import socket
import sys
from contextlib import suppress
from types import ModuleType

import pytest

from flask_ws.plugin.manager import Plugins

from .base import Launch, Subject, once_a_plugin
from .foreign import FOREIGN, Foreign
from .process import Server
from .raw import LostConnection
from .setups import Setup, on_no_access_log, on_no_graceful_stop, on_no_keep_alive
from .waiting import Timeout

#: What a client has sent, and only its own server may read.
UNREAD = b"\x82\x80\x00\x00\x00\x00"


def ask(plugin: ModuleType, foreign: Foreign) -> str | None:
    """Call a plugin's hook with an environ; say what it changed, if anything."""
    # No distribution has entry points in this group: only this plugin is called.
    plugins = Plugins(group="flask_ws.testing")
    plugins.register(plugin)
    client, sock = socket.socketpair()
    with client, sock:
        sock.settimeout(5)
        environ = foreign.make(sock)
        client.sendall(UNREAD)
        before = dict(environ)
        try:
            answer = plugins.get_socket(environ)
        except Exception as error:
            return f"raised {error!r}"
        if answer is not None:
            return f"claimed: {answer!r}"
        if environ != before:
            return "changed the environ"
        if sock.fileno() == -1:
            return "closed the socket"
        if sock.gettimeout() != 5:
            return "changed the socket's timeout"
        if sock.recv(len(UNREAD), socket.MSG_PEEK | socket.MSG_DONTWAIT) != UNREAD:
            return "read from the socket"
    return None


class Claims(Subject):
    """Which requests a plugin claims, and which capabilities its author declares."""

    @once_a_plugin
    def test_environs_of_other_servers_are_left_alone(
        self, setup: Setup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert setup.plugin, f"the setup {setup} does not say which plugin it tests"
        # A server finds modules beside its script: the same here.
        monkeypatch.setattr(sys, "path", [str(self._folder()), *sys.path])
        plugin = importlib.import_module(setup.plugin)
        own = {other.server for other in self._siblings(setup)}
        done = {
            foreign.name: ask(plugin, foreign) for foreign in FOREIGN if foreign.server not in own
        }
        assert {name: deed for name, deed in done.items() if deed is not None} == {}

    @once_a_plugin
    def test_there_is_a_setup_for_each_capability(self, setup: Setup) -> None:
        """TLS and unix sockets are either tested or declared impossible."""
        siblings = self._siblings(setup)
        can_tls = [str(other) for other in siblings if other.capabilities.tls]
        assert not can_tls or any(other.tls for other in siblings), (
            "no setup has tls=True, and no Capabilities(tls=False) says that there can be none"
        )
        can_unix = [str(other) for other in siblings if other.capabilities.unix_sockets]
        assert not can_unix or any(other.unix for other in siblings), (
            "no setup has unix=True, and no Capabilities(unix_sockets=False) says that there can"
            " be none"
        )

    # A capability that is wrongly denied leaves out tests that the server should pass.

    @on_no_keep_alive
    def test_server_that_keeps_connections_open_declares_it(self, server: Server) -> None:
        with server.dial() as peer:
            peer.send_request("/http")
            assert peer.read_response().text == "http"
            # One that keeps it open answers at once; Werkzeug waits for the client to close it.
            peer.sock.settimeout(1)
            with suppress(OSError, LostConnection):
                peer.send_request("/http")
                text = peer.read_response().text
                raise AssertionError(f"a second request was answered {text!r}: keep_alive=True")

    @on_no_access_log
    def test_server_that_has_an_access_log_declares_it(self, server: Server) -> None:
        tag = server.tag()
        assert server.get(server.target("/http", tag)).text == "http"
        with suppress(Timeout):
            server.settle(1.0)
        assert server.access_lines(tag) == [], "it has an access line: access_log=True"

    def test_server_that_runs_more_processes_declares_it(self, server: Server) -> None:
        pids = {json.loads(server.get("/process").body)["pid"] for _ in range(8)}
        declared = server.setup.capabilities.processes
        assert len(pids) <= declared, f"requests were answered by {len(pids)} processes"

    @on_no_graceful_stop
    def test_server_that_stops_gracefully_declares_it(self, launch: Launch, setup: Setup) -> None:
        server = launch(check=False)
        with server.connect() as peer:
            server.log.event("begin", server.opened[0])
            server.settle()
            server.signal(setup.stop_signal)
            with suppress(OSError, LostConnection):
                code = peer.read_close().close_code
                raise AssertionError(f"it said goodbye with {code}: graceful_stop=True")

    def _siblings(self, setup: Setup) -> list[Setup]:
        """The setups of the same plugin."""
        return [other for other in self.setups if other.plugin == setup.plugin]
