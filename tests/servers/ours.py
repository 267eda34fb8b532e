"""The setups of our own plugins, as a base of test classes; and a server with a broker."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.environments import Unavailable, make_environment
from tests.support.setups import SETUPS, OurSetup

from flask_ws.testing import Setup
from flask_ws.testing.suite.base import Subject, make_certificate
from flask_ws.testing.suite.process import Server, start

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


@contextlib.contextmanager
def running(setup: Setup, folder: Path, broker_url: str) -> Iterator[Server]:
    """Have a server of one of our apps run for a while, with a broker."""
    server = start(
        setup,
        folder=folder / "server",
        certificate=make_certificate(folder / "certificate"),
        cwd=APPS,
        environ={"BROKER_URL": broker_url},
    )
    try:
        yield server
    finally:
        server.stop()
