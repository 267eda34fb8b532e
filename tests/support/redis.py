"""Redis servers, as Debian has them: started for a test on a free port, killed, started again."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flask_ws.testing.suite.process import Certificate, die_with_parent, find_port, wait_until

START_SECONDS = 20.0


class RedisServer:
    """A Redis on the loopback interface, which keeps nothing on disk.

    :param folder: for its log.
    :param options: of its command line.
    :param certificate: with one it speaks TLS only.
    """

    def __init__(self, folder: Path, *options: str, certificate: Certificate | None = None) -> None:
        self.folder = folder
        self.options = options
        self.certificate = certificate
        self.port = find_port()
        #: The port for other servers of its cluster; none, if it is no cluster's.
        self.bus: int | None = None
        self.others: tuple[RedisServer, ...] = ()
        self.process: subprocess.Popen[bytes] | None = None

    def be_cluster(self, *others: RedisServer) -> None:
        """Be a cluster's server, once started: of one of its own, or of others' cluster."""
        self.bus = find_port()
        self.others = others
        self.options += ("--cluster-enabled", "yes", "--cluster-port", str(self.bus))

    def client(self) -> redis.Redis:
        """A client that may do anything."""
        tls = {"ssl": True, "ssl_ca_certs": self.certificate.authority} if self.certificate else {}
        once = Retry(NoBackoff(), 0)
        return redis.Redis("127.0.0.1", self.port, socket_timeout=5, retry=once, **tls)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def running(self) -> Iterator[RedisServer]:
        """Have it run for a while."""
        self.start()
        try:
            yield self
        finally:
            self.kill()

    def start(self) -> None:
        """Start it, and await its first answer."""
        self.start_alone()
        if self.bus is not None:
            self.join()
            wait_until(self._is_whole, timeout=START_SECONDS, what="the cluster")

    def start_alone(self) -> None:
        """Start it, and have it join no cluster yet."""
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed")
        ports = ["--port", str(self.port)]
        if self.certificate is not None:
            ports = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            ports += ["--tls-cert-file", str(self.certificate.cert)]
            ports += ["--tls-key-file", str(self.certificate.key)]
            ports += ["--tls-ca-cert-file", str(self.certificate.authority)]
        command = [program, *ports, "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "no", *self.options]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 (it takes no lock)
            )
        wait_until(self._answers, timeout=START_SECONDS, what="Redis to start")

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail((self.folder / "redis.log").read_text()[-3000:], pytrace=False)
        with contextlib.closing(self.client()) as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return True
            except redis.ConnectionError:
                return False

    def join(self) -> None:
        """Join its cluster, or begin it."""
        with contextlib.closing(self.client()) as client:
            if not self.others and not client.execute_command("CLUSTER SLOTS"):
                client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
        for other in self.others:
            with contextlib.closing(other.client()) as client:
                client.execute_command("CLUSTER MEET", "127.0.0.1", self.port, self.bus)

    def _is_whole(self) -> bool:
        return self.knows(*self.others)

    def knows(self, *others: RedisServer) -> bool:
        """Tell whether it is in the cluster of others, which works."""
        with contextlib.closing(self.client()) as client:
            info = client.execute_command("CLUSTER INFO")
            nodes = client.execute_command("CLUSTER NODES")
        known = {node["node_id"] for node in nodes.values()}
        return str(info["cluster_state"]) == "ok" and known >= {other.name for other in others}

    @property
    def name(self) -> str:
        """Its name in its cluster."""
        with contextlib.closing(self.client()) as client:
            return str(client.execute_command("CLUSTER MYID").decode())

    @property
    def url(self) -> str:
        """The URL of it, where it is no cluster's."""
        return f"redis://127.0.0.1:{self.port}"

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def remove(self) -> None:
        """End it; it has left nothing behind."""
        self.kill()

    def kill(self) -> None:
        """End it without a goodbye."""
        if self.process is not None:
            # It may be stopped.
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(10)
            self.process = None


@contextlib.contextmanager
def running_cluster(*servers: RedisServer) -> Iterator[None]:
    """Have them run for a while; all at the same time, as a cluster takes its time to agree."""
    with contextlib.ExitStack() as stack:
        for number, server in enumerate(servers):
            server.be_cluster(*servers[:number])
            stack.callback(server.kill)
            server.start_alone()
        for server in servers:
            server.join()
        for server in servers:
            wait_until(
                lambda server=server: server.knows(*servers),  # type: ignore[misc]
                timeout=START_SECONDS,
                what="the cluster",
            )
        yield
