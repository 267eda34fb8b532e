"""What spans and metrics say, by the names of OpenTelemetry's semantic conventions.

There are none for WebSockets; the names that begin with ``websocket.`` are ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from opentelemetry.util.types import AttributeValue
    from werkzeug.wrappers import Request

__all__ = ["HANDSHAKE", "METER", "find_route", "read_request"]

#: The name of the tracer and of the meter.
METER = "flask_ws_opentelemetry"
#: The environ key of a handshake's span, until it has ended.
HANDSHAKE = "flask_ws_opentelemetry.handshake"


def find_route(request: Request) -> str | None:
    """Return the URL rule of a request; ``None`` before it has one."""
    return getattr(getattr(request, "url_rule", None), "rule", None)


def read_request(request: Request) -> dict[str, AttributeValue]:
    """Return the attributes of a request; without its query, which may have secrets in it."""
    found: dict[str, AttributeValue | None] = {
        "http.request.method": request.method,
        "http.route": find_route(request),
        "url.scheme": request.scheme,
        "url.path": request.root_path + request.path,
        "client.address": request.remote_addr,
        "user_agent.original": request.headers.get("User-Agent"),
    }
    try:
        host = urlsplit(f"//{request.host}")
        found["server.address"], found["server.port"] = host.hostname, host.port
    except ValueError:
        # What a client has sent as its host is none.
        pass
    return {name: value for name, value in found.items() if value is not None}
