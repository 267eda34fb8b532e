from __future__ import annotations

import gc
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import trustme
from flask import Flask
from tests.support.locks import Watch, watching
from tests.support.memory import MemoryPlugin, MemoryServer, in_thread, tcp_pair
from tests.support.raw import Peer
from tests.support.waiting import PATIENCE

from flask_ws import Concurrency, ConnectionClosed, Sock, sparing
from flask_ws.budget import budget
from flask_ws.concurrency import threads
from flask_ws.connection.connection import Connection
from flask_ws.connection.endpoint import Endpoint
from flask_ws.connection.transport import PlainTransport
from flask_ws.http import admission
from flask_ws.loop import monitor as monitor_module
from flask_ws.loop.drain import HandshakeRate, drain
from flask_ws.loop.flusher import Flusher
from flask_ws.loop.monitor import Monitor
from flask_ws.plugin import manager as plugins
from flask_ws.protocol.protocol import Protocol


@pytest.fixture
def app() -> Flask:
    app = Flask("app")
    app.config["SECRET_KEY"] = "not secret"
    return app


@pytest.fixture(autouse=True)
def nothing_was_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparing, "_due", {})


@pytest.fixture(autouse=True)
def nothing_is_drained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "begun", False)
    monkeypatch.setattr(drain, "seconds", 0.0)
    monkeypatch.setattr(admission, "handshake_rate", HandshakeRate())


@pytest.fixture
def counted_from_nothing() -> Iterator[None]:
    """What other tests have left in the budget is not this one's; it is freed when it is."""
    gc.collect()
    limit, left = budget.limit, budget.total
    budget.change(None, -left)
    yield
    budget.change(None, left)
    budget.limit = limit


@pytest.fixture
def sock(app: Flask) -> Sock:
    return Sock(app)


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Fails if anything is logged under a lock of ours that is made during the test."""
    with watching(monkeypatch) as watch:
        yield watch


@pytest.fixture
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> plugins.Plugins:
    """The process's plugins, of which none is installed."""
    # Another test may have loaded those that are installed here.
    installed = {found.module for found in plugins.plugins._found or ()}
    manager = plugins.Plugins().manager
    for name, plugin in plugins.plugins.manager.list_name_plugin():
        if name not in installed:
            manager.register(plugin, name)
    monkeypatch.setattr(plugins.plugins, "_found", [])
    monkeypatch.setattr(plugins.plugins, "manager", manager)
    return plugins.plugins


@pytest.fixture
def server(no_plugins: plugins.Plugins) -> Iterator[MemoryServer]:
    no_plugins.register(MemoryPlugin)
    server = MemoryServer()
    yield server
    server.close()
    no_plugins.unregister(MemoryPlugin)


class WatchedTransport(PlainTransport):
    """Says when a thread is about to wait for the peer."""

    def __init__(
        self, sock: socket.socket, concurrency: Concurrency, close: Callable[[], None]
    ) -> None:
        super().__init__(sock, concurrency, close)
        self.waiting = threading.Event()
        self.closed = 0

    def recv(self, timeout: float | None = None) -> bytes:
        self.waiting.set()
        return super().recv(timeout)

    def close(self) -> None:
        self.closed += 1
        super().close()


class Ends:
    """A server's connection, and the client at its other end."""

    def __init__(
        self,
        pair: tuple[socket.socket, socket.socket],
        *,
        protocol: Protocol | None = None,
        concurrency: Concurrency = threads,
        close_timeout: float = 5.0,
        max_queue: int = 16,
        **options: Any,
    ) -> None:
        client_sock, self.sock = pair
        self.peer = Peer(client_sock, timeout=PATIENCE)
        self.transport = WatchedTransport(self.sock, concurrency, self.sock.close)
        self.connection = Connection(
            self.transport,
            protocol or Protocol(),
            concurrency=concurrency,
            close_timeout=close_timeout,
            max_queue=max_queue,
            **options,
        )
        self.connection.sender.when_blocked = Flusher(concurrency).watch
        #: What an app calls.
        self.ws = Endpoint(self.connection)

    def close(self) -> None:
        self.peer.sock.close()
        self.connection.release()


Connect = Callable[..., Ends]


@pytest.fixture
def connect() -> Iterator[Connect]:
    made: list[Ends] = []

    def connect(pair: tuple[socket.socket, socket.socket] | None = None, **options: Any) -> Ends:
        ends = Ends(pair or socket.socketpair(), **options)
        made.append(ends)
        return ends

    yield connect
    for ends in made:
        ends.close()


#: More than any socket's buffers hold.
MUCH = bytes(8_000_000)


def in_receive(ends: Ends, timeout: float | None = None) -> Future[Any]:
    """Let a thread wait in receive()."""
    future: Future[Any] = in_thread(ends.ws.receive, timeout)
    assert ends.transport.waiting.wait(PATIENCE)
    return future


def in_send(ends: Ends, data: bytes = MUCH) -> Future[None]:
    """Let a thread be stuck in the middle of a message."""
    future = in_thread(ends.ws.send, data)
    # The beginning of the frame has arrived, and the rest fits nowhere.
    ends.peer.fill(10)
    return future


def closed(future: Future[Any]) -> ConnectionClosed:
    """Wait for a call to end as on a closed connection."""
    error = future.exception(PATIENCE)
    assert isinstance(error, ConnectionClosed)
    return error


def closed_now(function: Callable[..., object], *args: object) -> ConnectionClosed:
    with pytest.raises(ConnectionClosed) as caught:
        function(*args)
    return caught.value


class KeepingThreads(Concurrency):
    """Keeps the threads that it spawns, to be joined."""

    name = "keeping"

    def __init__(self) -> None:
        self.spawned: list[threading.Thread] = []

    def spawn(self, target: Callable[[], object], name: str) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self.spawned.append(thread)
        thread.start()

    def join(self) -> None:
        for thread in self.spawned:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread.name} goes on"


@pytest.fixture
def keeping() -> Iterator[KeepingThreads]:
    keeping = KeepingThreads()
    yield keeping
    keeping.join()


@pytest.fixture
def monitor(keeping: KeepingThreads, monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitor]:
    """A monitor that looks more often than others do."""
    monkeypatch.setattr(monitor_module, "TICK", 0.02)
    monitor = Monitor(keeping)
    yield monitor
    for connection in list(monitor._watches):
        monitor.remove(connection)


TLS = tuple[ssl.SSLContext, ssl.SSLContext]


@pytest.fixture(scope="session")
def tls() -> TLS:
    """A client's and a server's context."""
    authority = trustme.CA()
    client = ssl.create_default_context()
    authority.configure_trust(client)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    return client, server


def tls_pair(tls: TLS) -> tuple[socket.socket, socket.socket]:
    """Two ends of a TLS connection over loopback."""
    client, server = tcp_pair()
    wrapping = in_thread(tls[1].wrap_socket, server, server_side=True)
    client = tls[0].wrap_socket(client, server_hostname="localhost")
    return client, wrapping.result(PATIENCE)
