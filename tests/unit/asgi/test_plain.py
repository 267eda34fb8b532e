"""HTTP requests under ASGI: their bodies, and clients that go."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import flask
import pytest
from tests.support.asgi import make_scope
from tests.support.asgi_site import Site, on_loop
from tests.support.waiting import PATIENCE

DISCONNECT = {"type": "http.disconnect"}


class Request:
    """One HTTP request, and what is answered.

    :param events: what the server has to say of it; the last is said again and again.
    :param raises: what it raises once the response has begun, if anything.
    """

    def __init__(
        self, events: Iterable[dict[str, Any]] = (), raises: Exception | None = None
    ) -> None:
        self._events = iter(events)
        self._raises = raises
        self.gone = asyncio.Event()
        self.streams = asyncio.Event()
        self.status = 0
        self.body = b""

    async def receive(self) -> dict[str, Any]:
        for event in self._events:
            return event
        await self.gone.wait()
        return DISCONNECT

    async def send(self, event: dict[str, Any]) -> None:
        self.status = event.get("status", self.status)
        self.body += event.get("body", b"")
        if self.body and self._raises is not None:
            raise self._raises
        if len(self.body) > 2:
            self.streams.set()

    async def run(self, site: Site, path: str, method: str = "GET", **scope: Any) -> None:
        whole = make_scope(path, type="http", scheme="http", method=method, **scope)
        await asyncio.wait_for(site.asgi(whole, self.receive, self.send), PATIENCE)


def parts(*bodies: bytes, whole: bool = True) -> list[dict[str, Any]]:
    """The events of a request's body."""
    events = [{"type": "http.request", "body": body, "more_body": True} for body in bodies]
    return [*events, {"type": "http.request", "body": b"", "more_body": False}][
        : None if whole else -1
    ]


@pytest.fixture
def closed(site: Site) -> list[bool]:
    """Gets an item when a response without end is closed."""
    seen: list[bool] = []

    @site.app.route("/endless", methods=["GET", "POST"])
    def endless() -> flask.Response:
        flask.request.get_data()

        def chunks() -> Iterator[str]:
            try:
                for _ in itertools.count():
                    yield "x"
            finally:
                seen.append(True)

        return flask.Response(chunks())

    @site.app.post("/size")
    def size() -> str:
        return str(len(flask.request.get_data()))

    return seen


@on_loop
async def test_body_without_a_length_is_read_to_its_end(site: Site, closed: list[bool]) -> None:
    request = Request(parts(b"123", b"45"))
    await request.run(site, "/size", "POST", headers=[("Transfer-Encoding", "chunked")])
    assert request.body == b"5"


@pytest.mark.parametrize("headers", [[], [("Content-Length", "8")]], ids=["chunked", "length"])
@on_loop
async def test_body_that_is_cut_short_is_not_taken_for_whole(
    site: Site, closed: list[bool], headers: list[tuple[str, str]]
) -> None:
    request = Request([*parts(b"123", whole=False), DISCONNECT])
    await request.run(site, "/size", "POST", headers=headers)
    assert (request.status, request.body) == (0, b"")


@pytest.mark.parametrize("method", ["GET", "POST"])
@on_loop
async def test_response_without_end_ends_when_the_client_goes(
    site: Site, closed: list[bool], method: str
) -> None:
    request = Request(parts())
    running = asyncio.ensure_future(request.run(site, "/endless", method))
    await asyncio.wait_for(request.streams.wait(), PATIENCE)
    assert closed == []
    request.gone.set()
    await running
    assert closed == [True]


@on_loop
async def test_response_without_end_ends_where_the_server_raises(
    site: Site, closed: list[bool]
) -> None:
    await Request(parts(), BrokenPipeError()).run(site, "/endless")
    assert closed == [True]


@on_loop
async def test_error_of_the_server_is_raised_when_the_app_has_ended(
    site: Site, closed: list[bool]
) -> None:
    with pytest.raises(ValueError, match="no such header"):
        await Request(parts(), ValueError("no such header")).run(site, "/endless")
    assert closed == [True]
