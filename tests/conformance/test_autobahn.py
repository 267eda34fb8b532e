"""The Autobahn fuzzing client against a live echo route, on each server.

The client, `wstest`, runs on CPython 2.7 only. Its environment is made once, in `.cache/wstest`.

With `FLASK_WS_AUTOBAHN=all` no case is left out, on any server.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.support.setups import EVERYWHERE

from flask_ws.testing.suite.log import find_tracebacks

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache"
REQUIREMENTS = HERE / "wstest-requirements.txt"
# The last virtualenv that makes environments for CPython 2.7.
VIRTUALENV = "virtualenv==20.15.1"

# Each tuple is one run of wstest; a few run at once, since many cases only wait.
PROTOCOL = (("1.*", "2.*", "3.*", "4.*"), ("5.*",), ("6.*", "10.*"), ("7.*",))
# The dearest first, so that no long run is left over at the end.
LIMITS_AND_COMPRESSION = (
    ("12.1.*",),
    ("12.2.*",),
    ("9.*",),
    ("12.3.*", "12.4.*", "12.5.*"),
    ("13.1.*", "13.2.*", "13.3.*", "13.4.*"),
    ("13.5.*", "13.6.*", "13.7.*"),
)
PROTOCOL_CASES = 247
#: How Uvicorn, with this library, answers any app's client that closes in the middle of a message.
UVICORNS_OWN = {"7.1.5"}
ALL_CASES = 517
# Groups 12 and 13 send the same 18 loads, each with another content or offer; those of more than 16
# KiB a message take most of the time. 12.1, which is text, has all loads; 12.2, which is binary,
# one of the large ones in fragments; the others none of the large ones, and not those of 8 KiB, or
# 16 KiB in fragments, which are like the next smaller one.
EXCLUDED = [
    # 12.1 again: the same content, and no offer is the default one.
    *(f"13.1.{case}" for case in range(1, 19)),
    *(f"12.2.{case}" for case in (13, 14, 15, 16, 17)),
    *(
        f"{group}.{case}"
        for group in ("12.3", "12.4", "12.5", "13.2", "13.3", "13.4", "13.5", "13.6", "13.7")
        for case in (6, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18)
    ),
]
WHOLE = os.environ.get("FLASK_WS_AUTOBAHN") == "all"
if WHOLE:
    EXCLUDED = []

START_TIMEOUT = 30
STOP_TIMEOUT = 15
# On two idle cores: 6 s for cases 1 to 7, up to 190 s for a run of 12 or 13.
RUN_TIMEOUT = 120
LONG_RUN_TIMEOUT = 3600 if WHOLE else 900

# All runs of one server together; the first test also makes the environment.
pytestmark = pytest.mark.timeout(7200 if WHOLE else 1800)


@dataclass(frozen=True)
class Server:
    """How one server is started; `{port}` stands for its port."""

    name: str
    command: tuple[str, ...]
    runs: tuple[tuple[str, ...], ...] = PROTOCOL
    cases: int = PROTOCOL_CASES
    path: str = "/echo"
    # Whether flask-ws reads the frames, and not the server, whose own faults are not ours.
    frames: bool = True

    def accepts(self, case: Case) -> bool:
        """Tell whether a case shows no fault that could be ours."""
        if self.frames:
            return case.passed
        return case.name in UVICORNS_OWN or replace(case, behavior=case.strict).passed


@dataclass(frozen=True)
class Case:
    """What the fuzzing client says about one case."""

    name: str
    behavior: str
    close: str
    explanation: str

    @property
    def strict(self) -> str:
        """Its behaviour, if what came before an error may be lost."""
        return "OK" if self.behavior == "NON-STRICT" else self.behavior

    @property
    def passed(self) -> bool:
        allowed = {"OK", "INFORMATIONAL"}
        return self.behavior in allowed and self.close in allowed

    def __str__(self) -> str:
        return f"{self.name}: {self.behavior}, close {self.close}: {self.explanation}"


@dataclass(frozen=True)
class Outcome:
    """All that one server's run left behind."""

    server: Server
    cases: list[Case]
    log: str


def gunicorn(*options: str) -> tuple[str, ...]:
    bind = ("-b", "127.0.0.1:{port}")
    # The control socket would be a file under $HOME that all gunicorns share.
    return ("-m", "gunicorn", *bind, "--no-control-socket", *options, "echo_app:app")


