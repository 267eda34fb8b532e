from __future__ import annotations

import functools
import importlib.metadata
import os
import queue
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import click
import pytest
import trustme
from flask import Blueprint, Flask, redirect, request
from tests.support.command_line import Serve, Terminal
from tests.support.memory import in_thread
from tests.support.raw import (
    BINARY,
    CLOSE,
    TEXT,
    Peer,
    encode_frame,
    make_accept,
)
from tests.support.waiting import until
from werkzeug.wrappers import Response

from flask_ws import AsyncWebSocket, Sock, WebSocket, WebSocketView
from flask_ws.cli import ws
from flask_ws.cli.connect import connect, exit_code
from flask_ws.plugin.manager import FoundPlugin, Plugins

#: Seconds, more than anything here takes.
PATIENCE = 10.0
#: The same, for a process of its own on a busy machine.
START_PATIENCE = 30.0


def test_the_group_is_a_command_of_flask() -> None:
    commands = {
        found.name: found for found in importlib.metadata.entry_points(group="flask.commands")
    }
    assert commands["ws"].load() is ws


def test_the_command_line_imports_no_server() -> None:
    code = """
import sys, flask_ws.cli
print({"gunicorn", "gevent", "eventlet"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "set()\n"


# flask ws servers


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, no_plugins: Plugins) -> list[FoundPlugin]:
    """The plugins of this process, as if these were installed."""
    found: list[FoundPlugin] = []
    monkeypatch.setattr(no_plugins, "_found", found)
    return found


def list_servers(app: Flask) -> dict[str, str]:
    """The lines of the tables, by plugin."""
    result = app.test_cli_runner().invoke(ws, ["servers"])
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if line]
    return {line.split()[0]: line for line in lines}


def test_a_plugin_that_loaded_is_listed(app: Flask, found: list[FoundPlugin]) -> None:
    found.append(FoundPlugin("carrier", "flask_ws_carrier", "flask-ws-carrier", "1.2.3"))
    line = list_servers(app)["carrier"]
    assert line.split()[1:] == ["flask-ws-carrier", "1.2.3", "-", "loaded"]


def test_a_plugin_that_failed_is_listed_with_its_error(
    app: Flask, found: list[FoundPlugin]
) -> None:
    error = ImportError("no pigeon")
    found.append(FoundPlugin("carrier", "flask_ws_carrier", "flask-ws-carrier", "1", error))
    assert list_servers(app)["carrier"].endswith("failed: ImportError('no pigeon')")


def test_the_version_of_a_plugins_server_is_shown(
    app: Flask, found: list[FoundPlugin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        importlib.metadata,
        "requires",
        lambda name: [
            "flask-ws>=0.1",
            "Pigeon[fast]>=2",
            "owl; python_version < '3'",
            "mouse; extra == 'food'",
            "crow",
        ],
    )

    def version(name: str) -> str:
        if name == "Pigeon":
            return "2.7"
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "version", version)
    found.append(FoundPlugin("carrier", "flask_ws_carrier", "flask-ws-carrier", "1"))
    assert "  Pigeon 2.7, crow is not installed  " in list_servers(app)["carrier"]


def test_what_a_plugin_requires_besides_its_server_is_left_out(
    app: Flask, found: list[FoundPlugin], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["packaging", "pluggy"])
    found.append(FoundPlugin("pluggy", "flask_ws_pluggy", "flask-ws-pluggy", "1"))
    assert f"  pluggy {importlib.metadata.version('pluggy')}  " in list_servers(app)["pluggy"]


def test_brokers_are_listed_below_the_servers(app: Flask, found: list[FoundPlugin]) -> None:
    found.append(FoundPlugin("pigeons", "pigeons", "pigeons", "1", is_broker=True))
    names = list(list_servers(app))
    assert names.index("werkzeug") < names.index("Broker") < names.index("pigeons")


@pytest.mark.parametrize(
    "extra",
    [
        *("asgi", "werkzeug", "gunicorn", "eventlet", "gevent", "waitress", "uwsgi"),
        *("redis", "postgresql"),
    ],
)
def test_the_line_that_installs_a_missing_extra_is_shown(
    app: Flask, found: list[FoundPlugin], monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    monkeypatch.setattr("flask_ws.cli.listing.WINDOWS", False)
    assert list_servers(app)[extra].endswith(f'  missing: pip install "flask-ws[{extra}]"')


def test_a_server_whose_plugin_is_missing_is_shown(app: Flask, found: list[FoundPlugin]) -> None:
    version = importlib.metadata.version("gunicorn")
    assert f"  gunicorn {version}  " in list_servers(app)["gunicorn"]


def test_an_extra_that_is_installed_is_not_offered(app: Flask, found: list[FoundPlugin]) -> None:
    found.append(FoundPlugin("gevent", "flask_ws_gevent", "flask-ws-gevent", "1"))
    assert "pip" not in list_servers(app)["gevent"]


@pytest.mark.parametrize("name", ["gunicorn", "uwsgi"])
@pytest.mark.parametrize("installed", [True, False])
def test_a_server_that_windows_has_not_is_not_offered_there(
    app: Flask,
    found: list[FoundPlugin],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    installed: bool,
) -> None:
    monkeypatch.setattr("flask_ws.cli.listing.WINDOWS", True)
    if installed:
        error = ModuleNotFoundError("No module named 'fcntl'")
        found.append(FoundPlugin(name, f"flask_ws_{name}", f"flask-ws-{name}", "1", error))
    line = list_servers(app)[name]
    assert line.endswith(f"  {name} does not run on Windows")
    assert "missing" in list_servers(app)["gevent"]


def test_servers_needs_no_app() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from flask_ws.cli import ws; ws()", "servers"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.split()[0]) == (0, "Plugin")


# flask ws routes


def list_routes(app: Flask) -> list[str]:
    result = app.test_cli_runner().invoke(ws, ["routes"])
    assert result.exit_code == 0, result.output
    return [" ".join(line.split()) for line in result.output.splitlines()]


def handle(ws: WebSocket) -> None:
    """A handler."""


def test_a_handler_is_listed(app: Flask, sock: Sock) -> None:
    sock.route("/echo")(handle)
    assert list_routes(app)[-1] == "/echo handle handler"


def test_an_event_view_is_listed(app: Flask, sock: Sock) -> None:
    @sock.route("/chat/<room>", endpoint="chat")
    class Chat(WebSocketView):
        pass

    assert list_routes(app)[-1] == "/chat/<room> chat event view"


def test_an_async_handler_is_shown_as_one(app: Flask, sock: Sock) -> None:
    @sock.route("/feed")
    async def feed(ws: AsyncWebSocket) -> None: ...

    assert list_routes(app)[-1] == "/feed feed async handler"


def test_a_route_of_a_blueprint_is_listed(app: Flask, sock: Sock) -> None:
    blueprint = Blueprint("chat", __name__, url_prefix="/chat")
    sock.route("/echo", bp=blueprint)(handle)
    app.register_blueprint(blueprint)
    assert list_routes(app)[-1] == "/chat/echo chat.handle handler"


def test_options_of_the_route_are_listed(app: Flask, sock: Sock) -> None:
    sock.route("/", max_queue=3, subprotocols=["a"])(handle)
    assert list_routes(app)[-1].endswith("handler max_queue=3, subprotocols=('a',)")


def test_options_of_the_app_are_listed(app: Flask, sock: Sock) -> None:
    app.config["SOCK_PING_INTERVAL"] = 5
    sock.route("/")(handle)
    assert list_routes(app)[-1].endswith("handler ping_interval=5")


def test_an_option_that_says_the_default_is_not_listed(app: Flask, sock: Sock) -> None:
    app.config["SOCK_PING_INTERVAL"] = 5
    sock.route("/", ping_interval=20, max_queue=16)(handle)
    assert list_routes(app)[-1] == "/ handle handler"


def test_options_of_the_process_are_listed_once(app: Flask, sock: Sock) -> None:
    app.config["SOCK_MAX_THREADS"] = 5
    sock.route("/one", endpoint="one")(handle)
    sock.route("/two", endpoint="two")(handle)
    assert list_routes(app)[-4:] == [
        "/one one handler",
        "/two two handler",
        "",
        "Of the whole process: max_threads=5",
    ]


def test_a_decorated_view_is_known(app: Flask, sock: Sock) -> None:
    @app.route("/feed", websocket=True)
    @sock.view
    def feed(ws: WebSocket) -> None:
        pass

    assert list_routes(app)[-1] == "/feed feed handler"


def test_a_view_behind_an_opaque_decorator_is_of_unknown_kind(app: Flask, sock: Sock) -> None:
    view = sock.view(handle)
    app.add_url_rule("/", "hidden", lambda: view(), websocket=True)  # noqa: PLW0108
    assert list_routes(app)[-1] == "/ hidden unknown"


def test_a_route_that_forgot_websocket_is_pointed_out(app: Flask, sock: Sock) -> None:
    app.add_url_rule("/", view_func=sock.view(handle))
    assert "never called: the rule needs websocket=True" in list_routes(app)[-1]


def test_a_blueprint_that_is_not_registered_is_pointed_out(app: Flask, sock: Sock) -> None:
    sock.route("/", bp=Blueprint("chat", __name__))(handle)
    assert list_routes(app)[-1].startswith("Blueprint 'chat' has WebSocket routes, but the app")


def test_a_decorator_that_has_no_effect_is_pointed_out(
    app: Flask, sock: Sock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands above ``@sock.route``, and the module's name is that of its own function."""
    sock.route("/")(handle)
    decorated = functools.wraps(handle)(lambda ws: None)
    monkeypatch.setitem(globals(), "handle", decorated)
    assert "handler (the decorator above its route has no effect)" in list_routes(app)[-1]


