"""What a plugin takes for its own, and what its author says of it."""

from __future__ import annotations

import importlib
import socket
import sys
from types import ModuleType

import pytest

from flask_ws.plugin.manager import Plugins

from .base import Subject, once_a_plugin
from .foreign import FOREIGN, Foreign
from .setups import Setup

#: What a client has sent, and nobody but its server may read.
UNREAD = b"\x82\x80\x00\x00\x00\x00"


def ask(plugin: ModuleType, foreign: Foreign) -> str | None:
    """Show a plugin an environ; say what it did to it, if anything."""
    # No distribution announces plugins of this group: it is asked alone.
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
    """What a plugin takes for its own, and what its author says of it."""

    @once_a_plugin
    def test_environs_of_other_servers_are_left_alone(
        self, setup: Setup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert setup.plugin, f"the setup {setup} does not say which plugin it tests"
        # What a server finds beside its script is found here, too.
        monkeypatch.setattr(sys, "path", [str(self._folder()), *sys.path])
        plugin = importlib.import_module(setup.plugin)
        own = {other.server for other in self._siblings(setup)}
        done = {
            foreign.name: ask(plugin, foreign) for foreign in FOREIGN if foreign.server not in own
        }
        assert {name: deed for name, deed in done.items() if deed is not None} == {}

    @once_a_plugin
    def test_there_is_a_setup_for_each_capability(self, setup: Setup) -> None:
        """An author forgets neither, but says of either that the server cannot do it."""
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

    def _siblings(self, setup: Setup) -> list[Setup]:
        """The setups of the same plugin."""
        return [other for other in self.setups if other.plugin == setup.plugin]
