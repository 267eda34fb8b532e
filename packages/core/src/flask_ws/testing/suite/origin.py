"""Origins: the same one by default, whatever the server says of itself."""

from __future__ import annotations

import pytest

from .base import Subject
from .process import Server
from .raw import handshake_headers, make_key
from .setups import on_main


def status(server: Server, path: str, origin: str | None, host: str | None = None) -> int:
    """The status of the answer to a handshake with this Origin."""
    key, tag = make_key(), server.tag()
    extra = [] if origin is None else [("Origin", origin)]
    with server.dial() as peer:
        peer.host = host or peer.host
        peer.send_request(server.target(path, tag), headers=handshake_headers(key, extra=extra))
        head = peer.read_head()
        if head.status == 101:
            server.opened.append(tag)
            peer.close()
        return head.status


@on_main
class Origin(Subject):
    """Which origins a handshake may come from."""

    def test_no_origin_passes(self, server: Server) -> None:
        assert status(server, "/echo", None) == 101

    def test_same_origin_passes(self, server: Server) -> None:
        assert status(server, "/echo", f"http://{server.host}") == 101

    def test_other_scheme_is_the_same_origin(self, server: Server) -> None:
        """Behind a proxy that terminates TLS, the server cannot know the scheme."""
        assert status(server, "/echo", f"https://{server.host}") == 101

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("https://example.com", "example.com:443"),
            ("https://example.com:443", "example.com"),
            ("http://example.com", "example.com"),
            ("http://[::1]:8000", "[::1]:8000"),
            ("https://[::1]", "[::1]"),
        ],
    )
    def test_default_ports_are_folded(self, server: Server, origin: str, host: str) -> None:
        assert status(server, "/echo", origin, host) == 101

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("https://example.com:8443", "example.com"),
            ("https://example.com.evil.example", "example.com"),
            ("https://sub.example.com", "example.com"),
            ("null", "example.com"),
            ("not an origin", "example.com"),
        ],
    )
    def test_other_place_is_refused(self, server: Server, origin: str, host: str) -> None:
        assert status(server, "/echo", origin, host) == 403

    def test_star_allows_any_origin(self, server: Server) -> None:
        assert status(server, "/any-origin", "https://evil.example") == 101

    def test_listed_origin_passes(self, server: Server) -> None:
        assert status(server, "/listed-origin", "https://example.com") == 101

    def test_unlisted_origin_is_refused(self, server: Server) -> None:
        assert status(server, "/listed-origin", f"http://{server.host}") == 403

    def test_origin_behind_a_proxy_is_compared_with_the_forwarded_host(
        self, server: Server
    ) -> None:
        """The app uses ProxyFix for this path."""
        key, tag = make_key(), server.tag()
        extra = [("Origin", "https://public.example"), ("X-Forwarded-Host", "public.example")]
        with server.dial() as peer:
            peer.send_request(
                server.target("/proxied/echo", tag), headers=handshake_headers(key, extra=extra)
            )
            peer.read_upgrade(key)
            server.opened.append(tag)
            peer.close()
