"""Who takes part, and how each is started."""

from __future__ import annotations

from dataclasses import dataclass, field

APPS = "benchmarks.apps"
GUNICORN = (
    "{python} -m gunicorn -b 127.0.0.1:{port} --no-control-socket --log-level warning "
    "--worker-connections 20000 --backlog 2048"
)
UVICORN = "{python} -m uvicorn --ws websockets-sansio --port {port} --log-level warning"
UVICORN_NEEDS = ("uvicorn", "websockets", "uvloop", "httptools")


@dataclass(frozen=True)
class Contender:
    """A server program. `{python}` and `{port}` are put in when it is started."""

    name: str
    server: str
    command: str
    #: What must be importable for it: modules, or `module:attribute.attribute`.
    needs: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)


def _flask(project: str, app: str) -> dict[str, Contender]:
    """One Flask app on each server, started by the same commands whatever the extension."""
    module = app.partition("_app")[0]
    servers = {
        "gunicorn": ("gunicorn --threads 100", f"{GUNICORN} --threads 100 {APPS}.{app}:app"),
        "gunicorn-many": (
            "gunicorn --threads 1100",
            f"{GUNICORN} --threads 1100 {APPS}.{app}:app",
        ),
        "werkzeug": (
            "werkzeug (flask run)",
            f"{{python}} -m flask --app {APPS}.{app} run --port {{port}}",
        ),
        "gevent": (
            "gevent pywsgi, patched",
            f"{{python}} -m {APPS}.serve_gevent {APPS}.{app}:app {{port}}",
        ),
        "eventlet": (
            "eventlet wsgi, patched",
            f"{{python}} -m {APPS}.serve_eventlet {APPS}.{app}:app {{port}}",
        ),
    }
    packages = {"gunicorn-many": "gunicorn"}
    return {
        f"{project}/{key}": Contender(project, label, command, (module, packages.get(key, key)))
        for key, (label, command) in servers.items()
    }


CONTENDERS: dict[str, Contender] = {
    **_flask("flask-ws", "flask_ws_app"),
    "flask-ws/no-speedups": Contender(
        "flask-ws, pure Python",
        "gunicorn --threads 100",
        f"{GUNICORN} --threads 100 {APPS}.flask_ws_app:app",
        ("flask_ws", "gunicorn"),
        {"FLASK_WS_NO_SPEEDUPS": "1"},
    ),
    "flask-ws/views": Contender(
        "flask-ws, event view",
        "gunicorn --threads 4",
        f"{GUNICORN} --threads 4 {APPS}.flask_ws_app:app",
        ("flask_ws:WebSocketView", "gunicorn"),
    ),
    "flask-ws/prometheus": Contender(
        "flask-ws, event view, Prometheus",
        "gunicorn --threads 4",
        f"{GUNICORN} --threads 4 {APPS}.flask_ws_app:app",
        ("flask_ws_prometheus", "gunicorn"),
        {"FLASK_WS_METRICS": "prometheus"},
    ),
    "flask-ws/opentelemetry": Contender(
        "flask-ws, event view, OpenTelemetry",
        "gunicorn --threads 4",
        f"{GUNICORN} --threads 4 {APPS}.flask_ws_app:app",
        ("flask_ws_opentelemetry", "opentelemetry.sdk.metrics", "gunicorn"),
        {"FLASK_WS_METRICS": "opentelemetry"},
    ),
    "flask-ws/async": Contender(
        "flask-ws, async handler",
        "gunicorn --threads 4",
        f"{GUNICORN} --threads 4 {APPS}.flask_ws_app:app",
        ("flask_ws:AsyncWebSocket", "gunicorn"),
        {"FLASK_WS_UVLOOP": "0"},
    ),
    "flask-ws/uvloop": Contender(
        "flask-ws, async handler, uvloop",
        "gunicorn --threads 4",
        f"{GUNICORN} --threads 4 {APPS}.flask_ws_app:app",
        ("flask_ws:AsyncWebSocket", "gunicorn", "uvloop"),
    ),
    "flask-ws/channels": Contender(
        "flask-ws, channel",
        "gunicorn --threads 4",
        f"{GUNICORN} --threads 4 {APPS}.flask_ws_app:app",
        ("flask_ws:Sock.publish", "gunicorn"),
    ),
    "flask-ws/asgi": Contender(
        "flask-ws",
        "uvicorn --ws websockets-sansio",
        f"{UVICORN} {APPS}.asgi_app:asgi",
        ("flask_ws_asgi", *UVICORN_NEEDS),
    ),
    **_flask("flask-sock", "flask_sock_app"),
    "flask-socketio": Contender(
        "Flask-SocketIO, threading",
        "werkzeug",
        f"{{python}} -m {APPS}.socketio_app {{port}}",
        ("flask_socketio", "simple_websocket"),
    ),
    "websockets": Contender(
        "websockets",
        "its own, sync",
        f"{{python}} -m {APPS}.websockets_sync {{port}}",
        ("websockets",),
    ),
    "websockets/broadcast": Contender(
        "websockets.broadcast",
        "its own, asyncio",
        f"{{python}} -m {APPS}.websockets_broadcast {{port}}",
        ("websockets",),
    ),
    "uvicorn": Contender(
        "Starlette",
        "uvicorn --ws websockets-sansio",
        f"{UVICORN} {APPS}.starlette_app:app",
        ("starlette", *UVICORN_NEEDS),
    ),
    "a2wsgi": Contender(
        "a2wsgi",
        "uvicorn --ws websockets-sansio",
        f"{UVICORN} {APPS}.asgi_app:http",
        ("a2wsgi", *UVICORN_NEEDS),
    ),
    "picows": Contender(
        "picows", "its own, asyncio", f"{{python}} -m {APPS}.picows_echo {{port}}", ("picows",)
    ),
    "bare": Contender(
        "bare recv/unmask/sendall",
        "a thread a connection",
        f"{{python}} -m {APPS}.bare {{port}}",
        ("websockets",),
    ),
}
