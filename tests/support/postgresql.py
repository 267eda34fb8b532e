"""A PostgreSQL server: started for tests on a free port, killed, started again."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

try:
    import psycopg
except ImportError as error:
    # It has no libpq.
    pytest.skip(f"psycopg: {error}", allow_module_level=True)

from flask_ws.testing.suite.process import Certificate, die_with_parent, find_port, wait_until

START_SECONDS = 30.0


def find_programs() -> Path:
    """The newest version's folder, where Debian has them; else that of the path."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    found = sorted(versions, key=lambda path: float(path.parts[-3]))
    program = found[-1] if found else shutil.which("postgres")
    if program is None:
        pytest.skip("PostgreSQL is not installed")
    return Path(program).parent


class PostgresServer:
    """A PostgreSQL on the loopback interface and on a Unix socket, for the user ``me``.

    It refuses to run as root, so that it runs as nobody then, in a folder of its own.

    :param certificate: with one it speaks TLS, too.
    """

    def __init__(self, certificate: Certificate | None = None) -> None:
        self.programs = find_programs()
        self.port = find_port()
        #: Of the user ``me``.
        self.password = secrets.token_hex(8)
        # Not in one of pytest's, which only their owner may enter; and its socket's path is short.
        self.folder = Path(tempfile.mkdtemp(prefix="flask-ws-"))
        self.data = self.folder / "data"
        self.process: subprocess.Popen[bytes] | None = None
        self.options = ["-c", f"unix_socket_directories={self.folder}"]
        (self.folder / "password").write_text(self.password)
        if certificate is not None:
            for name, path in (("cert", certificate.cert), ("key", certificate.key)):
                shutil.copy(path, self.folder / name)
                (self.folder / name).chmod(0o600)
                self.options += ["-c", f"ssl_{name}_file={self.folder / name}"]
            self.options += ["-c", "ssl=on"]
        self.user: dict[str, Any] = {}
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            for path in (self.folder, *self.folder.iterdir()):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        subprocess.run(
            [
                *(self.programs / "initdb", "--pgdata", self.data, "--username=me"),
                *("--auth=scram-sha-256", f"--pwfile={self.folder / 'password'}"),
                *("--encoding=UTF8", "--no-locale", "--no-sync"),
            ],
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            check=True,
            **self.user,
        )

    @property
    def url(self) -> str:
        """The URL of its database."""
        return self.make_url()

    def make_url(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        database: str = "postgres",
        query: str = "",
    ) -> str:
        """A URL, perhaps of a proxy in front of it."""
        place = f"{host}:{port or self.port}/{database}"
        return f"postgresql://me:{self.password}@{place}?create_tables=true{query}"

    def make_database(self) -> str:
        """Make an empty database; its name."""
        name = f"of_{secrets.token_hex(4)}"
        with self.client() as client:
            client.execute(f"CREATE DATABASE {name}")
        return name

    def client(self) -> psycopg.Connection:
        """A client that may do anything."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="me",
            password=self.password,
            dbname="postgres",
            autocommit=True,
        )

    def start(self) -> None:
        """Start it, and await its first answer."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(self.programs / "postgres", "-D", self.data, "-p", str(self.port)),
                    # What is lost with the machine may be lost.
                    *("-c", "fsync=off", "-c", "listen_addresses=127.0.0.1", *self.options),
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,  # noqa: PLW1509 (it takes no lock)
                **self.user,
            )
        wait_until(self._answers, timeout=START_SECONDS, what="PostgreSQL to start")

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail((self.folder / "log").read_text()[-3000:], pytrace=False)
        try:
            self.client().close()
        except psycopg.OperationalError:
            return False
        return True

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes."""
        import psutil

        assert self.process is not None
        main = psutil.Process(self.process.pid)
        for process in (main, *main.children()):
            # One that served a client may just end.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def stop(self) -> None:
        """Stop it as a system does that shuts down; its clients lose their connections."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        self.process = None

    def kill(self) -> None:
        """End it without a goodbye; its clients lose their connections."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGCONT)
            # At once, and without leaving the shared memory behind.
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(10)
        self.process = None

    def remove(self) -> None:
        """End it, and delete its folder."""
        self.kill()
        shutil.rmtree(self.folder)


def execute(server: PostgresServer, *statements: str) -> None:
    """Run statements."""
    with server.client() as client:
        for statement in statements:
            client.execute(statement)


def count(server: PostgresServer, table: str) -> int:
    """Count the rows of a table."""
    with server.client() as client:
        row = client.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert row is not None
    return int(row[0])
