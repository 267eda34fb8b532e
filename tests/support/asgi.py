"""An ASGI server in memory: it says what a test has it say, and keeps what the app sends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from tests.support.waiting import PATIENCE

DENIAL = "websocket.http.response"
Header = tuple[str, str]
Application = Callable[..., Coroutine[Any, Any, None]]


def make_scope(
    path: str = "/",
    *,
    headers: Iterable[Header] = (),
    extensions: Iterable[str] = (DENIAL,),
    **more: Any,
) -> dict[str, Any]:
    """A scope as servers make it for HTTP/1.1; the handshake's own headers are left out."""
    return {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "root_path": "",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [
            (name.lower().encode(), value.encode())
            for name, value in [("Host", "localhost"), *headers]
        ],
        "subprotocols": [],
        "extensions": {name: {} for name in extensions},
        **more,
    }


class Driver:
    """One WebSocket: the server's side of ASGI, and its client.

    :param app: the ASGI application.
    :param scope: the scope.
    """

    def __init__(
        self, app: Callable[..., Coroutine[Any, Any, None]], scope: dict[str, Any]
    ) -> None:
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        #: Not set while the client does not read.
        self.writable = asyncio.Event()
        self.writable.set()
        #: What the server raises when the app sends something.
        self.raises: Exception | None = None
        #: Whether the client answers a close frame.
        self.answers = True
        #: How many events the app has asked for, and how many it has been given.
        self.asked = 0
        self._events.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.get_running_loop().create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        self.asked += 1
        return await self._events.get()

    async def _send(self, event: dict[str, Any]) -> None:
        await self.writable.wait()
        if self.raises is not None:
            self.leave()
            raise self.raises
        self._sent.put_nowait(event)
        if event["type"] == "websocket.close" and self.answers:
            self.leave(event.get("code", 1000), event.get("reason", ""))

    async def event(self) -> dict[str, Any]:
        """What the app sends next."""
        return await asyncio.wait_for(self._sent.get(), PATIENCE)

    async def accepted(self) -> dict[str, Any]:
        """The acceptance, which is next."""
        event = await self.event()
        assert event["type"] == "websocket.accept", event
        return event

    async def message(self) -> str | bytes:
        """The message that is next."""
        event = await self.event()
        assert event["type"] == "websocket.send", event
        text: str | None = event.get("text")
        return text if text is not None else event["bytes"]

    async def closed(self) -> tuple[int, str]:
        """The close frame that is next."""
        event = await self.event()
        assert event["type"] == "websocket.close", event
        return event["code"], event["reason"]

    async def denied(self) -> tuple[int, dict[str, str], bytes]:
        """The HTTP response that is next."""
        start, body = await self.event(), await self.event()
        assert (start["type"], body["type"]) == (f"{DENIAL}.start", f"{DENIAL}.body")
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return start["status"], headers, body["body"]

    def say(self, message: str | bytes) -> None:
        """Send the app a message."""
        key = "text" if isinstance(message, str) else "bytes"
        self._events.put_nowait({"type": "websocket.receive", key: message})

    def leave(self, code: int = 1006, reason: str | None = "") -> None:
        """Tell the app that the connection has ended; ``None`` leaves the reason out."""
        event: dict[str, Any] = {"type": "websocket.disconnect", "code": code}
        self._events.put_nowait(event if reason is None else {**event, "reason": reason})

    async def ended(self) -> None:
        """Await the end of the app's task, which raises what that has raised."""
        await asyncio.wait_for(asyncio.shield(self.task), PATIENCE)

    @property
    def has_more(self) -> bool:
        """Whether the server has something that the app has not asked for."""
        return not self._events.empty()

    @property
    def has_sent(self) -> bool:
        """Whether the app has sent more than the test has asked for."""
        return not self._sent.empty()
