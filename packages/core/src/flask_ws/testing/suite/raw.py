"""A WebSocket client on a bare socket, which sees every byte after the 101.

It uses nothing of flask_ws and is strict: a masked frame from the server, a byte after the close
frame or a reset connection is an assertion error here, where real clients tolerate it.
"""

from __future__ import annotations

import enum
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

from .wire import (
    ACCEPT_GUID,
    BINARY,
    CLOSE,
    CONTINUATION,
    MASK,
    PING,
    PONG,
    TEXT,
    Frame,
    Header,
    Response,
    apply_mask,
    build_request,
    encode_close,
    encode_frame,
    encode_message,
    handshake_headers,
    make_accept,
    make_key,
)

__all__ = [
    "ACCEPT_GUID",
    "BINARY",
    "CLOSE",
    "CONTINUATION",
    "MASK",
    "PING",
    "PONG",
    "TEXT",
    "End",
    "Frame",
    "Header",
    "LostConnection",
    "Peer",
    "Response",
    "Tail",
    "apply_mask",
    "build_request",
    "encode_close",
    "encode_frame",
    "encode_message",
    "handshake_headers",
    "make_accept",
    "make_key",
]


class End(enum.Enum):
    """How the peer ended TCP."""

    FIN = "FIN"
    RST = "RST"


@dataclass(frozen=True)
class Tail:
    """What was read until the end of the connection, and how it ended."""

    data: bytes
    end: End
    seconds: float


class LostConnection(Exception):
    """TCP ended while the client still expected bytes."""

    def __init__(self, end: End, pending: bytes) -> None:
        super().__init__(f"{end.value} with {len(pending)} bytes pending: {pending[:80]!r}")
        self.end = end


def do_nothing() -> None: ...


