"""The suite's client, by the name under which the tests know it."""

from __future__ import annotations

from flask_ws.testing.suite.raw import *  # noqa: F403
