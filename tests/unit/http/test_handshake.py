from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import pytest
from flask import Flask, request
from tests.support.memory import MemoryServer
from tests.support.raw import handshake_headers
from werkzeug.datastructures import Headers
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, MethodNotAllowed
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_ws import Options, Sock, WebSocket
from flask_ws.http.handshake import Handshake, UpgradeRequired, accept_value, check, is_upgrade
from flask_ws.protocol.deflate import DeflateParameters

#: The example of RFC 6455 section 1.3.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def make_request(
    *extra: tuple[str, str],
    key: str | None = KEY,
    version: str | None = "13",
    connection: str = "Upgrade",
    upgrade: str = "websocket",
    method: str = "GET",
    base_url: str = "http://localhost",
    body: bytes | None = None,
) -> Request:
    headers = handshake_headers(
        key, version=version, connection=connection, upgrade=upgrade, extra=extra
    )
    builder = EnvironBuilder(
        "/feed", base_url=base_url, method=method, headers=Headers(headers), data=body
    )
    return Request({**builder.get_environ(), "REMOTE_ADDR": "192.0.2.1"})


def refusal(request: Request, options: Options | None = None) -> HTTPException:
    with pytest.raises(HTTPException) as caught:
        check(request, options or Options())
    return caught.value


def header(handshake: Handshake, name: str) -> str | None:
    found = [value for key, value in handshake.headers if key == name]
    assert len(found) < 2
    return found[0] if found else None


# Accepted


def test_the_answer_to_a_key_is_that_of_the_rfc() -> None:
    assert accept_value(KEY) == ACCEPT


def test_a_good_handshake_is_answered_with_the_accept_value() -> None:
    assert header(check(make_request(), Options()), "Sec-WebSocket-Accept") == ACCEPT


def test_a_good_handshake_is_answered_with_an_upgrade() -> None:
    handshake = check(make_request(), Options())

    assert header(handshake, "Upgrade") == "websocket"
    assert header(handshake, "Connection") == "Upgrade"


@pytest.mark.parametrize(
    "connection", ["upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade,keep-alive"]
)
def test_the_connection_header_may_name_more_than_the_upgrade(connection: str) -> None:
    assert check(make_request(connection=connection), Options()).accept == ACCEPT


@pytest.mark.parametrize("upgrade", ["WebSocket", "h2c, websocket"])
def test_the_upgrade_header_is_read_as_a_list_without_regard_to_case(upgrade: str) -> None:
    assert is_upgrade(make_request(upgrade=upgrade).environ)


def test_a_length_of_zero_is_no_body() -> None:
    assert check(make_request(("Content-Length", "0")), Options()).accept == ACCEPT


def test_blanks_around_the_key_are_not_part_of_it() -> None:
    assert check(make_request(key=f" {KEY} "), Options()).accept == ACCEPT


# 400


def test_a_missing_key_is_a_bad_request() -> None:
    assert isinstance(refusal(make_request(key=None)), BadRequest)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param("c2hvcnQ=", id="5 bytes"),
        pytest.param("dGhlIHNhbXBsZSBub25jZQ", id="no padding"),
        pytest.param("dGhlIHNhbXBsZSBub25jZSE=", id="17 bytes"),
        pytest.param("dGhlIHNhbXBsZS!!bm9uY2U=", id="not base64"),
        pytest.param("dGhlIHNhbXBsZSBub25jZQ==, dGhlIHNhbXBsZSBub25jZQ==", id="twice"),
        pytest.param("\xe9" * 24, id="not ASCII"),
    ],
)
def test_a_key_of_other_than_16_bytes_is_a_bad_request(key: str) -> None:
    error = refusal(make_request(key=key))

    assert isinstance(error, BadRequest)
    assert error.description == "Sec-WebSocket-Key must be 16 bytes in base64."


def test_a_body_is_a_bad_request() -> None:
    error = refusal(make_request(body=b"hello"))

    assert isinstance(error, BadRequest)
    assert error.description == "A WebSocket handshake has no body."


