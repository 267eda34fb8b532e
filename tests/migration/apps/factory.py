# Routes first, on the extension and on a blueprint; then an app made by a function.
from flask import Blueprint, Flask, request
from flask_sock import Sock

sock = Sock()
rooms = Blueprint("rooms", __name__, url_prefix="/rooms")


@sock.route("/echo")
def echo(ws):
    while True:
        data = ws.receive()
        if data == "stop":
            ws.close(reason=4000, message="as you wish")
        ws.send(data)


@sock.route("/<int:number>", bp=rooms)
def room(ws, number):
    ws.send(f"{number} {request.args['name']} {ws.environ['PATH_INFO']} {ws.connected}")


def create_app():
    app = Flask(__name__)
    app.register_blueprint(rooms)
    sock.init_app(app)
    return app


if __name__ == "__main__":
    create_app().run(port=5000)
