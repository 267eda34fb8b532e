# A thread sends to connections that it got from their handlers.
import threading
import time

from flask import Flask
from flask_sock import Sock

app = Flask(__name__)
app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": 25, "max_message_size": 100}
sock = Sock(app)
clients = []


def tick():
    number = 0
    while True:
        time.sleep(0.02)
        number += 1
        for client in clients[:]:
            try:
                client.send(str(number))
            except Exception:
                clients.remove(client)


@sock.route("/echo")
def feed(ws):
    clients.append(ws)
    while True:
        if ws.receive(timeout=0.05) == "stop":
            break
    clients.remove(ws)


if __name__ == "__main__":
    threading.Thread(target=tick, daemon=True).start()
    app.run(port=5000)
