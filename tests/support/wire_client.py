"""Clients for the wire format in Python and in Node, written from its page alone (docs/wire.md)."""

from __future__ import annotations

import json
import random
import subprocess
import threading
from pathlib import Path
from typing import Any

from tests.support.node import end_node, find_node
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.sync.client import connect
from websockets.typing import Subprotocol

SCRIPT = Path(__file__).with_name("wire_client.mjs")


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
            note(message, self.members, self.told)
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


def note(message: dict[str, Any], members: dict[str, Any], told: list[str]) -> None:
    """Note who is there, as one is told."""
    event, key = message["event"], message.get("key")
    if event == "state":
        members.clear()
        members.update(message["members"])
    elif event == "leave":
        del members[str(key)]
    elif event in ("join", "change"):
        members[str(key)] = message["infos"]
    told.append(event if key is None else f"{event} {key}")


class NodeWireClient:
    """The same in Node: another program, by the same page.

    :param url: where to connect to.
    :param channel: the channel.
    :param info: what others are told of it, if it joins.
    """

    def __init__(self, url: str, channel: str, info: object = None) -> None:
        more = [] if info is None else [json.dumps(info)]
        self._command = [find_node(), str(SCRIPT), url, channel, *more]
        #: What has come: the data of messages, and the word "gap".
        self.seen: list[Any] = []
        #: The data of messages to the user.
        self.direct: list[Any] = []
        #: Who is there; and how that has changed.
        self.members: dict[str, Any] = {}
        self.told: list[str] = []
        self.connections = 0
        #: Answers to requests, the codes of refusals, and close codes.
        self.answers: list[dict[str, Any]] = []
        self.refusals: list[str] = []
        self.codes: list[int] = []
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> NodeWireClient:  # noqa: PYI034
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            end_node(self._process)
        finally:
            self._thread.join(10)

    def ask(self, **request: object) -> None:
        """Send a request, without its id."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._take(json.loads(line))

    def _take(self, told: dict[str, Any]) -> None:
        event = told["event"]
        if event == "message":
            self.seen.append(told["data"])
        elif event == "gap":
            self.seen.append("gap")
        elif event == "direct":
            self.direct.append(told["data"])
        elif event == "presence":
            note(told | {"event": told["what"]}, self.members, self.told)
        elif event == "open":
            self.connections += 1
        elif event == "answer":
            self.answers.append(told["answer"])
        elif event == "refused":
            self.refusals.append(told["code"])
        elif event == "closed":
            self.codes.append(told["code"])
