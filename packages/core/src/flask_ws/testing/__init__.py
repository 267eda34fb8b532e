"""Tests of WebSocket routes: a client that needs no server; and the suites for plugins.

- ``connecting``: :func:`connect`, and refused handshakes. ``client``: the connection's end in the
  test. ``async_client``: both, awaited. ``memory``: the server in memory behind them.
  ``transcript``: what was said, for a test that fails.
- ``suite``: :class:`ServerSuite`. ``brokers``: :class:`BrokerSuite`.
- ``proxy``: a TCP proxy, for connections that are cut or stall.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if "pytest" in sys.modules:
    # Before that module is imported: failing assertions then show their values.
    sys.modules["pytest"].register_assert_rewrite(f"{__name__}.brokers")

from .async_client import AsyncClientWebSocket, aconnect
from .brokers import BrokerSuite
from .client import ClientWebSocket
from .connecting import HandshakeRefused, connect

if TYPE_CHECKING:
    from .suite.server_suite import ServerSuite
    from .suite.setups import Capabilities, Setup

__all__ = [
    "AsyncClientWebSocket",
    "BrokerSuite",
    "Capabilities",
    "ClientWebSocket",
    "HandshakeRefused",
    "ServerSuite",
    "Setup",
    "aconnect",
    "connect",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        # Imported on demand: the client must work without the packages of the extra.
        if name not in ("Capabilities", "ServerSuite", "Setup"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            # Before the suite, which registers with it for rewritten assertions.
            import pytest  # noqa: F401

            from .suite import server_suite, setups
        except ModuleNotFoundError as error:
            raise ImportError(
                f'flask_ws.testing.{name} needs {error.name}: pip install "flask-ws[testing]"'
            ) from error
        found = {
            "Capabilities": setups.Capabilities,
            "ServerSuite": server_suite.ServerSuite,
            "Setup": setups.Setup,
        }
        return found[name]
