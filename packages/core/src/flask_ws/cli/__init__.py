"""``flask ws``: what is installed, which routes and channels there are, and a client for them.

- ``listing``: ``flask ws servers`` and ``routes``. ``channels``: ``publish``, ``channels``,
  ``presence`` and ``disconnect``. ``stats``, ``drain``: a running server's numbers, and its end;
  ``asking`` asks its processes. ``migrate``: what to change in an app for flask-sock.
- ``connect``: a client in the terminal. ``handshake``: with a server, from a URL; ``in_app``: with
  the app itself. ``conversation``: sends what is typed or piped; ``editor``: the line that is
  typed; ``messages``: how messages that arrive are shown.
- ``load``: a load test; ``load_clients``: its connections.
- ``parameters``: what several commands take; ``tables``: tables of text.
"""

from __future__ import annotations

import click

from .channels import disconnect, list_channels, publish, show_presence
from .connect import connect
from .drain import drain_server
from .listing import list_routes, list_servers
from .load import load_test
from .migrate import migrate
from .stats import show_stats

__all__ = ["ws"]


@click.group()
def ws() -> None:
    """Look at WebSocket routes and channels, and talk to them."""


ws.add_command(list_servers)
ws.add_command(list_routes)
ws.add_command(connect)
ws.add_command(list_channels)
ws.add_command(publish)
ws.add_command(disconnect)
ws.add_command(show_presence)
ws.add_command(show_stats)
ws.add_command(drain_server)
ws.add_command(load_test)
ws.add_command(migrate)
