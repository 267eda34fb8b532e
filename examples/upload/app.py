"""Uploads with progress: a file comes in pieces, as binary messages, and each is acknowledged."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from flask import Flask, json, render_template
from flask_ws import Sock, WebSocket
from werkzeug.utils import secure_filename

#: Bytes of a piece, and how many the page may send ahead of the acknowledgements.
PIECE = 64 * 1024
AHEAD = 16

app = Flask(__name__)
app.config.from_mapping(
    UPLOAD_FOLDER=Path(tempfile.gettempdir(), "uploads"),
    MAX_FILE_SIZE=256 * 1024 * 1024,
)
sock = Sock(app)


@app.get("/")
def index() -> str:
    """Show the page."""
    return render_template("upload.html", piece=PIECE, ahead=AHEAD)


# Most files are compressed already: the network gains nothing, and the processor has less to do.
@sock.route("/upload", max_message_size=PIECE, compression=False)
def upload(ws: WebSocket) -> None:
    """Receive a file: its name and size as JSON, then its bytes."""
    name, size = read_offer(ws.receive())
    if not name:
        ws.close(1008, "Say first what comes: a name and a size.")
        return
    if size > app.config["MAX_FILE_SIZE"]:
        ws.close(1009, f"A file may have {app.config['MAX_FILE_SIZE']} bytes.")
        return
    folder = Path(app.config["UPLOAD_FOLDER"])
    folder.mkdir(parents=True, exist_ok=True)
    # However this ends, only a whole file leaves the scratch folder.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        part = Path(scratch, "part")
        digest = hashlib.sha256()
        received = 0
        with part.open("wb") as file:
            while received < size:
                piece = ws.receive(timeout=60)
                if not isinstance(piece, bytes) or len(piece) > size - received:
                    ws.close(1008, "The file was not what was announced.")
                    return
                file.write(piece)
                digest.update(piece)
                received += len(piece)
                ws.send_json({"received": received})
        part.replace(folder / f"{digest.hexdigest()[:12]}-{name}")
    ws.send_json({"sha256": digest.hexdigest()})


def read_offer(message: str | bytes) -> tuple[str, int]:
    """Read a file's name and size; the name is empty if that is not what the message says."""
    try:
        data = json.loads(message)
        name, size = str(data["name"]), int(data["size"])
    except (ValueError, TypeError, KeyError):
        return "", 0
    if size < 0:
        return "", 0
    # What a browser says is no path of ours.
    return secure_filename(name)[-100:] or "unnamed", size
