"""``flask ws`` as it is used: with a pipe for its input, or on a terminal."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyte
import pytest

from flask_ws.cli import ws

__all__ = ["COMMAND", "Outcome", "Screen", "Serve", "Terminal"]

#: Seconds, more than anything here takes, on a busy machine too.
PATIENCE = 60.0

#: ``flask ws``, also where Flask is too old to find it without setuptools.
COMMAND = (sys.executable, "-c", "from flask_ws.cli import ws; ws()")

#: Serves the app of a test, and returns its URL.
Serve = Callable[..., str]


@dataclass
class Outcome:
    code: int
    out: str
    err: str


class Terminal:
    """The standard input of the command, and what it says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        read_end, self._write_end = os.pipe()
        self._stdin = open(read_end, encoding="utf-8")  # noqa: SIM115
        self._capsys = capsys
        self._open = True
        monkeypatch.setattr(sys, "stdin", self._stdin)

    def type(self, data: bytes) -> None:
        os.write(self._write_end, data)

    def end_input(self) -> None:
        if self._open:
            self._open = False
            os.close(self._write_end)

    def close(self) -> None:
        self.end_input()
        self._stdin.close()

    def connect(self, *arguments: str) -> Outcome:
        """Run ``flask ws connect``."""
        with pytest.raises(SystemExit) as caught:
            ws.main(["connect", *arguments], prog_name="flask ws")
        captured = self._capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return Outcome(caught.value.code, captured.out, captured.err)


class Screen:
    """The command on a terminal of its own, and what that shows.

    :param arguments: those of ``flask ws``.
    :param environ: variables besides those of this process.
    :param cwd: the folder in which it runs.
    :param columns: the width of the terminal.
    """

    def __init__(
        self,
        *arguments: str,
        environ: dict[str, str] | None = None,
        cwd: Path | None = None,
        columns: int = 80,
    ) -> None:
        # Windows has none of them.
        import fcntl
        import pty
        import struct
        import termios

        self._screen = pyte.Screen(columns, 24)
        self._screen.write_process_input = self.type  # type: ignore[method-assign, assignment]
        self._stream = pyte.ByteStream(self._screen)
        self._fd, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", **(environ or {})},
            cwd=cwd,
            # Of the new session it is the controlling one: Ctrl-C is sent by it.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
        )
        os.close(terminal)

    @property
    def lines(self) -> list[str]:
        """What the terminal shows, without the empty lines at the end."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip().split("\n")

    @property
    def cursor(self) -> int:
        """The column of the cursor, from 0 on."""
        return self._screen.cursor.x

    def colour(self, line: int) -> str:
        """The colour of the first character of a line."""
        return str(self._screen.buffer[line][0].fg)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def until(
        self, condition: Callable[[], bool], *, meanwhile: Callable[[], object] | None = None
    ) -> None:
        """Show what the command writes until a condition holds.

        :param meanwhile: called first, and again whenever nothing has been written for a second.
        """
        deadline = time.monotonic() + PATIENCE
        if meanwhile is not None:
            meanwhile()
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, "\n".join(self.lines)
            readable, _, _ = select.select([self._fd], [], [], min(left, 1.0))
            try:
                if readable:
                    self._stream.feed(os.read(self._fd, 65536))
                elif meanwhile is not None:
                    meanwhile()
            except OSError:
                # The process has ended.
                assert condition(), "\n".join(self.lines)

    def wait(self) -> int:
        """Wait for the end of the command, and return its exit code."""
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        """End the command, if it has not ended."""
        self.process.kill()
        self.process.wait()
        os.close(self._fd)
