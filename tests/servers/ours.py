"""The setups of our own plugins, as a base of test classes."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.environments import Unavailable, make_environment
from tests.support.setups import SETUPS, OurSetup

from flask_ws.testing.suite.base import Subject

APPS = Path(__file__).parent / "apps"


class OurServers(Subject):
    """Runs its tests on all our setups, and on fewer where a test says so."""

    setups = SETUPS
    folder = APPS

    @pytest.fixture(scope="session")
    @classmethod
    def bin_folder(cls, setup: OurSetup) -> Path | None:
        """The programs of the setup's own environment, if it has one."""
        if setup.environment is None:
            return None
        try:
            return make_environment(setup.environment)
        except Unavailable as error:
            pytest.skip(str(error))
