"""A terminal in a page: a command on a pseudo-terminal, its output and its keys as messages.

Danger: whoever reaches this page is at your shell, as you. So it serves this machine only, and
that still means everyone who has an account on it; no proxy, tunnel or port forwarding may lead
here. To offer a terminal to others takes a login, TLS, and a sandbox for what they run.

POSIX only. It wants a server with threads: reading a pseudo-terminal blocks greenlets.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading

from flask import Flask, abort, render_template, request
from flask_ws import ConnectionClosed, Sock, WebSocket

app = Flask(__name__)
app.config.from_mapping(
    COMMAND=os.environ.get("TERMINAL_COMMAND") or os.environ.get("SHELL") or "/bin/sh",
    SOCK_MAX_MESSAGE_SIZE=10_000,
)
sock = Sock(app)

# A new session has no terminal: its leader takes one, then becomes the command. That Ctrl-C is
# ignored may be inherited, where the server was started in the background.
TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGINT, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@app.before_request
def serve_this_machine_only() -> None:
    """Refuse everyone else: requests from elsewhere, and for other names than this machine's."""
    if request.remote_addr not in {"127.0.0.1", "::1"}:
        abort(403)
    # A site whose own name has been pointed here (DNS rebinding) would be of the same origin.
    if request.host.rpartition(":")[0] not in {"127.0.0.1", "localhost", "[::1]"}:
        abort(403)


@app.get("/")
def index() -> str:
    """Show the page."""
    return render_template("terminal.html", command=app.config["COMMAND"])


@sock.route("/terminal")
def terminal(ws: WebSocket) -> None:
    """Run the command for as long as it or the connection lives."""
    ours, theirs = pty.openpty()
    resize(ours, request.args.get("rows", 24, int), request.args.get("columns", 80, int))
    process = subprocess.Popen(
        [sys.executable, "-c", TAKE_TERMINAL, *shlex.split(app.config["COMMAND"])],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        # The page knows no more than backspace and carriage return.
        env={**os.environ, "TERM": "dumb"},
    )
    os.close(theirs)
    reader = threading.Thread(target=show, args=(ws, ours), daemon=True)
    reader.start()
    try:
        for message in ws:
            if isinstance(message, str):
                # Keys.
                os.write(ours, message.encode())
            elif len(message) == 4:
                # The page has another size: rows and columns.
                resize(ours, *struct.unpack("!HH", message))
    except OSError as error:
        # The command has ended.
        if error.errno != errno.EIO:
            raise
    finally:
        # What a terminal does when it is closed.
        process.send_signal(signal.SIGHUP)
        try:
            process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(1)
        os.close(ours)


def resize(terminal: int, rows: int, columns: int) -> None:
    """Tell a terminal its size; what runs in it is sent SIGWINCH."""
    size = (max(1, min(n, 999)) for n in (rows, columns))
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))


def show(ws: WebSocket, ours: int) -> None:
    """Send what the command writes, until it ends."""
    try:
        while data := os.read(ours, 4096):
            # Binary: a character may be cut in two.
            ws.send(data)
    except (OSError, ConnectionClosed):
        # Linux answers with EIO once nobody has the other end open.
        pass
    ws.close(1000, "The command has ended.")