@pytest.mark.parametrize("value", ["chunked", "identity", ""])
def test_a_transfer_encoding_is_a_bad_request(value: str) -> None:
    assert isinstance(refusal(make_request(("Transfer-Encoding", value))), BadRequest)


@pytest.mark.parametrize(
    "length", ["5", "+0", "+5", "-0", "00", "0_0", "5_0", "0,0", "0, 5", " ", "0x0", "none"]
)
def test_a_length_other_than_one_zero_is_a_bad_request(length: str) -> None:
    """A proxy on the way may read it otherwise than we would."""
    request = make_request()
    request.environ["CONTENT_LENGTH"] = length

    assert isinstance(refusal(request), BadRequest)


@pytest.mark.parametrize("length", ["", "0"])
def test_a_server_may_say_that_there_is_no_body(length: str) -> None:
    request = make_request()
    request.environ["CONTENT_LENGTH"] = length

    assert check(request, Options()).accept == ACCEPT


@pytest.mark.parametrize("version", ["HTTP/0.9", "HTTP/1.0"])
def test_a_version_of_http_without_upgrades_is_a_bad_request(version: str) -> None:
    request = make_request()
    request.environ["SERVER_PROTOCOL"] = version

    assert isinstance(refusal(request), BadRequest)


@pytest.mark.parametrize(
    "host", [None, "", "a, b", "a,b", "a b", "user@a", "a/b", "a?b", "a\\b", "a#b", " "]
)
def test_a_handshake_without_one_host_is_a_bad_request(host: str | None) -> None:
    request = make_request()
    request.environ["HTTP_HOST"] = host
    if host is None:
        del request.environ["HTTP_HOST"]

    assert isinstance(refusal(request), BadRequest)


@pytest.mark.parametrize("host", ["a", "a:5000", "127.0.0.1:80", "[::1]:80", "caf\xe9.example"])
def test_a_host_may_have_a_port_and_an_address(host: str) -> None:
    request = make_request()
    request.environ["HTTP_HOST"] = host

    assert check(request, Options()).accept == ACCEPT


# 405


def test_headers_of_any_usual_size_are_accepted() -> None:
    assert check(make_request(("Cookie", "a=" + "b" * 60_000)), Options()).accept == ACCEPT


@pytest.mark.parametrize(
    "headers", [[("Cookie", "b" * 70_000)], [(f"X-{n}", "b" * 7000) for n in range(100)]]
)
def test_headers_that_are_too_large_are_431(headers: list[tuple[str, str]]) -> None:
    """They would be kept as long as the connection lives."""
    error = refusal(make_request(*headers))

    assert error.code == 431
    assert "more than 65536 bytes" in str(error.description)


def test_an_option_says_how_large_headers_may_be() -> None:
    options = Options(max_handshake_size=1000)

    assert refusal(make_request(("Cookie", "b" * 1000)), options).code == 431


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT"])
def test_a_method_other_than_get_is_not_allowed(method: str) -> None:
    assert isinstance(refusal(make_request(method=method)), MethodNotAllowed)


def test_the_refusal_of_a_method_says_that_get_is_allowed() -> None:
    headers = refusal(make_request(method="POST")).get_headers()

    assert ("Allow", "GET") in headers


# 426


@pytest.mark.parametrize("version", [None, "", "8", "0", "14", "13, 8", "thirteen"])
def test_another_version_than_13_is_refused_with_426(version: str | None) -> None:
    assert refusal(make_request(version=version)).code == 426


def test_the_refusal_of_a_version_names_the_one_that_would_do() -> None:
    headers = refusal(make_request(version="8")).get_headers()

    assert [value for name, value in headers if name == "Sec-WebSocket-Version"] == ["13"]


def test_a_request_without_an_upgrade_is_refused_with_426() -> None:
    assert isinstance(refusal(make_request(connection="keep-alive")), UpgradeRequired)


def test_an_upgrade_to_something_else_is_refused_with_426() -> None:
    assert isinstance(refusal(make_request(upgrade="h2c")), UpgradeRequired)


