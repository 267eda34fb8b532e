"""The app itself, and what its routes share: records, and the primitives of the server."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import pkgutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import flask
from flask import Flask, abort, g, request, session

from flask_ws import AsyncWebSocket, ConnectionClosed, Sock, WebSocket

from ..dump import listen
from .checkers import checked, tidied

app = Flask(__name__)
app.secret_key = "not a secret"  # for tests on loopback
# So that a test can end what another would leave open.
app.config["SOCK_CLOSE_TIMEOUT"] = 2
for name, value in json.loads(os.environ.get("LIVE_CONFIG", "{}")).items():
    app.config[name] = value
if "LIVE_DESCRIPTORS" in os.environ:
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(os.environ["LIVE_DESCRIPTORS"]), most))
if "LIVE_SWITCH_INTERVAL" in os.environ:
    sys.setswitchinterval(float(os.environ["LIVE_SWITCH_INTERVAL"]))
    # Development mode brings asyncio's debug mode, which takes a traceback of each callback.
    asyncio.coroutines._is_debug_mode = lambda: False  # type: ignore[attr-defined]
checker = os.environ.get("LIVE_CHECKER")
if checker is not None:
    app.wsgi_app = checked(app.wsgi_app, checker)  # type: ignore[method-assign]
sock = Sock(app)
if checker is not None:
    app.wsgi_app = tidied(checked(app.wsgi_app, checker))  # type: ignore[method-assign]

listen()

logger = logging.getLogger("flask_ws")
logger.setLevel(logging.DEBUG)
logger.propagate = False
logger.addHandler(logging.StreamHandler())
logger.handlers[0].setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))

Handler = Callable[..., Any]
T = TypeVar("T")


def start_thread(target: Callable[[], object]) -> None:
    threading.Thread(target=target, daemon=True).start()


@dataclass
class Primitives:
    """How handlers wait, and run functions concurrently."""

    pause: Callable[[float], object] = time.sleep
    spawn: Callable[[Callable[[], object]], object] = start_thread


#: The script of a server that is green without monkey-patching sets the green ones here.
primitives = Primitives()

#: What interrupts a call after some seconds, on servers that have greenlets: ``gevent:Timeout``.
Timeout: Any = pkgutil.resolve_name(os.environ.get("LIVE_TIMEOUT", "contextlib:nullcontext"))

#: By the tag of a connection: how often the methods of its event view were torn down.
teardowns: dict[str, int] = {}


def is_released(tag: str) -> bool:
    """Whether the busy handler of this connection may continue; the tests say so by a file."""
    # In a folder that all processes of the server have.
    return os.path.exists(f"{os.environ['LIVE_FOLDER']}/released-{tag}")


def record(event: str, **facts: Any) -> None:
    """Write a line that the tests wait for, with the tag of the request."""
    write_record(event, request.args.get("tag", ""), **facts)


def write_record(event: str, tag: str, **facts: Any) -> None:
    """Write a line that the tests wait for, in one piece and unbuffered."""
    line = json.dumps({"event": event, "tag": tag, **facts})
    os.write(2, f"LIVE {line}\n".encode())


#: Async functions and async event views, by the names of what they stand in for.
async_handlers: dict[str, Handler] = {}
async_views: dict[str, Any] = {}
#: Whether they do.
ASYNC = os.environ.get("LIVE_HANDLERS") == "async"


def of_kind(view: type[T]) -> type[T]:
    """Return the event view of this name of the kind that is under test."""
    return async_views[view.__name__] if ASYNC else view


@contextlib.contextmanager
def recorded(ws: WebSocket | AsyncWebSocket) -> Iterator[None]:
    """Record that a handler begins, and how it ends."""
    record("begin", pid=os.getpid())
    started = time.monotonic()
    error, code, reason = None, None, ""
    try:
        yield
    except ConnectionClosed as closed:
        error, code, reason = "ConnectionClosed", closed.code, closed.reason
        raise
    except BaseException as other:
        error = f"{type(other).__name__}: {other}"
        raise
    finally:
        record(
            "end",
            error=error,
            code=code,
            reason=reason,
            connected=ws.connected,
            close_code=ws.close_code,
            seconds=time.monotonic() - started,
        )


def watched(handler: Handler) -> Handler:
    """Record what becomes of a handler; of the kind that is under test."""
    if ASYNC:
        return async_handlers[handler.__name__]

    @functools.wraps(handler)
    def run(ws: WebSocket, *args: Any, **kwargs: Any) -> None:
        with recorded(ws):
            handler(ws, *args, **kwargs)

    return run


def facts_of_request(ws: WebSocket | AsyncWebSocket) -> dict[str, Any]:
    """Return what a handler sees of its request."""
    return {
        "cookies": dict(request.cookies),
        "headers": {k.lower(): v for k, v in request.headers},
        "path": request.path,
        "tag": request.args.get("tag"),
        "visits": session.get("visits"),
        "word": g.word,
        "url": flask.url_for("http"),
        "subprotocol": ws.subprotocol,
    }


def see_context(room: str) -> dict[str, Any]:
    """Return what a view sees of its request, and how often that was torn down."""
    seen = {
        "g": sorted(g),
        "path": request.path,
        "room": room,
        "cookies": dict(request.cookies),
        "teardowns": teardowns.get(request.args["tag"], 0),
    }
    g.tag = request.args["tag"]
    return seen


def route(rule: str, **options: Any) -> Callable[[Handler], Handler]:
    def decorate(handler: Handler) -> Handler:
        sock.route(rule, endpoint=rule[1:].replace("/", "-"), **options)(watched(handler))
        return handler

    return decorate


@app.before_request
def count_visits() -> None:
    if request.path.startswith("/headers"):
        session["visits"] = session.get("visits", 0) + 1
        g.word = "from before_request"
    if request.path == "/forbidden":
        abort(401)


@app.after_request
def mark(response: flask.Response) -> flask.Response:
    response.headers["X-Marked"] = "after_request"
    for header in request.args.getlist("header"):
        name, _, value = header.partition("=")
        # Flask would refuse some of them.
        response.headers._list.append((name, value))
    return response
