# Chat rooms: nicknames, commands, the last messages, and moderation over HTTP.
import threading
from collections import deque

from flask import Flask, jsonify, request
from flask_sock import Sock
from simple_websocket import ConnectionClosed

app = Flask(__name__)
app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": 25}
sock = Sock(app)

MAX_NAME = 20
lock = threading.Lock()
departures = []


class Room:
    """People in a room, and what they have said last."""

    def __init__(self, name):
        self.name = name
        self.members = {}
        self.history = deque(maxlen=5)

    def join(self, ws, nick):
        with lock:
            if nick in self.members.values():
                return False
            self.members[ws] = nick
            return True

    def leave(self, ws):
        with lock:
            return self.members.pop(ws, None)

    def rename(self, ws, nick):
        with lock:
            if nick in self.members.values():
                return None
            old, self.members[ws] = self.members[ws], nick
            return old

    def tell(self, text, remember=False):
        if remember:
            self.history.append(text)
        with lock:
            members = list(self.members)
        for member in members:
            try:
                member.send(text)
            except ConnectionClosed:
                # Its own thread will notice.
                continue


rooms = {}


def get_room(name):
    with lock:
        return rooms.setdefault(name, Room(name))


def run_command(room, ws, line):
    command, _, rest = line[1:].partition(" ")
    if command == "nick":
        old = room.rename(ws, rest) if 0 < len(rest) <= MAX_NAME else None
        if old is None:
            ws.send("! that name cannot be had")
        else:
            room.tell(f"* {old} is {rest} now")
    elif command == "who":
        ws.send("* " + ", ".join(sorted(room.members.values())))
    elif command == "quit":
        ws.close(message=rest or "good-bye")
    else:
        ws.send(f"! no such command: {command}")


@sock.route("/rooms/<name>")
def talk(ws, name):
    nick = request.args.get("nick", "")
    room = get_room(name)
    if not 0 < len(nick) <= MAX_NAME:
        ws.close(4001, "a name, please")
        return
    if not room.join(ws, nick):
        ws.close(reason=4002, message="that name is taken")
        return
    for text in list(room.history):
        ws.send(text)
    room.tell(f"* {nick} is here")
    try:
        while True:
            line = ws.receive()
            if line.startswith("/"):
                run_command(room, ws, line)
            else:
                room.tell(f"{room.members[ws]}: {line}", remember=True)
    except ConnectionClosed as end:
        departures.append((end.reason, end.message))
        if end.reason == 4100:
            room.tell(f"* {nick} was thrown out")
        raise
    finally:
        gone = room.leave(ws)
        if gone:
            room.tell(f"* {gone} is gone")


@app.get("/rooms")
def list_rooms():
    return jsonify({name: sorted(room.members.values()) for name, room in rooms.items()})


@app.delete("/rooms/<name>/<nick>")
def throw_out(name, nick):
    room = get_room(name)
    for ws, member in list(room.members.items()):
        if member == nick:
            ws.close(4100, "out")
            return "", 204
    return "", 404
