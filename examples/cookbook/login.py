"""Login: who is not logged in gets 401, and no connection."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Flask, abort, redirect, render_template_string, request, session
from flask_ws import Sock, WebSocket
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.wrappers import Response

app = Flask(__name__)
app.config.from_mapping(
    SECRET_KEY=os.environ.get("SECRET_KEY") or secrets.token_hex(),
    SESSION_COOKIE_SAMESITE="Lax",
)
sock = Sock(app)

passwords = {"ada": generate_password_hash("engine")}

PAGE = """<!doctype html>
<meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Login</title>
<style>:root { color-scheme: light dark; font: 1rem system-ui; }</style>
<form method="post" action="/login">
  <input name="name" value="ada" aria-label="Name">
  <input name="password" type="password" aria-label="Password"> <button>Log in</button>
</form>
<p id="said">Not connected.</p>
<script>
  const said = document.getElementById("said");
  const ws = new WebSocket({{ url_for("private")|tojson }});
  ws.onmessage = (event) => { said.textContent = event.data; };
</script>
"""


def login_required(view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if "name" not in session:
            abort(401)
        return view(*args, **kwargs)

    return guarded


@app.get("/")
def index() -> str:
    return render_template_string(PAGE)


@app.post("/login")
def login() -> Response:
    name = request.form.get("name", "")
    if check_password_hash(passwords.get(name, ""), request.form.get("password", "")):
        session["name"] = name
    return redirect("/")


# An ordinary view, so any decorator works on it: Flask-Login's, or this one.
@app.route("/private", websocket=True)
@login_required
@sock.view
def private(ws: WebSocket) -> None:
    ws.send(f"Hello, {session['name']}!")
    for message in ws:
        ws.send(message)
