"""Arguments and options that several commands have."""

from __future__ import annotations

import functools
import re
from urllib.parse import SplitResult, urlsplit

import click

__all__ = [
    "header_option",
    "insecure_option",
    "parse_http_url",
    "parse_url",
    "processes_option",
]


def parse_url(_context: click.Context, _parameter: click.Parameter, url: str) -> SplitResult:
    """Read the URL of a WebSocket, or the path of one of the app's.

    :raises BadParameter: it is neither.
    """
    try:
        parts = urlsplit(url)
        # Reading either may raise ValueError.
        known = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
    if re.match("/(?!/)", url):
        # A path of the app's own.
        return SplitResult("", "", parts.path, parts.query, "")
    if parts.scheme not in ("ws", "wss") or not known:
        hint = f" Did you mean {meant}?" if (meant := _guess(url)) else ""
        raise click.BadParameter(
            f"{url!r} is not of the form ws://host/path, wss://host/path or /path.{hint}"
        )
    return parts


def parse_http_url(_context: click.Context, _parameter: click.Parameter, url: str) -> str:
    """Check the URL of a view.

    :raises BadParameter: it is none.
    """
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter(f"{url!r} is not of the form http://host/path.")
    return url


def _guess(url: str) -> str | None:
    """Return the URL that the user may have meant."""
    if match := re.fullmatch(r"http(s?)(://.+)", url):
        return f"ws{match[1]}{match[2]}"
    # A name with a dot or a port, or that of this machine.
    if re.fullmatch(r"(localhost|[\w-]+(\.[\w-]+)+|\[[\da-f:]+\]|[\w.-]+:\d+)(:\d+)?(/.*)?", url):
        return f"ws://{url}"
    return None


def parse_headers(
    _context: click.Context, _parameter: click.Parameter, headers: tuple[str, ...]
) -> list[tuple[str, str]]:
    """Read headers, as ``Name: value``.

    :raises BadParameter: one of them is none.
    """
    parsed = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not re.fullmatch(r"[!#$%&'*+.^_`|~\w-]+", name, re.ASCII) or not colon:
            raise click.BadParameter(f"{header!r} is not of the form 'Name: value'.")
        if not value.isprintable():
            raise click.BadParameter(f"{header!r} has a control character.")
        parsed.append((name, value.strip()))
    return parsed


#: Takes the text of the command's help.
header_option = functools.partial(
    click.option,
    "headers",
    "--header",
    "-H",
    metavar="'NAME: VALUE'",
    multiple=True,
    callback=parse_headers,
)
#: Takes the text of the command's help.
processes_option = functools.partial(
    click.option, "--processes", type=click.IntRange(min=1), default=1, show_default=True
)
insecure_option = click.option("--insecure", is_flag=True, help="With wss, accept any certificate.")
