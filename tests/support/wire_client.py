"""A client for the wire format, written from its page alone (docs/wire.md)."""

from __future__ import annotations

import json
import random
import threading
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.sync.client import connect
from websockets.typing import Subprotocol


class WireClient:
    """Subscribes to a channel, and comes back, until it is stopped.

    :param url: where to connect to.
    :param channel: the channel.
    :param info: what others are told of it, if it joins.
    """

    def __init__(self, url: str, channel: str, info: object = None) -> None:
        self.url = url
        self._info = info
        self.channel = channel
        #: What has come: the data of messages, and the word "gap".
        self.seen: list[Any] = []
        #: The data of messages to the user.
        self.direct: list[Any] = []
        #: Who is there; and how that has changed.
        self.members: dict[str, Any] = {}
        self.told: list[str] = []
        self.connections = 0
        self._since: str = "all"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> WireClient:  # noqa: PYI034
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(10)

    def _run(self) -> None:
        tries = 0
        while not self._stopped.wait(random.random() * min(0.4, 0.05 * 2**tries)):
            tries += 1
            try:
                with connect(self.url, subprotocols=[Subprotocol("flask-ws.v1")]) as ws:
                    self.connections += 1
                    request = {"type": "subscribe", "id": 1, "channel": self.channel}
                    ws.send(json.dumps({**request, "since": self._since}))
                    if self._info is not None:
                        join = {"type": "join", "id": 2, "channel": self.channel}
                        ws.send(json.dumps({**join, "info": self._info}))
                    while not self._stopped.is_set():
                        try:
                            self._take(json.loads(ws.recv(timeout=0.1)))
                        except TimeoutError:
                            continue
            except (ConnectionClosed, InvalidHandshake, InvalidMessage, OSError, EOFError):
                continue

    def _take(self, message: dict[str, Any]) -> None:
        if message["type"] == "message":
            self.seen.append(message["data"])
        elif message["type"] == "presence":
            self._note(message)
        elif message["type"] == "direct":
            self.direct.append(message["data"])
        elif message["type"] == "gap":
            self.seen.append("gap")
        if message["type"] in ("message", "subscribed"):
            # Without a position it is not known next time what was missed.
            if message["position"] is not None:
                self._since = message["position"]
            elif self._since == "all":
                self._since = ""

    def _note(self, message: dict[str, Any]) -> None:
        event, key = message["event"], message.get("key")
        if event == "state":
            self.members = message["members"]
        elif event == "leave":
            del self.members[str(key)]
        elif event in ("join", "change"):
            self.members[str(key)] = message["infos"]
        self.told.append(event if key is None else f"{event} {key}")
