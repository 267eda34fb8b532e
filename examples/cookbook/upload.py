"""File upload: a name as text, then the file in binary pieces, then an empty one."""

from __future__ import annotations

import tempfile
from pathlib import Path

from flask import Flask, render_template_string
from flask_ws import Sock, WebSocket
from werkzeug.utils import secure_filename

LARGEST = 50 * 1024 * 1024

app = Flask(__name__)
app.config["UPLOAD_FOLDER"] = tempfile.mkdtemp()
sock = Sock(app)

PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Upload</title>
<style>:root { color-scheme: light dark; font: 1rem system-ui; }</style>
<input type="file" aria-label="File"> <progress max="1" value="0"></progress>
<script>
  const PIECE = 64 * 1024;
  document.querySelector("input").onchange = ({ target }) => {
    const [file] = target.files;
    const ws = new WebSocket({{ url_for("upload")|tojson }});
    let sent = 0;
    ws.onopen = () => ws.send(file.name);
    // Each answer asks for the next piece: a slow disk is not flooded.
    ws.onmessage = () => {
      document.querySelector("progress").value = file.size ? sent / file.size : 1;
      ws.send(file.slice(sent, sent + PIECE));
      sent += PIECE;
    };
  };
</script>
"""


@app.get("/")
def index() -> str:
    return render_template_string(PAGE)


# Most files are compressed already.
@sock.route("/upload", max_message_size=64 * 1024, compression=False)
def upload(ws: WebSocket) -> None:
    name = secure_filename(str(ws.receive())) or "unnamed"
    path = Path(app.config["UPLOAD_FOLDER"], name)
    size = 0
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        part = Path(file.name)
        try:
            while True:
                ws.send_json({"received": size})
                piece = ws.receive(timeout=60)
                if not isinstance(piece, bytes):
                    ws.close(1008, "A file comes in binary pieces.")
                    return
                if not piece:
                    break
                size += len(piece)
                if size > LARGEST:
                    ws.close(1009, f"A file may have {LARGEST} bytes.")
                    return
                file.write(piece)
            file.flush()
            # Only a whole file gets its name.
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    ws.close(1000, "Saved.")
