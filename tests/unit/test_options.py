from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from tests.support.memory import MemoryServer

from flask_ws import ConfigurationError, FlaskWSError, Options, Sock
from flask_ws.system import TIMEOUT_MAX

DEFAULTS = {
    "ping_interval": 20.0,
    "ping_timeout": 20.0,
    "close_timeout": 5.0,
    "max_message_size": 1048576,
    "message_timeout": 120.0,
    "max_queue": 16,
    "max_queue_bytes": 1048576,
    "compression": True,
    "subprotocols": (),
    "allowed_origins": None,
    "max_outbox": 1048576,
    "max_subscriptions": 256,
    "presence_max_joins": 256,
    "presence_max_info": 1024,
    "max_handshake_size": 65536,
    "detach": True,
    "cancel_on_close": True,
    "max_threads": 1000,
    "max_connections": 10_000,
    "max_buffered": 268435456,
    "max_per_client": None,
    "rate": None,
    "rate_burst": None,
    "rate_action": "slow",
    "client_key": None,
    "workers": 2,
    "drain": 0.0,
    "handshake_rate": None,
    "presence_grace": 3.0,
    "presence_lease": 15.0,
    "blocked_after": 0.5,
    "uvloop": True,
}

# Name, value given, value read.
GOOD: list[tuple[str, Any, Any]] = [
    ("ping_interval", 5, 5),
    ("ping_interval", 0.5, 0.5),
    ("ping_interval", None, None),
    ("ping_timeout", 3, 3),
    ("ping_timeout", None, None),
    ("close_timeout", 0.1, 0.1),
    ("max_message_size", 1, 1),
    ("max_per_client", 3, 3),
    ("rate", "120/min", 2.0),
    ("rate", 0.5, 0.5),
    ("rate_action", "drop", "drop"),
    ("max_message_size", None, None),
    ("message_timeout", 0.5, 0.5),
    ("message_timeout", None, None),
    ("max_queue", 1, 1),
    ("max_queue_bytes", 1, 1),
    ("compression", False, False),
    ("subprotocols", ["a", "b"], ("a", "b")),
    ("subprotocols", ("a",), ("a",)),
    ("subprotocols", "a", ("a",)),
    ("subprotocols", None, ()),
    ("allowed_origins", None, None),
    ("allowed_origins", "*", "*"),
    ("allowed_origins", "https://a.example", ("https://a.example",)),
    ("allowed_origins", ["https://a.example", "null"], ("https://a.example", "null")),
    ("max_outbox", 65536, 65536),
    ("max_subscriptions", 1, 1),
    ("max_handshake_size", 4096, 4096),
    ("detach", False, False),
]
GOOD_PROCESS: list[tuple[str, Any, Any]] = [
    ("max_threads", 1, 1),
    ("max_connections", 7, 7),
    ("max_buffered", 2**20, 2**20),
    ("max_buffered", None, None),
    ("workers", 4, 4),
    ("drain", 20, 20),
    ("handshake_rate", 0.5, 0.5),
    ("handshake_rate", None, None),
]

SECONDS = "a number of seconds above 0"
BAD: list[tuple[str, Any, str]] = [
    ("ping_interval", 0, f"{SECONDS}, or None"),
    ("ping_interval", -1, f"{SECONDS}, or None"),
    ("ping_interval", float("nan"), f"{SECONDS}, or None"),
    ("ping_interval", "20", f"{SECONDS}, or None"),
    ("ping_interval", True, f"{SECONDS}, or None"),
    ("ping_timeout", 0, f"{SECONDS}, or None"),
    ("close_timeout", None, SECONDS),
    ("close_timeout", 0, SECONDS),
    ("max_message_size", 0, "a number of bytes of at least 1, or None"),
    ("max_message_size", 1.5, "a number of bytes of at least 1, or None"),
    ("max_queue", 0, "a whole number of at least 1"),
    ("max_queue", None, "a whole number of at least 1"),
    ("message_timeout", 0, f"{SECONDS}, or None"),
    ("max_queue_bytes", None, "a number of bytes of at least 1"),
    ("compression", 1, "True or False"),
    ("compression", "yes", "True or False"),
    ("subprotocols", 5, "a list of names"),
    ("subprotocols", [1], "a list of names"),
    ("subprotocols", [""], "a list of names"),
    ("subprotocols", {"a": 1}, "a list of names"),
    ("allowed_origins", "example.com", 'None, "*", or a list of origins'),
    ("allowed_origins", ["*", "https://a.example"], 'None, "*", or a list of origins'),
    ("allowed_origins", ["https://*.a.example"], 'None, "*", or a list of origins'),
    ("allowed_origins", 5, 'None, "*", or a list of origins'),
    ("max_outbox", 0, "a number of bytes of at least 1"),
    ("max_subscriptions", 0, "a whole number of at least 1"),
    ("max_handshake_size", 0.5, "a number of bytes of at least 1"),
    ("detach", None, "True or False"),
    ("max_per_client", 0, "a whole number of at least 1, or None"),
    ("rate", "fast", 'a rate such as "20/s" or "100/min", or None'),
    ("rate", 0, 'a rate such as "20/s" or "100/min", or None'),
    ("rate_burst", 0, "a whole number of at least 1, or None"),
    ("rate_action", "wait", '"slow", "drop" or "close"'),
    ("client_key", "user", "a function, or None"),
]
BAD_PROCESS: list[tuple[str, Any, str]] = [
    ("max_threads", 0, "a whole number of at least 1"),
    ("max_connections", 0.5, "a whole number of at least 1"),
    ("max_buffered", 0, "a number of bytes of at least 1, or None"),
    ("workers", "2", "a whole number of at least 1"),
    ("drain", -1, "a number of seconds of at least 0"),
    ("drain", None, "a number of seconds of at least 0"),
    ("handshake_rate", 0, "a number above 0, or None"),
]


