"""What runs beside the handlers, on behalf of all connections of a process.

- ``monitor``: keepalive, connections whose handler is busy, the goodbye of a server that stops.
- ``flusher``: sends what the kernel did not take, when a socket becomes writable.
- ``pool``: threads for handlers that leave their server's worker.
- ``reactor``: event views: a few threads for the sockets of all idle connections.
- ``pollers``: epoll and what other systems have, for the reactor.
- ``winsock``: waiting for more sockets than Windows' ``select`` takes.
"""
