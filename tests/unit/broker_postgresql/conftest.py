from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import histories
from tests.support.brokers import OpenProcess, opening
from tests.support.postgresql import PostgresServer

from flask_ws.testing.suite.base import make_certificate
from flask_ws.testing.suite.process import Certificate
from flask_ws_postgresql import flask_ws_open_broker


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="session")
def server(certificate: Certificate) -> Iterator[PostgresServer]:
    """The only one; a test that has stopped it starts it again."""
    server = PostgresServer(certificate)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def open_process() -> Iterator[OpenProcess]:
    with opening(flask_ws_open_broker) as open_process:
        yield open_process


@pytest.fixture
def open_() -> Iterator[histories.Open]:
    with histories.opening() as open_:
        yield open_


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[3]
