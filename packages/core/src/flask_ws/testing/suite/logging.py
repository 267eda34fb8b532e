"""What the logger `flask_ws` logs about a connection."""

from __future__ import annotations

import re

import pytest

from .base import Subject
from .process import Server, wait_until
from .raw import handshake_headers, make_key
from .setups import on_close_codes, on_denials, on_frames, on_main


def await_lines(server: Server, path: str, number: int) -> list[str]:
    """The lines of the logger that name this path."""
    pattern = re.compile(rf"^[A-Z]+ flask_ws .*{path}\b.*$", re.MULTILINE)

    def probe() -> list[str] | None:
        found = pattern.findall(server.log.read())
        return found if len(found) >= number else None

    return wait_until(probe, what=f"{number} lines")


@on_main
class Logging(Subject):
    """What the logger logs about a connection."""

    @pytest.fixture
    def path(self, server: Server) -> str:
        """A path that no other connection has, to find its lines by."""
        return f"/echo/{server.tag()}"

    def test_connection_has_one_debug_line_at_open_and_one_at_close(
        self, server: Server, path: str
    ) -> None:
        with server.connect(path) as peer:
            peer.echo("hello")
            peer.close()
        found = await_lines(server, path, 2)
        assert len(found) == 2
        assert all(line.startswith("DEBUG") for line in found)

    @on_close_codes
    def test_line_at_close_has_the_code_and_the_counts(self, server: Server, path: str) -> None:
        with server.connect(path) as peer:
            for _ in range(3):
                peer.echo("hello")
            peer.close(4000, "enough")
        _, closed = await_lines(server, path, 2)
        assert "4000" in closed
        assert "3 messages" in closed
        if not server.setup.unix:
            assert "127.0.0.1" in closed

    @on_frames
    def test_refusal_is_one_warning(self, server: Server, path: str) -> None:
        with server.dial() as peer:
            peer.send_request(path, headers=handshake_headers(make_key(), version="8"))
            assert peer.read_response().status == 426
        (line,) = await_lines(server, path, 1)
        assert line.startswith("WARNING flask_ws")
        assert "426" in line

    def test_refused_origin_names_the_setting_that_allows_it(
        self, server: Server, path: str
    ) -> None:
        headers = handshake_headers(make_key(), extra=[("Origin", "https://evil.example")])
        with server.dial() as peer:
            peer.send_request(path, headers=headers)
            assert peer.read_response().status == 403
        (line,) = await_lines(server, path, 1)
        assert "https://evil.example" in line
        assert "SOCK_ALLOWED_ORIGINS" in line

    @on_frames
    def test_protocol_violation_is_a_warning(self, server: Server, path: str) -> None:
        with server.connect(path) as peer:
            peer.send_bytes(b"\x81\x05hello")
            assert peer.read_close().close_code == 1002
            peer.send_close(1002)
            peer.expect_end()
        found = await_lines(server, path, 3)
        (warning,) = (line for line in found if line.startswith("WARNING"))
        assert "1002" in warning

    def test_lost_connection_is_no_warning(self, server: Server, path: str) -> None:
        peer = server.connect(path)
        peer.echo("hello")
        peer.reset()
        found = await_lines(server, path, 2)
        assert all(line.startswith("DEBUG") for line in found)

    @on_denials
    def test_url_that_no_route_has_is_one_warning(self, server: Server, path: str) -> None:
        with server.dial() as peer:
            peer.send_request(f"/nowhere{path}", headers=handshake_headers(make_key()))
            assert peer.read_response().status == 404
        (line,) = await_lines(server, f"/nowhere{path}", 1)
        assert line.startswith("WARNING flask_ws")
        assert "404 no route has this URL" in line

    def test_peer_cannot_write_lines_of_the_log(self, server: Server, path: str) -> None:
        beginning = server.log.size()
        with server.connect(f"{path}%0AERROR%20forged") as peer:
            peer.close(4000, "enough\nERROR forged")
        await_lines(server, path, 2)
        assert "\nERROR forged" not in server.log.read(beginning)