def test_426_says_what_to_upgrade_to() -> None:
    assert ("Upgrade", "websocket") in UpgradeRequired().get_headers()


class StrictServer:
    """A server that holds an application to PEP 3333, as Waitress and wsgiref do."""

    def __init__(self) -> None:
        self.headers: list[tuple[str, str]] | None = None

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Any:
        assert self.headers is None or exc_info, "called twice"
        self.headers = headers
        assert not any(name == "Upgrade" for name, _ in headers), "hop-by-hop"


@pytest.mark.parametrize(
    ("headers", "websocket"), [([], False), (handshake_headers(KEY, version="8"), True)]
)
def test_426_is_answered_where_hop_by_hop_headers_are_not_allowed(
    app: Flask, sock: Sock, headers: list[tuple[str, str]], websocket: bool
) -> None:
    def handler(ws: WebSocket) -> None: ...

    app.add_url_rule("/", view_func=sock.view(handler), websocket=websocket)
    server = StrictServer()
    environ = EnvironBuilder("/", headers=Headers(headers)).get_environ()
    b"".join(app(environ, server.start_response))

    assert ("Sec-WebSocket-Version", "13") in (server.headers or [])


def test_what_an_app_does_wrong_otherwise_is_its_own_affair(app: Flask, sock: Sock) -> None:
    app.add_url_rule("/", view_func=lambda: ("", {"Upgrade": "h2c"}))
    environ = EnvironBuilder("/").get_environ()

    with pytest.raises(AssertionError, match="hop-by-hop"):
        app(environ, StrictServer().start_response)


# 403: the Origin


def is_allowed(
    origin: str | None,
    *,
    base_url: str = "http://example.com",
    allowed: str | tuple[str, ...] | None = None,
) -> bool:
    extra = [] if origin is None else [("Origin", origin)]
    try:
        check(make_request(*extra, base_url=base_url), Options(allowed_origins=allowed))
    except Forbidden:
        return False
    return True


@pytest.mark.parametrize(
    ("origin", "base_url"),
    [
        pytest.param("http://example.com", "http://example.com", id="the same"),
        pytest.param("https://example.com", "http://example.com", id="behind a TLS proxy"),
        pytest.param("http://example.com", "https://example.com", id="the other way round"),
        pytest.param("http://EXAMPLE.com", "http://example.com", id="case"),
        pytest.param("http://example.com:80", "http://example.com", id="default port, origin"),
        pytest.param("https://example.com:443", "http://example.com", id="of https"),
        pytest.param("https://example.com", "http://example.com:443", id="default port, host"),
        pytest.param("http://example.com", "https://example.com:80", id="of http"),
        pytest.param("http://example.com:5000", "http://example.com:5000", id="another port"),
        pytest.param("http://[::1]:5000", "http://[::1]:5000", id="IPv6"),
        pytest.param("http://[::1]", "http://[::1]:80", id="IPv6, default port"),
        pytest.param("http://127.0.0.1:5000", "http://127.0.0.1:5000", id="IPv4"),
    ],
)
def test_the_same_origin_is_allowed(origin: str, base_url: str) -> None:
    assert is_allowed(origin, base_url=base_url)


@pytest.mark.parametrize(
    ("origin", "base_url"),
    [
        pytest.param("http://evil.example", "http://example.com", id="host"),
        pytest.param("http://example.com.evil.example", "http://example.com", id="prefix"),
        pytest.param("http://evilexample.com", "http://example.com", id="suffix"),
        pytest.param("http://sub.example.com", "http://example.com", id="subdomain"),
        pytest.param("http://example.com:5000", "http://example.com", id="port"),
        pytest.param("http://example.com:443", "http://example.com", id="http on 443"),
        pytest.param("http://example.com", "http://example.com:5000", id="port of the host"),
        pytest.param("http://[::2]:5000", "http://[::1]:5000", id="IPv6"),
        pytest.param("null", "http://example.com", id="null"),
        pytest.param("null", "http://null", id="null, and a host of that name"),
        pytest.param("", "http://example.com", id="empty"),
        pytest.param("example.com", "http://example.com", id="no scheme"),
        pytest.param("http://example.com:x", "http://example.com", id="no number"),
        pytest.param("http://[::1", "http://[::1]", id="broken"),
        pytest.param("file://", "http://example.com", id="file"),
    ],
)
def test_another_origin_is_forbidden(origin: str, base_url: str) -> None:
    assert not is_allowed(origin, base_url=base_url)


