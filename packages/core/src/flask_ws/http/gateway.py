"""One handshake between server and app: the request to the app, and the response to the server.

Both sides use WSGI (PEP 3333), so that there may be middleware around flask-ws and inside.
"""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import flask
from werkzeug.exceptions import HTTPException

from ..exceptions import NoSocket
from ..plugin.manager import plugins
from ..views.advice import is_async
from .async_link import AsyncLink
from .head import (
    NO_LENGTH,
    SWITCHING,
    answer_headers,
    is_switch,
    make_head,
    seen_headers,
    spoilt,
)
from .link import Link
from .message_link import AsyncMessageLink, MessageLink
from .records import log_refusal
from .refusal import reason

if TYPE_CHECKING:
    from _typeshed import OptExcInfo
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from ..plugin.hookspecs import ServerSocket
    from .upgrade import OwnThread, Upgrade

    Headers = list[tuple[str, str]]

__all__ = ["GATEWAY", "Gateway", "switching"]

#: The environ key of a request's gateway: an object, so that copies of the environ share it.
GATEWAY = "flask_ws.gateway"


class Gateway:
    """A handshake between server and app.

    :param environ: the request, as the server or the outermost middleware made it.
    """

    __slots__ = (
        "_headers",
        "_start_response",
        "_switching",
        "dispatch",
        "link",
        "no_room",
        "no_socket",
        "server_socket",
        "serving",
        "started",
        "upgrade",
    )

    def __init__(self, environ: WSGIEnvironment) -> None:
        #: The socket behind the request; and why there is none, if its plugin says so.
        self.server_socket: ServerSocket | None = None
        self.no_socket: str | None = None
        try:
            # Before inner middleware can wrap what a plugin needs.
            self.server_socket = plugins.get_socket(environ)
        except NoSocket as error:
            self.no_socket = str(error)
        #: The thread of ours that the request runs on, if it does; or the refusal of a handler for
        #: which there is no thread.
        self.dispatch: OwnThread | None = None
        self.no_room: HTTPException | None = None
        #: The handshake that the app has accepted, until its 101 goes out.
        self.upgrade: Upgrade | None = None
        #: The connection, from then on.
        self.link: Link | None = None
        #: Whether the app is answering; and whether the server has been given a status.
        self.serving = False
        self.started = False
        self._start_response: StartResponse | None = None
        # Whether the app's 101 is passing inner middleware; and the headers that came out of it.
        self._switching = False
        self._headers: Headers | None = None

    # Towards the server

    def serve(
        self, app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Have the app answer the request; if with a 101, serve the connection to its end."""
        self._start_response = start_response
        self.serving, self.started = True, False
        environ[GATEWAY] = self
        environ["wsgi.input"] = NoBody(environ["wsgi.input"])
        try:
            iterable = app(environ, self.start)
        except BaseException:
            self.leave()
            raise
        if self.started and self.link is None:
            self.serving = False
            return iterable
        return Body(self, iterable)

    def start(
        self, status: str, headers: Headers, exc_info: OptExcInfo | None = None
    ) -> Callable[[bytes], object]:
        """Begin the response: the ``start_response`` that the app is given."""
        if self.link is not None:
            # The client has got its 101.
            if is_switch(status) and not exc_info:
                # From middleware that has held the response back until now.
                return ignore
            raise_late(exc_info)
        if not is_switch(status):
            return self._forward(status, headers, exc_info)
        if self._switching:
            # The server is told nothing before there is a connection.
            self._headers = headers
            return ignore
        return self._forward(*spoilt(), exc_info)

    def _forward(
        self, status: str, headers: Headers, exc_info: OptExcInfo | None = None
    ) -> Callable[[bytes], object]:
        assert self._start_response is not None
        self.started = True
        if exc_info:
            return self._start_response(status, headers, exc_info)
        return self._start_response(status, headers)

    def leave(self) -> None:
        """Drain the dead socket; the server has closed the response, or has none to close."""
        self.serving = False
        self._start_response = None
        if self.link is not None and not self.released:
            self.link.takeover.drain()

    @property
    def released(self) -> bool:
        """Whether the server has got its answer, and its worker is free."""
        return self.dispatch is not None and self.dispatch.released

    # Towards the app

    def switch(
        self, response: flask.Response, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer with a 101, and serve the connection; or refuse the handshake after all."""
        upgrade, self.upgrade = self.upgrade, None
        assert upgrade is not None
        iterable, status, headers = response.get_wsgi_response(environ)
        link, late = make_link(upgrade), start_response
        try:
            try:
                make_head(headers)
                link.admit()
                self._switching, self._headers = True, None
                # From here on, a refusal replaces a response that was begun.
                late = functools.partial(replace, start_response)
                # Inner middleware sees it as any other response: it may add headers, or hold the
                # response back for now.
                start_response(status, [*headers, NO_LENGTH])
                headers = answer_headers(upgrade.handshake, self._headers or headers)
                link.open(headers, self.dispatch)
            except HTTPException as error:
                self._switching = False
                response.close()
                log_refusal(flask.request, error.code, reason(error) or error.description)
                return error.get_response(environ)(environ, late)
            finally:
                self._switching = False
            self.link = link
            if link.detached and self.dispatch is not None:
                # Not earlier: until this thread waits for something, the two would only compete
                # for the interpreter's lock (GIL).
                self.dispatch.release(seen_headers(headers), link.takeover.finish)
            link.run()
        finally:
            link.close()
            if self.link is None:
                # The server gets no iterable to close.
                link.takeover.drain()
        if not self.released:
            self._forward(SWITCHING, seen_headers(headers))
        return iterable


def make_link(upgrade: Upgrade) -> Link:
    """Choose what serves a connection: by its handler, and by what its server has."""
    has_messages = upgrade.server_socket.messages is not None
    if is_async(upgrade.target):
        return AsyncMessageLink(upgrade) if has_messages else AsyncLink(upgrade)
    return MessageLink(upgrade) if has_messages else Link(upgrade)


class NoBody(io.BytesIO):
    """The body of a handshake, which has none.

    The server's own reader may read from the connection: code that asked it for a body would wait
    for the client, or consume its frames.

    :param reader: the server's reader, in which other libraries look for the socket.
    """

    def __init__(self, reader: Any) -> None:
        super().__init__()
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        """Find the attributes of the server's reader."""
        return getattr(self._reader, name)


class Body:
    """What the server iterates over: the app's answer, or nothing after a connection."""

    __slots__ = ("_close", "_gateway", "_iterator", "_told")

    def __init__(self, gateway: Gateway, iterable: Iterable[bytes]) -> None:
        self._gateway = gateway
        self._iterator = iter(iterable)
        self._close = getattr(iterable, "close", None)
        self._told = False

    def __iter__(self) -> Iterator[bytes]:
        """Iterate."""
        return self

    def __next__(self) -> bytes:
        """Have the app go on: generator middleware starts to run only here."""
        chunk = next(self._iterator, None)
        if self._gateway.link is not None:
            # A server may send the head only with a first chunk, and must do so before the dead
            # socket is drained. Nobody would read the app's own chunks.
            chunk = b"" if chunk is not None or not self._told else None
            self._told = True
        if chunk is None:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """End the response."""
        try:
            if self._close is not None:
                self._close()
        finally:
            if self._gateway.link is not None and not self._gateway.released:
                self._gateway.link.takeover.finish()
            self._gateway.leave()


def replace(
    start_response: StartResponse, status: str, headers: Headers, exc_info: Any = None
) -> Callable[[bytes], object]:
    """Replace a response that was begun, and has not been sent, with another."""
    return start_response(status, headers, exc_info or sys.exc_info())


def raise_late(exc_info: OptExcInfo | None) -> NoReturn:
    """Say that it is too late for another response: the client has one."""
    if exc_info and exc_info[1] is not None:
        raise exc_info[1].with_traceback(exc_info[2])
    raise AssertionError("The response has begun already, and start_response() got no exc_info.")


def ignore(_data: bytes) -> object:
    """Discard what is written."""
    return None


def switching(response: flask.Response) -> flask.Response:
    """Let a response open the WebSocket when the server calls it, whatever its class is."""
    if type(response).__module__ != __name__:
        kind: Any = type(response)
        response.__class__ = derive(kind)
    return response


@functools.lru_cache(maxsize=32)
def derive(kind: type[flask.Response]) -> type[flask.Response]:
    """Derive a class of responses that open the WebSocket."""

    def call(
        self: flask.Response, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        gateway: Gateway | None = environ.get(GATEWAY)
        if self.status_code != 101 or gateway is None or gateway.upgrade is None:
            # An after_request function has changed the response.
            return kind.__call__(self, environ, start_response)
        switch = functools.partial(gateway.switch, self)
        if gateway.serving:
            return switch(environ, start_response)
        # The first request of an app for which init_app() was not called.
        return gateway.serve(switch, environ, start_response)

    return type(kind.__name__, (kind,), {"__call__": call, "__module__": __name__})
