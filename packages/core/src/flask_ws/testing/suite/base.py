"""The base class of the subjects: setups, fixtures, and the check of the log."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import trustme

from . import reports
from .log import find_tracebacks
from .process import Certificate, Server, StartProcess, start, start_process
from .raw import Peer
from .setups import NEEDS, Need, Setup
from .waiting import Timeout

__all__ = ["Launch", "Subject", "once_a_plugin", "tracebacks"]

T = TypeVar("T")

#: Starts a server for one test only; `check=False` if its log is not checked, `environ` for
#: variables of its environment.
Launch = Callable[..., Server]

#: The attribute of a test with the number of tracebacks that it causes.
TRACEBACKS = "flask_ws_tracebacks"
#: The attribute of a test that is about a plugin, and not about each of its setups.
ONCE = "flask_ws_once"


def tracebacks(number: int, *, most: int | None = None) -> Callable[[T], T]:
    """Declare how many tracebacks a test leaves in the server's log; else there may be none.

    :param number: that many, or at least as many.
    :param most: how many there may be at most, if more than that.
    """

    def decorate(test: T) -> T:
        setattr(test, TRACEBACKS, range(number, (number if most is None else most) + 1))
        return test

    return decorate


def once_a_plugin(test: T) -> T:
    """Run a test on one setup of each plugin only."""
    setattr(test, ONCE, True)
    return test


#: A server, and the tracebacks that were logged after the end of the test that caused them.
SharedServer = tuple[Server, "list[str]"]


class LeftOut:
    """Replaces an inherited test that runs on none of the class's setups."""