def test_a_client_that_names_no_origin_is_allowed() -> None:
    assert is_allowed(None)


def test_a_client_that_names_no_origin_is_allowed_past_a_list() -> None:
    assert is_allowed(None, allowed=("https://other.example",))


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "file://"])
def test_a_star_allows_any_origin(origin: str) -> None:
    assert is_allowed(origin, allowed="*")


@pytest.mark.parametrize(
    "origin",
    [
        "https://a.example",
        "https://A.example",
        "https://a.example:443",
        "http://b.example:8080",
    ],
)
def test_an_origin_of_the_list_is_allowed(origin: str) -> None:
    assert is_allowed(origin, allowed=("https://a.example", "http://b.example:8080"))


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param("http://a.example", id="scheme"),
        pytest.param("https://a.example:8443", id="port"),
        pytest.param("https://c.example", id="host"),
        pytest.param("null", id="null"),
        pytest.param("http://example.com", id="the same origin"),
    ],
)
def test_an_origin_that_is_not_in_the_list_is_forbidden(origin: str) -> None:
    assert not is_allowed(origin, allowed=("https://a.example",))


def test_null_is_allowed_where_the_list_has_it() -> None:
    assert is_allowed("null", allowed=("https://a.example", "null"))


def test_an_empty_list_allows_no_origin() -> None:
    assert not is_allowed("http://example.com", allowed=())


def test_a_refused_origin_is_logged_with_the_host_and_the_option(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refusal(make_request(("Origin", "http://evil.example")))

    for told in ("'http://evil.example'", "'localhost'", "SOCK_ALLOWED_ORIGINS", "ProxyFix"):
        assert told in caplog.text


def test_a_refused_origin_learns_nothing_of_those_that_are_allowed() -> None:
    options = Options(allowed_origins=("https://a.example",))
    error = refusal(make_request(("Origin", "http://evil.example")), options)

    assert error.description == "Pages of this origin may not connect here."


@pytest.mark.parametrize(
    ("origin", "status"), [("https://public.example", 101), ("http://internal", 403)]
)
def test_behind_a_proxy_the_origin_is_compared_with_the_public_host(
    app: Flask, sock: Sock, server: MemoryServer, origin: str, status: int
) -> None:
    app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1, x_proto=1)  # type: ignore[method-assign]
    sock.route("/")(lambda ws: None)
    call = server.call(
        app,
        host="internal",
        extra=[
            ("Origin", origin),
            ("X-Forwarded-Host", "public.example"),
            ("X-Forwarded-Proto", "https"),
        ],
    )

    if status == 101:
        server.accepted(call)
        call.peer.answer_close()
    else:
        assert call.refused().status == status


# Subprotocols


def chosen(offered: Iterable[str], spoken: tuple[str, ...]) -> str | None:
    extra = [("Sec-WebSocket-Protocol", line) for line in offered]
    handshake = check(make_request(*extra), Options(subprotocols=spoken))
    assert header(handshake, "Sec-WebSocket-Protocol") == handshake.subprotocol
    return handshake.subprotocol


def test_the_first_subprotocol_of_the_client_that_the_route_offers_is_chosen() -> None:
    assert chosen(["c, b, a"], ("a", "b")) == "b"


def test_subprotocols_in_several_headers_are_one_list() -> None:
    assert chosen(["c", "b", "a"], ("a", "b")) == "b"


def test_without_a_common_subprotocol_none_is_chosen() -> None:
    assert chosen(["c, d"], ("a", "b")) is None


def test_a_route_without_subprotocols_chooses_none() -> None:
    assert chosen(["a"], ()) is None


