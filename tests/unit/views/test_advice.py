"""What newcomers do wrong, one test for each, and the words that each of them gets to see."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import logging
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Blueprint, Flask, abort, session
from flask.sessions import SessionInterface, SessionMixin
from tests.support.memory import MemoryServer, in_thread
from tests.support.waiting import PATIENCE
from werkzeug.wrappers import Response

from flask_ws import (
    AsyncWebSocket,
    AsyncWebSocketView,
    ConfigurationError,
    ConnectionClosed,
    Sock,
    WebSocket,
    WebSocketView,
)
from flask_ws.cli import ws
from flask_ws.plugin.manager import FoundPlugin, Plugins
from flask_ws.routes import advice as routing_advice
from flask_ws.testing import HandshakeRefused, connect
from flask_ws.views import advice


@pytest.fixture(autouse=True)
def nothing_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advice, "_told", set())
    monkeypatch.setattr(advice, "_looked_at", weakref.WeakSet())


class Log:
    """What the logger of flask-ws says from WARNING on: where nothing is configured, on stderr."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    def lines(self) -> list[str]:
        return [
            record.getMessage()
            for record in self._caplog.records
            if record.name == "flask_ws" and record.levelno >= logging.WARNING
        ]

    def line(self) -> str:
        """The only line, which is one."""
        (line,) = self.lines()
        assert "\n" not in line
        return line


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    return Log(caplog)


@pytest.fixture
def bare(no_plugins: Plugins) -> Iterator[MemoryServer]:
    """A server of which no plugin knows."""
    server = MemoryServer()
    yield server
    server.close()


def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


def run(app: Flask, path: str = "/", **kwargs: Any) -> None:
    """Connect, and let the handler come to its end."""
    with connect(app, path, **kwargs):
        pass


def refused(app: Flask, path: str, **kwargs: Any) -> str:
    with pytest.raises(HandshakeRefused) as caught:
        run(app, path, **kwargs)
    return str(caught.value)


# Servers and plugins


def test_no_plugin_is_installed(app: Flask, sock: Sock, bare: MemoryServer, log: Log) -> None:
    sock.route("/")(echo)
    response = bare.refuse(app, environ={"werkzeug.socket": None})
    assert response.status == 501
    assert 'Install the plugin for this server: pip install "flask-ws[werkzeug]"' in log.line()


def test_the_plugin_of_another_server_is_installed(
    app: Flask, sock: Sock, bare: MemoryServer, no_plugins: Plugins, log: Log
) -> None:
    found = no_plugins.load()
    found.append(FoundPlugin("werkzeug", "flask_ws_werkzeug", "flask-ws-werkzeug", "1"))
    sock.route("/")(echo)
    assert bare.refuse(app, environ={"gunicorn.socket": None}).status == 501
    assert 'Install the plugin for this server: pip install "flask-ws[gunicorn]"' in log.line()


def test_the_server_is_one_that_has_no_plugin(
    app: Flask, sock: Sock, bare: MemoryServer, log: Log
) -> None:
    sock.route("/")(echo)
    assert bare.refuse(app, environ={"SERVER_SOFTWARE": "Cheroot/11 Server"}).status == 501
    assert (
        "No installed plugin knows the server 'Cheroot/11 Server' (installed: none). flask-ws has "
        "plugins for asgi, eventlet, gevent, gunicorn, uwsgi, waitress, werkzeug" in log.line()
    )


def test_detach_is_off_on_a_worker_with_one_thread(
    app: Flask, sock: Sock, server: MemoryServer, log: Log
) -> None:
    app.config["SOCK_DETACH"] = False
    sock.route("/")(lambda ws: None)
    for _ in range(2):
        peer = server.connect(app, detach=True)
        assert peer.read_close().close_code == 1000
        peer.send_close(1000)
    # Once: it is so for all connections.
    assert log.line() == (
        "SOCK_DETACH is off, and the server's worker has one thread: while a WebSocket is open, "
        "the worker answers nothing else. Leave SOCK_DETACH on, or give the server threads."
    )


def test_the_server_has_a_process_for_each_request(
    app: Flask, sock: Sock, server: MemoryServer, log: Log
) -> None:
    """``app.run(processes=8)``."""
    sock.route("/")(lambda ws: None)
    peer = server.connect(app, environ={"wsgi.multiprocess": True})
    assert peer.read_close().close_code == 1000
    peer.send_close(1000)
    assert "connections share no memory, and each keeps a process while it is open" in log.line()


GREEN = """
import logging, sys
logging.basicConfig(format="%(name)s %(levelname)s %(message)s")
if "patch" in sys.argv:
    {patch}
import {module}.greenlets
"""


