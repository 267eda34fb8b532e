"""What an app says when it is called by an ASGI server, or behind a wrapper for WSGI."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable
from typing import Any

import pytest
from a2wsgi import WSGIMiddleware
from asgiref.wsgi import WsgiToAsgi
from flask import Flask
from hypercorn.app_wrappers import WSGIWrapper

from flask_ws import Sock, WebSocket
from flask_ws.plugin.asgi import ADVICE, SERVED
from flask_ws.views import advice

Message = dict[str, Any]

HANDSHAKE = [
    (b"host", b"localhost"),
    (b"connection", b"Upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA=="),
]


@pytest.fixture(autouse=True)
def nothing_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "_told", set())


@pytest.fixture
def routes(app: Flask, sock: Sock) -> Flask:
    app.add_url_rule("/page", view_func=lambda: "page")

    @sock.route("/echo")
    def echo(ws: WebSocket) -> None: ...

    return app


def scope_of(kind: str, path: str = "/page", **more: Any) -> Message:
    scope = {"type": kind, "path": path, "query_string": b"", "headers": [], "http_version": "1.1"}
    return scope | {"method": "GET", "scheme": kind, "server": ("localhost", 80), **more}


def call(app: Any, scope: Message, *, asgi: int = 3) -> list[Message]:
    """Call an app of ASGI for one message; return what it sends."""
    sent: list[Message] = []

    async def receive() -> Message:
        names = {"http": "http.request", "websocket": "websocket.connect"}
        return {"type": names.get(scope["type"], "lifespan.startup")}

    async def send(message: Message) -> None:
        sent.append(message)

    async def run() -> None:
        await (app(scope)(receive, send) if asgi == 2 else app(scope, receive, send))

    asyncio.run(run())
    return sent


def hypercorn(app: Flask) -> Any:
    """Hypercorn's wrapper, which asks more of its server than ASGI."""
    wrapper = WSGIWrapper(app, 2**16)

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()

        def call_soon(function: Any, *args: Any) -> None:
            asyncio.run_coroutine_threadsafe(function(*args), loop).result(10)

        await wrapper(scope, receive, send, asyncio.to_thread, call_soon)

    return asgi


def a2wsgi(app: Any) -> Any:
    return WSGIMiddleware(app)


WRAPPERS = {
    "a2wsgi's WSGIMiddleware": a2wsgi,
    "asgiref's WsgiToAsgi": WsgiToAsgi,
    "Hypercorn's wrapper for WSGI": hypercorn,
}
wrappers = pytest.mark.parametrize(("name", "wrap"), WRAPPERS.items(), ids=WRAPPERS)


# Called as an app of ASGI


@pytest.mark.parametrize("asgi", [2, 3])
def test_a_server_that_asks_for_its_lifespan_fails_to_start_in_words(
    routes: Flask, asgi: int
) -> None:
    (failed,) = call(routes, {"type": "lifespan"}, asgi=asgi)
    assert failed["type"] == "lifespan.startup.failed"
    assert ADVICE in failed["message"]


@pytest.mark.parametrize("asgi", [2, 3])
def test_a_handshake_is_denied_in_words_and_logged(
    routes: Flask, caplog: pytest.LogCaptureFixture, asgi: int
) -> None:
    scope = scope_of("websocket", "/é\n", extensions={"websocket.http.response": {}})
    start, body = call(routes, scope, asgi=asgi)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 501)
    assert ADVICE.encode() in body["body"]
    assert (b"content-length", str(len(body["body"])).encode()) in start["headers"]
    (line,) = caplog.messages
    assert line.startswith("WebSocket handshake for /%C3%A9%0A refused: 501")
    assert ADVICE in line


