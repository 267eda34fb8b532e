"""The servers under test, each with the command by which a user starts it."""

from __future__ import annotations

import importlib.util
import math
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from flask_ws.testing import Capabilities, Setup
from flask_ws.testing.suite.setups import Need

#: Have every subject on every setup, async handlers and ASGI servers too: it takes half an hour.
EVERYWHERE = os.environ.get("FLASK_WS_EVERYWHERE") == "1"


@dataclass(frozen=True, kw_only=True)
class OurSetup(Setup):
    """A setup of one of our plugins, whose command runs in the folder of the apps."""

    main: bool = False
    # An environment of its own, for a server version that the others do not use.
    environment: str | None = None
    # A client that sends pings, or other frames that are no messages, as fast as it can holds up no
    # other.
    turns: bool = True

    @property
    def gunicorn(self) -> bool:
        return self.plugin == "flask_ws_gunicorn"


GUNICORN = "gunicorn -b {bind} --no-control-socket --graceful-timeout 5 --access-logfile -"
GRACEFUL_TIMEOUT = 5.0
CERT = "--certfile {cert} --keyfile {key}"

WERKZEUG = OurSetup(
    name="werkzeug",
    command="flask --app {app} run --port {port}",
    plugin="flask_ws_werkzeug",
    server="werkzeug",
    capabilities=Capabilities(keep_alive=False),
    stop_signal=signal.SIGINT,
    stop_group=True,
    main=True,
)
GTHREAD = OurSetup(
    name="gunicorn-threads",
    command=f"{GUNICORN} --threads 100 {{app}}",
    plugin="flask_ws_gunicorn",
    server="gunicorn",
    capabilities=Capabilities(few_workers=True, stop_seconds=GRACEFUL_TIMEOUT),
    main=True,
)
SYNC = replace(
    GTHREAD,
    name="gunicorn-sync",
    command=f"{GUNICORN} {{app}}",
    capabilities=replace(GTHREAD.capabilities, keep_alive=False),
)
#: Handlers on greenlets: one that computes stops the whole server.
GREEN = Capabilities(threads=False, detaching=False)
GREEN_WORKER = OurSetup(
    name="gunicorn-gevent",
    command=f"{GUNICORN} --worker-class gevent --worker-connections 200 {{app}}",
    plugin="flask_ws_gunicorn",
    server="gunicorn",
    capabilities=replace(GREEN, stop_seconds=GRACEFUL_TIMEOUT),
    main=True,
)
EVENTLET_WORKER = replace(
    GREEN_WORKER,
    name="gunicorn-eventlet",
    command=f"{GUNICORN} --worker-class flask_ws_eventlet.EventletWorker"
    " --worker-connections 200 {app}",
)
GEVENT = OurSetup(
    name="gevent",
    command="python gevent_patched.py {port}",
    plugin="flask_ws_gevent",
    server="gevent",
    capabilities=GREEN,
    stop_signal=signal.SIGINT,
    main=True,
)
EVENTLET = OurSetup(
    name="eventlet",
    command="python eventlet_patched.py {port}",
    plugin="flask_ws_eventlet",
    server="eventlet",
    # The server waits for its greenlets.
    capabilities=replace(GREEN, stop_seconds=math.inf),
    stop_signal=signal.SIGINT,
    main=True,
)
WAITRESS = OurSetup(
    name="waitress",
    command="waitress-serve --listen={bind} --no-clear-untrusted-proxy-headers {app}",
    plugin="flask_ws_waitress",
    server="waitress",
    capabilities=Capabilities(tls=False, access_log=False, few_workers=True),
    stop_signal=signal.SIGINT,
    main=True,
)
UWSGI_OPTIONS = (
    "--master --die-on-term --module {app} --need-app"
    """ --log-format '%(addr) "%(method) %(uri) %(proto)" %(status)'"""
)
UWSGI = OurSetup(
    name="uwsgi",
    command=f"uwsgi --http-socket {{bind}} --threads 4 {UWSGI_OPTIONS}",
    plugin="flask_ws_uwsgi",
    server="uwsgi",
    capabilities=Capabilities(tls=False, keep_alive=False, few_workers=True),
    main=True,
)

