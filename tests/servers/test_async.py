"""Async handlers pass the suite that blocking ones pass: the same subjects, on the same routes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import ClassVar

from tests.support.setups import GTHREAD, SETUPS, OurSetup

from flask_ws.testing.suite.busy import Busy
from flask_ws.testing.suite.channels import Channels
from flask_ws.testing.suite.closing import Closing
from flask_ws.testing.suite.errors import Errors
from flask_ws.testing.suite.faults import Faults
from flask_ws.testing.suite.keepalive import Keepalive
from flask_ws.testing.suite.leaks import Leaks
from flask_ws.testing.suite.limits import Limits
from flask_ws.testing.suite.logging import Logging
from flask_ws.testing.suite.messages import Messages
from flask_ws.testing.suite.stopping import Stopping
from flask_ws.testing.suite.threads import Threads

from .ours import OurServers


def with_async(setups: Iterable[OurSetup], *, main: bool) -> tuple[OurSetup, ...]:
    """Have async functions for the handlers of these setups."""
    return tuple(
        replace(setup, name=f"{setup.name}-async", handlers="async", main=main) for setup in setups
    )


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
    Channels,
    Leaks,
    Stopping,
):
    """Every subject that a handler has a part in, where handlers leave their worker."""

    setups = with_async([GTHREAD], main=True)


class TestAsyncHandlersElsewhere(OurServers, Messages, Closing, Stopping):
    """What depends on the server: its socket, its threads or greenlets, and how it stops."""

    leaves_out: ClassVar[Mapping[str, str]] = {
        "test_stopping_server_says_goodbye_to_handlers_in_its_workers[uwsgi-async]": (
            "it does not end Python in a process that is busy"
        )
    }
    setups = with_async(
        (
            setup
            for setup in SETUPS
            if (setup.main or not setup.capabilities.patched) and setup != GTHREAD
        ),
        main=False,
    )
