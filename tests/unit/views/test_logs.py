"""The lines of a log, each with the connection that it is about."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
from flask import Flask

import flask_ws
from flask_ws import Sock, WebSocket, WebSocketView
from flask_ws.testing import HandshakeRefused, connect

app_logger = logging.getLogger("tests.app")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a handler writes that has the filter."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(flask_ws.LogFilter())
    handler.setFormatter(logging.Formatter("%(ws_id)s %(ws_endpoint)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    yield written
    root.removeHandler(handler)


def ends(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    (record,) = (record for record in caplog.records if " closed: " in record.getMessage())
    return record


def test_a_handler_sees_the_id_that_the_log_has(
    app: Flask, sock: Sock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flask_ws")
    sock.route("/feed")(lambda ws: ws.send(ws.id))
    with connect(app, "/feed") as ws:
        found = ws.receive()
    assert ends(caplog).getMessage().startswith(f"WebSocket {found!s} ")


def test_a_connection_has_its_numbers_as_fields_at_its_end(
    app: Flask, sock: Sock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flask_ws")

    @sock.route("/feed")
    def feed(ws: WebSocket) -> None:
        ws.send(ws.receive())
        ws.close(4000, "bye")

    with connect(app, "/feed") as ws:
        ws.send("hello")
        assert list(ws) == ["hello"]
    fields = vars(ends(caplog))
    assert (fields["ws_messages_in"], fields["ws_messages_out"]) == (1, 1)
    assert (fields["ws_code"], fields["ws_reason"]) == (4000, "bye")
    assert fields["ws_endpoint"] == "feed"


def test_a_refusal_has_its_status_as_a_field(
    app: Flask, sock: Sock, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(HandshakeRefused), connect(app, "/nowhere"):
        pass
    (record,) = (record for record in caplog.records if record.name == "flask_ws")
    assert vars(record)["ws_status"] == 404
    assert vars(record)["ws_path"] == "/nowhere"


def test_the_filter_names_the_connection_of_an_apps_line(
    app: Flask, sock: Sock, lines: io.StringIO
) -> None:
    @sock.route("/feed")
    def feed(ws: WebSocket) -> None:
        app_logger.error("busy")
        ws.send(ws.id)

    with connect(app, "/feed") as ws:
        found = ws.receive()
    assert lines.getvalue() == f"{found!s} feed busy\n"


def test_the_filter_names_the_connection_of_an_event_views_line(
    app: Flask, sock: Sock, lines: io.StringIO
) -> None:
    @sock.route("/feed")
    class Feed(WebSocketView):
        def on_message(self, ws: WebSocket, message: str | bytes) -> None:
            app_logger.error("busy")
            ws.send(ws.id)

    with connect(app, "/feed") as ws:
        ws.send("hello")
        found = ws.receive()
    assert lines.getvalue() == f"{found!s} Feed busy\n"


def test_the_filter_lets_other_lines_pass(lines: io.StringIO) -> None:
    app_logger.error("beginning")
    assert lines.getvalue() == "- - beginning\n"


def test_a_disabled_logger_is_told_of_in_the_servers_log(
    app: Flask, sock: Sock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("flask_ws"), "disabled", True)
    errors = io.StringIO()
    for _ in range(2):
        app.test_client().get("/", errors_stream=errors)
    assert "disable_existing_loggers=False" in errors.getvalue()
    assert errors.getvalue().count("\n") == 1
