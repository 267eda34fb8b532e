"""The suite fails for a bad plugin, and the test that catches it is about what is bad."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from .authors import EXAMPLE, make_folder, run_pytest

# Each runs pytest anew, which starts a server anew.
pytestmark = pytest.mark.timeout(240)


@dataclass(frozen=True)
class Fault:
    """A plugin that differs from the honest one in one place."""

    name: str
    #: Text of the honest plugin, and what takes its place.
    old: str
    new: str
    #: The test that catches it.
    caught: str
    #: What is changed of its server, which makes it matter.
    serve: tuple[str, str] = ("", "")

    def __str__(self) -> str:
        return self.name

    def make_folder(self, folder: Path) -> Path:
        return make_folder(
            folder,
            flask_ws_wsgiref=edit("flask_ws_wsgiref", self.old, self.new) + PARTS,
            serve=edit("serve", *self.serve),
        )


def edit(module: str, old: str, new: str) -> str:
    """A module of the example, changed in one place."""
    text = (EXAMPLE / f"{module}.py").read_text()
    assert not old or text.count(old) == 1, old
    return text.replace(old, new) if old else text


#: Of what bad plugins are made.
PARTS = """
import socket
import threading
import time
from dataclasses import dataclass
from flask_ws import Concurrency

pair = socket.socketpair()

def always():
    return True

def slowly():
    time.sleep(1)
    return False

began = []

@dataclass(frozen=True)
class Late:
    asked: object

    def __call__(self):
        if self.asked():
            began.append(time.monotonic())
        return bool(began) and time.monotonic() > began[0] + 6

class Lasting(Concurrency):
    def spawn(self, target, name):
        threading.Thread(target=target, name=name, daemon=False).start()

class Same(Concurrency):
    def get_ident(self):
        return 1
"""

#: Lines of the honest plugin.
SOCK = "    sock = reader.raw._sock\n"
IS_STOPPING = 'is_stopping=environ["wsgiref.is_stopping"]'
#: A server that waits for its requests before it ends.
PATIENT = ("daemon_threads = True", "daemon_threads = False")

FAULTS = (
    Fault(
        "loses read-ahead bytes",
        "        read_ahead=functools.partial(take_buffered, reader, sock),\n",
        "",
        "test_20_frames_in_the_segment_of_the_handshake_are_answered[plain]",
    ),
    Fault(
        "loses read-ahead bytes but for the first",
        "read_ahead=functools.partial(take_buffered, reader, sock)",
        "read_ahead=lambda: reader.read1(3)",
        "test_half_a_frame_in_the_segment_of_the_handshake_is_kept[plain]",
    ),
    Fault(
        "forgets the unix case",
        "    reader = environ",
        "    int(environ['REMOTE_ADDR'].replace('.', ''))\n    reader = environ",
        "test_binary_message_comes_back[unix-126]",
    ),
    Fault(
        "claims a foreign environ",
        'not environ.get("SERVER_SOFTWARE", "").startswith("WSGIServer/")',
        'not hasattr(environ["wsgi.input"], "raw")',
        "test_environs_of_other_servers_are_left_alone[plain]",
    ),
    Fault(
        "fails at a foreign environ",
        'environ.get("SERVER_SOFTWARE", "")',
        'environ["SERVER_SOFTWARE"]',
        "test_environs_of_other_servers_are_left_alone[plain]",
    ),
    Fault(
        "leaks a descriptor",
        "    return ServerSocket(",
        '    globals().setdefault("kept", []).append(open("/dev/null"))\n    return ServerSocket(',
        "test_nothing_is_left_of_connections_that_ended[plain]",
    ),
    Fault(
        "leaves the socket to the server",
        "        sock,\n        read_ahead",
        "        sock.dup(),\n        read_ahead",
        "test_17_websocket_that_ended_normally_has_an_access_line[plain]",
    ),
    Fault(
        "leaves the socket to the server at once",
        "        sock,\n        read_ahead",
        "        sock.dup(),\n        detach=True,\n        read_ahead",
        # Quiet until the server has its worker back: a busy one may be gone before.
        "test_quiet_peer_is_pinged[plain]",
    ),
    # What the hook is to leave alone
    Fault(
        "leaves in the server's buffer what it returns",
        "@hookimpl\n",
        """
def take_buffered(reader, sock):
    sock.setblocking(False)
    try:
        return bytes(reader.peek(1))
    except BlockingIOError:
        return b""
    finally:
        sock.setblocking(True)