SETUPS: tuple[OurSetup, ...] = (
    WERKZEUG,
    replace(
        WERKZEUG,
        name="werkzeug-tls",
        command=f"{WERKZEUG.command} --cert {{cert}} --key {{key}}",
        tls=True,
    ),
    replace(
        WERKZEUG,
        name="werkzeug-unix",
        command="flask --app {app} run --host unix://{socket}",
        unix=True,
        main=False,
    ),
    replace(
        WERKZEUG, name="werkzeug-script", command="python werkzeug_script.py {port}", main=False
    ),
    replace(WERKZEUG, name="werkzeug-debug", command=f"{WERKZEUG.command} --debug", main=False),
    replace(
        WERKZEUG,
        name="werkzeug-unthreaded",
        command=f"{WERKZEUG.command} --without-threads",
        capabilities=replace(WERKZEUG.capabilities, few_workers=True),
        main=False,
    ),
    replace(
        WERKZEUG,
        name="werkzeug-processes",
        command="python werkzeug_processes.py {port}",
        capabilities=replace(WERKZEUG.capabilities, detaching=False, processes=2),
        main=False,
    ),
    GTHREAD,
    replace(
        GTHREAD,
        name="gunicorn-threads-tls",
        command=f"{GUNICORN} {CERT} --threads 100 {{app}}",
        tls=True,
    ),
    replace(
        GTHREAD,
        name="gunicorn-threads-4",
        command=f"{GUNICORN} --workers 4 --threads 100 {{app}}",
        capabilities=replace(GTHREAD.capabilities, processes=4),
        main=False,
    ),
    replace(GTHREAD, name="gunicorn-threads-unix", unix=True, main=False),
    SYNC,
    replace(
        SYNC,
        name="gunicorn-sync-tls",
        command=f"{GUNICORN} {CERT} {{app}}",
        tls=True,
        main=False,
    ),
    EVENTLET,
    replace(
        EVENTLET,
        name="eventlet-tls",
        command="python eventlet_tls.py {port} {cert} {key}",
        tls=True,
    ),
    replace(
        EVENTLET,
        name="eventlet-unix",
        command="python eventlet_unix.py {socket}",
        unix=True,
        main=False,
    ),
    replace(
        EVENTLET,
        name="eventlet-unpatched",
        command="python eventlet_unpatched.py {port}",
        capabilities=replace(EVENTLET.capabilities, patched=False),
        main=False,
    ),
    replace(
        GREEN_WORKER,
        name="gunicorn25-eventlet",
        command=f"{GUNICORN} --worker-class eventlet --workers 2 --worker-connections 200 {{app}}",
        environment="gunicorn==25.3.0",
        capabilities=replace(GREEN_WORKER.capabilities, processes=2),
        main=False,
    ),
    EVENTLET_WORKER,
    replace(
        EVENTLET_WORKER,
        name="gunicorn-eventlet-tls",
        command=f"{GUNICORN} {CERT} --worker-class flask_ws_eventlet.EventletWorker --workers 2"
        " {app}",
        tls=True,
        capabilities=replace(GREEN_WORKER.capabilities, processes=2),
        main=False,
    ),
    GEVENT,
    replace(
        GEVENT, name="gevent-tls", command="python gevent_tls.py {port} {cert} {key}", tls=True
    ),
    replace(
        GEVENT,
        name="gevent-unix",
        command="python gevent_unix.py {socket}",
        unix=True,
        main=False,
    ),
    replace(
        GEVENT,
        name="gevent-unpatched",
        command="python gevent_unpatched.py {port}",
        capabilities=replace(GREEN, patched=False),
        main=False,
    ),
    GREEN_WORKER,
    replace(
        GREEN_WORKER,
        name="gunicorn-gevent-tls",
        command=f"{GUNICORN} {CERT} --worker-class gevent --workers 2 {{app}}",
        tls=True,
        capabilities=replace(GREEN_WORKER.capabilities, processes=2),
        main=False,
    ),
    replace(
        GREEN_WORKER,
        name="gunicorn-pywsgi",
        command=f"{GUNICORN} --worker-class gevent_pywsgi"
        " --workers 2 --worker-connections 200 {app}",
        capabilities=replace(GREEN, processes=2),
        main=False,
    ),
    WAITRESS,
    replace(
        WAITRESS,
        name="waitress-lookahead",
        command=WAITRESS.command.replace(
            " {app}", " --channel-request-lookahead=5 --asyncore-use-poll {app}"
        ),
        main=False,
    ),
    replace(
        WAITRESS,
        name="waitress-unix",
        command="waitress-serve --unix-socket={socket} {app}",
        unix=True,
        main=False,
    ),
    UWSGI,
    replace(
        UWSGI,
        name="uwsgi-http11",
        command=f"uwsgi --http11-socket {{bind}} --processes 2 --enable-threads {UWSGI_OPTIONS}",
        capabilities=replace(UWSGI.capabilities, keep_alive=True, pipelining=False, processes=2),
        main=False,
    ),
    replace(
        UWSGI,
        name="uwsgi-unix",
        command=f"uwsgi --http-socket {{socket}} --threads 4 {UWSGI_OPTIONS}",
        unix=True,
        main=False,
    ),
)
if importlib.util.find_spec("flask_ws_uwsgi") is None:
    # uWSGI has no wheel for the newest Python.
    SETUPS = tuple(setup for setup in SETUPS if setup.server != "uwsgi")


def on(predicate: Callable[[Any], bool]) -> Need:
    """Run a test on those setups for which `predicate` is true."""
    return Need(predicate, "is about other setups")
