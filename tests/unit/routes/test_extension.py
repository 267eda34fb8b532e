from __future__ import annotations

import functools
import gc
import weakref
from collections.abc import Callable
from typing import Any

import flask
import pytest
from flask import Blueprint, Flask, abort, g, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from tests.support.memory import Call, MemoryServer
from tests.support.raw import Peer, handshake_headers, make_key
from werkzeug.exceptions import Forbidden, HTTPException

from flask_ws import AsyncWebSocket, Sock, WebSocket
from flask_ws.concurrency import threads
from flask_ws.loop.monitor import monitor_for
from flask_ws.testing import connect


def read_all(server: MemoryServer, app: Flask, target: str = "/", **kwargs: Any) -> list[Any]:
    """What a handler sends before it ends the connection."""
    peer = server.connect(app, target, **kwargs)
    messages: list[Any] = []
    while (frame := peer.read_frame()).opcode != 0x8:
        messages.append(frame.payload.decode())
    assert frame.close_code == 1000
    return messages


def hello(ws: WebSocket) -> None:
    ws.send("hello")


# Declaring


def test_a_handler_is_returned_unchanged(sock: Sock) -> None:
    assert sock.route("/")(hello) is hello


def test_a_handler_may_have_several_routes(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/one", endpoint="one")
    @sock.route("/two", endpoint="two")
    def handler(ws: WebSocket) -> None:
        ws.send(str(request.endpoint))

    assert read_all(server, app, "/one") == ["one"]
    assert read_all(server, app, "/two") == ["two"]


def test_a_handler_may_be_called_as_a_function(sock: Sock) -> None:
    """By a test, for one."""
    sent: list[str] = []

    class Fake:
        def send(self, data: str) -> None:
            sent.append(data)

    @sock.route("/")
    def handler(ws: Any) -> None:
        ws.send("hello")

    handler(Fake())

    assert sent == ["hello"]


async def coroutine(ws: AsyncWebSocket) -> None:
    await ws.send("hello")


async def generator(ws: AsyncWebSocket) -> Any:
    yield


class AsyncCallable:
    async def __call__(self, ws: AsyncWebSocket) -> None:
        await ws.send("hello")


@pytest.mark.parametrize(
    "handler",
    [coroutine, functools.partial(coroutine), AsyncCallable()],
    ids=["function", "partial", "object"],
)
def test_whatever_makes_a_coroutine_is_an_async_handler(
    app: Flask, sock: Sock, handler: Any
) -> None:
    sock.route("/", endpoint="async")(handler)
    with connect(app, "/") as ws:
        assert ws.receive() == "hello"


def test_an_async_handler_may_be_a_view(app: Flask, sock: Sock) -> None:
    app.add_url_rule("/", view_func=sock.view(coroutine), websocket=True)
    with connect(app, "/") as ws:
        assert ws.receive() == "hello"


def test_an_async_generator_is_refused_when_it_is_declared(sock: Sock) -> None:
    with pytest.raises(TypeError, match=r"generator is a generator function.* ws\.send\(\)"):
        sock.route("/")(generator)


def no_arguments() -> None: ...


def only_by_name(*, ws: WebSocket) -> None: ...


def only_names(**names: object) -> None: ...


@pytest.mark.parametrize("handler", [no_arguments, only_by_name, only_names])
def test_a_handler_without_a_place_for_the_connection_is_refused(sock: Sock, handler: Any) -> None:
    with pytest.raises(TypeError, match=rf"{handler.__name__} takes no arguments.*\(ws\)"):
        sock.route("/")(handler)


@pytest.mark.parametrize("handler", ["hello", None, 5])
def test_what_cannot_be_called_is_no_handler(sock: Sock, handler: Any) -> None:
    with pytest.raises(TypeError, match=r"."):
        sock.route("/")(handler)


def test_a_class_that_is_no_event_view_is_refused(sock: Sock) -> None:
    class Other:
        def __init__(self, ws: WebSocket) -> None: ...

    with pytest.raises(TypeError, match="derive it from WebSocketView"):
        sock.route("/")(Other)


class Callables:
    def method(self, ws: WebSocket) -> None:
        ws.send("hello")

    def __call__(self, ws: WebSocket) -> None:
        ws.send("hello")


def varied(*args: Any) -> None:
    args[0].send("hello")


@pytest.mark.parametrize(
    "handler",
    [
        hello,
        Callables().method,
        Callables(),
        functools.partial(hello),
        varied,
        lambda ws: ws.send("hello"),
    ],
    ids=["function", "method", "object", "partial", "variable arguments", "lambda"],
)
def test_whatever_can_be_called_with_a_connection_is_a_handler(
    app: Flask, sock: Sock, server: MemoryServer, handler: Callable[[WebSocket], None]
) -> None:
    sock.route("/", endpoint="any")(handler)

    assert read_all(server, app) == ["hello"]


def test_handlers_without_a_name_are_endpoints_of_their_own(app: Flask, sock: Sock) -> None:
    """A partial is named after its function, and an object after its class."""
    sock.route("/partial")(functools.partial(hello))
    sock.route("/object")(Callables())
    rules = [rule for rule in app.url_map.iter_rules() if rule.websocket]
    assert {rule.endpoint for rule in rules} == {"hello", "Callables"}


# The URL


def test_a_handler_gets_the_variables_of_the_url(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @sock.route("/chat/<room>/<int:number>")
    def chat(ws: WebSocket, room: str, number: int) -> None:
        ws.send_json([room, number])

    assert read_all(server, app, "/chat/attic/5") == ['["attic", 5]']


def test_a_handler_may_name_its_connection_as_it_likes(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @sock.route("/<ws>")
    def handler(connection: WebSocket, ws: str) -> None:
        connection.send(ws)

    assert read_all(server, app, "/value") == ["value"]


def test_defaults_of_the_rule_are_passed_on(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/", defaults={"room": "lobby"})
    def handler(ws: WebSocket, room: str) -> None:
        ws.send(room)

    assert read_all(server, app) == ["lobby"]


def test_a_route_may_have_an_endpoint(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/", endpoint="feed")
    def handler(ws: WebSocket) -> None:
        ws.send(str(request.endpoint))

    assert read_all(server, app) == ["feed"]


def test_url_for_knows_a_route(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/chat/<room>")
    def chat(ws: WebSocket, room: str) -> None:
        ws.send(url_for("chat", room="cellar"))

    assert read_all(server, app, "/chat/attic") == ["ws://localhost/chat/cellar"]


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("http://localhost", "ws://localhost/hello"),
        ("https://example.com", "wss://example.com/hello"),
        ("http://example.com:8080/mounted", "ws://example.com:8080/mounted/hello"),
    ],
)
@pytest.mark.parametrize("values", [{}, {"_external": True}, {"_external": False}])
def test_url_for_makes_the_whole_url_of_a_websocket(
    app: Flask, sock: Sock, base_url: str, expected: str, values: dict[str, Any]
) -> None:
    sock.route("/hello")(hello)

    with app.test_request_context(base_url=base_url):
        assert url_for("hello", **values) == expected


def test_an_unknown_url_is_not_found(app: Flask, sock: Sock, server: MemoryServer) -> None:
    sock.route("/")(hello)

    assert server.refuse(app, "/elsewhere").status == 404


# Beside HTTP


def test_a_plain_get_of_a_websocket_url_is_a_bad_request(app: Flask, sock: Sock) -> None:
    sock.route("/")(hello)

    assert app.test_client().get("/").status_code == 400


def test_a_plain_get_of_a_view_on_an_http_rule_is_426(app: Flask, sock: Sock) -> None:
    app.add_url_rule("/", view_func=sock.view(hello))
    response = app.test_client().get("/")

    assert response.status_code == 426
    assert response.headers["Sec-WebSocket-Version"] == "13"


def test_a_view_on_an_http_rule_does_not_answer_a_handshake(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    """Flask keeps the two kinds of rules apart."""
    app.add_url_rule("/", view_func=sock.view(hello))

    assert server.refuse(app).status == 400


def test_another_method_is_not_allowed(app: Flask, sock: Sock) -> None:
    sock.route("/")(hello)

    assert app.test_client().post("/").status_code == 405


def test_an_http_route_and_a_websocket_route_share_a_url(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    app.add_url_rule("/", "page", lambda: "a page")
    sock.route("/")(hello)

    assert app.test_client().get("/").data == b"a page"
    assert read_all(server, app) == ["hello"]


def test_an_http_route_may_come_after_the_websocket_route(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(hello)
    app.add_url_rule("/", "page", lambda: "a page")

    assert app.test_client().get("/").data == b"a page"
    assert read_all(server, app) == ["hello"]


def test_a_handshake_for_an_http_url_is_a_bad_request(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    app.add_url_rule("/", "page", lambda: "a page")

    assert server.refuse(app).status == 400


def test_http_requests_of_the_app_are_as_before(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    app.add_url_rule("/", "page", lambda: "a page")

    assert server.refuse(app, headers=[]).text == "a page"


# before_request, decorators


def test_before_request_functions_run_first(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @app.before_request
    def before() -> None:
        g.order = ["before"]

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send_json([*g.order, "handler"])

    assert read_all(server, app) == ['["before", "handler"]']


def test_before_request_may_abort(app: Flask, sock: Sock, server: MemoryServer) -> None:
    app.before_request(lambda: abort(401))
    sock.route("/")(hello)

    assert server.refuse(app).status == 401


def test_before_request_may_answer(app: Flask, sock: Sock, server: MemoryServer) -> None:
    app.before_request(lambda: ("come back later", 503))
    sock.route("/")(hello)
    response = server.refuse(app)

    assert (response.status, response.text) == (503, "come back later")


def test_before_request_may_redirect(app: Flask, sock: Sock, server: MemoryServer) -> None:
    app.before_request(lambda: flask.redirect("/login"))
    sock.route("/")(hello)

    location = server.refuse(app).get("Location") or ""

    # Flask < 2.1 makes it absolute.
    assert location.endswith("/login")


def test_a_handler_does_not_run_when_before_request_aborts(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    ran: list[int] = []
    app.before_request(lambda: abort(401))
    sock.route("/")(lambda ws: ran.append(1))
    server.refuse(app)

    assert ran == []


def login_required(view: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(view)
    def check(**kwargs: Any) -> Any:
        if "user" not in request.args:
            abort(401)
        g.user = request.args["user"]
        return view(**kwargs)

    return check


def add_feed(app: Flask, sock: Sock) -> None:
    @app.route("/feed/<name>", websocket=True)
    @login_required
    @sock.view
    def feed(ws: WebSocket, name: str) -> None:
        ws.send(f"{g.user} reads {name}")


def test_a_decorator_over_a_view_may_abort(app: Flask, sock: Sock, server: MemoryServer) -> None:
    add_feed(app, sock)

    assert server.refuse(app, "/feed/news").status == 401


def test_a_decorator_over_a_view_may_let_pass(app: Flask, sock: Sock, server: MemoryServer) -> None:
    add_feed(app, sock)

    assert read_all(server, app, "/feed/news?user=me") == ["me reads news"]


def test_a_decorator_over_a_view_acts_before_the_handshake_is_checked(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    add_feed(app, sock)

    assert server.refuse(app, "/feed/news", headers=handshake_headers(None)).status == 401


def test_a_decorator_over_a_view_sees_a_response(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    seen: list[int] = []

    def watch(view: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(view)
        def watched(**kwargs: Any) -> Any:
            response = view(**kwargs)
            seen.append(response.status_code)
            return response

        return watched

    app.add_url_rule("/", view_func=watch(sock.view(hello)), websocket=True)
    read_all(server, app)

    assert seen == [101]


def test_a_view_has_the_name_of_its_handler(sock: Sock) -> None:
    assert sock.view(hello).__name__ == "hello"


def test_a_view_may_have_options(app: Flask, sock: Sock, server: MemoryServer) -> None:
    view = sock.view(hello, allowed_origins=["https://other.example"])
    app.add_url_rule("/", view_func=view, websocket=True)

    assert read_all(server, app, extra=[("Origin", "https://other.example")]) == ["hello"]


def test_a_view_may_be_used_on_an_app_that_was_not_initialised(server: MemoryServer) -> None:
    app = Flask("app")
    app.add_url_rule("/", view_func=Sock().view(hello), websocket=True)

    assert read_all(server, app) == ["hello"]


# after_request


def test_headers_of_after_request_are_on_the_101(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        response.headers["X-Request-Id"] = "5"
        return response

    sock.route("/")(hello)

    assert server.accepted(server.call(app)).get("X-Request-Id") == "5"


def test_headers_of_after_this_request_are_on_the_101(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @app.before_request
    def before() -> None:
        @flask.after_this_request
        def after(response: flask.Response) -> flask.Response:
            response.headers["X-Request-Id"] = "5"
            return response

    sock.route("/")(hello)

    assert server.accepted(server.call(app)).get("X-Request-Id") == "5"


def test_after_request_sees_a_101(app: Flask, sock: Sock, server: MemoryServer) -> None:
    seen: list[int] = []

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        seen.append(response.status_code)
        return response

    sock.route("/")(hello)
    read_all(server, app)

    assert seen == [101]


def test_after_request_runs_before_the_handler(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    order: list[str] = []

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        order.append("after_request")
        return response

    sock.route("/")(lambda ws: order.append("handler"))
    read_all(server, app)

    assert order == ["after_request", "handler"]


def test_after_request_may_look_at_the_body(app: Flask, sock: Sock, server: MemoryServer) -> None:
    """Of which there is none."""
    bodies: list[bytes] = []

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        bodies.append(response.get_data())
        return response

    sock.route("/")(hello)
    read_all(server, app)

    assert bodies == [b""]


def test_after_request_may_answer_otherwise(app: Flask, sock: Sock, server: MemoryServer) -> None:
    ran: list[int] = []
    app.after_request(lambda response: app.make_response(("closed today", 503)))
    sock.route("/")(lambda ws: ran.append(1))
    response = server.refuse(app)

    assert (response.status, response.text, ran) == (503, "closed today", [])


def test_after_request_may_change_the_status(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        response.status_code = 503
        return response

    sock.route("/")(hello)

    assert server.refuse(app).status == 503


def test_an_error_in_after_request_is_a_500(
    app: Flask, sock: Sock, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    def after(response: flask.Response) -> flask.Response:
        raise RuntimeError

    app.after_request(after)
    sock.route("/")(hello)
    call = server.call(app)

    assert call.refused().status == 500
    call.peer.expect_end()


def test_after_request_sees_a_refusal(app: Flask, sock: Sock, server: MemoryServer) -> None:
    seen: list[int] = []

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        seen.append(response.status_code)
        return response

    sock.route("/")(hello)
    server.refuse(app, headers=handshake_headers(None))

    assert seen == [400]


# Cookies and the session


def test_a_handler_reads_cookies(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(request.cookies["flavour"])

    assert read_all(server, app, extra=[("Cookie", "flavour=plain")]) == ["plain"]


def session_cookie(app: Flask, **values: str) -> tuple[str, str]:
    serializer = SecureCookieSessionInterface().get_signing_serializer(app)
    assert serializer is not None
    return ("Cookie", f"session={serializer.dumps(values)}")


def test_a_handler_reads_the_session(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(session["user"])

    assert read_all(server, app, extra=[session_cookie(app, user="me")]) == ["me"]


def test_what_before_request_writes_into_the_session_is_on_the_101(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @app.before_request
    def before() -> None:
        session["user"] = "me"

    sock.route("/")(hello)
    response = server.accepted(server.call(app))

    assert (response.get("Set-Cookie") or "").startswith("session=")


def test_what_before_request_writes_into_the_session_the_handler_reads(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @app.before_request
    def before() -> None:
        session["user"] = "me"

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(session["user"])

    assert read_all(server, app) == ["me"]


def test_cookies_set_by_after_request_are_on_the_101(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        response.set_cookie("one", "1")
        response.set_cookie("two", "2")
        return response

    sock.route("/")(hello)
    response = server.accepted(server.call(app))

    assert response.get_all("Set-Cookie") == ["one=1; Path=/", "two=2; Path=/"]


def test_a_session_that_was_not_touched_sets_no_cookie(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(hello)

    assert server.accepted(server.call(app)).get("Set-Cookie") is None


# The request context


def test_a_handler_has_the_request(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send_json([request.args["a"], request.headers["X-Test"], request.remote_addr])

    assert read_all(server, app, "/?a=1", extra=[("X-Test", "2")]) == ['["1", "2", "127.0.0.1"]']


def test_a_handler_has_the_app(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(flask.current_app.name)

    assert read_all(server, app) == ["app"]


def test_a_handler_has_what_before_request_left_in_g(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @app.before_request
    def before() -> None:
        g.user = "me"

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(g.user)

    assert read_all(server, app) == ["me"]


def test_connections_have_a_g_each(app: Flask, sock: Sock, server: MemoryServer) -> None:
    @sock.route("/<name>")
    def handler(ws: WebSocket, name: str) -> None:
        before = g.get("name", "nothing")
        g.name = name
        ws.receive()
        ws.send(f"{before}, then {g.name}")

    peers = {name: server.connect(app, f"/{name}") for name in ("a", "b")}

    assert {name: peer.echo("go") for name, peer in peers.items()} == {
        "a": "nothing, then a",
        "b": "nothing, then b",
    }
    for peer in peers.values():
        peer.answer_close()


# Blueprints


def test_a_route_on_a_blueprint_has_its_prefix(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    bp = Blueprint("bp", "bp", url_prefix="/api")
    sock.route("/hello", bp=bp)(hello)
    app.register_blueprint(bp)

    assert read_all(server, app, "/api/hello") == ["hello"]


def test_a_route_on_a_blueprint_is_not_on_the_app(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    bp = Blueprint("bp", "bp", url_prefix="/api")
    sock.route("/hello", bp=bp)(hello)
    app.register_blueprint(bp)

    assert server.refuse(app, "/hello").status == 404


def test_the_blueprint_may_be_given_without_its_name(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    """As for flask-sock."""
    bp = Blueprint("bp", "bp", url_prefix="/api")
    sock.route("/hello", bp)(hello)
    app.register_blueprint(bp)

    assert read_all(server, app, "/api/hello") == ["hello"]


def test_a_blueprint_may_be_registered_with_another_prefix(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    bp = Blueprint("bp", "bp")
    sock.route("/hello", bp=bp)(hello)
    app.register_blueprint(bp, url_prefix="/v1", name="v1")
    app.register_blueprint(bp, url_prefix="/v2", name="v2")

    assert read_all(server, app, "/v1/hello") == ["hello"]
    assert read_all(server, app, "/v2/hello") == ["hello"]


def test_a_blueprint_may_be_in_another(app: Flask, sock: Sock, server: MemoryServer) -> None:
    outer, inner = Blueprint("outer", "outer"), Blueprint("inner", "inner")
    sock.route("/hello", bp=inner)(hello)
    outer.register_blueprint(inner, url_prefix="/inner")
    app.register_blueprint(outer, url_prefix="/outer")

    assert read_all(server, app, "/outer/inner/hello") == ["hello"]


def test_a_prefix_of_a_blueprint_may_have_variables(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    bp = Blueprint("bp", "bp", url_prefix="/<tenant>")

    @sock.route("/<room>", bp=bp)
    def handler(ws: WebSocket, tenant: str, room: str) -> None:
        ws.send(f"{room} of {tenant}")

    app.register_blueprint(bp)

    assert read_all(server, app, "/acme/attic") == ["attic of acme"]


def test_before_request_functions_of_a_blueprint_act_on_its_routes(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    bp = Blueprint("bp", "bp", url_prefix="/api")
    bp.before_request(lambda: abort(401))
    sock.route("/hello", bp=bp)(hello)
    sock.route("/open", endpoint="open")(hello)
    app.register_blueprint(bp)

    assert server.refuse(app, "/api/hello").status == 401
    assert read_all(server, app, "/open") == ["hello"]


def test_error_handlers_of_a_blueprint_see_refusals(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    bp = Blueprint("bp", "bp", url_prefix="/api")
    bp.register_error_handler(400, lambda error: ("from the blueprint", 400))
    sock.route("/hello", bp=bp)(hello)
    app.register_blueprint(bp)

    assert server.refuse(app, "/api/hello", headers=handshake_headers(None)).text == (
        "from the blueprint"
    )


def test_url_for_knows_a_route_on_a_blueprint(app: Flask, sock: Sock, server: MemoryServer) -> None:
    bp = Blueprint("bp", "bp", url_prefix="/api")

    @sock.route("/hello", bp=bp)
    def handler(ws: WebSocket) -> None:
        ws.send(url_for(".handler"))

    app.register_blueprint(bp)

    assert read_all(server, app, "/api/hello") == ["ws://localhost/api/hello"]


@pytest.fixture
def hosts() -> Flask:
    app = Flask("app", subdomain_matching=True)
    app.config["SERVER_NAME"] = "example.com"
    return app


def test_a_route_may_be_on_a_subdomain(hosts: Flask, server: MemoryServer) -> None:
    Sock(hosts).route("/", subdomain="api")(hello)

    assert read_all(server, hosts, host="api.example.com") == ["hello"]


def test_a_route_on_a_subdomain_is_not_elsewhere(hosts: Flask, server: MemoryServer) -> None:
    Sock(hosts).route("/", subdomain="api")(hello)

    assert server.refuse(hosts, host="example.com").status == 404


def test_a_blueprint_may_be_on_a_subdomain(hosts: Flask, server: MemoryServer) -> None:
    bp = Blueprint("bp", "bp", subdomain="api")
    Sock(hosts).route("/", bp=bp)(hello)
    hosts.register_blueprint(bp)

    assert read_all(server, hosts, host="api.example.com") == ["hello"]


def test_a_subdomain_may_be_a_variable(hosts: Flask, server: MemoryServer) -> None:
    @Sock(hosts).route("/", subdomain="<tenant>")
    def handler(ws: WebSocket, tenant: str) -> None:
        ws.send(tenant)

    assert read_all(server, hosts, host="acme.example.com") == ["acme"]


# Apps


def test_a_route_declared_before_init_app_is_there(server: MemoryServer) -> None:
    sock, app = Sock(), Flask("app")
    sock.route("/")(hello)
    sock.init_app(app)

    assert read_all(server, app) == ["hello"]


def test_a_route_declared_after_init_app_is_there(server: MemoryServer) -> None:
    sock, app = Sock(), Flask("app")
    sock.init_app(app)
    sock.route("/")(hello)

    assert read_all(server, app) == ["hello"]


def test_an_app_factory_makes_apps_that_work(server: MemoryServer) -> None:
    sock = Sock()
    sock.route("/")(hello)

    def create_app() -> Flask:
        app = Flask("app")
        sock.init_app(app)
        return app

    for _ in range(3):
        assert read_all(server, create_app()) == ["hello"]


def test_one_sock_serves_two_apps(server: MemoryServer) -> None:
    sock, one, two = Sock(), Flask("one"), Flask("two")
    sock.init_app(one)
    sock.init_app(two)

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(flask.current_app.name)

    assert read_all(server, one) == ["one"]
    assert read_all(server, two) == ["two"]


def test_a_route_declared_between_two_apps_reaches_both(server: MemoryServer) -> None:
    one, two = Flask("one"), Flask("two")
    sock = Sock(one)
    sock.route("/")(hello)
    sock.init_app(two)

    assert read_all(server, one) == ["hello"]
    assert read_all(server, two) == ["hello"]


def test_two_apps_may_have_options_of_their_own(server: MemoryServer) -> None:
    sock, strict, lax = Sock(), Flask("strict"), Flask("lax")
    lax.config["SOCK_ALLOWED_ORIGINS"] = "*"
    sock.init_app(strict)
    sock.init_app(lax)
    sock.route("/")(hello)
    origin = ("Origin", "https://other.example")

    assert server.refuse(strict, extra=[origin]).status == 403
    assert read_all(server, lax, extra=[origin]) == ["hello"]


def test_two_socks_may_serve_one_app(app: Flask, server: MemoryServer) -> None:
    one, two = Sock(app), Sock(app)
    one.route("/one", endpoint="one")(hello)
    two.route("/two", endpoint="two")(hello)

    assert read_all(server, app, "/one") == ["hello"]
    assert read_all(server, app, "/two") == ["hello"]


def test_initialising_an_app_twice_does_nothing_more(app: Flask, server: MemoryServer) -> None:
    sock = Sock(app)
    sock.route("/")(hello)
    sock.init_app(app)

    assert len([rule for rule in app.url_map.iter_rules() if rule.rule == "/"]) == 1


def test_a_sock_does_not_keep_its_apps_alive() -> None:
    sock = Sock()
    sock.route("/")(hello)

    def make() -> weakref.ref[Flask]:
        app = Flask("app")
        sock.init_app(app)
        return weakref.ref(app)

    made = make()
    gc.collect()

    assert made() is None


def test_middleware_may_be_put_around_the_app(app: Flask, sock: Sock, server: MemoryServer) -> None:
    inner = app.wsgi_app

    def middleware(environ: Any, start_response: Any) -> Any:
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/mounted")
        return inner(environ, start_response)

    app.wsgi_app = middleware  # type: ignore[method-assign]
    sock.route("/hello")(hello)

    assert read_all(server, app, "/mounted/hello") == ["hello"]


# Refusals


@pytest.mark.parametrize("key", [403, Forbidden, HTTPException])
def test_an_error_handler_sees_a_refusal(
    app: Flask, sock: Sock, server: MemoryServer, key: Any
) -> None:
    app.register_error_handler(key, lambda error: (f"custom {error.code}", error.code))
    sock.route("/")(hello)
    response = server.refuse(app, extra=[("Origin", "http://evil.example")])

    assert (response.status, response.text) == (403, "custom 403")


@pytest.mark.parametrize(
    ("status", "headers", "environ"),
    [
        (400, handshake_headers(None), {}),
        (426, handshake_headers(make_key(), version="8"), {}),
        (501, handshake_headers(make_key()), {"memory.socket": None}),
    ],
)
def test_an_error_handler_for_all_sees_every_refusal(
    app: Flask,
    sock: Sock,
    server: MemoryServer,
    status: int,
    headers: list[tuple[str, str]],
    environ: dict[str, object],
) -> None:
    app.register_error_handler(HTTPException, lambda error: (f"custom {error.code}", error.code))
    sock.route("/")(hello)

    assert server.refuse(app, headers=headers, environ=environ).text == f"custom {status}"


def test_a_refusal_does_not_count_as_an_exception(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    seen: list[Exception] = []

    def receiver(sender: Flask, exception: Exception) -> None:
        seen.append(exception)

    sock.route("/")(hello)
    with flask.got_request_exception.connected_to(receiver, app):
        server.refuse(app, headers=handshake_headers(None))

    assert seen == []


def test_past_max_connections_a_handshake_is_refused(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    app.config["SOCK_MAX_CONNECTIONS"] = 1

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send("counted")
        ws.receive()

    first = server.connect(app)
    assert first.read() == "counted"
    response = server.refuse(app)

    assert response.status == 503
    assert response.get("Retry-After")
    first.close()


def test_the_last_place_is_not_given_twice(
    app: Flask, sock: Sock, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Both handshakes were accepted; one comes first."""
    app.config["SOCK_MAX_CONNECTIONS"] = 1
    sock.route("/")(hello)
    monitor = monitor_for(threads)

    @app.after_request
    def be_slow(response: flask.Response) -> flask.Response:
        assert monitor.admit(1)
        return response

    try:
        response = server.refuse(app)
    finally:
        monitor.cancel_admission()

    assert response.status == 503
    assert response.get("Retry-After")
    assert "SOCK_MAX_CONNECTIONS" in caplog.text


def test_a_connection_that_has_ended_makes_room(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    app.config["SOCK_MAX_CONNECTIONS"] = 1
    sock.route("/")(hello)
    for _ in range(3):
        call = server.call(app)
        server.accepted(call)
        close(call.peer)
        call.wait()


def close(peer: Peer) -> None:
    assert peer.read() == "hello"
    peer.answer_close()


def test_a_call_is_answered_once(app: Flask, sock: Sock, server: MemoryServer) -> None:
    sock.route("/")(hello)
    call: Call = server.call(app)
    server.accepted(call)
    close(call.peer)
    call.wait()

    assert call.status == "101 Switching Protocols"


def test_a_decorator_may_pass_on_arguments_by_position(app: Flask, sock: Sock) -> None:
    """As decorators do that look a user up: the handler gets them after the connection."""
    got: list[tuple[Any, ...]] = []

    def handler(ws: Any, user: str, room: str) -> None:
        got.append((user, room))

    view = sock.view(handler)
    app.add_url_rule(
        "/chat/<room>",
        "chat",
        lambda **kwargs: view("ann", **kwargs),
        websocket=True,
    )
    with connect(app, "/chat/7"):
        pass
    assert got == [("ann", "7")]
