"""What flask-sock's API promises, of what flask-ws has under the same names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask

from flask_ws import ConnectionClosed, Sock, WebSocket, WebSocketView
from flask_ws.testing import connect


@pytest.fixture
def app() -> Flask:
    return Flask(__name__)


def run(app: Flask, handler: Callable[[Any], object]) -> tuple[list[Any], int | None, str]:
    """What a client without anything to say is sent, and how it ends."""
    Sock(app).route("/")(handler)
    with connect(app, "/") as ws:
        return list(ws), ws.close_code, ws.close_reason


@pytest.mark.parametrize(
    ("arguments", "keywords", "code", "text"),
    [
        ((), {}, 1000, ""),
        ((4000,), {}, 4000, ""),
        ((4000, "bye"), {}, 4000, "bye"),
        ((4000,), {"message": "bye"}, 4000, "bye"),
        ((), {"reason": 4000}, 4000, ""),
        ((), {"message": "bye"}, 1000, "bye"),
        ((), {"reason": 4000, "message": "bye"}, 4000, "bye"),
    ],
)
def test_close_has_its_arguments_in_its_order_and_by_its_names(
    app: Flask, arguments: tuple[Any, ...], keywords: dict[str, Any], code: int, text: str
) -> None:
    assert run(app, lambda ws: ws.close(*arguments, **keywords)) == ([], code, text)


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_receive_gives_none_when_the_time_is_up(app: Flask, timeout: float) -> None:
    assert run(app, lambda ws: ws.send(repr(ws.receive(timeout=timeout)))) == (["None"], 1000, "")


def test_an_uncaught_connection_closed_is_no_error(app: Flask) -> None:
    @Sock(app).route("/")
    def handler(ws: Any) -> None:
        while True:
            ws.receive()

    with connect(app, "/") as ws:
        ws.close(4000)


def test_the_end_can_be_caught(app: Flask) -> None:
    caught: list[object] = []

    @Sock(app).route("/")
    def handler(ws: Any) -> None:
        try:
            ws.receive()
        except ConnectionClosed as closed:
            caught.extend([closed.code, closed.reason, ws.connected])

    with connect(app, "/") as ws:
        ws.close(4000, "bye")
    assert caught == [4000, "bye", False]


def test_the_options_are_read_from_its_dictionary(app: Flask) -> None:
    app.config["SOCK_SERVER_OPTIONS"] = {"subprotocols": ["b"], "receive_bytes": 4096}

    @Sock(app).route("/")
    def handler(ws: Any) -> None:
        ws.send(ws.subprotocol)

    with connect(app, "/", subprotocols=["a", "b"]) as ws:
        assert ws.receive() == "b"


def test_a_blueprint_may_be_registered_before_and_after(app: Flask) -> None:
    sock = Sock()
    early, late = Blueprint("early", __name__), Blueprint("late", __name__)
    for blueprint in (early, late):
        sock.route(f"/{blueprint.name}", blueprint)(lambda ws: ws.send("here"))
    app.register_blueprint(early)
    sock.init_app(app)
    app.register_blueprint(late)
    for path in ("/early", "/late"):
        with connect(app, path) as ws:
            assert ws.receive() == "here"


def test_what_cannot_be_sent_says_what_to_do(app: Flask) -> None:
    """flask-sock sent the text of any object."""
    with pytest.raises(TypeError, match="send_json"):
        run(app, lambda ws: ws.send(7))


def test_close_has_the_same_names_in_an_event_view(app: Flask) -> None:
    @Sock(app).route("/")
    class View(WebSocketView):
        def on_open(self, ws: WebSocket, **kwargs: Any) -> None:
            ws.close(4000, message="bye")

    with connect(app, "/") as ws:
        assert list(ws) == []
        assert (ws.close_code, ws.close_reason) == (4000, "bye")
