"""The servers under test, each with the command by which a user starts it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest


@dataclass(frozen=True)
class Setup:
    """One way to start one server; `command` is run in the folder of the apps."""

    name: str
    command: str
    server: str
    tls: bool = False
    unix: bool = False
    # Does the server keep an HTTP connection open after a response?
    keeps_alive: bool = True
    # Does one slow HTTP request hold up every other?
    one_at_a_time: bool = False
    processes: int = 1
    # Greenlets without monkey-patching: a plain time.sleep() would stop the whole server.
    unpatched: bool = False
    # Greenlets: a handler that computes stops the whole server.
    green: bool = False
    # An environment of its own, for a server version that the others do not use.
    environment: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    # Does the signal go to the whole group, as Ctrl-C in a terminal does?
    stop_group: bool = False
    # Setups that stand for their kind where a test takes long.
    main: bool = False

    @property
    def gunicorn(self) -> bool:
        return self.server == "gunicorn"

    def __str__(self) -> str:
        return self.name


GUNICORN = "gunicorn -b {bind} --no-control-socket --access-logfile -"
CERT = "--certfile {cert} --keyfile {key}"

WERKZEUG = Setup(
    "werkzeug",
    "flask --app live run --port {port}",
    server="werkzeug",
    keeps_alive=False,
    stop_signal=signal.SIGINT,
    stop_group=True,
    main=True,
)
GTHREAD = Setup("gunicorn-threads", f"{GUNICORN} --threads 100 live:app", "gunicorn", main=True)
GREEN_WORKER = Setup(
    "gunicorn-gevent",
    f"{GUNICORN} --worker-class gevent --worker-connections 200 live:app",
    "gunicorn",
    green=True,
    main=True,
)
GEVENT = Setup(
    "gevent",
    "python gevent_patched.py {port}",
    "gevent",
    green=True,
    stop_signal=signal.SIGINT,
    main=True,
)
EVENTLET = Setup(
    "eventlet",
    "python eventlet_patched.py {port}",
    "eventlet",
    green=True,
    stop_signal=signal.SIGINT,
    main=True,
)

SETUPS: tuple[Setup, ...] = (
    WERKZEUG,
    replace(
        WERKZEUG,
        name="werkzeug-tls",
        command=f"{WERKZEUG.command} --cert {{cert}} --key {{key}}",
        tls=True,
    ),
    replace(
        WERKZEUG, name="werkzeug-script", command="python werkzeug_script.py {port}", main=False
    ),
    replace(
        WERKZEUG,
        name="werkzeug-debug",
        command="flask --app live run --port {port} --debug",
        main=False,
    ),
    replace(
        WERKZEUG,
        name="werkzeug-unthreaded",
        command="flask --app live run --port {port} --without-threads",
        one_at_a_time=True,
        main=False,
    ),
    GTHREAD,
    replace(
        GTHREAD,
        name="gunicorn-threads-tls",
        command=f"{GUNICORN} {CERT} --threads 100 live:app",
        tls=True,
    ),
    replace(
        GTHREAD,
        name="gunicorn-threads-4",
        command=f"{GUNICORN} --workers 4 --threads 100 live:app",
        processes=4,
        main=False,
    ),
    replace(GTHREAD, name="gunicorn-threads-unix", unix=True, main=False),
    Setup(
        "gunicorn-sync",
        f"{GUNICORN} live:app",
        "gunicorn",
        keeps_alive=False,
        one_at_a_time=True,
        main=True,
    ),
    Setup(
        "gunicorn-sync-tls",
        f"{GUNICORN} {CERT} live:app",
        "gunicorn",
        tls=True,
        keeps_alive=False,
        one_at_a_time=True,
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
        name="eventlet-unpatched",
        command="python eventlet_unpatched.py {port}",
        unpatched=True,
        main=False,
    ),
    Setup(
        "gunicorn25-eventlet",
        f"{GUNICORN} --worker-class eventlet --workers 2 --worker-connections 200 live:app",
        "gunicorn",
        green=True,
        processes=2,
        environment="gunicorn==25.3.0",
    ),
    Setup(
        "gunicorn-eventlet",
        f"{GUNICORN} --worker-class flask_ws_eventlet.EventletWorker"
        " --worker-connections 200 live:app",
        "gunicorn",
        green=True,
        main=True,
    ),
    Setup(
        "gunicorn-eventlet-tls",
        f"{GUNICORN} {CERT} --worker-class flask_ws_eventlet.EventletWorker --workers 2 live:app",
        "gunicorn",
        green=True,
        tls=True,
        processes=2,
    ),
    GEVENT,
    replace(
        GEVENT, name="gevent-tls", command="python gevent_tls.py {port} {cert} {key}", tls=True
    ),
    replace(
        GEVENT,
        name="gevent-unpatched",
        command="python gevent_unpatched.py {port}",
        unpatched=True,
        main=False,
    ),
    GREEN_WORKER,
    replace(
        GREEN_WORKER,
        name="gunicorn-gevent-tls",
        command=f"{GUNICORN} {CERT} --worker-class gevent --workers 2 live:app",
        tls=True,
        processes=2,
        main=False,
    ),
    replace(
        GREEN_WORKER,
        name="gunicorn-pywsgi",
        command=f"{GUNICORN} --worker-class gevent_pywsgi"
        " --workers 2 --worker-connections 200 live:app",
        processes=2,
        main=False,
    ),
)


def on(predicate: Callable[[Setup], bool]) -> pytest.MarkDecorator:
    """Run a test on those setups for which `predicate` is true."""
    return pytest.mark.setups.with_args(predicate)


#: The setups that stand for their kind.
on_main = on(lambda setup: setup.main)
