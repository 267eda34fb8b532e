"""Apps of more than a hundred lines each, as people have written them for flask-sock.

``flask ws migrate --write`` changes them, and what it leaves to be done by hand is done here.
"""

from __future__ import annotations

import contextlib
import json
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.support.memory import in_thread

from flask_ws import ConnectionClosed
from flask_ws.cli import ws as group
from flask_ws.testing import ClientWebSocket, HandshakeRefused, connect

APPS = Path(__file__).with_name("apps")
#: Seconds, more than anything here takes.
PATIENCE = 10.0
#: What a person does after the command.
BY_HAND = {"game.py": [("send(len(game.watchers))", "send(str(len(game.watchers)))")]}


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Any]:
    """Migrate an app, and import it."""
    names = []

    def load(name: str) -> Any:
        source = (APPS / name).read_text()
        assert source.count("\n") > 100
        file = tmp_path / name
        file.write_text(source)
        CliRunner().invoke(group, ["migrate", "--write", str(file)])
        source = file.read_text()
        for old, new in BY_HAND.get(name, ()):
            assert source.count(old) == 1
            source = source.replace(old, new)
        assert "flask_sock" not in source
        assert "simple_websocket" not in source
        module = types.ModuleType(f"migrated_{file.stem}")
        module.__file__ = str(file)
        sys.modules[module.__name__] = module
        names.append(module.__name__)
        exec(compile(source, str(file), "exec", dont_inherit=True), vars(module))
        return module

    yield load
    for name in names:
        del sys.modules[name]


def receive_json(ws: ClientWebSocket, number: int) -> list[Any]:
    return [ws.receive_json() for _ in range(number)]


def test_rooms_tell_everybody(load: Any) -> None:
    app = load("rooms.py").app
    with connect(app, "/rooms/a?nick=ada") as ada:
        assert ada.receive() == "* ada is here"
        with connect(app, "/rooms/a?nick=bob") as bob:
            assert (ada.receive(), bob.receive()) == ("* bob is here", "* bob is here")
            bob.send("hello")
            assert (ada.receive(), bob.receive()) == ("bob: hello", "bob: hello")
            ada.send("/nick eve")
            assert bob.receive() == "* ada is eve now"
            bob.send("/who")
            assert bob.receive() == "* bob, eve"
            assert app.test_client().get("/rooms").json == {"a": ["bob", "eve"]}
        assert [ada.receive(), ada.receive()] == ["* ada is eve now", "* bob is gone"]
        with connect(app, "/rooms/a?nick=cy") as cy:
            assert cy.receive() == "bob: hello"


def test_rooms_close_with_codes_and_texts(load: Any) -> None:
    module = load("rooms.py")
    with connect(module.app, "/rooms/a") as ws:
        assert list(ws) == []
        assert (ws.close_code, ws.close_reason) == (4001, "a name, please")
    with connect(module.app, "/rooms/a?nick=ada") as ada:
        ada.receive()
        with connect(module.app, "/rooms/a?nick=ada") as second:
            assert list(second) == []
            assert (second.close_code, second.close_reason) == (4002, "that name is taken")
        ada.send("/quit that was all")
        assert list(ada) == []
        assert (ada.close_code, ada.close_reason) == (1000, "that was all")


def test_rooms_know_why_somebody_left(load: Any) -> None:
    module = load("rooms.py")
    with connect(module.app, "/rooms/a?nick=ada") as ada:
        assert ada.receive() == "* ada is here"
        with connect(module.app, "/rooms/a?nick=bob") as bob:
            assert [bob.receive()] == ["* bob is here"]
            thrown_out = in_thread(module.app.test_client().delete, "/rooms/a/bob")
            # Meanwhile: close() waits for the answer of the client.
            assert list(bob) == []
            assert thrown_out.result(PATIENCE).status_code == 204
            assert (bob.close_code, bob.close_reason) == (4100, "out")
        said = [ada.receive() for _ in range(3)]
        assert said == ["* bob is here", "* bob was thrown out", "* bob is gone"]
        ada.close(1001, "bye")
    assert module.departures == [(4100, "out"), (1001, "bye")]


