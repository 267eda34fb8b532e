from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import distributions, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from tests.support.memory import MemoryServer, in_thread

from flask_ws import NoSocket, Sock, hookimpl
from flask_ws.plugin import manager as plugins
from flask_ws.plugin.hookspecs import ServerSocket
from flask_ws.plugin.manager import FoundPlugin, Plugins, hint

GROUP = "flask_ws_test"
CORE = version("flask-ws")

CLAIMS = """
from flask_ws import hookimpl
@hookimpl
def flask_ws_get_socket(environ):
    return environ.get({key!r})
"""
COUNTS = "import builtins; builtins.flask_ws_test_loads.append(__name__)\n"

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution with a module and an entry point for it."""
    monkeypatch.setattr(plugins, "distributions", lambda: distributions(path=[str(tmp_path)]))
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def install(
        name: str, source: str, *, version: str = "1.0", target: str = "", requires: str = ""
    ) -> None:
        module = f"flask_ws_test_{name}"
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: flask-ws-test-{name}\nVersion: {version}\n"
            + (f"Requires-Dist: {requires}\n" if requires else "")
        )
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {target or module}\n")

    yield install
    for module in set(sys.modules) - before:
        if module.startswith("flask_ws_test_"):
            del sys.modules[module]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The modules with COUNTS that have been imported."""
    import builtins

    loads: list[str] = []
    monkeypatch.setattr(builtins, "flask_ws_test_loads", loads, raising=False)
    return loads


def a_socket() -> ServerSocket:
    return ServerSocket(sock=SimpleNamespace())  # type: ignore[arg-type]


# Loading


def test_nothing_is_imported_before_the_first_request(install: Install, loads: list[str]) -> None:
    install("one", COUNTS)
    Plugins(GROUP)

    assert loads == []


def test_a_plugin_is_imported_at_the_first_request(install: Install, loads: list[str]) -> None:
    install("one", COUNTS)
    Plugins(GROUP).get_socket({})

    assert loads == ["flask_ws_test_one"]


