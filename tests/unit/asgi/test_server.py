"""What an ASGI server does besides: it answers late, cancels, raises, and has no thread left."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import flask
import pytest
from tests.support.asgi import make_scope
from tests.support.asgi_site import Site, every_kind, on_loop
from tests.support.waiting import PATIENCE, until
from wsproto.utilities import LocalProtocolError

from flask_ws import WebSocket
from flask_ws.connection import bell, message_connection
from flask_ws.protocol import shared
from flask_ws_asgi import ASGI, exchange


def logged_errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The errors of flask-ws's that were logged with a traceback."""
    return [str(record.exc_info[1]) for record in caplog.records if record.exc_info]


@every_kind
@on_loop
async def test_close_frame_is_answered_while_the_handler_is_busy(site: Site, kind: str) -> None:
    site.add_busy()
    driver = await site.connect(f"/busy-{kind}")
    driver.say("block")
    driver.answers = False
    driver.leave(4000)
    assert await driver.closed() == (4000, "")
    site.seen.free.set()
    await driver.ended()


@pytest.mark.parametrize(("code", "answered"), [(1005, True), (1006, False)])
@on_loop
async def test_possible_close_frame_is_answered_and_a_loss_is_not(
    site: Site, code: int, answered: bool
) -> None:
    site.add_busy()
    driver = await site.connect("/busy-blocking")
    driver.answers = False
    driver.leave(code, None)
    if answered:
        assert await driver.closed() == (1000, "")
    site.seen.free.set()
    await driver.ended()
    assert not driver.has_sent


@every_kind
@on_loop
async def test_end_without_a_code_after_the_servers_close_is_its_answer(
    site: Site, kind: str
) -> None:
    driver = await site.connect(f"/{kind}")
    driver.answers = False
    site.asgi._stopping.begin()
    assert (await driver.closed())[0] == 1001
    driver.leave(1005, None)
    await driver.ended()
    assert [end[0] for end in site.seen.ends] == [1001]


@pytest.mark.parametrize("when", ["connected", "closed"])
@every_kind
@on_loop
async def test_task_that_the_server_cancels_ends_without_an_error(
    site: Site, kind: str, when: str
) -> None:
    site.add_busy()
    driver = await site.connect(f"/busy-{kind}")
    driver.say("block")
    if when == "closed":
        driver.answers = False
        driver.leave(4000)
        await driver.closed()
    driver.task.cancel()
    await driver.ended()
    site.seen.free.set()


@on_loop
async def test_handshake_that_gets_no_thread_is_503_and_one_line(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exchange, "PATIENCE", 0.05)
    reached = threading.Event()

    @site.app.before_request
    def wait() -> None:
        reached.set()
        site.seen.free.wait(PATIENCE)

    site.asgi = ASGI(site.app, threads=1)
    first = site.open("/view")
    await asyncio.to_thread(reached.wait, PATIENCE)
    second = site.open("/blocking")
    status, headers, _ = await second.denied()
    assert status == 503
    assert 1 <= int(headers["retry-after"]) <= 9
    await second.ended()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "'/blocking' was refused with 503" in caplog.text
    site.seen.free.set()
    await first.accepted()
    first.leave()
    await first.ended()


class NotOpen(Exception):
    """As a library has one for frames that cannot be sent any more."""

    __module__ = "websockets.exceptions"


