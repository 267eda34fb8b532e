"""Asking the processes of a running server for their numbers."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Collection
from typing import Any

import click

from flask_ws.wording import one_line

from .handshake import Headers

__all__ = ["ATTEMPTS", "BY_CODE", "SUMS", "ask", "tell_missing"]

#: Seconds that an answer may take, and bytes that it may have.
TIMEOUT = 10.0
MOST_BYTES = 2**24
#: Requests for each process that is to be found: the server chooses which of them answers.
ATTEMPTS = 25
#: Numbers of a process that can be added up.
SUMS = (
    "connections",
    "handler_threads",
    "buffered",
    "publications",
    "deliveries",
    "dropped",
    "gaps",
    "channels",
    "subscribers",
    "members",
)
#: Numbers of a route that are told by close code, and by status.
BY_CODE = ("closed", "refused")


def ask(url: str, headers: Headers, method: str = "GET") -> dict[str, Any]:
    """Ask one of a server's processes, whichever answers, for its numbers.

    :param url: that of a view that returns ``sock.stats().as_dict()``.
    :raises ClickException: nobody answers, or with something else.
    """
    request = urllib.request.Request(url, headers=dict(headers), method=method)  # noqa: S310
    try:
        # A new connection each time, so that another process may answer.
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310
            stats = json.loads(response.read(MOST_BYTES))
        _check(stats)
    except (ValueError, RecursionError) as error:
        raise click.ClickException(
            f"The answer has no numbers of flask-ws ({one_line(str(error))}). The view returns "
            "sock.stats().as_dict()."
        ) from None
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        raise click.ClickException(f"{one_line(url)}: {one_line(str(error))}") from None
    result: dict[str, Any] = stats
    return result


def _check(stats: Any) -> None:
    """Check that an answer has numbers where they are added up, and shown as they are.

    :raises ValueError: it has not.
    """
    if not (
        isinstance(stats, dict)
        and {"broker", "draining"} <= stats.keys()
        and all(isinstance(stats.get(key), int) for key in ("pid", *SUMS))
        and isinstance(routes := stats.get("routes"), dict)
        and all(isinstance(route, dict) and _is_route(route) for route in routes.values())
    ):
        raise ValueError("other data")


def _is_route(route: dict[str, Any]) -> bool:
    """Whether there are a rule, numbers by codes, and other numbers."""
    numbers = [value for key, value in route.items() if key not in ("rule", *BY_CODE)]
    for by_code in (route.get(key) for key in BY_CODE):
        if not isinstance(by_code, dict):
            return False
        numbers += by_code.values()
    return isinstance(route.get("rule"), str) and all(
        isinstance(number, (int, float)) for number in numbers
    )


def tell_missing(found: Collection[object], processes: int) -> None:
    """Say that not all of a server's processes have answered."""
    click.echo(f"Only {len(found)} of {processes} processes have answered.", err=True)
