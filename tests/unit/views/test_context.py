"""The context that handlers and event views run in, and what its end is told."""

from __future__ import annotations

import contextvars
import queue
import threading
from typing import Any

import flask
import pytest
from flask import Flask, got_request_exception, request
from tests.support.memory import MemoryServer
from tests.support.waiting import PATIENCE

from flask_ws import ConnectionClosed, Sock, WebSocket, WebSocketView

TRANSACTION: contextvars.ContextVar[str] = contextvars.ContextVar("transaction", default="none")


@pytest.fixture
def ended(app: Flask) -> queue.Queue[tuple[str, BaseException | None]]:
    """What teardown functions are told of requests that came as far as a connection."""
    told: queue.Queue[tuple[str, BaseException | None]] = queue.Queue()
    app.teardown_request(lambda error: told.put(("request", error)))
    app.teardown_appcontext(lambda error: told.put(("app", error)))
    return told


ERRORS = (RuntimeError("failed on purpose"), SystemExit(), ConnectionClosed(1000))


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("detach", [False, True], ids=["inline", "detached"])
def test_teardown_functions_are_told_the_error_of_a_handler(
    app: Flask, sock: Sock, server: MemoryServer, ended: Any, error: Exception, detach: bool
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        raise error

    call = server.call(app, detach=detach)
    server.accepted(call)
    call.peer.answer_close()
    assert [ended.get(timeout=PATIENCE) for _ in range(2)] == [("request", error), ("app", error)]
    assert ended.empty()


def test_teardown_functions_are_told_of_no_error_after_a_handler_that_returns(
    app: Flask, sock: Sock, server: MemoryServer, ended: Any
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None: ...

    call = server.call(app)
    server.accepted(call)
    call.peer.answer_close()
    assert [ended.get(timeout=PATIENCE) for _ in range(2)] == [("request", None), ("app", None)]


@pytest.mark.parametrize("error", ERRORS[::2], ids=lambda error: type(error).__name__)
def test_teardown_functions_are_told_the_error_of_an_event_view(
    app: Flask, sock: Sock, server: MemoryServer, ended: Any, error: Exception
) -> None:
    @sock.route("/")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            raise error

    server.connect(app, detachable=True).send("hello")
    # The request of the handshake ends, too, before this or after it.
    told = [ended.get(timeout=PATIENCE) for _ in range(4)]
    assert [one for one in told if one[1] is not None] == [("request", error), ("app", error)]


@pytest.mark.parametrize("method", ["on_open", "on_message", "on_close"])
def test_an_event_view_has_the_context_variables_of_its_handshake(
    app: Flask, sock: Sock, server: MemoryServer, method: str
) -> None:
    said: queue.Queue[str] = queue.Queue()

    @app.before_request
    def begin() -> None:
        TRANSACTION.set("of the handshake")

    view = type("View", (WebSocketView,), {method: lambda *_: said.put(TRANSACTION.get())})
    sock.route("/")(view)
    peer = server.connect(app, detachable=True)
    peer.send("hello")
    peer.close()
    assert said.get(timeout=PATIENCE) == "of the handshake"


def test_an_event_views_error_is_reported_with_request_and_transaction(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    reported: queue.Queue[tuple[str, str]] = queue.Queue()

    def report(_app: Flask, exception: BaseException) -> None:
        reported.put((request.path, TRANSACTION.get()))

    @app.before_request
    def begin() -> None:
        TRANSACTION.set("of the handshake")

    @sock.route("/failing")
    class View(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            raise RuntimeError("failed on purpose")

    with got_request_exception.connected_to(report, app):
        peer = server.connect(app, "/failing", detachable=True)
        peer.send("hello")
        peer.answer_close()
    assert reported.get(timeout=PATIENCE) == ("/failing", "of the handshake")


def test_an_event_view_does_not_keep_the_g_of_its_handshake(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    gone = threading.Event()

    class Kept:
        def __del__(self) -> None:
            gone.set()

    @app.before_request
    def begin() -> None:
        flask.g.kept = Kept()

    sock.route("/")(type("View", (WebSocketView,), {}))
    call = server.call(app, detachable=True)
    server.accepted(call)
    call.wait()
    assert gone.wait(PATIENCE)


# An app has a provider from Flask 2.2 on.
if hasattr(Flask, "json_provider_class"):
    from flask.json.provider import DefaultJSONProvider

    def test_a_thread_without_context_uses_the_apps_json_provider(
        app: Flask, sock: Sock, server: MemoryServer
    ) -> None:
        class Provider(DefaultJSONProvider):
            def dumps(self, obj: Any, **kwargs: Any) -> str:
                return f"<{obj}>"

        app.json = Provider(app)

        @sock.route("/")
        def handler(ws: WebSocket) -> None:
            thread = threading.Thread(target=ws.send_json, args=(1,))
            thread.start()
            thread.join()

        assert server.connect(app).read() == "<1>"
