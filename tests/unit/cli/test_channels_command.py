"""``flask ws publish``, ``channels``, ``presence`` and ``disconnect``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from click.testing import Result
from flask import Flask

from flask_ws import Broker, BrokerError, Members, Position, Sock, hookimpl
from flask_ws.channels import opening as opening_module
from flask_ws.channels.settings import IDENTITY
from flask_ws.cli import ws
from flask_ws.plugin.manager import Plugins


class NotingBroker(Broker):
    """Notes what it is to publish."""

    tracks_presence = True

    def __init__(self) -> None:
        super().__init__()
        self.published: list[tuple[str, bytes]] = []
        self.found: dict[str, int] | None = {}
        self.members: dict[str, bytes] = {}
        self.error: BrokerError | None = None

    def start(self, deliver: Callable[[str, bytes], object]) -> None:
        pass

    def publish(self, channel: str, payload: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.published.append((channel, payload))

    def channels(self, prefix: str) -> dict[str, int] | None:
        if self.error is not None:
            raise self.error
        return self.found

    def read_members(self, channel: str) -> Members:
        if self.error is not None:
            raise self.error
        assert channel == "flask_ws:\x1fpresence:room"
        return Members(Position("epoch", 2), self.members)

    def close(self) -> None:
        pass


@pytest.fixture
def broker(no_plugins: Plugins, app: Flask) -> Iterator[NotingBroker]:
    broker = NotingBroker()

    class Plugin:
        @staticmethod
        @hookimpl
        def flask_ws_open_broker(url: str) -> Broker | None:
            return broker if url.startswith("noting:") else None

    no_plugins.register(Plugin)
    app.config["SOCK_BROKER_URL"] = "noting://"
    yield broker
    no_plugins.unregister(Plugin)
    opening_module.close_brokers()


def run(app: Flask, *arguments: str) -> Result:
    Sock(app)
    return app.test_cli_runner().invoke(ws, arguments)


def test_a_text_is_published(app: Flask, broker: NotingBroker) -> None:
    result = run(app, "publish", "news", "grüße")
    assert (result.exit_code, result.output) == (0, "")
    ((channel, payload),) = broker.published
    assert channel == "flask_ws:news"
    assert payload.endswith("grüße".encode())


def test_to_publish_fails_where_the_broker_is_away(app: Flask, broker: NotingBroker) -> None:
    broker.error = BrokerError("no route")
    result = run(app, "publish", "news", "hello")
    assert result.exit_code == 1
    assert result.output == ("Error: The broker is away: nobody has got the message. no route\n")


@pytest.mark.parametrize(
    "command",
    [["channels"], ["publish", "news", "hello"], ["disconnect", "ada"], ["presence", "room"]],
)
def test_one_thing_is_said_of_a_broker_that_is_away(
    app: Flask, broker: NotingBroker, caplog: pytest.LogCaptureFixture, command: list[str]
) -> None:
    """Not by the log as well, which speaks of the subscribers of a server's process."""
    broker.error = BrokerError("no route")
    result = run(app, *command)
    assert result.output.count("no route") == 1
    assert caplog.records == []


def test_the_log_is_heard_again_afterwards(
    app: Flask, broker: NotingBroker, caplog: pytest.LogCaptureFixture
) -> None:
    run(app, "publish", "news", "hello")
    logging.getLogger("flask_ws").warning("hello")
    assert [record.getMessage() for record in caplog.records] == ["hello"]


def test_lines_of_the_input_are_published(app: Flask, broker: NotingBroker) -> None:
    Sock(app)
    runner = app.test_cli_runner()
    result = runner.invoke(ws, ["publish", "news", "-"], input="grüße\nand more")
    assert result.exit_code == 0
    (_, first), (_, second) = broker.published
    assert first.endswith("grüße".encode())
    assert second.endswith(b"and more")


def test_a_channel_without_a_name_is_refused(app: Flask, broker: NotingBroker) -> None:
    result = run(app, "publish", "", "hello")
    assert result.exit_code == 1
    assert "must not be empty" in result.output


