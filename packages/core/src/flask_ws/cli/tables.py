"""Tables of text."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

import click

from flask_ws.wording import one_line

__all__ = ["Table", "show"]

Table = list[list[str]]

#: What stands between two columns.
GAP = "  "


def show(header: Sequence[str], table: Table) -> None:
    """Print a table; on a terminal that is too narrow for it, each row as a list.

    :param header: the names of its columns.
    :param table: its rows.
    """
    rows = [list(header), *([one_line(cell) for cell in row] for row in table)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    line = sum(widths) + len(GAP) * (len(widths) - 1)
    if table and sys.stdout.isatty() and line > shutil.get_terminal_size().columns:
        _list(rows)
        return
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(GAP.join(cells).rstrip())


def _list(rows: Table) -> None:
    header, *rows = rows
    width = max(map(len, header))
    for number, row in enumerate(rows):
        if number:
            click.echo()
        for name, cell in zip(header, row, strict=True):
            click.echo(f"{name.ljust(width)}{GAP}{cell}".rstrip())
