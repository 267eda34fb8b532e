"""Environs as various servers make them, which plugins of other servers must not claim."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

__all__ = ["FOREIGN", "Foreign"]

Environ = dict[str, Any]


@dataclass(frozen=True)
class Foreign:
    """An environ of a server."""

    #: What it is of.
    name: str
    #: The server whose plugin may claim it; empty if none may.
    server: str
    #: Adds to the environ what the server adds, with the request's socket.
    fill: Callable[[Environ, socket.socket], None]

    def make(self, sock: socket.socket) -> Environ:
        """The environ of a handshake on this socket."""
        environ: Environ = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/echo",
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "5000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "REMOTE_PORT": "40000",
            "HTTP_HOST": "localhost:5000",
            "HTTP_CONNECTION": "Upgrade",
            "HTTP_UPGRADE": "websocket",
            "HTTP_SEC_WEBSOCKET_KEY": "dGhlIHNhbXBsZSBub25jZQ==",
            "HTTP_SEC_WEBSOCKET_VERSION": "13",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        self.fill(environ, sock)
        return environ


def fill_bare(environ: Environ, sock: socket.socket) -> None:
    """Only what PEP 3333 requires."""


def fill_werkzeug(environ: Environ, sock: socket.socket) -> None:
    environ["SERVER_SOFTWARE"] = "Werkzeug/3.1.9"
    environ["werkzeug.socket"] = sock
    environ["wsgi.input"] = sock.makefile("rb")
    environ["wsgi.input_terminated"] = True


def fill_gunicorn(environ: Environ, sock: socket.socket) -> None:
    unreader = SimpleNamespace(sock=sock, buf=io.BytesIO(), take_buffered=lambda: b"")
    environ["SERVER_SOFTWARE"] = "gunicorn/27.0.1"
    environ["gunicorn.socket"] = sock
    environ["wsgi.input"] = SimpleNamespace(reader=SimpleNamespace(unreader=unreader))
    environ["wsgi.input_terminated"] = True
    environ["wsgi.file_wrapper"] = object


def fill_gunicorn_http2(environ: Environ, sock: socket.socket) -> None:
    """The socket is shared by all streams of the connection: no plugin may claim it."""
    fill_gunicorn(environ, sock)
    environ["SERVER_PROTOCOL"] = "HTTP/2"


def fill_eventlet(environ: Environ, sock: socket.socket) -> None:
    reader = SimpleNamespace(rfile=sock.makefile("rb"), get_socket=lambda: sock)
    environ["SERVER_PROTOCOL"] = "HTTP/1.0"
    environ["wsgi.input"] = environ["eventlet.input"] = reader
    environ["eventlet.posthooks"] = []
    environ["eventlet.set_idle"] = lambda: None


def fill_gevent(environ: Environ, sock: socket.socket) -> None:
    reader = SimpleNamespace(raw=SimpleNamespace(_sock=sock), peek=lambda size: b"")
    environ["SERVER_SOFTWARE"] = "gevent/26.9 Python/3.11"
    environ["GATEWAY_INTERFACE"] = "CGI/1.1"
    environ["wsgi.input"] = SimpleNamespace(rfile=reader)


def fill_gunicorn_pywsgi(environ: Environ, sock: socket.socket) -> None:
    """Gunicorn's worker that runs gevent's own server."""
    fill_gevent(environ, sock)
    environ["gunicorn.sock"] = sock


def fill_waitress(environ: Environ, sock: socket.socket) -> None:
    class Channel:
        def __init__(self) -> None:
            self.socket = sock
            self.request = SimpleNamespace(header_plus=b"")

        def check_client_disconnected(self) -> bool:
            return False

    environ["SERVER_SOFTWARE"] = "waitress"
    environ["waitress.client_disconnected"] = Channel().check_client_disconnected
    environ["wsgi.input_terminated"] = True


def fill_cheroot(environ: Environ, sock: socket.socket) -> None:
    environ["SERVER_SOFTWARE"] = "Cheroot/11.1.2 Server"
    environ["wsgi.input"] = SimpleNamespace(rfile=sock.makefile("rb"), remaining=0)
    environ["wsgi.input_terminated"] = True


def fill_wsgiref(environ: Environ, sock: socket.socket) -> None:
    environ["SERVER_SOFTWARE"] = "WSGIServer/0.2 CPython/3.11.7"
    environ["GATEWAY_INTERFACE"] = "CGI/1.1"
    environ["wsgi.input"] = sock.makefile("rb")


def fill_uwsgi(environ: Environ, sock: socket.socket) -> None:
    environ["uwsgi.version"] = b"2.0.30"
    environ["uwsgi.node"] = b"localhost"
    environ["wsgi.file_wrapper"] = object


def fill_mod_wsgi(environ: Environ, sock: socket.socket) -> None:
    environ["SERVER_SOFTWARE"] = "Apache/2.4.62 (Debian) mod_wsgi/5.0.2 Python/3.11"
    environ["mod_wsgi.version"] = (5, 0, 2)
    environ["mod_wsgi.process_group"] = ""
    environ["wsgi.multiprocess"] = True


#: All environs. A setup names its server with `Setup.server`, as it is named here.
FOREIGN = (
    Foreign("PEP 3333", "", fill_bare),
    Foreign("Werkzeug", "werkzeug", fill_werkzeug),
    Foreign("Gunicorn", "gunicorn", fill_gunicorn),
    Foreign("Gunicorn, HTTP/2", "", fill_gunicorn_http2),
    Foreign("Gunicorn, pywsgi worker", "gevent", fill_gunicorn_pywsgi),
    Foreign("Eventlet", "eventlet", fill_eventlet),
    Foreign("gevent", "gevent", fill_gevent),
    Foreign("Waitress", "waitress", fill_waitress),
    Foreign("Cheroot", "cheroot", fill_cheroot),
    Foreign("wsgiref", "wsgiref", fill_wsgiref),
    Foreign("uWSGI", "uwsgi", fill_uwsgi),
    Foreign("mod_wsgi", "mod_wsgi", fill_mod_wsgi),
)
