"""``flask ws stats``: the numbers of a running server."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from flask_ws.wording import counted, one_line

from .asking import ATTEMPTS, BY_CODE, SUMS, ask, tell_missing
from .handshake import Headers
from .parameters import header_option, parse_http_url, processes_option
from .tables import show

__all__ = ["show_stats"]

#: The columns of the table, and the keys of the numbers in them.
COLUMNS = {
    "Open": "open",
    "Opened": "opened",
    "Closed": "closed",
    "Refused": "refused",
    "Messages in": "messages_in",
    "Messages out": "messages_out",
    "Bytes in": "bytes_in",
    "Bytes out": "bytes_out",
    "Outbox": "outbox",
    "Slow": "slow_readers",
    "No pong": "unanswered_pings",
    "Busy s": "busy_seconds",
}


@click.command("stats")
@click.argument("url", callback=parse_http_url)
@processes_option(
    help="How many processes the server has: ask until all have answered, and add it all up."
)
@header_option(help="Send a header with each request. Can be given several times.")
def show_stats(url: str, processes: int, headers: Headers) -> None:
    """Show the numbers of a running server.

    URL is that of a view that returns sock.stats().as_dict(), as in

      http://127.0.0.1:8000/websocket-stats
    """
    found: dict[int, dict[str, Any]] = {}
    for _ in range(1 if processes == 1 else processes * ATTEMPTS):
        stats = ask(url, headers)
        found[stats["pid"]] = stats
        if len(found) >= processes:
            break
    if len(found) < processes:
        tell_missing(found, processes)
    _show(list(found.values()))


def _show(all_stats: list[dict[str, Any]]) -> None:
    pids = ", ".join(str(stats["pid"]) for stats in all_stats)
    sums = {key: sum(stats[key] for stats in all_stats) for key in SUMS}
    brokers = ", ".join(sorted({str(stats["broker"]) for stats in all_stats}))
    click.echo(
        f"{'Process' if len(all_stats) == 1 else 'Processes'} {pids}: "
        f"{counted(sums['connections'], 'connection')}, "
        f"{counted(sums['handler_threads'], 'handler thread')}, "
        f"{counted(sums['buffered'], 'byte')} held"
        + (", draining" if any(stats["draining"] for stats in all_stats) else "")
    )
    click.echo(
        f"Broker {one_line(brokers)}: {counted(sums['publications'], 'publication')}, "
        f"{sums['deliveries']} delivered, {sums['dropped']} dropped, {counted(sums['gaps'], 'gap')}"
    )
    click.echo(
        f"Channels: {sums['channels']} with {counted(sums['subscribers'], 'subscriber')}, "
        f"{counted(sums['members'], 'member')}"
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
    if key in BY_CODE:
        total: Counter[str] = Counter()
        for route in routes:
            total.update(route[key])
        return " ".join(f"{code}:{number}" for code, number in sorted(total.items())) or "-"
    number = sum(route.get(key, 0) for route in routes)
    return f"{number:.1f}" if isinstance(number, float) else str(number)