def test_http_routes_are_left_out(app: Flask, sock: Sock) -> None:
    app.add_url_rule("/page", view_func=lambda: "page", endpoint="page")
    assert list_routes(app) == ["There are no WebSocket routes."]


def test_subdomains_are_listed_where_there_are_any(app: Flask, sock: Sock) -> None:
    sock.route("/", subdomain="live")(handle)
    lines = list_routes(app)
    assert (lines[0].split()[0], lines[-1]) == ("Domain", "live / handle handler")


# flask ws connect


Answer = Callable[[Peer, str], None]
Script = Callable[[Answer], str]


@pytest.fixture
def script() -> Iterator[Script]:
    """A server that reads the handshake and then does as it is told; returns its URL."""
    running: list[tuple[socket.socket, Future[None]]] = []

    def serve(listener: socket.socket, answer: Answer) -> None:
        sock, _ = listener.accept()
        with Peer(sock) as peer:
            key = ""
            while line := peer.take_line().decode():
                name, _, value = line.partition(": ")
                if name.lower() == "sec-websocket-key":
                    key = value
            answer(peer, key)

    def script(answer: Answer) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(PATIENCE)
        running.append((listener, in_thread(serve, listener, answer)))
        return f"ws://127.0.0.1:{listener.getsockname()[1]}/"

    yield script
    for listener, served in running:
        listener.close()
        served.result(PATIENCE)


