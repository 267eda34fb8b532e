"""The WSGI environ of a handshake, made of an ASGI server's scope."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.asgi import make_scope

from flask_ws_asgi.environ import make_environ


def test_what_a_server_keeps_of_the_handshake_is_put_back() -> None:
    environ = make_environ(make_scope(subprotocols=["chat", "news"], http_version="2"))
    assert environ["HTTP_UPGRADE"] == "websocket"
    assert environ["HTTP_CONNECTION"] == "Upgrade"
    assert environ["HTTP_SEC_WEBSOCKET_VERSION"] == "13"
    assert environ["HTTP_SEC_WEBSOCKET_PROTOCOL"] == "chat, news"
    assert environ["SERVER_PROTOCOL"] == "HTTP/2"
    assert environ["REQUEST_METHOD"] == "GET"


def test_headers_of_the_client_stay_as_they_came() -> None:
    headers = [("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="), ("X-One", "1"), ("X-One", "2")]
    environ = make_environ(make_scope(headers=headers))
    assert environ["HTTP_SEC_WEBSOCKET_KEY"] == "dGhlIHNhbXBsZSBub25jZQ=="
    assert environ["HTTP_X_ONE"] == "1,2"
    assert "HTTP_SEC_WEBSOCKET_PROTOCOL" not in environ


def test_cookies_that_came_apart_are_joined() -> None:
    environ = make_environ(make_scope(headers=[("Cookie", "a=1"), ("Cookie", "b=2")]))
    assert environ["HTTP_COOKIE"] == "a=1; b=2"


@pytest.mark.parametrize(
    ("path", "root", "script_name", "path_info"),
    [
        ("/chat", "", "", "/chat"),
        ("/mounted/chat", "/mounted", "/mounted", "/chat"),
        ("/chat", "/mounted", "/mounted", "/chat"),
        ("/mountedchat", "/mounted", "/mounted", "/mountedchat"),
    ],
)
def test_root_path_is_the_script_name(
    path: str, root: str, script_name: str, path_info: str
) -> None:
    environ = make_environ(make_scope(path, root_path=root))
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ({"client": None}, None),
        ({"client": ("", 0)}, ""),
        ({"client": ("192.0.2.1", 5)}, "192.0.2.1"),
    ],
)
def test_address_of_the_client_may_be_missing(scope: dict[str, Any], expected: str | None) -> None:
    assert make_environ(make_scope(**scope)).get("REMOTE_ADDR") == expected


def test_scheme_is_that_of_http() -> None:
    assert make_environ(make_scope(scheme="wss"))["wsgi.url_scheme"] == "https"


@pytest.mark.parametrize(
    ("version", "expected"), [("1", "HTTP/1.0"), ("1.0", "HTTP/1.0"), ("1.1", "HTTP/1.1")]
)
def test_version_is_that_of_http(version: str, expected: str) -> None:
    assert make_environ(make_scope(http_version=version))["SERVER_PROTOCOL"] == expected


@pytest.mark.parametrize(("version", "expected"), [("1.1", None), ("2", "127.0.0.1:8000")])
def test_host_that_is_missing_stays_so_unless_http_has_none(
    version: str, expected: str | None
) -> None:
    scope = make_scope(http_version=version)
    scope["headers"] = []
    assert make_environ(scope).get("HTTP_HOST") == expected
