"""What is tested: how a server is started, and what it can do."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from .foreign import FOREIGN

__all__ = ["Capabilities", "Need", "Setup", "on_main"]

T = TypeVar("T")

#: The status of a handshake that is accepted.
ACCEPTED = 101

#: The attribute of a test with what it needs of a setup.
NEEDS = "flask_ws_needs"


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a server can do, as one setup runs it.

    The defaults are what a server with threads can do. A test that needs more than a setup has is
    left out for that setup; ``ServerSuite.left_out`` tells which, and why.
    """

    #: Serves TLS. Then at least one setup of the plugin has ``Setup.tls``.
    tls: bool = True
    #: Listens on unix sockets. Then at least one setup of the plugin has ``Setup.unix``.
    unix_sockets: bool = True
    #: Handlers run on threads, so that one that computes does not block the others. False for
    #: greenlets.
    threads: bool = True
    #: The standard library is green if handlers are greenlets. If it is not, the command is a
    #: script that sets ``primitives.pause`` and ``primitives.spawn`` of
    #: ``flask_ws.testing.suite.live`` to its own.
    patched: bool = True
    #: A connection can outlive its request (``ServerSocket.detachable``).
    detaching: bool = True
    #: Handlers leave the server's workers by default (``ServerSocket.detach``), because there
    #: are few of them.
    few_workers: bool = False
    #: Keeps an HTTP connection open after a response.
    keep_alive: bool = True
    #: Answers a second request that came in the same segment as the first.
    pipelining: bool = True
    #: Writes an access line for each request to its output; ``Setup.access_line`` is its form.
    access_log: bool = True
    #: At ``Setup.stop_signal`` the plugin's ``is_stopping`` turns true, or the process runs its
    #: ``atexit`` functions, and it ends as soon as the handlers have ended.
    graceful_stop: bool = True
    #: Seconds that a stopping server waits for a handler that does not end
    #: (``ServerSocket.stop_timeout``); :data:`math.inf` if it waits for its own handlers
    #: whatever the plugin returns.
    stop_seconds: float = 2.0
    #: How many processes serve at once.
    processes: int = 1
    #: flask-ws reads and writes the frames of a WebSocket, on the server's socket. If it is False,
    #: the server does so and gives it messages (``ServerSocket.messages``), as under ASGI: then
    #: pings, the check of a handshake and of each frame, and the closing handshake are its own.
    frames: bool = True
    #: Frames that come together with the handshake are kept.
    early_frames: bool = True
    #: The extension permessage-deflate can be agreed on.
    compression: bool = True
    #: An accepted handshake has the headers that Flask and the app have set, and cookies.
    accept_headers: bool = True
    #: A refused handshake is answered as the app answers it. If it is False, by 403 in any case.
    denials: bool = True
    #: A handler learns the code of the client's close frame.
    close_codes: bool = True
    #: And the reason in it.
    close_reasons: bool = True
    #: The server gives the client time to answer a close frame before it ends TCP.
    awaits_answers: bool = True
    #: A close frame without a code is 1005 to the handler, not 1006 as a connection that is lost.
    empty_closes: bool = True


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One way to start one server.

    :param name: the setup's name, which is in the ids of its tests.
    :param command: a command line as in a shell, without its operators. In it are replaced
        ``{app}`` by the import string of the app under test, ``{bind}`` by where to listen
        (``127.0.0.1:8000``, or ``unix:/path`` with `unix`), ``{host}`` and ``{port}`` by the parts
        of that, ``{socket}`` by the path of the unix socket, ``{cert}`` and ``{key}`` by the files
        of a certificate. It runs in the suite's ``folder``.
    :param plugin: the plugin under test: the name of its module.
    :param server: the server's name in the table of foreign environs, if it is there
        (``flask_ws.testing.suite.foreign``): its environs are not foreign to the plugin. A name
        that is not there is refused with :exc:`ValueError`.
    :param capabilities: what the server can do, run like this.
    :param handlers: which kind of handlers the app under test has: with ``"async"``, an async
        function in place of each blocking one.
    :param tls: whether the command makes the server use TLS.
    :param unix: whether the command makes it listen on a unix socket.
    :param main: whether this setup represents its kind: tests that take long, or are about what
        all setups of a kind have in common, run on main setups only.
    :param stop_signal: the signal by which its users stop it in an orderly way.
    :param stop_group: whether SIGINT goes to its whole process group, as Ctrl-C in a terminal does.
    :param access_line: a regular expression for an access line, in which ``{target}`` stands for
        the request's target. Its first group is the status; if that is no number, it stands for
        101.
    """

    name: str
    command: str
    plugin: str = ""
    server: str = ""
    capabilities: Capabilities = field(default_factory=Capabilities)
    handlers: Literal["blocking", "async"] = "blocking"
    tls: bool = False
    unix: bool = False
    main: bool = True
    stop_signal: signal.Signals = signal.SIGTERM
    stop_group: bool = False
    access_line: str = r'"GET {target} HTTP/1\.[01]" (\d+)'

    def __post_init__(self) -> None:
        names = sorted({foreign.server for foreign in FOREIGN} - {""})
        if self.server and self.server not in names:
            raise ValueError(
                f"Setup(server={self.server!r}): the servers of the table are {', '.join(names)}; "
                "leave it out for one that is not there"
            )

    def __str__(self) -> str:
        return self.name

    def find_access_lines(self, log: str, target: str) -> list[int]:
        """The statuses of the access lines for a target, given as a regular expression."""
        found = re.findall(self.access_line.replace("{target}", target), log)
        return [int(status) if status.isdecimal() else ACCEPTED for status in found]


@dataclass(frozen=True)
class Need:
    """What a test needs of a setup; as a decorator of a test, or of a class of tests."""

    holds: Callable[[Any], bool]
    #: Why a setup without it cannot run the test.
    reason: str

    def __call__(self, test: T) -> T:
        if isinstance(test, type):
            for name, member in list(vars(test).items()):
                if name.startswith("test_"):
                    self(member)
        else:
            setattr(test, NEEDS, (*getattr(test, NEEDS, ()), self))
        return test


#: The setups that represent their kind.
on_main = Need(lambda setup: setup.main, "runs on main setups only")
on_tls = Need(lambda setup: setup.tls, "is about TLS")
on_threads = Need(lambda setup: setup.capabilities.threads, "needs handlers on threads")
on_keep_alive = Need(lambda setup: setup.capabilities.keep_alive, "needs kept-alive HTTP")
on_pipelining = Need(
    lambda setup: setup.capabilities.keep_alive and setup.capabilities.pipelining,
    "needs requests that may come together",
)
on_blocking = Need(
    lambda setup: setup.handlers == "blocking", "is about the threads of blocking handlers"
)
on_queued_sends = Need(
    lambda setup: setup.handlers == "blocking", "is about a send() that never waits"
)
on_few_workers = Need(
    lambda setup: setup.capabilities.few_workers, "needs handlers that leave their worker"
)
on_limited_stop = Need(
    lambda setup: setup.capabilities.stop_seconds != math.inf,
    "needs a server that does not wait for a handler without end",
)
on_graceful_stop = Need(lambda setup: setup.capabilities.graceful_stop, "needs a graceful stop")
on_no_keep_alive = Need(
    lambda setup: not setup.capabilities.keep_alive, "declares that it keeps no connection open"
)
on_no_graceful_stop = Need(
    lambda setup: not setup.capabilities.graceful_stop, "declares that it has no graceful stop"
)
on_no_access_log = Need(
    lambda setup: not setup.capabilities.access_log, "declares that it has no access log"
)
on_access_log = Need(lambda setup: setup.capabilities.access_log, "needs an access log")
on_main_or_unpatched = Need(
    lambda setup: setup.main or not setup.capabilities.patched, "runs on main setups only"
)
on_one_process = Need(lambda setup: setup.capabilities.processes == 1, "needs a single process")
#: Servers on which an idle event view needs no thread.
on_reactor = Need(
    lambda setup: setup.capabilities.detaching and setup.capabilities.threads and not setup.tls,
    "needs connections that outlive their request, without TLS, beside threads",
)
on_frames = Need(lambda setup: setup.capabilities.frames, "is about frames that flask-ws reads")
on_early_frames = Need(
    lambda setup: setup.capabilities.early_frames, "needs frames kept that came early"
)
on_compression = Need(lambda setup: setup.capabilities.compression, "needs permessage-deflate")
on_denials = Need(lambda setup: setup.capabilities.denials, "needs refusals other than 403")
on_accept_headers = Need(
    lambda setup: setup.capabilities.accept_headers, "needs the app's headers on a 101"
)
on_awaited_answers = Need(
    lambda setup: setup.capabilities.awaits_answers,
    "needs a server that waits for the answer to its close frame",
)
on_close_codes = Need(
    lambda setup: setup.capabilities.close_codes, "needs the code of the client's close"
)
on_close_reasons = Need(
    lambda setup: setup.capabilities.close_reasons, "needs the reason of the client's close"
)
on_empty_closes = Need(
    lambda setup: setup.capabilities.empty_closes, "needs a close without a code told from a loss"
)
