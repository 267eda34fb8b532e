"""A few contenders side by side: all run, and are loaded in turns of less than a second.

python -m benchmarks.side_by_side small bare flask-ws/gunicorn flask-ws/views

For ratios that are close: what the machine does for a minute then hits all of them alike. The first
contender is the one that the others are compared with, turn by turn.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys

from benchmarks.catalogue import LOADS, SHORT, Load, Row
from benchmarks.contenders import CONTENDERS
from benchmarks.report import heading, number, table
from benchmarks.run import place_arguments
from benchmarks.serving import Place, generate, serving

#: The loads that are nothing but so many seconds of the same.
TIMED = [name for name, load in LOADS.items() if load.quick == SHORT]
TURN = {"seconds": 0.6, "warm_up": 0.15}


def find_row(load: Load, name: str) -> Row:
    for row in load.rows:
        if row.contender == name:
            return row
    raise SystemExit(f"{name} is not in this load: {', '.join(row.contender for row in load.rows)}")


def measure(load: Load, rows: list[Row], place: Place, turns: int) -> dict[str, list[float]]:
    """Return the results of each turn."""
    found: dict[str, list[float]] = {row.contender: [] for row in rows}
    with contextlib.ExitStack() as stack:
        servers = [
            (row, *stack.enter_context(serving(CONTENDERS[row.contender], place, sys.executable)))
            for row in rows
        ]
        for turn in range(turns):
            # Back and forth, so that none always follows the same one.
            for row, port, pid in servers if turn % 2 else reversed(servers):
                options = {**load.options, **row.options, **TURN}
                options |= {"port": port, "pid": pid, "path": row.path}
                found[row.contender].append(generate(load.module, options, place)["value"])
            print(f"turn {turn + 1} of {turns}", file=sys.stderr)
    return found


def ratio_table(load: Load, found: dict[str, list[float]]) -> str:
    rows = []
    first = next(iter(found.values()))
    for name, values in found.items():
        ratios = [value / other for value, other in zip(values, first, strict=True)]
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
    place_arguments(parser)
    options = parser.parse_args()
    if options.turns < 2:
        parser.error("--turns: at least 2")
    load = LOADS[options.load]
    rows = [find_row(load, name) for name in options.contenders]
    place = Place.choose(options.cores, options.urgent)
    print(heading(sys.executable, place, f"medians of {options.turns} turns, side by side"))
    print(f"\n### {load.title}\n\n{ratio_table(load, measure(load, rows, place, options.turns))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