@pytest.mark.parametrize(
    ("module", "patch"),
    [
        ("flask_ws_gevent", "import gevent.monkey; gevent.monkey.patch_all()"),
        ("flask_ws_eventlet", "import eventlet; eventlet.monkey_patch()"),
    ],
)
def test_the_process_is_not_monkey_patched(module: str, patch: str) -> None:
    """The module is imported at the first connection."""
    code = GREEN.format(module=module, patch=patch)

    def said(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stderr

    assert "flask_ws WARNING" not in said("patch")
    name = patch.rpartition("; ")[2].removesuffix("()")
    assert "runs without monkey-patching: a handler that waits in time.sleep()" in said()
    assert f"Call {name}() before all other imports." in said()


# Declaring a route


def test_route_without_its_parentheses(sock: Sock) -> None:
    with pytest.raises(TypeError, match=r'takes the URL rule first, as in @sock\.route\("/chat"\)'):
        sock.route(echo)  # type: ignore[arg-type]


def test_the_argument_ws_is_forgotten(sock: Sock) -> None:
    def feed() -> None: ...

    with pytest.raises(TypeError, match=r"feed takes no arguments, .* its first: def feed\(ws\)"):
        sock.route("/feed")(feed)  # type: ignore[type-var]


@pytest.mark.parametrize("rule", ["/chat/<room>", "/chat/<int:room>", "/<any(a,'b'):room>/"])
def test_the_argument_ws_is_forgotten_before_a_variable(sock: Sock, rule: str) -> None:
    def chat(room: Any) -> None: ...

    with pytest.raises(TypeError, match=r"'room', a variable of its URL.*: def chat\(ws, room\)"):
        sock.route(rule)(chat)


def test_a_variable_of_the_url_is_forgotten(app: Flask, sock: Sock) -> None:
    sock.route("/chat/<room>")(echo)
    with pytest.raises(TypeError, match=r"echo\(\) got an unexpected keyword argument 'room'"):
        run(app, "/chat/lobby")


def test_a_variable_that_no_handler_takes_is_told_at_the_first_request(
    app: Flask, sock: Sock, log: Log
) -> None:
    sock.route("/chat/<room>/<int:page>")(echo)
    sock.route("/fine/<room>", endpoint="fine")(lambda ws, room: None)
    sock.route("/any/<room>", endpoint="any")(lambda ws, **variables: None)
    app.route("/")(lambda: "a page")
    app.test_client().get("/")
    app.test_client().get("/")
    assert log.line() == (
        "echo does not take page, room of its URL /chat/<room>/<int:page>: each connection will "
        "end with 1011. Add it to its arguments."
    )


def test_an_app_may_take_variables_out_of_the_url(app: Flask, sock: Sock, log: Log) -> None:
    app.url_value_preprocessor(lambda endpoint, values: values and values.pop("language", None))
    sock.route("/<language>/chat")(lambda ws: None)
    run(app, "/en/chat")
    assert log.lines() == []


def test_sock_is_given_a_blueprint() -> None:
    with pytest.raises(TypeError, match=r"Blueprint 'rooms' is no app\. .*, bp=blueprint\)"):
        Sock(Blueprint("rooms", "rooms"))  # type: ignore[arg-type]


def test_sock_is_given_the_name_of_the_app() -> None:
    with pytest.raises(TypeError, match="Sock takes the app, as in"):
        Sock("app")  # type: ignore[arg-type]


def test_a_route_is_given_the_name_of_a_blueprint(sock: Sock) -> None:
    with pytest.raises(TypeError, match="bp is the blueprint itself, as in bp=blueprint, not 'ro"):
        sock.route("/", bp="rooms")  # type: ignore[arg-type]


def test_the_handler_is_async_under_a_decorator(app: Flask, sock: Sock) -> None:
    """Which hides it until it is called."""

    async def feed(ws: WebSocket) -> None: ...

    @functools.wraps(feed)
    def decorated(ws: WebSocket) -> object:
        return feed(ws)

    sock.route("/")(decorated)
    with pytest.raises(TypeError, match=r"feed returned a coroutine, which nobody awaits: .*"):
        run(app)


def test_an_async_handler_returns_what_it_should_await(app: Flask, sock: Sock) -> None:
    @sock.route("/")
    async def feed(ws: AsyncWebSocket) -> object:
        return ws.send("news")

    with pytest.raises(TypeError, match=r"feed returned a coroutine, .*: await it, as in return"):
        run(app)


async def awaits(ws: AsyncWebSocket) -> None:
    await ws.send("news")


async def iterates(ws: AsyncWebSocket) -> None:
    async for _ in ws:
        pass


@pytest.mark.parametrize("handler", [awaits, iterates])
def test_a_decorator_runs_an_async_handler(
    app: Flask, sock: Sock, log: Log, handler: Callable[[AsyncWebSocket], Any]
) -> None:
    """As those do that call ``app.ensure_sync()``: the handler gets a blocking ``ws``."""

    @functools.wraps(handler)
    def decorated(ws: AsyncWebSocket) -> None:
        asyncio.run(handler(ws))

    sock.route("/")(decorated)  # type: ignore[type-var]
    with pytest.raises(TypeError):
        run(app)
    assert log.line().startswith(
        f"{handler.__name__} is an async function behind a decorator that is none, and so it gets "
        "a blocking WebSocket, whose methods cannot be awaited. A decorator that is to act before"
    )


def test_a_blocking_handler_iterates_as_an_async_one(app: Flask, sock: Sock) -> None:
    @sock.route("/")
    def feed(ws: Any) -> None:
        asyncio.run(iterates(ws))

    with pytest.raises(TypeError, match="received from with: for message in ws, without async"):
        run(app)


def test_the_handler_yields(sock: Sock) -> None:
    def feed(ws: WebSocket) -> Iterator[str]:
        yield "news"

    with pytest.raises(TypeError, match=r"feed is a generator .* sends with ws\.send\(\), not"):
        sock.route("/")(feed)


def test_the_handler_yields_under_a_decorator(app: Flask, sock: Sock) -> None:
    sock.route("/")(lambda ws: (message for message in ws))
    with pytest.raises(TypeError, match="is a generator function: to call it runs nothing"):
        run(app)


def test_an_instance_of_an_event_view_is_given(sock: Sock) -> None:
    class Chat(WebSocketView): ...

    with pytest.raises(TypeError, match="Give the class Chat, not an instance of it"):
        sock.route("/")(Chat())  # type: ignore[type-var]


def test_a_class_is_not_derived_from_websocketview(sock: Sock) -> None:
    class Chat: ...

    with pytest.raises(TypeError, match="Chat is no event view: derive it from WebSocketView"):
        sock.route("/")(Chat)  # type: ignore[type-var]


def test_a_method_of_an_event_view_lacks_an_argument(sock: Sock) -> None:
    class Chat(WebSocketView):
        def on_message(self, message: str | bytes) -> None:  # type: ignore[override]
            ...

    with pytest.raises(TypeError, match=r"more .* than it takes: def on_message\(self, ws, mess"):
        sock.route("/")(Chat)


def test_the_methods_of_an_event_view_have_other_names(sock: Sock) -> None:
    class Chat(WebSocketView):
        def on_connect(self, ws: WebSocket) -> None: ...

        def on_disconnect(self, ws: WebSocket) -> None: ...

    expected = (
        "Chat has on_connect, on_disconnect, which flask-ws does not call: the methods of an "
        "event view are on_open, on_message, on_close"
    )
    with pytest.raises(TypeError, match=expected):
        sock.route("/")(Chat)


def guard(view: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as those of other extensions, for views."""

    @functools.wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        return Response("Who are you?", 401) if "user" not in session else view(*args, **kwargs)

    return guarded


def test_a_decorator_stands_above_route(app: Flask, sock: Sock, log: Log) -> None:
    """Python gives it the handler, not the view."""
    guarded = guard(sock.route("/")(above))
    globals()["above"], unguarded = guarded, above
    try:
        run(app)
        run(app)
    finally:
        globals()["above"] = unguarded
    assert log.line() == (
        "A decorator stands above @sock.route of above, and the route does not see it: it has no "
        'effect. Use @app.route("/...", websocket=True), then the decorator, then @sock.view.'
    )


def above(ws: WebSocket) -> None:
    """Has a name in this module, which decorators replace."""


def test_a_decorator_stands_above_route_in_an_app_factory(app: Flask, sock: Sock, log: Log) -> None:
    """The decorated handler is in no module, and Python forgets it."""

    @guard
    @sock.route("/")
    def feed(ws: WebSocket) -> None: ...

    run(app)
    assert "A decorator stands above @sock.route of " in log.line()


def test_decorators_in_their_right_order_are_no_mistake(app: Flask, sock: Sock, log: Log) -> None:
    @sock.route("/")
    @sock.route("/too", endpoint="too")
    def feed(ws: WebSocket) -> None: ...

    @app.route("/guarded", websocket=True)
    @functools.lru_cache
    @sock.view
    def guarded(ws: WebSocket) -> None: ...

    for path in ("/", "/too", "/guarded"):
        run(app, path)
    assert log.lines() == []


def test_sock_view_is_missing(app: Flask, sock: Sock, log: Log) -> None:
    app.add_url_rule("/feed", "feed", lambda: "a page", websocket=True)
    refused(app, "/feed")
    assert log.line().endswith(
        "refused: 200 by the app. The view feed of '/feed' has websocket=True and answers as to "
        "any HTTP request: @sock.view is missing directly above it, or hidden by a decorator that "
        "does not use functools.wraps."
    )


def test_the_handler_catches_the_exception_of_another_library(
    app: Flask, sock: Sock, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = type("ConnectionClosed", (Exception,), {"__module__": "simple_websocket.errors"})
    monkeypatch.setitem(globals(), "Foreign", foreign)
    sock.route("/")(echo)
    run(app)
    run(app)
    assert log.line().endswith(
        " imports Foreign from simple_websocket, and flask-ws never raises that: from flask_ws "
        "import ConnectionClosed."
    )


def test_a_handler_is_ended_by_another_connections_end(app: Flask, sock: Sock, log: Log) -> None:
    @sock.route("/")
    def feed(ws: WebSocket) -> None:
        raise ConnectionClosed(1001)

    run(app)
    assert log.line().endswith(
        "feed was ended by the ConnectionClosed of another connection than its own. Catch "
        "ConnectionClosed where you send to others; or let them subscribe to a channel, and "
        "publish."
    )


def test_a_decorator_stands_below_route(app: Flask, sock: Sock, log: Log) -> None:
    """It runs when the handshake has been answered."""
    sock.route("/")(guard(echo))
    run(app)
    assert log.line() == (
        "echo returned a response, which comes too late: the handshake has been answered. "
        "Instead, to refuse a handshake, do it before the handler runs: in a before_request "
        'function, or in a decorator of the view: @app.route("/...", websocket=True), then the '
        "decorator, then @sock.view."
    )


def test_a_handler_aborts(app: Flask, sock: Sock, log: Log) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @sock.route("/")
    def feed(ws: WebSocket) -> None:
        abort(401)

    run(app)
    assert "feed raised 401 Unauthorized, which comes too late: the handshake has" in log.line()


def test_view_stands_above_the_route(app: Flask, sock: Sock) -> None:
    """Flask has the handler then, and would call it without a connection."""
    app.route("/feed", websocket=True)(echo)  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r"@app\.route has echo already.* goes below @app\.route"):
        sock.view(echo)


def test_a_handler_is_routed_by_the_app(app: Flask, sock: Sock, log: Log) -> None:
    app.route("/feed")(echo)  # type: ignore[type-var]
    refused(app, "/feed")
    assert log.line().endswith(
        "This URL is an HTTP route, not a WebSocket. The app has no WebSocket routes: "
        "@sock.route declares one."
    )


def test_a_view_is_routed_without_websocket(app: Flask, sock: Sock, log: Log) -> None:
    app.route("/feed")(sock.view(echo))
    said = "The rule of this URL lacks websocket=True: @app.route('/feed', websocket=True)."
    assert said in refused(app, "/feed")
    assert log.line().endswith(said)


# Options


def test_an_option_is_misspelt(app: Flask) -> None:
    app.config["SOCK_PING_INTERVALL"] = 10
    with pytest.raises(
        ConfigurationError,
        match=r"no option 'SOCK_PING_INTERVALL': did you mean SOCK_PING_INTERVAL\?",
    ):
        Sock(app)


def test_an_option_of_a_route_is_misspelt(sock: Sock) -> None:
    with pytest.raises(ConfigurationError, match=r"'max_size': did you mean max_message_size\?"):
        sock.route("/", max_size=10)


def test_an_option_of_a_route_is_named_as_in_the_configuration(sock: Sock) -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean ping_interval\?"):
        sock.route("/", SOCK_PING_INTERVAL=10)


def test_an_option_is_a_text_from_the_environment(app: Flask) -> None:
    app.config["SOCK_PING_INTERVAL"] = "10"
    with pytest.raises(ConfigurationError, match="be a number of seconds above 0, or None, not '1"):
        Sock(app)


def test_an_origin_has_no_scheme(app: Flask) -> None:
    app.config["SOCK_ALLOWED_ORIGINS"] = ["example.com"]
    with pytest.raises(ConfigurationError, match=r'such as "https://example\.com", not'):
        Sock(app)


# Connecting


def test_the_page_comes_from_another_server(app: Flask, sock: Sock, log: Log) -> None:
    """As of a front end's development server."""
    sock.route("/")(echo)
    said = (
        "Origin 'http://localhost:3000' is not allowed for host 'localhost:5000' (allowed: the "
        'same origin). To allow it, set app.config["SOCK_ALLOWED_ORIGINS"] = '
        "['http://localhost:3000'], or allowed_origins of the route."
    )
    headers = {"Origin": "http://localhost:3000"}
    base_url = "http://localhost:5000"
    assert said in refused(app, "/", headers=headers, base_url=base_url)
    assert said in log.line()


def test_the_page_and_the_websocket_name_the_machine_differently(
    app: Flask, sock: Sock, log: Log
) -> None:
    sock.route("/")(echo)
    headers = {"Origin": "http://localhost:5000"}
    refused(app, "/", headers=headers, base_url="http://127.0.0.1:5000")
    assert (
        "Or open the page under the name it connects to: localhost is not 127.0.0.1." in log.line()
    )


@pytest.mark.parametrize("why", ["a proxy strips Upgrade", "it is opened in a browser"])
def test_the_request_is_no_handshake(app: Flask, sock: Sock, log: Log, why: str) -> None:
    sock.route("/feed")(echo)
    response = app.test_client().get("/feed", headers={"Sec-WebSocket-Version": "13"})
    said = (
        "This URL is a WebSocket, and the request does not ask for one. A page connects with new "
        "WebSocket(url); if one did, a proxy on the way does not pass the headers Upgrade and "
        "Connection on."
    )
    assert (response.status_code, said in response.get_data(as_text=True)) == (400, True)
    assert log.line() == f"WebSocket handshake from 127.0.0.1 for /feed refused: 400 {said}"


def test_a_handshake_is_posted(app: Flask, sock: Sock, log: Log) -> None:
    sock.route("/feed")(echo)
    assert "405 method not allowed" in refused(app, "/feed", method="POST").lower()
    assert "refused: 405 The method is not allowed for the requested URL." in log.line()


def test_the_url_is_misspelt(app: Flask, sock: Sock, log: Log) -> None:
    sock.route("/feed")(echo)
    refused(app, "/fed")
    assert log.line() == (
        "WebSocket handshake from 127.0.0.1 for /fed refused: 404 no route has this URL. Did you "
        "mean /feed?"
    )


def test_the_url_is_another(app: Flask, sock: Sock, log: Log) -> None:
    for number in range(10):
        sock.route(f"/feed/{number}", endpoint=str(number))(echo)
    refused(app, "/ws")
    assert (
        "404 no route has this URL. The WebSocket routes are /feed/0, /feed/1, /feed/2, /feed/3, "
        "/feed/4, /feed/5, /feed/6, /feed/7 and 2 more." in log.line()
    )


def test_the_url_is_that_of_a_page(app: Flask, sock: Sock, log: Log) -> None:
    app.route("/chat")(lambda: "the page")
    sock.route("/chat/ws")(echo)
    assert "This URL is an HTTP route, not a WebSocket." in refused(app, "/chat")
    assert log.line().endswith("an HTTP route, not a WebSocket. Did you mean /chat/ws?")


def test_the_url_lacks_the_slash_at_its_end(app: Flask, sock: Sock, log: Log) -> None:
    sock.route("/feed/")(echo)
    refused(app, "/feed")
    assert (
        "308 it is redirected to ws://localhost/feed/, and browsers do not follow redirects of "
        "handshakes: connect to that URL." in log.line()
    )


def test_the_blueprint_is_not_registered(app: Flask, sock: Sock, log: Log) -> None:
    other = Blueprint("other", __name__)
    for blueprint in (Blueprint("chat", __name__), other):
        sock.route("/feed", bp=blueprint)(echo)
    app.register_blueprint(other, url_prefix="/other")
    refused(app, "/feed")
    assert log.line().endswith(
        "Blueprint 'chat' has WebSocket routes, but the app has no such blueprint: "
        "app.register_blueprint() is missing."
    )


def test_sock_was_never_given_the_app(app: Flask) -> None:
    Sock().route("/feed")(echo)
    result = app.test_cli_runner().invoke(ws, ["routes"])
    assert "There are no WebSocket routes: Sock.init_app() was not called." in result.output


def test_the_client_speaks_socketio(app: Flask, sock: Sock, log: Log) -> None:
    sock.route("/feed")(echo)
    for _ in range(2):
        app.test_client().get("/socket.io/?EIO=4&transport=polling")
    assert "Socket.IO is a protocol of its own; flask-ws speaks plain WebSocket" in log.line()


# Messages


def test_send_is_given_a_number(app: Flask, sock: Sock) -> None:
    sock.route("/")(lambda ws: ws.send(7))
    with pytest.raises(TypeError, match=r"int: send str\(7\) as text, or 7 as JSON with send_json"):
        run(app)


def test_send_is_given_what_a_function_has_not_returned(app: Flask, sock: Sock) -> None:
    sock.route("/")(lambda ws: ws.send(None))
    with pytest.raises(TypeError, match="NoneType: is a return missing"):
        run(app)


@pytest.mark.parametrize("data", [{"a": 1}, ["a"]])
def test_send_is_given_what_is_no_message(app: Flask, sock: Sock, data: Any) -> None:
    sock.route("/")(lambda ws: ws.send(data))
    expected = rf"str or bytes, not {type(data).__name__}: send_json\(\) sends dictionaries"
    with pytest.raises(TypeError, match=expected):
        run(app)


def test_send_json_is_given_what_json_does_not_have(app: Flask, sock: Sock) -> None:
    sock.route("/")(lambda ws: ws.send_json({"a": object()}))
    expected = r"type object is not JSON serializable\. Send dictionaries, .* JSON provider write"
    with pytest.raises(TypeError, match=expected):
        run(app)


@pytest.mark.parametrize("name", ["send", "send_json"])
def test_what_is_sent_is_not_awaited(app: Flask, sock: Sock, name: str) -> None:
    @sock.route("/")
    async def handler(ws: AsyncWebSocket) -> None:
        coroutine = ws.receive()
        try:
            await getattr(ws, name)(coroutine)
        finally:
            # Python would warn of it when it is collected, in another test.
            coroutine.close()

    with pytest.raises(TypeError, match=r"coroutine.*[Aa]wait it, and send the result"):
        run(app)


@pytest.mark.parametrize("message", ["hello", b"\xff\xfe\xfd", ""])
def test_receive_json_gets_what_is_not_json(app: Flask, sock: Sock, message: str | bytes) -> None:
    sock.route("/")(lambda ws: ws.receive_json() and None)
    expected = r"The message is not JSON: .*Catch ValueError"
    with pytest.raises(ValueError, match=expected) as caught, connect(app, "/") as ws:
        ws.send(message)
    assert repr(message) in str(caught.value)


def test_a_message_is_larger_than_the_limit(app: Flask, sock: Sock, log: Log) -> None:
    sock.route("/", max_message_size=3)(echo)
    with connect(app, "/") as ws:
        ws.send("hello")
    assert log.line().endswith(
        " 127.0.0.1 /: the peer is at fault: 1009 message too big: 5 bytes, the limit is 3 "
        "(SOCK_MAX_MESSAGE_SIZE)"
    )


def test_send_on_a_connection_that_the_peer_has_closed(app: Flask, sock: Sock) -> None:
    said: list[str] = []

    @sock.route("/")
    def feed(ws: WebSocket) -> None:
        assert list(ws) == []
        try:
            ws.send("news")
        except ConnectionClosed as error:
            said.append(str(error))

    with connect(app, "/") as ws:
        ws.close(1001)
    assert said == [
        "The WebSocket is closed: 1001 going away: the server stops, or the page was left"
    ]


def test_send_from_a_thread_when_the_handler_has_returned(app: Flask, sock: Sock) -> None:
    left: list[WebSocket] = []
    sock.route("/")(left.append)
    run(app)
    with pytest.raises(ConnectionClosed, match="is closed: 1000 the handler has returned"):
        left[0].send("news")


def test_two_threads_receive(app: Flask, sock: Sock) -> None:
    said: list[str] = []

    @sock.route("/")
    def feed(ws: WebSocket) -> None:
        def receive() -> None:
            while not said and ws.connected:
                try:
                    ws.receive(timeout=0.01)
                except RuntimeError as error:
                    said.append(str(error))

        other = in_thread(receive)
        receive()
        other.result(PATIENCE)
        ws.send("said")

    with connect(app, "/") as ws:
        assert ws.receive() == "said"
    line, *_ = said
    assert line == (
        "Another thread is in receive() on this connection: let one thread receive and hand the "
        "messages on."
    )


def test_an_event_view_receives(app: Flask, sock: Sock) -> None:
    @sock.route("/")
    class Chat(WebSocketView):
        def on_open(self, ws: WebSocket) -> None:
            ws.receive()

    with pytest.raises(RuntimeError, match=r"gets its messages in on_message\(\); it cannot rec"):
        run(app)


def test_close_has_a_number_for_a_reason(app: Flask, sock: Sock) -> None:
    sock.route("/")(lambda ws: ws.close(4000, 7))
    with pytest.raises(TypeError, match=r"A reason is a text, not 7: close\(code, reason\)"):
        run(app)


@pytest.mark.parametrize("code", [0, 999, 1005, 1006, 5000])
def test_close_has_a_code_that_cannot_be_sent(app: Flask, sock: Sock, code: int) -> None:
    sock.route("/")(lambda ws: ws.close(code))
    with pytest.raises(ValueError, match=f"{code} is not a close code to send: 1000 to 1003, "):
        run(app)


def test_a_handler_returns_what_it_means_to_send(app: Flask, sock: Sock, log: Log) -> None:
    @sock.route("/")
    def feed(ws: WebSocket) -> str:
        return "news"

    for _ in range(2):
        run(app)
    assert log.line().endswith(
        "feed returned a value of type str, which is not sent: call ws.send()."
    )


def test_a_method_of_an_event_view_returns_what_it_means_to_send(
    app: Flask, sock: Sock, log: Log
) -> None:
    @sock.route("/")
    class Echo(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> Any:
            return message

    with connect(app, "/") as ws:
        ws.send("hello")
    assert log.line().endswith(
        "Echo.on_message returned a value of type str, which is not sent: call ws.send()."
    )


def test_a_method_of_an_event_view_aborts(app: Flask, sock: Sock, log: Log) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @sock.route("/")
    class Private(WebSocketView):
        def on_open(self, ws: WebSocket) -> None:
            abort(403)

    run(app)
    assert "Private.on_open raised 403 Forbidden, which comes too late: the" in log.line()


def test_a_handler_changes_the_session(app: Flask, sock: Sock, log: Log) -> None:
    @app.before_request
    def visit() -> None:
        # This is saved.
        session["visited"] = True

    @sock.route("/read")
    def read(ws: WebSocket) -> None:
        assert session["visited"]

    @sock.route("/write")
    def write(ws: WebSocket) -> None:
        session["user"] = "ada"

    run(app, "/read")
    assert log.lines() == []
    run(app, "/write")
    assert "write changed the session, which is lost: its cookie went out with" in log.line()


def test_a_session_that_cannot_tell_is_left_alone(app: Flask, sock: Sock, log: Log) -> None:
    class Session(dict[str, Any], SessionMixin):
        modified = property(lambda self: True)

    class Sessions(SessionInterface):
        def open_session(self, app: Flask, request: Any) -> Any:
            return Session()

        def save_session(self, app: Flask, session: Any, response: Any) -> None:
            pass

    app.session_interface = Sessions()
    sock.route("/")(lambda ws: session.update(user="ada"))
    run(app)
    assert log.lines() == []


# Channels


def test_processes_have_no_broker_in_common(
    app: Flask, sock: Sock, server: MemoryServer, log: Log
) -> None:
    sock.route("/")(lambda ws: ws.subscribe("news"))
    peer = server.connect(app, environ={"wsgi.multiprocess": True, "wsgi.multithread": True})
    assert peer.read_close().close_code == 1000
    peer.send_close(1000)
    assert log.line() == (
        "The server runs several processes, and SOCK_BROKER_URL is memory://: what one of them "
        "publishes does not reach the subscribers in the others. Set it to a broker that they "
        "share, such as redis:// of flask-ws[redis]."
    )


def test_the_plugin_of_the_broker_is_not_installed(app: Flask, no_plugins: Plugins) -> None:
    app.config["SOCK_BROKER_URL"] = "redis://localhost"
    expected = r'''no installed plugin knows the scheme 'redis': pip install "flask-ws\[redis\]"'''
    with pytest.raises(ConfigurationError, match=expected):
        Sock(app)


def test_publish_is_given_what_is_no_message(app: Flask, sock: Sock) -> None:
    with app.app_context(), pytest.raises(TypeError, match=r"publish_json\(\) publishes them"):
        sock.publish("news", {"a": 1})  # type: ignore[arg-type]


def test_publish_is_called_without_an_app_context(sock: Sock) -> None:
    """As in a thread of one's own; Flask says what to do."""
    with pytest.raises(RuntimeError, match=r"outside of application context"):
        sock.publish("news", "hello")


# Tests


def test_the_test_client_of_flask_is_used(app: Flask, sock: Sock) -> None:
    sock.route("/feed")(echo)
    app.testing = True
    text = app.test_client().get("/feed").get_data(as_text=True)
    assert "In a test, use flask_ws.testing.connect()." in text


def test_connect_is_used_without_with(app: Flask, sock: Sock) -> None:
    sock.route("/")(echo)
    with pytest.raises(AttributeError, match=r"with connect\(\.\.\.\) as ws, then ws\.send\."):
        connect(app, "/").send("hello")  # type: ignore[attr-defined]


def test_connect_is_given_no_app() -> None:
    with pytest.raises(TypeError, match="takes an app or a test client of it, not '/feed'"):
        connect("/feed", Flask("app"))  # type: ignore[arg-type]


# What a handler does at the end


def test_a_handler_sends_after_close(app: Flask, sock: Sock, log: Log) -> None:
    @sock.route("/feed")
    def feed(ws: WebSocket) -> None:
        ws.close(4000)
        ws.send("more")

    with connect(app, "/feed") as peer:
        list(peer)
    assert log.line() == (
        f"{feed.__qualname__} calls send() after close(), which raises ConnectionClosed and ends "
        "it: send before that, or return."
    )


def test_a_method_sends_after_close(app: Flask, sock: Sock, log: Log) -> None:
    @sock.route("/feed")
    class Feed(WebSocketView):
        def on_open(self, ws: WebSocket) -> None:
            ws.close(4000)
            ws.send_json({})

    with connect(app, "/feed") as peer:
        list(peer)
    assert "Feed.on_open calls send" in log.line()


def test_an_async_handler_sends_after_close(app: Flask, sock: Sock, log: Log) -> None:
    @sock.route("/feed")
    async def feed(ws: AsyncWebSocket) -> None:
        await ws.close(4000)
        await ws.send("more")

    with connect(app, "/feed") as peer:
        list(peer)
    assert f"{feed.__qualname__} calls send() after close()" in log.line()


def test_an_async_method_sends_after_close(app: Flask, sock: Sock, log: Log) -> None:
    @sock.route("/feed")
    class Feed(AsyncWebSocketView):
        async def on_open(self, ws: AsyncWebSocket) -> None:
            await ws.close(4000)
            await ws.send_json({})

    with connect(app, "/feed") as peer:
        list(peer)
    assert "Feed.on_open calls send" in log.line()


@pytest.mark.parametrize("ending", ["receive", "other task"])
def test_other_ends_of_an_async_handler_are_no_mistakes(
    app: Flask, sock: Sock, log: Log, ending: str
) -> None:
    @sock.route("/feed")
    async def feed(ws: AsyncWebSocket) -> None:
        if ending == "receive":
            await ws.close(4000)
            await ws.receive()
        await asyncio.gather(asyncio.ensure_future(close(ws)))
        await ws.send("more")

    async def close(ws: AsyncWebSocket) -> None:
        await ws.close()

    with connect(app, "/feed") as peer:
        list(peer)
    assert log.lines() == []


@pytest.mark.parametrize("ending", ["receive", "other thread"])
def test_other_ends_of_a_handler_are_no_mistakes(
    app: Flask, sock: Sock, log: Log, ending: str
) -> None:
    @sock.route("/feed")
    def feed(ws: WebSocket) -> None:
        if ending == "receive":
            ws.close(4000)
            ws.receive()
        in_thread(ws.close).result(PATIENCE)
        ws.send("more")

    with connect(app, "/feed") as peer:
        list(peer)
    assert log.lines() == []


def test_a_sock_has_never_been_given_an_app(app: Flask, log: Log) -> None:
    # Those that other tests have left.
    gc.collect()
    lost = Sock()
    lost.route("/feed")(echo)
    with pytest.raises(HandshakeRefused), connect(app, "/feed"):
        pass
    assert log.line() == (
        "WebSocket handshake from 127.0.0.1 for /feed finds no route, and there are WebSocket "
        "routes that no app has: /feed. Call init_app(app) of their Sock."
    )


def test_a_sock_that_is_given_an_app_later_is_no_mistake(app: Flask, log: Log) -> None:
    late = Sock()
    late.route("/late")(echo)
    late.init_app(app)
    with pytest.raises(HandshakeRefused), connect(app, "/nowhere"):
        pass
    # Those of other tests may still be there.
    assert not [line for line in log.lines() if "init_app" in line and "/late" in line]


class Broken:
    """Breaks whoever looks at it, as the source of a handler breaks Python's parser at times."""

    def __getattribute__(self, name: str) -> object:
        raise SystemError(name)


@pytest.mark.parametrize(
    "advise",
    [
        advice.explain_exception,
        advice.explain_foreign_end,
        advice.explain_late_send,
        advice.warn_of_handler,
        routing_advice.explain_lost_routes,
        routing_advice.explain_routing,
        routing_advice.warn_of_silence,
        routing_advice.warn_of_variables,
        functools.partial(routing_advice.warn_of_worker, detached=False),
    ],
)
def test_advice_that_fails_costs_nothing_else(advise: Callable[..., object], log: Log) -> None:
    number = len(inspect.signature(advise).parameters) - isinstance(advise, functools.partial)
    advise(*[Broken()] * number)
    assert log.lines() == []


def test_a_handler_whose_source_cannot_be_parsed_is_called(
    app: Flask, sock: Sock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(handler: object) -> None:
        raise SystemError("AST constructor recursion depth mismatch")

    monkeypatch.setattr(advice, "_is_decorated_in_source", fail)
    sock.route("/feed")(echo)
    with connect(app, "/feed") as ws:
        ws.send("hello")
        assert ws.receive() == "hello"