def test_plugins_are_looked_for_once(
    install: Install, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("one", COUNTS)
    found = Plugins(GROUP)
    found.get_socket({})
    monkeypatch.setattr(plugins, "distributions", None)

    found.get_socket({})


@pytest.mark.parametrize("hook", ["flask_ws_open_broker(url)", "flask_ws_get_socket(environ)"])
def test_a_broker_is_told_from_a_server(install: Install, hook: str) -> None:
    install("one", f"from flask_ws import hookimpl\n\n@hookimpl\ndef {hook}: ...\n")
    (found,) = Plugins(GROUP).load()

    assert found.is_broker == ("broker" in hook)


def test_threads_that_load_at_once_load_once(install: Install, loads: list[str]) -> None:
    install("one", COUNTS)
    found = Plugins(GROUP)
    futures = [in_thread(found.load) for _ in range(8)]

    assert len({id(future.result(10)) for future in futures}) == 1


def test_whoever_handles_what_is_logged_of_a_plugin_may_ask_for_them(install: Install) -> None:
    """As one does that publishes lines on a channel."""
    install("one", "1 / 0")
    found = Plugins(GROUP)
    asked: list[list[FoundPlugin]] = []

    class Asking(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            asked.append(found.load())

    handler = Asking()
    logging.getLogger("flask_ws").addHandler(handler)
    try:
        (plugin,) = in_thread(found.load).result(10)
    finally:
        logging.getLogger("flask_ws").removeHandler(handler)
    assert asked == [[]]
    assert isinstance(plugin.error, ZeroDivisionError)


def test_a_distribution_that_is_seen_twice_is_loaded_once(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("one", "")
    twice = [str(tmp_path), str(tmp_path)]
    monkeypatch.setattr(plugins, "distributions", lambda: distributions(path=twice))

    assert len(Plugins(GROUP).load()) == 1


def test_a_plugin_is_known_by_its_distribution(install: Install) -> None:
    install("one", "", version="1.2.3")

    assert Plugins(GROUP).load() == [
        FoundPlugin("one", "flask_ws_test_one", "flask-ws-test-one", "1.2.3")
    ]


def test_other_groups_are_none_of_our_business(install: Install, loads: list[str]) -> None:
    install("one", COUNTS)
    Plugins("flask_ws_test_other").load()

    assert loads == []


# Failing


BROKEN = {
    "does not import": "import a_module_that_is_not_there",
    "raises": "1 / 0",
    "knows no such hook": (
        "from flask_ws import hookimpl\n@hookimpl\ndef flask_ws_get_sock(environ): ...\n"
    ),
    "has the wrong arguments": (
        "from flask_ws import hookimpl\n@hookimpl\ndef flask_ws_get_socket(environment): ...\n"
    ),
}


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_a_plugin_that_fails_is_reported_by_name(
    install: Install, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    install("broken", source)
    Plugins(GROUP).load()

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith(
        f"Plugin broken (flask-ws-test-broken 1.0) could not be loaded by flask-ws {CORE} and is "
        "left out: "
    )


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_a_plugin_that_fails_does_not_take_the_others_down(install: Install, source: str) -> None:
    install("abroken", source)
    install("works", CLAIMS.format(key="works"))
    install("zbroken", source)
    expected = a_socket()

    assert Plugins(GROUP).get_socket({"works": expected}) is expected


@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_what_a_failing_plugin_raised_is_kept(install: Install, source: str) -> None:
    install("broken", source)
    (found,) = Plugins(GROUP).load()

    assert isinstance(found.error, Exception)


def test_an_entry_point_to_nothing_is_reported_by_name(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("gone", "", target="flask_ws_test_elsewhere")
    Plugins(GROUP).load()

    assert "Plugin gone (flask-ws-test-gone 1.0)" in caplog.text


def test_a_failing_plugin_is_reported_once(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("broken", "1 / 0")
    found = Plugins(GROUP)
    found.get_socket({})
    found.get_socket({})

    assert len(caplog.records) == 1


# Asking


def test_the_plugin_that_claims_a_request_is_the_one_that_counts(install: Install) -> None:
    install("one", CLAIMS.format(key="one"))
    install("two", CLAIMS.format(key="two"))
    expected = a_socket()

    assert Plugins(GROUP).get_socket({"two": expected}) is expected


def test_a_request_that_no_plugin_claims_has_no_socket(install: Install) -> None:
    install("one", CLAIMS.format(key="one"))

    assert Plugins(GROUP).get_socket({}) is None


def test_a_plugin_can_be_registered_by_hand() -> None:
    expected = a_socket()

    class Plugin:
        @hookimpl
        def flask_ws_get_socket(self, environ: dict[str, Any]) -> ServerSocket:
            return expected

    found = Plugins(GROUP)
    found.register(Plugin())

    assert found.get_socket({}) is expected


def test_a_plugin_that_was_taken_back_is_not_asked() -> None:
    class Plugin:
        @hookimpl
        def flask_ws_get_socket(self, environ: dict[str, Any]) -> ServerSocket:
            raise AssertionError

    found, plugin = Plugins(GROUP), Plugin()
    found.register(plugin)
    found.unregister(plugin)

    assert found.get_socket({}) is None


# Failing at a request


FAILS = """
from flask_ws import ServerSocket, hookimpl
@hookimpl
def flask_ws_get_socket(environ):
    if "failing" in environ:
        {statement}
"""
FAILING = {
    "raises": (FAILS.format(statement="1 / 0"), "ZeroDivisionError: division by zero"),
    "returns something else": (
        FAILS.format(statement="return environ['failing']"),
        "TypeError: flask_ws_get_socket returned 1, not a ServerSocket",
    ),
    "is newer than the core": (
        FAILS.format(statement="return ServerSocket(environ['failing'], shiny=True)"),
        "unexpected keyword argument 'shiny'",
    ),
}

each_failure = pytest.mark.parametrize(
    ("source", "message"), [pytest.param(*case, id=name) for name, case in FAILING.items()]
)


@each_failure
def test_a_plugin_that_fails_at_a_request_is_logged_with_both_versions(
    install: Install, source: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    install("one", source)
    with pytest.raises(NoSocket):
        Plugins(GROUP).get_socket({"failing": 1})

    (record,) = caplog.records
    assert record.getMessage() == f"Plugin one (flask-ws-test-one 1.0) failed with flask-ws {CORE}."
    assert message in caplog.text


@each_failure
def test_a_plugin_that_fails_at_a_request_is_named_to_the_client(
    install: Install, source: str, message: str
) -> None:
    """And nothing else of the failure."""
    install("one", source)
    with pytest.raises(NoSocket) as caught:
        Plugins(GROUP).get_socket({"failing": 1})

    assert str(caught.value) == (
        "A plugin failed to find the socket behind this request: one (flask-ws-test-one 1.0). "
        "The log has the details."
    )


@each_failure
def test_a_plugin_that_fails_at_a_request_stops_no_other(
    install: Install, source: str, message: str
) -> None:
    install("afailing", source)
    install("works", CLAIMS.format(key="works"))
    install("zfailing", source)
    expected = a_socket()

    assert Plugins(GROUP).get_socket({"failing": 1, "works": expected}) is expected


def test_a_plugin_can_say_why_its_server_has_no_socket(install: Install) -> None:
    install("one", "import flask_ws\n" + FAILS.format(statement="raise flask_ws.NoSocket('--x')"))
    with pytest.raises(NoSocket, match=r"^--x$"):
        Plugins(GROUP).get_socket({"failing": 1})


def test_that_there_is_no_socket_is_no_failure(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("one", "import flask_ws\n" + FAILS.format(statement="raise flask_ws.NoSocket('--x')"))
    install("two", FAILS.format(statement="1 / 0"))
    with pytest.raises(NoSocket, match=r"^--x$"):
        Plugins(GROUP).get_socket({"failing": 1})

    assert all("Plugin two" in record.getMessage() for record in caplog.records)


# Versions


def test_a_plugin_that_requires_a_newer_core_is_not_even_imported(
    install: Install, loads: list[str]
) -> None:
    """An installer would not put them together; people who force it do."""
    install("new", COUNTS, requires="flask-ws>=99.1")
    (found,) = Plugins(GROUP).load()

    assert loads == []
    assert str(found.error) == f"it requires flask-ws>=99.1, and this is {CORE}"


@pytest.mark.parametrize(
    "requires",
    [
        "flask-ws",
        "flask-ws>=0.1",
        "flask-ws (>=0.1)",
        "flask-ws>=0",
        f"flask-ws>={CORE}.0",
        "flask-ws<100,>=0.1",
        "flask-ws[all]>=0.1",
        "flask-ws!=99",
        # Another distribution.
        "flask-ws-gevent>=99",
    ],
)
def test_a_plugin_that_this_core_suffices_for_is_loaded(install: Install, requires: str) -> None:
    install("one", "", requires=requires)
    (found,) = Plugins(GROUP).load()

    assert found.error is None


@pytest.mark.parametrize("requires", ["flask_ws>=99", "flask-ws[all] (>=99)", "flask-ws<100,>=99"])
def test_however_a_requirement_is_written(install: Install, requires: str) -> None:
    install("new", "", requires=requires)
    (found,) = Plugins(GROUP).load()

    assert found.error is not None


def test_a_hook_of_a_newer_core_may_be_marked_as_optional(install: Install) -> None:
    install(
        "new",
        "from flask_ws import hookimpl\n"
        "@hookimpl(optionalhook=True)\ndef flask_ws_of_the_future(environ): ...\n"
        + CLAIMS.format(key="new"),
    )
    expected = a_socket()

    assert Plugins(GROUP).get_socket({"new": expected}) is expected


def test_a_plugin_need_not_know_every_argument_of_a_hook(install: Install) -> None:
    """So that hooks can get more of them."""
    install(
        "old",
        "from flask_ws import hookimpl, ServerSocket\n"
        "@hookimpl\ndef flask_ws_get_socket(): return ServerSocket(None)\n",
    )

    assert Plugins(GROUP).get_socket({}) is not None


# The hint


def installed(monkeypatch: pytest.MonkeyPatch, *names: str, error: Exception | None = None) -> None:
    found = [FoundPlugin(name, f"flask_ws_{name}", name, "1.0", error) for name in names]
    monkeypatch.setattr(plugins.plugins, "_found", found)


SERVERS = [
    ({"werkzeug.socket": None, "SERVER_SOFTWARE": "Werkzeug/3.1"}, "werkzeug"),
    ({"SERVER_SOFTWARE": "Werkzeug/3.1"}, "werkzeug"),
    ({"gunicorn.socket": None, "SERVER_SOFTWARE": "gunicorn/27.0.1"}, "gunicorn"),
    ({"SERVER_SOFTWARE": "gunicorn/27.0.1"}, "gunicorn"),
    ({"eventlet.input": None}, "eventlet"),
    ({"SERVER_SOFTWARE": "gevent/24.2 Python/3.11"}, "gevent"),
    ({"waitress.client_disconnected": None, "SERVER_SOFTWARE": "mine"}, "waitress"),
    ({"SERVER_SOFTWARE": "waitress"}, "waitress"),
    ({"uwsgi.version": b"2.0.30"}, "uwsgi"),
]


@pytest.mark.parametrize(("environ", "extra"), SERVERS)
def test_the_hint_names_the_extra_for_the_server(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, Any], extra: str
) -> None:
    installed(monkeypatch)

    assert hint(environ) == f'Install the plugin for this server: pip install "flask-ws[{extra}]"'


@pytest.mark.parametrize(("environ", "extra"), SERVERS)
def test_the_hint_does_not_ask_for_what_is_installed(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, Any], extra: str
) -> None:
    installed(monkeypatch, extra)

    assert hint(environ).startswith(f"The {extra} plugin found no socket behind this request.")


def test_a_plugin_that_failed_to_load_counts_as_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, "gevent", error=ImportError("gevent"))

    assert 'pip install "flask-ws[gevent]"' in hint({"SERVER_SOFTWARE": "gevent/24.2"})


def test_the_hint_for_an_unknown_server_names_it_and_what_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch, "werkzeug", "gevent")

    assert hint({"SERVER_SOFTWARE": "Other/1.0"}) == (
        "No installed plugin knows the server 'Other/1.0' (installed: gevent, werkzeug). flask-ws "
        "has plugins for asgi, eventlet, gevent, gunicorn, uwsgi, waitress, werkzeug: "
        'pip install "flask-ws[NAME]"'
    )


def test_the_hint_for_an_unknown_server_names_no_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "werkzeug")
    plugins.plugins.load().append(FoundPlugin("redis", "", "", "", is_broker=True))

    assert "(installed: werkzeug)" in hint({})


def test_the_hint_for_a_server_that_does_not_say_who_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed(monkeypatch)

    assert hint({}).startswith("No installed plugin knows this server (installed: none).")


# 501


def test_the_body_of_a_501_is_what_the_plugin_says(
    app: Flask, sock: Sock, server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get_socket(environ: dict[str, Any]) -> ServerSocket:
        raise NoSocket("Start the server with --threads.")

    monkeypatch.setattr(plugins.plugins, "get_socket", get_socket)
    sock.route("/")(lambda ws: None)
    response = server.refuse(app)

    assert response.status == 501
    assert "Start the server with --threads." in response.text


def test_a_server_that_no_plugin_knows_is_answered_with_501(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(lambda ws: None)

    assert server.refuse(app, environ={"memory.socket": None}).status == 501


def test_the_body_of_a_501_says_what_to_install(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(lambda ws: None)
    response = server.refuse(app, environ={"memory.socket": None, "eventlet.input": None})

    assert "flask-ws[eventlet]" in response.text


def test_the_log_of_a_501_says_what_to_install(
    app: Flask, sock: Sock, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    sock.route("/")(lambda ws: None)
    server.refuse(app, environ={"memory.socket": None, "eventlet.input": None})

    assert caplog.messages == [
        (
            "WebSocket handshake from 127.0.0.1 for / refused: 501 Install the plugin for this "
            'server: pip install "flask-ws[eventlet]"'
        )
    ]
