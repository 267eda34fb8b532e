"""``flask ws drain``: have a running server say goodbye, and wait until its clients are gone."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from flask_ws.wording import counted

from .asking import ATTEMPTS, ask, tell_missing
from .handshake import Headers
from .parameters import header_option, parse_http_url, processes_option

__all__ = ["drain_server"]

#: Seconds between two questions, once all processes have answered.
PAUSE = 0.2


@click.command("drain")
@click.argument("url", callback=parse_http_url)
@processes_option(help="Processes that the server has: each has to be reached.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="Seconds to wait until all connections have ended.",
)
@header_option(help="Send a header with each request. Can be given several times.")
def drain_server(url: str, processes: int, timeout: float, headers: Headers) -> None:
    """Have a running server say goodbye to its clients, and wait until they are gone.

    URL is that of a view that calls sock.drain() and returns sock.stats().as_dict(), as in

      http://127.0.0.1:8000/websocket-drain

    It is sent POST requests. The exit code is 1 if not all processes have answered, or if
    connections are left when the time is up.
    """
    began = time.monotonic()
    found: dict[int, dict[str, Any]] = {}
    attempts = processes * ATTEMPTS
    while True:
        stats = ask(url, headers, "POST")
        if not stats["draining"]:
            raise click.ClickException("The view does not call sock.drain().")
        found[stats["pid"]] = stats
        left = sum(each["connections"] for each in found.values())
        seconds = time.monotonic() - began
        are_all = len(found) >= processes
        if sys.stderr.isatty():
            click.echo(
                f"\r{seconds:4.0f} s: {counted(left, 'connection')} left   ", err=True, nl=False
            )
        attempts -= 1
        if (are_all and not left) or seconds >= timeout or (not are_all and attempts <= 0):
            break
        if are_all:
            time.sleep(min(PAUSE, timeout - seconds))
    if sys.stderr.isatty():
        click.echo(err=True)
    if not are_all:
        tell_missing(found, processes)
    click.echo(f"{counted(left, 'connection')} left after {seconds:.1f} s.")
    if left or not are_all:
        raise click.exceptions.Exit(1)
