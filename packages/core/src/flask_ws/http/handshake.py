"""The HTTP side of a WebSocket: from the request to a 101, or to a refusal (RFC 6455 section 4).

A refusal is one of werkzeug's HTTP exceptions, so that Flask's error handlers see it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    HTTPException,
    MethodNotAllowed,
    RequestHeaderFieldsTooLarge,
)
from werkzeug.wrappers import Request

from ..options import Options
from ..protocol.deflate import DeflateParameters, negotiate
from ..wording import one_line, shown_address, shown_path
from .records import log_refusal
from .refusal import Refusal, reason

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = [
    "Handshake",
    "UpgradeRequired",
    "accept_value",
    "check",
    "head_size",
    "is_upgrade",
]

logger = logging.getLogger("flask_ws")

VERSION = "13"
#: Prefixes of the HTTP versions that have no upgrade (RFC 6455 section 4.1).
OLD_HTTP = ("HTTP/0", "HTTP/1.0")
#: A valid Host header (RFC 9112 section 3.2): no commas, with which servers join several headers.
HOST = re.compile(r"[^\s,/?#@\\]+")
#: Values of Content-Length that a request without a body may have.
NO_LENGTHS = (None, "", "0")
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: Names of the same machine, each of which is an origin of its own.
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
#: The environ key by which a test client asks to be told what the log says of a refusal.
EXPLAIN = "flask_ws.explain"
DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class UpgradeRequired(HTTPException):
    """426: the server speaks another version of the protocol than the client (RFC 9110)."""

    code = 426
    name = "Upgrade Required"
    description = "This URL is a WebSocket: connect to it with version 13 of the protocol."

    def get_headers(
        self,
        environ: WSGIEnvironment | None = None,
        scope: dict[str, object] | None = None,
    ) -> list[tuple[str, str]]:
        """Add the version that is supported (RFC 6455 section 4.4)."""
        return [
            *super().get_headers(environ, scope),
            ("Sec-WebSocket-Version", VERSION),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
        ]


class ForeignOrigin(Refusal, Forbidden):
    """403: the browser shows another site's page."""

    description = "Pages of this origin may not connect here."


@dataclass(frozen=True, slots=True)
class Handshake:
    """What the client and the route agreed on."""

    #: The answer to the client's key.
    accept: str
    #: The subprotocol, if they have one in common.
    subprotocol: str | None = None
    #: The parameters of permessage-deflate, if it is on.
    deflate: DeflateParameters | None = None
    #: The headers of the 101 for these.
    headers: list[tuple[str, str]] = field(default_factory=list)


def is_upgrade(environ: WSGIEnvironment) -> bool:
    """Tell whether a request asks for a WebSocket."""
    return "websocket" in _tokens(environ.get("HTTP_UPGRADE", "")) and "upgrade" in _tokens(
        environ.get("HTTP_CONNECTION", "")
    )


def head_size(environ: WSGIEnvironment) -> int:
    """Estimate how many bytes the URL and the headers of a request take, in memory too."""
    return sum(len(value) for value in environ.values() if isinstance(value, str))


