"""HTTP views: requests beside WebSockets, and facts about the process for the tests."""

from __future__ import annotations

import gc
import os
import sys
import threading

import flask
from flask import jsonify, request

from .base import app, primitives, record


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
    """Record a request that no test makes by itself: only smuggled bytes reach it."""
    record("smuggled")
    return "smuggled"


@app.get("/process")
def process() -> flask.Response:
    threads = sorted(thread.name for thread in threading.enumerate())
    return jsonify(
        pid=os.getpid(), threads=threads, greenlets=count_greenlets(), environs=count_environs()
    )


def count_environs() -> int:
    """Count the environs of handshakes that are still referenced."""
    gc.collect()
    return sum(type(o) is dict and "HTTP_SEC_WEBSOCKET_KEY" in o for o in gc.get_objects())


def count_greenlets() -> int:
    """Count the greenlets that have not ended."""
    module = sys.modules.get("greenlet")
    if module is None:
        return 0
    gc.collect()
    return sum(isinstance(o, module.greenlet) and not o.dead for o in gc.get_objects())
