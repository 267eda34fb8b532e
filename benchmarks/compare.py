"""Two commits of the project, measured in turn.

    python benchmarks/compare.py REV_A REV_B [--only small large] [--rows flask-ws/gunicorn]

Each commit gets a git worktree and an environment of its own in a temporary folder. `.` stands for
the files as they are now. The benchmarks are this checkout's for both.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.catalogue import LOADS
from benchmarks.measuring import Measured, Side, run_load
from benchmarks.report import heading_of_rounds, load_table, number, table
from benchmarks.run import arguments, chosen_rows, dump
from benchmarks.serving import ROOT, Place

SETUP_SECONDS = 300


def call(*command: str | Path) -> str:
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=SETUP_SECONDS, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}")
    return done.stdout.strip()


@contextlib.contextmanager
def environment(revision: str, folder: Path) -> Iterator[Path]:
    """An interpreter that has the project as of a commit, and the peers."""
    tree = ROOT
    if revision != ".":
        tree = folder / "tree"
        call("git", "worktree", "add", "--detach", tree, revision)
    try:
        python = folder / "venv" / "bin" / "python"
        call("uv", "venv", "--quiet", "--python", sys.executable, folder / "venv")
        packages = [f"--editable={path.parent}" for path in tree.glob("packages/*/pyproject.toml")]
        requirements = Path(__file__).parent / "requirements.txt"
        call("uv", "pip", "install", "--quiet", "--python", python, "-r", requirements, *packages)
        yield python
    finally:
        if tree != ROOT:
            call("git", "worktree", "remove", "--force", tree)


def ratio_table(found: dict[str, list[Measured]], labels: tuple[str, str]) -> str:
    rows = []
    for name, measured in found.items():
        load = LOADS[name]
        for before, after in zip(measured[::2], measured[1::2], strict=True):
            values = [each.median("value") for each in (before, after)]
            ratio = values[1] / values[0] if before.results and after.results else float("nan")
            cells = [number(value, load.value_format) for value in values]
            rows.append([load.title, before.row.key, *cells, load.unit, number(ratio, ".3f")])
    return table(["load", "row", *labels, "unit", "second / first"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="compare", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("revisions", nargs=2, metavar="REV")
    arguments(parser)
    parser.add_argument("--rows", nargs="+", metavar="NAME", default=["flask-ws"])
    options = parser.parse_args()
    place = Place.choose(options.cores, options.urgent)
    rounds = options.rounds or (1 if options.quick else 5)
    labels = ("first", "second")
    found: dict[str, list[Measured]] = {}
    with contextlib.ExitStack() as stack:
        sides = []
        for revision, label in zip(options.revisions, labels, strict=True):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flask-ws-")))
            python = stack.enter_context(environment(revision, folder))
            sides.append(Side(str(python), label))
        intro = heading_of_rounds(sides[0].python, place, rounds)
        for name in options.only:
            load = LOADS[name]
            rows = chosen_rows(load, options.rows)
            if not rows:
                continue
            found[name] = run_load(
                name,
                load,
                rows,
                sides,
                place,
                rounds=rounds,
                tries=options.tries,
                quick=options.quick,
            )
            if options.json:
                dump(options.json, found)
    for revision, label in zip(options.revisions, labels, strict=True):
        what = (
            "the files as they are"
            if revision == "."
            else call("git", "log", "-1", "--format=%h %s", revision)
        )
        print(f"- {label}: {what}")
    print(intro)
    for name, measured in found.items():
        print(f"\n### {LOADS[name].title}\n\n{load_table(LOADS[name], measured)}")
    print(f"\n### Second against first\n\n{ratio_table(found, labels)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
