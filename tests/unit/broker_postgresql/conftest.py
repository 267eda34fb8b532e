from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from tests.support.postgresql import PostgresServer

from flask_ws import Broker
from flask_ws.channels.channels import Channels
from flask_ws.channels.opening import close_brokers
from flask_ws.testing.brokers import Process
from flask_ws.testing.suite.process import Certificate
from flask_ws_postgresql import flask_ws_open_broker

OpenProcess = Callable[..., Process]
Open = Callable[..., Channels]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("certificate")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    certificate = Certificate(folder / "cert.pem", folder / "key.pem", folder / "authority.pem")
    certificate.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    certificate.key.write_bytes(issued.private_key_pem.bytes())
    certificate.authority.write_bytes(authority.cert_pem.bytes())
    return certificate


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
    """Open a broker, subscribed to channels, as a process does."""
    processes: list[Process] = []

    def open_process(url: str, *channels: str) -> Process:
        broker = flask_ws_open_broker(url)
        assert isinstance(broker, Broker)
        process = Process(broker)
        processes.append(process)
        for channel in channels:
            broker.subscribe(channel)
        return process

    yield open_process
    for process in processes:
        process.broker.close()


@pytest.fixture
def open_() -> Iterator[Open]:
    """Open the channels of a process."""

    def open_(url: str, kept: int = 100, seconds: float = 600) -> Channels:
        return Channels({"SOCK_BROKER_URL": url, "SOCK_HISTORY": {"*": (kept, seconds)}})

    yield open_
    close_brokers()


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).parents[3]
