"""How things are shown to people: in logs, in exceptions, on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

__all__ = [
    "counted",
    "describe_close",
    "one_line",
    "printable",
    "shown_address",
    "shown_path",
    "shown_url",
]

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
#: Characters that are not quoted in a path: all that may be in one (RFC 3986 section 3.3).
UNQUOTED = "/:@!$&'()*+,;=~"


def counted(number: int, noun: str) -> str:
    """Return a number and what it counts, as in ``1 handler`` and ``2 handlers``.

    :param noun: in the singular, of a kind whose plural ends in s.
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def describe_close(code: int, reason: str = "") -> str:
    """Describe the end of a connection: its code and reason, or what the code means."""
    text = one_line(reason) or MEANINGS.get(code, "")
    return f"{code} {text}".rstrip()


def one_line(text: str) -> str:
    """Show foreign text on one line: control characters are escaped, also line breaks and tabs."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def printable(text: str) -> str:
    """Escape control and other unprintable characters, except line breaks and tabs."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else repr(character)[1:-1]
        for character in text
    )


def shown_address(environ: WSGIEnvironment) -> str:
    """Return a client's address, escaped: behind a proxy, a client may have written it."""
    return one_line(environ.get("REMOTE_ADDR") or "-")


def shown_path(environ: WSGIEnvironment) -> str:
    """Return a request's path quoted as in a URL: whatever a peer asks for, it is one line."""
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    # A WSGI server decodes the bytes as Latin-1 (PEP 3333); tests may not.
    try:
        data = path.encode("latin-1")
    except UnicodeEncodeError:
        data = path.encode()
    return quote(data, safe=UNQUOTED)


def shown_url(url: str) -> str:
    """Show a URL without its query, in which there may be a token, and without a password."""
    try:
        parts = urlsplit(url)
        place = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(not a URL)"
    return one_line(f"{parts.scheme}://{place}{parts.path}" if place else parts.path)
