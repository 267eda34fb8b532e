"""Rounds, round-robin, and what is made of them."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.catalogue import Load, Row
from benchmarks.contenders import CONTENDERS
from benchmarks.serving import Failed, Place, generate, has, serving

#: A run is disturbed if the rest of the machine takes more than this share of a core.
QUIET = 0.08


@dataclass
class Measured:
    """The results of a row, one for each round."""

    row: Row
    label: str = ""
    results: list[dict[str, float]] = field(default_factory=list)
    failure: str = ""

    def median(self, metric: str) -> float:
        values = [result[metric] for result in self.results if metric in result]
        return statistics.median(values) if values else float("nan")

    def spread(self) -> tuple[float, float]:
        values = [result["value"] for result in self.results]
        return min(values), max(values)


@dataclass(frozen=True)
class Side:
    """An interpreter that servers run in, and what to call it."""

    python: str
    label: str = ""


def measure(row: Row, load: Load, side: Side, place: Place, quick: bool) -> dict[str, float]:
    options = {**load.options, **(load.quick if quick else {}), **row.options}
    with serving(CONTENDERS[row.contender], place, side.python) as (port, pid):
        result = generate(
            load.module, {**options, "port": port, "path": row.path, "pid": pid}, place
        )
    if "lone_p99" in result:
        result["p99_ratio"] = result["p99"] / result["lone_p99"]
    return result


def undisturbed(once: Callable[[], dict[str, float]], tries: int) -> dict[str, float]:
    """Measure again while others keep the machine busy; keep the quietest."""
    best = once()
    for _ in range(tries - 1):
        if best["others_cpu"] <= QUIET:
            break
        again = once()
        if again["others_cpu"] < best["others_cpu"]:
            best = again
    return best


def run_load(
    name: str,
    load: Load,
    rows: list[Row],
    sides: list[Side],
    place: Place,
    *,
    rounds: int,
    tries: int,
    quick: bool,
) -> list[Measured]:
    """All rows, one after the other, and again: what changes meanwhile hits all alike."""
    entries = [(side, Measured(row, side.label)) for row in rows for side in sides]
    for side, measured in entries:
        if not has(side.python, CONTENDERS[measured.row.contender].needs):
            measured.failure = "not installed"
    for number in range(rounds):
        for side, measured in entries:
            if measured.failure:
                continue
            print(
                f"{name} {number + 1}/{rounds}: {measured.row.key} {measured.label}",
                end=" ",
                file=sys.stderr,
                flush=True,
            )
            try:
                result = undisturbed(
                    lambda side=side, row=measured.row: measure(row, load, side, place, quick),  # type: ignore[misc]
                    tries if load.timed else 1,
                )
            except Failed as error:
                measured.failure = str(error).splitlines()[0]
                print(f"failed: {error}", file=sys.stderr)
            else:
                measured.results.append(result)
                print(
                    f"{result['value']:,.1f} (others {result['others_cpu']:.0%})", file=sys.stderr
                )
    return [measured for _, measured in entries]
