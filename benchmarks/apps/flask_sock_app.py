from __future__ import annotations

from flask import Flask
from flask_sock import Sock
from simple_websocket import Server

app = Flask(__name__)
sock = Sock(app)
subscribers: set[Server] = set()


@sock.route("/echo")
def echo(ws: Server) -> None:
    while True:
        ws.send(ws.receive())


@sock.route("/subscribe")
def subscribe(ws: Server) -> None:
    subscribers.add(ws)
    try:
        ws.send("ready")
        while True:
            ws.receive()
    finally:
        subscribers.discard(ws)


@sock.route("/publish")
def publish(ws: Server) -> None:
    while True:
        message = ws.receive()
        for each in list(subscribers):
            each.send(message)
