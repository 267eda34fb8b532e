# ruff: noqa: E402
import eventlet

eventlet.monkey_patch()

from eventlet import wsgi
from flask import Flask
from flask_sock import Sock

app = Flask(__name__)
app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": 25}
sock = Sock(app)


@sock.route("/echo")
def echo(ws):
    while True:
        data = ws.receive()
        if data == "stop":
            break
        ws.send(data)


if __name__ == "__main__":
    wsgi.server(eventlet.listen(("", 5000)), app)
