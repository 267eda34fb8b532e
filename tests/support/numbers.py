"""Numbers of a process, each of which can be told from the others."""

from __future__ import annotations

import dataclasses

from flask_ws import Stats


def make_stats() -> tuple[Stats, dict[str, int]]:
    """Make such, and return those of its numbers that are the process's own, by name."""
    numbers = {
        field.name: 1000 + place
        for place, field in enumerate(dataclasses.fields(Stats))
        if field.type == "int" and field.name not in {"pid", "connections"}
    }
    stats = Stats(pid=1, connections=1, broker="memory", routes={}, draining=True, **numbers)
    return stats, numbers
