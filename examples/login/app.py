"""A login before the handshake: a note that follows its owner from screen to screen.

``login_required`` stands before the WebSocket as it does before any view: who is not logged in
gets 401, and no connection. All screens of a user are reached by the user's name.
"""

from __future__ import annotations

import os
import secrets

from flask import Flask, flash, redirect, render_template, request, url_for
from flask_login import (
    LoginManager,
    UserMixin,
    current_user,
    login_required,
    login_user,
    logout_user,
)
from flask_ws import Sock, WebSocket
from werkzeug.security import check_password_hash, generate_password_hash
from werkzeug.wrappers import Response

app = Flask(__name__)
app.config.from_mapping(
    # A new one at each start, as are the users' ids below: a real app keeps both.
    SECRET_KEY=os.environ.get("SECRET_KEY") or secrets.token_hex(),
    # Other sites cannot log people in or out. A real app has CSRF tokens as well.
    SESSION_COOKIE_SAMESITE="Lax",
    SOCK_MAX_MESSAGE_SIZE=10_000,
)
sock = Sock(app)
login_manager = LoginManager(app)


class User(UserMixin):
    """Someone with an account."""

    def __init__(self, name: str, password: str) -> None:
        self.name = name
        self.password_hash = generate_password_hash(password)
        self.end_sessions()

    def end_sessions(self) -> None:
        """Log the user out everywhere: sessions name them by an id, which is now another."""
        self.id = secrets.token_hex()


users = {user.name: user for user in (User("ada", "engine"), User("grace", "compiler"))}

#: What each has noted.
notes: dict[str, str] = {}


@login_manager.user_loader
def load_user(user_id: str) -> User | None:
    """Return the user whom a session names."""
    return next((user for user in users.values() if user.id == user_id), None)


@sock.identify
def identify() -> str | None:
    """Return the name of who is logged in."""
    return current_user.name if current_user.is_authenticated else None


@sock.recheck(seconds=60)
def recheck(_: WebSocket) -> bool:
    """Tell whether the login still holds, in case it has ended without a logout."""
    return bool(current_user.is_authenticated)


@app.get("/")
def index() -> str:
    """Show the note, or the form to log in with."""
    return render_template("note.html" if current_user.is_authenticated else "login.html")


@app.post("/login")
def login() -> Response:
    """Log in."""
    user = users.get(request.form.get("name", ""))
    if user and check_password_hash(user.password_hash, request.form.get("password", "")):
        login_user(user)
    else:
        flash("That is not a name and its password.")
    return redirect(url_for("index"))


@app.post("/logout")
@login_required
def logout() -> Response:
    """Log out, here and on all screens that are open."""
    # First of all, or a screen whose connection is closed could come back.
    current_user.end_sessions()
    sock.disconnect(current_user.name, reason="You have logged out on another screen.")
    logout_user()
    return redirect(url_for("index"))


@app.route("/note", websocket=True)
@login_required
@sock.view
def note(ws: WebSocket) -> None:
    """Show each change of a user's note on all of their screens."""
    name = current_user.name
    ws.send_json({"name": name, "note": notes.get(name, "")})
    for message in ws:
        notes[name] = str(message)
        sock.send_json_to(name, {"name": name, "note": notes[name]}, exclude=ws)
