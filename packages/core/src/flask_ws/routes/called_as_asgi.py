"""What an app answers to an ASGI server that calls it as an app of ASGI.

Flask's own answer to each call is a :exc:`TypeError`.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import quote

import flask

from ..plugin.asgi import ADVICE
from ..sparing import warn_sparingly
from ..wording import UNQUOTED

__all__ = ["answer_in_words"]

Message: TypeAlias = "MutableMapping[str, Any]"
Receive: TypeAlias = "Callable[[], Awaitable[Message]]"
Send: TypeAlias = "Callable[[Message], Awaitable[None]]"

WORDS = f"The server takes the app for one of ASGI. {ADVICE}."
#: Not Implemented.
STATUS = 501
#: Where it is missing, a refused WebSocket is a 403 without a body.
DENIAL = "websocket.http.response"


def answer_in_words(app: flask.Flask) -> None:
    """Have an app tell ASGI servers what to do; the calls of WSGI servers stay as they are.

    :param app: the app, which is left alone if its class has a ``__call__`` of its own.
    """
    kind: Any = type(app)
    if kind.__call__ is flask.Flask.__call__:
        # A call looks at the class alone.
        app.__class__ = derive(kind)


@functools.lru_cache(maxsize=32)
def derive(kind: type[flask.Flask]) -> type[flask.Flask]:
    """Derive a class of apps that know an ASGI server by its arguments."""

    def call(self: flask.Flask, environ: Any, start_response: Any = None, *send: Send) -> Any:
        if send:
            return refuse(environ, start_response, *send)
        if start_response is None:
            # ASGI 2, which uvicorn takes what is no coroutine function for.
            return functools.partial(refuse, environ)
        return kind.__call__(self, environ, start_response)

    names = {"__call__": call, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), names)


async def refuse(scope: Message, receive: Receive, send: Send) -> None:
    """Refuse what an ASGI server asks for, in words: to start, if it asks for that."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": WORDS})
        return
    is_websocket = scope["type"] == "websocket"
    warn_sparingly(
        "called as ASGI",
        "%s for %s refused: %d %s",
        "WebSocket handshake" if is_websocket else "Request",
        quote(scope["path"], safe=UNQUOTED),
        STATUS,
        WORDS,
    )
    if is_websocket:
        await receive()
        if DENIAL not in (scope.get("extensions") or ()):
            await send({"type": "websocket.close"})
            return
    kind = DENIAL if is_websocket else "http.response"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(WORDS))]
    await send({"type": f"{kind}.start", "status": STATUS, "headers": headers})
    await send({"type": f"{kind}.body", "body": WORDS.encode()})
