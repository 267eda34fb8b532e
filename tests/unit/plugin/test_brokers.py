from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Flask

from flask_ws import Broker, ConfigurationError, Sock, hookimpl
from flask_ws.plugin.manager import Plugins, plugins
from flask_ws.plugin.memory import MemoryBroker


def test_nothing_of_memory_is_anywhere_else() -> None:
    broker = MemoryBroker()
    broker.start(lambda channel, payload, position=None: pytest.fail("there is nobody else"))
    broker.subscribe("news")
    broker.publish("news", b"hello")
    broker.unsubscribe("news")
    assert broker.channels("") is None
    broker.close()


def test_that_it_went_away_and_came_back_is_logged_once_each(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = Broker()
    broker.came_back()
    assert (broker.is_away, caplog.records) == (False, [])
    for _ in range(2):
        broker.went_away("no route")
    assert broker.is_away
    for _ in range(2):
        broker.came_back()
    assert not broker.is_away
    away, back = caplog.records
    assert away.levelno == back.levelno == logging.WARNING
    assert away.getMessage().endswith("no route")
    assert "back" in back.getMessage()


def test_the_plugin_that_knows_the_url_opens_the_broker(no_plugins: Plugins) -> None:
    broker = MemoryBroker()

    class Knows:
        @staticmethod
        @hookimpl
        def flask_ws_open_broker(url: str) -> Broker | None:
            return broker if url == "pigeon://loft" else None

    no_plugins.register(Knows)
    try:
        assert no_plugins.open_broker("pigeon://loft") is broker
        with pytest.raises(ConfigurationError):
            no_plugins.open_broker("owl://barn")
    finally:
        no_plugins.unregister(Knows)


@pytest.mark.parametrize("url", [None, "memory://", "memory:"])
def test_memory_needs_no_plugin(no_plugins: Plugins, app: Flask, url: str | None) -> None:
    app.config["SOCK_BROKER_URL"] = url
    Sock(app)
    assert isinstance(plugins.open_broker(url or "memory://"), MemoryBroker)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://localhost", 'pip install "flask-ws[redis]"'),
        ("rediss://localhost", 'pip install "flask-ws[redis]"'),
        ("unix:///run/redis.sock", 'pip install "flask-ws[redis]"'),
        ("postgresql://localhost/app", 'pip install "flask-ws[postgresql]"'),
        ("postgres://localhost/app", 'pip install "flask-ws[postgresql]"'),
        ("pigeon://loft", "no installed plugin knows the scheme 'pigeon': there are memory://"),
        ("localhost", "must be a URL"),
        ("", "must be a URL"),
        (5, "must be a URL, not a int"),
    ],
)
def test_a_url_that_nobody_knows_fails_when_the_app_is_initialised(
    no_plugins: Plugins, app: Flask, url: Any, message: str
) -> None:
    app.config["SOCK_BROKER_URL"] = url
    with pytest.raises(ConfigurationError) as caught:
        Sock(app)
    assert message in str(caught.value)


def test_an_error_shows_no_password(no_plugins: Plugins, app: Flask) -> None:
    for url in ("redis://user:secret@localhost", "secret"):
        app.config["SOCK_BROKER_URL"] = url
        with pytest.raises(ConfigurationError) as caught:
            Sock(app)
        assert "secret" not in str(caught.value)


def test_a_prefix_is_text(app: Flask) -> None:
    app.config["SOCK_BROKER_PREFIX"] = b"site:"
    with pytest.raises(ConfigurationError, match="SOCK_BROKER_PREFIX must be text"):
        Sock(app)