@pytest.mark.parametrize("name", DEFAULTS)
def test_an_option_has_the_documented_default(name: str) -> None:
    assert getattr(Options(), name) == DEFAULTS[name]


def test_every_option_is_in_the_table_of_defaults() -> None:
    assert set(vars(Options())) == set(DEFAULTS)


def test_an_empty_configuration_gives_the_defaults() -> None:
    assert Options.from_config({}) == Options()


@pytest.mark.parametrize(("name", "given", "read"), GOOD + GOOD_PROCESS)
def test_an_option_is_read_from_the_configuration(name: str, given: Any, read: Any) -> None:
    assert getattr(Options.from_config({f"SOCK_{name.upper()}": given}), name) == read


@pytest.mark.parametrize(("name", "given", "read"), GOOD)
def test_an_option_of_a_route_replaces_the_configured_one(name: str, given: Any, read: Any) -> None:
    assert getattr(Options().replace({name: given}), name) == read


@pytest.mark.parametrize(
    "name",
    [
        "ping_interval",
        "ping_timeout",
        "close_timeout",
        "message_timeout",
        "drain",
        "presence_grace",
        "presence_lease",
        "blocked_after",
    ],
)
def test_no_more_seconds_than_a_system_can_wait(name: str) -> None:
    options = Options.from_config({f"SOCK_{name.upper()}": float("inf")})
    assert getattr(options, name) == TIMEOUT_MAX


def test_a_route_without_options_has_the_configured_ones() -> None:
    configured = Options.from_config({"SOCK_MAX_QUEUE": 3})

    assert configured.replace({}) == configured


def test_an_option_of_a_route_leaves_the_others_as_configured() -> None:
    options = Options.from_config({"SOCK_MAX_QUEUE": 3}).replace({"compression": False})

    assert (options.max_queue, options.compression) == (3, False)


