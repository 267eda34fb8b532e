"""HTTP views: what goes on beside WebSockets, and what the tests want to know of the process."""

from __future__ import annotations

import gc
import os
import sys
import threading

import flask
from flask import jsonify, request

from .base import app, primitives, record, released


@app.get("/release")
def release() -> str:
    released.add(request.args["busy"])
    return "released"


@app.get("/http")
def http() -> str:
    return "http"


@app.get("/both")
def both_http() -> str:
    return "http"


@app.get("/slow")
def slow() -> str:
    primitives.pause(float(request.args["seconds"]))
    return "slow"


@app.get("/smuggled")
def smuggled() -> str:
    """What no test asks for in a request of its own."""
    record("smuggled")
    return "smuggled"


@app.get("/process")
def process() -> flask.Response:
    threads = sorted(thread.name for thread in threading.enumerate())
    return jsonify(
        pid=os.getpid(), threads=threads, greenlets=count_greenlets(), environs=count_environs()
    )


def count_environs() -> int:
    """Environs of handshakes that somebody still has."""
    gc.collect()
    return sum(type(o) is dict and "HTTP_SEC_WEBSOCKET_KEY" in o for o in gc.get_objects())


def count_greenlets() -> int:
    """Greenlets that have not ended, where there are any at all."""
    module = sys.modules.get("greenlet")
    if module is None:
        return 0
    gc.collect()
    return sum(isinstance(o, module.greenlet) and not o.dead for o in gc.get_objects())
