# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()

from flask import Flask
from flask_sock import Sock
from gevent.pywsgi import WSGIServer

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
    WSGIServer(("127.0.0.1", 5000), app).serve_forever()
