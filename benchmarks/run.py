"""flask-ws beside its peers, as Markdown tables.

python -m benchmarks            everything: about half an hour
python -m benchmarks --quick    one short round of each: some minutes
python -m benchmarks --only small large --contenders flask-ws flask-sock/gunicorn
python -m benchmarks --goals flask-ws/async flask-ws/uvloop
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.catalogue import LOADS, Load, Row
from benchmarks.measuring import Measured, Side, run_load
from benchmarks.report import goal_table, heading_of_rounds, load_table
from benchmarks.serving import Place


def place_arguments(parser: argparse.ArgumentParser) -> None:
    """What every command understands."""
    parser.add_argument("--cores", default="", metavar="SERVER,CLIENT", help="numbers of cores")
    parser.add_argument("--urgent", action="store_true", help="raise the priority (root only)")


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the commands that measure in rounds understand."""
    parser.add_argument("--only", nargs="+", metavar="LOAD", choices=LOADS, default=list(LOADS))
    parser.add_argument("--rounds", type=int, help="rounds to take the medians of")
    parser.add_argument("--quick", action="store_true", help="short loads, one round")
    parser.add_argument("--tries", type=int, default=3, help="for a run that others disturb")
    place_arguments(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every result")


def chosen_rows(load: Load, words: list[str]) -> list[Row]:
    return [row for row in load.rows if not words or any(row.key.startswith(w) for w in words)]


def rows_of_goals(words: list[str]) -> dict[str, list[Row]]:
    """The rows, by their loads, that the goals of some contenders speak of."""
    found: dict[str, set[str]] = {}
    for name, load in LOADS.items():
        for goal in load.goals:
            if any(goal.row.startswith(word) for word in words):
                found.setdefault(name, set()).add(goal.row)
                if goal.to:
                    found.setdefault(goal.to_load or name, set()).add(goal.to)
    return {
        name: [row for row in LOADS[name].rows if row.key in keys] for name, keys in found.items()
    }


def dump(path: Path, found: dict[str, list[Measured]]) -> None:
    plain = {
        name: [
            {"row": each.row.key, "label": each.label, "failure": each.failure}
            | {"results": each.results}
            for each in measured
        ]
        for name, measured in found.items()
    }
    path.write_text(json.dumps(plain, indent=1))


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    arguments(parser)
    parser.add_argument(
        "--contenders", nargs="+", metavar="NAME", default=[], help="those that start so only"
    )
    parser.add_argument(
        "--goals", nargs="+", metavar="NAME", help="what the goals of those need, and no more"
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter of the servers")
    options = parser.parse_args()
    place = Place.choose(options.cores, options.urgent)
    rounds = options.rounds or (1 if options.quick else 5)
    intro = heading_of_rounds(options.python, place, rounds)

    found: dict[str, list[Measured]] = {}
    chosen = {name: chosen_rows(LOADS[name], options.contenders) for name in options.only}
    if options.goals:
        chosen = {
            name: rows for name, rows in rows_of_goals(options.goals).items() if name in chosen
        }
    for name, rows in chosen.items():
        load = LOADS[name]
        found[name] = run_load(
            name,
            load,
            rows,
            [Side(options.python)],
            place,
            rounds=rounds,
            tries=options.tries,
            quick=options.quick,
        )
        if options.json:
            dump(options.json, found)

    print(intro)
    for name, measured in found.items():
        # As docs/performance.md has them: folded.
        print(f"\n### {LOADS[name].title}\n\n<details>\n<summary>The figures</summary>\n")
        print(f"{load_table(LOADS[name], measured)}\n\n</details>")
    goals = goal_table({name: {m.row.key: m for m in each} for name, each in found.items()})
    if goals:
        print(f"\n### What was to be reached\n\n{goals}")
    failed = [m for each in found.values() for m in each if m.failure not in ("", "not installed")]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
