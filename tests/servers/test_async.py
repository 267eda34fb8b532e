"""Async handlers pass the suite that blocking ones pass: the same subjects, on the same routes.

So do event views with async methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar

from tests.support.asgi_setups import GRANIAN, GUNICORN, HYPERCORN, UVICORN, leave_out
from tests.support.setups import EVERYWHERE, GTHREAD, SETUPS, OurSetup

from flask_ws.testing.suite.busy import Busy
from flask_ws.testing.suite.channels import Channels
from flask_ws.testing.suite.closing import Closing
from flask_ws.testing.suite.errors import Errors
from flask_ws.testing.suite.event_views import EventViews
from flask_ws.testing.suite.faults import Faults
from flask_ws.testing.suite.keepalive import Keepalive
from flask_ws.testing.suite.leaks import Leaks
from flask_ws.testing.suite.limits import Limits
from flask_ws.testing.suite.logging import Logging
from flask_ws.testing.suite.messages import Messages
from flask_ws.testing.suite.stopping import Stopping
from flask_ws.testing.suite.threads import Threads

from .ours import OurServers

#: One for each way in which a connection comes to the loop, whose thread it has, and how it stops.
ELSEWHERE = (
    "werkzeug-tls",
    "werkzeug-processes",
    "gunicorn-gevent",
    "gevent-tls",
    "eventlet",
    "eventlet-unpatched",
    "uwsgi",
)

#: Where async handlers are on the server's own loop.
ON_ASGI = (UVICORN, HYPERCORN, GRANIAN, GUNICORN)


def with_async(setups: Iterable[OurSetup], *, main: bool) -> tuple[OurSetup, ...]:
    """Have async functions for the handlers of these setups."""
    return tuple(
        replace(setup, name=f"{setup.name}-async", handlers="async", main=main) for setup in setups
    )


def without_end(setups: Iterable[OurSetup]) -> dict[str, str]:
    """Leave out what uWSGI does not do."""
    test = "test_stopping_server_says_goodbye_to_handlers_in_its_workers"
    return {
        f"{test}[{setup}]": "it does not end Python in a process that is busy"
        for setup in setups
        if setup.server == "uwsgi"
    }


class TestAsyncHandlers(
    OurServers,
    Messages,
    Closing,
    Errors,
    Logging,
    Limits,
    Keepalive,
    Busy,
    Threads,
    Faults,
    EventViews,
    Channels,
    Leaks,
    Stopping,
):
    """Every subject that a handler or a view has a part in, where they leave their worker."""

    setups = with_async([*SETUPS, *ON_ASGI] if EVERYWHERE else [GTHREAD], main=True)
    leaves_out: ClassVar[Mapping[str, str]] = {**without_end(setups), **leave_out(setups)}


class TestAsyncHandlersElsewhere(OurServers, Messages, Closing, Stopping):
    """What depends on the server: its socket, its threads or greenlets, and how it stops."""

    setups = with_async((setup for setup in SETUPS if setup.name in ELSEWHERE), main=False)
    leaves_out: ClassVar[Mapping[str, str]] = without_end(setups)
