# Noughts and crosses for two who do not know each other; others watch.
import json
import threading

import simple_websocket
from flask import Flask, session
from flask_sock import Sock
from simple_websocket import ConnectionClosed as Closed

app = Flask(__name__)
app.secret_key = "for tests only"
sock = Sock()
sock.init_app(app)

LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]
RESIGNED = 4010
lock = threading.Lock()
log = []


class Game:
    """A board, two players, and those who watch."""

    def __init__(self):
        self.board = [" "] * 9
        self.players = {}
        self.names = {}
        self.watchers = set()
        self.turn = "X"
        self.full = threading.Event()
        self.over = False

    def sit_down(self, client, name):
        mark = "O" if self.players else "X"
        self.players[mark] = client
        self.names[mark] = name
        if len(self.players) == 2:
            self.full.set()
        return mark

    @property
    def winner(self):
        for a, b, c in LINES:
            if self.board[a] == self.board[b] == self.board[c] != " ":
                return self.board[a]
        return "nobody" if " " not in self.board else None

    def move(self, mark, field):
        if mark != self.turn:
            return "it is not your turn"
        if field not in range(9) or self.board[field] != " ":
            return "that field cannot be had"
        self.board[field] = mark
        self.turn = "O" if mark == "X" else "X"
        return None

    def show(self, **more):
        text = json.dumps({"board": "".join(self.board), "turn": self.turn, **more})
        for client in [*self.players.values(), *self.watchers]:
            try:
                client.send(text)
            except Closed:
                self.watchers.discard(client)

    def end(self, code, message):
        with lock:
            if self.over:
                return
            self.over = True
        for client in [*self.players.values(), *self.watchers]:
            try:
                client.close(code, message)
            except simple_websocket.ConnectionClosed:
                pass


games = [Game()]


@app.post("/name/<name>")
def set_name(name):
    session["name"] = name
    return "", 204


@sock.route("/play")
def play(client):
    with lock:
        if games[-1].full.is_set():
            games.append(Game())
        game = games[-1]
        mark = game.sit_down(client, session.get("name", "somebody"))
    client.send(json.dumps({"you": mark}))
    if mark == "O":
        game.show(names=game.names)
    try:
        while True:
            try:
                field = int(client.receive())
            except ValueError:
                client.send(json.dumps({"error": "a number, please"}))
                continue
            error = game.move(mark, field)
            if error:
                client.send(json.dumps({"error": error}))
                continue
            game.show()
            if game.winner:
                game.end(1000, f"{game.winner} wins")
    except Closed:
        log.append((mark, client.close_reason, client.close_message))
        if not game.over:
            game.end(RESIGNED, f"{mark} has left")


@sock.route("/watch")
def watch(client):
    game = games[-1]
    game.watchers.add(client)
    client.send(json.dumps({"board": "".join(game.board), "turn": game.turn}))
    while True:
        client.receive()
        client.send(len(game.watchers))
