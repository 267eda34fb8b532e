"""A server's output: what the tests await in it, and the tracebacks in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .waiting import LOG_SECONDS, Timeout, wait_until

__all__ = ["Log", "Traceback", "find_tracebacks"]

ANSI = re.compile(r"\x1b\[[0-9;]*m")

HEADER = "Traceback (most recent call last):"
#: Lines of the app under test and of flask-ws, each written in one piece: one may be in the middle
#: of another's line that is written in several pieces, as a traceback is.
OURS = re.compile(r"LIVE \{.*\}\n|(?:DEBUG|INFO|WARNING|ERROR|CRITICAL) flask_ws .*\n")
#: The line of a traceback that names the exception.
EXCEPTION = re.compile(r"([A-Za-z_][\w.]*)(?::\s.*)?$")
#: The most lines of others in the middle of a traceback.
INTERLEAVED = 20
#: The lines between a traceback and the one that it led to.
CHAINED = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)


@dataclass(frozen=True)
class Traceback:
    """A traceback in a log."""

    #: The name of the exception's class; empty if it was not found.
    error: str
    text: str


def find_tracebacks(log: str) -> list[Traceback]:
    """Find the tracebacks in a log; of a chain, only the last.

    KeyboardInterrupt does not count: gevent prints where Ctrl-C interrupted its event loop.
    """
    return [found for found in _read_tracebacks(log) if found.error != "KeyboardInterrupt"]


def _read_tracebacks(log: str) -> Iterator[Traceback]:
    _, *parts = re.split(f"^{re.escape(HEADER)}$", OURS.sub("", log), flags=re.MULTILINE)
    for part in parts:
        if not any(sentence in part for sentence in CHAINED):
            yield _read_traceback(part)


def _read_traceback(part: str) -> Traceback:
    """Read a traceback without its header line; other lines may follow it."""
    kept, others = [HEADER], 0
    for line in part.splitlines()[1:]:
        if not line or line[0] in " \t":
            kept.append(line)
        elif found := EXCEPTION.match(line):
            return Traceback(found[1], "\n".join([*kept, line]))
        elif (others := others + 1) > INTERLEAVED:
            break
    return Traceback("", "\n".join(kept))


class Log:
    """A server's whole output: standard output and error in one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Called when an awaited line does not come in time.
        self.when_late: Callable[[], object] | None = None
        path.touch()

    def size(self) -> int:
        return self.path.stat().st_size

    def read(self, since: int = 0) -> str:
        with self.path.open("rb") as file:
            file.seek(since)
            return ANSI.sub("", file.read().decode(errors="replace"))

    def find(
        self, pattern: str, *, since: int = 0, timeout: float = LOG_SECONDS, count: int = 1
    ) -> list[re.Match[str]]:
        """Await at least `count` matches."""
        expression = re.compile(pattern, re.MULTILINE)

        def probe() -> list[re.Match[str]] | None:
            matches = list(expression.finditer(self.read(since)))
            return matches if len(matches) >= count else None

        try:
            return wait_until(probe, timeout=timeout)
        except Timeout:
            if self.when_late is not None:
                self.when_late()
            raise Timeout(
                f"not {count} times in the log within {timeout} s: {pattern}\n{self.read(since)}"
            ) from None

    def event(self, name: str, tag: str, *, timeout: float = LOG_SECONDS) -> dict[str, Any]:
        """Await what a handler of the live app recorded under this tag."""
        (match, *_) = self.find(
            rf'^LIVE (\{{"event": "{name}", "tag": "{re.escape(tag)}".*\}})$', timeout=timeout
        )
        facts: dict[str, Any] = json.loads(match[1])
        return facts
