"""A server that was started, as the tests see it: its address, its log, its processes, its end."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from .dump import DUMPED, ask
from .log import Log
from .raw import Header, Peer, Response
from .setups import Setup
from .waiting import LOG_SECONDS, PATIENCE, Timeout, wait_until

__all__ = ["Certificate", "Server"]

STOP_SECONDS = 15.0

#: Seconds for a process to write the stacks of its threads.
DUMP_SECONDS = 2.0

NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Certificate:
    """Files of a server's certificate and key, and of the authority that signed it."""

    cert: Path
    key: Path
    authority: Path

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))


@dataclass
class Usage:
    """The resources that the processes of a server use."""

    fds: int
    threads: int
    rss: int


@dataclass
class Server:
    """A running server; made by `start`."""

    setup: Setup
    process: subprocess.Popen[bytes]
    log: Log
    bind: str
    port: int
    certificate: Certificate
    # Tags of the WebSockets that got their 101: each must have an access line.
    opened: list[str] = field(default_factory=list)
    # Seconds until it was ready; zero if nobody waited for that.
    start_seconds: float = 0.0
    # Whether it was told to stop, which is done once.
    told: bool = False
    # How much of the log has been searched for tracebacks, and in which test last.
    checked: int = 0
    checked_in: str = ""

    # Clients

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    def context(self) -> ssl.SSLContext | None:
        return self.certificate.client_context() if self.setup.tls else None

    def dial_plain(
        self, *, receive_buffer: int | None = None, timeout: float = PATIENCE
    ) -> socket.socket:
        """A TCP (or unix) connection, without TLS."""
        sock = socket.socket(socket.AF_UNIX) if self.setup.unix else socket.socket()
        sock.settimeout(timeout)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            if self.setup.unix:
                sock.connect(self.bind.removeprefix("unix:"))
            else:
                sock.connect(("127.0.0.1", self.port))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        return sock

    def dial(self, *, receive_buffer: int | None = None, timeout: float = PATIENCE) -> Peer:
        """A connection on which nothing was sent, except for the TLS handshake."""
        sock = self.dial_plain(receive_buffer=receive_buffer, timeout=timeout)
        context = self.context()
        if context is not None:
            try:
                sock = context.wrap_socket(sock, server_hostname="localhost")
            except BaseException:
                sock.close()
                raise
        return Peer(
            sock,
            host=self.host,
            timeout=timeout,
            when_late=self.dump_threads,
            awaits_answers=self.setup.capabilities.awaits_answers,
        )

    def tag(self) -> str:
        """A name for one connection, to find its lines in the log."""
        return f"t{next(NUMBERS)}"

    def target(self, path: str, tag: str) -> str:
        return f"{path}{'&' if '?' in path else '?'}tag={tag}"

    def connect(
        self,
        path: str = "/echo",
        *,
        tag: str | None = None,
        headers: Iterable[Header] = (),
        receive_buffer: int | None = None,
        timeout: float = PATIENCE,
        early: bytes = b"",
    ) -> Peer:
        """An open WebSocket."""
        tag = tag or self.tag()
        peer = self.dial(receive_buffer=receive_buffer, timeout=timeout)
        try:
            peer.upgrade(self.target(path, tag), headers=headers, early=early)
        except BaseException:
            peer.sock.close()
            raise
        self.opened.append(tag)
        return peer

    def get(
        self, target: str = "/http", *, headers: Iterable[Header] = (), timeout: float = PATIENCE
    ) -> Response:
        """A GET on a new connection."""
        with self.dial(timeout=timeout) as peer:
            peer.send_request(target, headers=[*headers, ("Connection", "close")])
            return peer.read_response()

    def release(self, tag: str) -> None:
        """Let the busy handler of this connection continue, in whichever process it runs."""
        (self.log.path.parent / f"released-{tag}").touch()

    def warm_up(self, path: str = "/echo") -> None:
        """Have each process serve a connection.

        What the first one of a process opens for all of them is no leak of later ones.
        """
        served: set[int] = set()

        def is_served_by_all() -> bool:
            tag = self.tag()
            with self.connect(path, tag=tag) as peer:
                peer.close()
            self.await_done(tag)
            self.log.event("end", tag)
            served.add(self.log.event("begin", tag)["pid"])
            return len(served) == self.setup.capabilities.processes

        wait_until(is_served_by_all, timeout=PATIENCE, what="each process to serve a connection")

    def url(self, path: str, tag: str) -> str:
        """The URL for a client that takes one; an access line of 101 is then expected."""
        self.opened.append(tag)
        scheme = "wss" if self.setup.tls else "ws"
        return f"{scheme}://{self.host}{self.target(path, tag)}"

    # The log

    def access_lines(self, tag: str) -> list[int]:
        """The statuses that the server logged for this connection."""
        return self.setup.find_access_lines(self.log.read(), rf"\S*tag={tag}\b\S*")

    def await_access_line(self, tag: str, timeout: float = LOG_SECONDS) -> int:
        try:
            (status,) = wait_until(lambda: self.access_lines(tag), timeout=timeout)
        except Timeout:
            self.dump_threads()
            raise Timeout(
                f"no access line for {tag} within {timeout} s\n{self.log.read()[-5000:]}"
            ) from None
        return status

    def await_done(self, tag: str) -> None:
        """Await the end of a connection's request, as far as the log shows it."""
        if self.setup.capabilities.access_log:
            self.await_access_line(tag)
        else:
            self.log.event("end", tag)

    # The processes

    def processes(self) -> list[psutil.Process]:
        """The server and its children, oldest first."""
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def usage(self) -> Usage:
        usage = Usage(fds=0, threads=0, rss=0)
        for process in self.processes():
            # One that ends just now uses nothing.
            with suppress(psutil.NoSuchProcess):
                fds, rss = process.num_fds(), process.memory_info().rss
                usage.threads += process.num_threads()
                usage.fds += fds
                usage.rss += rss
        return usage

    def settle(self, timeout: float = 5.0) -> None:
        """Wait until all processes of the server are idle."""
        wait_until(
            lambda: all(each.status() != psutil.STATUS_RUNNING for each in self.processes()),
            what="the server to wait for something",
            every=0.003,
            timeout=timeout,
        )

    def dump_threads(self) -> None:
        """Have the server write the stacks of its threads to its log, if it can."""
        beginning = self.log.size()
        asked = sum(ask(process.pid) for process in self.processes())
        sizes: list[int] = []

        def is_written() -> bool:
            sizes.append(self.log.size())
            dumps = self.log.read(beginning).count(DUMPED)
            return dumps >= asked and len(sizes) > 5 and len(set(sizes[-5:])) == 1

        with suppress(Timeout):
            wait_until(is_written, timeout=DUMP_SECONDS)

    def threads(self) -> int:
        """How many threads there are, without those of the server's thread pool."""
        names = json.loads(self.get("/process").body)["threads"]
        return sum(not name.startswith("ThreadPoolExecutor") for name in names)

    def greenlets(self) -> int:
        """How many greenlets there are in one of the processes."""
        return int(json.loads(self.get("/process").body)["greenlets"])

    def signal(self, number: signal.Signals) -> None:
        self.told = number is not signal.SIGHUP
        if self.setup.stop_group and number is signal.SIGINT:
            # A terminal sends Ctrl-C to the whole foreground group.
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def allowed(self, seconds: float) -> float:
        """The limit for what an idle machine does within some seconds.

        On a machine so busy that the start has taken longer, what a stop needs takes longer too.
        """
        return max(seconds, self.start_seconds)

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.dump_threads()
            raise Timeout(
                f"{self.setup} was still running after {timeout} s\n{self.log.read()[-3000:]}"
            ) from None

    def stop(self) -> None:
        """Stop as a user would; leave no process behind, even if that fails."""
        try:
            if self.process.poll() is None:
                if not self.told:
                    with suppress(Timeout):
                        # Python ignores a KeyboardInterrupt that is raised in a __del__.
                        self.settle(timeout=0.5)
                    self.signal(self.setup.stop_signal)
                self.wait()
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill what is left of the server's own process group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(5)
