"""What a server has of a connection, such as its socket, is let go of when that has ended.

Without the garbage collector's help: what Werkzeug puts into an environ makes a circle of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import flask
import pytest
from tests.support.asgi import make_scope
from tests.support.asgi_site import Site, every_kind, on_loop
from tests.support.waiting import PATIENCE, until


class Line:
    """The server's side of a WebSocket, whose client has left already."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self._events = iter(events)

    async def receive(self) -> dict[str, Any]:
        return next(self._events)

    async def send(self, event: dict[str, Any]) -> None:
        """Leave it at that."""


HANDSHAKE = ({"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006})


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def run(site: Site, scope: dict[str, Any], *events: dict[str, Any]) -> None:
    """Run the app on a line, and await that nobody has it any more."""
    line = Line(*events)
    kept = weakref.ref(line)
    # Servers, too, have the app in a task of its own.
    task = asyncio.ensure_future(site.asgi(scope, line.receive, line.send))
    del line, scope
    with contextlib.suppress(RuntimeError):
        await asyncio.wait_for(task, PATIENCE)
    del task
    await asyncio.to_thread(until, lambda: kept() is None)


@every_kind
@on_loop
async def test_of_a_websocket_that_has_ended(site: Site, kind: str) -> None:
    await run(site, make_scope(f"/{kind}"), *HANDSHAKE)


@pytest.mark.parametrize("extensions", [(), ("websocket.http.response",)])
@on_loop
async def test_of_a_handshake_that_was_refused(site: Site, extensions: tuple[str, ...]) -> None:
    @site.app.before_request
    def refuse() -> flask.Response:
        return flask.Response("not you", 401)

    await run(site, make_scope("/view", extensions=extensions), *HANDSHAKE)


@on_loop
async def test_of_a_handshake_that_failed(site: Site) -> None:
    @site.app.before_request
    def fail() -> None:
        flask.abort(500)

    await run(site, make_scope("/view"), *HANDSHAKE)