def check(request: Request, options: Options, speaks: str | None = None) -> Handshake:
    """Check a client's opening handshake, and choose what to answer.

    :param request: the request.
    :param options: the route's options.
    :param speaks: the subprotocol that the client must offer.
    :raises HTTPException: the handshake is refused: 400, 403, 405, 426 or 431.
    """
    environ = request.environ
    if head_size(environ) > options.max_handshake_size:
        text = f"The URL and the headers have more than {options.max_handshake_size} bytes."
        refuse(request, RequestHeaderFieldsTooLarge(text))
    if request.method != "GET":
        refuse(request, MethodNotAllowed(["GET"], "A WebSocket handshake is a GET request."))
    if not is_upgrade(environ):
        refuse(request, UpgradeRequired())
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION", "").strip() != VERSION:
        refuse(request, UpgradeRequired())
    if environ.get("SERVER_PROTOCOL", "").startswith(OLD_HTTP):
        refuse(request, BadRequest("A WebSocket handshake is a request of HTTP/1.1."))
    if not HOST.fullmatch(environ.get("HTTP_HOST", "")):
        refuse(request, BadRequest("A WebSocket handshake has one Host header."))
    # Compared as text: int() also accepts what a proxy may not take for a number.
    if "HTTP_TRANSFER_ENCODING" in environ or environ.get("CONTENT_LENGTH") not in NO_LENGTHS:
        refuse(request, BadRequest("A WebSocket handshake has no body."))
    key = environ.get("HTTP_SEC_WEBSOCKET_KEY", "").strip()
    if not _is_key(key):
        refuse(request, BadRequest("Sec-WebSocket-Key must be 16 bytes in base64."))
    _check_origin(request, options)

    accept = accept_value(key)
    headers = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept),
    ]
    if speaks is not None and speaks not in _offered(request):
        refuse(request, BadRequest(f"This URL speaks {speaks}: offer it as the subprotocol."))
    subprotocol = _choose_subprotocol(request, options)
    if subprotocol is not None:
        headers.append(("Sec-WebSocket-Protocol", subprotocol))
    deflate = None
    if options.compression:
        # The server joins several such headers with commas.
        agreed = negotiate(environ.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", ""))
        if agreed is not None:
            deflate, header = agreed
            headers.append(("Sec-WebSocket-Extensions", header))
    return Handshake(accept, subprotocol, deflate, headers)


def refuse(request: Request, error: HTTPException) -> NoReturn:
    """Log the refusal of a handshake in one line, and raise it.

    :param error: the refusal; the client gets its description.
    """
    text = f"{error.description} {reason(error)}".rstrip()
    log_refusal(request, error.code, text)
    if EXPLAIN in request.environ:
        error.description = text
    raise error


def accept_value(key: str) -> str:
    """Compute the answer to a ``Sec-WebSocket-Key`` (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()  # noqa: S324


def _tokens(header: str) -> set[str]:
    return {token.strip().lower() for token in header.split(",")}


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _choose_subprotocol(request: Request, options: Options) -> str | None:
    offered = _offered(request)
    for name in offered:
        if name in options.subprotocols:
            return name
    if offered:
        logger.warning(
            "WebSocket handshake from %s for %s: the client offers the subprotocols %s, the route "
            "has %s. It is accepted without one, and a browser will close the connection.",
            shown_address(request.environ),
            shown_path(request.environ),
            one_line(", ".join(offered)),
            ", ".join(options.subprotocols) or "none",
        )
    return None


def _offered(request: Request) -> list[str]:
    header: str = request.environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")
    return [name.strip() for name in header.split(",") if name.strip()]


def _check_origin(request: Request, options: Options) -> None:
    """Refuse a browser that runs another site's page (RFC 6455 section 10.2)."""
    origin = request.environ.get("HTTP_ORIGIN")
    allowed = options.allowed_origins
    # Only browsers send the header, and a page cannot make them leave it out.
    if origin is None or allowed == "*":
        return
    if allowed is None:
        if origin != "null" and _place(origin) == _place(f"//{request.host}"):
            return
    elif _full(origin) in {_full(other) for other in allowed}:
        return
    wanted = "the same origin" if allowed is None else ", ".join(allowed) or "none"
    setting = [*(allowed or ()), origin]
    advice = f'To allow it, set app.config["SOCK_ALLOWED_ORIGINS"] = {setting}, or allowed_origins '
    advice += "of the route."
    if allowed is None:
        advice += _explain_host(_place(origin), _place(f"//{request.host}"))
    why = (
        f"Origin {origin!r} is not allowed for host {request.host!r} (allowed: {wanted}). {advice}"
    )
    refuse(request, ForeignOrigin(why))


def _explain_host(origin: tuple[str, int | None], host: tuple[str, int | None]) -> str:
    if {origin[0], host[0]} <= LOOPBACK and origin[1] == host[1]:
        return f" Or open the page under the name it connects to: {origin[0]} is not {host[0]}."
    return " Behind a proxy, see that it passes the Host header on, or use ProxyFix."


def _place(url: str) -> tuple[str, int | None]:
    """Return a URL's host and port; ``None`` for any scheme's default port.

    The scheme is left out: a proxy that ends TLS changes it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "", -1
    default = {DEFAULT_PORTS.get(parts.scheme, 80)} if parts.scheme else {80, 443}
    return parts.hostname or "", None if port is None or port in default else port


def _full(origin: str) -> tuple[str, str, int | None]:
    return (origin.partition("://")[0].lower(), *_place(origin.lower()))
