"""CPython for Windows, on its own system or where `.ci/wine` has made one."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import trustme
from tests.support.raw import Peer
from tests.support.redis import RedisServer

from flask_ws.system import WINDOWS

PYTHON = sys.executable if WINDOWS else os.environ.get("FLASK_WS_WINE", "")
APPS = Path(__file__).parent / "apps"
#: Wine takes its time.
START_SECONDS = 120.0
PATIENCE = 15.0
MARK = "FLASK_WS_WINE_PROCESS"

pytestmark = [
    pytest.mark.timeout(3 * START_SECONDS),
    pytest.mark.skipif(not PYTHON, reason="no CPython for Windows: see .ci/wine"),
    pytest.mark.slow,
]


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)


def find_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


class Process:
    """A Windows process: what it writes is kept."""

    def __init__(self, *arguments: str, **environ: str) -> None:
        self.output = ""
        # Its children know it by this, whoever is their parent in Wine.
        self._mark = uuid.uuid4().hex
        # Wine gives Python no standard streams but pipes.
        self.process = subprocess.Popen(
            [PYTHON, *arguments],
            cwd=APPS,
            env={**os.environ, **environ, "FLASK_APP": "windows_app", MARK: self._mark},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while data := os.read(self.process.stdout.fileno(), 65536):
            self.output += data.decode(errors="replace").replace("\r\n", "\n")

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self, timeout: float = START_SECONDS) -> int:
        code = self.process.wait(timeout)
        self._reader.join(PATIENCE)
        return code

    def close(self) -> None:
        for each in psutil.process_iter():
            with suppress(psutil.Error):
                if each.environ().get(MARK) == self._mark:
                    each.kill()
        self.process.wait()
        self._reader.join(PATIENCE)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(OSError):
                stream.close()


class Server:
    """A Windows process that listens."""

    def __init__(self, process: Process, port: int, tls: ssl.SSLContext | None = None) -> None:
        self.process = process
        self.port = port
        self._tls = tls
        self.peers: list[Peer] = []
        wait_for(self._is_up)

    def _is_up(self) -> bool:
        if self.process.process.poll() is not None:
            raise AssertionError(self.process.output)
        try:
            # With a reloader, the socket listens before there is anybody to answer.
            return self.get("/publish/x") == "x"
        except OSError:
            return False

    def _open(self) -> Peer:
        sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        if self._tls is not None:
            sock = self._tls.wrap_socket(sock, server_hostname="127.0.0.1")
        self.peers.append(Peer(sock, timeout=PATIENCE))
        return self.peers[-1]

    def connect(self, path: str) -> Peer:
        return self._open().upgrade(path)

    def get(self, path: str) -> str:
        peer = self._open()
        peer.send_request(path)
        response = peer.read_response()
        assert response.status == 200, self.process.output
        return response.body.decode()


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server; it listens on the port that takes the place of PORT."""
    made: list[Server] = []
    processes: list[Process] = []

    def serve(*arguments: str, tls: ssl.SSLContext | None = None, **environ: str) -> Server:
        port = find_port()
        process = Process(*(each.replace("PORT", str(port)) for each in arguments), **environ)
        processes.append(process)
        made.append(Server(process, port, tls))
        return made[-1]

    yield serve
    for server in made:
        for peer in server.peers:
            peer.sock.close()
    for process in processes:
        process.close()
    for process in processes:
        assert "Traceback" not in process.output, process.output


FLASK_RUN = ("-m", "flask", "run", "--port", "PORT")
SERVERS = {
    "flask run": FLASK_RUN,
    "flask run, without threads": (*FLASK_RUN, "--without-threads"),
    "flask run, debug": (*FLASK_RUN, "--debug"),
    "waitress": ("-m", "waitress", "--listen", "127.0.0.1:PORT", "windows_app:app"),
    "gevent": ("windows_gevent.py", "PORT"),
    "gevent, patched": ("windows_gevent.py", "PORT", "patched"),
}


def test_the_test_client_works() -> None:
    process = Process("windows_client.py")
    try:
        code = process.wait()
    finally:
        process.close()

    assert (code, process.output) == (0, "all is well\n")


def check_echo(peer: Peer) -> None:
    for message in ("hello", "x" * 300_000):
        peer.send(message)
        assert peer.read() == message
    assert peer.close().close_code == 1000
    peer.expect_end()


@pytest.mark.parametrize("name", SERVERS)
def test_messages_and_closes_go_both_ways(serve: Serve, name: str) -> None:
    server = serve(*SERVERS[name])
    for path in ("/echo", "/view", "/echo"):
        check_echo(server.connect(path))


@pytest.mark.parametrize("name", SERVERS)
def test_the_server_goes_on_with_http(serve: Serve, name: str) -> None:
    server = serve(*SERVERS[name])
    peer = server.connect("/view")
    peer.close()

    assert server.get("/publish/hello") == "hello"


@pytest.mark.skipif(WINDOWS, reason="there a process of another's can be sent no Ctrl-C")
@pytest.mark.parametrize("path", ["/echo", "/view"])
def test_ctrl_c_says_goodbye(serve: Serve, path: str) -> None:
    server = serve(*FLASK_RUN)
    peer = server.connect(path)
    peer.send("hello")
    assert peer.read() == "hello"
    server.process.process.send_signal(signal.SIGINT)

    assert peer.read_close().close_code == 1001
    server.process.wait(PATIENCE)


@pytest.mark.parametrize("path", ["/impatient", "/impatient-view"])
def test_a_peer_that_answers_no_ping_is_lost(serve: Serve, path: str) -> None:
    server = serve(*FLASK_RUN)
    server.connect(path)

    assert server.get("/ended") == "1006"


def test_messages_and_closes_go_both_ways_over_tls(serve: Serve, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    certificate.private_key_pem.write_to_path(key)
    certificate.cert_chain_pems[0].write_to_path(chain)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    files = "--cert", name_there(chain), "--key", name_there(key)
    server = serve(*FLASK_RUN, *files, tls=context)
    for path in ("/echo", "/view"):
        check_echo(server.connect(path))


def name_there(path: Path) -> str:
    """Return the name that a file has for Windows' programs."""
    return str(path) if WINDOWS else "Z:" + str(path).replace("/", "\\")


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path).running() as server:
        yield server


def test_publications_come_through_redis(serve: Serve, redis: RedisServer) -> None:
    """From the process itself, and from ``flask ws publish``."""
    # Wine does not know the options that redis-py sets for keepalive, as Windows does.
    url = f"redis://127.0.0.1:{redis.port}?socket_keepalive=no"
    server = serve(*FLASK_RUN, BROKER_URL=url)
    peer = server.connect("/channel")
    assert peer.read() == "subscribed"
    server.get("/publish/hello")
    assert peer.read() == "hello"

    process = Process("-m", "flask", "ws", "publish", "news", "from elsewhere", BROKER_URL=url)
    try:
        assert process.wait() == 0, process.output
    finally:
        process.close()
    assert peer.read() == "from elsewhere"


def test_flask_ws_connect_sends_what_is_typed(serve: Serve) -> None:
    server = serve(*FLASK_RUN)
    process = Process("-m", "flask", "ws", "connect", f"ws://127.0.0.1:{server.port}/echo")
    try:
        process.type("hello\r\n")
        wait_for(lambda: "hello" in process.output)
        process.end_input()

        assert process.wait() == 0
        assert "Closed: 1000" in process.output
    finally:
        process.close()
