"""What the author of a plugin writes to have it tested."""

from dataclasses import replace

from flask_ws.testing import ServerSuite, Setup

PLAIN = Setup(
    name="plain",
    command="python serve.py {bind}",
    plugin="flask_ws_wsgiref",
    server="wsgiref",
)


class TestWsgiref(ServerSuite):
    setups = (
        PLAIN,
        replace(PLAIN, name="unix", unix=True, main=False),
        replace(
            PLAIN, name="tls", command="python serve.py {bind} {cert} {key}", tls=True, main=False
        ),
    )
