"""``flask ws stats``: the numbers of a running server."""

from __future__ import annotations

import http.client
import json
import urllib.request
from collections import Counter
from typing import Any

import click

from flask_ws.wording import one_line

from .tables import show

__all__ = ["show_stats"]

#: Seconds that an answer may take, and bytes that it may have.
TIMEOUT = 10.0
MOST_BYTES = 2**24
#: Requests for each process that is to be found: the server chooses which of them answers.
ATTEMPTS = 25
#: The columns of the table, and the keys of the numbers in them.
COLUMNS = {
    "Open": "open",
    "Opened": "opened",
    "Closed": "closed",
    "Refused": "refused",
    "Messages in": "messages_in",
    "out": "messages_out",
    "Bytes in": "bytes_in",
    "out ": "bytes_out",
    "Outbox": "outbox",
    "Slow": "slow_readers",
    "No pong": "unanswered_pings",
    "Busy s": "busy_seconds",
}
#: Numbers of a process that can be added up.
SUMS = (
    "connections",
    "handler_threads",
    "buffered",
    "publications",
    "deliveries",
)


@click.command("stats")
@click.argument("url")
@click.option(
    "--processes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Ask until so many of the server's processes have answered, and add up their numbers.",
)
def show_stats(url: str, processes: int) -> None:
    """Show the numbers of a running server.

    URL is that of a view that returns sock.stats().as_dict(), as in

      http://127.0.0.1:8000/websocket-stats
    """
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter(f"{url!r} is not of the form http://host/path.")
    found: dict[int, dict[str, Any]] = {}
    for _ in range(1 if processes == 1 else processes * ATTEMPTS):
        stats = _fetch(url)
        found[stats["pid"]] = stats
        if len(found) >= processes:
            break
    if len(found) < processes:
        click.echo(f"Only {len(found)} of {processes} processes have answered.", err=True)
    _show(list(found.values()))


def _fetch(url: str) -> dict[str, Any]:
    try:
        # A new connection each time, so that another process may answer.
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310
            stats = json.loads(response.read(MOST_BYTES))
        if not all(key in stats for key in ("pid", "routes", "broker", *SUMS)):
            raise ValueError("other data")
    except (ValueError, TypeError) as error:
        raise click.ClickException(
            f"The answer has no numbers of flask-ws ({one_line(str(error))}). The view returns "
            "sock.stats().as_dict()."
        ) from None
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(f"{one_line(url)}: {one_line(str(error))}") from None
    result: dict[str, Any] = stats
    return result


def _show(all_stats: list[dict[str, Any]]) -> None:
    pids = ", ".join(str(stats["pid"]) for stats in all_stats)
    sums = {key: sum(stats[key] for stats in all_stats) for key in SUMS}
    brokers = ", ".join(sorted({str(stats["broker"]) for stats in all_stats}))
    click.echo(
        f"Process {pids}: {sums['connections']} connections, {sums['handler_threads']} handler "
        f"threads, {sums['buffered']} bytes held"
    )
    click.echo(
        f"Broker {one_line(brokers)}: {sums['publications']} publications, {sums['deliveries']} "
        "deliveries"
    )
    routes: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for stats in all_stats:
        for endpoint, route in stats["routes"].items():
            routes.setdefault((endpoint, route["rule"]), []).append(route)
    click.echo()
    show(
        ["Endpoint", "Rule", *COLUMNS],
        [
            [endpoint or "(no route)", rule or "-", *(_add(found, key) for key in COLUMNS.values())]
            for (endpoint, rule), found in sorted(routes.items())
        ],
    )


def _add(routes: list[dict[str, Any]], key: str) -> str:
    """Add up a number of a route, or its numbers by code or status."""
    if key in ("closed", "refused"):
        total: Counter[str] = Counter()
        for route in routes:
            total.update(route[key])
        return " ".join(f"{code}:{number}" for code, number in sorted(total.items())) or "-"
    number = sum(route[key] for route in routes)
    return f"{number:.1f}" if isinstance(number, float) else str(number)
