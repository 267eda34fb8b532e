"""How things are shown to people: in logs, in exceptions, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = ["describe_close", "printable", "shown_path"]

#: What the close codes mean that a peer sends without a reason (RFC 6455 section 7.4.1).
MEANINGS = {
    1000: "normal closure",
    1001: "going away: the server stops, or the page was left",
    1002: "protocol error",
    1003: "unsupported kind of message",
    1005: "no close code",
    1006: "lost without a close frame",
    1007: "invalid data",
    1008: "policy violation",
    1009: "message too big",
    1010: "an extension is missing",
    1011: "an error in the server; its log tells which",
    1012: "the server restarts",
    1013: "try again later",
    1014: "bad gateway",
    1015: "TLS failed",
}
#: What stays as it is in a path that is shown: all that may be in one (RFC 3986 section 3.3).
UNQUOTED = "/:@!$&'()*+,;=~"


def describe_close(code: int, reason: str = "") -> str:
    """Describe the end of a connection: its code and reason, or what the code means."""
    text = printable(reason).replace("\n", "\\n") or MEANINGS.get(code, "")
    return f"{code} {text}".rstrip()


def printable(text: str) -> str:
    """Escape what a terminal would obey, but for line breaks and tabs."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else repr(character)[1:-1]
        for character in text
    )


def shown_path(environ: WSGIEnvironment) -> str:
    """Return a request's path as it stands in a URL: whatever a peer asks for, it is one line."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    # What a WSGI server decodes from bytes (PEP 3333); tests may not.
    try:
        data = path.encode("latin-1")
    except UnicodeEncodeError:
        data = path.encode()
    return quote(data, safe=UNQUOTED)
