"""The loads. Each module is a generator that runs in its own process, on a core of its own.

    python -m benchmarks.loads MODULE OPTIONS

OPTIONS is one JSON object; the result is one JSON object on stdout. `run.py` calls them so.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """The server under load."""

    port: int
    path: str
    pid: int


Result = dict[str, float]


def percentile(sorted_values: list[float], percent: float) -> float:
    if not sorted_values:
        return float("nan")
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * percent / 100))]