def test_a_client_without_subprotocols_is_accepted_by_a_route_that_has_some() -> None:
    assert chosen([], ("a",)) is None


def test_the_case_of_a_subprotocol_counts() -> None:
    assert chosen(["A"], ("a",)) is None


def test_a_part_of_a_name_is_no_subprotocol() -> None:
    assert chosen(["a"], ("abc",)) is None


# Extensions; what of an offer is accepted is the affair of test_deflate.py


def test_an_offer_of_compression_is_accepted() -> None:
    handshake = check(make_request(("Sec-WebSocket-Extensions", "permessage-deflate")), Options())

    assert handshake.deflate == DeflateParameters(server_max_window_bits=12)


def test_the_parameters_of_the_compression_are_in_the_answer() -> None:
    handshake = check(make_request(("Sec-WebSocket-Extensions", "permessage-deflate")), Options())

    assert (
        header(handshake, "Sec-WebSocket-Extensions")
        == "permessage-deflate; server_max_window_bits=12"
    )


def test_offers_in_several_headers_are_one_list() -> None:
    request = make_request(
        ("Sec-WebSocket-Extensions", "x-other"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
    )

    assert check(request, Options()).deflate is not None


def test_without_an_offer_nothing_is_compressed() -> None:
    handshake = check(make_request(), Options())

    assert handshake.deflate is None
    assert header(handshake, "Sec-WebSocket-Extensions") is None


def test_compression_can_be_switched_off() -> None:
    request = make_request(("Sec-WebSocket-Extensions", "permessage-deflate"))

    assert check(request, Options(compression=False)).deflate is None


# The log


def test_a_refusal_is_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "flask_ws"):
        refusal(make_request(key=None))

    assert caplog.messages == [
        (
            "WebSocket handshake from 192.0.2.1 for /feed refused: "
            "400 Sec-WebSocket-Key must be 16 bytes in base64."
        )
    ]


def test_an_accepted_handshake_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "flask_ws"):
        check(make_request(), Options())

    assert caplog.messages == []


# Through Flask


@pytest.mark.parametrize(
    ("kwargs", "status"),
    [
        ({"headers": handshake_headers(None)}, 400),
        ({"headers": handshake_headers("c2hvcnQ=")}, 400),
        ({"body": b"hello", "extra": [("Content-Length", "5")]}, 400),
        ({"extra": [("Transfer-Encoding", "chunked")]}, 400),
        ({"headers": handshake_headers(KEY, version="8")}, 426),
        ({"headers": handshake_headers(KEY, version=None)}, 426),
        ({"extra": [("Origin", "http://evil.example")]}, 403),
        ({"method": "POST"}, 405),
    ],
)
def test_a_refusal_is_an_http_response(
    app: Flask, sock: Sock, server: MemoryServer, kwargs: dict[str, Any], status: int
) -> None:
    sock.route("/")(lambda ws: None)

    assert server.refuse(app, **kwargs).status == status


def test_the_426_of_a_route_carries_the_version(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(lambda ws: None)
    response = server.refuse(app, headers=handshake_headers(KEY, version="8"))

    assert response.get("Sec-WebSocket-Version") == "13"


def test_nothing_is_on_the_socket_of_a_refused_handshake(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    sock.route("/")(lambda ws: None)
    call = server.call(app, headers=handshake_headers(None))
    call.refused()

    call.peer.expect_end()


def test_a_refusal_leaves_the_read_ahead_with_the_server(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    taken: list[bytes] = []
    sock.route("/")(lambda ws: None)
    server.refuse(
        app,
        headers=handshake_headers(None),
        read_ahead=lambda: taken.append(b"") or b"",  # type: ignore[func-returns-value]
    )

    assert taken == []


def test_a_refused_handshake_does_not_run_the_handler(
    app: Flask, sock: Sock, server: MemoryServer
) -> None:
    ran: list[str] = []
    sock.route("/")(lambda ws: ran.append(request.path))
    server.refuse(app, headers=handshake_headers(None))

    assert ran == []
