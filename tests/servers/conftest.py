"""One suite for every server: a test that takes `server` runs on each, started once."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.support.environments import Unavailable, make_environment
from tests.support.server import Certificate, Server, start
from tests.support.setups import SETUPS, Setup

#: A traceback, and the name of the exception that ends it.
TRACEBACK = re.compile(
    r"^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*([\w.]*)", re.MULTILINE
)

Launch = Callable[..., Server]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "setups(predicate): run on those server setups for which it is true"
    )
    config.addinivalue_line("markers", "tracebacks(number): what the server's log must hold then")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "setup" not in metafunc.fixturenames:
        return
    chosen = [
        setup
        for setup in SETUPS
        if all(mark.args[0](setup) for mark in metafunc.definition.iter_markers("setups"))
    ]
    metafunc.parametrize("setup", chosen, ids=str, indirect=True, scope="session")


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    folder = tmp_path_factory.mktemp("certificate")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1", "::1")
    certificate = Certificate(folder / "cert.pem", folder / "key.pem", folder / "authority.pem")
    certificate.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    certificate.key.write_bytes(issued.private_key_pem.bytes())
    certificate.authority.write_bytes(authority.cert_pem.bytes())
    return certificate


@pytest.fixture(scope="session")
def setup(request: pytest.FixtureRequest) -> Setup:
    chosen = request.param
    assert isinstance(chosen, Setup)
    return chosen


@pytest.fixture(scope="session")
def bin_folder(setup: Setup) -> Path | None:
    """The programs of the setup's own environment, if it has one."""
    if setup.environment is None:
        return None
    try:
        return make_environment(setup.environment)
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def shared_server(
    setup: Setup,
    bin_folder: Path | None,
    certificate: Certificate,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    server = start(setup, folder=folder, certificate=certificate, bin_folder=bin_folder)
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(shared_server: Server, request: pytest.FixtureRequest) -> Iterator[Server]:
    """The running server; afterwards its log must hold what it owes, and nothing else."""
    beginning = shared_server.log.size()
    shared_server.opened.clear()
    yield shared_server
    check_log(shared_server, beginning, request.node)


@pytest.fixture
def launch_other(
    certificate: Certificate, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Launch]:
    """Start any setup, for one test alone; `check=False` where its log may hold anything."""
    started: list[tuple[Server, bool]] = []

    def launch_server(setup: Setup, *, check: bool = True, **arguments: Any) -> Server:
        folder = tmp_path / str(len(started))
        server = start(setup, folder=folder, certificate=certificate, **arguments)
        started.append((server, check))
        return server

    try:
        yield launch_server
    finally:
        for server, _ in started:
            server.stop()
    for server, check in started:
        if check:
            check_tracebacks(server, 0, request.node)


@pytest.fixture
def launch(setup: Setup, bin_folder: Path | None, launch_other: Launch) -> Launch:
    """Start the setup's server, for one test alone."""
    return functools.partial(launch_other, setup, bin_folder=bin_folder)


def check_log(server: Server, beginning: int, item: pytest.Item) -> None:
    """Each WebSocket has an access line of status 101, and there are no more tracebacks."""
    for tag in server.opened:
        assert server.await_access_line(tag) == 101
    check_tracebacks(server, beginning, item)


def check_tracebacks(server: Server, beginning: int, item: pytest.Item) -> None:
    allowed = next((mark.args[0] for mark in item.iter_markers("tracebacks")), 0)
    log = server.log.read(beginning)
    # Gevent shows how Ctrl-C ended its loop; that is no fault.
    found = [match[1] for match in TRACEBACK.finditer(log) if match[1] != "KeyboardInterrupt"]
    assert len(found) == allowed, f"tracebacks {found}:\n{log[-6000:]}"
