"""Draw how a request becomes a connection: `python docs/pictures/how_it_works.py`."""

from __future__ import annotations

from pathlib import Path

from charts import FOLDER, THEMES, Theme, write

WIDTH, HEIGHT = 720, 300
#: x, y, width, height, whether it is flask-ws's, a name, and what it does.
BOXES = (
    (0, 46, 120, 92, False, "Browser", ("GET /chat", "with Upgrade")),
    (166, 46, 140, 92, False, "Your server", ("Gunicorn, uWSGI,", "Waitress, …")),
    (
        352,
        46,
        172,
        92,
        False,
        "Your Flask app",
        ("before_request, session,", "login_required, abort()"),
    ),
    (570, 46, 150, 92, True, "flask-ws", ("answers 101, and", "takes the socket")),
    (166, 196, 172, 92, True, "Handler", ("def, with a thread;", "async def, without one")),
    (357, 196, 172, 92, True, "Event view", ("a class: no thread", "while it is idle")),
    (548, 196, 172, 92, True, "Channel", ("from anywhere to all", "subscribers, by Redis")),
)
ARROWS = (
    "M120 92H160",
    "M306 92H346",
    "M524 92H564",
    # From flask-ws down to each of the three.
    "M645 138V190",
    "M645 166H443V190",
    "M443 166H252V190",
    # The server's thread is free again; and the messages.
    "M600 46V22H236V40",
    "M160 242H60V144",
    "M60 230V242H160",
)


def draw(theme: Theme) -> str:
    box = "#f3f4f7" if theme.name == "light" else "#1e222d"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"',
        ' aria-labelledby="title" font-family="system-ui, sans-serif">',
        '<title id="title">A handshake goes through the server and the Flask app as any request;',
        "flask-ws answers it, takes the socket, and gives it to a handler, an event view or a",
        "channel. The server's thread goes back to HTTP.</title>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="8"',
        f' markerHeight="8" orient="auto"><path d="M0 0 8 4 0 8z" fill="{theme.quiet}"/></marker>',
        "</defs>",
        f'<g fill="none" stroke="{theme.quiet}" stroke-width="1.5" marker-end="url(#head)">',
        *(f'<path d="{path}" marker-end="url(#head)"/>' for path in ARROWS),
        "</g>",
        write(250, 15, "the thread goes back to HTTP", theme.quiet, size=13),
        write(62, 262, "messages", theme.quiet, size=13),
    ]
    for x, y, width, height, ours, name, words in BOXES:
        stroke = theme.ours if ours else theme.theirs
        lines += [
            f'<rect x="{x + 1}" y="{y}" width="{width - 2}" height="{height}" rx="10"',
            f' fill="{box}" stroke="{stroke}" stroke-width="2"/>',
            write(x + 14, y + 28, name, theme.ink, "600", 15),
            *(
                write(x + 14, y + 51 + 19 * row, text, theme.quiet, size=12)
                for row, text in enumerate(words)
            ),
        ]
    return "\n".join([*lines, "</svg>", ""])


def draw_all(folder: Path = FOLDER) -> dict[Path, str]:
    return {folder / f"how-{theme.name}.svg": draw(theme) for theme in THEMES}


if __name__ == "__main__":
    for path, text in draw_all().items():
        path.write_text(text)
