"""Views with plain methods and with async ones, and a client of theirs."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask

from flask_ws import AsyncChannelView, ChannelView, Sock
from flask_ws.testing import ClientWebSocket, connect

V1 = "flask-ws.v1"


def make_async(view: type[ChannelView]) -> type[AsyncChannelView]:
    """Make the same view with async methods, which wait."""

    def wait(method: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(0)
            return method(*args, **kwargs)

        return call

    own = {name: wait(method) for name, method in vars(view).items() if inspect.isroutine(method)}
    return type(view.__name__, (AsyncChannelView,), own)


OfKind = Callable[[type[ChannelView]], Any]


@pytest.fixture(params=["plain", "async"])
def of_kind(request: pytest.FixtureRequest) -> OfKind:
    """Return a view as it is, or the same with async methods."""
    return make_async if request.param == "async" else lambda view: view


class Client:
    """One that speaks the format."""

    def __init__(self, ws: ClientWebSocket) -> None:
        self.ws = ws
        self._id = 0

    def send(self, kind: str, channel: str = "chat:1", **more: Any) -> int:
        self._id += 1
        self.ws.send_json({"type": kind, "id": self._id, "channel": channel, **more})
        return self._id

    def receive(self) -> Any:
        return self.ws.receive_json()

    def ask(self, kind: str, channel: str = "chat:1", **more: Any) -> dict[str, Any]:
        """Send a request, and return the answer, which must be the next message."""
        number = self.send(kind, channel, **more)
        answer = self.receive()
        assert isinstance(answer, dict)
        assert answer.pop("id") == number
        return answer


Open = Callable[..., Client]


@pytest.fixture
def open_(app: Flask, sock: Sock) -> Iterator[Open]:
    """Connect, as a user or as nobody."""
    with ExitStack() as stack, app.app_context():

        def open_(user: str = "") -> Client:
            path = f"/live?user={user}" if user else "/live"
            return Client(stack.enter_context(connect(app, path, subprotocols=V1)))

        yield open_
