"""The suite's servers, by the name under which the tests know them."""

from __future__ import annotations

from flask_ws.testing.suite.process import *  # noqa: F403