@hookimpl
""",
        "test_request_in_the_segment_of_the_handshake_never_reaches_the_app[plain]",
    ),
    Fault(
        "takes for handshakes that are refused",
        "functools.partial(take_buffered, reader, sock)",
        "take_buffered(reader, sock)",
        "test_nothing_is_taken_for_a_handshake_that_is_refused[plain]",
    ),
    Fault(
        "changes the timeout of the socket",
        SOCK,
        f"{SOCK}    sock.settimeout(7)\n",
        "test_hook_leaves_the_timeout_of_the_socket_as_it_is[plain]",
    ),
    Fault(
        "changes the blocking mode of the descriptor",
        SOCK,
        f"{SOCK}    __import__('os').set_blocking(sock.fileno(), False)\n",
        "test_hook_leaves_the_timeout_of_the_socket_as_it_is[plain]",
    ),
    Fault(
        "sets a timeout that the next request runs into",
        SOCK,
        f"{SOCK}    sock.settimeout(0.05)\n",
        "test_slow_request_after_a_handshake_that_is_refused_is_answered[plain]",
    ),
    Fault(
        "changes the environ",
        SOCK,
        f"{SOCK}    environ['wsgi.input'] = None\n",
        "test_hook_leaves_the_environ_as_it_is[plain]",
    ),
    Fault(
        "gives a duplicate",
        "        sock,\n        read_ahead",
        "        sock.dup(),\n        read_ahead",
        "test_hook_gives_the_servers_own_socket[plain]",
    ),
    Fault(
        "gives another socket than the client's",
        "        sock,\n        read_ahead",
        "        pair[0],\n        read_ahead",
        "test_hook_gives_the_connection_of_the_client[plain]",
    ),
    Fault(
        "takes a second",
        SOCK,
        f"{SOCK}    __import__('time').sleep(1)\n",
        "test_hook_does_not_take_long[plain]",
    ),
    Fault(
        "keeps every environ",
        SOCK,
        f"{SOCK}    globals().setdefault('kept', []).append(environ)\n",
        "test_nobody_keeps_the_environs_of_handshakes[plain]",
    ),
    # What it returns
    Fault(
        "says that the server stops while it runs",
        IS_STOPPING,
        "is_stopping=always",
        "test_is_stopping_is_false_while_the_server_runs[plain]",
    ),
    Fault(
        "takes a second to say whether the server stops",
        IS_STOPPING,
        "is_stopping=slowly",
        "test_is_stopping_does_not_take_long[plain]",
    ),
    Fault(
        "asks for each connection anew whether the server stops",
        IS_STOPPING,
        "is_stopping=lambda: False",
        "test_is_stopping_is_equal_for_all_connections[plain]",
    ),
    Fault(
        "never says that the server stops",
        f"        {IS_STOPPING},\n",
        "",
        "test_stopping_server_says_goodbye_and_is_gone[plain]",
        PATIENT,
    ),
    Fault(
        "says too late that the server stops",
        IS_STOPPING,
        'is_stopping=Late(environ["wsgiref.is_stopping"])',
        "test_stopping_server_says_goodbye_and_is_gone[plain]",
        PATIENT,
    ),
    Fault(
        "leaves handlers no time",
        "detachable=True,\n",
        "detachable=True,\n        stop_timeout=0,\n",
        "test_handler_has_time_to_tidy_up[plain]",
    ),
    Fault(
        "leaves handlers a minute",
        "detachable=True,\n",
        "detachable=True,\n        stop_timeout=60,\n",
        "test_handler_without_end_holds_up_the_stop_no_longer_than_declared[plain]",
    ),
    Fault(
        "has another time for handlers than is declared",
        "detachable=True,\n",
        "detachable=True,\n        stop_timeout=3,\n",
        "test_fields_agree_with_the_capabilities[plain]",
    ),
    Fault(
        "spawns threads that keep the process alive",
        "detachable=True,\n",
        "detachable=True,\n        concurrency=Lasting(),\n",
        "test_concurrency_runs_functions_beside_each_other[plain]",
    ),
    Fault(
        "gives all threads one identity",
        "detachable=True,\n",
        "detachable=True,\n        concurrency=Same(),\n",
        "test_concurrency_runs_functions_beside_each_other[plain]",
    ),
)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_bad_plugin_is_caught(fault: Fault, tmp_path: Path) -> None:
    folder = fault.make_folder(tmp_path / "plugin")
    test = f"test_wsgiref.py::TestWsgiref::{fault.caught}"
    outcome = run_pytest(folder, test, FLASK_WS_SUITE_PATIENCE="3")
    assert fault.caught in outcome.tests("FAILED"), outcome.output


@pytest.mark.parametrize("serve", [("", ""), PATIENT], ids=["daemons", "patient"])
def test_the_honest_plugin_passes_the_same_tests(tmp_path: Path, serve: tuple[str, str]) -> None:
    folder = make_folder(tmp_path / "plugin", serve=edit("serve", *serve))
    tests = {fault.caught for fault in FAULTS if fault.serve == serve}
    outcome = run_pytest(folder, *(f"test_wsgiref.py::TestWsgiref::{test}" for test in tests))
    assert outcome.tests("PASSED") == tests, outcome.output


# What the author declares


@pytest.mark.parametrize(
    ("capability", "caught"),
    [
        ("keep_alive", "test_server_that_keeps_connections_open_declares_it[plain]"),
        ("access_log", "test_server_that_has_an_access_log_declares_it[plain]"),
        ("graceful_stop", "test_server_that_stops_gracefully_declares_it[plain]"),
        ("detaching", "test_fields_agree_with_the_capabilities[plain]"),
    ],
)
def test_a_capability_that_is_declared_too_small_is_caught(
    tmp_path: Path, capability: str, caught: str
) -> None:
    """It would leave out tests that the plugin should pass."""
    test = edit(
        "test_wsgiref",
        '    server="wsgiref",\n',
        f'    server="wsgiref",\n    capabilities=Capabilities({capability}=False),\n',
    ).replace("import ServerSuite", "import Capabilities, ServerSuite")
    folder = make_folder(tmp_path / "plugin", test_wsgiref=test)
    outcome = run_pytest(folder, f"test_wsgiref.py::TestWsgiref::{caught}")
    assert caught in outcome.tests("FAILED"), outcome.output
    # It says so.
    assert f"{capability}=True" in outcome.output or f"'{capability}'" in outcome.output


def test_processes_that_are_declared_too_few_are_caught(tmp_path: Path) -> None:
    serve = edit(
        "serve",
        "server.set_app(app)\n",
        "server.set_app(app)\n__import__('os').fork()\n",
    )
    folder = make_folder(tmp_path / "plugin", serve=serve)
    caught = "test_server_that_runs_more_processes_declares_it[plain]"
    outcome = run_pytest(folder, f"test_wsgiref.py::TestWsgiref::{caught}")
    assert caught in outcome.tests("FAILED"), outcome.output
