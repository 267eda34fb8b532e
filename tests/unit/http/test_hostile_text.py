"""What peers write is shown: it neither starts a line of the log nor moves a terminal's cursor."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import pytest
from flask import Flask, abort, redirect
from tests.support.memory import MemoryServer
from werkzeug import Response

from flask_ws import Sock, WebSocket
from flask_ws.testing.suite.raw import encode_close

#: A line break, a terminal's escape in both widths, a bell, a separator of lines, right-to-left.
HOSTILE = "\r\nERROR forged \x1b[31m\x9b31m\x07\u2028\u202e"
#: As a URL has it, and a header (PEP 3333).
QUOTED = "%0D%0AERROR%20forged%1B%5B31m%C2%9B31m%07%E2%80%A8%E2%80%AE"
#: Without line breaks, which no variable of a route matches.
QUOTED_LINE = QUOTED.removeprefix("%0D%0A")
IN_HEADER = HOSTILE.encode().decode("latin-1")


@pytest.fixture
def hostile_app(app: Flask, sock: Sock) -> Flask:
    @sock.route("/echo/<path:rest>", subprotocols=["chat"])
    def echo(ws: WebSocket, rest: str) -> None:
        for message in ws:
            ws.send(message)

    @sock.route("/failing/<path:rest>")
    def fail(ws: WebSocket, rest: str) -> None:
        logging.getLogger("flask_ws").warning("%r", ws)
        raise RuntimeError

    app.add_url_rule("/page/<path:rest>", "page", lambda rest: "a page")

    @app.route("/refusing/<path:rest>", websocket=True)
    def refuse(rest: str) -> str:
        abort(401)

    @app.route("/elsewhere/<path:rest>", websocket=True)
    def send_away(rest: str) -> Response:
        return redirect(f"https://user:secret@example.com/login/{QUOTED}?token=secret", 302)

    sock.route("/slash/<path:rest>/", endpoint="slash")(echo)
    return app


REQUESTS: dict[str, dict[str, Any]] = {
    "open and closed": {"target": f"/echo/{QUOTED_LINE}"},
    "a handler's error": {"target": f"/failing/{QUOTED_LINE}"},
    "no route": {"target": f"/nowhere/{QUOTED}"},
    "an HTTP route": {"target": f"/page/{QUOTED_LINE}"},
    "a Socket.IO client": {"target": f"/socket.io/{QUOTED}", "headers": []},
    "the app refuses": {"target": f"/refusing/{QUOTED_LINE}"},
    "the app redirects": {"target": f"/elsewhere/{QUOTED_LINE}?token=secret"},
    "a missing slash": {"target": f"/slash/{QUOTED_LINE}?token=secret"},
    "origin": {"target": "/echo/1", "environ": {"HTTP_ORIGIN": f"http://{IN_HEADER}"}},
    "host": {
        "target": "/echo/1",
        "environ": {"HTTP_HOST": IN_HEADER, "HTTP_ORIGIN": "http://example.com"},
    },
    "subprotocol": {"target": "/echo/1", "environ": {"HTTP_SEC_WEBSOCKET_PROTOCOL": IN_HEADER}},
    "address": {"target": "/nowhere", "environ": {"REMOTE_ADDR": HOSTILE}},
    "address, open": {"target": "/echo/1", "environ": {"REMOTE_ADDR": HOSTILE}},
    "key": {"target": "/echo/1", "environ": {"HTTP_SEC_WEBSOCKET_KEY": IN_HEADER}},
    "version": {"target": "/echo/1", "environ": {"HTTP_SEC_WEBSOCKET_VERSION": IN_HEADER}},
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_a_line_of_the_log_stays_one_line_and_printable(
    hostile_app: Flask,
    server: MemoryServer,
    request_: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "flask_ws")
    call = server.call(hostile_app, **request_)
    with call.peer as peer:
        with contextlib.suppress(BrokenPipeError):
            peer.send_bytes(encode_close(4000, HOSTILE))
        peer.read_until_eof()
    call.ended.exception(10)
    lines = [record.getMessage() for record in caplog.records if record.name == "flask_ws"]
    assert lines
    for line in lines:
        assert line.isprintable(), line


@pytest.mark.parametrize("name", ["the app redirects", "a missing slash"])
def test_the_log_has_no_token_of_a_redirected_handshake(
    hostile_app: Flask, server: MemoryServer, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.call(hostile_app, **REQUESTS[name]).refused()
    assert "refused: 30" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("/refusing/1", "refused: 401 by the app."),
        ("/elsewhere/1", "refused: 302 by the app, to https://example.com/login/"),
    ],
)
def test_a_refusal_by_the_app_is_one_warning(
    hostile_app: Flask,
    server: MemoryServer,
    target: str,
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.call(hostile_app, target).refused()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert told in record.getMessage()


def test_a_subprotocol_that_nobody_speaks_is_one_warning(
    hostile_app: Flask, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.connect(hostile_app, "/echo/1", extra=[("Sec-WebSocket-Protocol", "graphql-ws, mqtt")])
    (record,) = caplog.records
    assert "offers the subprotocols graphql-ws, mqtt, the route has chat" in record.getMessage()