def script(*lines: str) -> tuple[str, ...]:
    return ("-c", "; ".join(lines))


EVENTLET = (
    "from eventlet import wsgi",
    "from echo_app import app",
    "wsgi.server(eventlet.listen(('127.0.0.1', {port})), app)",
)
GEVENT = (
    "from gevent.pywsgi import WSGIServer",
    "from echo_app import app",
    "WSGIServer(('127.0.0.1', {port}), app).serve_forever()",
)


def uvicorn(ws: str) -> tuple[str, ...]:
    return ("-m", "uvicorn", "--port", "{port}", "--ws", ws, "echo_asgi:asgi")


UVICORN = uvicorn("websockets-sansio")

SERVERS: tuple[Server, ...] = (
    Server("werkzeug", ("-m", "flask", "--app", "echo_app", "run", "--port", "{port}")),
    Server(
        "gunicorn-threads",
        gunicorn("--threads", "100"),
        runs=(*LIMITS_AND_COMPRESSION, *PROTOCOL),
        cases=ALL_CASES - len(EXCLUDED),
    ),
    Server("gunicorn-threads-view", gunicorn("--threads", "4"), path="/view"),
    Server("gunicorn-threads-asyncio", gunicorn("--threads", "4"), path="/async"),
    Server(
        "gunicorn-threads-uvloop",
        gunicorn("--threads", "4", "--env", "ECHO_LOOP=uvloop"),
        path="/async",
    ),
    Server("gunicorn-sync", gunicorn()),
    Server("gunicorn-gevent", gunicorn("--worker-class", "gevent")),
    Server("gunicorn-gevent_pywsgi", gunicorn("--worker-class", "gevent_pywsgi")),
    Server("gunicorn-eventlet", gunicorn("--worker-class", "flask_ws_eventlet.EventletWorker")),
    Server("eventlet", script("import eventlet", "eventlet.monkey_patch()", *EVENTLET)),
    Server("eventlet-unpatched", script("import eventlet", *EVENTLET)),
    Server("gevent", script("from gevent import monkey", "monkey.patch_all()", *GEVENT)),
    Server("gevent-unpatched", script(*GEVENT)),
    # The frames are the server's; the messages and the ends of connections are ours.
    Server("uvicorn", UVICORN, frames=False),
)
if EVERYWHERE:
    SERVERS = (
        *SERVERS,
        Server("uvicorn-view", UVICORN, path="/view", frames=False),
        Server("uvicorn-async", UVICORN, path="/async", frames=False),
        Server("uvicorn-websockets-async", uvicorn("websockets"), path="/async", frames=False),
        Server("uvicorn-wsproto-async", uvicorn("wsproto"), path="/async", frames=False),
    )
if WHOLE:
    every = (*LIMITS_AND_COMPRESSION, *PROTOCOL)
    SERVERS = tuple(replace(server, runs=every, cases=ALL_CASES) for server in SERVERS)


def pyenv_versions() -> Path | None:
    root = os.environ.get("PYENV_ROOT")
    if root is None and (pyenv := shutil.which("pyenv")):
        root = subprocess.run(
            [pyenv, "root"], capture_output=True, text=True, timeout=30, check=False
        ).stdout.strip()
    return Path(root) / "versions" if root else None


