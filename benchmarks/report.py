"""Markdown from measurements."""

from __future__ import annotations

import datetime
import json
import math
import subprocess

from benchmarks import machine
from benchmarks.catalogue import LOADS, Goal, Load
from benchmarks.contenders import CONTENDERS
from benchmarks.measuring import QUIET, Measured
from benchmarks.serving import Place

PACKAGES = (
    "flask-ws",
    "flask",
    "werkzeug",
    "wsproto",
    "flask-sock",
    "simple-websocket",
    "flask-socketio",
    "gunicorn",
    "gevent",
    "eventlet",
    "websockets",
    "uvicorn",
    "uvloop",
    "starlette",
    "picows",
)


def number(value: float, how: str) -> str:
    if math.isnan(value):
        return "-"
    if how == "ms":
        return f"{value * 1000:.2f}"
    if how == "percent":
        return f"{value:.0%}"
    return format(value, how)


def table(head: list[str], rows: list[list[str]], words: int = 2) -> str:
    """A Markdown table; all but the first few columns are numbers."""
    align = ["---" if index < words else "--:" for index in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, align, *rows])


def load_table(load: Load, measured: list[Measured]) -> str:
    head = ["", "server", load.unit, "lowest-highest"]
    head += [title for _, title, _ in load.columns]
    head += ["server CPU", "generator CPU", "others"]
    rows = []
    for each in measured:
        contender = CONTENDERS[each.row.contender]
        name = " ".join(filter(None, [contender.name, each.label]))
        name += f", {each.row.note}" if each.row.note else ""
        cells = [name, f"`{contender.server}`" if "-" in contender.server else contender.server]
        if not each.results:
            rows.append([*cells, each.failure[:80], *[""] * (len(head) - 3)])
            continue
        low, high = (number(value, load.value_format) for value in each.spread())
        cells += [number(each.median("value"), load.value_format), f"{low}-{high}"]
        cells += [number(each.median(key), how) for key, _, how in load.columns]
        cells += [number(each.median("server_cpu"), "percent")]
        cells += [number(each.median("client_cpu"), "percent")]
        cells += [number(max(result["others_cpu"] for result in each.results), "percent")]
        rows.append(cells)
    return table(head, rows)


def _goal_cells(name: str, goal: Goal, found: dict[str, dict[str, Measured]]) -> list[str] | None:
    row = found.get(name, {}).get(goal.row)
    other = found.get(goal.to_load or name, {}).get(goal.to) if goal.to else None
    if row is None or not row.results or (goal.to and (other is None or not other.results)):
        return None
    value = row.median(goal.metric)
    contender = CONTENDERS[row.row.contender]
    bound = "at most" if goal.at_most else "at least"
    if other is not None:
        value /= other.median(goal.metric)
        peer = CONTENDERS[other.row.contender]
        wanted = f"{bound} {goal.factor:g} x {peer.name} ({peer.server}) {goal.text}".strip()
    else:
        wanted = f"{bound} {goal.factor:g} {goal.text}"
    held = value <= goal.factor if goal.at_most else value >= goal.factor
    note = f", {row.row.note}" if row.row.note else ""
    return [
        LOADS[name].title,
        f"{contender.name}{note} ({contender.server})",
        wanted,
        f"{value:.2f}",
        "yes" if held else "**no**",
    ]


def goal_table(found: dict[str, dict[str, Measured]]) -> str:
    rows = [
        cells
        for name in found
        for goal in LOADS[name].goals
        if (cells := _goal_cells(name, goal, found))
    ]
    if not rows:
        return ""
    return table(["load", "who", "wanted", "measured", "held"], rows, words=3)


def versions(python: str) -> dict[str, str]:
    """The packages that an interpreter has."""
    code = (
        "import importlib.metadata as m, json, platform, sys\n"
        "found = {'Python': platform.python_version()}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    done = subprocess.run(
        [python, "-c", code, *PACKAGES], capture_output=True, text=True, check=True, timeout=60
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def heading(python: str, place: Place, how: str) -> str:
    """What was measured with, as a list."""
    facts = machine.describe()
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    lines.append("- " + ", ".join(f"{name} {value}" for name, value in versions(python).items()))
    cores = f"server on core {place.server_core}, load generator on core {place.client_core}"
    lines.append(
        f"- {datetime.date.today().isoformat()}; {how}; {cores}"
        + ("; both at high priority" if place.urgent else "")
    )
    return "\n".join(lines)


def heading_of_rounds(python: str, place: Place, rounds: int) -> str:
    how = f"medians of {rounds} round{'s' if rounds > 1 else ''}, contenders in turn"
    return (
        f"{heading(python, place, how)}\n"
        "- CPU in shares of one core. *others*: what else the machine did, at worst; "
        f"past {QUIET:.0%} a run was repeated, and is to be distrusted."
    )
