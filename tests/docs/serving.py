"""Start a command or a script of a page as it is written there, on a port of ours."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from websockets.sync.client import ClientConnection, connect, unix_connect

from flask_ws.testing.suite.process import Timeout, find_port, wait_until

BIN = Path(sysconfig.get_path("scripts"))
START_SECONDS = 60
STOP_SECONDS = 10


@dataclass
class Served:
    """A server that was started in a folder."""

    folder: Path
    port: int
    tls: bool
    unix: bool
    #: Is it Gunicorn's, which has the workers in its charge?
    arbiter: bool
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @contextmanager
    def connect(
        self, path: str = "/echo", subprotocol: str | None = None
    ) -> Iterator[ClientConnection]:
        options: dict[str, Any] = {"open_timeout": 10, "close_timeout": 5}
        if subprotocol is not None:
            options["subprotocols"] = [subprotocol]
        if self.unix:
            options["path"] = self._unix_path
            with unix_connect(uri=f"ws://localhost{path}", **options) as client:
                yield client
            return
        if self.tls:
            options["ssl"] = self._tls_context
        scheme = "wss" if self.tls else "ws"
        url = f"{scheme}://localhost:{self.port}{path}"
        with connect(url, proxy=None, **options) as client:
            yield client

    def await_response(self) -> None:
        """Await the first response, whatever it is."""

        def probe() -> bool:
            assert self.process.poll() is None, f"it ended:\n{self.log}"
            # A server that is still starting may accept, and answer too late.
            with suppress(OSError), self._dial() as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return sock.recv(4) == b"HTTP"
            return False

        try:
            wait_until(probe, timeout=START_SECONDS, every=0.05)
        except Timeout:
            raise Timeout(f"it did not answer within {START_SECONDS} s:\n{self.log}") from None

    def _dial(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX if self.unix else socket.AF_INET)
        sock.settimeout(5)
        try:
            sock.connect(self._unix_path if self.unix else ("127.0.0.1", self.port))
            if self.tls:
                sock = self._tls_context.wrap_socket(sock, server_hostname="localhost")
        except BaseException:
            sock.close()
            raise
        return sock

    @property
    def _unix_path(self) -> str:
        # Relative to here: the path of a socket may be 107 bytes long.
        return os.path.relpath(self.folder / "app.sock")

    @property
    def _tls_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "authority.pem"))

    def stop(self) -> None:
        if self.arbiter:
            # Now and then its worker misses an interrupt that comes from the arbiter as well.
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        for number in (signal.SIGINT, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
                return


def write_certificate(folder: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    authority.cert_pem.write_to_path(folder / "authority.pem")


def replace_port(text: str, port: int) -> str:
    """The text with our own port, on the loopback interface alone, and two processes, not more."""
    text = re.sub(r"(--workers|--processes) \d+", r"\1 2", text)
    text = re.sub(r'\("", (5000|8000)\)', '("127.0.0.1", 5000)', text)
    text = re.sub(r"(-b|--http-socket) :(5000|8000)\b", r"\1 127.0.0.1:5000", text)
    text = re.sub(r"--port=(5000|8000)\b", "--listen=127.0.0.1:5000", text)
    return re.sub(r"\b(5000|8000)\b", str(port), text)


@contextmanager
def serve(
    command: str, *, folder: Path, bin_folder: Path = BIN, cwd: Path | None = None
) -> Iterator[Served]:
    """Start it in the folder, where the port in all scripts is replaced, not awaiting anything."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A background job of a shell ignores SIGINT, and its children would as well.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    port = find_port()
    scripts = [path.read_text() for path in folder.glob("*.py")]
    for path in folder.glob("*.py"):
        path.write_text(replace_port(path.read_text(), port))
    tls = any("cert.pem" in text for text in [command, *scripts])
    if tls:
        write_certificate(folder)
    program, *arguments = shlex.split(replace_port(command, port))
    if program == "flask":
        arguments += ["--port", str(port)]
    elif program in ("uvicorn", "granian") and not {"--port", "--uds"} & {*arguments}:
        arguments[:0] = ["--port", str(port)]
    elif program in ("gunicorn", "hypercorn") and "-b" not in arguments:
        arguments[:0] = ["-b", f"127.0.0.1:{port}"]
    variables = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("FLASK_", "WERKZEUG_", "PYTEST_"))
    }
    variables |= {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        # Newer versions of gunicorn leave a socket in the home directory.
        "HOME": str(folder),
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [str(bin_folder / program), *arguments],
            cwd=cwd or folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    served = Served(folder, port, tls, "app.sock" in command, program == "gunicorn", process)
    try:
        yield served
    finally:
        served.stop()