def test_jobs_show_their_progress(load: Any) -> None:
    app = load("jobs.py").create_app()
    client = app.test_client()
    job = client.post("/api/jobs", json={"numbers": [1, 2, 3]}).json
    with connect(app, f"/api/jobs/{job['id']}/progress") as ws:
        assert ws.receive_json()["state"] == "waiting"
        ws.send("dance")
        assert ws.receive_json() == {"error": "unknown command: dance"}
        ws.send("start")
        last = ws.receive_json()
        assert (last["state"], last["total"]) == ("finished", 6)
        assert list(ws) == []
        assert ws.close_code == 1000
    assert client.get(f"/api/jobs/{job['id']}").json["done"] == 3


def test_jobs_are_cancelled_and_fail(load: Any) -> None:
    app = load("jobs.py").create_app()
    client = app.test_client()
    for numbers, command, state, code in (
        ([1], "cancel", "cancelled", 1000),
        ([1, "x"], "start", "failed", 4500),
    ):
        job = client.post("/api/jobs", json={"numbers": numbers}).json
        with connect(app, f"/api/jobs/{job['id']}/progress") as ws:
            ws.receive()
            ws.send(command)
            assert ws.receive_json()["state"] == state
            assert list(ws) == []
            assert ws.close_code == code
    with connect(app, "/api/jobs/none/progress") as ws:
        assert list(ws) == []
        assert (ws.close_code, ws.close_reason) == (4404, "no such job")


def test_the_options_of_flask_sock_are_in_force(load: Any) -> None:
    app = load("jobs.py").create_app()
    with connect(app, "/api/echo/length") as ws:
        ws.send(b"\0" * 1999)
        assert ws.receive() == "1999 of bytes"
        ws.send("x" * 2001)
        assert list(ws) == []
        assert ws.close_code == 1009


@contextlib.contextmanager
def play(app: Any) -> Iterator[tuple[ClientWebSocket, ClientWebSocket]]:
    clients = [app.test_client(), app.test_client()]
    for client, name in zip(clients, ("ada", "bob"), strict=True):
        client.post(f"/name/{name}")
    with connect(clients[0], "/play") as x, connect(clients[1], "/play") as o:
        assert [x.receive_json(), o.receive_json()] == [{"you": "X"}, {"you": "O"}]
        for player in (x, o):
            assert player.receive_json()["names"] == {"X": "ada", "O": "bob"}
        yield x, o


def test_a_game_is_won(load: Any) -> None:
    module = load("game.py")
    with play(module.app) as (x, o):
        o.send("0")
        assert o.receive_json() == {"error": "it is not your turn"}
        x.send("none")
        assert x.receive_json() == {"error": "a number, please"}
        for player, field in ((x, 0), (o, 3), (x, 1), (o, 4), (x, 2)):
            player.send(str(field))
            boards = [x.receive_json()["board"], o.receive_json()["board"]]
            assert boards[0] == boards[1]
        for player in (x, o):
            assert list(player) == []
            assert (player.close_code, player.close_reason) == (1000, "X wins")


def test_a_game_ends_when_a_player_leaves(load: Any) -> None:
    module = load("game.py")
    with play(module.app) as (x, o), connect(module.app, "/watch") as watcher:
        assert json.loads(str(watcher.receive()))["turn"] == "X"
        watcher.send("how many?")
        assert watcher.receive() == "1"
        o.close(4005, "dinner")
        for left in (x, watcher):
            with pytest.raises(ConnectionClosed) as closed:
                left.receive()
            assert (closed.value.code, closed.value.message) == (4010, "O has left")
    assert module.log[0] == ("O", 4005, "dinner")


def test_an_app_keeps_its_refusals(load: Any) -> None:
    with pytest.raises(HandshakeRefused, match="404"), connect(load("game.py").app, "/other"):
        pass