def test_channels_are_listed_by_name(app: Flask, broker: NotingBroker) -> None:
    users = {"flask_ws:" + IDENTITY + "ada": 2}
    broker.found = {"flask_ws:news": 4, "flask_ws:chat:1": 1, "someone else's": 7, **users}
    result = run(app, "channels")
    assert result.exit_code == 0
    assert [line.split() for line in result.output.splitlines()] == [
        ["Channel", "Processes"],
        ["-------", "---------"],
        ["chat:1", "1"],
        ["news", "4"],
    ]


def test_no_channels_are_said_so(app: Flask, broker: NotingBroker) -> None:
    result = run(app, "channels")
    assert (result.exit_code, result.output) == (0, "Nobody is subscribed to a channel.\n")


def test_a_broker_that_cannot_tell_is_said_so(app: Flask, broker: NotingBroker) -> None:
    broker.found = None
    result = run(app, "channels")
    assert result.exit_code == 1
    assert "cannot tell" in result.output


def test_a_broker_that_is_away_is_said_so(app: Flask, broker: NotingBroker) -> None:
    broker.error = BrokerError("no route")
    result = run(app, "channels")
    assert result.exit_code == 1
    assert "The broker is away: no route" in result.output


@pytest.mark.parametrize("command", [["channels"], ["publish", "news", "hello"]])
def test_without_a_broker_a_command_reaches_nobody(app: Flask, command: list[str]) -> None:
    result = run(app, *command)
    assert result.exit_code == 1
    assert "SOCK_BROKER_URL is memory://" in result.output


def test_a_user_is_disconnected(app: Flask, broker: NotingBroker) -> None:
    """The broker carries a close frame on the user's own channel."""
    result = run(app, "disconnect", "ada", "--code", "4100", "--reason", "grüße")
    assert (result.exit_code, result.output) == (0, "")
    ((channel, payload),) = broker.published
    assert channel == f"flask_ws:{IDENTITY}ada"
    assert payload.endswith((4100).to_bytes(2, "big") + "grüße".encode())


def test_nobody_is_disconnected_where_the_broker_is_away(app: Flask, broker: NotingBroker) -> None:
    broker.error = BrokerError("no route")
    result = run(app, "disconnect", "ada")
    assert result.exit_code == 1
    assert result.output == "Error: The broker is away: nobody was disconnected. no route\n"


@pytest.mark.parametrize("arguments", [[""], ["ada", "--code", "1005"]])
def test_whom_and_with_what_is_checked(
    app: Flask, broker: NotingBroker, arguments: list[str]
) -> None:
    result = run(app, "disconnect", *arguments)
    assert result.exit_code == 1
    assert "Error: " in result.output
    assert broker.published == []


def test_who_is_there_is_shown(app: Flask, broker: NotingBroker) -> None:
    assert run(app, "presence", "room").output == "Nobody is there.\n"
    broker.members = {
        "a.1": b'"8" {"name":"Bob"}',
        "b.1": b'"7" {"name":"Ada"}',
        "b.2": b'"8" {"away":true}',
    }
    lines = run(app, "presence", "room").output.splitlines()
    assert [line.split() for line in lines if "---" not in line] == [
        ["Key", "Infos"],
        ["7", '{"name":', '"Ada"}'],
        ["8", '{"away":', "true},", '{"name":', '"Bob"}'],
    ]


def test_a_broker_that_cannot_tell_who_is_there_is_named(
    app: Flask, broker: NotingBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NotingBroker, "tracks_presence", False)
    result = run(app, "presence", "room")
    assert (result.exit_code, result.output) == (
        1,
        "Error: This broker cannot tell who is there.\n",
    )


def test_a_channel_that_cannot_be_one_is_refused_there(app: Flask, broker: NotingBroker) -> None:
    result = run(app, "presence", "")
    assert (result.exit_code, result.output) == (1, "Error: A channel's name must not be empty.\n")
