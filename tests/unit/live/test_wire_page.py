"""The page on the wire format: its examples are what the server takes and sends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from flask import Flask, abort, request

from flask_ws import ChannelView, Sock, WebSocket
from flask_ws.testing import connect

PAGE = (Path(__file__).parents[3] / "docs" / "wire.md").read_text()
EXAMPLES = [json.loads(code) for code in re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL)]
CODES = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) - {"code"}
REQUESTS = ("subscribe", "unsubscribe", "publish", "join", "leave", "ping")


def shape(message: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """What kind of message it is, and its keys in their order."""
    return message["type"], tuple(message)


def test_its_examples_are_what_goes_over_the_wire() -> None:
    app = Flask("wire")
    app.config["SOCK_HISTORY"] = {"chat:*": (10, 300)}
    sock = Sock(app)
    sock.identify(lambda: request.args.get("user"))

    @sock.route("/live")
    class Live(ChannelView):
        def may_subscribe(self, ws: WebSocket, channel: str) -> bool:
            return channel == "chat:42" or abort(403, "Members only.")

        def may_publish(self, ws: WebSocket, channel: str, data: Any) -> bool:
            return True

        def may_join(self, ws: WebSocket, channel: str, info: Any) -> Any:
            return info

    received: list[dict[str, Any]] = []
    with app.app_context(), connect(app, "/live?user=7", subprotocols="flask-ws.v1") as ws:
        sock.publish("chat:42", b"\x00\xff")
        sock.send_json_to("7", {"unread": 3})
        for message in EXAMPLES:
            if message["type"] in REQUESTS:
                ws.send_json(message)
                ws.send_json({"type": "ping", "id": 99})
                while (answer := ws.receive_json())["id" if "id" in answer else "type"] != 99:
                    received.append(answer)
            if message["type"] == "join":
                with connect(app, "/live?user=8", subprotocols="flask-ws.v1") as other:
                    for info in ("Bob", "Bo"):
                        other.send_json({**message, "info": {"name": info}})
                    other.send_json({**message, "type": "leave"})
                    while other.receive_json()["type"] != "left":
                        pass
            if message["type"] == "unsubscribe":
                # The next is published with a subscriber.
                ws.send_json({"type": "subscribe", "id": 98, "channel": "chat:42"})
        ws.send_json({"type": "subscribe", "id": 5, "channel": "chat:7"})
        received.append(ws.receive_json())
    expected = {shape(message) for message in EXAMPLES if message["type"] not in REQUESTS}
    assert {shape(message) for message in received} == expected
    refused = next(message for message in EXAMPLES if message["type"] == "refused")
    assert received[-1] == refused


def test_it_names_all_codes_of_refusals() -> None:
    source = Path(__file__).parents[3] / "packages/core/src/flask_ws/live/requests.py"
    assert set(re.findall(r'refusal\(request, "(\w+)"', source.read_text())) == CODES
