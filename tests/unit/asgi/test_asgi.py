"""An app with WebSocket routes under ASGI: in memory, with handlers of all kinds."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import flask
import pytest
from tests.support.asgi import make_scope
from tests.support.asgi_site import Site, every_kind, on_loop
from tests.support.waiting import PATIENCE, until

from flask_ws import (
    AsyncWebSocket,
    AsyncWebSocketView,
    ConnectionClosed,
    WebSocket,
)
from flask_ws import WebSocketView as View
from flask_ws.connection import threaded_connection
from flask_ws.connection.threaded_connection import ThreadedConnection
from flask_ws.loop.monitor import count_connections
from flask_ws.loop.pool import thread_pool
from flask_ws_asgi import ASGI
from flask_ws_asgi.exchange import Exchange
from flask_ws_asgi.stopping import Stopping


@pytest.mark.parametrize("timeout", [math.inf, 1e30])
@on_loop
async def test_receive_may_wait_longer_than_any_lock(site: Site, timeout: float) -> None:
    @site.sock.route("/patient")
    def patient(ws: WebSocket) -> None:
        ws.send(ws.receive(timeout) or "")

    @site.sock.route("/async-patient")
    async def async_patient(ws: AsyncWebSocket) -> None:
        await ws.send(await ws.receive(timeout) or "")

    for path in ("/patient", "/async-patient"):
        driver = await site.connect(path)
        driver.say("now")
        assert await driver.message() == "now"
        assert (await driver.closed())[0] == 1000
        await driver.ended()


# The handshake


@every_kind
@on_loop
async def test_messages_come_back_as_they_were(site: Site, kind: str) -> None:
    driver = await site.connect(f"/{kind}")
    messages: list[str | bytes] = [
        "text",
        b"bytes",
        "",
        b"",
        "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n",
        "x" * 100_000,
    ]
    for message in messages:
        driver.say(message)
        assert await driver.message() == message
    driver.leave(1000)
    await driver.ended()


@every_kind
@on_loop
async def test_messages_of_many_clients_in_one_turn_are_all_answered(site: Site, kind: str) -> None:
    drivers = [await site.connect(f"/{kind}") for _ in range(8)]
    for number in range(20):
        for driver in drivers:
            driver.say(str(number))
        for driver in drivers:
            assert await driver.message() == str(number)
    for driver in drivers:
        driver.leave(1000)
        await driver.ended()


@on_loop
async def test_acceptance_has_what_flask_puts_on_a_response(site: Site) -> None:
    @site.app.after_request
    def mark(response: flask.Response) -> flask.Response:
        flask.session["seen"] = True
        response.headers["X-Marked"] = "yes"
        return response

    driver = site.open("/blocking", headers=[("Sec-WebSocket-Protocol", "other, chat")])
    event = await driver.accepted()
    assert event["subprotocol"] == "chat"
    headers = dict(event["headers"])
    assert headers[b"x-marked"] == b"yes"
    assert headers[b"set-cookie"].startswith(b"session=")
    assert not [name for name in headers if name.startswith(b"sec-") or name == b"upgrade"]
    driver.leave()
    await driver.ended()


@on_loop
async def test_refusal_is_the_apps_http_response(site: Site) -> None:
    @site.app.before_request
    def refuse() -> flask.Response:
        return flask.Response("not you", 401, {"WWW-Authenticate": "Basic"})

    status, headers, body = await (driver := site.open("/blocking")).denied()
    assert (status, headers["www-authenticate"], body) == (401, "Basic", b"not you")
    await driver.ended()


@on_loop
async def test_without_the_extension_a_refusal_is_403_and_said(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    driver = site.open("/nowhere", extensions=())
    assert (await driver.event())["type"] == "websocket.close"
    await driver.ended()
    assert "answered the handshake for '/nowhere' with 404, and the client got 403" in caplog.text


@on_loop
async def test_foreign_origin_is_refused(site: Site) -> None:
    driver = site.open("/view", headers=[("Origin", "https://evil.example")])
    assert (await driver.denied())[0] == 403
    await driver.ended()


@on_loop
async def test_error_of_the_app_reaches_the_server(site: Site) -> None:
    site.app.config["PROPAGATE_EXCEPTIONS"] = True

    @site.app.before_request
    def fail() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await site.open("/view").ended()


@on_loop
async def test_no_room_for_another_thread_is_503_but_for_event_views(site: Site) -> None:
    site.app.config["SOCK_MAX_THREADS"] = 1
    first = await site.connect("/blocking")
    status, headers, _ = await (second := site.open("/blocking")).denied()
    assert status == 503
    assert "retry-after" in headers
    view = await site.connect("/view")
    for driver in (first, view):
        driver.leave()
    for driver in (first, second, view):
        await driver.ended()


@every_kind
@on_loop
async def test_client_that_leaves_before_the_answer_is_a_lost_connection(
    site: Site, kind: str
) -> None:
    driver = site.open(f"/{kind}")
    driver.leave(1006)
    await driver.ended()
    assert [code for code, _ in site.seen.ends] in ([1006], [])


@on_loop
async def test_server_that_gives_up_on_a_handshake_leaves_nothing_behind(site: Site) -> None:
    reached, free = threading.Event(), threading.Event()

    @site.app.before_request
    def wait() -> None:
        reached.set()
        free.wait(PATIENCE)

    driver = site.open("/blocking")
    await asyncio.to_thread(reached.wait, PATIENCE)
    driver.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await driver.ended()
    driver.leave()
    free.set()
    await asyncio.to_thread(until, lambda: len(thread_pool()) == 0)


@on_loop
async def test_connection_whose_task_is_cancelled_as_it_is_accepted_is_served(
    site: Site,
) -> None:
    served, called, free = asyncio.Event(), threading.Event(), threading.Event()

    async def serve() -> None:
        served.set()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        called.set()
        free.wait(PATIENCE)
        return []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(event: dict[str, Any]) -> None:
        raise AssertionError(event)

    loop = asyncio.get_running_loop()
    exchange = Exchange(make_scope(), receive, send, Stopping())
    with ThreadPoolExecutor(1) as executor:
        task = loop.create_task(exchange.run(executor, app, {}))
        await asyncio.to_thread(called.wait, PATIENCE)
        exchange.begin(serve)
        # In the same turn of the loop.
        loop.call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        free.set()
        await asyncio.wait_for(served.wait(), PATIENCE)


@pytest.mark.parametrize("kind", ["websocket", "http"])
@on_loop
async def test_header_whose_name_has_an_underscore_is_not_another_one(
    site: Site, kind: str
) -> None:
    seen: list[str | None] = []

    @site.app.before_request
    def look() -> flask.Response:
        seen.append(flask.request.headers.get("X-Forwarded-For"))
        return flask.Response("seen", 401)

    headers = [("X-Forwarded-For", "192.0.2.1"), ("X_Forwarded_For", "192.0.2.66")]
    for sent in (headers, headers[::-1], headers[1:]):
        scope = make_scope("/view", headers=sent, type=kind, method="GET", http_version="1.1")
        events: list[dict[str, Any]] = [
            {"type": "websocket.connect"} if kind == "websocket" else {"type": "http.request"}
        ]

        async def receive(events: list[dict[str, Any]] = events) -> dict[str, Any]:
            return events.pop()

        async def send(event: dict[str, Any]) -> None:
            pass

        await site.asgi(scope, receive, send)
    assert seen == ["192.0.2.1", "192.0.2.1", None]


# The end


@every_kind
@on_loop
async def test_handler_is_told_the_clients_close_code(site: Site, kind: str) -> None:
    driver = await site.connect(f"/{kind}")
    driver.leave(4001, "bye")
    await driver.ended()
    assert site.seen.ends == [(4001, "bye")]


@pytest.mark.parametrize(
    ("reason", "code"), [(None, 1006), ("", 1005)], ids=["no reason", "an empty one"]
)
@on_loop
async def test_end_without_a_status_is_a_loss_unless_it_has_a_reason(
    site: Site, reason: str | None, code: int
) -> None:
    driver = await site.connect("/blocking")
    driver.leave(1005, reason)
    await driver.ended()
    assert [end[0] for end in site.seen.ends] == [code]


@every_kind
@on_loop
async def test_messages_before_the_end_are_received(site: Site, kind: str) -> None:
    driver = await site.connect(f"/{kind}")
    driver.writable.clear()
    for number in range(10):
        driver.say(str(number))
    driver.writable.set()
    for number in range(10):
        assert await driver.message() == str(number)
    driver.leave(1000)
    await driver.ended()


@on_loop
async def test_event_view_gets_all_messages_before_on_close(site: Site) -> None:
    seen = site.seen

    @site.sock.route("/slow-view")
    class Slow(View):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            seen.free.wait(PATIENCE)
            seen.received.append(message)

        def on_close(self, ws: WebSocket, code: int, reason: str) -> None:
            seen.received.append(str(code))

    driver = await site.connect("/slow-view")
    for number in range(10):
        driver.say(str(number))
    driver.leave(4000)
    seen.free.set()
    await driver.ended()
    assert seen.received == [*map(str, range(10)), "4000"]


@pytest.mark.parametrize(("end", "expected"), [("return", 1000), ("raise", 1011), ("close", 4000)])
@pytest.mark.parametrize("kind", ["blocking", "async"])
@on_loop
async def test_close_code_tells_how_the_handler_ended(
    site: Site, kind: str, end: str, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)

    @site.sock.route("/ending-blocking")
    def ending(ws: WebSocket) -> None:
        if end == "close":
            ws.close(4000, "why")
            assert (ws.close_code, ws.connected) == (4000, False)
        elif end == "raise":
            raise RuntimeError

    @site.sock.route("/ending-async")
    async def ending_async(ws: AsyncWebSocket) -> None:
        if end == "close":
            await ws.close(4000, "why")
            assert (ws.close_code, ws.connected) == (4000, False)
        elif end == "raise":
            raise RuntimeError

    driver = await site.connect(f"/ending-{kind}")
    assert await driver.closed() == (expected, "why" if end == "close" else "")
    await driver.ended()


@on_loop
async def test_event_view_closes_and_sends_nothing_more(site: Site) -> None:
    errors: list[BaseException] = []

    @site.sock.route("/closing-view")
    class Closing(View):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            ws.send("last")
            ws.close(4000)
            try:
                ws.send("too late")
            except ConnectionClosed as error:
                errors.append(error)

    driver = await site.connect("/closing-view")
    driver.say("go")
    assert await driver.message() == "last"
    assert (await driver.closed())[0] == 4000
    await driver.ended()
    assert len(errors) == 1
    assert not driver.has_sent


@pytest.mark.parametrize("kind", ["blocking", "async"])
@on_loop
async def test_client_that_does_not_answer_the_close_is_left(site: Site, kind: str) -> None:
    site.app.config["SOCK_CLOSE_TIMEOUT"] = 0.1

    @site.sock.route("/leaving-blocking")
    def leaving(ws: WebSocket) -> None:
        pass

    @site.sock.route("/leaving-async")
    async def leaving_async(ws: AsyncWebSocket) -> None:
        pass

    driver = await site.connect(f"/leaving-{kind}")
    driver.answers = False
    assert await driver.closed() == (1000, "")
    await driver.ended()


@pytest.mark.parametrize("kind", ["blocking", "async"])
@on_loop
async def test_servers_task_lasts_until_the_handler_has_ended(site: Site, kind: str) -> None:
    seen = site.seen

    @site.sock.route("/lasting-blocking")
    def lasting(ws: WebSocket) -> None:
        seen.free.wait(PATIENCE)
        seen.returned.set()

    @site.sock.route("/lasting-async")
    async def lasting_async(ws: AsyncWebSocket) -> None:
        while not seen.free.is_set():
            await asyncio.sleep(0.01)
        seen.returned.set()

    driver = await site.connect(f"/lasting-{kind}")
    driver.leave(1001)
    done, _ = await asyncio.wait([driver.task], timeout=0.1)
    assert not done
    seen.free.set()
    await driver.ended()
    assert seen.returned.is_set()


# Limits


@every_kind
@on_loop
async def test_server_is_asked_for_no_more_than_the_queue_holds(site: Site, kind: str) -> None:
    site.app.config["SOCK_MAX_QUEUE_BYTES"] = 4 * sys.getsizeof("00")
    seen = site.seen
    site.add_busy()
    driver = await site.connect(f"/busy-{kind}")
    for number in range(10, 60):
        driver.say(str(number))
    while True:
        before = driver.asked
        await asyncio.sleep(0.05)
        if driver.asked == before:
            break
    # The event that announces the connection, one that a view has, and what is queued.
    assert driver.asked <= 1 + 1 + 4
    seen.free.set()
    driver.leave(1000)
    await driver.ended()
    assert seen.received == list(map(str, range(10, 60)))


@pytest.mark.parametrize("kind", ["blocking", "async"])
@on_loop
async def test_slow_client_makes_its_own_handler_wait_and_nobody_else(
    site: Site, kind: str
) -> None:
    sent: list[int] = []
    block = "x" * 2**15

    @site.sock.route("/pushing-blocking")
    def pushing(ws: WebSocket) -> None:
        ws.receive()
        for number in range(20):
            ws.send(block)
            sent.append(number)

    @site.sock.route("/pushing-async")
    async def pushing_async(ws: AsyncWebSocket) -> None:
        await ws.receive()
        for number in range(20):
            await ws.send(block)
            sent.append(number)

    driver = await site.connect(f"/pushing-{kind}")
    driver.writable.clear()
    driver.say("go")
    other = await site.connect(f"/{kind}")
    other.say("hello")
    assert await other.message() == "hello"
    await asyncio.sleep(0.05)
    assert len(sent) < 20
    driver.writable.set()
    for _ in range(20):
        assert await driver.message() == block
    assert (await driver.closed())[0] == 1000
    other.leave()
    for each in (driver, other):
        await each.ended()
    assert len(sent) == 20


@on_loop
async def test_method_that_blocks_holds_up_no_message_that_came_with_its_own(site: Site) -> None:
    seen = site.seen

    @site.sock.route("/held-view")
    class Held(View):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            seen.free.wait(PATIENCE)

    held = await site.connect("/held-view")
    others = [await site.connect("/view") for _ in range(3)]
    # In one turn of the loop, so that one thread finds all of them.
    held.say("block")
    for other in others:
        other.say("hello")
    for other in others:
        assert await other.message() == "hello"
    assert not seen.free.is_set()
    seen.free.set()
    for driver in (held, *others):
        driver.leave(1000)
        await driver.ended()


@on_loop
async def test_event_view_that_sends_too_much_to_a_slow_client_is_closed(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.app.config["SOCK_MAX_OUTBOX"] = 2**17

    @site.sock.route("/flood")
    class Flood(View):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            for _ in range(20):
                ws.send("x" * 2**15)

    driver = await site.connect("/flood")
    driver.writable.clear()
    driver.say("go")
    await asyncio.to_thread(until, lambda: "reads too slowly" in caplog.text)
    driver.writable.set()
    while (event := await driver.event())["type"] == "websocket.send":
        pass
    assert event["code"] == 1013
    await driver.ended()


@every_kind
@on_loop
async def test_message_that_is_too_big_closes_with_1009(site: Site, kind: str) -> None:
    site.app.config["SOCK_MAX_MESSAGE_SIZE"] = 1000
    driver = await site.connect(f"/{kind}")
    driver.say("\N{EURO SIGN}" * 334)
    assert (await driver.closed())[0] == 1009
    await driver.ended()


@every_kind
@on_loop
async def test_client_that_makes_the_process_hold_too_much_is_closed(site: Site, kind: str) -> None:
    site.app.config["SOCK_MAX_BUFFERED"] = 2**18
    site.add_busy()
    driver = await site.connect(f"/busy-{kind}")
    for _ in range(4):
        driver.say("x" * 100_000)
    assert (await driver.closed())[0] == 1013
    site.seen.free.set()
    await driver.ended()


@on_loop
async def test_what_is_dropped_while_a_thread_takes_a_message_is_not_held(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, taken = asyncio.get_running_loop(), threading.Event()

    def measure(message: str) -> int:
        if threading.current_thread() is not threading.main_thread() and not taken.is_set():
            taken.set()
            dropped = threading.Event()
            connections[0].dismiss(4000, "")
            loop.call_soon_threadsafe(dropped.set)
            dropped.wait(PATIENCE)
        return len(message)

    connections: list[ThreadedConnection] = []
    held: list[int] = []

    @site.sock.route("/dropping")
    def dropping(ws: WebSocket) -> None:
        connections.append(ws._connection)  # type: ignore[arg-type]
        site.seen.free.wait(PATIENCE)
        ws.receive()
        held.append(connections[0]._count_received())

    monkeypatch.setattr(threaded_connection, "sys", SimpleNamespace(getsizeof=measure))
    driver = await site.connect("/dropping")
    for _ in range(4):
        driver.say("x" * 10_000)
    await asyncio.to_thread(until, lambda: driver.asked == 1 + 5)
    site.seen.free.set()
    await driver.ended()
    assert held == [0]


# Channels


@on_loop
async def test_subscribers_of_all_kinds_get_the_same_object(site: Site) -> None:
    sock = site.sock

    @sock.route("/listen-blocking")
    def listen(ws: WebSocket) -> None:
        ws.subscribe("news")
        ws.send("ready")
        for _ in ws:
            pass

    @sock.route("/listen-view")
    class Listen(View):
        def on_open(self, ws: WebSocket) -> None:
            ws.subscribe("news")
            ws.send("ready")

    @sock.route("/listen-async")
    async def listen_async(ws: AsyncWebSocket) -> None:
        await ws.subscribe("news")
        await ws.send("ready")
        async for _ in ws:
            pass

    drivers = [await site.connect(f"/listen-{kind}") for kind in ("blocking", "view", "async")]
    for driver in drivers:
        assert await driver.message() == "ready"
    with site.app.app_context():
        sock.publish("news", "it is \N{SNOWMAN}")
    texts = [await driver.message() for driver in drivers]
    assert texts[0] == "it is \N{SNOWMAN}"
    assert texts[0] is texts[1] is texts[2]
    for driver in drivers:
        driver.leave(1000)
        await driver.ended()


@on_loop
async def test_publication_goes_out_behind_a_send_that_waits(site: Site) -> None:
    begun = asyncio.Event()

    @site.sock.route("/waiting")
    async def waiting(ws: AsyncWebSocket) -> None:
        await ws.subscribe("news")
        await ws.receive()
        begun.set()
        await ws.send("first")
        await ws.send("third")

    driver = await site.connect("/waiting")
    driver.writable.clear()
    driver.say("go")
    await asyncio.wait_for(begun.wait(), PATIENCE)
    with site.app.app_context():
        site.sock.publish("news", "second")
    driver.writable.set()
    assert [await driver.message() for _ in range(3)] == ["first", "second", "third"]
    assert (await driver.closed())[0] == 1000
    await driver.ended()


# What a server does itself


@on_loop
async def test_pings_are_left_to_the_server(site: Site) -> None:
    site.app.config.update(SOCK_PING_INTERVAL=0.05, SOCK_PING_TIMEOUT=0.05)

    @site.sock.route("/pinging")
    def pinging(ws: WebSocket) -> None:
        ws.ping(b"payload")
        with pytest.raises(ValueError, match="125 bytes"):
            ws.ping(bytes(126))
        ws.send(ws.receive())

    driver = await site.connect("/pinging")
    await asyncio.sleep(0.3)
    driver.say("still here")
    assert await driver.message() == "still here"
    await driver.closed()
    await driver.ended()


@on_loop
async def test_numbers_of_a_connection_are_counted(site: Site) -> None:
    driver = await site.connect("/blocking")
    driver.say("\N{EURO SIGN}")
    await driver.message()
    driver.leave(1000)
    await driver.ended()
    await asyncio.to_thread(until, lambda: count_connections() == 0)
    stats = site.sock.stats(site.app).routes["blocking"]
    assert (stats.messages_in, stats.messages_out, stats.bytes_in, stats.bytes_out) == (1, 1, 3, 3)
    assert stats.closed == {1000: 1}


@every_kind
@on_loop
async def test_handlers_have_the_scope(site: Site, kind: str) -> None:
    def tell() -> str:
        return str(flask.request.environ["asgi.scope"]["state"])

    def blocking(ws: WebSocket) -> None:
        ws.send(tell())

    async def coroutine(ws: AsyncWebSocket) -> None:
        await ws.send(tell())

    opened = {"on_open": lambda _, ws: ws.send(tell())}
    handler: Any = {
        "blocking": blocking,
        "view": type("Telling", (View,), opened),
        "async": coroutine,
        "async-view": type("Telling", (AsyncWebSocketView,), opened),
    }[kind]
    site.sock.route("/scope", endpoint="scope")(handler)
    driver = await site.connect("/scope", state="shared")
    assert await driver.message() == "shared"
    driver.leave(1000)
    await driver.ended()


@on_loop
async def test_forgotten_tasks_exception_is_logged_with_the_connection(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """And that of others' tasks as before, by whatever the server has for it."""
    told: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))

    async def fail(words: str) -> None:
        raise RuntimeError(words)

    @site.sock.route("/lonely")
    async def handler(ws: AsyncWebSocket) -> None:
        asyncio.create_task(fail("a handler's"))  # noqa: RUF006
        await ws.receive()

    driver = await site.connect("/lonely")
    asyncio.create_task(fail("the server's"))  # noqa: RUF006
    await asyncio.to_thread(until, lambda: told and "a handler's" in caplog.text)
    assert "/lonely: Task exception was never retrieved" in caplog.text
    assert told == ["the server's"]
    driver.leave(1000)
    await driver.ended()


@on_loop
async def test_plain_http_is_answered_by_the_app(site: Site) -> None:
    @site.app.get("/plain")
    def plain() -> str:
        return "plain"

    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    scope = make_scope("/plain", type="http", method="GET", scheme="http")
    await site.asgi(scope, receive, send)
    assert sent[0]["status"] == 200
    assert b"".join(event.get("body", b"") for event in sent[1:]) == b"plain"


def test_what_is_no_app_is_a_type_error() -> None:
    with pytest.raises(TypeError, match=r"ASGI\(app\)"):
        ASGI("app:app")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["lifespan", "http", "websocket"])
def test_server_that_does_not_run_on_asyncio_is_told_what_to_do(kind: str) -> None:
    """Such as Hypercorn on Trio."""

    async def unused(*_: object) -> Any:
        raise AssertionError("the server is not asked for anything")

    call = ASGI(flask.Flask(__name__))({"type": kind}, unused, unused)
    with pytest.raises(RuntimeError, match=r"runs on asyncio: .* --worker-class asyncio"):
        call.__await__().send(None)
