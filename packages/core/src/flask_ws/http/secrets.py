"""Credentials in a handshake: found, and removed from what logs and error pages show.

Browsers choose the URL and the subprotocols of a handshake, and nothing else. So a ticket comes in
the URL's query, and a bearer token as a subprotocol. Logs and error pages show both.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ..identity.secrets import Secret
from ..identity.tickets import MARK

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["BEARER", "TICKET", "hide_secrets"]

#: The environ key of the ticket.
TICKET = "flask_ws.ticket"
#: What a subprotocol begins with that is a bearer token.
BEARER = "flask-ws.bearer."

PROTOCOLS = "HTTP_SEC_WEBSOCKET_PROTOCOL"
AUTHORIZATION = "HTTP_AUTHORIZATION"
#: The environ keys in which servers have the query.
QUERIES = ("QUERY_STRING", "REQUEST_URI", "RAW_URI")
#: The parameter, as it stands in a query.
PARAMETER = re.compile(rf"(?<![^?&])ticket=({re.escape(MARK)}[^&#]*)")
HIDDEN = "ticket=-"


def hide_secrets(environ: WSGIEnvironment) -> None:
    """Take the ticket and the bearer token out of a handshake's environ.

    A ticket is kept under :data:`TICKET`. The token becomes what it is in other requests: the
    ``Authorization`` header, unless there is one.
    """
    if MARK in environ.get("QUERY_STRING", ""):
        found = PARAMETER.search(environ["QUERY_STRING"])
        if found is not None:
            environ[TICKET] = Secret(unquote(found[1]))
            for key in QUERIES:
                if key in environ:
                    environ[key] = PARAMETER.sub(HIDDEN, environ[key])
    if BEARER in environ.get(PROTOCOLS, ""):
        offered = [name.strip() for name in environ[PROTOCOLS].split(",")]
        tokens = [name[len(BEARER) :] for name in offered if name.startswith(BEARER)]
        # Even if none is left: the page expects one in the answer.
        environ[PROTOCOLS] = ", ".join(name for name in offered if not name.startswith(BEARER))
        if tokens and tokens[0] and AUTHORIZATION not in environ:
            environ[AUTHORIZATION] = Secret(f"Bearer {unquote(tokens[0])}")
