"""Draw the charts of the performance page from its tables: `python docs/pictures/charts.py`."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
PAGE = DOCS / "performance.md"
FOLDER = DOCS / "_static"

WIDTH = 720
LABELS = 310
#: Beside the longest bar, for its number.
NUMBERS = 80
TOP = 58
STEP = 30


@dataclass(frozen=True)
class Chart:
    """Some rows of a table, as bars."""

    name: str
    title: str
    note: str
    #: The heading of the table.
    heading: str
    #: The first cells of rows and, where a name has several, the beginning of the second.
    rows: tuple[tuple[str, str], ...]
    less_is_better: bool = False


@dataclass(frozen=True)
class Theme:
    name: str
    ink: str
    quiet: str
    ours: str
    theirs: str


CHARTS = (
    Chart(
        "messages",
        "Messages echoed in a second",
        "50 connections, 32 bytes each way, one core. More is better.",
        "50 connections echoing 32 bytes, binary",
        (
            ("flask-ws", "gunicorn"),
            ("flask-ws, event view", "gunicorn"),
            ("Starlette", "uvicorn"),
            ("websockets", ""),
            ("flask-sock", "gunicorn"),
            ("picows", ""),
        ),
    ),
    Chart(
        "memory",
        "KiB of memory for an idle connection",
        "1000 connections in one process. Less is better.",
        "1000 idle connections",
        (
            ("flask-ws", "gunicorn"),
            ("flask-ws, event view", "gunicorn"),
            ("Starlette", "uvicorn"),
            ("websockets", ""),
            ("flask-sock", "gunicorn"),
            ("picows", ""),
        ),
        less_is_better=True,
    ),
    Chart(
        "broadcast",
        "Messages delivered in a second",
        "One sender to 1000 receivers, 64 bytes, in batches of eight. More is better.",
        "one sender to 1000 receivers, 64 bytes",
        (
            ("flask-ws, channel", "gunicorn"),
            ("flask-ws, event view, loop over send", "gunicorn"),
            ("websockets.broadcast", ""),
            ("flask-sock, loop over send", "gunicorn"),
            ("Flask-SocketIO, threading", ""),
        ),
    ),
)

THEMES = (
    Theme("light", "#1b1f2a", "#586074", "#2f5bd7", "#b9c2d6"),
    Theme("dark", "#e8eaf0", "#a2aabd", "#8fabff", "#4a5468"),
)


def read_rows(chart: Chart, page: str) -> list[tuple[str, str, str]]:
    """Read name, server and number of a chart's rows, the best first."""
    _, _, section = page.partition(f"### {chart.heading}\n")
    section = section.partition("\n#")[0]
    table = [
        [cell.strip(" `") for cell in line.split("|")[1:4]]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    found = []
    for name, server in chart.rows:
        (row,) = (row for row in table if row[0] == name and row[1].startswith(server))
        found.append((row[0], row[1], row[2]))
    return sorted(found, key=read_number, reverse=not chart.less_is_better)


def read_number(row: tuple[str, str, str]) -> float:
    return float(row[2].replace(",", ""))


def write(x: float, y: float, text: str, fill: str, weight: str = "400", size: int = 14) -> str:
    place = f'x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{fill}"'
    return f"<text {place}>{escape(text)}</text>"


def draw(chart: Chart, theme: Theme, page: str) -> str:
    """Draw a chart as SVG, on no background."""
    rows = read_rows(chart, page)
    values = [read_number(row) for row in rows]
    scale = (WIDTH - LABELS - NUMBERS) / max(values)
    height = TOP + STEP * len(rows)
    told = ", ".join(f"{name} {number}" for name, _, number in rows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"',
        ' aria-labelledby="title" font-family="system-ui, sans-serif" font-size="14">',
        f'<title id="title">{escape(f"{chart.title}: {told}.")}</title>',
        write(0, 18, chart.title, theme.ink, "600", 17),
        write(0, 40, chart.note, theme.quiet, size=13),
    ]
    for index, ((name, server, number), value) in enumerate(zip(rows, values, strict=True)):
        y = TOP + STEP * index
        ours = name.startswith("flask-ws")
        weight = "600" if ours else "400"
        fill = theme.ours if ours else theme.theirs
        long = max(value * scale, 2)
        lines += [
            write(0, y + 17, name, theme.ink, weight),
            f'<rect x="{LABELS}" y="{y + 2}" width="{long:.1f}" height="20" rx="4" fill="{fill}">',
            f"<title>{escape(server)}</title></rect>",
            write(LABELS + 8 + long, y + 17, number, theme.ink, weight),
        ]
    return "\n".join([*lines, "</svg>", ""])


def draw_all() -> dict[str, str]:
    """Draw all charts; their texts, by the names of their files."""
    page = PAGE.read_text()
    return {
        f"{chart.name}-{theme.name}.svg": draw(chart, theme, page)
        for chart in CHARTS
        for theme in THEMES
    }


if __name__ == "__main__":
    for name, text in draw_all().items():
        (FOLDER / name).write_text(text)
