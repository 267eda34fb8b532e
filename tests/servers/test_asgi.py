"""An app on ASGI servers passes the suite, but for what ASGI or a server leaves no room for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from tests.support.asgi_setups import (
    ASGI_SETUPS,
    GRANIAN,
    GUNICORN,
    HYPERCORN,
    UVICORN,
    leave_out,
)
from tests.support.setups import EVERYWHERE

from flask_ws.testing import ServerSuite
from flask_ws.testing.suite.base import Launch
from flask_ws.testing.suite.messages import Messages
from flask_ws.testing.suite.raw import PING, Peer
from flask_ws.testing.suite.stopping import Stopping

from .ours import OurServers

CLIENTS = 1000
#: Of the second server, to save time: more than Granian tells by itself.
FEWER = 300
#: Seconds: one until all are told, and more for a busy machine.
TOLD = 1.0 + 9.0
#: It waits for as many closing handshakes as there are, on a busy machine too.
PATIENCE = 30.0
PATIENT = replace(
    UVICORN,
    command=UVICORN.command.replace("shutdown 5", f"shutdown {PATIENCE:.0f}"),
)


class TestUvicorn(OurServers, Messages, Stopping):
    """What is run in any case, on one server."""

    setups = (UVICORN,)


if EVERYWHERE:

    class TestASGI(OurServers, ServerSuite):
        """All subjects, on each server."""

        setups = ASGI_SETUPS
        leaves_out: ClassVar[Mapping[str, str]] = leave_out(setups)


class TestManyClients(OurServers):
    setups = (PATIENT, GRANIAN, HYPERCORN, GUNICORN) if EVERYWHERE else (PATIENT, GRANIAN)

    def test_many_clients_are_told_at_once_that_the_server_stops(
        self, launch: Launch, peers: list[Peer]
    ) -> None:
        server = launch()
        for number in range(CLIENTS if EVERYWHERE or server.setup is PATIENT else FEWER):
            peers.append(server.connect(("/echo", "/events/echo")[number % 2]))
        began = time.monotonic()
        server.signal(server.setup.stop_signal)
        for peer in peers:
            # Uvicorn may have pinged the first while the others were connecting.
            while (frame := peer.read_frame()).opcode == PING:
                pass
            assert frame.close_code == 1001
            peer.send_close(1001)
        assert time.monotonic() - began < TOLD
        server.wait(PATIENCE)
