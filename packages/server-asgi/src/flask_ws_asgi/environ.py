"""The WSGI environ (PEP 3333) of a handshake, made of an ASGI server's scope."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any

from .workers import has_siblings

__all__ = ["MESSAGES", "drop_underscores", "make_environ"]

#: The environ key of the connection.
MESSAGES = "flask_ws.asgi"

#: What every handshake of HTTP/1.1 has. HTTP/2 says it in another way (RFC 8441), and a server may
#: keep it to itself: it has answered it already.
HANDSHAKE = {
    "HTTP_UPGRADE": "websocket",
    "HTTP_CONNECTION": "Upgrade",
    "HTTP_SEC_WEBSOCKET_VERSION": "13",
    "HTTP_SEC_WEBSOCKET_KEY": base64.b64encode(bytes(16)).decode(),
}
#: Headers that have names of their own in an environ.
CGI_NAMES = {"HTTP_CONTENT_LENGTH": "CONTENT_LENGTH", "HTTP_CONTENT_TYPE": "CONTENT_TYPE"}
SCHEMES = {"ws": "http", "wss": "https"}


def drop_underscores(scope: MutableMapping[str, Any]) -> None:
    """Leave out headers that an environ would take for others, as servers of WSGI do.

    ``X_Real_IP`` has the key of ``X-Real-IP``, which a proxy may have set or removed.

    :param scope: the ASGI scope of a request.
    """
    headers = scope.get("headers", ())
    if any(b"_" in name for name, _ in headers):
        scope["headers"] = [header for header in headers if b"_" not in header[0]]


def make_environ(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Make the environ of a handshake.

    :param scope: the ASGI scope, of the type ``websocket``.
    """
    root = to_wsgi(scope.get("root_path", "")).rstrip("/")
    path = to_wsgi(scope["path"])
    if root and (path == root or path.startswith(f"{root}/")):
        # From version 2.4 of the protocol on, the path includes it.
        path = path[len(root) :]
    scheme = scope.get("scheme", "ws")
    host, port = scope.get("server") or ("localhost", None)
    version = scope.get("http_version", "1.1")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": root,
        "PATH_INFO": path,
        "QUERY_STRING": scope.get("query_string", b"").decode("latin-1"),
        # Granian calls HTTP/1.0 so.
        "SERVER_PROTOCOL": "HTTP/1.0" if version == "1" else f"HTTP/{version}",
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or (443 if scheme == "wss" else 80)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": SCHEMES.get(scheme, scheme),
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": has_siblings(),
        "wsgi.run_once": False,
        "asgi.scope": scope,
    }
    if scope.get("raw_path"):
        environ["RAW_URI"] = environ["REQUEST_URI"] = make_uri(scope)
    if scope.get("client"):
        address, number = scope["client"][:2]
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = address, str(number)
    for name, value in scope.get("headers", ()):
        key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        key, text = CGI_NAMES.get(key, key), value.decode("latin-1")
        if key in environ:
            # RFC 9110 section 5.3; of cookies, RFC 9113 section 8.2.3.
            text = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{text}"
        environ[key] = text
    for key, text in HANDSHAKE.items():
        environ.setdefault(key, text)
    if scope.get("subprotocols"):
        environ.setdefault("HTTP_SEC_WEBSOCKET_PROTOCOL", ", ".join(scope["subprotocols"]))
    if "HTTP_HOST" not in environ and not version.startswith("1"):
        # Some servers keep the authority of HTTP/2 to themselves.
        environ["HTTP_HOST"] = host if port is None else f"{host}:{port}"
    return environ


def make_uri(scope: Mapping[str, Any]) -> str:
    """Return the target of the request, as the client sent it."""
    query = scope.get("query_string", b"").decode("latin-1")
    path: str = scope["raw_path"].decode("latin-1")
    return f"{path}?{query}" if query else path


def to_wsgi(text: str) -> str:
    """Return text as WSGI has it: bytes in Latin-1."""
    return text.encode(errors="surrogateescape").decode("latin-1")
