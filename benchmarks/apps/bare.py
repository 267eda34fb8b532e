"""The least that echoes: a thread a connection, one recv, one unmasking, one sendall.

    python -m benchmarks.apps.bare PORT

It skips every check that a WebSocket implementation owes its users. It shows what threads and
sockets alone cost in Python, so nothing written in Python on threads should be much faster.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import socket
import sys
import threading

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask


def accept(conn: socket.socket) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        more = conn.recv(4096)
        if not more:
            raise ConnectionAbortedError
        head += more
    found = re.search(rb"(?i)sec-websocket-key: *(\S+)", head)
    assert found
    digest = hashlib.sha1(found[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    conn.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def echo(conn: socket.socket) -> None:
    # A client that goes away is no news here.
    with conn, contextlib.suppress(ConnectionError):
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accept(conn)
        while data := conn.recv(65536):
            size, start = data[1] & 0x7F, 2
            if size >= 126:
                start = 4 if size == 126 else 10
                size = int.from_bytes(data[2:start], "big")
            if data[0] & 0x0F == 0x8:
                conn.sendall(b"\x88\x02\x03\xe8")
                return
            head = data[:1] + bytes((data[1] & 0x7F,)) + data[2:start]
            mask, payload = data[start : start + 4], data[start + 4 :]
            if len(payload) < size:
                whole = bytearray(size)
                whole[: len(payload)] = payload
                filled, view = len(payload), memoryview(whole)
                while filled < size:
                    filled += conn.recv_into(view[filled:])
                conn.sendall(head + apply_mask(whole, mask))
            else:
                conn.sendall(head + apply_mask(payload, mask))


def main() -> None:
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=2048)
    while True:
        conn, _ = listener.accept()
        threading.Thread(target=echo, args=(conn,), daemon=True).start()


if __name__ == "__main__":
    main()
