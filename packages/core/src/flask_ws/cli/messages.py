"""How messages that arrive are shown."""

from __future__ import annotations

import json
import os
import sys

import click

from flask_ws.wording import printable

__all__ = ["Display"]

#: The part of a binary message that is shown.
SHOWN_BYTES = 32
#: Tells messages from the lines that were typed.
PREFIX = "< "


class Display:
    """Writes messages to the standard output: for people on a terminal, for programs elsewhere.

    :param indent_json: whether messages that are JSON are indented; ``None`` for on a terminal.
    :param raw: whether binary messages are written as they are, where that is no terminal.
    """

    def __init__(self, *, indent_json: bool | None = None, raw: bool = False) -> None:
        self._terminal = sys.stdout.isatty()
        self._indent = self._terminal if indent_json is None else indent_json
        self._raw = raw and not self._terminal
        self._colour = self._terminal and not os.environ.get("NO_COLOR")
        #: Whether a message has been written.
        self.used = False

    def write(self, message: str | bytes) -> None:
        """Write a message."""
        self.used = True
        if self._raw and isinstance(message, bytes):
            click.echo(message, nl=False)
        else:
            click.echo(self.format(message), color=self._colour)

    def format(self, message: str | bytes) -> str:
        """Return a message as it is shown: on a terminal, without what would move the cursor."""
        if isinstance(message, bytes):
            more = " ..." if len(message) > SHOWN_BYTES else ""
            start = message[:SHOWN_BYTES].hex(" ")
            shown = self._style(f"<binary, {len(message)} bytes: {start}{more}>", "magenta")
        else:
            shown = self._indented(message) if self._indent else message
            if self._terminal:
                shown = printable(shown)
        return self._style(PREFIX, "green") + shown if self._terminal else shown

    def _indented(self, text: str) -> str:
        """Indent an object or an array; anything else stays as it came."""
        if text.lstrip()[:1] not in ("{", "["):
            return text
        try:
            return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            return text

    def _style(self, text: str, colour: str) -> str:
        return click.style(text, fg=colour) if self._colour else text
