"""Makes sockets behave as on macOS, so that Linux can test for it::

    python -m pytest -p tests.support.macos tests/unit/connection

There ``send()`` does not heed MSG_DONTWAIT on a blocking socket: XNU's sosendcheck(), in
bsd/kern/uipc_socket.c, asks for the socket's own state alone. And there is kqueue.
"""

from __future__ import annotations

import _socket
import importlib
import selectors
import subprocess  # noqa: F401  (chooses its selector when it is imported)
import sys
from typing import Any

import pytest
from tests.support import stand_ins

#: What is imported before, because it asks for more than it uses.
IMPORTED = (
    "flask.cli",
    "flask.testing",
    "gevent.socket",
    "hypothesis",
    "psutil",
    "werkzeug.serving",
)


def send(self: Any, data: Any, _flags: int = 0) -> int:
    """Send, and wait if the socket is one that waits."""
    return _socket.socket.send(self, data)


def pretend() -> None:
    """Let sockets behave so, and import flask_ws."""
    for name in IMPORTED:
        importlib.import_module(name)
    stand_ins.install_kqueue(pytest.MonkeyPatch())
    selectors.DefaultSelector = selectors.PollSelector  # type: ignore[misc,assignment]
    real_platform, sys.platform = sys.platform, "darwin"
    try:
        importlib.import_module("flask_ws.system")
    finally:
        sys.platform = real_platform
    from flask_ws.connection.transport import LentSocket

    LentSocket.send = send  # type: ignore[method-assign]


pretend()