def head(key: str, **changes: str | None) -> bytes:
    """The 101 of a server; with headers changed, or left out."""
    headers: dict[str, Any] = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": make_accept(key),
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join(["HTTP/1.1 101 Switching Protocols", *lines, "", ""]).encode()


def frame(opcode: int, payload: bytes) -> bytes:
    return encode_frame(opcode, payload, mask=None)


def test_lines_are_sent(app: Flask, sock: Sock, serve: Serve, terminal: Terminal) -> None:
    """The last of them may have no end."""
    received: list[str | bytes] = []

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        received.extend(ws.receive() for _ in range(4))

    terminal.type("one\ntwö\r\n\nfour".encode())
    terminal.end_input()
    terminal.connect(serve())
    assert received == ["one", "twö", "", "four"]


def test_messages_are_written_a_line_each(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send("one")
        ws.send("twö")

    assert terminal.connect(serve()).out == "one\ntwö\n"


def test_binary_messages_are_shown_in_hexadecimal(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(b"\x00\xff")
        ws.send(bytes(33))

    zeros = " ".join(["00"] * 32)
    assert terminal.connect(serve()).out == (
        f"<binary, 2 bytes: 00 ff>\n<binary, 33 bytes: {zeros} ...>\n"
    )


def test_on_a_terminal_control_characters_are_escaped(
    app: Flask,
    sock: Sock,
    serve: Serve,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send("\x1b[31mred\N{SNOWMAN}\n\tblue")

    assert terminal.connect(serve()).out == "< \\x1b[31mred\N{SNOWMAN}\n\tblue\n"


def test_elsewhere_messages_are_written_as_they_are(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send("\x07")

    assert terminal.connect(serve()).out == "\x07\n"


def test_compressed_messages_are_read(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send("x" * 1000)

    outcome = terminal.connect(serve())
    assert (outcome.out, "Connected, compressed" in outcome.err) == ("x" * 1000 + "\n", True)


def test_the_end_of_the_input_closes_with_1000(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    codes: queue.Queue[int | None] = queue.Queue()

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        assert list(ws) == []
        codes.put(ws.close_code)

    terminal.end_input()
    terminal.connect("--wait", "0", serve())
    assert codes.get(timeout=PATIENCE) == 1000


def test_times_may_be_longer_than_the_system_can_wait(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send("hello")

    terminal.end_input()
    assert terminal.connect("--timeout", "inf", "--wait", "inf", serve()).out == "hello\n"


def test_messages_after_the_end_of_the_input_are_waited_for(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        for message in ws:
            assert ws.receive(timeout=0.05) is None
            ws.send(f"{message!r} and back")

    terminal.type(b"there\n")
    terminal.end_input()
    assert terminal.connect(serve()).out == "'there' and back\n"


def test_an_interrupt_closes_with_1000(app: Flask, sock: Sock, serve: Serve) -> None:
    codes: queue.Queue[int | None] = queue.Queue()

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send("ready")
        assert list(ws) == []
        codes.put(ws.close_code)

    process = subprocess.Popen(
        [sys.executable, "-c", "from flask_ws.cli import ws; ws()", "connect", serve()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            process.send_signal(signal.SIGINT)
            process.wait(PATIENCE)
        finally:
            process.kill()
        assert (process.returncode, codes.get(timeout=PATIENCE)) == (0, 1000)
        assert process.stderr.read().splitlines()[-1] == b"Closed: 1000 normal closure"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1000, 0),
        (1001, 0),
        (1005, 0),
        (1002, 102),
        (1006, 106),
        (1011, 111),
        (1015, 115),
        (3000, 3),
        (3999, 3),
        (4000, 4),
        (4999, 4),
    ],
)
def test_the_exit_code_tells_the_close_code(code: int, expected: int) -> None:
    assert exit_code(code) == expected


@pytest.mark.parametrize("code", [1000, 1011, 4001])
def test_the_command_exits_with_it(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal, code: int
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.close(code, "enough")

    outcome = terminal.connect(serve())
    assert outcome.code == exit_code(code)
    assert outcome.err.splitlines()[-1] == f"Closed: {code} enough"


def test_a_lost_connection_is_a_1006(script: Script, terminal: Terminal) -> None:
    def answer(peer: Peer, key: str) -> None:
        peer.send_bytes(head(key))

    outcome = terminal.connect(script(answer))
    assert (outcome.code, "Closed: 1006" in outcome.err) == (106, True)


def test_a_close_frame_without_a_code_is_fine(script: Script, terminal: Terminal) -> None:
    def answer(peer: Peer, key: str) -> None:
        peer.send_bytes(head(key) + frame(CLOSE, b""))

    assert terminal.connect(script(answer)).code == 0


def test_frames_in_the_same_segment_as_the_101_are_read(script: Script, terminal: Terminal) -> None:
    def answer(peer: Peer, key: str) -> None:
        peer.send_bytes(
            head(key) + frame(TEXT, b"early") + frame(BINARY, b"\x01") + frame(CLOSE, b"\x03\xe8")
        )

    assert terminal.connect(script(answer)).out == "early\n<binary, 1 bytes: 01>\n"


def test_the_server_closes_tcp_first(script: Script, terminal: Terminal) -> None:
    """So that it is not the client that remembers the connection for minutes."""
    answered: list[int | None] = []

    def answer(peer: Peer, key: str) -> None:
        peer.send_bytes(head(key) + frame(CLOSE, b"\x03\xe8"))
        opcode, size = peer.take(2)
        assert opcode == 0x80 | CLOSE
        answered.append(len(peer.take((size & 0x7F) + 4)))

    terminal.connect(script(answer))
    until(lambda: answered == [6])


# The handshake


def test_the_path_and_the_query_are_requested(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    @sock.route("/chat/<room>")
    def chat(ws: WebSocket, room: str) -> None:
        ws.send_json([room, request.args["q"]])

    outcome = terminal.connect(serve() + "/chat/k%20ä b?q=ü%2B")
    assert outcome.out == '["k \\u00e4 b", "\\u00fc+"]\n'


def test_headers_are_sent(app: Flask, sock: Sock, serve: Serve, terminal: Terminal) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send_json([request.headers["X-One"], request.headers["X-Two"], request.host])

    outcome = terminal.connect(
        *("-H", "X-One: 1", "--header", "X-Two:a:b", "--header", "host: example"), serve()
    )
    assert outcome.out == '["1", "a:b", "example"]\n'


def test_a_name_and_a_password_in_the_url_are_sent(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        assert request.authorization is not None
        ws.send_json([request.authorization.username, request.authorization.password])

    outcome = terminal.connect(serve().replace("//", "//ada:b%40by@"))
    assert outcome.out == '["ada", "b@by"]\n'


def test_subprotocols_are_offered_in_order(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    @sock.route("/", subprotocols=["old", "new"])
    def handler(ws: WebSocket) -> None:
        pass

    outcome = terminal.connect("--subprotocol", "new", "--subprotocol", "old", serve())
    assert "Connected, subprotocol new, compressed.\n" in outcome.err


def test_a_subprotocol_that_the_server_does_not_speak_is_pointed_out(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        pass

    outcome = terminal.connect("--subprotocol", "soup", serve())
    assert "Connected, without a subprotocol: the server speaks none of these," in outcome.err


def test_the_responses_headers_are_shown_if_asked_for(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        pass

    @app.after_request
    def after(response: Response) -> Response:
        response.headers["X-After"] = "1"
        return response

    lines = terminal.connect("--include", serve()).err.splitlines()
    assert (lines[0], "X-After: 1" in lines) == ("HTTP/1.1 101 Switching Protocols", True)


def test_a_refusal_is_shown_with_its_text(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        pass

    outcome = terminal.connect("-H", "Origin: http://evil", serve())
    assert outcome.code == 1
    assert (
        "refused: 403 forbidden\npages of this origin may not connect here." in outcome.err.lower()
    )


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (404, "The command 'flask ws routes' lists the WebSocket routes of an app."),
        (200, "this URL is not a WebSocket, or a proxy on the way does not pass the headers"),
    ],
)
def test_a_refusal_that_does_not_say_why_is_explained(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal, status: int, hint: str
) -> None:
    @app.before_request
    def refuse() -> tuple[str, int]:
        return "a page", status

    outcome = terminal.connect(serve())
    assert (outcome.code, hint in outcome.err, "a page" in outcome.err) == (1, True, True)


def test_a_redirection_is_shown_with_its_target(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    @app.before_request
    def move() -> Any:
        return redirect("/elsewhere")

    outcome = terminal.connect(serve())
    assert outcome.code == 1
    # Before werkzeug 2.1 it is a whole URL.
    assert re.search(r"refused: 302 FOUND, to \S*/elsewhere\n", outcome.err)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Sec_WebSocket_Accept": "wrong"}, "Sec-WebSocket-Accept"),
        ({"Sec_WebSocket_Accept": None}, "Sec-WebSocket-Accept"),
        ({"Upgrade": "h2c"}, "does not upgrade"),
        ({"Connection": "keep-alive"}, "Connection: Upgrade"),
        ({"Sec_WebSocket_Protocol": "soup"}, "a subprotocol that was not offered"),
        ({"Sec_WebSocket_Extensions": "x-rot13"}, "an extension that was not offered"),
    ],
)
def test_a_wrong_101_is_turned_down(
    script: Script, terminal: Terminal, changes: dict[str, str | None], said: str
) -> None:
    def answer(peer: Peer, key: str) -> None:
        peer.send_bytes(head(key, **changes))

    outcome = terminal.connect(script(answer))
    assert (outcome.code, said in outcome.err) == (1, True), outcome


ESCAPES = "\x1b[31m\x9b31m\x07"


@pytest.mark.parametrize(
    "answer",
    [
        f"HTTP/1.1 403 {ESCAPES}\r\nContent-Length: 0\r\n\r\n",
        f"HTTP/1.1 302 Found\r\nLocation: /{ESCAPES}\r\n\r\n",
        f"HTTP/1.1 403 Forbidden\r\n{ESCAPES}: {ESCAPES}\r\nContent-Length: 0\r\n\r\n",
        f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(ESCAPES)}\r\n\r\n{ESCAPES}",
        f"{ESCAPES}\r\n\r\n",
    ],
    ids=["reason", "location", "header", "text", "no HTTP"],
)
def test_a_servers_answer_moves_no_cursor(script: Script, terminal: Terminal, answer: str) -> None:
    def send(peer: Peer, key: str) -> None:
        peer.send_bytes(answer.encode("latin-1"))

    said = terminal.connect("-i", script(send)).err
    assert said.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "header",
    ["Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Upgrade", "Connection"],
)
def test_a_wrong_header_of_a_101_moves_no_cursor(
    script: Script, terminal: Terminal, header: str
) -> None:
    def send(peer: Peer, key: str) -> None:
        peer.send_bytes(head(key, **{header: ESCAPES}))

    outcome = terminal.connect(script(send))
    assert outcome.err.replace("\n", "").isprintable()
    assert "The server's answer is wrong" in outcome.err


@pytest.mark.parametrize(
    "parameter", ["server_max_window_bits=99", "client_max_window_bits", "server_max_window_bits=x"]
)
def test_a_wrong_parameter_of_compression_is_turned_down(
    script: Script, terminal: Terminal, parameter: str
) -> None:
    def send(peer: Peer, key: str) -> None:
        peer.send_bytes(
            head(key, **{"Sec-WebSocket-Extensions": f"permessage-deflate; {parameter}"})
        )

    outcome = terminal.connect(script(send))
    assert f"a wrong parameter: {parameter}." in outcome.err


def test_a_message_past_max_size_closes_with_1009(script: Script, terminal: Terminal) -> None:
    def send(peer: Peer, key: str) -> None:
        peer.send_bytes(head(key) + frame(0x2, bytes(101)))
        peer.read_until_eof()

    assert terminal.connect("--max-size", "100", script(send)).code == 109


def test_a_compressed_message_is_not_inflated_past_max_size(
    script: Script, terminal: Terminal
) -> None:
    compressor = zlib.compressobj(wbits=-15)
    bomb = compressor.compress(bytes(2**20)) + compressor.flush(zlib.Z_SYNC_FLUSH)

    def send(peer: Peer, key: str) -> None:
        answer = head(key, **{"Sec-WebSocket-Extensions": "permessage-deflate"})
        peer.send_bytes(answer + encode_frame(0x2, bomb[:-4], mask=None, rsv=4))
        peer.read_until_eof()

    assert terminal.connect("--max-size", "1000", script(send)).code == 109


def test_http_1_0_is_turned_down(script: Script, terminal: Terminal) -> None:
    def answer(peer: Peer, key: str) -> None:
        peer.send_bytes(head(key).replace(b"HTTP/1.1", b"HTTP/1.0"))

    outcome = terminal.connect(script(answer))
    assert (outcome.code, "not of HTTP/1.1" in outcome.err) == (1, True)


def test_what_is_not_http_is_no_connection(script: Script, terminal: Terminal) -> None:
    def answer(peer: Peer, key: str) -> None:
        peer.send_bytes(b"220 mail.example ESMTP\r\n")

    outcome = terminal.connect(script(answer))
    assert (outcome.code, "BadStatusLine" in outcome.err) == (1, True)


def test_a_server_that_does_not_answer_is_given_up(script: Script, terminal: Terminal) -> None:
    given_up = threading.Event()

    def answer(peer: Peer, key: str) -> None:
        given_up.wait(PATIENCE)

    outcome = terminal.connect("--timeout", "0.2", script(answer))
    given_up.set()
    assert (outcome.code, "timed out" in outcome.err) == (1, True)


def test_an_unreachable_server_is_no_connection(terminal: Terminal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcome = terminal.connect(f"ws://127.0.0.1:{port}/")
    said = "Connection refused. Is the server running, and is this its port?"
    assert (outcome.code, said in outcome.err) == (1, True)


def test_a_host_that_does_not_exist_is_no_connection(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_none(*arguments: object, **named: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", find_none)
    outcome = terminal.connect("ws://nowhere.example/")
    said = "there is no host 'nowhere.example' (Name or service not known)"
    assert (outcome.code, said in outcome.err) == (1, True)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/",
        "localhost:5000",
        "ws://",
        "ws:///path",
        "ws://localhost:x/",
        "ws://localhost:99999/",
        "ws://[::1/",
        "",
    ],
)
def test_a_wrong_url_is_an_error_of_usage(terminal: Terminal, url: str) -> None:
    outcome = terminal.connect(url)
    assert (outcome.code, "Invalid value for 'URL'" in outcome.err) == (2, True)


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("http://localhost/chat", "ws://localhost/chat"),
        ("https://example.com/chat", "wss://example.com/chat"),
        ("localhost:5000", "ws://localhost:5000"),
        ("localhost/chat", "ws://localhost/chat"),
        ("127.0.0.1:5000/chat?a=b", "ws://127.0.0.1:5000/chat?a=b"),
        ("[::1]:5000/chat", "ws://[::1]:5000/chat"),
        ("example.com/chat", "ws://example.com/chat"),
    ],
)
def test_the_url_that_may_be_meant_is_named(terminal: Terminal, url: str, meant: str) -> None:
    said = " ".join(terminal.connect(url).err.split())
    assert said.endswith(f"Did you mean {meant}?")


@pytest.mark.parametrize("url", ["chat", "ftp://localhost/", "ws://", "//chat", ""])
def test_where_none_is_likely_none_is_named(terminal: Terminal, url: str) -> None:
    assert "Did you mean" not in terminal.connect(url).err


@pytest.mark.parametrize("header", ["X", ": 1", "X Y: 1", "X: 1\r\nY: 2", "X: \x00"])
def test_a_wrong_header_is_an_error_of_usage(terminal: Terminal, header: str) -> None:
    outcome = terminal.connect("-H", header, "ws://localhost/")
    assert (outcome.code, "Invalid value for '--header'" in outcome.err) == (2, True)


def test_help_tells_the_exit_codes() -> None:
    lines = connect.get_help(click.Context(connect)).splitlines()
    assert "  102 - 115  closed with 1002 to 1015: 106 is a lost connection (1006)," in [
        line[2:] for line in lines
    ]


# TLS


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA, sock: Sock, serve: Serve) -> str:
    """The URL of an echo over TLS."""

    @sock.route("/")
    def handler(ws: WebSocket) -> None:
        ws.send(ws.receive())

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    return serve(context)


def test_wss_is_tls(
    secure: str,
    authority: trustme.CA,
    terminal: Terminal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    terminal.type(b"hello\n")
    outcome = terminal.connect(secure)
    assert (outcome.code, outcome.out) == (0, "hello\n")


def test_an_untrusted_certificate_is_turned_down(secure: str, terminal: Terminal) -> None:
    outcome = terminal.connect(secure)
    assert (outcome.code, "--insecure" in outcome.err) == (1, True)


def test_an_untrusted_certificate_can_be_accepted(secure: str, terminal: Terminal) -> None:
    terminal.type(b"hello\n")
    assert terminal.connect("--insecure", secure).out == "hello\n"


def test_an_authority_of_ones_own_is_trusted(
    secure: str, authority: trustme.CA, terminal: Terminal, tmp_path: Path
) -> None:
    file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    terminal.type(b"hello\n")
    assert terminal.connect("--ca", str(file), secure).out == "hello\n"


def test_a_file_without_certificates_is_an_error_of_usage(
    terminal: Terminal, tmp_path: Path
) -> None:
    file = tmp_path / "empty.pem"
    file.write_text("nothing")
    outcome = terminal.connect("--ca", str(file), "wss://localhost/")
    assert (outcome.code, "'--ca'" in outcome.err) == (2, True)


def test_a_server_without_tls_is_told_from_one_with_it(
    app: Flask, sock: Sock, serve: Serve, terminal: Terminal
) -> None:
    sock.route("/")(handle)
    url = serve()
    outcome = terminal.connect(url.replace("ws:", "wss:"))
    said = f"the server may not speak TLS on this port; if so, try {url}"
    assert (outcome.code, said in outcome.err) == (1, True)


def test_a_server_with_tls_is_told_from_one_without(secure: str, terminal: Terminal) -> None:
    outcome = terminal.connect(secure.replace("wss:", "ws:"))
    assert (outcome.code, f"if it speaks TLS on this port, try {secure}" in outcome.err) == (
        1,
        True,
    )
