"""The public names of flask_ws, which change on purpose: here first."""

from __future__ import annotations

import flask_ws
from flask_ws import testing

NAMES = {
    "AsyncChannelView",
    "AsyncWebSocket",
    "AsyncWebSocketView",
    "Broker",
    "BrokerError",
    "BrokerHealth",
    "BrokerListener",
    "BrokerWish",
    "ChannelView",
    "Concurrency",
    "ConfigurationError",
    "ConnectionClosed",
    "FlaskWSError",
    "History",
    "HomeThread",
    "Identity",
    "Lease",
    "Listening",
    "ListeningBroker",
    "LogFilter",
    "MemberChange",
    "Members",
    "Message",
    "NoSocket",
    "Options",
    "Position",
    "Published",
    "Retention",
    "RouteStats",
    "ServerMessages",
    "ServerSocket",
    "Sock",
    "Stats",
    "Subscription",
    "WebSocket",
    "WebSocketView",
    "borrow_socket",
    "broker_away",
    "broker_back",
    "connection_closed",
    "connection_opened",
    "handshake_refused",
    "hookimpl",
    "notice_stop",
    "slow_reader",
    "take_buffered",
    "unwrap_input",
}

TESTING_NAMES = {
    "AsyncClientWebSocket",
    "BrokerSuite",
    "Capabilities",
    "ClientWebSocket",
    "HandshakeRefused",
    "ServerSuite",
    "Setup",
    "aconnect",
    "connect",
}


def test_the_public_names_are_these() -> None:
    assert set(flask_ws.__all__) == NAMES


def test_the_public_names_of_testing_are_these() -> None:
    assert set(testing.__all__) == TESTING_NAMES


def test_each_name_is_there() -> None:
    for module in (flask_ws, testing):
        for name in module.__all__:
            assert hasattr(module, name)
