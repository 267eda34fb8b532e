"""Tables of text."""

from __future__ import annotations

from collections.abc import Sequence

import click

from flask_ws.wording import one_line

__all__ = ["Table", "show"]

Table = list[list[str]]


def show(header: Sequence[str], table: Table) -> None:
    """Print a table.

    :param header: the names of its columns.
    :param table: its rows.
    """
    rows = [list(header), *([one_line(cell) for cell in row] for row in table)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
