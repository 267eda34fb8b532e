"""How the suite is inherited, what it leaves out, and what it asks of its surroundings."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from flask_ws.testing import Capabilities, ServerSuite, Setup, suite
from flask_ws.testing.suite.base import LeftOut, Subject
from flask_ws.testing.suite.log import Log
from flask_ws.testing.suite.process import Certificate, Server, start
from flask_ws.testing.suite.raw import Peer
from flask_ws.testing.suite.setups import on_keep_alive, on_main, on_tls

from .authors import make_folder, run_pytest

# Each runs pytest anew, which starts a server anew.
pytestmark = pytest.mark.timeout(240)

SUBJECTS = [
    member
    for module in pkgutil.iter_modules(suite.__path__)
    # The app under test configures logging, which is not for this process.
    if not module.name.startswith("live")
    for _, member in inspect.getmembers(importlib.import_module(f"{suite.__name__}.{module.name}"))
    if inspect.isclass(member)
    and issubclass(member, Subject)
    and member not in (Subject, ServerSuite)
    and member.__module__.endswith(f".{module.name}")
]

PLAIN = Setup(name="plain", command="")


def test_every_subject_is_in_the_suite() -> None:
    assert {subject for subject in SUBJECTS if not issubclass(ServerSuite, subject)} == set()


def test_no_test_hides_another_of_the_same_name() -> None:
    names = [name for subject in SUBJECTS for name in vars(subject) if name.startswith("test_")]
    assert sorted(set(names)) == sorted(names)


def test_every_subject_is_named_in_the_suites_docstring() -> None:
    assert ServerSuite.__doc__ is not None
    for subject in SUBJECTS:
        assert f"``{subject.__name__}``" in ServerSuite.__doc__


class Example(Subject):
    def test_of_all(self, setup: Setup) -> None: ...

    @on_keep_alive
    def test_of_keep_alive(self, setup: Setup) -> None: ...

    @on_main
    @on_tls
    def test_of_tls(self, setup: Setup) -> None: ...


def test_what_no_setup_can_pass_is_not_collected() -> None:
    class Without(Example):
        setups = (Setup(name="plain", command="", capabilities=Capabilities(keep_alive=False)),)

    assert callable(Without.test_of_all)
    assert isinstance(vars(Without)["test_of_keep_alive"], LeftOut)
    assert isinstance(vars(Without)["test_of_tls"], LeftOut)


def test_what_a_base_class_left_out_comes_back_with_other_setups() -> None:
    class Without(Example):
        setups = (PLAIN,)

    class With(Without):
        setups = (Setup(name="tls", command="", tls=True),)

    assert callable(With.test_of_tls)
    assert isinstance(vars(Without)["test_of_tls"], LeftOut)


def test_what_an_author_takes_out_by_hand_stays_out() -> None:
    class Without(Example):
        setups = (PLAIN,)
        test_of_all = None  # type: ignore[assignment]

    assert Without.test_of_all is None
    assert "test_of_all" not in Without._tests()


def test_one_test_is_left_out_with_a_reason() -> None:
    class Without(Example):
        setups = (PLAIN,)
        leaves_out = {"test_of_keep_alive": "the server has a fault"}  # noqa: RUF012

    assert isinstance(vars(Without)["test_of_keep_alive"], LeftOut)
    assert Without.left_out()["plain"]["test_of_keep_alive"] == "the server has a fault"


def test_one_test_is_left_out_for_one_setup() -> None:
    class Without(Example):
        setups = (PLAIN, Setup(name="other", command=""))
        leaves_out = {"test_of_all[other]": "the server has a fault"}  # noqa: RUF012

    assert callable(Without.test_of_all)
    assert "test_of_all" not in Without.left_out()["plain"]
    assert Without.left_out()["other"]["test_of_all"] == "the server has a fault"


@pytest.mark.parametrize("key", ["test_of_nothing", "test_of_all[tls]"])
def test_what_is_not_there_cannot_be_left_out(key: str) -> None:
    with pytest.raises(TypeError, match="leaves out"):
        type("Without", (Example,), {"setups": (PLAIN,), "leaves_out": {key: "a typo"}})


def test_left_out_tells_which_and_why() -> None:
    class Without(Example):
        setups = (
            PLAIN,
            Setup(name="tls", command="", tls=True, capabilities=Capabilities(keep_alive=False)),
        )

    assert Without.left_out() == {
        "plain": {"test_of_tls": "is about TLS"},
        "tls": {"test_of_keep_alive": "needs kept-alive HTTP"},
    }


def test_access_line_is_found_by_its_form() -> None:
    setup = Setup(name="uwsgi", command="", access_line=r"GET {target} => .* \(HTTP/1.1 (\d+)\)")
    log = "GET /echo?tag=t1 => generated 0 bytes in 1 msecs (HTTP/1.1 101) 0 headers\n"
    assert setup.find_access_lines(log, r"\S*tag=t1\b") == [101]
    assert PLAIN.find_access_lines('"GET /echo?tag=t1 HTTP/1.1" 101', r"\S*tag=t1\b") == [101]
    assert PLAIN.find_access_lines('"GET /echo?tag=t10 HTTP/1.1" 101', r"\S*tag=t1\b") == []


@pytest.mark.parametrize("awaits_answers", [True, False])
@pytest.mark.parametrize("is_answered", [True, False])
def test_only_an_answer_that_is_not_awaited_may_be_met_by_rst(
    awaits_answers: bool, is_answered: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with server, Peer(sock, awaits_answers=awaits_answers) as peer:
        server.sendall(b"\x88\x02\x03\xe8")
        peer.read_close()
        if is_answered:
            peer.send_close(1000)
        Peer(server).reset()
        if is_answered and not awaits_answers:
            peer.expect_end()
        else:
            with pytest.raises(AssertionError, match="reset"):
                peer.expect_end()


def test_server_that_is_not_in_the_table_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"'gunicron'.* cheroot, .* leave it out"):
        Setup(name="typo", command="", server="gunicron")


def test_server_that_ends_at_start_is_an_error_with_its_output(
    tmp_path: Path, certificate: Certificate
) -> None:
    setup = Setup(name="bad", command="python -c \"raise SystemExit('no such option')\"")
    with pytest.raises(AssertionError, match="bad ended at start:\nno such option"):
        start(setup, folder=tmp_path / "log", certificate=certificate, cwd=tmp_path)


def test_server_that_was_slow_to_start_may_be_slow_to_stop(
    tmp_path: Path, certificate: Certificate
) -> None:
    server = Server(PLAIN, Mock(), Log(tmp_path / "log"), "", 0, certificate)
    assert server.allowed(4.0) == 4.0
    server.start_seconds = 14.0
    assert server.allowed(4.0) == 14.0


@contextlib.contextmanager
def connection_to(server: Server, pid: int, tag: str) -> Iterator[Mock]:
    """One that its handler records, as the app under test does."""
    with server.log.path.open("a") as log:
        log.write(f'LIVE {{"event": "begin", "tag": "{tag}", "pid": {pid}}}\n')
        yield Mock()
        log.write(f'LIVE {{"event": "end", "tag": "{tag}"}}\n')


def test_server_is_warm_when_each_process_has_served(
    tmp_path: Path, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often another one is first."""
    capabilities = Capabilities(access_log=False, processes=2)
    setup = Setup(name="two", command="", capabilities=capabilities)
    server = Server(setup, Mock(), Log(tmp_path / "log"), "", 0, certificate)
    pids = iter([1, 1, 1, 2, 1])
    monkeypatch.setattr(server, "connect", lambda path, tag: connection_to(server, next(pids), tag))
    server.warm_up()
    assert list(pids) == [1]


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return Certificate(tmp_path / "cert", tmp_path / "key", tmp_path / "authority")