def find_cpython27() -> str | None:
    """The first CPython 2.7 that runs: on PATH, or one of pyenv's."""
    candidates = [path for name in ("python2.7", "python2") if (path := shutil.which(name))]
    if versions := pyenv_versions():
        candidates += sorted(map(str, versions.glob("2.7*/bin/python2.7")), reverse=True)
    probe = "import platform as p, sys; print(p.python_implementation()); print(sys.executable)"
    for candidate in candidates:
        # A shim of pyenv is on PATH even where the version behind it is not selected.
        found = subprocess.run(
            [candidate, "-c", probe + "; assert sys.version_info[:2] == (2, 7)"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if found.returncode == 0 and found.stdout.startswith("CPython\n"):
            return found.stdout.splitlines()[1]
    return None


def run_checked(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def make_environment(python: str, home: Path) -> None:
    """An environment with the fuzzing client, unless it is there already."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "wstest.lock").open("w") as lock:
        # Two test sessions in one checkout share the environment.
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = home / REQUIREMENTS.name
        if stamp.exists() and stamp.read_bytes() == REQUIREMENTS.read_bytes():
            return
        uv = shutil.which("uv")
        assert uv is not None, "uv is needed to make the environment of the fuzzing client"
        # The interpreter of the tests is one that is surely there, and does for virtualenv.
        virtualenv = [uv, "tool", "run", "--python", sys.executable, "--from", VIRTUALENV]
        run_checked([*virtualenv, "virtualenv", "--clear", "--python", python, str(home)])
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        run_checked([*pip, "--requirement", str(REQUIREMENTS)])
        # Written last: an environment that was cut short has no stamp.
        stamp.write_bytes(REQUIREMENTS.read_bytes())


@pytest.fixture(scope="module")
def wstest() -> str:
    python = find_cpython27()
    if python is None:
        pytest.skip("no CPython 2.7 found, which the Autobahn fuzzing client needs")
    home = CACHE / "wstest"
    make_environment(python, home)
    return str(home / "bin" / "wstest")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def wait_until_listening(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(START_TIMEOUT * 10):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            # Waiting for the process is the pause, and notices one that died.
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            break
        else:
            return
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        # The group is this server's own: its master and its workers.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_TIMEOUT)


def fuzz(wstest: str, url: str, cases: tuple[str, ...], home: Path) -> list[Case]:
    """One run of the fuzzing client."""
    home.mkdir()
    spec = {
        "outdir": str(home),
        "servers": [{"agent": "flask-ws", "url": url}],
        "cases": list(cases),
        "exclude-cases": EXCLUDED,
        "exclude-agent-cases": {},
    }
    (home / "spec.json").write_text(json.dumps(spec))
    log = home / "wstest.log"
    with log.open("wb") as output, contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            [wstest, "-m", "fuzzingclient", "-s", str(home / "spec.json")],
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=LONG_RUN_TIMEOUT if cases in LIMITS_AND_COMPRESSION else RUN_TIMEOUT,
            check=False,
        )
    index = home / "index.json"
    if not index.exists():
        # It waits for ever for a server that does not end the connection.
        return [Case(" ".join(cases), "NO REPORT", "unknown", log.read_text()[-200:])]
    entries = json.loads(index.read_text())["flask-ws"]
    return [read_case(home, name, entry) for name, entry in entries.items()]


def read_case(home: Path, name: str, entry: dict[str, str]) -> Case:
    case = Case(name, entry["behavior"], entry["behaviorClose"], "")
    if case.passed:
        return case
    report = json.loads((home / entry["reportfile"]).read_text())
    explanation = f"{report['result']} {report['resultClose']} {home / entry['reportfile']}"
    return Case(name, case.behavior, case.close, explanation)


@pytest.fixture(scope="module", params=[pytest.param(server, id=server.name) for server in SERVERS])
def outcome(
    request: pytest.FixtureRequest, wstest: str, tmp_path_factory: pytest.TempPathFactory
) -> Outcome:
    server: Server = request.param
    home = tmp_path_factory.mktemp(server.name)
    log = home / "server.log"
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *(part.format(port=port) for part in server.command)],
            cwd=HERE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_listening(process, port, log)
        url = f"ws://127.0.0.1:{port}{server.path}"
        with ThreadPoolExecutor(max(4, os.cpu_count() or 1)) as pool:
            runs = [
                pool.submit(fuzz, wstest, url, cases, home / str(number))
                for number, cases in enumerate(server.runs)
            ]
            cases = [case for run in runs for case in run.result()]
    finally:
        stop(process)
    return Outcome(server, cases, log.read_text(errors="replace"))


def test_no_case_fails(outcome: Outcome) -> None:
    """Every case is OK or INFORMATIONAL, its close too, and none is left out."""
    failed = [str(case) for case in outcome.cases if not outcome.server.accepts(case)]
    if failed:
        count = f"{len(failed)} of {len(outcome.cases)} cases:"
        pytest.fail("\n".join((count, *failed)), pytrace=False)
    assert len(outcome.cases) == outcome.server.cases


def test_no_case_leaves_a_traceback(outcome: Outcome) -> None:
    """Whatever a client sends, it is no error of the server."""
    found = [each.text for each in find_tracebacks(outcome.log)]
    ours = [text for text in found if outcome.server.frames or "flask_ws" in text]
    assert not ours, "\n".join(ours)[:3000]