def test_a_handshake_is_closed_where_there_are_no_denials(
    routes: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    assert call(routes, scope_of("websocket", extensions=None)) == [{"type": "websocket.close"}]
    assert ADVICE in caplog.text


def test_a_request_is_answered_in_words(routes: Flask, caplog: pytest.LogCaptureFixture) -> None:
    start, body = call(routes, scope_of("http"))
    assert (start["type"], start["status"]) == ("http.response.start", 501)
    assert ADVICE.encode() in body["body"]
    assert ADVICE in caplog.text


def test_many_requests_are_logged_once(routes: Flask, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        call(routes, scope_of("http"))
    assert len(caplog.messages) == 1


def test_wsgi_calls_stay_as_they_are(routes: Flask) -> None:
    """By position, and by the names that Flask has for them."""
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/page",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
    }
    begun: list[str] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        begun.append(status)

    for answer in (
        routes(dict(environ), start_response),
        routes(environ=dict(environ), start_response=start_response),
    ):
        assert b"".join(answer) == b"page"
    assert begun == ["200 OK"] * 2


class Custom(Flask):
    """An app's own class."""

    def full_dispatch_request(self) -> Any:
        return super().full_dispatch_request()


def test_the_class_of_an_app_keeps_its_name() -> None:
    app = Custom("app")
    Sock(app)
    assert isinstance(app, Custom)
    assert (type(app).__name__, type(app).__module__) == (Custom.__name__, Custom.__module__)
    assert type(app).__doc__ == Custom.__doc__


def test_a_class_is_derived_once_for_all_apps() -> None:
    apps = [Custom("one"), Custom("two")]
    for sock in (Sock(), Sock()):
        for app in apps:
            sock.init_app(app)
    assert type(apps[0]) is type(apps[1])
    assert type(apps[0]).__base__ is Custom


def test_an_app_that_is_one_of_asgi_is_left_alone() -> None:
    class Both(Flask):
        async def __call__(self, *args: Any) -> None: ...  # type: ignore[override]

    app = Both("app")
    Sock(app)
    assert type(app) is Both


# Behind a wrapper for WSGI


@wrappers
def test_the_first_request_is_told_that_websockets_do_not_come_through(
    routes: Flask, caplog: pytest.LogCaptureFixture, name: str, wrap: Callable[[Flask], Any]
) -> None:
    wrapped = wrap(routes)
    for _ in range(2):
        assert call(wrapped, scope_of("http"))[0]["status"] == 200
    (line,) = caplog.messages
    assert name in line
    assert ADVICE in line


@wrappers
def test_a_handshake_that_comes_as_a_request_is_refused_in_words(
    routes: Flask, caplog: pytest.LogCaptureFixture, name: str, wrap: Callable[[Flask], Any]
) -> None:
    sent = call(wrap(routes), scope_of("http", "/echo", headers=HANDSHAKE))
    assert sent[0]["status"] == 501
    page = b"".join(message.get("body", b"") for message in sent[1:])
    assert ADVICE in html.unescape(page.decode())
    (line,) = caplog.messages
    assert name in line
    assert ADVICE in line


def test_a_handshake_on_granians_wsgi_is_refused_in_words(routes: Flask) -> None:
    headers = {key.decode(): value.decode() for key, value in HANDSHAKE}
    response = routes.test_client().get(
        "/echo", headers=headers, environ_base={"SERVER_SOFTWARE": "Granian"}
    )
    assert response.status_code == 501
    page = html.unescape(response.get_data(as_text=True))
    assert "Granian" in page
    assert ADVICE in page


def test_a_wrapper_that_nobody_knows_is_told_by_its_scope(routes: Flask) -> None:
    environ = {"asgi.scope": scope_of("http")}
    headers = {key.decode(): value.decode() for key, value in HANDSHAKE}
    response = routes.test_client().get("/echo", headers=headers, environ_base=environ)
    assert response.status_code == 501
    assert ADVICE in html.unescape(response.get_data(as_text=True))


def test_an_app_without_websockets_is_told_nothing(
    app: Flask, sock: Sock, caplog: pytest.LogCaptureFixture
) -> None:
    app.add_url_rule("/page", view_func=lambda: "page")
    call(a2wsgi(app), scope_of("http"))
    assert not caplog.messages


def test_a_wrapper_that_serves_websockets_is_not_told_to_do_so(
    routes: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    scope = scope_of("http") | {SERVED: True}
    assert call(a2wsgi(routes), scope)[0]["status"] == 200
    assert not caplog.messages


def test_a_wsgi_server_is_told_nothing(routes: Flask, caplog: pytest.LogCaptureFixture) -> None:
    assert routes.test_client().get("/page").data == b"page"
    assert not caplog.messages
