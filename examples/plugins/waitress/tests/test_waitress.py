"""The plugin passes flask-ws's suite for servers."""

from __future__ import annotations

import signal
from dataclasses import replace

from flask_ws.testing import Capabilities, ServerSuite, Setup

PLAIN = Setup(
    name="waitress",
    command="waitress-serve --listen={bind} --no-clear-untrusted-proxy-headers {app}",
    plugin="flask_ws_waitress",
    server="waitress",
    capabilities=Capabilities(tls=False, access_log=False, few_workers=True),
    stop_signal=signal.SIGINT,
)


class TestWaitress(ServerSuite):
    setups = (
        PLAIN,
        replace(
            PLAIN,
            name="lookahead",
            command=PLAIN.command.replace(" {app}", " --channel-request-lookahead=5 {app}"),
            main=False,
        ),
        replace(
            PLAIN,
            name="unix",
            command="waitress-serve --unix-socket={socket} {app}",
            unix=True,
            main=False,
        ),
    )