@pytest.mark.parametrize(
    ("error", "is_logged"),
    [
        (BrokenPipeError(), False),
        (RuntimeError("closed"), False),
        (NotOpen("sent 1000; then received 1000"), False),
        (LocalProtocolError("cannot be sent in state CLOSED"), False),
        (ValueError("a bug"), True),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", ["blocking", "async"])
@on_loop
async def test_only_an_error_that_means_no_loss_is_logged(
    site: Site, kind: str, error: Exception, is_logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    driver = await site.connect(f"/{kind}")
    driver.raises = error
    driver.say("hello")
    await driver.ended()
    assert [end[0] for end in site.seen.ends] in ([1006], [])
    assert logged_errors(caplog) == ([str(error)] if is_logged else [])


@on_loop
async def test_refusal_without_end_is_sent_without_its_body(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    closed = threading.Event()

    @site.app.before_request
    def refuse() -> flask.Response:
        response = flask.Response(itertools.repeat(b"x" * 2**16), 401, {"X-Mine": "yes"})
        response.call_on_close(closed.set)
        return response

    status, headers, body = await (driver := site.open("/view")).denied()
    assert (status, headers["x-mine"], body) == (401, "yes", b"")
    await driver.ended()
    assert closed.is_set()
    assert "without its body" in caplog.text


@pytest.mark.parametrize("kind", ["blocking", "async"])
@on_loop
async def test_send_that_waits_for_a_receive_is_not_waited_for(
    site: Site, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Hypercorn's does when it finds that the client has gone, and has much to tell first."""
    monkeypatch.setattr(message_connection, "PEEK", 0.01)
    site.app.config["SOCK_MAX_QUEUE"] = 2
    driver = await site.connect(f"/{kind}")
    driver.writable.clear()
    for number in range(8):
        driver.say(f"{number}" * 2**16)
    driver.leave(1006)
    while driver.has_more:
        await asyncio.sleep(0.01)
    driver.raises = BrokenPipeError()
    driver.writable.set()
    await driver.ended()
    assert [end[0] for end in site.seen.ends] == [1006]


@pytest.mark.parametrize(
    ("error", "is_raised"),
    [(BrokenPipeError(), False), (NotOpen(), False), (ValueError("a bug"), True)],
    ids=repr,
)
@on_loop
async def test_server_that_cannot_accept_is_told_its_own_error(
    site: Site, error: Exception, is_raised: bool
) -> None:
    driver = site.open("/blocking")
    driver.raises = error
    if is_raised:
        with pytest.raises(ValueError, match="a bug"):
            await driver.ended()
    else:
        await driver.ended()
    await asyncio.to_thread(until, lambda: site.seen.ends)


@on_loop
async def test_publication_is_not_framed_to_be_measured(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def share(frame: bytes) -> bytes:
        raise AssertionError("a frame was made")

    monkeypatch.setattr(shared, "share", share)

    @site.sock.route("/listen")
    def listen(ws: WebSocket) -> None:
        for policy in ("close", "drop", "latest"):
            ws.subscribe(policy, overflow=policy)
        ws.send("ready")
        for _ in ws:
            pass

    driver = await site.connect("/listen")
    assert await driver.message() == "ready"
    for policy in ("close", "drop", "latest"):
        with site.app.app_context():
            site.sock.publish(policy, policy)
        assert await driver.message() == policy
    driver.leave(1000)
    await driver.ended()


@on_loop
async def test_ended_connections_leave_no_descriptor(site: Site) -> None:
    before = len(bell._open)
    for _ in range(5):
        driver = await site.connect("/blocking")
        driver.say("hello")
        assert await driver.message() == "hello"
        driver.leave(1000)
        await driver.ended()
    await asyncio.to_thread(until, lambda: len(bell._open) <= before)


def test_what_is_an_asgi_application_already_is_a_type_error() -> None:
    async def application(scope: object, receive: object, send: object) -> None:
        pass

    for app in (application, ASGI(flask.Flask(__name__))):
        with pytest.raises(TypeError, match="is one of ASGI"):
            ASGI(app)  # type: ignore[arg-type]


@on_loop
async def test_mounted_application_keeps_the_mounts_path_apart(site: Site) -> None:
    seen: list[tuple[str, str]] = []

    @site.app.before_request
    def look() -> flask.Response:
        seen.append((flask.request.root_path, flask.request.path))
        return flask.Response("", 401)

    await site.open("/flask/view", root_path="/flask").denied()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(event: dict[str, Any]) -> None:
        pass

    scope = make_scope("/flask/view", root_path="/flask", type="http", method="GET")
    await site.asgi(scope, receive, send)
    assert seen == [("/flask", "/view")] * 2
