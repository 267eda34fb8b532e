"""Opening a connection in a test: the handshake with an app in memory, and its refusal."""

from __future__ import annotations

import base64
import copy
import os
import re
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

import flask
from flask.testing import FlaskClient
from markupsafe import Markup
from werkzeug.datastructures import Headers
from werkzeug.test import Client, TestResponse

from flask_ws.exceptions import FlaskWSError
from flask_ws.system import TIMEOUT_MAX

from .client import ClientWebSocket
from .memory import Call
from .transcript import Transcript

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["TIMEOUT", "Connecting", "HandshakeRefused", "connect"]

#: Seconds that a test waits in one call before it fails.
TIMEOUT = 10.0
#: What browsers offer.
EXTENSIONS = "permessage-deflate; client_max_window_bits"
#: The part of a refusal's text that an exception shows.
SHOWN_TEXT = 500
HEADLINE = re.compile(r"<(title|h1)>.*?</\1>", re.DOTALL)


class HandshakeRefused(FlaskWSError):
    """The app did not answer a handshake with 101.

    :param response: the response.
    """

    def __init__(self, response: TestResponse) -> None:
        super().__init__(response)
        #: The response: its ``status_code``, ``headers``, ``text`` and so on.
        self.response = response

    def __str__(self) -> str:
        text = self.response.get_data(as_text=True)
        if self.response.mimetype == "text/html":
            # The title repeats the status.
            text = Markup(HEADLINE.sub("", text)).striptags()  # noqa: S704
        return f"{self.response.status}: {text[:SHOWN_TEXT]}"


class Handover:
    """Replaces the app of a test client: passes on its request, and returns the app's answer.

    :param app: the app.
    :param timeout: seconds that it may take to answer.
    """

    def __init__(self, app: WSGIApplication, timeout: float) -> None:
        self._app = app
        self._timeout = timeout
        #: The request, once it has been made.
        self.call: Call | None = None

    def __getattr__(self, name: str) -> Any:
        # The client asks the app for its configuration.
        return getattr(self._app, name)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Make the request, and return the app's answer, also if it is a 101."""
        config: Mapping[str, Any] = getattr(self._app, "config", {})
        self.call = call = Call(
            self._app,
            environ,
            timeout=self._timeout,
            propagate=config.get("PROPAGATE_EXCEPTIONS") is not False,
        )
        try:
            status, headers, body = call.read_answer()
        finally:
            if call.early is None:
                call.sock.close()
        start_response(status, headers)
        return [body]


class Connecting:
    """What :func:`connect` returns: the connection is open within the ``with`` block."""

    def __init__(
        self, client: Client, path: str, headers: Headers, timeout: float, kwargs: dict[str, Any]
    ) -> None:
        self._client = client
        self._path = path
        self._headers = headers
        self._timeout = timeout
        self._kwargs = kwargs
        self._ws: ClientWebSocket | None = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"connect() opens a connection in a with statement: with connect(...) as ws, "
                f"then ws.{name}."
            )

    def __enter__(self) -> ClientWebSocket:
        """Open the connection.

        :raises HandshakeRefused: the app did not answer 101.
        """
        app = self._client.application
        handover = Handover(app, self._timeout)
        # A shallow copy, which shares the cookies.
        client = copy.copy(self._client)
        client.application = handover
        if isinstance(client, FlaskClient):
            # The app's own request is still running: no context may be preserved here.
            client.preserve_context = False
        response = client.open(self._path, headers=self._headers, **self._kwargs)
        call = handover.call
        if call is None or call.early is None:
            refused = HandshakeRefused(response)
            Transcript(response.request.path).add("refused", str(refused))
            raise refused
        call.wait_ready()
        self._ws = ClientWebSocket(call, response, app, self._timeout)
        return self._ws

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection, and raise what its handler raised."""
        assert self._ws is not None
        self._ws.__exit__(exc_type, exc, traceback)


def connect(
    app_or_client: flask.Flask | Client,
    path: str,
    *,
    headers: Headers | Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None,
    subprotocols: str | Iterable[str] = (),
    compression: bool = True,
    timeout: float = TIMEOUT,
    **kwargs: Any,
) -> Connecting:
    """Open a WebSocket connection to an app in a test, without a server.

    ::

        def test_echo():
            with connect(app, "/echo") as ws:
                ws.send("hello")
                assert ws.receive() == "hello"

    Everything runs as on a server: Flask's dispatch with its hooks, the handshake, and the handler,
    on a thread, with the real protocol in between. The block is entered when the handler first
    receives, sends or ends, and when an event view's ``on_open`` has returned: what it has
    subscribed to by then can be published. A handler that waits for something else is waited for
    one second at most. At the end of the ``with`` block the
    connection is closed, and the handler has returned. What it raised is raised there, unless
    ``app.config["PROPAGATE_EXCEPTIONS"]`` is ``False``.

    :param app_or_client: the app, or a test client of it, whose cookies and session are used.
    :param path: the path, or a URL.
    :param headers: headers to send besides those of a handshake, or in their place.
    :param subprotocols: the subprotocols to offer.
    :param compression: whether to offer permessage-deflate, as browsers do.
    :param timeout: seconds to wait for anything, before the test fails.
    :param kwargs: further arguments of the client's ``open()``, such as ``query_string`` and
        ``base_url``.
    :return: a context manager for a :class:`ClientWebSocket`.
    :raises HandshakeRefused: when the block is entered: the app did not answer 101.
    :raises TypeError: ``app_or_client`` is neither.
    """
    if isinstance(app_or_client, Client):
        client = app_or_client
    elif isinstance(app_or_client, flask.Flask):
        client = app_or_client.test_client()
    else:
        raise TypeError(f"connect() takes an app or a test client of it, not {app_or_client!r}.")
    offered = [subprotocols] if isinstance(subprotocols, str) else list(subprotocols)
    sent = Headers(headers)
    for name, value in (
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
        ("Sec-WebSocket-Protocol", ", ".join(offered)),
        ("Sec-WebSocket-Extensions", EXTENSIONS if compression else ""),
    ):
        if value and name not in sent:
            sent[name] = value
    if path.startswith(("ws://", "wss://")):
        # url_for() makes such a URL for a WebSocket route.
        path = "http" + path[2:]
    return Connecting(client, path, sent, min(timeout, TIMEOUT_MAX), kwargs)
