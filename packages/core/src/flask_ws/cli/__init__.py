"""``flask ws``: what is installed, which routes there are, and a client to try them with."""

from __future__ import annotations

import click

from .client import connect
from .listing import list_routes, list_servers

__all__ = ["ws"]


@click.group()
def ws() -> None:
    """Look at WebSocket routes, and talk to them."""


ws.add_command(list_servers)
ws.add_command(list_routes)
ws.add_command(connect)