class Subject:
    """A class of tests that run on each setup for which they are meant.

    The fixtures that a test may take: `setup`; `server`, running, and shared by all tests of a
    setup; `launch`, a function that starts one for this test only; `peers`, a list whose members
    are closed after the test.
    """

    setups: ClassVar[Sequence[Setup]] = ()
    folder: ClassVar[Path | None] = None
    leaves_out: ClassVar[Mapping[str, str]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, test in vars(cls).items():
            if name.startswith("test_") and inspect.isfunction(test):
                # So that `pytest -k Messages` selects that subject.
                vars(test).setdefault(cls.__name__, True)
        if not cls.setups:
            return
        tests = cls._tests()
        names = {str(setup) for setup in cls.setups}
        for key in cls.leaves_out:
            name, _, setup_name = key.removesuffix("]").partition("[")
            if name not in tests or (setup_name and setup_name not in names):
                raise TypeError(f"{cls.__name__} leaves out {key!r}, which there is not")
        for name, test in tests.items():
            if all(cls._lacks(test, setup) for setup in cls.setups):
                # pytest does not collect what cannot be called.
                setattr(cls, name, LeftOut())
            elif isinstance(getattr(cls, name), LeftOut):
                # A base class with other setups has left it out.
                setattr(cls, name, test)

    @classmethod
    def left_out(cls) -> dict[str, dict[str, str]]:
        """For each setup, by its name: the tests that are left out for it, and why."""
        return {
            setup.name: {
                name: reason
                for name, test in cls._tests().items()
                if (reason := cls._lacks(test, setup)) is not None
            }
            for setup in cls.setups
        }

    @classmethod
    def _tests(cls) -> dict[str, Callable[..., None]]:
        """All test methods; the base class's own for one that a subclass has left out."""
        found: dict[str, Any] = {}
        for base in cls.__mro__:
            for name, member in vars(base).items():
                if name.startswith("test_") and not isinstance(member, LeftOut):
                    found.setdefault(name, member)
        return {name: test for name, test in found.items() if inspect.isfunction(test)}

    @classmethod
    def _lacks(cls, test: Callable[..., None], setup: Setup) -> str | None:
        """Say what a setup lacks for a test."""
        for key in (test.__name__, f"{test.__name__}[{setup}]"):
            if key in cls.leaves_out:
                return cls.leaves_out[key]
        needs: tuple[Need, ...] = getattr(test, NEEDS, ())
        return next((need.reason for need in needs if not need.holds(setup)), None)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test on each setup that has what it needs."""
        reports.register(metafunc.config)
        if "setup" not in metafunc.fixturenames:
            return
        if not self.setups:
            raise pytest.UsageError(f"{type(self).__name__} has no setups")
        chosen = [setup for setup in self.setups if self._lacks(metafunc.function, setup) is None]
        if hasattr(metafunc.function, ONCE):
            chosen = list({setup.plugin: setup for setup in reversed(chosen)}.values())
        metafunc.parametrize("setup", chosen, ids=str, indirect=True, scope="session")

    # Fixtures that live as long as the shared server

    @pytest.fixture(scope="session")
    @classmethod
    def setup(cls, request: pytest.FixtureRequest) -> Setup:
        """The way the server is started."""
        chosen = request.param
        assert isinstance(chosen, Setup)
        return chosen

    @pytest.fixture(scope="session")
    @classmethod
    def certificate(cls, tmp_path_factory: pytest.TempPathFactory) -> Certificate:
        """A certificate for localhost."""
        return make_certificate(tmp_path_factory.getbasetemp() / "certificate")

    @pytest.fixture(scope="session")
    @classmethod
    def bin_folder(cls, setup: Setup) -> Path | None:
        """Where the program of a command is looked for first; ``None``: beside this Python."""
        return None

    @pytest.fixture(scope="session")
    @classmethod
    def start_server(cls, setup: Setup) -> StartProcess:
        """The function that starts the server; for one that a command cannot start, override it.

        It takes a :class:`~flask_ws.testing.suite.process.Order` and returns the process, in a
        session of its own, with its output in the order's log.
        """
        return start_process

    @pytest.fixture(scope="session")
    @classmethod
    def shared_server(
        cls,
        setup: Setup,
        bin_folder: Path | None,
        certificate: Certificate,
        start_server: StartProcess,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> Iterator[SharedServer]:
        """The server that all tests of a setup share, and its late tracebacks."""
        server = start(
            setup,
            folder=tmp_path_factory.mktemp("server"),
            certificate=certificate,
            bin_folder=bin_folder,
            cwd=cls._folder(),
            start_process=start_server,
        )
        late: list[str] = []
        try:
            yield server, late
            find_late_tracebacks(server, late)
        finally:
            server.stop()
        assert not late, f"tracebacks in the log of {setup} after the end of " + "\n".join(late)

    @classmethod
    def _folder(cls) -> Path:
        """Where the commands run: beside the test module, by default."""
        return cls.folder or Path(inspect.getfile(cls)).parent

    # Fixtures of one test

    @pytest.fixture
    def server(
        self, shared_server: SharedServer, request: pytest.FixtureRequest
    ) -> Iterator[Server]:
        """The running server, whose log is checked after the test."""
        server, late = shared_server
        find_late_tracebacks(server, late)
        beginning = server.checked
        reports.watch(request.node, server, beginning)
        server.opened.clear()
        yield server
        check_log(server, beginning, request)

    @pytest.fixture
    def launch_other(
        self, certificate: Certificate, tmp_path: Path, request: pytest.FixtureRequest
    ) -> Iterator[Launch]:
        """Start any setup, for one test only; `check=False` if its log is not checked."""
        started: list[tuple[Server, bool]] = []

        def launch_server(setup: Setup, *, check: bool = True, **arguments: Any) -> Server:
            folder = tmp_path / str(len(started))
            arguments.setdefault("cwd", self._folder())
            server = start(setup, folder=folder, certificate=certificate, **arguments)
            started.append((server, check))
            reports.watch(request.node, server)
            return server

        try:
            yield launch_server
        finally:
            for server, _ in started:
                server.stop()
        for server, check in started:
            if check:
                check_tracebacks(server, 0, request)

    @pytest.fixture
    def launch(
        self,
        setup: Setup,
        bin_folder: Path | None,
        start_server: StartProcess,
        launch_other: Launch,
    ) -> Launch:
        """Start the setup's server, for one test only."""
        return functools.partial(
            launch_other, setup, bin_folder=bin_folder, start_process=start_server
        )

    @pytest.fixture
    def peers(self) -> Iterator[list[Peer]]:
        """A list of connections, which are closed after the test."""
        made: list[Peer] = []
        yield made
        for peer in made:
            peer.sock.close()


@functools.cache
def make_certificate(folder: Path) -> Certificate:
    """Make a certificate for localhost, once for each folder."""
    folder.mkdir(exist_ok=True)
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1", "::1")
    certificate = Certificate(folder / "cert.pem", folder / "key.pem", folder / "authority.pem")
    certificate.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    certificate.key.write_bytes(issued.private_key_pem.bytes())
    certificate.authority.write_bytes(authority.cert_pem.bytes())
    return certificate


def check_log(server: Server, beginning: int, request: pytest.FixtureRequest) -> None:
    """Check that each WebSocket has an access line of status 101, and count tracebacks."""
    if server.setup.capabilities.access_log:
        for tag in server.opened:
            assert server.await_access_line(tag) == 101
    # A traceback may be logged after the last response.
    with suppress(Timeout):
        server.settle(1.0)
    check_tracebacks(server, beginning, request)
    server.checked, server.checked_in = server.log.size(), request.node.name


def check_tracebacks(server: Server, beginning: int, request: pytest.FixtureRequest) -> None:
    """Find as many tracebacks in the log as the test has declared."""
    allowed = getattr(request.function, TRACEBACKS, range(1))
    found = find_tracebacks(server.log.read(beginning))
    expected = " or ".join(map(str, allowed))
    assert len(found) in allowed, (
        f"{len(found)} tracebacks in the log of {server.setup}, and {expected} are expected:\n"
        + "\n".join(traceback.text for traceback in found)
    )


def find_late_tracebacks(server: Server, late: list[str]) -> None:
    """Note tracebacks that were logged after the end of the test that caused them."""
    found = find_tracebacks(server.log.read(server.checked))
    if found and server.checked_in:
        late.append(f"{server.checked_in}:\n" + "\n".join(each.text for each in found))
    server.checked = server.log.size()