@pytest.mark.parametrize(("name", "value", "wanted"), BAD + BAD_PROCESS)
def test_a_wrong_value_in_the_configuration_is_refused_in_words(
    name: str, value: Any, wanted: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Options.from_config({f"SOCK_{name.upper()}": value})

    message = str(caught.value)
    assert message.startswith(f"SOCK_{name.upper()} must be {wanted}")
    assert message.endswith(f", not {value!r}.")


@pytest.mark.parametrize(("name", "value", "wanted"), BAD)
def test_a_wrong_value_on_a_route_is_refused_by_its_name_there(
    name: str, value: Any, wanted: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Options().replace({name: value})

    assert str(caught.value).startswith(f"{name} must be {wanted}")


def test_a_misspelt_key_is_refused_with_the_likely_one() -> None:
    with pytest.raises(ConfigurationError, match="'SOCK_PING_INTERVALL': did you mean SOCK_PING_"):
        Options.from_config({"SOCK_PING_INTERVALL": 5})


def test_a_key_like_no_option_is_refused_with_all_there_are() -> None:
    with pytest.raises(
        ConfigurationError, match="there are SOCK_ALLOWED_ORIGINS, SOCK_BLOCKED_AFTER, "
    ):
        Options.from_config({"SOCK_ZZZZZZZZZZZZZZZZZZ": 5})


def test_a_misspelt_name_on_a_route_is_refused_with_the_likely_one() -> None:
    with pytest.raises(ConfigurationError, match="'subprotocol': did you mean subprotocols"):
        Options().replace({"subprotocol": "a"})


@pytest.mark.parametrize(
    "name", ["max_threads", "max_connections", "max_buffered", "workers", "drain", "handshake_rate"]
)
def test_a_route_cannot_set_what_concerns_the_whole_process(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"set app.config.'SOCK_{name.upper()}'"):
        Options().replace({name: 1})


def test_keys_of_others_are_left_alone() -> None:
    assert Options.from_config({"SECRET_KEY": "x", "SOCKET_PORT": 5}) == Options()


@pytest.mark.parametrize("key", ["SOCK_BROKER_URL", "SOCK_BROKER_PREFIX"])
def test_the_keys_of_the_broker_are_left_alone(key: str) -> None:
    assert Options.from_config({key: "memory://"}) == Options()


# flask-sock's dictionary


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [("ping_interval", 25, 25), ("max_message_size", 64, 64), ("subprotocols", ["a"], ("a",))],
)
def test_an_option_of_flask_sock_is_honoured(name: str, given: Any, read: Any) -> None:
    assert getattr(Options.from_config({"SOCK_SERVER_OPTIONS": {name: given}}), name) == read


@pytest.mark.parametrize("name", ["receive_bytes", "thread_class", "event_class", "selector_class"])
def test_an_option_of_flask_sock_for_its_machinery_is_ignored(name: str) -> None:
    assert Options.from_config({"SOCK_SERVER_OPTIONS": {name: object()}}) == Options()


def test_an_option_of_ours_wins_over_that_of_flask_sock() -> None:
    config = {"SOCK_PING_INTERVAL": 5, "SOCK_SERVER_OPTIONS": {"ping_interval": 25}}

    assert Options.from_config(config).ping_interval == 5


def test_an_unknown_option_of_flask_sock_is_refused_with_the_likely_one() -> None:
    with pytest.raises(ConfigurationError, match=r"SOCK_SERVER_OPTIONS: .*mean ping_interval"):
        Options.from_config({"SOCK_SERVER_OPTIONS": {"ping_intervall": 5}})


def test_a_wrong_value_of_an_option_of_flask_sock_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a number of bytes of at least 1"):
        Options.from_config({"SOCK_SERVER_OPTIONS": {"max_message_size": "big"}})


def test_options_of_flask_sock_that_are_no_dictionary_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="SOCK_SERVER_OPTIONS must be a dictionary, not 5"):
        Options.from_config({"SOCK_SERVER_OPTIONS": 5})


def test_no_options_of_flask_sock_are_fine() -> None:
    assert Options.from_config({"SOCK_SERVER_OPTIONS": None}) == Options()


# Where it is found out


def test_a_configuration_error_is_a_value_error_and_one_of_ours() -> None:
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(ConfigurationError, FlaskWSError)


def test_a_wrong_value_fails_when_the_app_is_initialised(app: Flask) -> None:
    app.config["SOCK_MAX_QUEUE"] = 0

    with pytest.raises(ConfigurationError):
        Sock(app)


def test_a_misspelt_key_fails_when_the_app_is_initialised(app: Flask) -> None:
    app.config["SOCK_MAXQUEUE"] = 5

    with pytest.raises(ConfigurationError, match="SOCK_MAX_QUEUE"):
        Sock().init_app(app)


@pytest.mark.parametrize(
    "options", [{"max_queue": 0}, {"max_qeue": 5}, {"max_threads": 5}, {"websockets": True}]
)
def test_a_wrong_option_fails_when_the_route_is_declared(options: dict[str, Any]) -> None:
    def handler(ws: object) -> None: ...

    with pytest.raises(ConfigurationError):
        Sock().route("/", **options)(handler)


def test_a_wrong_option_of_a_view_fails_when_it_is_made() -> None:
    def handler(ws: object) -> None: ...

    with pytest.raises(ConfigurationError):
        Sock().view(handler, max_queue=0)


def test_a_configuration_that_changes_later_counts(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    @sock.route("/")
    def route(ws: object) -> None: ...

    app.config["SOCK_ALLOWED_ORIGINS"] = ["https://other.example"]

    server.connect(app, extra=[("Origin", "https://other.example")]).answer_close()


def test_an_option_of_a_route_counts_over_the_apps(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    app.config["SOCK_SUBPROTOCOLS"] = ["a"]

    @sock.route("/", subprotocols=["b"])
    def route(ws: object) -> None: ...

    call = server.call(app, extra=[("Sec-WebSocket-Protocol", "a, b")])

    assert server.accepted(call).get("Sec-WebSocket-Protocol") == "b"
    call.peer.answer_close()


def test_an_option_of_a_view_counts_over_the_apps(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    def handler(ws: object) -> None: ...

    app.add_url_rule(
        "/", view_func=sock.view(handler, subprotocols=["b"]), endpoint="b", websocket=True
    )
    call = server.call(app, extra=[("Sec-WebSocket-Protocol", "a, b")])

    assert server.accepted(call).get("Sec-WebSocket-Protocol") == "b"
    call.peer.answer_close()
