"""The suite fails for a bad plugin, and the test that catches it is about what is bad."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from .authors import EXAMPLE, make_folder, run_pytest

# Each runs pytest anew, which starts a server anew.
pytestmark = pytest.mark.timeout(240)

HONEST = (EXAMPLE / "flask_ws_wsgiref.py").read_text()


@dataclass(frozen=True)
class Fault:
    """A plugin that differs from the honest one in one place."""

    name: str
    #: Text of the honest plugin, and what takes its place.
    old: str
    new: str
    #: The test that catches it.
    caught: str

    def __str__(self) -> str:
        return self.name

    def plugin(self) -> str:
        assert HONEST.count(self.old) == 1
        return HONEST.replace(self.old, self.new)


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
)

CAUGHT = sorted({fault.caught for fault in FAULTS})


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_bad_plugin_is_caught(fault: Fault, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "plugin", flask_ws_wsgiref=fault.plugin())
    test = f"test_wsgiref.py::TestWsgiref::{fault.caught}"
    outcome = run_pytest(folder, test, FLASK_WS_SUITE_PATIENCE="3")
    assert fault.caught in outcome.tests("FAILED"), outcome.output


def test_the_honest_plugin_passes_the_same_tests(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "plugin")
    outcome = run_pytest(folder, *(f"test_wsgiref.py::TestWsgiref::{test}" for test in CAUGHT))
    assert outcome.tests("PASSED") == set(CAUGHT), outcome.output
