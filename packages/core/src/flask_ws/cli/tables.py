"""Tables of text."""

from __future__ import annotations

from collections.abc import Sequence

import click

__all__ = ["Table", "show"]

Table = list[list[str]]


def show(header: Sequence[str], table: Table) -> None:
    """Print a table.

    :param header: the names of its columns.
    :param table: its rows.
    """
    rows = [list(header), *table]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
