"""Starts a server as a user would, and waits until it is ready."""

from __future__ import annotations

import ctypes
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .log import Log
from .server import Certificate, Server
from .setups import Setup
from .waiting import Timeout, wait_until

__all__ = [
    "APP",
    "Certificate",
    "Order",
    "Server",
    "StartProcess",
    "Timeout",
    "die_with_parent",
    "find_port",
    "start",
    "start_process",
    "wait_until",
]

#: The import string of the app under test.
APP = "flask_ws.testing.suite.live:app"

START_SECONDS = 30.0


def find_port() -> int:
    """A free port below the range that the kernel hands to clients."""
    for _ in range(200):
        port = random.randrange(20000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


PR_SET_PDEATHSIG = 1
if sys.platform == "linux":
    # Loaded here, because the child may not do so between fork and exec.
    LIBC = ctypes.CDLL(None)


def die_with_parent() -> None:
    """End this server when the test run is killed; Linux only."""
    if sys.platform == "linux":
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a function that starts a server gets."""

    setup: Setup
    #: The import string of the app to serve.
    app: str
    #: Where to listen: the host and port, or ``unix:`` and a path.
    bind: str
    port: int
    #: The certificate to use, if the setup uses TLS.
    certificate: Certificate
    #: Where the program is looked for first.
    bin_folder: Path
    #: The working directory.
    cwd: Path
    #: Arguments that go before the others.
    extra: str
    #: All variables of the environment.
    environ: Mapping[str, str]
    #: The file for standard output and standard error.
    log: Path

    def command(self) -> list[str]:
        """The command line, with everything filled in."""
        line = self.setup.command.format(
            app=self.app,
            bind=self.bind,
            host="127.0.0.1",
            port=self.port,
            socket=self.bind.removeprefix("unix:"),
            cert=self.certificate.cert,
            key=self.certificate.key,
        )
        program, *arguments = shlex.split(line)
        beside = self.bin_folder / program
        return [str(beside) if beside.exists() else program, *shlex.split(self.extra), *arguments]


#: Starts a server as its order says, in a session of its own.
StartProcess = Callable[[Order], "subprocess.Popen[bytes]"]


def start_process(order: Order) -> subprocess.Popen[bytes]:
    """Run the setup's command."""
    with order.log.open("ab") as output:
        return subprocess.Popen(
            order.command(),
            cwd=order.cwd,
            env=dict(order.environ),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 (it takes no lock)
        )


def start(
    setup: Setup,
    *,
    folder: Path,
    certificate: Certificate,
    cwd: Path,
    bin_folder: Path | None = None,
    environ: Mapping[str, str] | None = None,
    extra: str = "",
    app: str = APP,
    ready: str | None = "/http",
    start_process: StartProcess = start_process,
) -> Server:
    """Start a server and await its first response.

    :param folder: a new folder, for its log.
    :param cwd: its working directory.
    :param environ: variables besides those of this process.
    :param extra: arguments that go before the others of its command.
    :param app: the import string of the app to serve.
    :param ready: the target that shows that the server is ready, or ``None`` not to wait.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A background job of a shell ignores SIGINT, and its children would as well.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    port = find_port()
    folder.mkdir(parents=True, exist_ok=True)
    # The path of a unix socket may be 107 bytes long: a relative path would not be shorter.
    bind = f"unix:{folder / 's'}" if setup.unix else f"127.0.0.1:{port}"
    bin_folder = bin_folder or Path(sys.executable).parent
    unwanted = ("FLASK_", "GUNICORN_", "WERKZEUG_", "GEVENT_", "EVENTLET_", "PYTEST_", "COV_")
    variables = {k: v for k, v in os.environ.items() if not k.startswith(unwanted)}
    variables |= {"PYTHONUNBUFFERED": "1", "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    log = Log(folder / "log")
    variables["LIVE_HANDLERS"] = setup.handlers
    variables["LIVE_FOLDER"] = str(folder.absolute())
    variables |= environ or {}
    order = Order(
        setup=setup,
        app=app,
        bind=bind,
        port=port,
        certificate=certificate,
        bin_folder=bin_folder,
        cwd=cwd,
        extra=extra,
        environ=variables,
        log=log.path,
    )
    began = time.monotonic()
    server = Server(setup, start_process(order), log, bind, port, certificate)
    log.when_late = server.dump_threads
    try:
        if ready is not None:
            await_ready(server, ready)
            server.start_seconds = time.monotonic() - began
    except BaseException:
        server.kill()
        raise
    return server


def await_ready(server: Server, target: str) -> None:
    """Await the port, then one whole response."""

    def probe() -> bool:
        if server.process.poll() is not None:
            raise AssertionError(f"{server.setup} ended at start:\n{server.log.read()[-5000:]}")
        try:
            response = server.get(target, timeout=START_SECONDS)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        assert response.status == 200, f"{response}\n{server.log.read()[-5000:]}"
        return True

    try:
        wait_until(probe, timeout=START_SECONDS, every=0.02)
    except Timeout:
        raise Timeout(f"{server.setup} did not start:\n{server.log.read()[-5000:]}") from None