@dataclass
class Peer:
    """One connection to a server, first speaking HTTP, then WebSocket frames."""

    sock: socket.socket
    host: str = "localhost"
    timeout: float = 10.0
    buffer: bytearray = field(default_factory=bytearray)
    response: Response | None = None
    #: Called when expected bytes do not come in time, while the connection is open.
    when_late: Callable[[], object] = do_nothing
    #: Whether the server waits for the answer to its close frame. If not, RST may come back.
    awaits_answers: bool = True
    _has_read_close: bool = field(default=False, init=False)
    _has_answered: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.sock.settimeout(self.timeout)

    def __enter__(self) -> Peer:  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    # Bytes

    def send_bytes(self, data: bytes) -> None:
        self._has_answered = self._has_read_close
        self.sock.sendall(data)

    def _receive(self, size: int = 65536) -> bytes:
        """Some bytes, or b"" at FIN; ConnectionResetError at RST."""
        try:
            return self.sock.recv(size)
        except ssl.SSLEOFError:
            # FIN without close_notify: TCP ended in order, and only that is checked here.
            return b""
        except ssl.SSLError as error:
            if "EOF" in str(error).upper():
                return b""
            raise

    def fill(self, size: int) -> None:
        """Read until `size` bytes are buffered."""
        while len(self.buffer) < size:
            try:
                chunk = self._receive(max(65536, min(size - len(self.buffer), 1 << 20)))
            except TimeoutError:
                self.when_late()
                raise
            except ConnectionResetError:
                raise LostConnection(End.RST, bytes(self.buffer)) from None
            if not chunk:
                raise LostConnection(End.FIN, bytes(self.buffer))
            self.buffer += chunk

    def take(self, size: int) -> bytes:
        self.fill(size)
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def take_line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self.fill(len(self.buffer) + 1)
        return self.take(self.buffer.index(b"\r\n") + 2)[:-2]

    def read_until_eof(self, timeout: float = 5.0) -> Tail:
        """All remaining bytes, and whether TCP ended by FIN or RST."""
        started = time.monotonic()
        data = bytes(self.buffer)
        self.buffer.clear()
        with self.waiting(timeout):
            while True:
                try:
                    chunk = self._receive()
                except ConnectionResetError:
                    end = End.RST
                    break
                if not chunk:
                    end = End.FIN
                    break
                data += chunk
        return Tail(data, end, time.monotonic() - started)

    def expect_end(self, timeout: float = 2.0) -> None:
        """Check that the server sends nothing more and ends TCP by FIN, in time."""
        try:
            tail = self.read_until_eof(timeout)
        except TimeoutError:
            self.when_late()
            raise AssertionError(f"TCP was still open after {timeout} s") from None
        assert tail.data == b"", f"bytes after the end: {tail.data[:200]!r}"
        may_be_reset = self._has_answered and not self.awaits_answers
        assert may_be_reset or tail.end is End.FIN, "the connection was reset"

    def expect_silence(self, seconds: float) -> None:
        """Check that nothing arrives for a while: no event can end this wait early."""
        assert not self.buffer, f"unread bytes: {bytes(self.buffer[:200])!r}"
        with self.waiting(seconds), suppress(TimeoutError):
            data = self._receive()
            raise AssertionError(f"unexpected bytes: {data[:200]!r}")

    @contextmanager
    def waiting(self, timeout: float) -> Iterator[None]:
        """Use another timeout within the block."""
        self.sock.settimeout(timeout)
        try:
            yield
        finally:
            self.sock.settimeout(self.timeout)

    def finish_sending(self) -> None:
        """Send FIN (half-close), and keep reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End TCP by RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if isinstance(self.sock, ssl.SSLSocket):
            # A TLS socket's close() does the same once it is detached from its SSL object.
            socket.socket(fileno=self.sock.detach()).close()
        else:
            self.sock.close()

    # HTTP

    def send_request(
        self,
        target: str,
        *,
        method: str = "GET",
        headers: Iterable[Header] = (),
        body: bytes = b"",
    ) -> None:
        self.send_bytes(
            build_request(target, method=method, host=self.host, headers=headers, body=body)
        )

    def read_head(self) -> Response:
        version, status, *reason = self.take_line().decode("latin-1").split(" ", 2)
        assert version.startswith("HTTP/1."), version
        headers = []
        while line := self.take_line():
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name, value.strip()))
        return Response(int(status), " ".join(reason), tuple(headers))

    def read_response(self) -> Response:
        """The response to a GET with its body, however it is delimited."""
        head = self.read_head()
        if head.status < 200 or head.status in (204, 304):
            return head
        length = head.get("Content-Length")
        if (head.get("Transfer-Encoding") or "").lower() == "chunked":
            body = b""
            while size := int(self.take_line().split(b";")[0], 16):
                body += self.take(size)
                assert self.take(2) == b"\r\n"
            assert self.take_line() == b""
        elif length is not None:
            body = self.take(int(length))
        else:
            body = self.read_until_eof(self.timeout).data
        return Response(head.status, head.reason, head.headers, body)

    # WebSocket

    def upgrade(
        self,
        target: str,
        *,
        headers: Iterable[Header] = (),
        connection: str = "Upgrade",
        early: bytes = b"",
    ) -> Peer:
        """The opening handshake, with `early` bytes in the same segment; asserts the 101."""
        key = make_key()
        self.send_request(
            target,
            headers=handshake_headers(key, connection=connection, extra=headers),
            body=early,
        )
        self.read_upgrade(key)
        return self

    def read_upgrade(self, key: str) -> Response:
        response = self.read_head()
        if response.status != 101:
            with suppress(LostConnection, TimeoutError), self.waiting(1):
                self.fill(1 << 16)
            raise AssertionError(f"no 101 but {response!r}: {bytes(self.buffer[:400])!r}")
        assert (response.get("Upgrade") or "").lower() == "websocket", response
        assert (response.get("Connection") or "").lower() == "upgrade", response
        assert response.get("Sec-WebSocket-Accept") == make_accept(key), response
        self.response = response
        return response

    def send_frame(
        self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0
    ) -> None:
        self.send_bytes(encode_frame(opcode, payload, fin=fin, rsv=rsv))

    def send(self, message: str | bytes) -> None:
        self.send_bytes(encode_message(message))

    def send_close(self, code: int | None = 1000, reason: str = "") -> None:
        self.send_bytes(encode_close(code, reason))

    def read_frame(self) -> Frame:
        first, second = self.take(2)
        assert not second & 0x80, "a server must not mask"
        size: int = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self.take(2))
            assert size >= 126, "a length that is not minimal"
        elif size == 127:
            (size,) = struct.unpack("!Q", self.take(8))
            assert size >= 1 << 16, "a length that is not minimal"
        self._has_read_close |= first & 0x0F == CLOSE
        return Frame(first & 0x0F, self.take(size), bool(first & 0x80), (first >> 4) & 7)

    def read(self) -> str | bytes:
        """The next message; a close, ping or pong in its place is an assertion error."""
        opcode: int | None = None
        parts: list[bytes] = []
        while True:
            frame = self.read_frame()
            expected = (TEXT, BINARY) if opcode is None else (CONTINUATION,)
            assert frame.opcode in expected, f"not part of a message: {frame!r}"
            assert frame.rsv == 0, f"reserved bits, but no extension: {frame!r}"
            opcode = frame.opcode if opcode is None else opcode
            parts.append(frame.payload)
            if frame.fin:
                data = b"".join(parts)
                return data.decode() if opcode == TEXT else data

    def read_opcode(self, opcode: int) -> Frame:
        frame = self.read_frame()
        assert frame.opcode == opcode, f"expected {opcode:#x}: {frame!r}"
        return frame

    def read_close(self, *, after: Literal["nothing", "anything"] = "nothing") -> Frame:
        """The close frame; by default it must be the next frame."""
        frame = self.read_frame()
        while after == "anything" and frame.opcode != CLOSE:
            frame = self.read_frame()
        assert frame.opcode == CLOSE, f"expected a close frame: {frame!r}"
        return frame

    def echo(self, message: str | bytes) -> str | bytes:
        self.send(message)
        return self.read()

    def close(self, code: int | None = 1000, reason: str = "") -> Frame:
        """The closing handshake from this side, until TCP ends; returns the server's frame."""
        self.send_close(code, reason)
        frame = self.read_close()
        self.expect_end()
        return frame

    def answer_close(self) -> Frame:
        """The closing handshake from the server's side, until TCP ends."""
        frame = self.read_close()
        self.send_bytes(encode_frame(CLOSE, frame.payload))
        self.expect_end()
        return frame