# As an author sees it


TEST = "test_wsgiref.py::TestWsgiref::"


def edit(old: str, new: str) -> str:
    """The author's test module, changed."""
    text = (Path(__file__).parent / "example" / "test_wsgiref.py").read_text()
    assert text.count(old) == 1
    return text.replace(old, new)


def test_author_is_told_of_a_capability_without_a_setup(tmp_path: Path) -> None:
    test = edit('name="unix", unix=True', 'name="other"')
    folder = make_folder(tmp_path / "plugin", test_wsgiref=test)
    outcome = run_pytest(folder, f"{TEST}test_there_is_a_setup_for_each_capability")
    assert "Capabilities(unix_sockets=False)" in outcome.output


def test_failing_assertion_shows_its_values(tmp_path: Path) -> None:
    test = edit('server="wsgiref"', 'server="waitress"')
    folder = make_folder(tmp_path / "plugin", test_wsgiref=test)
    outcome = run_pytest(folder, f"{TEST}test_environs_of_other_servers_are_left_alone")
    # What pytest itself adds to a comparison.
    assert "Left contains 1 more item:" in outcome.output
    assert "{'wsgiref': \"raised NoSocket(" in outcome.output


def test_suite_without_setups_says_so(tmp_path: Path) -> None:
    test = "from flask_ws.testing import ServerSuite\nclass TestNothing(ServerSuite): ..."
    folder = make_folder(tmp_path / "plugin", test_wsgiref=test)
    assert "TestNothing has no setups" in run_pytest(folder).output


def test_author_may_start_the_server_himself(tmp_path: Path) -> None:
    test = edit(
        "    setups = (\n",
        """
    @pytest.fixture(scope="session")
    @classmethod
    def start_server(cls):
        def start(order):
            with order.log.open("ab") as log:
                pathlib.Path("started").touch()
                return subprocess.Popen(
                    [sys.executable, "serve.py", order.bind],
                    env=order.environ,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        return start

    setups = (
""",
    )
    folder = make_folder(
        tmp_path / "plugin", test_wsgiref=f"import pathlib, subprocess, sys, pytest\n{test}"
    )
    outcome = run_pytest(folder, f"{TEST}test_text_with_emoji_comes_back[plain]")
    assert outcome.tests("PASSED") == {"test_text_with_emoji_comes_back[plain]"}, outcome.output
    assert (folder / "started").exists()


WITHOUT_PYTEST = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("pytest", "psutil", "trustme", "websockets", "websocket"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())

import flask_ws.testing

assert callable(flask_ws.testing.connect)
import flask_ws.testing.suite.live

try:
    flask_ws.testing.ServerSuite
except ImportError as error:
    print(error)
"""


def test_without_the_extra_the_client_works_and_the_suite_names_the_extra(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_PYTEST],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == (
        'flask_ws.testing.ServerSuite needs pytest: pip install "flask-ws[testing]"\n'
    )
