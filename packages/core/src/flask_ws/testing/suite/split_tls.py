"""A TLS client that controls which bytes of a record are sent, and when."""

from __future__ import annotations

import socket
import ssl

from .raw import Frame, Peer, build_request, handshake_headers, make_key


class SplitTLS:
    """TLS in memory: the test itself sends what is encrypted."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                self._feed()
        self.sock.sendall(self._outgoing.read())
        # The frame parser reads what is decrypted here.
        self._ours, self._theirs = socket.socketpair()
        self._peer = Peer(self._ours)

    def __enter__(self) -> SplitTLS:  # noqa: PYI034
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self.sock, self._ours, self._theirs):
            sock.close()

    def encrypt(self, data: bytes) -> bytes:
        """The TLS record of this data."""
        self._tls.write(data)
        return self._outgoing.read()

    def send(self, data: bytes) -> None:
        self.sock.sendall(self.encrypt(data))

    def _feed(self) -> None:
        data = self.sock.recv(65536)
        assert data, "TCP ended"
        self._incoming.write(data)

    def _pump(self) -> None:
        """Decrypt the next bytes."""
        while True:
            try:
                self._theirs.sendall(self._tls.read(65536))
                return
            except ssl.SSLWantReadError:
                self._feed()

    def upgrade(self, target: str, host: str) -> None:
        key = make_key()
        self.send(build_request(target, host=host, headers=handshake_headers(key)))
        self._pump()
        self._peer.read_upgrade(key)

    def read_frame(self) -> Frame:
        if not self._peer.buffer:
            self._pump()
        return self._peer.read_frame()
