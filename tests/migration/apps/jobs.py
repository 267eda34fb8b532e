# Jobs on threads, and their progress: a blueprint, an app factory, and an API in JSON.
import json
import threading
import uuid

from flask import Blueprint, Flask, abort, current_app, jsonify, request
from flask_sock import Sock

sock = Sock()
api = Blueprint("api", __name__, url_prefix="/api")


class Cancelled(Exception):
    pass


class Job:
    """A sum that takes its time, a step for each number that it is given."""

    def __init__(self, numbers):
        self.id = uuid.uuid4().hex
        self.numbers = numbers
        self.done = 0
        self.total = 0
        self.state = "waiting"
        self.error = None
        self.changed = threading.Condition()
        self.cancelled = False

    def run(self):
        self.update(state="running")
        try:
            for number in self.numbers:
                if self.cancelled:
                    raise Cancelled
                self.update(done=self.done + 1, total=self.total + number)
        except Cancelled:
            self.update(state="cancelled")
        except TypeError as error:
            self.update(state="failed", error=str(error))
        else:
            self.update(state="finished")

    def update(self, **values):
        with self.changed:
            vars(self).update(values)
            self.changed.notify_all()

    @property
    def is_over(self):
        return self.state in ("finished", "failed", "cancelled")

    def to_dict(self):
        return {
            "id": self.id,
            "state": self.state,
            "done": self.done,
            "of": len(self.numbers),
            "total": self.total,
            "error": self.error,
        }


jobs = {}


def find(job_id):
    return jobs.get(job_id) or abort(404)


@api.post("/jobs")
def create():
    numbers = request.get_json()["numbers"]
    if len(numbers) > current_app.config["MAX_NUMBERS"]:
        abort(413)
    job = Job(numbers)
    jobs[job.id] = job
    return jsonify(job.to_dict()), 201


@api.get("/jobs/<job_id>")
def show(job_id):
    return jsonify(find(job_id).to_dict())


@sock.route("/jobs/<job_id>/progress", bp=api)
def progress(ws, job_id):
    job = jobs.get(job_id)
    if job is None:
        ws.close(reason=4404, message="no such job")
        return
    ws.send(json.dumps(job.to_dict()))
    worker = None
    while ws.connected and not job.is_over:
        # Commands are looked for, not waited for.
        command = ws.receive(timeout=0.01)
        if command == "start" and worker is None:
            worker = threading.Thread(target=job.run)
            worker.start()
        elif command == "cancel":
            job.update(cancelled=True)
            if worker is None:
                job.run()
        elif command is not None:
            ws.send(json.dumps({"error": f"unknown command: {command}"}))
    if worker is not None:
        worker.join()
    ws.send(json.dumps(job.to_dict()))
    if job.state == "failed":
        ws.close(4500, job.error)


@sock.route("/echo/length", bp=api)
def length(ws):
    while True:
        data = ws.receive()
        kind = "bytes" if isinstance(data, bytes) else "text"
        ws.send(f"{len(data)} of {kind}")


def create_app(**config):
    app = Flask(__name__)
    app.config.update(
        MAX_NUMBERS=1000,
        SOCK_SERVER_OPTIONS={"ping_interval": 10, "max_message_size": 2000},
        **config,
    )
    app.register_blueprint(api)
    sock.init_app(app)
    return app
