"""``flask ws load``: a load test of a WebSocket URL."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import sys
from urllib.parse import SplitResult

import click

from flask_ws.system import descriptor_limit

from .handshake import Headers
from .load_clients import Load, Plan
from .parameters import header_option, insecure_option, parse_url

__all__ = ["load_test"]

#: File descriptors that the command needs besides those of the clients.
OTHER_DESCRIPTORS = 32
#: Seconds by which messages may be sent late before that is said.
MOST_LATE = 0.01
PERCENTILES = (50, 90, 99, 99.9)


@click.command("load")
@click.argument("url", callback=parse_url)
@click.option(
    "--clients",
    type=click.IntRange(1, 100_000),
    default=100,
    show_default=True,
    help="Connections to open.",
)
@click.option(
    "--opening",
    type=click.FloatRange(min=0, min_open=True),
    default=200.0,
    show_default=True,
    help="Connections to open per second.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Messages per second that each connection sends; 0 for none.",
)
@click.option(
    "--duration",
    type=click.FloatRange(0, 3600, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds to send for, once all are open.",
)
@click.option("--message", default="Hello!", show_default=True, help="The message, as text.")
@header_option(help="Send a header with each handshake. Can be given several times.")
@insecure_option
@click.option(
    "--yes-remote", is_flag=True, help="Allow a server on another machine, which must be yours."
)
def load_test(
    url: SplitResult,
    clients: int,
    opening: float,
    rate: float,
    duration: float,
    message: str,
    headers: Headers,
    *,
    insecure: bool,
    yes_remote: bool,
) -> None:
    """Open many connections to URL, send on each, and time the answers.

    The route is to answer each message with one, as an echo does. A latency counts from when the
    message was due, also where the sender is late. Ctrl-C ends the test early. The exit code is 1
    then, and if a handshake failed or a connection was lost.
    """
    if not url.scheme:
        raise click.BadParameter(
            "a load test needs the whole URL, such as ws://127.0.0.1:8000/path."
        )
    if not yes_remote:
        _check_local(url.hostname or "")
    limit = descriptor_limit()
    if limit is not None and clients + OTHER_DESCRIPTORS > limit:
        raise click.ClickException(
            f"{clients} clients need as many file descriptors, and there are {limit}: "
            f"ulimit -n {clients + OTHER_DESCRIPTORS}"
        )
    context = None
    if url.scheme == "wss":
        context = ssl.create_default_context()
        if insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    test = Load(Plan(url, headers, clients, opening, rate, duration, message, context))
    interrupted = False
    try:
        asyncio.run(test.run(_tell if sys.stderr.isatty() else _ignore))
    except KeyboardInterrupt:
        interrupted = True
    _summarise(test)
    if test.failed or test.dropped or interrupted:
        raise click.exceptions.Exit(1)


def _check_local(host: str) -> None:
    try:
        found = socket.getaddrinfo(host, None)
    except OSError as error:
        raise click.ClickException(f"There is no host {host!r} ({error}).") from None
    addresses = {str(each[4][0]).partition("%")[0] for each in found}
    if not all(ipaddress.ip_address(address).is_loopback for address in addresses):
        raise click.ClickException(
            f"{host} is another machine, which a load test may bring down. With --yes-remote it "
            "is done nevertheless."
        )


def _ignore(_test: Load, _seconds: float) -> None:
    """Tell nothing where nobody watches."""


def _tell(test: Load, seconds: float) -> None:
    p50, p99 = (test.latencies.percentile(percent) * 1000 for percent in (50, 99))
    line = (
        f"{seconds:4.0f} s: {test.open} open, {sum(test.failed.values())} failed, "
        f"{sum(test.dropped.values())} dropped, {test.sent} sent, {test.received} received, "
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    )
    click.echo(f"\r{line:<100}", err=True, nl=False)


def _summarise(test: Load) -> None:
    if sys.stderr.isatty():
        click.echo(err=True)
    rate = test.opened / test.opening_seconds if test.opening_seconds else 0
    click.echo(
        f"Opened:    {test.opened} of {test.plan.clients} clients in {test.opening_seconds:.1f} s "
        f"({rate:.0f} a second)"
    )
    if test.failed:
        click.echo("Failed:    " + ", ".join(f"{n} x {why}" for why, n in test.failed.items()))
    if test.dropped:
        click.echo("Dropped:   " + ", ".join(f"{n} x {code}" for code, n in test.dropped.items()))
    click.echo(
        f"Messages:  {test.sent} sent, {test.received} received in {test.seconds:.1f} s "
        f"({test.received / max(test.seconds, 0.001):.0f} a second)"
    )
    if test.received:
        latencies = test.latencies
        shown = [f"p{percent} {latencies.percentile(percent) * 1e3:.2f}" for percent in PERCENTILES]
        click.echo(f"Latency:   {', '.join(shown)}, max {latencies.longest * 1e3:.2f} ms")
    late = test.lateness.percentile(99)
    if late > MOST_LATE:
        click.echo(
            f"Of that, up to {late * 1e3:.0f} ms (p99) is the sender's own delay: this machine is "
            "busy, or cannot send as much."
        )
