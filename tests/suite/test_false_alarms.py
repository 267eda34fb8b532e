"""What fails is what the plugin does wrong, and the report says what that is."""

from __future__ import annotations

import re
import textwrap

import pytest

from flask_ws.testing.suite.log import find_tracebacks

from .authors import EXAMPLE, make_folder, run_pytest

# Some run pytest anew, which starts a server anew.
pytestmark = pytest.mark.timeout(240)

CHAIN = """\
Traceback (most recent call last):
  File "app.py", line 1, in close
OSError: gone,
and that is all

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "app.py", line 2, in close
{}
"""


@pytest.mark.parametrize(
    ("last", "found"), [("KeyboardInterrupt", []), ("app.Error: no", ["app.Error"])]
)
def test_of_tracebacks_that_led_to_each_other_the_last_one_counts(
    last: str, found: list[str]
) -> None:
    assert [each.error for each in find_tracebacks(CHAIN.format(last))] == found


PIECES = (
    "Traceback (most recent call last):\n",
    '  File "app.py", line 1, in run\n',
    "    serve()\n",
)
OTHERS = (
    'LIVE {"event": "end", "tag": "t1"}\n',
    "DEBUG flask_ws WebSocket 127.0.0.1 /echo closed: 1001\n",
    '127.0.0.1 - - [30/Nov/2026] "GET /echo HTTP/1.1" 101 -\n',
)


@pytest.mark.parametrize(("last", "found"), [("KeyboardInterrupt", 0), ("ValueError: no", 1)])
@pytest.mark.parametrize("other", OTHERS)
def test_other_lines_in_a_traceback_are_no_part_of_it(other: str, last: str, found: int) -> None:
    log = other.join((*PIECES, f"{last}\n"))
    assert len(find_tracebacks(log)) == found
    for traceback in find_tracebacks(log):
        assert traceback.text == "".join(PIECES) + last


@pytest.mark.parametrize("other", OTHERS[:2])
def test_a_record_may_cut_a_line_of_a_traceback(other: str) -> None:
    """A traceback is written piece by piece, a record whole."""
    log = "".join((*PIECES[:1], '  File "ap', other, 'p.py", line 1, in run\n', "Error: no\n"))
    (traceback,) = find_tracebacks(log)
    assert traceback.text == "".join(PIECES[:2]) + "Error: no"


def test_two_tracebacks_are_two() -> None:
    log = "".join((*PIECES, "Error: one\n", "other\n", *PIECES, "app.Other: two\n"))
    assert [each.error for each in find_tracebacks(log)] == ["Error", "app.Other"]


# As an author sees it


TESTS = """
from flask_ws.testing.suite.base import tracebacks


class TestReports(TestWsgiref):
    setups = (PLAIN,)

    def test_a_leaves_a_traceback_in_time(self, server):
        with server.connect("/raise") as peer:
            peer.read()
            peer.answer_close()

    def test_b_leaves_a_traceback_late(self, server):
        assert server.get("/late-traceback").text == "late"

    def test_c_is_not_to_blame(self, server):
        server.log.find("ValueError: late")

    def test_d_waits_in_vain(self, server):
        with server.connect("/hold") as peer:
            assert peer.read() == "held"
            peer.sock.settimeout(0.5)
            peer.read()

    def test_e_is_wrong(self, server):
        assert server.get("/http").text == "something else"
"""

LATE = """
import threading, time
from flask_ws.testing.suite.live import app

def fail():
    time.sleep(0.5)
    raise ValueError("late")

@app.get("/late-traceback")
def late():
    threading.Thread(target=fail, daemon=True).start()
    return "late"
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of a few tests of an author's own."""
    test = (EXAMPLE / "test_wsgiref.py").read_text() + textwrap.dedent(TESTS)
    serve = (EXAMPLE / "serve.py").read_text().replace("\naddress,", f"{LATE}\naddress,")
    folder = make_folder(
        tmp_path_factory.mktemp("author") / "plugin", test_wsgiref=test, serve=serve
    )
    names = re.findall(r"def (test_[a-e]_\w+)", TESTS)
    return run_pytest(folder, *(f"test_wsgiref.py::TestReports::{name}" for name in names)).output


def read_report(output: str, name: str) -> str:
    """What is said of one test."""
    parts = re.split(r"^_+ (.+?) _+$", output, flags=re.MULTILINE)
    return "".join(
        text for title, text in zip(parts[1::2], parts[2::2], strict=True) if name in title
    )


def test_a_traceback_that_should_not_be_there_is_shown(output: str) -> None:
    report = read_report(output, "test_a_leaves")
    assert "1 tracebacks in the log of plain, and 0 are expected:" in report
    assert "RuntimeError: failed on purpose" in report


def test_a_late_traceback_is_not_blamed_on_the_next_test(output: str) -> None:
    assert "PASSED test_wsgiref.py::TestReports::test_c_is_not_to_blame[plain]" in output


def test_a_late_traceback_is_told_with_the_test_before_it(output: str) -> None:
    """At the end, when the server stops."""
    assert re.search(
        r"after the end of test_b_leaves_a_traceback_late\[plain\]:\n"
        r"E +Traceback \(most recent call last\):\n(E  .*\n)+?E +ValueError: late",
        output,
    ), output


def test_a_test_that_fails_shows_the_log_of_its_server(output: str) -> None:
    report = read_report(output, "test_e_is_wrong")
    assert "Log of the server plain" in report
    assert '"GET /http HTTP/1.1" 200' in report


def test_a_test_that_waits_in_vain_shows_where_the_servers_threads_are(output: str) -> None:
    report = read_report(output, "test_d_waits")
    assert "(most recent call first)" in report
    # The handler is in receive().
    assert re.search(r"handlers.py\", line \d+ in hold", report)
