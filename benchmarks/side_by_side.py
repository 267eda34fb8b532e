"""A few contenders side by side: all run, and are loaded in turns of less than a second.

python -m benchmarks.side_by_side small bare flask-ws/gunicorn flask-ws/views

For ratios that are close: what the machine does for a minute then hits all of them alike. The first
contender is the one that the others are compared with, turn by turn. Of several rows of one, a row
is told by its note: "flask-ws/asgi event view". Before and after, with the environment of an older
checkout:

python -m benchmarks.side_by_side small flask-ws/views --before ../old/.venv/bin/python
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from dataclasses import dataclass

from benchmarks.catalogue import LOADS, SHORT, Load, Row
from benchmarks.contenders import CONTENDERS
from benchmarks.report import heading, number, table
from benchmarks.run import place_arguments
from benchmarks.serving import Place, generate, serving

#: The loads that are so many seconds of the same.
TIMED = [name for name, load in LOADS.items() if load.quick.items() >= SHORT.items()]
TURN = {"seconds": 0.6, "warm_up": 0.15}


def find_row(load: Load, name: str) -> Row:
    for row in load.rows:
        if name in (row.key, row.contender):
            return row
    raise SystemExit(f"{name} is not in this load: {', '.join(row.key for row in load.rows)}")


@dataclass(frozen=True)
class Subject:
    """What is loaded in turns: a contender, with the packages of an environment."""

    name: str
    row: Row
    python: str = sys.executable
    #: The one that it is compared with; without it, the first.
    base: str = ""


def find_subjects(load: Load, names: list[str], before: str | None) -> list[Subject]:
    if before is None:
        return [Subject(name, find_row(load, name)) for name in names]
    subjects = []
    for name in names:
        row, old = find_row(load, name), f"{name} before"
        subjects += [Subject(old, row, before, base=old), Subject(name, row, base=old)]
    return subjects


def measure(
    load: Load, subjects: list[Subject], place: Place, turns: int
) -> dict[str, list[float]]:
    """Return the results of each turn."""
    found: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    with contextlib.ExitStack() as stack:
        servers = []
        for subject in subjects:
            contender = CONTENDERS[subject.row.contender]
            server = stack.enter_context(serving(contender, place, subject.python))
            servers.append((subject, *server))
        for turn in range(turns):
            # Back and forth, so that none always follows the same one.
            for subject, port, pid in servers if turn % 2 else reversed(servers):
                options = {**load.options, **subject.row.options, **TURN}
                options |= {"port": port, "pid": pid, "path": subject.row.path}
                found[subject.name].append(generate(load.module, options, place)["value"])
            print(f"turn {turn + 1} of {turns}", file=sys.stderr)
    return found


def ratio_table(load: Load, subjects: list[Subject], found: dict[str, list[float]]) -> str:
    rows = []
    for subject in subjects:
        name, values = subject.name, found[subject.name]
        base = found[subject.base or subjects[0].name]
        ratios = [value / other for value, other in zip(values, base, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        median = number(statistics.median(values), load.value_format)
        rows.append([name, median, f"{middle:.3f}", f"{low:.3f}-{high:.3f}"])
    return table(["", load.unit, "ratio", "half of the turns"], rows, words=1)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.side_by_side",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("load", choices=TIMED)
    parser.add_argument("contenders", nargs="+", metavar="CONTENDER")
    parser.add_argument("--turns", type=int, default=20, help="of each, at least 2")
    parser.add_argument("--before", metavar="PYTHON", help="whose packages to compare with")
    place_arguments(parser)
    options = parser.parse_args()
    if options.turns < 2:
        parser.error("--turns: at least 2")
    load = LOADS[options.load]
    subjects = find_subjects(load, options.contenders, options.before)
    place = Place.choose(options.cores, options.urgent)
    found = measure(load, subjects, place, options.turns)
    print(heading(sys.executable, place, f"medians of {options.turns} turns, side by side"))
    print(f"\n### {load.title}\n\n{ratio_table(load, subjects, found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
